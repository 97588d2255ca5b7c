/* Following: which jobs this process wants to hear of, what it hears, and how it makes sure that it
 * heard everything. Messages are hints that usually carry the whole news; every 20 s, and after
 * each reconnect, the jobs are asked. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"

enum {
    FOLLOW_CALL_MAX = 64,
    REFRESH_PARTS = 20, /* one part a second */
    REQUEST_SIZE = 6 + JOB_ID_CORE_SIZE,
};

struct follow {
    struct queue_map_entry entry;
    unsigned count;     /* follows that were not undone */
    uint32_t sequence;  /* of the newest change that was told; 0 = none */
    bool is_held;       /* its record names us: no registration needed */
    bool is_registered; /* by a call of follow */
    bool is_submitting; /* changes before its submit is answered are kept back */
    bool was_missed;
    bool is_final;
};

/* One call for several jobs. */
struct follow_op {
    struct queue_op op;
    struct job_id ids[FOLLOW_CALL_MAX];
    unsigned count;
    /* of queue_follow, which asks for one */
    queue_job_fn on_job;
    void *arg;
    bool is_first;
};

static struct follow *find(struct queue *queue, const struct job_id *id)
{
    return (struct follow *)queue_map_find(&queue->followed, id);
}

void queue_on_change(struct queue *queue, queue_change_fn on_change, void *arg)
{
    queue->on_change = on_change;
    queue->on_change_arg = arg;
}

/* Tells a change unless it is old. The entry may be gone afterwards. */
static void tell(struct queue *queue, const struct job_id *id, const char *bytes, size_t size)
{
    struct follow *follow = find(queue, id);
    struct error_text why;
    struct job job;

    if (!follow || job_decode(id, bytes, size, &job, &why) < 0)
        return;
    if (follow->is_submitting) {
        follow->was_missed = true;
        return;
    }
    if (job.sequence <= follow->sequence)
        return;
    follow->sequence = job.sequence;
    follow->is_final = job_state_is_final(job.state);
    if (queue->on_change)
        queue->on_change(&job, queue->on_change_arg);
}

/* ---- asking ------------------------------------------------------------------------- */

static void on_heads(struct queue_op *op, int status, const struct redisReply *reply);

static struct follow_op *new_follow_op(struct queue *queue)
{
    struct follow_op *ask = queue_alloc(sizeof(*ask));

    ask->op.queue = queue;
    ask->op.on_reply = on_heads;
    return ask;
}

static void send_follow(struct follow_op *ask)
{
    struct queue *queue = ask->op.queue;
    unsigned shards[FOLLOW_CALL_MAX], indexes[FOLLOW_CALL_MAX], shards_count = 0;

    for (unsigned n = 0; n < ask->count; n++) {
        unsigned shard = job_id_shard(&ask->ids[n]), i = 0;

        while (i < shards_count && shards[i] != shard)
            i++;
        if (i == shards_count)
            shards[shards_count++] = shard;
        indexes[n] = i + 1;
    }
    queue_call_begin(queue, VERB_FOLLOW, shards, shards_count, 1 + ask->count);
    redis_link_argument(queue->commands, queue->self_id, QUEUE_SELF_SIZE);
    for (unsigned n = 0; n < ask->count; n++) {
        struct follow *follow = find(queue, &ask->ids[n]);
        /* No sequence is that high, so a first follow is always answered with the job. */
        uint32_t seen = follow && !ask->is_first ? follow->sequence : UINT32_MAX;
        char request[REQUEST_SIZE];

        request[0] = (char)indexes[n];
        request[1] = 'f';
        if (follow && follow->is_held && !follow->is_registered && !ask->is_first)
            request[1] = 'h';
        else if (follow)
            follow->is_registered = true;
        for (int i = 0; i < 4; i++)
            request[2 + i] = (char)(seen >> (8 * i) & 0xff);
        memcpy(request + 6, ask->ids[n].core, JOB_ID_CORE_SIZE);
        redis_link_argument(queue->commands, request, sizeof(request));
    }
    queue_call_end(queue, &ask->op);
}

static void answer_first(struct follow_op *ask, int status, const struct redisReply *head)
{
    struct queue *queue = ask->op.queue;
    struct follow *follow = find(queue, &ask->ids[0]);
    struct error_text why;
    struct job job;

    if (status == 0 && head->len <= 1)
        status = ERR_NOT_FOUND;
    if (status == 0)
        status = job_decode(&ask->ids[0], head->str, head->len, &job, &why);
    if (status == 0 && follow && follow->count > 1) {
        /* It may be news to those who followed before, and its message will not count any more. */
        tell(queue, &ask->ids[0], head->str, head->len);
    } else if (status == 0 && follow) {
        follow->is_final = job_state_is_final(job.state);
        if (job.sequence > follow->sequence)
            follow->sequence = job.sequence;
    }
    ask->on_job(status, status == 0 ? &job : NULL, ask->arg);
}

static void on_heads(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct follow_op *ask = (struct follow_op *)op;

    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements != ask->count))
        status = ERR_PROTOCOL;
    for (unsigned i = 0; status == 0 && i < ask->count; i++)
        if (reply->element[i]->type != REDIS_REPLY_STRING)
            status = ERR_PROTOCOL;
    if (ask->is_first)
        answer_first(ask, status, status == 0 ? reply->element[0] : NULL);
    for (unsigned i = 0; !ask->is_first && status == 0 && i < ask->count; i++)
        if (reply->element[i]->len > 1)
            tell(op->queue, &ask->ids[i], reply->element[i]->str, reply->element[i]->len);
    free(ask);
}

void queue_follow(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg)
{
    struct follow_op *ask = new_follow_op(queue);
    struct follow *follow = find(queue, id);
    int status = queue_can_write(queue);

    ask->ids[0] = *id;
    ask->count = 1;
    ask->is_first = true;
    ask->on_job = on_job;
    ask->arg = arg;
    if (status == 0 && job_id_shard(id) >= queue->shards)
        status = ERR_NOT_FOUND;
    if (!follow)
        follow = (struct follow *)queue_map_add(&queue->followed, id, sizeof(*follow));
    if (follow)
        follow->count++;
    else if (status == 0)
        status = ERR_BUSY;
    if (status < 0)
        queue_op_fail(queue, &ask->op, status);
    else
        send_follow(ask);
}

void queue_unfollow(struct queue *queue, const struct job_id *id)
{
    struct follow *follow = find(queue, id);

    if (!follow || --follow->count > 0)
        return;
    /* What is not undone here expires by itself. */
    if (follow->is_registered && !follow->is_final && queue_can_write(queue) == 0) {
        struct queue_key key = queue_key_followers(id);

        redis_link_begin(queue->commands, 3);
        redis_link_text(queue->commands, "SREM");
        redis_link_argument(queue->commands, key.text, key.size);
        redis_link_argument(queue->commands, queue->self_id, QUEUE_SELF_SIZE);
        redis_link_end(queue->commands, NULL, NULL);
    }
    queue_map_remove(&queue->followed, id);
}

/* ---- held submits ------------------------------------------------------------------- */

void queue_follow_held(struct queue *queue, const struct job_id *id)
{
    struct follow *follow = (struct follow *)queue_map_add(&queue->followed, id, sizeof(*follow));

    if (!follow)
        return; /* full: the submit goes on, and its holder must poll */
    follow->count = 1;
    follow->is_held = true;
    follow->is_submitting = true;
}

void queue_follow_held_done(struct queue *queue, const struct job_id *id, bool is_kept)
{
    struct follow *follow = find(queue, id);

    if (!follow)
        return;
    follow->is_submitting = false;
    follow->is_final = follow->is_final || !is_kept; /* nothing to be asked about it */
    if (is_kept && follow->was_missed && queue_can_write(queue) == 0) {
        struct follow_op *ask = new_follow_op(queue);

        ask->ids[ask->count++] = *id;
        send_follow(ask);
    }
}

/* ---- refreshing --------------------------------------------------------------------- */

static struct follow_op *refresh_one(struct queue *queue, struct follow_op *ask,
                                     const struct follow *follow)
{
    if (follow->is_submitting || follow->is_final)
        return ask;
    if (!ask)
        ask = new_follow_op(queue);
    ask->ids[ask->count++] = follow->entry.id;
    if (ask->count < FOLLOW_CALL_MAX)
        return ask;
    send_follow(ask);
    return NULL;
}

static void refresh(struct queue *queue, size_t from, size_t to)
{
    struct follow_op *ask = NULL;

    for (size_t i = from; i < to && i < queue->followed.slots_count; i++)
        for (const struct queue_map_entry *one = queue->followed.slots[i]; one; one = one->next) {
            if (queue_can_write(queue) < 0)
                break;
            ask = refresh_one(queue, ask, (const struct follow *)one);
        }
    if (ask)
        send_follow(ask);
}

void queue_follow_on_ready(struct queue *queue)
{
    refresh(queue, 0, queue->followed.slots_count);
}

void queue_follow_second(struct queue *queue)
{
    int64_t now = clock_mono_ms();
    size_t slots = queue->followed.slots_count;
    size_t part = queue->refresh_part;

    if (now < queue->refresh_at_mono_ms || queue_can_write(queue) < 0)
        return;
    queue->refresh_at_mono_ms = now + 900;
    refresh(queue, slots * part / REFRESH_PARTS, slots * (part + 1) / REFRESH_PARTS);
    queue->refresh_part = (unsigned)((part + 1) % REFRESH_PARTS);
}

/* ---- messages ----------------------------------------------------------------------- */

static void on_child_message(struct queue *queue, const char *bytes, size_t size)
{
    struct job_id id;
    unsigned claim;

    if (size >= 1 && bytes[0] == 'w') { /* what else a later version may add is not ours */
        if (size >= 3) {
            unsigned shard = (unsigned char)bytes[1] | (unsigned)(unsigned char)bytes[2] << 8;
            queue->claim_shard = shard % queue->shards;
        }
        if (queue->events.on_wake)
            queue->events.on_wake(queue->events.arg);
        return;
    }
    if (size >= 1 && bytes[0] == 'j') {
        queue_on_handed(queue, bytes, size);
        return;
    }
    if (size != 1 + JOB_ID_CORE_SIZE + 2 || bytes[0] != 'c' ||
        job_id_parse_core((struct slice){bytes + 1, JOB_ID_CORE_SIZE}, &id) < 0)
        return;
    claim = (unsigned char)bytes[size - 2] | (unsigned)(unsigned char)bytes[size - 1] << 8;
    if (!queue_lease_drop(queue, &id, claim))
        queue->missed_cancel = queue->claims_open > 0;
    if (queue->events.on_cancel)
        queue->events.on_cancel(&id, claim, queue->events.arg);
}

void queue_on_message(const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;
    const struct redisReply *channel, *text;
    struct job_id id;

    if (reply->elements != 3 || reply->element[1]->type != REDIS_REPLY_STRING ||
        reply->element[2]->type != REDIS_REPLY_STRING)
        return;
    channel = reply->element[1];
    text = reply->element[2];
    if (strcmp(channel->str, QUEUE_CHANNEL_CONTROL) == 0) {
        if (queue->events.on_control)
            queue->events.on_control(queue->events.arg);
    } else if (strncmp(channel->str, QUEUE_CHANNEL_CHILD, strlen(QUEUE_CHANNEL_CHILD)) == 0) {
        on_child_message(queue, text->str, text->len);
    } else if (text->len > JOB_ID_CORE_SIZE &&
               job_id_parse_core((struct slice){text->str, JOB_ID_CORE_SIZE}, &id) == 0) {
        tell(queue, &id, text->str + JOB_ID_CORE_SIZE, text->len - JOB_ID_CORE_SIZE);
    }
}

/* ---- history ------------------------------------------------------------------------ */

struct history {
    struct queue_op op;
    struct job_id id;
    uint32_t after;
    queue_job_fn on_job;
    void *arg;
};

static void on_history(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct history *history = (struct history *)op;
    uint32_t first = 0;

    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 ||
                        reply->element[0]->type != REDIS_REPLY_INTEGER))
        status = ERR_PROTOCOL;
    for (size_t i = 1; status == 0 && i < reply->elements; i++) {
        const struct redisReply *one = reply->element[i];
        struct error_text why;
        struct job job;

        if (one->type != REDIS_REPLY_STRING ||
            job_decode(&history->id, one->str, one->len, &job, &why) < 0)
            continue;
        if (first == 0)
            first = job.sequence;
        history->on_job(0, &job, history->arg);
    }
    if (status == 0) {
        bool is_complete = first != 0 ? first == history->after + 1
                                      : reply->element[0]->integer == (long long)history->after;
        status = is_complete ? 0 : ERR_NOT_FOUND;
    }
    history->on_job(status, NULL, history->arg);
    free(history);
}

void queue_history(struct queue *queue, const struct job_id *id, uint32_t after,
                   queue_job_fn on_job, void *arg)
{
    struct history *history = queue_alloc(sizeof(*history));
    unsigned shard = job_id_shard(id);
    int status = queue_can_read(queue);

    history->op.queue = queue;
    history->op.on_reply = on_history;
    history->id = *id;
    history->after = after;
    history->on_job = on_job;
    history->arg = arg;
    if (status == 0 && shard >= queue->shards)
        status = ERR_NOT_FOUND;
    if (status < 0) {
        queue_op_fail(queue, &history->op, status);
        return;
    }
    queue_call_begin(queue, VERB_HISTORY, &shard, 1, 2);
    redis_link_argument(queue->commands, id->core, JOB_ID_CORE_SIZE);
    redis_link_number(queue->commands, after);
    queue_call_end(queue, &history->op);
}
