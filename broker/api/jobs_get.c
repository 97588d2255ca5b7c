/* GET /v1/jobs/{id}, with ?wait= and ETag. */
#include <string.h>

#include "broker/api/cache.h"
#include "broker/api/handlers.h"
#include "broker/api/samples.h"
#include "broker/api/validate.h"

/* ---- the job object -------------------------------------------------------------------------- */

/* Jobs that ended outside a worker keep their attempts beside the record: messages come without
 * them. */
static bool is_whole(const struct job *job)
{
    return job->attempt == 0 || job->attempts_count > 0;
}

static int put_finished(struct context *context, const struct job *job, struct buf *out)
{
    const struct job_view view = {.with_tenant = false};
    size_t before = out->size;
    int status = render_job(out, job, &view);

    if (status < 0)
        return status;
    if (is_whole(job))
        cache_put(context->api->cache, job,
                  (struct slice){.bytes = out->data + before, .size = out->size - before},
                  queue_now_ms(context->api->queue));
    if (context->access.role == KEY_ADMIN)
        status = render_add_tenant(out, job->tenant_name);
    return status;
}

int put_job(struct context *context, const struct job *job, struct buf *out)
{
    struct job_view view = {.with_tenant = context->access.role == KEY_ADMIN};

    if (job_state_is_final(job->state))
        return put_finished(context, job, out);
    samples_view(context->api->samples, job, &view);
    return render_job(out, job, &view);
}

bool put_cached_job(struct context *context, const struct job_id *id, struct buf *out,
                    char etag[ETAG_SIZE])
{
    struct api *api = context->api;
    bool is_admin = context->access.role == KEY_ADMIN;
    struct cached_job cached;

    if (!cache_find(api->cache, id, queue_now_ms(api->queue), &cached))
        return false;
    if (!is_admin && !slice_is(cached.tenant_name, context->access.tenant))
        return false;
    size_t before = out->size;
    int status = buf_append(out, cached.text.bytes, cached.text.size);
    if (status == 0 && is_admin)
        status = render_add_tenant(out, cached.tenant_name);
    if (status < 0) {
        out->size = before;
        return false;
    }
    memcpy(etag, cached.etag, ETAG_SIZE);
    return true;
}

/* Weak comparison (RFC 9110, 13.1.2): tags in a list, "W/" aside. */
static bool is_in_tags(struct slice header, const char *etag)
{
    const char *wanted = etag + 2;
    size_t size = strlen(wanted);

    if (header.size == 1 && header.bytes[0] == '*')
        return true;
    for (size_t at = 0; at + size <= header.size; at++)
        if (memcmp(header.bytes + at, wanted, size) == 0)
            return true;
    return false;
}

static void answer_tagged(struct context *context, int http_status, const char *etag)
{
    const struct buf *out = &context->api->out;
    struct reply reply = {.status = http_status};

    if (!context->request)
        return;
    reply_add(&reply, "ETag", slice_of(etag));
    struct slice tags = http_request_header(context->request, "If-None-Match");
    if (http_status == 200 && tags.bytes && is_in_tags(tags, etag)) {
        reply.status = 304;
    } else {
        reply.content_type = "application/json";
        reply.body = (struct slice){.bytes = out->data, .size = out->size};
    }
    context_answer(context, &reply);
}

void answer_job(struct context *context, const struct job *job, int http_status)
{
    struct buf *out = context_out(context);
    char etag[ETAG_SIZE];

    if (put_job(context, job, out) < 0) {
        context_fail(context, PROBLEM_INTERNAL, NULL, "The job could not be written out.");
        return;
    }
    render_etag(job, etag);
    answer_tagged(context, http_status, etag);
}

/* ---- one job --------------------------------------------------------------------------------- */

static void answer_outcome(struct context *context, int status, const struct job *job)
{
    if (status == 0 && !context_may_see(context, job))
        status = ERR_NOT_FOUND;
    if (status < 0)
        context_fail_status(context, status);
    else
        answer_job(context, job, 200);
}

static void on_job_again(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    answer_outcome(context, status, job);
    context_release(context);
}

static void on_sampled(int status, void *arg)
{
    struct context *context = arg;

    if (status == 0) {
        queue_get(context->api->queue, &context->id, false, on_job_again, context);
        return;
    }
    context_fail_status(context, status);
    context_release(context);
}

/* Whoever looks at a waiting job wants to know why it waits: for that one it is worth a moment. */
static void on_job(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0 && context->request && context_may_see(context, job) &&
        job->state == JOB_QUEUED && !samples_are_recent(context->api->samples)) {
        samples_await(context->api->samples, SAMPLE_CENSUS, on_sampled, context);
        return;
    }
    answer_outcome(context, status, job);
    context_release(context);
}

/* May come before on_followed does, and of a job that is another tenant's. */
static void on_wait_change(struct watch *watch, const struct job *job)
{
    struct context *context = context_of_watch(watch);

    if (!job_state_is_final(job->state) || !context_may_see(context, job))
        return;
    timer_stop(&context->timer);
    context_unwatch(context);
    if (is_whole(job)) {
        answer_job(context, job, 200);
        return;
    }
    context_hold(context);
    queue_get(context->api->queue, &context->id, false, on_job_again, context);
}

/* The time is up: the record as it is now, which also has the attempts. */
static void on_wait_end(struct timer *timer)
{
    struct context *context = context_of_timer(timer);

    context_unwatch(context);
    context_hold(context);
    queue_get(context->api->queue, &context->id, false, on_job, context);
}

static void on_followed(int status, const struct job *job, void *arg)
{
    struct context *context = arg;
    bool is_worth_waiting =
        status == 0 && context_may_see(context, job) && !job_state_is_final(job->state);

    /* Not watching any more: answered, out of time, or gone. */
    if (watch_is_in(&context->watch) && !is_worth_waiting) {
        timer_stop(&context->timer);
        context_unwatch(context);
        answer_outcome(context, status, job);
    }
    context_release(context);
}

void handle_job_get(struct context *context)
{
    struct api *api = context->api;
    struct problem problem;
    char etag[ETAG_SIZE];
    int64_t wait_ms = 0;

    if (!context_take_id(context))
        return;
    if (validate_wait(http_request_query(context->request, "wait"), &wait_ms, &problem) < 0) {
        context_refuse(context, &problem);
        return;
    }
    if (put_cached_job(context, &context->id, context_out(context), etag)) {
        answer_tagged(context, 200, etag);
        return;
    }
    context_hold(context);
    if (wait_ms > 0 && !api->is_stopping) {
        context->is_held = true;
        http_request_mark_held(context->request);
        context_set_timer(context, wait_ms, on_wait_end);
        context_watch(context, on_wait_change);
        queue_follow(api->queue, &context->id, on_followed, context);
    } else {
        queue_get(api->queue, &context->id, false, on_job, context);
    }
}
