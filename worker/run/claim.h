/* When and how much to claim. One claim call is in flight at a time; the next one goes out at the
 * end of a loop turn in which something made it worth while: jobs wait and there is room for them.
 * Room is what the upstreams of a route can take now (router_room), bounded by the free attempts of
 * this child. A claim that finds nothing stays with the queue: what comes for it is handed to us by
 * the submit that brings it, for as long as no other claim of ours follows.
 *
 * Suspects, jobs whose process died, run alone where that can be had: a child that runs nothing
 * asks for one first when it starts (in the place of one that died) and then once a second. */
#ifndef PENSTOCK_RUN_CLAIM_H
#define PENSTOCK_RUN_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/run/route_list.h"

struct queue_claim_result;
struct runner;

enum {
    CLAIM_SWEEP_MS = 1000,   /* jobs whose wake-up was lost are found after so long */
    CLAIM_PAUSE_MS = 100,    /* after a claim that failed, or jobs that could not be started */
    CLAIM_CROWDED_MS = 5000, /* never without work for so long: a suspect may run in company */
    CLAIM_ALONE_MS = 10000,  /* a suspect that runs for longer gets company */
};

struct claimer {
    struct route_list routes;
    bool is_asking;      /* a claim is in flight */
    bool is_withdrawing; /* we are leaving, and something may still be handed to us */
    bool may_wait;       /* jobs may be waiting in the queue */
    bool wants_hints;    /* the next claim is worth while even without room for anything known */
    bool has_change;     /* room or knowledge changed since the last look */
    bool asks_alone;     /* what is in flight may bring a suspect, for nothing runs here */
    bool has_looked;     /* the claim before brought nothing but the names of suspects' routes */
    bool wants_suspect;  /* the next claim of a child that runs nothing may bring a suspect */
    int64_t crowded_mono_ms;     /* from then on a suspect may run in company */
    int64_t alone_until_mono_ms; /* a suspect runs alone: nothing else is claimed before */
    int64_t paused_until_mono_ms;
    int64_t sweep_mono_ms; /* next sweep */
};

void claim_init(struct runner *runner);
void claim_deinit(struct runner *runner);
/* The routes that can be named have changed: a new configuration, or models an upstream listed. */
void claim_learn_routes(struct runner *runner);
/* Jobs may wait: a wake-up, a sweep, a change of the configuration. */
void claim_wake(struct runner *runner);
/* A sibling died: suspects are for the child that comes in its place. */
void claim_leave_suspects(struct runner *runner);
/* A suspect has ended and we live: the next one may come. */
void claim_note_suspect_end(struct runner *runner);
/* Room may have become free. */
void claim_note_room(struct runner *runner);
/* Claim nothing for CLAIM_PAUSE_MS: what was claimed could not be started. */
void claim_pause(struct runner *runner);
/* What an earlier claim has brought since: queue_worker_events. */
void claim_take_handed(struct runner *runner, const struct queue_claim_result *result);
/* Nothing more shall be handed to us; after the claim in flight. */
void claim_withdraw(struct runner *runner);
/* Some ten times a second. */
void claim_tick(struct runner *runner);
/* At the end of each loop turn. */
void claim_turn(struct runner *runner);

#endif
