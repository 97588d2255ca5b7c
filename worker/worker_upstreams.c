/* The upstreams of a child: the configuration that counts, their health, who is paused. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/queue/queue_fleet.h"
#include "worker/worker_config.h"
#include "worker/worker_state.h"

enum { PAUSES_MS = 10 * 1000 }; /* read again so often, should an announcement get lost */

static void on_pauses(int status, const struct slice *names, unsigned count, void *arg)
{
    struct worker *worker = arg;

    if (status < 0 || worker->phase >= WORKER_CLOSING)
        return; /* asked again later */
    router_set_paused(worker->runner.set->router, names, count);
    claim_wake(&worker->runner);
}

void worker_read_pauses(struct worker *worker)
{
    worker->pauses_mono_ms = clock_mono_ms() + PAUSES_MS;
    queue_paused_upstreams(worker->queue, on_pauses, worker);
}

static void on_upstream_change(unsigned upstream, void *arg)
{
    struct worker *worker = arg;

    (void)upstream;
    if (worker->phase < WORKER_CLOSING)
        claim_learn_routes(&worker->runner);
}

static void on_watch_stopped(void *arg)
{
    worker_note_watch_stopped(arg);
}

int worker_start_watch(struct worker *worker)
{
    struct upstream_watch_options options = {.loop = &worker->loop,
                                             .pool = worker->pool,
                                             .set = worker->runner.set,
                                             .on_change = on_upstream_change,
                                             .on_stopped = on_watch_stopped,
                                             .arg = worker};
    int status = upstream_watch_start(&options, &worker->watch);
    if (status == 0)
        worker->watches_count++;
    return status;
}

void worker_stop_watch(struct worker *worker)
{
    if (worker->watch)
        upstream_watch_stop(worker->watch);
    worker->watch = NULL;
}

void worker_use_settings(struct worker *worker, struct settings *settings)
{
    const struct worker_options *options = worker->options;
    struct upstream_set *set;

    const char *fixed = worker_config_fixed_change(worker->runner.set->settings, settings);
    if (fixed)
        log_event(LOG_WARN, "needs_restart", LOG_S("key", fixed));
    int drain_timeout_ms = settings->worker.drain_timeout_ms;
    enum log_level level = worker_config_log_level(settings);
    if (upstream_set_create(settings, options->child, options->children, worker->runner.set, &set) <
        0) {
        log_event(LOG_ERROR, "reload_failed", LOG_S("reason", "out of memory"));
        return;
    }
    worker->drain_timeout_ms = drain_timeout_ms;
    log_set_level(level);
    worker_stop_watch(worker);
    runner_use_set(&worker->runner, set);
    if (worker_start_watch(worker) < 0)
        log_event(LOG_ERROR, "reload_failed", LOG_S("reason", "out of memory"));
    worker_read_pauses(worker);
    log_event(LOG_INFO, "reloaded", LOG_I("upstreams", set->count));
}
