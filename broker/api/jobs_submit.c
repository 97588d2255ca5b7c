/* POST /v1/jobs */
#include "broker/api/handlers.h"
#include "broker/api/submit.h"

static void on_first(int status, const struct job *job, void *arg)
{
    struct context *context = arg;
    struct buf *out = context_out(context);

    if (status == ERR_NOT_FOUND)
        context_fail(context, PROBLEM_RESULT_GONE, "idempotency_key",
                     "The first job of this idempotency key has ended and is forgotten.");
    else if (status < 0)
        context_fail_status(context, status);
    else if (put_job(context, job, out) < 0)
        context_fail(context, PROBLEM_INTERNAL, NULL, "The job could not be written out.");
    else
        submit_answer_accepted(context, (struct slice){.bytes = out->data, .size = out->size}, true,
                               NULL);
    context_release(context);
}

static void on_submitted(struct context *context, const struct submitted *submitted)
{
    if (!context->request)
        return;
    if (!submitted->text) {
        context_hold(context);
        queue_get(context->api->queue, &context->id, false, on_first, context);
        return;
    }
    submit_answer_accepted(context,
                           (struct slice){.bytes = submitted->text, .size = submitted->text_size},
                           false, NULL);
}

void handle_job_submit(struct context *context)
{
    const struct submit_options options = {.access = &context->access,
                                           .request_id = context_own_request_id(context)};
    struct draft draft;
    struct problem problem;
    struct jdoc *doc = NULL;

    draft_init(&draft);
    if (validate_document(http_request_body(context->request), &doc, &problem) < 0 ||
        validate_job(doc, &draft, &problem) < 0 ||
        validate_idempotency_key(http_request_header(context->request, "Idempotency-Key"), &draft,
                                 &problem) < 0)
        context_refuse(context, &problem);
    else
        submit_for(context, &draft, &options, on_submitted);
    draft_deinit(&draft);
    jdoc_destroy(doc);
}
