/* submit: gathers new jobs for a moment and sends them as MULTI, MSET of the records, one call,
 * EXEC. Bodies do not pass through Lua; a job that is refused takes its record back in the same
 * step. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/digest.h"

enum {
    BATCH_BYTES = 4 << 20, /* a flush ends after the job that reaches this */
    GROUP_SIZE = 43,       /* as functions/submit.lua reads it */
    GROUP_KEYED_SIZE = GROUP_SIZE + 64,
    LANE_SIZE = 1 + JOB_TENANT_SIZE,
    MINUTE_MS = 60 * 1000,
    HOUR_MS = 3600 * 1000,
    GROUP_KEYED = 1,
    GROUP_USUAL_DEADLINE = 2, /* found by the index, a day later */
    WAIT_MS = 500,            /* for a replica's acknowledgement */
};

struct submit {
    struct queue_op op;
    queue_submit_fn on_submit;
    void *arg;
    struct job_id id;
    struct slice route; /* in bytes */
    struct buf bytes;   /* record, then the payload when it goes in pieces */
    size_t record_size;
    unsigned pieces;
    char tenant[JOB_TENANT_SIZE];
    char tenant_name[LIMIT_TENANT_BYTES];
    size_t tenant_name_size;
    char ticket[JOB_TICKET_SIZE];
    char packed_id[JOB_ID_PACKED_SIZE];
    uint8_t hashes[64]; /* of key and body */
    bool has_key;
    unsigned weight;
    int64_t due_at_ms; /* 0: at once */
    int64_t expires_at_ms;
    bool has_usual_deadline;
    int64_t keep_s; /* the index must name it until then */
    int64_t hour;
    size_t live_bytes;
    unsigned group_index; /* in its batch */
    bool is_held;
    struct queue_submit_result result;
};

/* One flush. Its op stands behind each of its commands. */
struct batch {
    struct queue_op op;
    struct queue_ops submits;
    unsigned groups;
    unsigned answers_left;
    int status; /* of the first command that was refused */
    bool waits; /* the last answer is a replica count */
};

static void finish_submit(struct submit *submit)
{
    struct queue *queue = submit->op.queue;

    if (submit->is_held)
        queue_follow_held_done(queue, &submit->id,
                               submit->result.status == 0 && !submit->result.is_replay);
    submit->on_submit(&submit->result, submit->arg);
    buf_deinit(&submit->bytes);
    free(submit);
}

/* Refused before anything was sent. */
static void on_refused(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct submit *submit = (struct submit *)op;

    (void)reply;
    submit->result.status = status;
    if (status == ERR_FULL && !submit->result.reason)
        submit->result.reason = "store_full";
    finish_submit(submit);
}

/* ---- taking a job ------------------------------------------------------------------- */

static char *put(char *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        *at++ = (char)(value >> (8 * i) & 0xff);
    return at;
}

static void note_facts(struct submit *submit, const struct job *job,
                       const struct queue_submission *from, size_t live_bytes)
{
    int64_t expires = job->expires_at_ms;
    int64_t last = expires > 0 ? expires : job->created_at_ms + LIMIT_EXPIRES_MAX_MS;

    submit->weight = from->weight > 0 ? from->weight : 1;
    submit->due_at_ms = job->state == JOB_SCHEDULED ? job->due_at_ms : 0;
    submit->expires_at_ms = expires;
    submit->has_usual_deadline = expires == job_id_at_ms(&job->id) + LIMIT_EXPIRES_DEFAULT_MS;
    submit->keep_s = last / 1000 + job->result_ttl_s + LIMIT_RECORD_AFTER_RESULT_S + 1;
    submit->hour = job_id_at_ms(&job->id) / HOUR_MS;
    submit->live_bytes = live_bytes;
    job_ticket_make(job, submit->ticket);
    job_id_pack(&job->id, submit->packed_id);
    submit->has_key = from->key_hash != NULL;
    if (submit->has_key) {
        memcpy(submit->hashes, from->key_hash, 32);
        memcpy(submit->hashes + 32, from->body_hash, 32);
    }
}

/* Encodes the record and what stands beside it. */
static int take_job(struct queue *queue, struct submit *submit, const struct queue_submission *from)
{
    struct job job = *from->job;
    int status;

    if (from->hold)
        memcpy(job.home, queue->self_id, JOB_HOME_SIZE);
    job.schema = queue->store.schema;
    job.payload_size = (uint32_t)job.payload.size;
    job.pieces = 0;
    job.flags &= ~(unsigned)JOB_FLAG_PIECES;
    if (job.payload.size > LIMIT_INLINE_BYTES) {
        job.flags |= JOB_FLAG_PIECES;
        job.pieces = (unsigned)((job.payload.size + LIMIT_PIECE_BYTES - 1) / LIMIT_PIECE_BYTES);
    }
    if (job.pieces > UINT16_MAX || job.tenant_name.size > LIMIT_TENANT_BYTES)
        return ERR_TOO_BIG;
    buf_init(&submit->bytes, QUEUE_HELD_BYTES_MAX);
    status = job_encode(&job, &submit->bytes);
    if (status < 0)
        return status;
    submit->record_size = submit->bytes.size;
    submit->pieces = job.pieces;
    if (job.pieces > 0)
        status = buf_append(&submit->bytes, job.payload.bytes, job.payload.size);
    if (status < 0)
        return status;
    size_t head = job_head_size(submit->bytes.data, submit->record_size);
    size_t home = from->hold ? (size_t)JOB_HOME_SIZE : 0;
    submit->route.bytes = submit->bytes.data + JOB_HEADER_SIZE + home;
    submit->route.size = job.route.size;
    memcpy(submit->tenant, job.tenant, JOB_TENANT_SIZE);
    if (job.tenant_name.size > 0)
        memcpy(submit->tenant_name, job.tenant_name.bytes, job.tenant_name.size);
    submit->tenant_name_size = job.tenant_name.size;
    note_facts(submit, &job, from, head - home + job.payload.size);
    return 0;
}

void queue_submit(struct queue *queue, const struct queue_submission *submission,
                  queue_submit_fn on_submit, void *arg)
{
    const struct job *job = submission->job;
    struct submit *submit = queue_alloc(sizeof(*submit));
    int status = queue_can_write(queue);

    CHECK(job->state == JOB_QUEUED || job->state == JOB_SCHEDULED);
    CHECK(!submission->key_hash || submission->body_hash);
    submit->op.queue = queue;
    submit->op.on_reply = on_refused;
    submit->on_submit = on_submit;
    submit->arg = arg;
    submit->id = submit->result.id = job->id;
    if (status == 0 && job_id_shard(&job->id) >= queue->shards)
        status = ERR_INVALID;
    if (status == 0 && queue->store.is_nearly_full)
        status = ERR_FULL;
    if (status == 0 && queue->submits.ops.bytes + job->payload.size > QUEUE_HELD_BYTES_MAX)
        status = ERR_BUSY;
    if (status == 0)
        status = take_job(queue, submit, submission);
    if (status < 0) {
        queue_op_fail(queue, &submit->op, status);
        return;
    }
    if (submission->hold) {
        submit->is_held = true;
        queue_follow_held(queue, &submit->id);
    }
    if (queue->submits.ops.count == 0)
        queue->submits.since_mono_ms = clock_mono_ms();
    queue->submits.ops.bytes += submit->bytes.size;
    queue_ops_push(&queue->submits.ops, &submit->op);
    queue_want_turn(queue);
}

/* ---- answers ------------------------------------------------------------------------ */

static void set_result(struct submit *submit, char code, const struct redisReply *earlier)
{
    struct queue_submit_result *result = &submit->result;
    bool is_earlier = code == 'r' || code == 'c';

    result->status = ERR_PROTOCOL;
    if (is_earlier) {
        if (!earlier || earlier->type != REDIS_REPLY_STRING ||
            job_id_parse_core((struct slice){earlier->str, earlier->len}, &result->id) < 0)
            return;
        result->status = code == 'r' ? 0 : ERR_CONFLICT;
        result->is_replay = code == 'r';
    } else if (code == 'k') {
        result->status = 0;
    } else if (code == 'm' || code == 'f') {
        result->status = ERR_FULL;
        result->reason = code == 'm' ? "too_many_models" : "queue_full";
    }
}

/* What the function said of each group. False: it is no such answer. */
static bool read_codes(struct batch *batch, const struct redisReply *reply)
{
    const struct redisReply *codes = reply->elements > 0 ? reply->element[0] : NULL;
    size_t next = 1;

    if (reply->type != REDIS_REPLY_ARRAY || !codes || codes->type != REDIS_REPLY_STRING ||
        codes->len != batch->groups)
        return false;
    for (struct queue_op *op = batch->submits.head; op; op = op->next) {
        char code = codes->str[((struct submit *)op)->group_index];
        const struct redisReply *earlier = NULL;

        if ((code == 'r' || code == 'c') && next < reply->elements)
            earlier = reply->element[next++];
        set_result((struct submit *)op, code, earlier);
    }
    return true;
}

static void fail_batch(struct batch *batch, int status)
{
    for (struct queue_op *op = batch->submits.head; op; op = op->next) {
        struct submit *submit = (struct submit *)op;

        submit->result.status = status;
        submit->result.reason = status == ERR_FULL ? "store_full" : NULL;
    }
}

/* The function failed after MSET ran: nothing names these records, so they go. */
static void take_back(struct batch *batch)
{
    struct queue *queue = batch->op.queue;

    for (struct queue_op *op = batch->submits.head; op; op = op->next) {
        struct submit *submit = (struct submit *)op;

        if (redis_link_can_send(queue->commands) < 0)
            return;
        redis_link_begin(queue->commands, 2 + submit->pieces);
        redis_link_text(queue->commands, "UNLINK");
        for (unsigned i = 0; i <= submit->pieces; i++) {
            struct queue_key key =
                i == 0 ? queue_key_job(&submit->id) : queue_key_body_piece(&submit->id, i - 1);
            redis_link_argument(queue->commands, key.text, key.size);
        }
        redis_link_end(queue->commands, NULL, NULL);
    }
}

static void read_exec(struct batch *batch, int status, const struct redisReply *reply)
{
    struct queue *queue = batch->op.queue;

    if (batch->status < 0)
        status = batch->status;
    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2))
        status = ERR_PROTOCOL;
    if (status == 0 && redis_reply_is_error(reply->element[1])) {
        status = queue_error_status(queue, reply->element[1]);
        take_back(batch);
    } else if (status == 0 && !read_codes(batch, reply->element[1])) {
        status = ERR_PROTOCOL;
    }
    if (status < 0)
        fail_batch(batch, status);
    batch->status = status;
}

static void on_batch_reply(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct batch *batch = (struct batch *)op;
    struct queue *queue = op->queue;
    unsigned exec_at = batch->waits ? 2 : 1; /* answers that are left when EXEC's comes */
    unsigned left = batch->answers_left--;

    if (left > exec_at) {
        if (status < 0 && batch->status == 0)
            batch->status = status;
    } else if (left == exec_at) {
        read_exec(batch, status, reply);
    } else if (batch->status == 0 &&
               (status < 0 || reply->type != REDIS_REPLY_INTEGER || reply->integer < 1)) {
        /* Written here, but no replica has it: the promise does not stand. */
        fail_batch(batch, ERR_UNKNOWN);
    }
    if (batch->answers_left > 0)
        return;
    queue->submits.flights--;
    for (struct queue_op *one = queue_ops_pop(&batch->submits); one;
         one = queue_ops_pop(&batch->submits))
        finish_submit((struct submit *)one);
    free(batch);
    queue_want_turn(queue);
}

/* ---- sending ------------------------------------------------------------------------ */

/* Names of tenants, for lists and reports; each process tells each name once a connection. */
static void tell_tenant(struct queue *queue, const struct submit *submit)
{
    for (unsigned i = 0; i < queue->tenants_known_count; i++)
        if (memcmp(queue->tenants_known[i], submit->tenant, JOB_TENANT_SIZE) == 0)
            return;
    if (queue->tenants_known_count == QUEUE_TENANTS_KNOWN)
        queue->tenants_known_count = 0;
    memcpy(queue->tenants_known[queue->tenants_known_count++], submit->tenant, JOB_TENANT_SIZE);
    redis_link_begin(queue->commands, 4);
    redis_link_text(queue->commands, "HSETNX");
    redis_link_text(queue->commands, QUEUE_KEY_TENANTS);
    redis_link_argument(queue->commands, submit->tenant, JOB_TENANT_SIZE);
    redis_link_argument(queue->commands, submit->tenant_name, submit->tenant_name_size);
    redis_link_end(queue->commands, NULL, NULL);
}

static void send_word(struct batch *batch, const char *word)
{
    redis_link_begin(batch->op.queue->commands, 1);
    redis_link_text(batch->op.queue->commands, word);
    redis_link_end(batch->op.queue->commands, queue_on_reply, batch);
    batch->answers_left++;
}

static void send_records(struct batch *batch)
{
    struct redis_link *link = batch->op.queue->commands;
    unsigned keys = 0;

    for (struct queue_op *op = batch->submits.head; op; op = op->next)
        keys += 1 + ((struct submit *)op)->pieces;
    redis_link_begin(link, 1 + 2 * keys);
    redis_link_text(link, "MSET");
    for (struct queue_op *op = batch->submits.head; op; op = op->next) {
        const struct submit *submit = (const struct submit *)op;
        struct queue_key key = queue_key_job(&submit->id);
        const char *piece = submit->bytes.data + submit->record_size;
        size_t left = submit->bytes.size - submit->record_size;

        redis_link_argument(link, key.text, key.size);
        redis_link_argument(link, submit->bytes.data, submit->record_size);
        for (unsigned i = 0; i < submit->pieces; i++) {
            size_t size = left < LIMIT_PIECE_BYTES ? left : LIMIT_PIECE_BYTES;

            key = queue_key_body_piece(&submit->id, i);
            redis_link_argument(link, key.text, key.size);
            redis_link_argument(link, piece, size);
            piece += size;
            left -= size;
        }
    }
    redis_link_end(link, queue_on_reply, batch);
    batch->answers_left++;
}

/* Would the function write both in the same places? Then it need not look at each. */
static bool is_alike(const struct queue *queue, const struct submit *a, const struct submit *b)
{
    bool has_limits = queue->jobs_max > 0 || queue->bytes_max > 0;

    return !has_limits && !a->has_key && !b->has_key && a->due_at_ms == 0 && b->due_at_ms == 0 &&
           a->pieces == 0 && b->pieces == 0 && a->weight == b->weight && a->hour == b->hour &&
           a->expires_at_ms / MINUTE_MS == b->expires_at_ms / MINUTE_MS &&
           a->has_usual_deadline == b->has_usual_deadline &&
           job_id_shard(&a->id) == job_id_shard(&b->id) &&
           memcmp(a->ticket + 35, b->ticket + 35, LANE_SIZE) == 0 &&
           slice_equal(a->route, b->route);
}

/* One group: what its jobs have in common, the route, and ticket and packed id of each. */
static void send_group(struct redis_link *link, const struct submit *first, unsigned count,
                       unsigned shard_index)
{
    char text[GROUP_KEYED_SIZE];
    char *at = text;
    size_t bytes = 0;
    int64_t keep_s = 0;
    const struct queue_op *op = &first->op;

    for (unsigned i = 0; i < count; i++, op = op->next) {
        const struct submit *submit = (const struct submit *)op;

        bytes += submit->live_bytes;
        keep_s = submit->keep_s > keep_s ? submit->keep_s : keep_s;
    }
    at = put(at, shard_index, 1);
    at = put(at,
             (first->has_key ? GROUP_KEYED : 0) |
                 (first->has_usual_deadline ? GROUP_USUAL_DEADLINE : 0),
             1);
    at = put(at, count, 2);
    at = put(at, first->pieces, 2);
    at = put(at, first->weight, 2);
    at = put(at, (uint64_t)first->due_at_ms, 6);
    at = put(at, (uint64_t)first->expires_at_ms, 6);
    at = put(at, bytes, 8);
    at = put(at, (uint64_t)keep_s, 4);
    at = put(at, (uint64_t)first->hour, 4);
    memcpy(at, first->ticket + 35, LANE_SIZE);
    at += LANE_SIZE;
    CHECK(at == text + GROUP_SIZE);
    memcpy(at, first->hashes, sizeof(first->hashes));
    redis_link_argument(link, text, first->has_key ? GROUP_KEYED_SIZE : GROUP_SIZE);
    redis_link_argument(link, first->route.bytes, first->route.size);
    op = &first->op;
    for (unsigned i = 0; i < count; i++, op = op->next) {
        redis_link_argument(link, ((const struct submit *)op)->ticket, JOB_TICKET_SIZE);
        redis_link_argument(link, ((const struct submit *)op)->packed_id, JOB_ID_PACKED_SIZE);
    }
}

/* Shards and groups of a batch. */
struct plan {
    unsigned shards[LIMIT_BATCH_IN];
    unsigned shards_count;
    struct submit *first[LIMIT_BATCH_IN]; /* of each group */
    unsigned counts[LIMIT_BATCH_IN];
    unsigned shard_indexes[LIMIT_BATCH_IN]; /* from 1 */
};

static void make_plan(struct batch *batch, struct plan *plan)
{
    const struct submit *previous = NULL;

    for (struct queue_op *op = batch->submits.head; op; op = op->next) {
        struct submit *submit = (struct submit *)op;
        unsigned shard = job_id_shard(&submit->id), i = 0;

        if (previous && is_alike(batch->op.queue, previous, submit)) {
            plan->counts[batch->groups - 1]++;
        } else {
            while (i < plan->shards_count && plan->shards[i] != shard)
                i++;
            if (i == plan->shards_count)
                plan->shards[plan->shards_count++] = shard;
            plan->first[batch->groups] = submit;
            plan->counts[batch->groups] = 1;
            plan->shard_indexes[batch->groups++] = i + 1;
        }
        submit->group_index = batch->groups - 1;
        previous = submit;
    }
}

static void send_call(struct batch *batch)
{
    struct queue *queue = batch->op.queue;
    struct plan plan = {.shards_count = 0};
    char common[22];
    char *at = common;

    make_plan(batch, &plan);
    at = put(at, (uint64_t)queue->routes_max, 4);
    at = put(at, (uint64_t)queue->jobs_max, 8);
    at = put(at, (uint64_t)queue->bytes_max, 8);
    put(at, queue->shards, 2);
    queue_call_begin(queue, VERB_SUBMIT, plan.shards, plan.shards_count,
                     1 + 2 * batch->groups + 2 * batch->submits.count);
    redis_link_argument(queue->commands, common, sizeof(common));
    for (unsigned i = 0; i < batch->groups; i++)
        send_group(queue->commands, plan.first[i], plan.counts[i], plan.shard_indexes[i]);
    queue_call_end(queue, &batch->op);
    batch->answers_left++;
}

static void send_batch(struct queue *queue)
{
    struct queue_gather *gather = &queue->submits;
    struct batch *batch = queue_alloc(sizeof(*batch));
    size_t bytes = 0;

    batch->op.queue = queue;
    batch->op.on_reply = on_batch_reply;
    batch->waits = queue->durability == DURABILITY_REPLICA;
    while (gather->ops.head && batch->submits.count < gather->jobs_max && bytes < BATCH_BYTES) {
        struct submit *submit = (struct submit *)queue_ops_pop(&gather->ops);

        bytes += submit->bytes.size;
        gather->ops.bytes -= submit->bytes.size;
        queue_ops_push(&batch->submits, &submit->op);
        tell_tenant(queue, submit);
    }
    gather->flights++;
    send_word(batch, "MULTI");
    send_records(batch);
    send_call(batch);
    send_word(batch, "EXEC");
    if (!batch->waits)
        return;
    redis_link_begin(queue->commands, 3);
    redis_link_text(queue->commands, "WAIT");
    redis_link_text(queue->commands, "1");
    redis_link_number(queue->commands, WAIT_MS);
    redis_link_end(queue->commands, queue_on_reply, batch);
    batch->answers_left++;
}

void queue_submit_flush(struct queue *queue)
{
    struct queue_gather *gather = &queue->submits;

    while (gather->ops.count > 0) {
        bool is_due = gather->flights == 0 || gather->ops.count >= gather->jobs_max ||
                      gather->ops.bytes >= BATCH_BYTES ||
                      clock_mono_ms() - gather->since_mono_ms >= gather->wait_ms;
        int status = queue_can_write(queue);

        if (status < 0) {
            struct queue_op *op = queue_ops_pop(&gather->ops);

            gather->ops.bytes -= ((struct submit *)op)->bytes.size;
            queue_op_fail(queue, op, status);
            continue;
        }
        if (!is_due) {
            queue_want_turn_in(queue, (uint64_t)gather->wait_ms);
            return;
        }
        send_batch(queue);
        gather->since_mono_ms = clock_mono_ms();
        queue->next_shard = (queue->next_shard + 1) % queue->shards;
    }
}
