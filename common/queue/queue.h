/* The queue over Redis: one verb, one function, one atomic step.
 *
 * A struct queue belongs to one libuv loop. It keeps one command connection and one subscription,
 * reconnects by itself for ever with full jitter, and puts a deadline on connecting and on every
 * command. Nothing here blocks; no callback runs before the call that took it has returned; every
 * callback runs exactly once. Bytes passed in are borrowed for the call (they are copied into the
 * output buffer); bytes passed to callbacks are borrowed for the callback.
 *
 * Status in callbacks: 0 done; ERR_OFFLINE / ERR_UNFIT / ERR_BUSY nothing was sent, nothing was
 * written; ERR_UNKNOWN it was sent and no answer came (a write may have happened); ERR_FULL the
 * store refused for memory; ERR_PROTOCOL a bug.
 *
 * Flushes go out at the end of the loop turn; while an earlier flush is unanswered, commands are
 * gathered (submits <= 1 ms or LIMIT_BATCH_IN, commits <= 2 ms or LIMIT_BATCH_OUT). */
#ifndef PENSTOCK_QUEUE_QUEUE_H
#define PENSTOCK_QUEUE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/job/job.h"

struct uv_loop_s;
struct queue;

struct queue_options {
    struct uv_loop_s *loop;
    const char *url; /* redis://, rediss://, unix:// */
    enum settings_durability durability;
    unsigned shards;
    int64_t routes_max; /* live routes; 0 = no limit */
    int64_t jobs_max;   /* live jobs in all; 0 = by memory only */
    int64_t bytes_max;
    int lease_ms;
    const char *name;    /* "broker", "worker", …: CLIENT SETNAME */
    bool must_subscribe; /* false for one-shot tools */
};

MUST_CHECK int queue_create(const struct queue_options *options, struct queue **out,
                            struct error_text *why);
/* Ends with on_closed (memory is freed after it); pending callbacks run first with ERR_UNKNOWN. */
void queue_close(struct queue *queue, void (*on_closed)(void *arg), void *arg);

struct queue_health {
    bool is_ready;           /* claims and submits are possible */
    const char *reason;      /* constant code, e.g. "redis_unreachable", "" when ready */
    const char *detail;      /* sentence for people */
    int64_t last_ok_mono_ms; /* last answered command */
    char store_id[33];
    char redis_version[32];
    int64_t memory_used, memory_max; /* bytes, 0 = no maximum */
    double round_trip_ms;            /* of the last ping */
};
void queue_health(const struct queue *queue, struct queue_health *out);
void queue_on_health(struct queue *queue, void (*on_change)(void *arg), void *arg);
/* Redis' wall clock as known here (local clock + measured offset). */
int64_t queue_now_ms(const struct queue *queue);
/* 8 base32 characters, drawn at creation: the home of held-open requests and the child's id. */
const char *queue_self_id(const struct queue *queue);
/* All jobs without a key that are submitted within one flush go to one shard. */
unsigned queue_shard_for_next(const struct queue *queue);
unsigned queue_shard_for_key(const struct queue *queue, const char tenant[JOB_TENANT_SIZE],
                             const uint8_t key_hash[32]);

/* ---- submit: (nothing) -> queued or scheduled --------------------------------------- */

struct queue_submit_result {
    int status; /* 0, or as above; ERR_CONFLICT: same key, other body; ERR_FULL: see reason */
    const char *reason; /* with ERR_FULL: "too_many_models", "queue_full", "store_full" */
    bool is_replay;     /* id is the earlier job of the same idempotency key */
    struct job_id id;
};
typedef void (*queue_submit_fn)(const struct queue_submit_result *result, void *arg);

/* job: a full queued or scheduled (due_at_ms) job with payload; pieces are made here when it is
 * larger than LIMIT_INLINE_BYTES. key_hash (32 bytes, or NULL) names the idempotency key, body_hash
 * what must be equal on a replay. weight: the tenant's share. home is set from queue_self_id when
 * hold is true. */
struct queue_submission {
    const struct job *job;
    const uint8_t *key_hash;
    const uint8_t *body_hash;
    unsigned weight; /* 1.. */
    bool hold;
};
void queue_submit(struct queue *queue, const struct queue_submission *submission,
                  queue_submit_fn on_submit, void *arg);

/* ---- reads -------------------------------------------------------------------------- */

/* status ERR_NOT_FOUND, ERR_CORRUPT, ERR_NEWER besides the common ones. job is NULL unless status
 * is 0. Attempts of live jobs are filled in. With want_payload, payload is loaded whole (pieces
 * joined) and its checksum verified. */
typedef void (*queue_job_fn)(int status, const struct job *job, void *arg);
void queue_get(struct queue *queue, const struct job_id *id, bool want_payload, queue_job_fn on_job,
               void *arg);

/* queue_get for many jobs at once: one read each, and the payload comes only where the whole record
 * fits into LIMIT_SMALL_RECORD_BYTES; payload.bytes is NULL elsewhere. */
void queue_get_small(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg);

/* What a failed, cancelled or expired job was asked to do, for a retry: the job as it was before it
 * ended, with payload = its request body. Kept as long as its result would be. ERR_NOT_FOUND: gone,
 * forgotten, or never kept (succeeded). */
void queue_get_request(struct queue *queue, const struct job_id *id, queue_job_fn on_job,
                       void *arg);

struct queue_list_query {
    const char *tenant;  /* JOB_TENANT_SIZE characters, or NULL = all tenants */
    struct job_id after; /* core[0] == 0: from the newest */
    unsigned limit;      /* ids wanted, 1..1000 */
};
/* Newest first; next is the cursor to go on (core[0] == 0 at the end). The caller reads and filters
 * the jobs. */
typedef void (*queue_ids_fn)(int status, const struct job_id *ids, unsigned count,
                             const struct job_id *next, void *arg);
void queue_list(struct queue *queue, const struct queue_list_query *query, queue_ids_fn on_ids,
                void *arg);

/* ---- following ---------------------------------------------------------------------- */

/* Called for every change of a job that this process holds open or follows: the job as it is now
 * (head, and payload when it was small enough to be carried: job->payload.bytes may be NULL). After
 * a reconnect it is called for what changed meanwhile. Sequence never goes back. Of held jobs that
 * nobody follows only the end is told. */
typedef void (*queue_change_fn)(const struct job *job, void *arg);
void queue_on_change(struct queue *queue, queue_change_fn on_change, void *arg);
/* Registers this process for id and answers with its state now; refreshed until queue_unfollow.
 * Counted from the call on, whatever its callback says: n follows need n unfollows. Held submits
 * are followed the same way from the call of queue_submit (count 1, of the submitted id, also when
 * they failed or were a replay). Changes may be told before the callback runs. */
void queue_follow(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg);
void queue_unfollow(struct queue *queue, const struct job_id *id);
/* Recorded changes with sequence > after, oldest first, from the job's own history (kept only while
 * followed). Calls on_job for each, then once with job NULL and status 0, or ERR_NOT_FOUND when
 * changes right after `after` are gone: then start with the job as it is. */
void queue_history(struct queue *queue, const struct job_id *id, uint32_t after,
                   queue_job_fn on_job, void *arg);

/* ---- verbs on jobs ------------------------------------------------------------------ */

/* cancel: queued, scheduled, blocked, running -> cancelled, at once; the worker is told. on_job
 * gets the job afterwards; ERR_STATE with the job when it had ended before. retry of ended jobs is
 * a new submit by the caller. */
void queue_cancel(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg);
/* Deletes body and result of an ended job; the record stays until its time. ERR_STATE while live.
 */
void queue_forget(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg);

/* ---- worker side: see queue_worker.h; fleet and routes: see queue_fleet.h ----------- */

#endif
