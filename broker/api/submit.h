/* From a checked draft to a job in the queue: what the native API, bulk lines, retries and the
 * dialects share. */
#ifndef PENSTOCK_API_SUBMIT_H
#define PENSTOCK_API_SUBMIT_H

#include "broker/api/context.h"
#include "broker/api/validate.h"
#include "common/queue/queue.h"

struct submit_options {
    const struct access *access;
    struct slice request_id;
    struct slice retry_of; /* empty: a first try */
    /* Not NULL: this process follows the job from the start, and the context watches it. */
    void (*on_change)(struct watch *watch, const struct job *job);
};

/* A job ready for queue_submit; slices point into the draft and the options. Do not copy it:
 * submission points into it. */
struct prepared {
    struct job job;
    uint8_t key_hash[32];
    uint8_t body_hash[32];
    struct queue_submission submission;
};

void submit_prepare(struct api *api, const struct draft *draft,
                    const struct submit_options *options, struct prepared *out);
/* The model's route: what an alias stands for, else the name itself. */
struct slice submit_route(const struct settings *settings, struct slice model);
/* Hash by which an idempotency key is known: of tenant and key. */
void submit_key_hash(const struct access *access, struct slice key, uint8_t out[32]);
/* What a submit that failed means; id is the job that may exist. */
void submit_problem(const struct queue_submit_result *result, const struct job_id *id,
                    struct problem *out);

/* ---- one job of one request ---------------------------------------------------------------- */

struct submitted {
    const struct queue_submit_result *result; /* status 0 */
    const char *text; /* the job object as of the submit; NULL on a replay */
    size_t text_size;
};
/* The client may be gone: context->request is NULL then. context->id is the job's. */
typedef void (*submitted_fn)(struct context *context, const struct submitted *submitted);
/* Asks the tenant's limits, then submits. Refusals are answered here and on_submitted does not run;
 * nor when the usage has to be asked for first: then context->route->run is called again later. */
void submit_for(struct context *context, const struct draft *draft,
                const struct submit_options *options, submitted_fn on_submitted);
/* Whether the limits let a job of that size in; otherwise refused, or run again later as above. */
bool submit_admit(struct context *context, int64_t bytes);

/* ---- answers ------------------------------------------------------------------------------- */

/* 202 with Location. prefer_applied NULL: none. */
void submit_answer_accepted(struct context *context, struct slice job_text, bool is_replay,
                            const char *prefer_applied);

#endif
