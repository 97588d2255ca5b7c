/* Completes a record into a job: attempts of live jobs and payloads in pieces stand apart. */
#include "common/queue/queue_load.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/queue/queue_private.h"

enum { PAYLOAD_BYTES_MAX = 256 << 20, ATTEMPTS_BYTES_MAX = 1 << 20 };

struct load_op {
    struct queue_op op;
    struct queue_load *load;
};

void queue_load_deinit(struct queue_load *load)
{
    buf_deinit(&load->record);
    buf_deinit(&load->attempts);
    buf_deinit(&load->payload);
}

static void load_step(struct queue_load *load)
{
    if (load->waiting == 0)
        load->on_loaded(load);
}

static void load_failed(struct queue_load *load, int status)
{
    if (load->status == 0)
        load->status = status;
}

static void on_attempts(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct queue_load *load = ((struct load_op *)op)->load;
    struct job *job = &load->job;
    size_t total = 0, at = 0;

    free(op);
    load->waiting--;
    if (status == 0 && reply->type != REDIS_REPLY_ARRAY)
        status = ERR_PROTOCOL;
    if (status < 0) {
        load_failed(load, status);
        load_step(load);
        return;
    }
    /* Copied first: the slices of the attempts must outlive the reply, and the buffer must not
     * move. */
    for (size_t i = 0; i < reply->elements; i++)
        total += reply->element[i]->type == REDIS_REPLY_STRING ? reply->element[i]->len : 0;
    if (buf_reserve(&load->attempts, total) == 0) {
        for (size_t i = 0; i < reply->elements && job->attempts_count < LIMIT_ATTEMPTS; i++) {
            const struct redisReply *one = reply->element[i];

            if (one->type != REDIS_REPLY_STRING ||
                buf_append(&load->attempts, one->str, one->len) < 0)
                continue;
            if (job_attempt_decode(load->attempts.data + at, one->len,
                                   &job->attempts[job->attempts_count]) == 0)
                job->attempts_count++;
            at += one->len;
        }
    }
    load_step(load);
}

static int join_pieces(struct queue_load *load, const struct redisReply *reply)
{
    int status = 0;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != load->job.pieces)
        return ERR_PROTOCOL;
    for (size_t i = 0; i < reply->elements; i++) {
        const struct redisReply *one = reply->element[i];

        if (one->type != REDIS_REPLY_STRING)
            return ERR_NOT_FOUND;
        status = buf_append(&load->payload, one->str, one->len);
        if (status < 0)
            return status;
    }
    status = job_check_payload(load->record.data, load->record.size, load->payload.data,
                               load->payload.size);
    if (status == 0)
        load->job.payload = (struct slice){load->payload.data, load->payload.size};
    return status;
}

static void on_pieces(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct queue_load *load = ((struct load_op *)op)->load;

    free(op);
    load->waiting--;
    if (status == 0)
        status = join_pieces(load, reply);
    /* A result lives shorter than its record: then the job is there and its payload is not. */
    if (status == ERR_NOT_FOUND)
        status = job_state_is_final(load->job.state) ? 0 : ERR_CORRUPT;
    if (status < 0)
        load_failed(load, status);
    load_step(load);
}

static struct load_op *new_op(struct queue_load *load,
                              void (*on_reply)(struct queue_op *, int, const struct redisReply *))
{
    struct load_op *op = queue_alloc(sizeof(*op));

    op->op.queue = load->queue;
    op->op.on_reply = on_reply;
    op->load = load;
    load->waiting++;
    return op;
}

static void ask_attempts(struct queue_load *load)
{
    struct queue_key key = queue_key_attempts(&load->id);
    struct redis_link *link = load->queue->commands;

    redis_link_begin(link, 4);
    redis_link_text(link, "LRANGE");
    redis_link_argument(link, key.text, key.size);
    redis_link_text(link, "0");
    redis_link_number(link, LIMIT_ATTEMPTS - 1);
    redis_link_end(link, queue_on_reply, new_op(load, on_attempts));
}

static void ask_pieces(struct queue_load *load)
{
    const struct job *job = &load->job;
    struct redis_link *link = load->queue->commands;
    bool is_result = job_state_is_final(job->state);

    redis_link_begin(link, 1 + job->pieces);
    redis_link_text(link, "MGET");
    for (unsigned i = 0; i < job->pieces; i++) {
        struct queue_key key = is_result ? queue_key_result_piece(&load->id, job->claim, i)
                                         : queue_key_body_piece(&load->id, i);
        redis_link_argument(link, key.text, key.size);
    }
    redis_link_end(link, queue_on_reply, new_op(load, on_pieces));
}

/* A job that ended without a commit of its own kept its attempts in the list. */
static bool has_attempts_apart(const struct job *job)
{
    return job->attempt > 0 && job->attempts_count == 0;
}

void queue_load_start(struct queue_load *load, const char *bytes, size_t size)
{
    struct job *job = &load->job;
    size_t pieces;

    buf_init(&load->record, QUEUE_HELD_BYTES_MAX);
    buf_init(&load->attempts, ATTEMPTS_BYTES_MAX);
    buf_init(&load->payload, PAYLOAD_BYTES_MAX);
    load->waiting = 1; /* until everything is asked for */
    load->status = buf_append(&load->record, bytes, size);
    if (load->status == 0 && load->claim_token && size >= JOB_HEADER_SIZE)
        job_record_claim(load->record.data, load->claim_token, load->claimed_at_ms);
    if (load->status == 0)
        load->status = job_decode(&load->id, load->record.data, load->record.size, job, &load->why);
    if (load->status == ERR_NEWER)
        queue_note_newer(load->queue, 1);
    if (load->status == 0 && has_attempts_apart(job)) {
        if (queue_can_read(load->queue) == 0)
            ask_attempts(load);
        else
            load->status = ERR_OFFLINE;
    }
    if (load->status == 0 && load->wants_payload && (job->flags & JOB_FLAG_PIECES)) {
        pieces = ((size_t)job->payload_size + LIMIT_PIECE_BYTES - 1) / LIMIT_PIECE_BYTES;
        if (pieces != job->pieces || job->payload_size > PAYLOAD_BYTES_MAX)
            load->status = error_set(&load->why, ERR_CORRUPT, "number of pieces");
        else if (queue_can_read(load->queue) < 0)
            load->status = ERR_OFFLINE;
        else
            ask_pieces(load);
    }
    load->waiting--;
    load_step(load);
}
