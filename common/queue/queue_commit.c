/* finish, fail, retry, release: gathered, sent a batch at a time over all shards, and kept until
 * they are answered. A commit that may have been applied is simply sent again: claim and token make
 * it say so. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"

enum {
    BATCH_BYTES = 4 << 20,
    REFUSED_PAUSE_MS = 100, /* before a refused batch goes again */
    PIECE_MARGIN_S = 60, /* pieces outlive the result's time by this, never the other way round */
};

static const enum queue_verb verbs[] = {VERB_FINISH, VERB_FAIL, VERB_RETRY, VERB_RELEASE};

struct commit {
    struct queue_op op;
    queue_done_fn on_done;
    void *arg;
    struct job_id id;
    unsigned claim;
    unsigned pieces;
    bool goes_alone; /* was in a batch that broke */
    char member[JOB_MEMBER_SIZE];
    struct buf bytes; /* record, then the result when it goes in pieces; or the attempt */
    size_t record_size;
    int64_t number; /* time to live or due time, in ms */
    int64_t piece_ttl_ms;
};

struct batch {
    struct queue_op op;
    struct queue_gather *gather;
    struct queue_ops commits;
    int status;
};

static size_t commit_size(const struct commit *commit)
{
    return sizeof(*commit) + commit->bytes.size;
}

static void commit_done(struct commit *commit, int status)
{
    struct queue *queue = commit->op.queue;

    queue->commit_bytes -= commit_size(commit);
    /* Also when it was refused for good: the lease lapses, and recovery counts how often. */
    queue_lease_drop(queue, &commit->id, commit->claim);
    commit->on_done(status, commit->arg);
    buf_deinit(&commit->bytes);
    free(commit);
}

static void on_refused(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct commit *commit = (struct commit *)op;

    (void)reply;
    if (status != ERR_BUSY)
        queue_lease_drop(commit->op.queue, &commit->id, commit->claim);
    commit->on_done(status, commit->arg);
    buf_deinit(&commit->bytes);
    free(commit);
}

/* ---- taking a commit ---------------------------------------------------------------- */

static struct commit *new_commit(struct queue *queue, const struct job *job, queue_done_fn on_done,
                                 void *arg)
{
    struct commit *commit = queue_alloc(sizeof(*commit));

    CHECK(job_id_shard(&job->id) < queue->shards);
    commit->op.queue = queue;
    commit->op.on_reply = on_refused;
    commit->on_done = on_done;
    commit->arg = arg;
    commit->id = job->id;
    commit->claim = job->claim;
    queue_member_make(job, commit->member);
    buf_init(&commit->bytes, QUEUE_HELD_BYTES_MAX);
    return commit;
}

static void hold(struct queue *queue, unsigned which, struct commit *commit, int status)
{
    struct queue_gather *gather = &queue->commits[which];

    if (status == 0 && queue->is_closing)
        status = ERR_OFFLINE;
    /* A job that is handed back makes room. */
    if (status == 0 && verbs[which] != VERB_RELEASE &&
        queue->commit_bytes + commit_size(commit) > QUEUE_COMMIT_BYTES_MAX)
        status = ERR_BUSY;
    if (status < 0) {
        queue_op_fail(queue, &commit->op, status);
        return;
    }
    queue->commit_bytes += commit_size(commit);
    if (gather->ops.count == 0)
        gather->since_mono_ms = clock_mono_ms();
    queue_ops_push(&gather->ops, &commit->op);
    queue_want_turn(queue);
}

static int take_result(struct commit *commit, const struct job *from)
{
    struct job job = *from;
    int status;

    job.flags &= ~(unsigned)(JOB_FLAG_PIECES | JOB_FLAG_FOLLOWED);
    job.pieces = 0;
    job.sequence++; /* unless somebody changed the job meanwhile: then the function mends it */
    job.payload_size = (uint32_t)job.payload.size;
    if (job.payload.size > LIMIT_INLINE_BYTES) {
        job.flags |= JOB_FLAG_PIECES;
        job.pieces = (unsigned)((job.payload.size + LIMIT_PIECE_BYTES - 1) / LIMIT_PIECE_BYTES);
    }
    if (job.pieces > UINT16_MAX)
        return ERR_TOO_BIG;
    status = job_encode(&job, &commit->bytes);
    if (status < 0)
        return status;
    commit->record_size = commit->bytes.size;
    commit->pieces = job.pieces;
    commit->number = ((int64_t)job.result_ttl_s + LIMIT_RECORD_AFTER_RESULT_S) * 1000;
    commit->piece_ttl_ms = ((int64_t)job.result_ttl_s + PIECE_MARGIN_S) * 1000;
    return job.pieces > 0 ? buf_append(&commit->bytes, job.payload.bytes, job.payload.size) : 0;
}

static void commit_result(struct queue *queue, unsigned which, const struct job *job,
                          queue_done_fn on_done, void *arg)
{
    struct commit *commit = new_commit(queue, job, on_done, arg);

    hold(queue, which, commit, take_result(commit, job));
}

void queue_finish(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg)
{
    CHECK(job->state == JOB_SUCCEEDED);
    commit_result(queue, 0, job, on_done, arg);
}

void queue_fail(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg)
{
    CHECK(job->state == JOB_FAILED || job->state == JOB_EXPIRED);
    commit_result(queue, 1, job, on_done, arg);
}

void queue_retry(struct queue *queue, const struct job *job, const struct job_attempt *attempt,
                 int64_t due_at_ms, queue_done_fn on_done, void *arg)
{
    struct commit *commit = new_commit(queue, job, on_done, arg);
    int status = job_attempt_encode(attempt, &commit->bytes);

    commit->record_size = commit->bytes.size;
    commit->number = due_at_ms;
    hold(queue, 2, commit, status);
}

void queue_release(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg)
{
    hold(queue, 3, new_commit(queue, job, on_done, arg), 0);
}

/* ---- answers ------------------------------------------------------------------------ */

/* Back to the front of what waits, in the old order. */
static void take_back(struct batch *batch)
{
    struct queue *queue = batch->op.queue;
    struct queue_ops *waiting = &batch->gather->ops;

    if (!batch->commits.head)
        return;
    batch->commits.tail->next = waiting->head;
    if (!waiting->head)
        waiting->tail = batch->commits.tail;
    waiting->head = batch->commits.head;
    waiting->count += batch->commits.count;
    batch->commits = (struct queue_ops){.head = NULL};
    queue->commit_pause_until = uv_now(queue->loop) + REFUSED_PAUSE_MS;
}

static bool may_go_again(int status)
{
    return status == ERR_UNKNOWN || status == ERR_OFFLINE || status == ERR_UNFIT ||
           status == ERR_FULL;
}

static int status_of_code(char code)
{
    switch (code) {
    case 'k':
    case 'a':
        return 0;
    case 'f':
        return ERR_FENCED;
    default:
        return ERR_PROTOCOL;
    }
}

static void settle(struct batch *batch, const struct redisReply *codes)
{
    struct queue *queue = batch->op.queue;
    int64_t soonest = INT64_MAX;
    size_t at = 0;

    for (struct queue_op *op = queue_ops_pop(&batch->commits); op;
         op = queue_ops_pop(&batch->commits)) {
        struct commit *commit = (struct commit *)op;
        int status = codes ? status_of_code(codes->str[at++]) : ERR_PROTOCOL;

        if (batch->gather == &queue->commits[2] && status == 0 && commit->number < soonest)
            soonest = commit->number;
        commit_done(commit, status);
    }
    if (soonest < INT64_MAX && !queue->is_closing)
        queue_sweep_soon(queue,
                         soonest > queue_now_ms(queue) ? soonest - queue_now_ms(queue) + 1 : 1);
}

/* One of them breaks the function: each goes again by itself, and those that were written say so.
 */
static void split(struct batch *batch)
{
    for (struct queue_op *op = batch->commits.head; op; op = op->next)
        ((struct commit *)op)->goes_alone = true;
    take_back(batch);
}

static void on_batch_reply(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct batch *batch = (struct batch *)op;
    struct queue *queue = op->queue;
    const struct redisReply *codes = reply;

    batch->status = status;
    if (status < 0 || codes->type != REDIS_REPLY_STRING || codes->len != batch->commits.count)
        codes = NULL;
    batch->gather->flights--;
    if (may_go_again(batch->status) && !queue->is_closing) {
        take_back(batch);
    } else if (may_go_again(batch->status)) {
        for (struct queue_op *one = queue_ops_pop(&batch->commits); one;
             one = queue_ops_pop(&batch->commits))
            commit_done((struct commit *)one, ERR_UNKNOWN);
    } else if (!codes && batch->commits.count > 1 && !queue->is_closing) {
        split(batch);
    } else {
        settle(batch, codes);
    }
    free(batch);
    queue_want_turn(queue);
}

/* ---- sending ------------------------------------------------------------------------ */

static void send_pieces(struct redis_link *link, const struct commit *commit)
{
    const char *piece = commit->bytes.data + commit->record_size;
    size_t left = commit->bytes.size - commit->record_size;

    for (unsigned i = 0; i < commit->pieces; i++) {
        size_t size = left < LIMIT_PIECE_BYTES ? left : LIMIT_PIECE_BYTES;

        redis_link_argument(link, piece, size);
        piece += size;
        left -= size;
    }
}

static void send_call(struct batch *batch, enum queue_verb verb)
{
    struct queue *queue = batch->op.queue;
    unsigned shards[LIMIT_BATCH_OUT], shards_count = 0;
    const struct commit *first = (const struct commit *)batch->commits.head;
    unsigned each = verb == VERB_RELEASE ? 1 : 3;
    bool has_record = verb == VERB_FINISH || verb == VERB_FAIL;

    for (struct queue_op *op = batch->commits.head; op; op = op->next) {
        unsigned shard = job_id_shard(&((struct commit *)op)->id), i = 0;

        while (i < shards_count && shards[i] != shard)
            i++;
        if (i == shards_count)
            shards[shards_count++] = shard;
    }
    queue_call_begin(queue, verb, shards, shards_count,
                     each * batch->commits.count + (has_record ? 2 + first->pieces : 0));
    if (has_record) {
        redis_link_number(queue->commands, first->pieces);
        redis_link_number(queue->commands, first->piece_ttl_ms);
    }
    for (struct queue_op *op = batch->commits.head; op; op = op->next) {
        const struct commit *commit = (const struct commit *)op;

        redis_link_argument(queue->commands, commit->member, JOB_MEMBER_SIZE);
        if (verb == VERB_RELEASE)
            continue;
        if (verb == VERB_RETRY) {
            redis_link_number(queue->commands, commit->number);
            redis_link_argument(queue->commands, commit->bytes.data, commit->record_size);
        } else {
            redis_link_argument(queue->commands, commit->bytes.data, commit->record_size);
            redis_link_number(queue->commands, commit->number);
        }
    }
    if (has_record)
        send_pieces(queue->commands, first);
    queue_call_end(queue, &batch->op);
}

static void send_batch(struct queue *queue, unsigned which)
{
    struct queue_gather *gather = &queue->commits[which];
    struct batch *batch = queue_alloc(sizeof(*batch));
    size_t bytes = 0;

    batch->op.queue = queue;
    batch->op.on_reply = on_batch_reply;
    batch->gather = gather;
    while (gather->ops.head && batch->commits.count < gather->jobs_max && bytes < BATCH_BYTES) {
        struct commit *next = (struct commit *)gather->ops.head;

        /* Commits with pieces go alone, so that the pieces are the last arguments of their call. */
        if ((next->pieces > 0 || next->goes_alone) && batch->commits.count > 0)
            break;
        queue_ops_push(&batch->commits, queue_ops_pop(&gather->ops));
        bytes += next->bytes.size;
        if (next->pieces > 0 || next->goes_alone)
            break;
    }
    gather->flights++;
    send_call(batch, verbs[which]);
}

static void flush_one(struct queue *queue, unsigned which)
{
    struct queue_gather *gather = &queue->commits[which];

    while (gather->ops.count > 0) {
        uint64_t now = uv_now(queue->loop);
        bool is_due = gather->flights == 0 || gather->ops.count >= gather->jobs_max ||
                      clock_mono_ms() - gather->since_mono_ms >= gather->wait_ms;

        /* Whatever is in the way, it ends with another turn: answer, reconnect or the end of the
         * pause. */
        if (queue_can_write(queue) < 0)
            return;
        if (now < queue->commit_pause_until) {
            queue_want_turn_in(queue, queue->commit_pause_until - now);
            return;
        }
        if (!is_due) {
            queue_want_turn_in(queue, (uint64_t)gather->wait_ms);
            return;
        }
        send_batch(queue, which);
        gather->since_mono_ms = clock_mono_ms();
    }
}

void queue_commit_flush(struct queue *queue)
{
    for (unsigned which = 0; which < 4; which++)
        flush_one(queue, which);
}

size_t queue_commit_bytes(const struct queue *queue)
{
    return queue->commit_bytes;
}

void queue_commit_close(struct queue *queue)
{
    for (unsigned which = 0; which < 4; which++) {
        struct queue_ops *ops = &queue->commits[which].ops;

        for (struct queue_op *op = queue_ops_pop(ops); op; op = queue_ops_pop(ops))
            commit_done((struct commit *)op, ERR_OFFLINE);
    }
}
