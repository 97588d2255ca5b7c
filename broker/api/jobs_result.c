/* GET /v1/jobs/{id}/result: what the upstream answered, byte for byte. */
#include <stdio.h>
#include <string.h>

#include "broker/api/handlers.h"

/* The record outlives the result; both carry the time, whoever has swept what. */
bool job_result_is_gone(const struct context *context, const struct job *job)
{
    int64_t end_ms = job->finished_at_ms + (int64_t)job->result_ttl_s * 1000;

    return (job->flags & JOB_FLAG_FORGOTTEN) != 0 || queue_now_ms(context->api->queue) >= end_ms;
}

/* Records are not ours alone: what is no status of HTTP cannot be answered with. */
static bool is_error_status(int http_status)
{
    return http_status >= 400 && http_status <= 599;
}

static void answer_live(struct context *context, const struct job *job)
{
    struct buf *out = context_out(context);
    struct reply reply = {.status = 202, .content_type = "application/json"};

    if (put_job(context, job, out) < 0) {
        context_fail(context, PROBLEM_INTERNAL, NULL, "The job could not be written out.");
        return;
    }
    reply.body = (struct slice){.bytes = out->data, .size = out->size};
    reply_add_retry_after(&reply, 1);
    context_answer(context, &reply);
}

static void answer_upstream(struct context *context, const struct job *job, int http_status)
{
    char content_type[LIMIT_CONTENT_TYPE_BYTES + 1] = "application/json";
    struct reply reply = {
        .status = http_status, .content_type = content_type, .body = job->payload};

    if (job->content_type.size > 0)
        snprintf(content_type, sizeof(content_type), "%.*s", (int)job->content_type.size,
                 job->content_type.bytes);
    context_answer(context, &reply);
}

/* No upstream had the last word: the job's own code says why there is no result. */
static void answer_no_result(struct context *context, const struct job *job)
{
    struct problem problem;

    problem_set(&problem, PROBLEM_JOB_FAILED, NULL, "The job is %s: %.*s",
                job_state_word(job->state),
                (int)(job->error_message.size < 400 ? job->error_message.size : 400),
                job->error_message.bytes ? job->error_message.bytes : "");
    if (job->error_code.size > 0)
        snprintf(problem.code, sizeof(problem.code), "%.*s", (int)job->error_code.size,
                 job->error_code.bytes);
    else
        snprintf(problem.code, sizeof(problem.code), "%s", job_state_word(job->state));
    context_refuse(context, &problem);
}

static void answer_result(struct context *context, const struct job *job)
{
    bool has_body = job->payload.bytes && job->payload.size > 0;

    if (!job_state_is_final(job->state))
        answer_live(context, job);
    else if (job_result_is_gone(context, job))
        context_fail(context, PROBLEM_RESULT_GONE, NULL,
                     "The result of this job has been deleted.");
    else if (!http_request_has_room(context->request, job->payload.size))
        context_fail_crowded(context);
    else if (job->state == JOB_SUCCEEDED)
        answer_upstream(context, job, 200);
    else if (job->state == JOB_FAILED && is_error_status(job->http_status) && has_body)
        answer_upstream(context, job, job->http_status);
    else
        answer_no_result(context, job);
}

static void on_job(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0 && !context_may_see(context, job))
        status = ERR_NOT_FOUND;
    if (status < 0)
        context_fail_status(context, status);
    else if (context->request)
        answer_result(context, job);
    context_release(context);
}

void handle_job_result(struct context *context)
{
    if (!context_take_id(context))
        return;
    context_hold(context);
    queue_get(context->api->queue, &context->id, true, on_job, context);
}
