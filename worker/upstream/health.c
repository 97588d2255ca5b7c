#include "worker/upstream/health.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "worker/upstream/route.h"
#include "worker/upstream/upstream.h"

enum { URL_BYTES_MAX = 4096, FAILURES_WHEN_UP = 2 };

struct probe {
    struct health *health;
    unsigned upstream;
    uv_timer_t timer;
    struct upstream_call *health_call; /* while it runs */
    struct upstream_call *models_call;
    int64_t health_due_ms; /* monotonic */
    int64_t models_due_ms; /* INT64_MAX: the settings say what it serves */
    unsigned failures;     /* in a row */
};

struct health {
    struct health_options options;
    uv_timer_t anchor; /* never runs; its closing is the last that is always there */
    unsigned open;     /* timers and calls that still know us */
    bool is_stopping;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    unsigned count;
    struct probe probes[];
};

static void probe_schedule(struct probe *probe);

static int64_t vary(int64_t ms)
{
    return ms - ms / 10 + (int64_t)(digest_random_u64() % (uint64_t)(ms / 5 + 1));
}

static void release(struct health *health)
{
    CHECK(health->open > 0);
    if (--health->open > 0)
        return;
    CHECK(health->is_stopping);
    void (*on_closed)(void *arg) = health->on_closed;
    void *arg = health->on_closed_arg;
    free(health);
    on_closed(arg);
}

static void tell(struct probe *probe)
{
    const struct health_options *options = &probe->health->options;
    if (options->on_change)
        options->on_change(probe->upstream, options->arg);
}

/* --- is it there --------------------------------------------------------- */

static void probe_found(struct probe *probe, bool is_alive, const char *detail)
{
    struct router *router = probe->health->options.router;
    enum router_health before = router_health(router, probe->upstream);
    const char *name = router_upstream(router, probe->upstream)->name;

    probe->failures = is_alive ? 0 : probe->failures + 1;
    bool is_down = !is_alive && (before != ROUTER_UP || probe->failures >= FAILURES_WHEN_UP);
    enum router_health now = is_alive ? ROUTER_UP : is_down ? ROUTER_DOWN : before;
    /* One failure of an upstream that was up: look again soon. */
    probe->health_due_ms = clock_mono_ms() + vary(is_alive ? HEALTH_MS : HEALTH_DOWN_MS);
    if (now == before)
        return;
    router_set_health(router, probe->upstream, now);
    if (now == ROUTER_DOWN)
        log_event(LOG_WARN, "upstream_down", LOG_S("upstream", name), LOG_S("reason", detail));
    else
        log_event(LOG_INFO, "upstream_up", LOG_S("upstream", name));
    tell(probe);
}

static void on_health_end(const struct upstream_answer *answer, void *arg)
{
    struct probe *probe = arg;
    struct health *health = probe->health;

    probe->health_call = NULL;
    if (!health->is_stopping) {
        bool has_answer = answer->end == UPSTREAM_ANSWERED;
        bool is_alive = has_answer && answer->http_status < 500;
        probe_found(probe, is_alive, has_answer ? "the health path answers 5xx" : answer->detail);
        probe_schedule(probe);
    }
    release(health);
}

/* --- what does it serve -------------------------------------------------- */

/* The names are borrowed from inside list_models only. */
struct model_texts {
    struct buf bytes;
    size_t ends[ROUTER_MODELS_MAX];
    unsigned count;
};

static void on_model(struct slice name, void *arg)
{
    struct model_texts *texts = arg;
    if (texts->count == ROUTER_MODELS_MAX || name.size > ROUTER_NAME_BYTES_MAX)
        return;
    if (buf_append(&texts->bytes, name.bytes, name.size) == 0)
        texts->ends[texts->count++] = texts->bytes.size;
}

/* 1: the list changed; 0: it did not; negative: it cannot be read. */
static int learn(struct probe *probe, struct slice body)
{
    const struct health_options *options = &probe->health->options;
    struct slice names[ROUTER_MODELS_MAX];
    struct model_texts texts = {.count = 0};
    size_t start = 0;

    buf_init(&texts.bytes, (size_t)ROUTER_MODELS_MAX * ROUTER_NAME_BYTES_MAX);
    int status = options->targets[probe->upstream].list_models(body, on_model, &texts);
    for (unsigned i = 0; i < texts.count; i++) {
        names[i] = (struct slice){texts.bytes.data + start, texts.ends[i] - start};
        start = texts.ends[i];
    }
    if (status >= 0)
        status = router_set_models(options->router, probe->upstream, names, texts.count);
    buf_deinit(&texts.bytes);
    return status;
}

static void on_models_end(const struct upstream_answer *answer, void *arg)
{
    struct probe *probe = arg;
    struct health *health = probe->health;

    probe->models_call = NULL;
    if (!health->is_stopping) {
        int status = ERR_PROTOCOL;
        if (answer->end == UPSTREAM_ANSWERED && answer->http_status == 200)
            status = learn(probe, answer->body);
        /* A list we have goes on to count when a later one cannot be had. */
        int64_t wait_ms = status < 0 ? HEALTH_MODELS_AGAIN_MS : HEALTH_MODELS_MS;
        probe->models_due_ms = clock_mono_ms() + vary(wait_ms);
        if (status > 0) {
            unsigned count = router_models_count(health->options.router, probe->upstream);
            log_event(
                LOG_INFO, "upstream_models",
                LOG_S("upstream", router_upstream(health->options.router, probe->upstream)->name),
                LOG_I("count", count));
            tell(probe);
        }
        probe_schedule(probe);
    }
    release(health);
}

/* --- asking -------------------------------------------------------------- */

/* The size of "http://host:port" in a base URL. */
static size_t origin_size(const char *base_url)
{
    const char *host = strstr(base_url, "://");
    if (!host)
        return strlen(base_url);
    return (size_t)(host + 3 - base_url) + strcspn(host + 3, "/?#");
}

static int ask(struct probe *probe, struct slice base, const char *path, upstream_end_fn on_end,
               struct upstream_call **out_call)
{
    struct health *health = probe->health;
    const struct settings_upstream *settings =
        router_upstream(health->options.router, probe->upstream);
    const struct health_target *target = &health->options.targets[probe->upstream];
    struct buf url;

    buf_init(&url, URL_BYTES_MAX);
    int status = buf_append(&url, base.bytes, base.size);
    if (status == 0)
        status = buf_append_text(&url, path);
    if (status == 0) {
        struct upstream_request request = {.method = "GET",
                                           .url = url.data,
                                           .headers = &target->header,
                                           .headers_count = target->header.size > 0 ? 1 : 0,
                                           .connect_timeout_ms = settings->connect_timeout_ms,
                                           .timeout_ms = HEALTH_TIMEOUT_MS,
                                           .http2 = settings->http2};
        status = upstream_call_start(health->options.pool, &request, NULL, on_end, probe, out_call);
    }
    buf_deinit(&url);
    if (status == 0)
        health->open++;
    return status;
}

static void ask_health(struct probe *probe, int64_t now_ms)
{
    const struct settings_upstream *settings =
        router_upstream(probe->health->options.router, probe->upstream);
    struct slice origin = {settings->base_url, origin_size(settings->base_url)};

    probe->health_due_ms = now_ms + vary(HEALTH_DOWN_MS);
    if (ask(probe, origin, settings->health, on_health_end, &probe->health_call) < 0)
        probe->health_call = NULL; /* no room for it now: in a second again */
}

static void ask_models(struct probe *probe, int64_t now_ms)
{
    const struct health_options *options = &probe->health->options;
    const struct settings_upstream *settings = router_upstream(options->router, probe->upstream);

    probe->models_due_ms = now_ms + vary(HEALTH_MODELS_AGAIN_MS);
    if (ask(probe, slice_of(settings->base_url), options->targets[probe->upstream].models_path,
            on_models_end, &probe->models_call) < 0)
        probe->models_call = NULL;
}

static void on_timer(uv_timer_t *timer)
{
    struct probe *probe = timer->data;
    int64_t now_ms = clock_mono_ms();

    if (now_ms >= probe->health_due_ms && !probe->health_call)
        ask_health(probe, now_ms);
    if (now_ms >= probe->models_due_ms && !probe->models_call)
        ask_models(probe, now_ms);
    probe_schedule(probe);
}

static void probe_schedule(struct probe *probe)
{
    int64_t due_ms = INT64_MAX;

    if (!probe->health_call && probe->health_due_ms < due_ms)
        due_ms = probe->health_due_ms;
    if (!probe->models_call && probe->models_due_ms < due_ms)
        due_ms = probe->models_due_ms;
    if (due_ms == INT64_MAX) {
        (void)uv_timer_stop(&probe->timer); /* the end of a call sets it again */
        return;
    }
    int64_t wait_ms = due_ms - clock_mono_ms();
    CHECK(uv_timer_start(&probe->timer, on_timer, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0) == 0);
}

int health_start(const struct health_options *options, struct health **out)
{
    unsigned count = router_count(options->router);
    struct health *health = calloc(1, sizeof *health + count * sizeof health->probes[0]);

    if (!health)
        return ERR_NOMEM;
    health->options = *options;
    health->count = count;
    CHECK(uv_timer_init(options->loop, &health->anchor) == 0);
    health->anchor.data = health;
    health->open = 1;
    for (unsigned i = 0; i < count; i++) {
        struct probe *probe = &health->probes[i];
        const struct settings_upstream *settings = router_upstream(options->router, i);
        bool has_health = settings->health && settings->health[0] == '/';
        bool has_list = settings->models_count == 0 && options->targets[i].list_models;
        probe->health = health;
        probe->upstream = i;
        probe->health_due_ms = has_health ? 0 : INT64_MAX;
        probe->models_due_ms = has_list ? 0 : INT64_MAX;
        CHECK(uv_timer_init(options->loop, &probe->timer) == 0);
        probe->timer.data = probe;
        health->open++;
        probe_schedule(probe);
    }
    *out = health;
    return 0;
}

static void on_anchor_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct probe *probe = handle->data;
    release(probe->health);
}

void health_stop(struct health *health, void (*on_closed)(void *arg), void *arg)
{
    CHECK(!health->is_stopping);
    health->is_stopping = true;
    health->on_closed = on_closed;
    health->on_closed_arg = arg;
    for (unsigned i = 0; i < health->count; i++) {
        struct probe *probe = &health->probes[i];
        if (probe->health_call)
            upstream_call_abort(probe->health_call);
        if (probe->models_call)
            upstream_call_abort(probe->models_call);
        uv_close((uv_handle_t *)&probe->timer, on_timer_closed);
    }
    uv_close((uv_handle_t *)&health->anchor, on_anchor_closed);
}
