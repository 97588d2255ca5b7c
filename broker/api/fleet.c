/* Queues, upstreams, workers and numbers: the fleet as it is, from samples at most a moment old. */
#include <stdio.h>
#include <string.h>

#include "broker/api/handlers.h"
#include "broker/api/queue_view.h"
#include "broker/api/samples.h"
#include "common/base/jdoc.h"

/* Everything here waits for a sample first; what is then rendered depends on the route. */
typedef int (*put_fn)(struct context *context, struct buf *out);

static void answer_with(struct context *context, int status, put_fn put)
{
    if (status < 0)
        context_fail_status(context, status);
    else if (context->request && put(context, context_out(context)) < 0)
        context_fail(context, PROBLEM_OVERLOADED, NULL, "The answer is too large.");
    else
        context_answer_json(context);
    context_release(context);
}

static void await(struct context *context, enum sample sample, sampled_fn on_sampled)
{
    context_hold(context);
    samples_await(context->api->samples, sample, on_sampled, context);
}

static int begin_list(struct buf *out)
{
    return buf_append_text(out, "{\"object\":\"list\",\"data\":[");
}

static int end_list(struct buf *out)
{
    return buf_append_text(out, "],\"has_more\":false,\"next_after\":null}");
}

/* ---- queues ---------------------------------------------------------------------------------- */

static struct queue_view_options view_options(const struct context *context)
{
    const struct api *api = context->api;
    struct queue_view_options options = {
        .now_ms = queue_now_ms(api->queue),
        .tenant_hash = context->access.role == KEY_ADMIN ? NULL : context->access.tenant_hash};

    options.before = samples_census_before(api->samples, &options.before_ms);
    return options;
}

static int put_queues(struct context *context, struct buf *out)
{
    const struct queue_census *census = samples_census(context->api->samples);
    const struct queue_view_options options = view_options(context);
    bool has_first = false;
    int status = begin_list(out);

    for (unsigned i = 0; status == 0 && i < census->routes_count; i++) {
        if (!queue_view_is_visible(&census->routes[i], &options))
            continue;
        if (has_first)
            status = buf_append_char(out, ',');
        has_first = true;
        if (status == 0)
            status = queue_view_put(out, &census->routes[i], &options);
    }
    return status == 0 ? end_list(out) : status;
}

static void on_queues(int status, void *arg)
{
    answer_with(arg, status, put_queues);
}

void handle_queues(struct context *context)
{
    await(context, SAMPLE_CENSUS, on_queues);
}

/* A queue nobody has used yet is an empty one. */
static int put_queue(struct context *context, struct buf *out)
{
    const struct queue_census *census = samples_census(context->api->samples);
    const struct queue_view_options options = view_options(context);
    struct queue_route route = {.name = {.bytes = context->param, .size = context->param_size}};

    for (unsigned i = 0; i < census->routes_count; i++)
        if (slice_equal(census->routes[i].name, route.name))
            route = census->routes[i];
    return queue_view_put(out, &route, &options);
}

static void on_queue(int status, void *arg)
{
    answer_with(arg, status, put_queue);
}

static bool is_route_name(struct context *context)
{
    if (context->param_size > 0 && context->param_size <= LIMIT_ROUTE_BYTES)
        return true;
    context_fail(context, PROBLEM_NOT_FOUND, NULL, "There is no such queue.");
    return false;
}

void handle_queue(struct context *context)
{
    if (is_route_name(context))
        await(context, SAMPLE_CENSUS, on_queue);
}

/* ---- pausing --------------------------------------------------------------------------------- */

static void answer_paused(struct context *context, int status, const char *object, bool paused)
{
    struct buf *out = context_out(context);

    if (status < 0) {
        context_fail_status(context, status);
    } else {
        status = buf_printf(out, "{\"object\":\"%s\",\"%s\":", object,
                            strcmp(object, "queue") == 0 ? "route" : "name");
        if (status == 0)
            status = json_put_string(out, context->param, context->param_size);
        if (status == 0)
            status = buf_printf(out, ",\"paused\":%s}", paused ? "true" : "false");
        if (status == 0)
            context_answer_json(context);
        else
            context_fail(context, PROBLEM_INTERNAL, NULL, "The answer could not be written.");
    }
    context_release(context);
}

static struct slice param_of(const struct context *context)
{
    return (struct slice){.bytes = context->param, .size = context->param_size};
}

static void on_queue_paused(int status, void *arg)
{
    answer_paused(arg, status, "queue", true);
}

static void on_queue_resumed(int status, void *arg)
{
    answer_paused(arg, status, "queue", false);
}

void handle_queue_pause(struct context *context)
{
    if (!is_route_name(context))
        return;
    context_hold(context);
    queue_pause_route(context->api->queue, param_of(context), true, on_queue_paused, context);
}

void handle_queue_resume(struct context *context)
{
    if (!is_route_name(context))
        return;
    context_hold(context);
    queue_pause_route(context->api->queue, param_of(context), false, on_queue_resumed, context);
}

/* An upstream is known by the configuration here, or because a worker says so. */
static bool is_upstream(struct context *context)
{
    const struct settings *settings = context->api->settings;
    const struct fleet *fleet = samples_fleet(context->api->samples);

    for (unsigned i = 0; i < settings->upstreams_count; i++)
        if (slice_is(param_of(context), settings->upstreams[i].name))
            return true;
    if (fleet && fleet_find(fleet, param_of(context)))
        return true;
    context_fail(context, PROBLEM_NOT_FOUND, NULL, "There is no such upstream.");
    return false;
}

static void on_upstream_paused(int status, void *arg)
{
    answer_paused(arg, status, "upstream", true);
}

static void on_upstream_resumed(int status, void *arg)
{
    answer_paused(arg, status, "upstream", false);
}

static void on_fleet_to_pause(int status, void *arg)
{
    struct context *context = arg;

    if (status < 0)
        context_fail_status(context, status);
    else if (context->request && is_upstream(context)) {
        bool is_pause = context->route->run == handle_upstream_pause;
        queue_pause_upstream(context->api->queue, param_of(context), is_pause,
                             is_pause ? on_upstream_paused : on_upstream_resumed, context);
        return;
    }
    context_release(context);
}

void handle_upstream_pause(struct context *context)
{
    await(context, SAMPLE_FLEET, on_fleet_to_pause);
}

void handle_upstream_resume(struct context *context)
{
    await(context, SAMPLE_FLEET, on_fleet_to_pause);
}

/* ---- upstreams and workers ------------------------------------------------------------------- */

static int put_models(struct buf *out, const struct fleet_upstream *upstream)
{
    int status = buf_append_char(out, '[');

    for (unsigned i = 0; status == 0 && i < upstream->models_count; i++) {
        if (i > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = json_put_string(out, upstream->models[i], strlen(upstream->models[i]));
    }
    return status == 0 ? buf_append_char(out, ']') : status;
}

static int put_upstream(struct buf *out, const struct fleet_upstream *upstream)
{
    int status = buf_append_text(out, "{\"object\":\"upstream\",\"name\":");

    if (status == 0)
        status = json_put_string(out, upstream->name, strlen(upstream->name));
    if (status == 0)
        status = buf_append_text(out, ",\"kind\":");
    if (status == 0)
        status = json_put_string(out, upstream->kind, strlen(upstream->kind));
    if (status == 0)
        status = buf_printf(
            out,
            ",\"state\":\"%s\",\"paused\":%s,\"in_flight\":%lld,\"concurrency\":%lld,"
            "\"tier\":%lld,\"weight\":%lld,\"calls\":%lld,\"errors\":%lld,\"latency_ms\":%.1f,"
            "\"workers\":{\"up\":%u,\"down\":%u,\"paused\":%u,\"unknown\":%u},\"models\":",
            fleet_state(upstream), upstream->is_paused ? "true" : "false",
            (long long)upstream->in_flight, (long long)upstream->concurrency,
            (long long)upstream->tier, (long long)upstream->weight, (long long)upstream->calls,
            (long long)upstream->errors, upstream->latency_ms, upstream->workers_up,
            upstream->workers_down, upstream->workers_paused, upstream->workers_unknown);
    if (status == 0)
        status = put_models(out, upstream);
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int put_upstreams(struct context *context, struct buf *out)
{
    const struct fleet *fleet = samples_fleet(context->api->samples);
    int status = begin_list(out);

    for (unsigned i = 0; status == 0 && i < fleet->upstreams_count; i++) {
        if (i > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = put_upstream(out, &fleet->upstreams[i]);
    }
    return status == 0 ? end_list(out) : status;
}

static void on_upstreams(int status, void *arg)
{
    answer_with(arg, status, put_upstreams);
}

void handle_upstreams(struct context *context)
{
    await(context, SAMPLE_FLEET, on_upstreams);
}

/* The documents stand one a line; a line end cannot stand inside one. */
static int put_workers(struct context *context, struct buf *out)
{
    const struct buf *texts = &samples_fleet(context->api->samples)->texts;
    int status = begin_list(out);

    for (size_t at = 0; status == 0 && at < texts->size;) {
        const char *end = memchr(texts->data + at, '\n', texts->size - at);
        size_t size = end ? (size_t)(end - texts->data) - at : texts->size - at;
        if (at > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = buf_append(out, texts->data + at, size);
        at += size + 1;
    }
    return status == 0 ? end_list(out) : status;
}

static void on_workers(int status, void *arg)
{
    answer_with(arg, status, put_workers);
}

void handle_workers(struct context *context)
{
    await(context, SAMPLE_FLEET, on_workers);
}

/* ---- stats ----------------------------------------------------------------------------------- */

static int put_stats(struct context *context, struct buf *out)
{
    const struct api *api = context->api;
    const struct fleet *fleet = samples_fleet(api->samples);
    const struct queue_view_options options = view_options(context);
    struct queue_health health;

    queue_health(api->queue, &health);
    int status = buf_append_text(out, "{\"object\":\"stats\",\"version\":");
    if (status == 0)
        status = json_put_string(out, api->version, strlen(api->version));
    if (status == 0)
        status = buf_append_text(out, ",\"time\":");
    if (status == 0)
        status = json_put_seconds(out, options.now_ms);
    if (status == 0)
        status = queue_view_put_totals(out, samples_census(api->samples), &options);
    if (status == 0)
        status =
            buf_printf(out, ",\"workers\":%u,\"brokers\":%u,\"store\":{\"ready\":%s,\"reason\":",
                       fleet ? fleet->workers : 0, samples_brokers(api->samples),
                       health.is_ready ? "true" : "false");
    if (status == 0)
        status = json_put_string(out, health.reason, strlen(health.reason));
    if (status == 0)
        status = buf_append_text(out, ",\"version\":");
    if (status == 0)
        status = json_put_string(out, health.redis_version, strlen(health.redis_version));
    if (status == 0)
        status = buf_append_text(out, ",\"id\":");
    if (status == 0)
        status = json_put_string(out, health.store_id, strlen(health.store_id));
    if (status == 0)
        status = buf_printf(
            out, ",\"memory_used\":%lld,\"memory_max\":%lld,\"round_trip_ms\":%.3f}}",
            (long long)health.memory_used, (long long)health.memory_max, health.round_trip_ms);
    return status;
}

static void on_stats(int status, void *arg)
{
    answer_with(arg, status, put_stats);
}

static void on_fleet_for_stats(int status, void *arg)
{
    struct context *context = arg;

    if (status < 0)
        on_stats(status, context);
    else
        samples_await(context->api->samples, SAMPLE_CENSUS, on_stats, context);
}

void handle_stats(struct context *context)
{
    await(context, SAMPLE_FLEET, on_fleet_for_stats);
}
