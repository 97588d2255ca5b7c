/* The handlers, one family per file, as routes.c names them. Each runs once the request is whole,
 * and answers then or later. */
#ifndef PENSTOCK_API_HANDLERS_H
#define PENSTOCK_API_HANDLERS_H

#include "broker/api/context.h"
#include "broker/api/render.h"

/* jobs_submit.c, jobs_bulk.c */
void handle_job_submit(struct context *context);
void begin_jobs_bulk(struct context *context);
void handle_jobs_bulk(struct context *context);
/* jobs_get.c, jobs_query.c, jobs_result.c, jobs_events.c */
void handle_job_get(struct context *context);
void handle_jobs_query(struct context *context);
void handle_job_result(struct context *context);
void handle_job_events(struct context *context);
/* jobs_act.c */
void handle_job_cancel(struct context *context);
void handle_job_retry(struct context *context);
void handle_job_forget(struct context *context);
/* jobs_list.c */
void handle_jobs_list(struct context *context);
/* fleet.c */
void handle_queues(struct context *context);
void handle_queue(struct context *context);
void handle_queue_pause(struct context *context);
void handle_queue_resume(struct context *context);
void handle_upstreams(struct context *context);
void handle_upstream_pause(struct context *context);
void handle_upstream_resume(struct context *context);
void handle_workers(struct context *context);
void handle_stats(struct context *context);
void handle_models(struct context *context);
void handle_model(struct context *context);
/* openai_sync.c */
void handle_chat(struct context *context);
void handle_completions(struct context *context);
void handle_embeddings(struct context *context);
/* health.c */
void handle_alive(struct context *context);
void handle_ready(struct context *context);

/* jobs_get.c, shared: the job object into out, from the cache or the record; finished ones go into
 * the cache. */
MUST_CHECK int put_job(struct context *context, const struct job *job, struct buf *out);
/* The job object as answer, with ETag, or 304. */
void answer_job(struct context *context, const struct job *job, int http_status);
/* From the cache into out, when the asker may see it; sets etag. false: not there, or not his. */
bool put_cached_job(struct context *context, const struct job_id *id, struct buf *out,
                    char etag[ETAG_SIZE]);

/* jobs_result.c, shared: whether the result of an ended job is not to be had any more. */
bool job_result_is_gone(const struct context *context, const struct job *job);

#endif
