/* POST /v1/jobs/{id}/cancel and /retry, DELETE /v1/jobs/{id}. Whose job it is is looked up before
 * anything is done to it. */
#include "broker/api/handlers.h"
#include "broker/api/submit.h"

/* ---- cancel ---------------------------------------------------------------------------------- */

static void on_cancelled(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == ERR_STATE && job && job->state != JOB_CANCELLED)
        context_fail(context, PROBLEM_FINISHED, NULL, "The job has ended before: it is %s.",
                     job_state_word(job->state));
    else if ((status == 0 || status == ERR_STATE) && job)
        answer_job(context, job, 200);
    else
        context_fail_status(context, status);
    context_release(context);
}

static void on_job_to_cancel(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0 && !context_may_see(context, job))
        status = ERR_NOT_FOUND;
    if (status == 0) {
        queue_cancel(context->api->queue, &context->id, on_cancelled, context);
        return;
    }
    context_fail_status(context, status);
    context_release(context);
}

void handle_job_cancel(struct context *context)
{
    if (!context_take_id(context))
        return;
    context_hold(context);
    queue_get(context->api->queue, &context->id, false, on_job_to_cancel, context);
}

/* ---- forget ---------------------------------------------------------------------------------- */

static void on_forgotten(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == ERR_STATE)
        context_fail(context, PROBLEM_NOT_FINISHED, NULL,
                     "The job has not ended: cancel it first.");
    else if (status == 0 && job)
        answer_job(context, job, 200);
    else
        context_fail_status(context, status);
    context_release(context);
}

static void on_job_to_forget(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0 && !context_may_see(context, job))
        status = ERR_NOT_FOUND;
    if (status == 0) {
        queue_forget(context->api->queue, &context->id, on_forgotten, context);
        return;
    }
    context_fail_status(context, status);
    context_release(context);
}

void handle_job_forget(struct context *context)
{
    if (!context_take_id(context))
        return;
    context_hold(context);
    queue_get(context->api->queue, &context->id, false, on_job_to_forget, context);
}

/* ---- retry ----------------------------------------------------------------------------------- */

static void on_retried(struct context *context, const struct submitted *submitted)
{
    const struct slice text = {.bytes = submitted->text, .size = submitted->text_size};

    submit_answer_accepted(context, text, false, NULL);
}

static bool may_retry(const struct job *job)
{
    return job->state == JOB_FAILED || job->state == JOB_EXPIRED || job->state == JOB_CANCELLED;
}

/* The same work with the same terms, for the same tenant; its time starts anew. */
static void retry_job(struct context *context, const struct job *job)
{
    char retry_of[JOB_ID_TEXT_SIZE + 1];
    struct access access = context->access;
    struct draft draft;

    if (!slice_is(job->tenant_name, access.tenant))
        auth_act_for(context->api->auth, job, &access);
    job_id_text(&job->id, retry_of);
    const struct submit_options options = {.access = &access,
                                           .request_id = context_own_request_id(context),
                                           .retry_of = slice_of(retry_of)};
    draft_init(&draft);
    draft.endpoint = job->endpoint;
    draft.body = job->payload;
    draft.model = job->route;
    draft.priority = job->priority;
    draft.max_attempts = job->max_attempts;
    draft.timeout_ms = job->timeout_ms;
    if (job->expires_at_ms > job->created_at_ms)
        draft.expires_in_ms = job->expires_at_ms - job->created_at_ms;
    if (job->metadata.size > 0 &&
        buf_append(&draft.metadata, job->metadata.bytes, job->metadata.size) < 0)
        context_fail(context, PROBLEM_OVERLOADED, NULL, "There is no memory for this request.");
    else
        submit_for(context, &draft, &options, on_retried);
    draft_deinit(&draft);
}

static void on_request(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == ERR_NOT_FOUND || (status == 0 && !job->payload.bytes))
        context_fail(context, PROBLEM_BODY_GONE, NULL,
                     "The body of this job has been deleted; submit it anew.");
    else if (status < 0)
        context_fail_status(context, status);
    else if (context->request)
        retry_job(context, job);
    context_release(context);
}

static void on_job_to_retry(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0 && !context_may_see(context, job))
        status = ERR_NOT_FOUND;
    if (status == 0 && may_retry(job)) {
        queue_get_request(context->api->queue, &context->id, on_request, context);
        return;
    }
    if (status < 0)
        context_fail_status(context, status);
    else
        context_fail(context, PROBLEM_NOT_RETRYABLE, NULL,
                     "Only a failed, expired or cancelled job can be retried; this one is %s.",
                     job_state_word(job->state));
    context_release(context);
}

void handle_job_retry(struct context *context)
{
    if (!context_take_id(context))
        return;
    context_hold(context);
    queue_get(context->api->queue, &context->id, false, on_job_to_retry, context);
}
