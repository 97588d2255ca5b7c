#include "broker/broker.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "broker/api/api.h"
#include "broker/broker_metrics.h"
#include "broker/broker_parent.h"
#include "broker/http/http_server.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/process.h"
#include "common/base/version.h"
#include "common/queue/queue.h"

enum {
    TICK_MS = 100,
    PUBLISH_TICKS = 10,
    HELD_GRACE_MS = 5 * 1000, /* after SIGTERM, until what is still held is answered with 503 */
    STOP_MAX_MS = 15 * 1000,  /* nothing may keep us longer */
    SPARE_FDS = 128,          /* for the loop, Redis, metrics and files */
    PER_ADDRESS_MAX = 0,      /* no limit: behind a proxy all clients share one address */
    BODIES_MIN = 8,           /* largest bodies that always fit the budget together */
    SIGNALS = 3,
};
static const int64_t bodies_bytes_max = 256LL * 1024 * 1024;
static const int caught[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

struct broker {
    const struct broker_arguments *arguments;
    const struct settings *settings;
    uv_loop_t loop;
    uv_timer_t tick;
    uv_prepare_t prepare;
    uv_signal_t signals[SIGNALS];
    struct queue *queue;
    struct api *api;
    struct http_server *server; /* NULL once stopped */
    struct broker_metrics *metrics;
    int64_t tick_due_ns;
    unsigned ticks_count;
    int life_fd;          /* our parent listens here; -1: it does not */
    unsigned stops_count; /* of SIGTERM and SIGINT */
    int64_t stop_mono_ms; /* when the first came */
    bool is_shut_down;    /* held requests were told */
};

/* ---- stopping: server, then metrics, then queue, then our own handles ---- */

static void close_handles(struct broker *broker)
{
    uv_close((uv_handle_t *)&broker->tick, NULL);
    uv_close((uv_handle_t *)&broker->prepare, NULL);
    for (unsigned i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&broker->signals[i], NULL);
}

static void on_queue_closed(void *arg)
{
    struct broker *broker = arg;

    broker->queue = NULL;
    close_handles(broker);
}

static void on_metrics_stopped(void *arg)
{
    struct broker *broker = arg;

    queue_close(broker->queue, on_queue_closed, broker);
}

static void on_server_stopped(void *arg)
{
    struct broker *broker = arg;

    broker->server = NULL;
    broker_metrics_forget_server(broker->metrics);
    broker_metrics_stop(broker->metrics, on_metrics_stopped, broker);
}

static void shut_down_api(struct broker *broker)
{
    if (broker->is_shut_down)
        return;
    broker->is_shut_down = true;
    api_shutdown(broker->api);
}

static void stop(struct broker *broker)
{
    broker->stops_count++;
    log_event(LOG_INFO, "stopping",
              LOG_I("connections", broker->server ? http_server_connections(broker->server) : 0),
              LOG_S("how", broker->stops_count == 1 ? "drain" : "now"));
    if (!broker->server)
        return;
    if (broker->stops_count == 1) {
        broker->stop_mono_ms = clock_mono_ms();
        http_server_stop(broker->server, BROKER_GRACE_MS, on_server_stopped, broker);
    } else {
        shut_down_api(broker);
        http_server_stop(broker->server, 0, on_server_stopped, broker);
    }
}

static void check_stop(struct broker *broker)
{
    int64_t elapsed_ms = clock_mono_ms() - broker->stop_mono_ms;

    if (broker->server && elapsed_ms >= HELD_GRACE_MS)
        shut_down_api(broker);
    if (elapsed_ms < STOP_MAX_MS)
        return;
    log_event(LOG_ERROR, "stop_timed_out", LOG_I("after_ms", elapsed_ms));
    (void)log_flush();
    _exit(PROCESS_EXIT_FAILED);
}

/* ---- events -------------------------------------------------------------- */

static void reload(struct broker *broker)
{
    struct settings *settings = NULL;
    struct error_text why = {0};

    if (settings_load(broker->arguments->config_path, &settings, &why) == 0) {
        broker_set_log_level(settings);
        settings_destroy(settings);
    } else {
        log_event(LOG_ERROR, "reload_refused", LOG_S("error", why.text));
    }
    if (api_reload(broker->api, &why) == 0)
        log_event(LOG_INFO, "reloaded", LOG_S("keys_file", broker->settings->auth.keys_file));
    else
        log_event(LOG_ERROR, "keys_refused", LOG_S("error", why.text));
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct broker *broker = handle->data;

    if (number != SIGHUP)
        stop(broker);
    else if (broker->stops_count == 0)
        reload(broker);
}

/* Where the loop stands still, these stop, and the parent replaces us. */
static void say_alive(const struct broker *broker)
{
    ssize_t count = broker->life_fd >= 0 ? write(broker->life_fd, ".", 1) : 0;
    (void)count; /* a full pipe says enough; a parent that is gone needs no telling */
}

static void on_tick(uv_timer_t *handle)
{
    struct broker *broker = handle->data;
    int64_t now_ns = clock_mono_ns();
    double late_ms = (double)(now_ns - broker->tick_due_ns) / 1e6;

    broker->tick_due_ns = now_ns + TICK_MS * 1000000LL;
    broker_metrics_tick(broker->metrics, late_ms > 0 ? late_ms : 0);
    api_tick(broker->api, now_ns / 1000000);
    if (broker->stops_count > 0)
        check_stop(broker);
    if (++broker->ticks_count % PUBLISH_TICKS != 0)
        return;
    say_alive(broker);
    if (broker->stops_count == 0)
        broker_metrics_publish(broker->metrics);
}

static void on_prepare(uv_prepare_t *handle)
{
    (void)handle;
    (void)log_flush();
}

/* ---- starting ------------------------------------------------------------ */

static void start_handles(struct broker *broker)
{
    CHECK(uv_timer_init(&broker->loop, &broker->tick) == 0);
    CHECK(uv_prepare_init(&broker->loop, &broker->prepare) == 0);
    broker->tick.data = broker;
    broker->prepare.data = broker;
    for (unsigned i = 0; i < SIGNALS; i++) {
        CHECK(uv_signal_init(&broker->loop, &broker->signals[i]) == 0);
        broker->signals[i].data = broker;
        CHECK(uv_signal_start(&broker->signals[i], on_signal, caught[i]) == 0);
    }
    broker->tick_due_ns = clock_mono_ns() + TICK_MS * 1000000LL;
    CHECK(uv_timer_start(&broker->tick, on_tick, TICK_MS, TICK_MS) == 0);
    CHECK(uv_prepare_start(&broker->prepare, on_prepare) == 0);
}

static int create_queue(struct broker *broker, struct error_text *why)
{
    const struct settings *settings = broker->settings;
    const struct queue_options options = {.loop = &broker->loop,
                                          .url = settings->redis.url,
                                          .durability = settings->redis.durability,
                                          .shards = (unsigned)settings->redis.shards,
                                          .routes_max = settings->queue.routes_max,
                                          .jobs_max = settings->queue.jobs_max,
                                          .bytes_max = settings->queue.bytes_max,
                                          .lease_ms = settings->worker.lease_ms,
                                          .name = "broker",
                                          .must_subscribe = true};
    return queue_create(&options, &broker->queue, why);
}

static int create_api(struct broker *broker, struct error_text *why)
{
    const struct api_options options = {
        .settings = broker->settings, .queue = broker->queue, .version = PENSTOCK_VERSION};
    return api_create(&options, &broker->api, why);
}

/* As many as configured, or as descriptors allow: better to let clients wait than to run out. */
static unsigned count_connections(const struct settings *settings)
{
    struct rlimit limit;
    unsigned wanted = (unsigned)settings->broker.connections_max;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= (rlim_t)wanted + SPARE_FDS)
        return wanted;
    unsigned allowed =
        limit.rlim_cur > 2 * SPARE_FDS ? (unsigned)limit.rlim_cur - SPARE_FDS : SPARE_FDS;
    log_event(LOG_INFO, "connections_lowered", LOG_I("configured", wanted),
              LOG_I("allowed", allowed), LOG_I("descriptors", limit.rlim_cur));
    return allowed;
}

static int create_server(struct broker *broker, struct error_text *why)
{
    const struct settings *settings = broker->settings;
    int64_t budget = settings->broker.body_bytes_max * BODIES_MIN;
    int listen_fd = process_child_fd("LISTEN");

    if (listen_fd < 0)
        return error_set(why, ERR_INVALID, "--child is for the parent to say");
    const struct http_server_options options = {
        .loop = &broker->loop,
        .listen_fd = listen_fd,
        .connections_max = count_connections(settings),
        .per_address_max = PER_ADDRESS_MAX,
        .body_bytes_budget = budget > bodies_bytes_max ? budget : bodies_bytes_max,
        .is_counted = true,
        .handler = *api_handler(broker->api)};
    return http_server_create(&options, &broker->server, why);
}

static int create_metrics(struct broker *broker, struct error_text *why)
{
    const struct broker_metrics_options options = {.loop = &broker->loop,
                                                   .queue = broker->queue,
                                                   .server = broker->server,
                                                   .listen_fd = process_child_fd("METRICS"),
                                                   .child = broker->arguments->child};
    return broker_metrics_create(&options, &broker->metrics, why);
}

int broker_run(const struct broker_arguments *arguments, const struct settings *settings)
{
    struct broker broker = {
        .arguments = arguments, .settings = settings, .life_fd = process_child_fd("LIFE")};
    struct error_text why = {0};
    char name[32];

    (void)snprintf(name, sizeof name, "broker.%d", arguments->child);
    broker_start_log(settings, name);
    process_child_name("penstock-broker");
    CHECK(uv_loop_init(&broker.loop) == 0);

    int status = create_queue(&broker, &why);
    if (status == 0)
        status = create_api(&broker, &why);
    if (status == 0)
        status = create_server(&broker, &why);
    if (status == 0)
        status = create_metrics(&broker, &why);
    if (status != 0) { /* nothing was promised to anybody yet: the process ends with all it has */
        log_event(LOG_ERROR, "start_failed", LOG_S("error", why.text));
        (void)log_flush();
        _exit(status == ERR_INVALID ? PROCESS_EXIT_SETUP : PROCESS_EXIT_FAILED);
    }
    start_handles(&broker);
    if (process_child_seal(&why) < 0)
        log_event(LOG_WARN, "not_sealed", LOG_S("reason", why.text));
    process_child_ready();
    (void)uv_run(&broker.loop, UV_RUN_DEFAULT);

    api_destroy(broker.api);
    broker_metrics_destroy(broker.metrics);
    if (uv_loop_close(&broker.loop) != 0)
        log_event(LOG_WARN, "loop_not_empty", LOG_I("child", arguments->child));
    (void)log_flush();
    return PROCESS_EXIT_DONE;
}
