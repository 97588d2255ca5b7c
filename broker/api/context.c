#include "broker/api/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/digest.h"

enum { SPARES_MAX = 1024, RETRY_AFTER_MAX_S = 5, OUT_KEPT_MAX = 1024 * 1024 };

/* ---- life ------------------------------------------------------------------------------------ */

static bool is_request_id(struct slice text)
{
    if (text.size == 0 || text.size > LIMIT_REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.bytes[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

/* A client's own id is kept, so that its logs and ours meet. */
static void take_request_id(struct context *context)
{
    struct slice given = http_request_header(context->request, "x-request-id");
    uint8_t random[15];

    if (is_request_id(given)) {
        memcpy(context->request_id, given.bytes, given.size);
        context->has_own_request_id = true;
        return;
    }
    digest_random(random, sizeof(random));
    memcpy(context->request_id, "req_", 4);
    digest_base32(random, sizeof(random) * 8, context->request_id + 4);
}

struct slice context_own_request_id(const struct context *context)
{
    return slice_of(context->has_own_request_id ? context->request_id : "");
}

struct context *context_create(struct api *api, struct http_request *request)
{
    struct context *context = api->spares;

    if (context) {
        api->spares = context->next;
        api->spares_count--;
        memset(context, 0, sizeof(*context));
    } else {
        context = calloc(1, sizeof(*context));
        if (!context)
            return NULL;
    }
    context->api = api;
    context->request = request;
    context->holds = 1; /* the client's; given back by context_leave */
    context->next = api->all;
    if (api->all)
        api->all->prev = context;
    api->all = context;
    take_request_id(context);
    http_request_set_data(request, context);
    return context;
}

static void leave_list(struct context *context)
{
    if (context->prev)
        context->prev->next = context->next;
    else
        context->api->all = context->next;
    if (context->next)
        context->next->prev = context->prev;
    context->next = NULL;
    context->prev = NULL;
}

void context_hold(struct context *context)
{
    CHECK(context->holds > 0);
    context->holds++;
}

void context_release(struct context *context)
{
    struct api *api = context->api;

    CHECK(context->holds > 0);
    if (--context->holds > 0)
        return;
    CHECK(!context->request);
    CHECK(!watch_is_in(&context->watch));
    CHECK(!timer_is_on(&context->timer));
    if (context->work_free)
        context->work_free(context->work);
    if (api->spares_count >= SPARES_MAX) {
        free(context);
        return;
    }
    context->next = api->spares;
    api->spares = context;
    api->spares_count++;
}

void context_leave(struct context *context)
{
    leave_list(context);
    context->request = NULL;
    if (context->on_left)
        context->on_left(context);
    context->is_answered = true;
    timer_stop(&context->timer);
    context_unwatch(context);
    context_release(context);
}

void *context_work(struct context *context, size_t size, void (*work_free)(void *work))
{
    CHECK(!context->work);
    context->work = calloc(1, size);
    context->work_free = work_free;
    if (!context->work) {
        context->work_free = NULL;
        context_fail(context, PROBLEM_OVERLOADED, NULL, "There is no memory for this request.");
    }
    return context->work;
}

/* ---- following ------------------------------------------------------------------------------- */

void context_watch(struct context *context, void (*on_change)(struct watch *, const struct job *))
{
    context->watch.id = context->id;
    context->watch.on_change = on_change;
    watch_add(&context->api->watches, &context->watch);
}

void context_unwatch(struct context *context)
{
    if (!watch_is_in(&context->watch))
        return;
    watch_remove(&context->api->watches, &context->watch);
    queue_unfollow(context->api->queue, &context->watch.id);
}

struct context *context_of_watch(struct watch *watch)
{
    return (struct context *)(void *)((char *)watch - offsetof(struct context, watch));
}

struct context *context_of_timer(struct timer *timer)
{
    return (struct context *)(void *)((char *)timer - offsetof(struct context, timer));
}

void context_set_timer(struct context *context, int64_t delay_ms, void (*on_due)(struct timer *))
{
    context->timer.due_mono_ms = context->api->now_mono_ms + delay_ms;
    context->timer.on_due = on_due;
    timer_start(&context->api->wheel, &context->timer);
}

/* ---- answering ------------------------------------------------------------------------------- */

struct buf *context_out(struct context *context)
{
    struct buf *out = &context->api->out;

    if (out->capacity > OUT_KEPT_MAX)
        buf_deinit(out); /* one large answer must not be paid for ever after */
    buf_clear(out);
    return out;
}

void reply_add(struct reply *reply, const char *name, struct slice value)
{
    CHECK(reply->headers_count < REPLY_HEADERS_MAX);
    reply->headers[reply->headers_count++] = (struct http_header){.name = name, .value = value};
}

void reply_add_retry_after(struct reply *reply, int seconds)
{
    snprintf(reply->number, sizeof(reply->number), "%d", seconds);
    reply_add(reply, "Retry-After", slice_of(reply->number));
}

static struct http_reply wire_reply(const struct context *context, struct reply *reply)
{
    reply_add(reply, "x-request-id", slice_of(context->request_id));
    return (struct http_reply){.status = reply->status,
                               .content_type = reply->content_type,
                               .headers = reply->headers,
                               .headers_count = reply->headers_count,
                               .body = reply->body,
                               .body_free = reply->body_free,
                               .must_close = reply->must_close};
}

void context_answer(struct context *context, struct reply *reply)
{
    if (!context->request || context->is_answered) {
        if (reply->body_free)
            reply->body_free((void *)(uintptr_t)reply->body.bytes);
        return;
    }
    context->is_answered = true;
    context->is_held = false;
    context->on_left = NULL;
    struct http_reply wire = wire_reply(context, reply);
    http_respond(context->request, &wire);
}

void context_answer_json(struct context *context)
{
    const struct buf *out = &context->api->out;
    struct reply reply = {.status = 200,
                          .content_type = "application/json",
                          .body = {.bytes = out->data, .size = out->size}};

    if (context->request && !http_request_has_room(context->request, out->size))
        context_fail_crowded(context);
    else
        context_answer(context, &reply);
}

void context_stream(struct context *context, struct reply *reply)
{
    CHECK(context->request);
    CHECK(!context->is_answered);
    context->is_answered = true;
    context->is_stream = true;
    struct http_reply wire = wire_reply(context, reply);
    http_stream_start(context->request, &wire);
}

/* Different seconds for different clients, so that those refused together do not come back
 * together. */
static int jittered_retry_s(void)
{
    return 1 + (int)(digest_random_u64() % RETRY_AFTER_MAX_S);
}

void context_refuse(struct context *context, const struct problem *problem)
{
    struct buf *out = context_out(context);
    struct reply reply = {.status = problem_status(problem),
                          .content_type = problem_content_type(context->dialect)};

    if (!context->request || context->is_answered)
        return;
    if (problem_put(out, problem, context->dialect, slice_of(context->request_id)) == 0)
        reply.body = (struct slice){.bytes = out->data, .size = out->size};
    switch (problem_retry_of(problem)) {
    case RETRY_UNSAID:
        break;
    case RETRY_SOON:
        reply_add_retry_after(&reply,
                              problem->retry_after_s ? problem->retry_after_s : jittered_retry_s());
        break;
    case RETRY_NEVER:
        reply_add(&reply, "x-should-retry", slice_of("false"));
        break;
    }
    if (reply.status == 401)
        reply_add(&reply, "WWW-Authenticate", slice_of("Bearer realm=\"penstock\""));
    if (context->dialect == DIALECT_ANTHROPIC)
        reply_add(&reply, "request-id", slice_of(context->request_id));
    if (problem->kind == PROBLEM_METHOD)
        reply_add(&reply, "Allow", slice_of(context->param));
    context_answer(context, &reply);
}

void context_fail(struct context *context, enum problem_kind kind, const char *param,
                  const char *detail, ...)
{
    char text[PROBLEM_DETAIL_SIZE];
    struct problem problem;
    va_list args;

    va_start(args, detail);
    vsnprintf(text, sizeof(text), detail, args);
    va_end(args);
    problem_set(&problem, kind, param, "%s", text);
    context_refuse(context, &problem);
}

void context_fail_crowded(struct context *context)
{
    context_fail(context, PROBLEM_OVERLOADED, NULL,
                 "Too many large answers are on their way to slow clients.");
}

/* What only reads has no effect that could be unknown. */
static bool is_read(const struct context *context)
{
    const struct route *route = context->route;

    return route &&
           (strcmp(route->method, "GET") == 0 || strcmp(route->path, "/v1/jobs/query") == 0);
}

void context_fail_status(struct context *context, int status)
{
    struct problem problem;

    if ((status == ERR_UNKNOWN || status == ERR_TIMEOUT) && is_read(context))
        status = ERR_OFFLINE;
    problem_from_status(&problem, status);
    context_refuse(context, &problem);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

bool context_take_id(struct context *context)
{
    struct slice text = {.bytes = context->param, .size = context->param_size};

    if (job_id_parse(text, context->api->shards, &context->id) == 0)
        return true;
    context_fail_status(context, ERR_NOT_FOUND);
    return false;
}

bool context_may_see(const struct context *context, const struct job *job)
{
    if (context->access.role == KEY_ADMIN)
        return true;
    return slice_is(job->tenant_name, context->access.tenant);
}
