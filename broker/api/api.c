/* The gate: every request passes route, key, rate, method, role and body checks here, in that
 * order. */
#include "broker/api/api.h"

#include <stdlib.h>
#include <string.h>

#include "broker/api/cache.h"
#include "broker/api/context.h"
#include "broker/api/samples.h"
#include "common/base/clock.h"
#include "common/base/text.h"

enum {
    CACHE_ENTRIES = 50000,
    CACHE_BYTES = 64 * 1024 * 1024,
    EMPTY_BODY_BYTES_MAX = 4096, /* of a body that says nothing */
};

/* ---- the gate -------------------------------------------------------------------------------- */

static bool pass_key(struct context *context)
{
    struct api *api = context->api;

    if (auth_check(api->auth, auth_presented(context->request), queue_now_ms(api->queue),
                   &context->access) == 0)
        return true;
    if (denials_add(&api->denials, http_request_peer(context->request), api->now_mono_ms))
        context_fail(context, PROBLEM_RATE_LIMITED, NULL, "Too many wrong API keys.");
    else
        context_fail(context, PROBLEM_UNAUTHORIZED, NULL,
                     "Give a valid API key: Authorization: Bearer pk_...");
    return false;
}

static bool pass_rate(struct context *context)
{
    struct problem problem;
    int retry_s = 1;

    if (auth_take_request(context->api->auth, &context->access, context->api->now_mono_ms,
                          &retry_s))
        return true;
    problem_set(&problem, PROBLEM_RATE_LIMITED, NULL, "The key allows %lld requests per second.",
                (long long)context->access.limits.requests_per_second);
    problem.retry_after_s = retry_s;
    context_refuse(context, &problem);
    return false;
}

static bool pass_route(struct context *context, const struct route_result *found)
{
    switch (found->match) {
    case ROUTE_FOUND:
        break;
    case ROUTE_OTHER_METHOD:
        memcpy(context->param, found->allow, sizeof(found->allow));
        context_fail(context, PROBLEM_METHOD, NULL, "This address takes %s.", found->allow);
        return false;
    case ROUTE_UNKNOWN:
        context_fail(context, PROBLEM_NOT_FOUND, NULL, "There is nothing at this address.");
        return false;
    case ROUTE_NOT_BUILT:
        context_fail(context, PROBLEM_NO_SUCH_FEATURE, NULL, "This endpoint is not supported.");
        return false;
    }
    if (found->route->access == ACCESS_ADMIN && context->access.role != KEY_ADMIN) {
        context_fail(context, PROBLEM_FORBIDDEN, NULL, "This needs a key with the role admin.");
        return false;
    }
    if (found->param.bytes) {
        int size = text_percent_decode(found->param.bytes, found->param.size, context->param,
                                       sizeof(context->param));
        if (size < 0) {
            context_fail(context, PROBLEM_NOT_FOUND, NULL, "There is nothing at this address.");
            return false;
        }
        context->param_size = (size_t)size;
    }
    return true;
}

static bool is_media_type(struct slice header, const char *wanted)
{
    size_t size = 0;

    while (size < header.size && header.bytes[size] != ';' && header.bytes[size] != ' ')
        size++;
    return text_equal_nocase(header.bytes, size, wanted);
}

static bool has_right_type(enum route_body body, struct slice type)
{
    if (!type.bytes)
        return false;
    if (is_media_type(type, "application/json"))
        return true;
    return body == BODY_LINES &&
           (is_media_type(type, "application/x-ndjson") ||
            is_media_type(type, "application/ndjson") || is_media_type(type, "application/jsonl"));
}

static bool pass_body(struct context *context)
{
    struct http_request *request = context->request;
    struct slice encoding = http_request_header(request, "Content-Encoding");
    int64_t length = http_request_content_length(request);
    int64_t length_max = context->api->settings->broker.body_bytes_max;

    if (context->route->body == BODY_NONE)
        return true;
    if (encoding.bytes && !text_equal_nocase(encoding.bytes, encoding.size, "identity")) {
        context_fail(context, PROBLEM_ENCODING, NULL, "Send the body without Content-Encoding.");
        return false;
    }
    if (!has_right_type(context->route->body, http_request_header(request, "Content-Type"))) {
        context_fail(context, PROBLEM_MEDIA_TYPE, NULL, "Content-Type must be %s.",
                     context->route->body == BODY_LINES ? "application/x-ndjson"
                                                        : "application/json");
        return false;
    }
    if (context->route->body == BODY_JSON && length > length_max) {
        context_fail(context, PROBLEM_TOO_LARGE, NULL, "A body may have at most %lld bytes.",
                     (long long)length_max);
        return false;
    }
    return true;
}

static void ask_for_body(struct context *context)
{
    switch (context->route->body) {
    case BODY_NONE:
        http_request_want_body(context->request, EMPTY_BODY_BYTES_MAX);
        break;
    case BODY_JSON:
        http_request_want_body(context->request,
                               (size_t)context->api->settings->broker.body_bytes_max);
        break;
    case BODY_LINES:
        context->route->begin(context);
        if (context->request && !context->is_answered)
            http_request_stream_body(context->request);
        break;
    }
}

static void pass_gate(struct context *context)
{
    struct route_result found;

    route_find(http_request_method(context->request), http_request_path(context->request), &found);
    context->route = found.route;
    context->dialect = found.dialect;
    bool is_public = found.route && found.route->access == ACCESS_PUBLIC;
    if (!is_public && (!pass_key(context) || !pass_rate(context)))
        return;
    if (pass_route(context, &found) && pass_body(context))
        ask_for_body(context);
}

/* ---- what the server tells ------------------------------------------------------------------- */

static void answer_without_memory(struct http_request *request)
{
    const struct http_header headers[] = {{.name = "Retry-After", .value = slice_of("1")}};
    const struct http_reply reply = {
        .status = 503, .headers = headers, .headers_count = 1, .must_close = true};

    http_respond(request, &reply);
}

static void on_headers(struct http_request *request, void *arg)
{
    struct api *api = arg;
    struct context *context = context_create(api, request);

    if (!context) {
        answer_without_memory(request);
        return;
    }
    api->now_mono_ms = clock_mono_ms();
    context_hold(context);
    pass_gate(context);
    context_release(context);
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *arg)
{
    struct context *context = http_request_data(request);

    (void)arg;
    if (!context || !context->on_bytes)
        return;
    context_hold(context);
    context->on_bytes(context, bytes, size);
    context_release(context);
}

/* Some clients send {} where there is nothing to say. */
static bool says_nothing(struct slice body)
{
    size_t at = 0;
    static const char wanted[] = "{}";
    unsigned seen = 0;

    for (; at < body.size; at++) {
        char c = body.bytes[at];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        if (seen > 1 || c != wanted[seen])
            return false;
        seen++;
    }
    return seen != 1;
}

static void on_complete(struct http_request *request, void *arg)
{
    struct api *api = arg;
    struct context *context = http_request_data(request);

    if (!context || context->is_answered)
        return;
    CHECK(context->route);
    api->now_mono_ms = clock_mono_ms();
    context_hold(context);
    if (context->route->body == BODY_NONE && !says_nothing(http_request_body(request)))
        context_fail(context, PROBLEM_INVALID_REQUEST, NULL, "This request takes no body.");
    else
        context->route->run(context);
    context_release(context);
}

static void on_refused(struct http_request *request, enum http_refusal why, void *arg)
{
    struct context *context = http_request_data(request);

    (void)arg;
    if (!context) {
        answer_without_memory(request);
        return;
    }
    context_hold(context);
    switch (why) {
    case HTTP_BODY_TOO_LARGE:
        context_fail(context, PROBLEM_TOO_LARGE, NULL, "The body is larger than allowed here.");
        break;
    case HTTP_BODY_TOO_SLOW:
        context_fail(context, PROBLEM_BODY_TIMEOUT, NULL, "The body came too slowly.");
        break;
    case HTTP_BODY_MALFORMED:
        context_fail(context, PROBLEM_INVALID_REQUEST, NULL, "The body is malformed.");
        break;
    case HTTP_OUT_OF_BUDGET:
        context_fail(context, PROBLEM_OVERLOADED, NULL,
                     "Too many bytes of requests are in progress.");
        break;
    }
    context_release(context);
}

static void on_gone(struct http_request *request, bool was_answered, void *arg)
{
    struct context *context = http_request_data(request);

    (void)was_answered;
    (void)arg;
    if (context)
        context_leave(context);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void on_change(const struct job *job, void *arg)
{
    struct api *api = arg;

    watches_tell(&api->watches, job);
}

int api_create(const struct api_options *options, struct api **out, struct error_text *why)
{
    struct api *api = calloc(1, sizeof(*api));
    int status = ERR_NOMEM;

    if (!api)
        return error_set(why, ERR_NOMEM, "out of memory");
    api->settings = options->settings;
    api->queue = options->queue;
    api->version = options->version;
    api->shards = (unsigned)options->settings->redis.shards;
    api->now_mono_ms = clock_mono_ms();
    api->handler = (struct http_handler){.on_headers = on_headers,
                                         .on_body = on_body,
                                         .on_complete = on_complete,
                                         .on_refused = on_refused,
                                         .on_gone = on_gone,
                                         .arg = api};
    buf_init(&api->out, ANSWER_BYTES_MAX);
    wheel_init(&api->wheel, api->now_mono_ms);
    if (watches_init(&api->watches, (unsigned)options->settings->broker.connections_max) < 0 ||
        cache_create(CACHE_ENTRIES, CACHE_BYTES, &api->cache) < 0 ||
        samples_create(options->settings, options->queue, &api->samples) < 0)
        error_set(why, status, "out of memory");
    else
        status = auth_create(options->settings, options->queue, &api->auth, why);
    if (status < 0) {
        api_destroy(api);
        return status;
    }
    queue_on_change(api->queue, on_change, api);
    *out = api;
    return 0;
}

void api_destroy(struct api *api)
{
    if (!api)
        return;
    CHECK(!api->all);
    while (api->spares) {
        struct context *spare = api->spares;
        api->spares = spare->next;
        free(spare);
    }
    auth_destroy(api->auth);
    samples_destroy(api->samples);
    cache_destroy(api->cache);
    watches_deinit(&api->watches);
    buf_deinit(&api->out);
    free(api);
}

const struct http_handler *api_handler(struct api *api)
{
    return &api->handler;
}

int api_reload(struct api *api, struct error_text *why)
{
    return auth_reload(api->auth, why);
}

void api_tick(struct api *api, int64_t now_mono_ms)
{
    api->now_mono_ms = now_mono_ms;
    wheel_turn(&api->wheel, now_mono_ms);
    samples_tick(api->samples, now_mono_ms);
    auth_tick(api->auth, now_mono_ms, samples_brokers(api->samples));
}

void api_shutdown(struct api *api)
{
    struct problem problem;
    struct context *next;

    api->is_stopping = true;
    problem_set(&problem, PROBLEM_SHUTTING_DOWN, NULL,
                "This process is being stopped; ask again, another one answers.");
    problem.retry_after_s = 1;
    for (struct context *context = api->all; context; context = next) {
        next = context->next;
        if (!context->is_held)
            continue;
        context_hold(context);
        timer_stop(&context->timer);
        context_unwatch(context);
        if (context->on_stop)
            context->on_stop(context);
        else
            context_refuse(context, &problem);
        context_release(context);
    }
}
