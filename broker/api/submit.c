#include "broker/api/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/api/render.h"
#include "broker/api/samples.h"
#include "common/base/digest.h"
#include "common/base/failpoint.h"
#include "common/base/metrics.h"

/* ---- building -------------------------------------------------------------------------------- */

struct slice submit_route(const struct settings *settings, struct slice model)
{
    for (unsigned i = 0; i < settings->aliases_count; i++)
        if (slice_is(model, settings->aliases[i].from))
            return slice_of(settings->aliases[i].to);
    return model;
}

void submit_key_hash(const struct access *access, struct slice key, uint8_t out[32])
{
    char text[LIMIT_TENANT_BYTES + 1 + LIMIT_IDEMPOTENCY_KEY_BYTES + 16];

    CHECK(key.size <= LIMIT_IDEMPOTENCY_KEY_BYTES + 15);
    memcpy(text, access->tenant, access->tenant_size);
    text[access->tenant_size] = '\0';
    memcpy(text + access->tenant_size + 1, key.bytes, key.size);
    digest_sha256(text, access->tenant_size + 1 + key.size, out);
}

/* Two requests are the same when they ask for the same job, whichever way they came. */
static void hash_draft(const struct draft *draft, uint8_t out[32])
{
    uint8_t parts[32 + 32 + 8 * 6];
    const int64_t numbers[6] = {
        draft->endpoint,   draft->has_priority ? (int64_t)draft->priority : -1,
        draft->delay_ms,   draft->expires_in_ms,
        draft->timeout_ms, draft->max_attempts};

    _Static_assert(sizeof(parts) == 64 + sizeof(numbers), "all numbers are hashed");
    digest_sha256(draft->body.bytes, draft->body.size, parts);
    digest_sha256(draft->metadata.data ? draft->metadata.data : "", draft->metadata.size,
                  parts + 32);
    memcpy(parts + 64, numbers, sizeof(numbers));
    digest_sha256(parts, sizeof(parts), out);
}

void submit_prepare(struct api *api, const struct draft *draft,
                    const struct submit_options *options, struct prepared *out)
{
    int64_t now_ms = queue_now_ms(api->queue);
    struct job *job = &out->job;
    uint8_t random[15];

    *job = (struct job){
        .priority = draft->priority,
        .endpoint = draft->endpoint,
        .max_attempts = draft->max_attempts,
        .created_at_ms = now_ms,
        .expires_at_ms = now_ms + draft->expires_in_ms,
        .result_ttl_s = (uint32_t)api->settings->retention.result_ttl_s,
        .timeout_ms = (uint32_t)draft->timeout_ms,
        .route = submit_route(api->settings, draft->model),
        .tenant_name = {.bytes = options->access->tenant, .size = options->access->tenant_size},
        .metadata = {.bytes = draft->metadata.data, .size = draft->metadata.size},
        .request_id = options->request_id,
        .retry_of = options->retry_of,
        .payload = draft->body,
        .payload_size = (uint32_t)draft->body.size,
    };
    memcpy(job->tenant, options->access->tenant_hash, JOB_TENANT_SIZE);
    job_enter(job, draft->delay_ms > 0 ? now_ms + draft->delay_ms : 0);

    out->submission = (struct queue_submission){
        .job = job, .weight = options->access->weight, .hold = options->on_change != NULL};
    unsigned shard;
    if (draft->idempotency_key_size > 0) {
        struct slice key = {.bytes = draft->idempotency_key, .size = draft->idempotency_key_size};
        submit_key_hash(options->access, key, out->key_hash);
        hash_draft(draft, out->body_hash);
        out->submission.key_hash = out->key_hash;
        out->submission.body_hash = out->body_hash;
        shard = queue_shard_for_key(api->queue, job->tenant, out->key_hash);
    } else {
        shard = queue_shard_for_next(api->queue);
    }
    digest_random(random, sizeof(random));
    job->id = job_id_make(shard, now_ms, random);
}

static void full_problem(const char *reason, struct problem *out)
{
    if (reason && strcmp(reason, "too_many_models") == 0)
        problem_set(out, PROBLEM_TOO_MANY_MODELS, "model",
                    "Too many different models have jobs right now.");
    else if (reason && strcmp(reason, "queue_full") == 0)
        problem_set(out, PROBLEM_QUEUE_FULL, NULL, "The queue holds as many jobs as it may.");
    else
        problem_from_status(out, ERR_FULL);
}

void submit_problem(const struct queue_submit_result *result, const struct job_id *id,
                    struct problem *out)
{
    if (result->status == ERR_CONFLICT) {
        problem_set(out, PROBLEM_IDEMPOTENCY, "idempotency_key",
                    "This idempotency key was used with another request.");
    } else if (result->status == ERR_FULL) {
        full_problem(result->reason, out);
    } else {
        problem_from_status(out, result->status);
        if (out->kind == PROBLEM_OUTCOME_UNKNOWN) {
            problem_set(out, PROBLEM_OUTCOME_UNKNOWN, NULL,
                        "The store did not answer in time; the job may exist.");
            job_id_text(id, out->job_id);
        }
    }
}

/* ---- one job of one request ------------------------------------------------------------------ */

/* Kept until the queue answers; the context is held meanwhile. */
struct submitting {
    struct context *context;
    submitted_fn on_submitted;
    int64_t bytes;
    size_t text_size;
    char text[]; /* the job object */
};

static void on_submit(const struct queue_submit_result *result, void *arg)
{
    struct submitting *submitting = arg;
    struct context *context = submitting->context;
    struct problem problem;

    if (result->status < 0 || result->is_replay)
        auth_give_back(context->api->auth, &context->access, submitting->bytes);
    if (result->status < 0) {
        metrics_add(METRIC_JOBS_REFUSED, 1);
        submit_problem(result, &context->id, &problem);
        context->on_left = NULL; /* there is no job to cancel */
        context_unwatch(context);
        timer_stop(&context->timer);
        context_refuse(context, &problem);
    } else {
        FAILPOINT("broker-after-commit");
        metrics_add(METRIC_JOBS_SUBMITTED, result->is_replay ? 0 : 1);
        if (result->is_replay)
            context_unwatch(context); /* the job it watched never came to be */
        context->id = result->id;
        const struct submitted submitted = {
            .result = result,
            .text = result->is_replay ? NULL : submitting->text,
            .text_size = result->is_replay ? 0 : submitting->text_size,
        };
        submitting->on_submitted(context, &submitted);
    }
    free(submitting);
    context_release(context);
}

static void on_usage(int status, void *arg)
{
    struct context *context = arg;

    if (status < 0)
        context_fail_status(context, status == ERR_UNKNOWN ? ERR_OFFLINE : status);
    else if (context->request)
        context->route->run(context);
    context_release(context);
}

bool submit_admit(struct context *context, int64_t bytes)
{
    struct api *api = context->api;

    switch (auth_admit(api->auth, &context->access, bytes, api->now_mono_ms)) {
    case ADMIT:
        return true;
    case ASK_USAGE:
        context_hold(context);
        auth_refresh(api->auth, &context->access, on_usage, context);
        return false;
    case REFUSE_JOBS:
        context_fail(context, PROBLEM_JOBS_QUOTA, NULL,
                     "The tenant has as many unfinished jobs as it may (%lld).",
                     (long long)context->access.limits.jobs_max);
        break;
    case REFUSE_BYTES:
        context_fail(context, PROBLEM_BYTES_QUOTA, NULL,
                     "The tenant has as many bytes of unfinished jobs as it may (%lld).",
                     (long long)context->access.limits.bytes_max);
        break;
    }
    metrics_add(METRIC_JOBS_REFUSED, 1);
    return false;
}

void submit_for(struct context *context, const struct draft *draft,
                const struct submit_options *options, submitted_fn on_submitted)
{
    struct api *api = context->api;
    int64_t bytes = (int64_t)draft->body.size;
    struct job_view view = {.with_tenant = context->access.role == KEY_ADMIN};
    struct prepared prepared;

    if (!submit_admit(context, bytes))
        return;
    submit_prepare(api, draft, options, &prepared);
    context->id = prepared.job.id;
    samples_view(api->samples, &prepared.job, &view);
    struct buf *out = context_out(context);
    struct submitting *submitting = NULL;
    if (render_job(out, &prepared.job, &view) == 0)
        submitting = malloc(sizeof(*submitting) + out->size);
    if (!submitting) {
        auth_give_back(api->auth, &context->access, bytes);
        context_fail(context, PROBLEM_OVERLOADED, NULL, "There is no memory for this request.");
        return;
    }
    *submitting = (struct submitting){
        .context = context, .on_submitted = on_submitted, .bytes = bytes, .text_size = out->size};
    memcpy(submitting->text, out->data, out->size);
    context_hold(context);
    if (options->on_change)
        context_watch(context, options->on_change);
    queue_submit(api->queue, &prepared.submission, on_submit, submitting);
}

/* ---- answers --------------------------------------------------------------------------------- */

void submit_answer_accepted(struct context *context, struct slice job_text, bool is_replay,
                            const char *prefer_applied)
{
    char location[16 + JOB_ID_TEXT_SIZE] = "/v1/jobs/";
    struct reply reply = {.status = 202, .content_type = "application/json", .body = job_text};

    job_id_text(&context->id, location + strlen(location));
    reply_add(&reply, "Location", slice_of(location));
    if (is_replay)
        reply_add(&reply, "Idempotent-Replayed", slice_of("true"));
    if (prefer_applied)
        reply_add(&reply, "Preference-Applied", slice_of(prefer_applied));
    context_answer(context, &reply);
}
