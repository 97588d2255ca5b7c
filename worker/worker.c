#include "worker/worker.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/process.h"
#include "common/queue/queue_fleet.h"
#include "worker/report.h"
#include "worker/worker_config.h"
#include "worker/worker_state.h"

enum {
    TICK_MS = 100,
    SECOND_MS = 1000,
    PUBLISH_TTL_MS = 5000,
    STUCK_S = 15, /* a loop that does not tick for so long ends itself, should nobody else do it */
    CALLS_SPARE = 64,        /* calls besides those of jobs: probes, model lists */
    DESCRIPTORS_SPARE = 256, /* besides one for each call: Redis, libraries, idle connections */
};

/* ---- from the supervisor ---- */

static void on_terminate(uv_signal_t *terminate, int signal_number)
{
    struct worker *worker = terminate->data;

    (void)signal_number;
    worker_begin_drain(worker, worker->phase == WORKER_RUNNING ? worker->drain_timeout_ms : 0);
}

static void on_parent_gone(void *arg)
{
    struct worker *worker = arg;

    log_event(LOG_WARN, "supervisor_gone", LOG_I("in_flight", worker->runner.table.count));
    worker_begin_drain(worker, 0);
}

static void on_orphans(uint32_t number, int fd, void *arg)
{
    struct worker *worker = arg;

    if (worker->phase != WORKER_RUNNING || number == 0) { /* our end gives them to another */
        (void)close(fd);
        return;
    }
    claim_leave_suspects(&worker->runner);
    recovery_add(&worker->recovery, number, fd);
}

static void on_recovered(uint32_t number, void *arg)
{
    struct worker *worker = arg;

    child_link_say(&worker->link, CHILD_SAYS_RECOVERED, number);
}

static void on_config(int fd, void *arg)
{
    struct worker *worker = arg;
    struct settings *settings;
    struct error_text why = {""};

    if (worker->phase == WORKER_RUNNING) {
        if (worker_config_load_fd(fd, &settings, &why) == 0)
            worker_use_settings(worker, settings);
        else
            log_event(LOG_ERROR, "reload_failed", LOG_S("reason", why.text));
    }
    (void)close(fd);
}

/* ---- from the queue ---- */

static void on_wake(void *arg)
{
    struct worker *worker = arg;
    claim_wake(&worker->runner);
}

static void on_handed(const struct queue_claim_result *result, void *arg)
{
    struct worker *worker = arg;
    if (worker->phase < WORKER_CLOSING)
        claim_take_handed(&worker->runner, result);
}

static void on_cancel(const struct job_id *id, unsigned claim, void *arg)
{
    struct worker *worker = arg;
    runner_on_cancel(&worker->runner, id, claim);
}

static void on_control(void *arg)
{
    struct worker *worker = arg;
    if (worker->phase < WORKER_CLOSING)
        worker_read_pauses(worker);
}

static void on_lost(const struct job_id *id, unsigned claim, void *arg)
{
    struct worker *worker = arg;
    runner_on_lost(&worker->runner, id, claim);
}

static void on_health(void *arg)
{
    struct worker *worker = arg;
    struct queue_health health;

    if (worker->phase >= WORKER_CLOSING)
        return;
    queue_health(worker->queue, &health);
    if (health.is_ready == worker->was_ready)
        return;
    worker->was_ready = health.is_ready;
    if (!health.is_ready) {
        log_event(LOG_WARN, "queue_away", LOG_S("reason", health.reason),
                  LOG_S("detail", health.detail));
        return;
    }
    log_event(LOG_INFO, "queue_ready", LOG_S("store", health.store_id),
              LOG_S("redis", health.redis_version));
    worker_read_pauses(worker);
    /* Of a child that died a moment ago: its tickets came before Redis did. */
    recovery_tick(&worker->recovery);
    claim_wake(&worker->runner);
}

/* ---- time ---- */

static void on_published(int status, void *arg)
{
    struct worker *worker = arg;

    (void)status; /* the next second brings the next one */
    worker->is_publishing = false;
}

static void publish(struct worker *worker, int64_t now_mono_ms)
{
    struct buf document = {.size_max = REPORT_SIZE_MAX};
    struct report report = {.id = queue_self_id(worker->queue),
                            .host = worker->host,
                            .pid = (int)getpid(),
                            .child = worker->options->child,
                            .started_at_ms = worker->started_at_ms,
                            .loop_lag_ms = worker->lag_ms,
                            .rss_bytes = report_rss_bytes(),
                            .now_mono_ms = now_mono_ms,
                            .runner = &worker->runner};

    worker->lag_ms = 0;
    if (!worker->is_publishing && report_write(&report, &document) == 0) {
        worker->is_publishing = true;
        queue_publish(worker->queue, "worker",
                      (struct slice){.bytes = document.data, .size = document.size}, PUBLISH_TTL_MS,
                      on_published, worker);
    }
    buf_deinit(&document);
}

static void on_second(struct worker *worker, int64_t now_mono_ms)
{
    uint64_t dropped = log_dropped_count();

    (void)alarm(STUCK_S);
    child_link_say(&worker->link, CHILD_SAYS_ALIVE, 0);
    metrics_add(METRIC_LOG_DROPPED, dropped - worker->log_dropped);
    worker->log_dropped = dropped;
    if (worker->phase >= WORKER_CLOSING)
        return;
    recovery_tick(&worker->recovery);
    publish(worker, now_mono_ms);
    if (now_mono_ms >= worker->pauses_mono_ms)
        worker_read_pauses(worker);
}

static void on_tick(uv_timer_t *tick)
{
    struct worker *worker = tick->data;
    int64_t now_mono_ms = clock_mono_ms();

    FAILPOINT("worker-loop");
    if (now_mono_ms >= worker->second_mono_ms) {
        worker->second_mono_ms = now_mono_ms + SECOND_MS;
        on_second(worker, now_mono_ms);
    }
    if (worker->phase < WORKER_CLOSING)
        runner_tick(&worker->runner);
    if (worker->phase == WORKER_DRAINING || worker->phase == WORKER_CLOSING)
        worker_drain_step(worker, now_mono_ms);
}

/* After the turn's input: what it freed is claimed anew, together with the commits it brought. */
static void on_check(uv_check_t *check)
{
    struct worker *worker = check->data;

    if (worker->phase == WORKER_RUNNING)
        runner_turn(&worker->runner);
}

/* Before the loop may sleep. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct worker *worker = prepare->data;
    uint64_t now_ns = uv_hrtime();
    uint64_t idle_ns = uv_metrics_idle_time(&worker->loop);

    if (worker->phase == WORKER_RUNNING)
        runner_turn(&worker->runner);
    double busy_ms = (double)(now_ns - worker->turn_ns - (idle_ns - worker->idle_ns)) / 1e6;
    worker->turn_ns = now_ns;
    worker->idle_ns = idle_ns;
    if (busy_ms > worker->lag_ms)
        worker->lag_ms = busy_ms;
    metrics_observe_ms(METRIC_LOOP_LAG_SECONDS, busy_ms);
    (void)log_flush();
}

/* ---- the beginning ---- */

static int open_handles(struct worker *worker)
{
    const struct child_link_events events = {.on_orphans = on_orphans,
                                             .on_config = on_config,
                                             .on_parent_gone = on_parent_gone,
                                             .arg = worker};

    if (uv_prepare_init(&worker->loop, &worker->prepare) != 0 ||
        uv_check_init(&worker->loop, &worker->check) != 0 ||
        uv_timer_init(&worker->loop, &worker->tick) != 0 ||
        uv_signal_init(&worker->loop, &worker->terminate) != 0)
        return ERR_IO;
    worker->prepare.data = worker;
    worker->check.data = worker;
    worker->tick.data = worker;
    worker->terminate.data = worker;
    worker->turn_ns = uv_hrtime();
    if (uv_prepare_start(&worker->prepare, on_prepare) != 0 ||
        uv_check_start(&worker->check, on_check) != 0 ||
        uv_timer_start(&worker->tick, on_tick, 0, TICK_MS) != 0 ||
        uv_signal_start(&worker->terminate, on_terminate, SIGTERM) != 0)
        return ERR_IO;
    return child_link_open(&worker->link, &worker->loop, worker->options->status_fd, &events);
}

static int open_queue(struct worker *worker, const struct settings *settings,
                      struct error_text *why)
{
    const struct queue_worker_events events = {.on_wake = on_wake,
                                               .on_handed = on_handed,
                                               .on_cancel = on_cancel,
                                               .on_control = on_control,
                                               .arg = worker};
    struct queue_options options = {.loop = &worker->loop,
                                    .url = settings->redis.url,
                                    .durability = settings->redis.durability,
                                    .shards = (unsigned)settings->redis.shards,
                                    .routes_max = settings->queue.routes_max,
                                    .jobs_max = settings->queue.jobs_max,
                                    .bytes_max = settings->queue.bytes_max,
                                    .lease_ms = settings->worker.lease_ms,
                                    .name = "worker",
                                    .must_subscribe = true};

    int status = queue_create(&options, &worker->queue, why);
    if (status < 0)
        return status;
    queue_on_health(worker->queue, on_health, worker);
    queue_on_worker_events(worker->queue, &events);
    queue_on_lost(worker->queue, on_lost, worker);
    queue_sweep_start(worker->queue);
    return 0;
}

/* Each call needs a descriptor of its own; a limit that is too low would show as errors of
 * upstreams. */
static unsigned bounded_inflight(const struct settings *settings)
{
    unsigned inflight_max = (unsigned)settings->worker.inflight_max;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= inflight_max + DESCRIPTORS_SPARE)
        return inflight_max;
    unsigned fitting = limit.rlim_cur > 2 * DESCRIPTORS_SPARE
                           ? (unsigned)limit.rlim_cur - DESCRIPTORS_SPARE
                           : DESCRIPTORS_SPARE;
    if (fitting > inflight_max)
        fitting = inflight_max;
    log_event(LOG_WARN, "descriptors_short", LOG_I("limit", limit.rlim_cur),
              LOG_I("inflight_max", fitting));
    return fitting;
}

static int open_runner(struct worker *worker, struct settings *settings, struct error_text *why)
{
    const struct worker_options *options = worker->options;
    struct runner_options runner = {.queue = worker->queue,
                                    .inflight_max = bounded_inflight(settings),
                                    .lease_ms = settings->worker.lease_ms,
                                    .tickets_fd = options->tickets_fd};
    struct upstream_pool_options pool = {.loop = &worker->loop,
                                         .calls_max = runner.inflight_max + CALLS_SPARE,
                                         .response_bytes_max =
                                             (size_t)settings->worker.response_bytes_max};

    int status = upstream_pool_create(&pool, &worker->pool, why);
    if (status < 0) {
        settings_destroy(settings);
        return status;
    }
    runner.pool = worker->pool;
    status = upstream_set_create(settings, options->child, options->children, NULL, &runner.set);
    if (status < 0)
        return error_set(why, status, "%s", error_text_of(status));
    status = runner_init(&worker->runner, &runner, why);
    if (status < 0)
        return status;
    recovery_init(&worker->recovery, worker->queue, on_recovered, worker);
    status = worker_start_watch(worker);
    return status < 0 ? error_set(why, status, "%s", error_text_of(status)) : 0;
}

/* settings is taken. */
static int open_all(struct worker *worker, struct settings *settings, struct error_text *why)
{
    if (uv_loop_init(&worker->loop) != 0 ||
        uv_loop_configure(&worker->loop, UV_METRICS_IDLE_TIME) != 0) {
        settings_destroy(settings);
        return error_set(why, ERR_IO, "the event loop cannot start");
    }
    worker->drain_timeout_ms = settings->worker.drain_timeout_ms;
    int status = open_queue(worker, settings, why);
    if (status < 0) {
        settings_destroy(settings);
        return status;
    }
    status = open_runner(worker, settings, why);
    if (status < 0)
        return status;
    status = open_handles(worker);
    return status < 0 ? error_set(why, status, "the event loop cannot start") : 0;
}

int worker_run(const struct worker_options *options)
{
    struct worker worker = {.options = options};
    struct settings *settings;
    struct error_text why = {""};
    char name[32];

    (void)snprintf(name, sizeof name, "worker/%u", options->child);
    log_init(name, LOG_INFO, LOG_TEXT);
    int status = worker_config_load_fd(options->config_fd, &settings, &why);
    if (status < 0) {
        log_event(LOG_ERROR, "start_failed", LOG_S("reason", why.text));
        (void)log_flush();
        return PROCESS_EXIT_SETUP;
    }
    (void)close(options->config_fd);
    log_init(name, worker_config_log_level(settings), worker_config_log_format(settings));
    worker.started_at_ms = clock_wall_ms();
    if (gethostname(worker.host, sizeof worker.host) != 0)
        (void)snprintf(worker.host, sizeof worker.host, "unknown");
    worker.host[WORKER_HOST_SIZE - 1] = '\0';

    status = open_all(&worker, settings, &why);
    if (status < 0) { /* nothing was claimed yet: the process ends with all it has */
        log_event(LOG_ERROR, "start_failed", LOG_S("reason", why.text));
        (void)log_flush();
        _exit(status == ERR_INVALID ? PROCESS_EXIT_SETUP : PROCESS_EXIT_FAILED);
    }
    log_event(LOG_INFO, "started", LOG_S("id", queue_self_id(worker.queue)),
              LOG_I("inflight_max", worker.runner.table.count_max));
    if (process_child_seal(&why) < 0)
        log_event(LOG_WARN, "not_sealed", LOG_S("reason", why.text));
    process_child_ready();
    (void)uv_run(&worker.loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&worker.loop) != 0)
        log_event(LOG_ERROR, "handles_left", LOG_I("child", options->child));
    (void)close(options->tickets_fd);
    log_event(LOG_INFO, "stopped", LOG_I("exit_code", worker.exit_code));
    (void)log_flush();
    return worker.exit_code;
}
