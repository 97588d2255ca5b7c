/* How a child leaves: drain, hand back, close one thing after the other, and go in time whatever
 * hangs. */
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/process.h"
#include "common/queue/queue_fleet.h"
#include "worker/worker_state.h"

/* After the drain time what is still undone is left; as long again, and we just go. */
enum { LEAVE_MS = 2000 };

static void close_handles(struct worker *worker)
{
    worker->phase = WORKER_CLOSED;
    uv_close((uv_handle_t *)&worker->prepare, NULL);
    uv_close((uv_handle_t *)&worker->check, NULL);
    uv_close((uv_handle_t *)&worker->tick, NULL);
    uv_close((uv_handle_t *)&worker->terminate, NULL);
    child_link_close(&worker->link);
}

static void on_queue_closed(void *arg)
{
    struct worker *worker = arg;

    worker->queue = NULL;
    runner_abandon(&worker->runner);
    runner_deinit(&worker->runner);
    recovery_deinit(&worker->recovery);
    close_handles(worker);
}

static void on_pool_closed(void *arg)
{
    struct worker *worker = arg;

    worker->pool = NULL;
    queue_close(worker->queue, on_queue_closed, worker);
}

/* The pool goes once nobody asks it for probes any more, the queue after the pool: what the pool
 * aborts is still handed back through it. */
static void close_pool(struct worker *worker)
{
    if (worker->is_unpublished && worker->watches_count == 0)
        upstream_pool_close(worker->pool, on_pool_closed, worker);
}

void worker_note_watch_stopped(struct worker *worker)
{
    CHECK(worker->watches_count > 0);
    worker->watches_count--;
    close_pool(worker);
}

static void on_unpublished(int status, void *arg)
{
    struct worker *worker = arg;

    (void)status; /* else it vanishes by itself */
    worker_stop_watch(worker);
    worker->is_unpublished = true;
    close_pool(worker);
}

static void begin_close(struct worker *worker)
{
    CHECK(worker->phase == WORKER_DRAINING);
    worker->phase = WORKER_CLOSING;
    queue_unpublish(worker->queue, "worker", on_unpublished, worker);
}

void worker_begin_drain(struct worker *worker, int timeout_ms)
{
    int64_t end_mono_ms = clock_mono_ms() + timeout_ms;

    if (worker->phase == WORKER_RUNNING) {
        worker->phase = WORKER_DRAINING;
        worker->drain_end_mono_ms = end_mono_ms;
        runner_drain(&worker->runner);
        log_event(LOG_INFO, "draining", LOG_I("in_flight", worker->runner.table.count),
                  LOG_I("timeout_ms", timeout_ms));
    } else if (end_mono_ms < worker->drain_end_mono_ms) {
        worker->drain_end_mono_ms = end_mono_ms;
    }
}

void worker_drain_step(struct worker *worker, int64_t now_mono_ms)
{
    if (worker->phase == WORKER_DRAINING && runner_is_idle(&worker->runner)) {
        begin_close(worker);
        return;
    }
    if (!worker->was_handed_back && now_mono_ms >= worker->drain_end_mono_ms) {
        worker->was_handed_back = true;
        runner_hand_back(&worker->runner);
    }
    if (now_mono_ms < worker->drain_end_mono_ms + LEAVE_MS)
        return;
    /* Redis is away, or does not answer: the leases lapse and the jobs run again elsewhere. */
    log_event(LOG_WARN, "left_undone", LOG_I("in_flight", worker->runner.table.count));
    worker->exit_code = PROCESS_EXIT_FAILED;
    if (worker->phase == WORKER_DRAINING) {
        worker->drain_end_mono_ms = now_mono_ms;
        begin_close(worker);
        return;
    }
    (void)log_flush();
    _exit(PROCESS_EXIT_FAILED);
}
