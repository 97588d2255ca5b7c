/* POST /v1/chat/completions, /v1/completions, /v1/embeddings: a durable job whose client waits for
 * it.
 *
 * Without Prefer the connection is held until the job ends and answered with what the upstream
 * said. With "respond-async" the answer is 202 and the job object, at once or after "wait=N"
 * seconds. A client that leaves while it is held takes its job with it (nobody would ever read the
 * result), unless it gave an idempotency key: then it can come back for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/api/handlers.h"
#include "broker/api/submit.h"
#include "broker/api/validate.h"
#include "common/dialect/openai.h"

enum {
    LOOK_AGAIN_MS = 60000, /* a held job is looked at this often, should a message have been lost */
    STORE_AGAIN_MS = 500,
    REENCODED_BYTES_MAX = 64 * 1024 * 1024,
};

struct call {
    struct prefer prefer;
    bool wants_base64;
    bool has_key;
    bool is_replay;
    bool is_stored; /* context->id is a job of ours */
    bool is_left;   /* the client went before that was known */
    char job_id[JOB_ID_TEXT_SIZE + 1];
    char applied[48];
};

static bool is_held_open(const struct call *call)
{
    return !call->prefer.respond_async || call->prefer.wait_ms > 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void add_headers(struct context *context, struct reply *reply)
{
    struct call *call = context->work;

    job_id_text(&context->id, call->job_id);
    reply_add(reply, "Penstock-Job-Id", slice_of(call->job_id));
    if (call->is_replay)
        reply_add(reply, "Idempotent-Replayed", slice_of("true"));
    if (call->prefer.respond_async && call->prefer.wait_ms > 0)
        reply_add(reply, "Preference-Applied", slice_of(call->applied));
}

static void answer_success(struct context *context, const struct job *job)
{
    const struct call *call = context->work;
    char content_type[LIMIT_CONTENT_TYPE_BYTES + 1] = "application/json";
    struct buf encoded = {.size_max = REENCODED_BYTES_MAX};
    struct reply reply = {.status = 200, .content_type = content_type, .body = job->payload};

    if (job->content_type.size > 0)
        snprintf(content_type, sizeof(content_type), "%.*s", (int)job->content_type.size,
                 job->content_type.bytes);
    if (call->wants_base64 && job->endpoint == ENDPOINT_EMBEDDINGS &&
        openai_encode_embeddings(job->payload, &encoded) == 1)
        reply.body = (struct slice){.bytes = encoded.data, .size = encoded.size};
    add_headers(context, &reply);
    context_answer(context, &reply);
    buf_deinit(&encoded);
}

/* The upstream's own verdict, in the envelope the SDKs know. Ours were the retries: nobody shall
 * add theirs. */
static void answer_upstream_error(struct context *context, const struct job *job)
{
    struct buf *out = context_out(context);
    struct reply reply = {.status = job->http_status, .content_type = "application/json"};

    if (openai_put_upstream_error(out, job->http_status, job->payload) < 0) {
        context_fail(context, PROBLEM_INTERNAL, NULL, "The error could not be written out.");
        return;
    }
    reply.body = (struct slice){.bytes = out->data, .size = out->size};
    reply_add(&reply, "x-should-retry", slice_of("false"));
    add_headers(context, &reply);
    context_answer(context, &reply);
}

static enum problem_kind kind_of(const struct job *job)
{
    if (job->state == JOB_CANCELLED)
        return PROBLEM_CANCELLED;
    if (job->state == JOB_EXPIRED || slice_is(job->error_code, "upstream_timeout"))
        return PROBLEM_UPSTREAM_TIMEOUT;
    if (job->error_code.size > 8 && memcmp(job->error_code.bytes, "upstream", 8) == 0)
        return PROBLEM_UPSTREAM;
    return PROBLEM_INTERNAL;
}

static void answer_failure(struct context *context, const struct job *job)
{
    struct problem problem;
    int size = (int)(job->error_message.size < 400 ? job->error_message.size : 400);

    /* Records are not ours alone: what is no status of HTTP cannot be answered with. */
    if (job->state == JOB_FAILED && job->http_status >= 400 && job->http_status <= 599) {
        answer_upstream_error(context, job);
        return;
    }
    problem_set(&problem, kind_of(job), NULL, "The job is %s: %.*s", job_state_word(job->state),
                size, job->error_message.bytes ? job->error_message.bytes : "");
    if (job->error_code.size > 0)
        snprintf(problem.code, sizeof(problem.code), "%.*s", (int)job->error_code.size,
                 job->error_code.bytes);
    problem.is_final = true;
    context_refuse(context, &problem);
}

static void answer_end(struct context *context, const struct job *job)
{
    int64_t gone_ms = job->finished_at_ms + (int64_t)job->result_ttl_s * 1000;

    if ((job->flags & JOB_FLAG_FORGOTTEN) != 0 || queue_now_ms(context->api->queue) >= gone_ms)
        context_fail(context, PROBLEM_RESULT_GONE, NULL,
                     "The result of this job has been deleted.");
    else if (context->request && !http_request_has_room(context->request, job->payload.size))
        context_fail_crowded(context);
    else if (job->state == JOB_SUCCEEDED)
        answer_success(context, job);
    else
        answer_failure(context, job);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void on_result(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0)
        answer_end(context, job);
    else
        context_fail_status(context, status);
    context_release(context);
}

/* The job has ended. What was told along the way may lack the result, when that is large. */
static void finish(struct context *context, const struct job *job)
{
    context->on_left = NULL;
    timer_stop(&context->timer);
    context_unwatch(context);
    if (job->payload.bytes || job->payload_size == 0) {
        answer_end(context, job);
        return;
    }
    context_hold(context);
    queue_get(context->api->queue, &context->id, true, on_result, context);
}

static void on_change(struct watch *watch, const struct job *job)
{
    struct context *context = context_of_watch(watch);

    if (job_state_is_final(job->state) && !context->is_answered)
        finish(context, job);
}

static void answer_accepted(struct context *context, const struct job *job)
{
    const struct call *call = context->work;
    struct buf *out = context_out(context);

    context->on_left = NULL;
    timer_stop(&context->timer);
    context_unwatch(context);
    if (put_job(context, job, out) < 0)
        context_fail(context, PROBLEM_INTERNAL, NULL, "The job could not be written out.");
    else
        submit_answer_accepted(context, (struct slice){.bytes = out->data, .size = out->size},
                               call->is_replay, call->applied);
}

static void on_due(struct timer *timer);

/* A second look: at the end of "wait=N", and now and then while the connection is held. */
static void on_looked(int status, const struct job *job, void *arg)
{
    struct context *context = arg;
    const struct call *call = context->work;

    if (context->request && !context->is_answered) {
        if (status == ERR_NOT_FOUND)
            context_fail_status(context, status);
        else if (status == 0 && job_state_is_final(job->state))
            finish(context, job);
        else if (call->prefer.respond_async && status == 0)
            answer_accepted(context, job);
        else if (call->prefer.respond_async)
            context_fail_status(context, status);
        else
            context_set_timer(context, LOOK_AGAIN_MS, on_due);
    }
    context_release(context);
}

static void on_due(struct timer *timer)
{
    struct context *context = context_of_timer(timer);
    const struct call *call = context->work;

    if (!call->is_stored) { /* the submit has its own deadline */
        context_set_timer(context, STORE_AGAIN_MS, on_due);
        return;
    }
    context_hold(context);
    queue_get(context->api->queue, &context->id, false, on_looked, context);
}

/* ---- the client leaves ----------------------------------------------------------------------- */

static void on_cancelled(int status, const struct job *job, void *arg)
{
    (void)status; /* ended before, or the store is away: nobody is there to hear of it */
    (void)job;
    context_release(arg);
}

static void cancel_job(struct context *context)
{
    context_hold(context);
    queue_cancel(context->api->queue, &context->id, on_cancelled, context);
}

static void on_left(struct context *context)
{
    struct call *call = context->work;

    if (call->has_key)
        return;
    if (call->is_stored)
        cancel_job(context);
    else
        call->is_left = true;
}

/* ---- the submit ------------------------------------------------------------------------------ */

static void on_first(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status < 0)
        context_fail_status(context, status);
    else
        answer_accepted(context, job);
    context_release(context);
}

static void on_followed(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (watch_is_in(&context->watch) && !context->is_answered) {
        if (status < 0)
            context_fail_status(context, status);
        else if (job_state_is_final(job->state))
            finish(context, job);
    }
    context_release(context);
}

/* The key is known: wait for the job that has it. */
static void join_first(struct context *context)
{
    const struct call *call = context->work;

    context_hold(context);
    if (is_held_open(call)) {
        context_watch(context, on_change);
        queue_follow(context->api->queue, &context->id, on_followed, context);
    } else {
        queue_get(context->api->queue, &context->id, false, on_first, context);
    }
}

static void on_submitted(struct context *context, const struct submitted *submitted)
{
    struct call *call = context->work;

    call->is_stored = true;
    call->is_replay = submitted->result->is_replay;
    if (!context->request) {
        if (call->is_left)
            cancel_job(context);
        return;
    }
    if (context->is_answered) /* shutting down: the job goes on */
        return;
    if (call->is_replay)
        join_first(context);
    else if (!is_held_open(call))
        submit_answer_accepted(
            context, (struct slice){.bytes = submitted->text, .size = submitted->text_size}, false,
            call->applied);
}

static int read_call(struct context *context, enum job_endpoint endpoint, const struct jdoc *doc,
                     struct draft *draft, struct problem *problem)
{
    struct http_request *request = context->request;
    const struct validate_headers headers = {
        .priority = http_request_header(request, "Penstock-Priority"),
        .expires_ms = http_request_header(request, "Penstock-Expires-Ms"),
        .metadata = http_request_header(request, "Penstock-Metadata"),
        .webhook = http_request_header(request, "Penstock-Webhook"),
    };

    if (validate_call(doc, http_request_body(request), endpoint, draft, problem) < 0)
        return ERR_INVALID;
    if (validate_option_headers(&headers, draft, problem) < 0)
        return ERR_INVALID;
    return validate_idempotency_key(http_request_header(request, "Idempotency-Key"), draft,
                                    problem);
}

static void note_prefer(struct context *context, struct call *call)
{
    parse_prefer(http_request_header(context->request, "Prefer"), &call->prefer);
    if (!call->prefer.respond_async)
        return;
    if (call->prefer.wait_ms > 0)
        snprintf(call->applied, sizeof(call->applied), "respond-async, wait=%lld",
                 (long long)(call->prefer.wait_ms / 1000));
    else
        snprintf(call->applied, sizeof(call->applied), "respond-async");
}

static void start_call(struct context *context, const struct draft *draft, struct call *call)
{
    struct submit_options options = {.access = &context->access,
                                     .request_id = slice_of(context->request_id)};

    call->wants_base64 = draft->wants_base64;
    call->has_key = draft->idempotency_key_size > 0;
    if (is_held_open(call)) {
        options.on_change = on_change;
        context->is_held = true;
        http_request_mark_held(context->request);
        context->on_left = on_left;
        context_set_timer(context, call->prefer.wait_ms > 0 ? call->prefer.wait_ms : LOOK_AGAIN_MS,
                          on_due);
    }
    submit_for(context, draft, &options, on_submitted);
}

static void handle_call(struct context *context, enum job_endpoint endpoint)
{
    /* Run again after the tenant's usage has been asked for: the work is there already then. */
    struct call *call = context->work ? context->work : context_work(context, sizeof(*call), free);
    struct draft draft;
    struct problem problem;
    struct jdoc *doc = NULL;

    if (!call)
        return;
    note_prefer(context, call);
    if (is_held_open(call) && context->api->is_stopping) {
        context_fail(context, PROBLEM_SHUTTING_DOWN, NULL, "This process is going away.");
        return;
    }
    draft_init(&draft);
    if (validate_document(http_request_body(context->request), &doc, &problem) < 0 ||
        read_call(context, endpoint, doc, &draft, &problem) < 0) {
        context_refuse(context, &problem);
    } else {
        if (!draft.has_priority)
            draft.priority = call->prefer.respond_async ? JOB_NORMAL : JOB_HIGH;
        start_call(context, &draft, call);
    }
    draft_deinit(&draft);
    jdoc_destroy(doc);
}

void handle_chat(struct context *context)
{
    handle_call(context, ENDPOINT_CHAT);
}

void handle_completions(struct context *context)
{
    handle_call(context, ENDPOINT_COMPLETIONS);
}

void handle_embeddings(struct context *context)
{
    handle_call(context, ENDPOINT_EMBEDDINGS);
}
