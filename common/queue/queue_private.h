/* Inside of struct queue, shared by queue*.c and by nobody else. */
#ifndef PENSTOCK_QUEUE_QUEUE_PRIVATE_H
#define PENSTOCK_QUEUE_QUEUE_PRIVATE_H

#include <uv.h>

#include "common/job/job_codec.h"
#include "common/queue/queue.h"
#include "common/queue/queue_fleet.h"
#include "common/queue/queue_functions.h"
#include "common/queue/queue_keys.h"
#include "common/queue/queue_map.h"
#include "common/queue/queue_stand.h"
#include "common/queue/queue_store.h"
#include "common/queue/queue_worker.h"
#include "common/queue/redis_link.h"

enum {
    QUEUE_SHARDS_MAX = 1024,
    QUEUE_LAYOUT = 2, /* of the keys; records have a schema of their own */
    QUEUE_SELF_SIZE = 8,
    QUEUE_HELD_BYTES_MAX = 64 << 20,    /* one record, and submits that are gathered */
    QUEUE_COMMIT_BYTES_MAX = 512 << 20, /* commits that are not answered; claims stop long before */
    QUEUE_FOLLOWED_MAX = 200000,
    QUEUE_LEASES_MAX = 1 << 20, /* more than worker.inflight_max may be */
    QUEUE_TENANTS_KNOWN = 256,
};

/* Something that waits for an answer. on_reply runs once for each command sent with it, or once by
 * queue_op_fail. status: 0 with a reply that is no error; else reply is NULL or the error. */
struct queue_op {
    struct queue *queue;
    struct queue_op *next;
    void (*on_reply)(struct queue_op *op, int status, const struct redisReply *reply);
    int status;
};

/* First-in first-out list of ops. */
struct queue_ops {
    struct queue_op *head, *tail;
    unsigned count;
    size_t bytes;
};

struct queue_gather {
    struct queue_ops ops;
    int64_t since_mono_ms; /* of the oldest */
    unsigned flights;      /* unanswered flushes */
    unsigned jobs_max;
    int wait_ms;
};

struct queue {
    struct uv_loop_s *loop;
    struct redis_url url;
    enum settings_durability durability;
    unsigned shards;
    int64_t routes_max, jobs_max, bytes_max;
    int lease_ms;
    bool must_subscribe;
    char self_id[QUEUE_SELF_SIZE + 1];
    struct queue_functions functions;
    struct queue_key *clocks; /* one a shard: KEYS of the functions */

    struct redis_link *commands;
    struct redis_link *messages; /* NULL without must_subscribe */
    bool is_listening;
    unsigned links_open;
    struct queue_store store;
    struct queue_op sweep_op;
    bool is_sweeping;
    bool does_sweep; /* queue_sweep_start */
    bool was_ready;
    bool is_closing;
    int64_t sweep_at_mono_ms;

    uv_idle_t turn;    /* active: something is to be done at the end of this turn */
    uv_timer_t second; /* probe, sweep, refresh */
    uv_timer_t gathering;
    uv_timer_t renewing;
    unsigned handles_open;
    struct queue_ops failed; /* callbacks that are due without an answer */

    struct queue_gather submits;
    unsigned next_shard;
    char tenants_known[QUEUE_TENANTS_KNOWN][JOB_TENANT_SIZE];
    unsigned tenants_known_count;

    struct queue_gather commits[4]; /* finish, fail, retry, release */
    size_t commit_bytes;            /* held in all of them, in flight too */
    uint64_t commit_pause_until;    /* after a refusal */

    struct queue_map followed;
    unsigned refresh_part;
    int64_t refresh_at_mono_ms;
    queue_change_fn on_change;
    void *on_change_arg;

    struct queue_map leases;
    bool is_claiming;
    unsigned claims_open; /* that one, and what was handed and is not all here yet */
    bool is_renewing;
    bool missed_cancel; /* a notice came for a job that one of these may be bringing */
    struct queue_stand stand;
    int64_t renewed_boot_ms;
    unsigned claim_shard; /* looked at first by the next claim */
    queue_lost_fn on_lost;
    void *on_lost_arg;
    struct queue_worker_events events;

    void (*on_health)(void *arg);
    void *on_health_arg;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* ---- queue.c ------------------------------------------------------------------------ */

/* Memory for ops: small, so running out of it ends the process and leases bring the jobs back. */
void *queue_alloc(size_t size);
void queue_ops_push(struct queue_ops *ops, struct queue_op *op);
struct queue_op *queue_ops_pop(struct queue_ops *ops);
void queue_want_turn(struct queue *queue);
void queue_want_turn_in(struct queue *queue, uint64_t ms);
/* Calls op->on_reply(op, status, NULL) at the end of the turn. */
void queue_op_fail(struct queue *queue, struct queue_op *op, int status);
/* 0, or why nothing can be sent now. Reads go on while the store is unfit, as long as it is the one
 * we know. */
MUST_CHECK int queue_can_write(const struct queue *queue);
MUST_CHECK int queue_can_read(const struct queue *queue);
/* reply callback for redis_link: arg is a struct queue_op. */
void queue_on_reply(int status, const struct redisReply *reply, void *arg);
/* Meaning of an error reply; tells the store when it says something about it. */
int queue_error_status(struct queue *queue, const struct redisReply *reply);

/* A call of a function: begin, argument …, redis_link_end by queue_call_end. */
void queue_call_begin(struct queue *queue, enum queue_verb verb, const unsigned *shards,
                      unsigned shards_count, unsigned arguments);
void queue_call_end(struct queue *queue, struct queue_op *op);
/* The same for all shards, beginning with `first`. */
void queue_call_begin_all(struct queue *queue, enum queue_verb verb, unsigned first,
                          unsigned arguments);

/* ---- queue_store.c ------------------------------------------------------------------ */

void queue_store_on_up(struct queue *queue);
void queue_store_on_down(struct queue *queue, const char *code, const char *why);
void queue_store_suspect(struct queue *queue, const struct redisReply *reply);
void queue_store_second(struct queue *queue, int64_t now_mono_ms);
void queue_store_on_sweep(struct queue_op *op, int status, const struct redisReply *reply);
void queue_health_changed(struct queue *queue);
/* Jobs that a newer version wrote were met: counted, and said in the log once a minute. */
void queue_note_newer(struct queue *queue, uint64_t count);
bool queue_is_ready(const struct queue *queue);

/* ---- the others --------------------------------------------------------------------- */

void queue_sweep_send(struct queue *queue);
void queue_sweep_done(struct queue *queue, const struct redisReply *reply);
void queue_sweep_soon(struct queue *queue, int64_t in_ms);
void queue_submit_flush(struct queue *queue);
void queue_commit_flush(struct queue *queue);
void queue_commit_close(struct queue *queue);
void queue_follow_on_ready(struct queue *queue);
void queue_follow_second(struct queue *queue);
void queue_on_message(const struct redisReply *reply, void *arg);
/* Held submits: the entry exists before the job does, so that no change is missed. */
void queue_follow_held(struct queue *queue, const struct job_id *id);
void queue_follow_held_done(struct queue *queue, const struct job_id *id, bool is_kept);
void queue_lease_add(struct queue *queue, const struct job *job, int64_t claimed_boot_ms);
/* queue_recover_child for the leases of one claim, nobody to blame. */
void queue_recover_token(struct queue *queue, const uint8_t token[JOB_TOKEN_SIZE],
                         queue_done_fn on_done, void *arg);
/* A message to this child that begins with 'j': what its standing claim has brought. */
void queue_on_handed(struct queue *queue, const char *bytes, size_t size);
/* False: it was not held. */
bool queue_lease_drop(struct queue *queue, const struct job_id *id, unsigned claim);
/* What was cancelled or lost unheard is learnt from the next round: let it come at once. */
void queue_renew_soon(struct queue *queue);
void queue_member_make(const struct job *job, char out[JOB_MEMBER_SIZE]);

#endif
