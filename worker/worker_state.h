/* The state of a child and what its files share: worker.c (start, turns, events),
 * worker_upstreams.c (configuration, health, pauses), worker_leave.c (drain and end). Nobody else
 * includes this. */
#ifndef PENSTOCK_WORKER_STATE_H
#define PENSTOCK_WORKER_STATE_H

#include <uv.h>

#include "common/queue/queue_worker.h"
#include "worker/child_link.h"
#include "worker/recovery.h"
#include "worker/run/runner.h"
#include "worker/upstream_watch.h"
#include "worker/worker.h"

enum { WORKER_HOST_SIZE = 256 };

enum worker_phase { WORKER_RUNNING, WORKER_DRAINING, WORKER_CLOSING, WORKER_CLOSED };

struct worker {
    const struct worker_options *options;
    enum worker_phase phase;
    int exit_code;
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_timer_t tick;
    uv_signal_t terminate;
    struct child_link link;
    struct queue *queue;
    struct upstream_pool *pool;
    struct upstream_watch *watch;
    unsigned watches_count; /* with those that are still stopping */
    struct runner runner;
    struct recovery recovery;
    char host[WORKER_HOST_SIZE];
    int64_t started_at_ms;
    int drain_timeout_ms;
    bool was_handed_back;      /* while draining: the time is up and calls were aborted */
    int64_t drain_end_mono_ms; /* then what still runs is handed back; while draining */
    int64_t second_mono_ms;    /* next once-a-second work */
    int64_t pauses_mono_ms;    /* next reading of the pauses */
    bool is_publishing;
    bool is_unpublished; /* while closing */
    bool was_ready;      /* what was logged of the queue's health */
    uint64_t turn_ns;    /* end of the last turn, and how long the loop had been idle by then */
    uint64_t idle_ns;
    double lag_ms; /* longest turn since the last report */
    uint64_t log_dropped;
};

/* ---- worker_upstreams.c ---- */

/* Watches the upstreams of runner.set. ERR_NOMEM. */
MUST_CHECK int worker_start_watch(struct worker *worker);
void worker_stop_watch(struct worker *worker);
/* Asks which upstreams are paused; the answer goes to the router. */
void worker_read_pauses(struct worker *worker);
/* A reload; settings is taken. */
void worker_use_settings(struct worker *worker, struct settings *settings);

/* ---- worker_leave.c ---- */

/* Claims no more; what still runs after timeout_ms is handed back. A second call can only shorten
 * that. */
void worker_begin_drain(struct worker *worker, int timeout_ms);
/* While draining and closing, some ten times a second. */
void worker_drain_step(struct worker *worker, int64_t now_mono_ms);
/* One of watches_count has stopped. */
void worker_note_watch_stopped(struct worker *worker);

#endif
