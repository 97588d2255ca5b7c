/* What claim.c, attempt.c and commit.c of one child share. Made and driven by worker.c, which owns
 * the loop. */
#ifndef PENSTOCK_RUN_RUNNER_H
#define PENSTOCK_RUN_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/queue/queue_worker.h"
#include "worker/run/attempt_table.h"
#include "worker/run/claim.h"
#include "worker/run/upstream_set.h"
#include "worker/upstream/upstream.h"

enum {
    RUNNER_FENCE_MS = 5000, /* this long before our leases could lapse we stop writing */
};

struct runner_counts {
    uint64_t claimed, succeeded, failed, expired, retried, handed_back, fenced;
};

struct runner {
    struct queue *queue;        /* kept */
    struct upstream_pool *pool; /* kept */
    struct upstream_set *set;   /* in use now; one reference is ours */
    int lease_ms;
    struct attempt_table table;
    struct claimer claimer;
    struct attempt *held_first;
    struct attempt *held_last;
    size_t held_bytes;
    unsigned suspects_count; /* running here; at most one */
    unsigned returns_count;  /* jobs on their way back that never had an attempt */
    bool is_draining;        /* claims no more */
    struct runner_counts counts;
    int64_t failures_logged_mono_ms; /* start of the second that is counted */
    unsigned failures_logged;        /* in it */
    uint64_t failures_unlogged;      /* since the last line */
};

struct runner_options {
    struct queue *queue;
    struct upstream_pool *pool;
    struct upstream_set *set; /* taken */
    unsigned inflight_max;
    int lease_ms;
    int tickets_fd; /* -1: none */
};
/* set is released when it fails. */
MUST_CHECK int runner_init(struct runner *runner, const struct runner_options *options,
                           struct error_text *why);
/* Nothing may be in flight: runner_is_idle. */
void runner_deinit(struct runner *runner);
/* Leases may have lapsed without our knowing: write nothing. */
bool runner_is_fenced(const struct runner *runner);
/* No attempt is in flight or waits for its commit, no claim is, and nothing may be handed to us. */
bool runner_is_idle(const struct runner *runner);
/* Claims no more. Running attempts go on. */
void runner_drain(struct runner *runner);
/* Aborts what runs and hands it back, nothing counted. */
void runner_hand_back(struct runner *runner);
/* The queue is closed: forgets what was held for it. */
void runner_abandon(struct runner *runner);
/* Hands a claimed job back that has no attempt; borrowed for the call. */
void runner_return_job(struct runner *runner, const struct job *job);
/* Recorded as cancelled: aborts the call, writes nothing. */
void runner_on_cancel(struct runner *runner, const struct job_id *id, unsigned claim);
/* The lease is gone: aborts the call, writes nothing. */
void runner_on_lost(struct runner *runner, const struct job_id *id, unsigned claim);
/* Whether one more line about a single job may be written in this second. */
bool runner_may_log(struct runner *runner);
/* One line for a failed or expired job, where runner_may_log allows it. */
void runner_log_failure(struct runner *runner, const struct job *job);
/* A reload: new calls use set (taken). */
void runner_use_set(struct runner *runner, struct upstream_set *set);
/* Some ten times a second: held commits, claims that had to wait. */
void runner_tick(struct runner *runner);
/* At the end of each loop turn: claims for the room that was freed in it. */
void runner_turn(struct runner *runner);

#endif
