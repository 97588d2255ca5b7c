/* What processes publish of themselves, pauses, and usage of a tenant. */
#include "common/queue/queue_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/text.h"

enum {
    MEMBERS_MAX = 4096,
    MEMBERS_CALL = 64, /* documents of 64 KiB in one answer */
    DOCUMENT_BYTES_MAX = 64 << 10,
    FORGOTTEN_MS = 24 * 3600 * 1000, /* names of members that are long gone */
};

/* ---- simple commands with a status -------------------------------------------------- */

struct simple {
    struct queue_op op;
    queue_status_fn on_done;
    void *arg;
    unsigned answers_left;
    int status;
};

static void on_simple(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct simple *simple = (struct simple *)op;

    (void)reply;
    if (status < 0 && simple->status == 0)
        simple->status = status;
    if (simple->answers_left > 0 && --simple->answers_left > 0)
        return;
    simple->on_done(simple->status, simple->arg);
    free(simple);
}

static struct simple *new_simple(struct queue *queue, queue_status_fn on_done, void *arg)
{
    struct simple *simple = queue_alloc(sizeof(*simple));

    simple->op.queue = queue;
    simple->op.on_reply = on_simple;
    simple->on_done = on_done;
    simple->arg = arg;
    return simple;
}

/* Sends a command of up to four words behind a simple op. */
static void send_simple(struct simple *simple, const struct slice *words, unsigned count)
{
    struct redis_link *link = simple->op.queue->commands;

    redis_link_begin(link, count);
    for (unsigned i = 0; i < count; i++)
        redis_link_argument(link, words[i].bytes, words[i].size);
    redis_link_end(link, queue_on_reply, simple);
    simple->answers_left++;
}

void queue_pause_route(struct queue *queue, struct slice route, bool paused,
                       queue_status_fn on_done, void *arg)
{
    struct simple *simple = new_simple(queue, on_done, arg);
    int status = route.size > LIMIT_ROUTE_BYTES ? ERR_TOO_BIG : queue_can_write(queue);

    if (status < 0) {
        queue_op_fail(queue, &simple->op, status);
        return;
    }
    queue_call_begin_all(queue, VERB_PAUSE, 0, 2);
    redis_link_argument(queue->commands, route.bytes, route.size);
    redis_link_text(queue->commands, paused ? "1" : "0");
    queue_call_end(queue, &simple->op);
    simple->answers_left = 1;
}

void queue_pause_upstream(struct queue *queue, struct slice name, bool paused,
                          queue_status_fn on_done, void *arg)
{
    struct simple *simple = new_simple(queue, on_done, arg);
    int status = queue_can_write(queue);

    if (status < 0) {
        queue_op_fail(queue, &simple->op, status);
        return;
    }
    send_simple(simple,
                (const struct slice[]){slice_of(paused ? "SADD" : "SREM"),
                                       slice_of(QUEUE_KEY_PAUSED_UPSTREAMS), name},
                3);
    send_simple(simple,
                (const struct slice[]){slice_of("PUBLISH"), slice_of(QUEUE_CHANNEL_CONTROL),
                                       slice_of("upstream")},
                3);
}

void queue_publish(struct queue *queue, const char *kind, struct slice document, int64_t ttl_ms,
                   queue_status_fn on_done, void *arg)
{
    struct simple *simple = new_simple(queue, on_done, arg);
    struct queue_key fleet = queue_key_fleet(kind);
    struct queue_key member = queue_key_fleet_member(kind, queue->self_id, QUEUE_SELF_SIZE);
    int status = document.size > DOCUMENT_BYTES_MAX ? ERR_TOO_BIG : queue_can_write(queue);
    char now[24], oldest[24], ttl[24];

    if (status < 0) {
        queue_op_fail(queue, &simple->op, status);
        return;
    }
    snprintf(now, sizeof(now), "%lld", (long long)queue_now_ms(queue));
    snprintf(oldest, sizeof(oldest), "%lld", (long long)queue_now_ms(queue) - FORGOTTEN_MS);
    snprintf(ttl, sizeof(ttl), "%lld", (long long)ttl_ms);
    struct slice fleet_name = {fleet.text, fleet.size};

    send_simple(
        simple,
        (const struct slice[]){
            slice_of("SET"), {member.text, member.size}, document, slice_of("PX"), slice_of(ttl)},
        5);
    send_simple(simple,
                (const struct slice[]){slice_of("ZADD"), fleet_name, slice_of(now),
                                       slice_of(queue->self_id)},
                4);
    send_simple(simple,
                (const struct slice[]){slice_of("ZREMRANGEBYSCORE"), fleet_name, slice_of("-inf"),
                                       slice_of(oldest)},
                4);
}

void queue_unpublish(struct queue *queue, const char *kind, queue_status_fn on_done, void *arg)
{
    struct simple *simple = new_simple(queue, on_done, arg);
    struct queue_key fleet = queue_key_fleet(kind);
    struct queue_key member = queue_key_fleet_member(kind, queue->self_id, QUEUE_SELF_SIZE);
    int status = queue_can_write(queue);

    if (status < 0) {
        queue_op_fail(queue, &simple->op, status);
        return;
    }
    send_simple(simple,
                (const struct slice[]){
                    slice_of("ZREM"), {fleet.text, fleet.size}, slice_of(queue->self_id)},
                3);
    send_simple(simple, (const struct slice[]){slice_of("UNLINK"), {member.text, member.size}}, 2);
}

/* ---- lists of names ----------------------------------------------------------------- */

struct names {
    struct queue_op op;
    queue_names_fn on_names;
    void *arg;
    char kind_text[16]; /* of the fleet */
    struct buf ids;     /* QUEUE_SELF_SIZE bytes each */
    size_t next;        /* offset in ids */
    struct buf bytes;   /* of all documents */
    size_t *ends;
    unsigned count;
};

static void names_done(struct names *names, int status)
{
    struct slice *list = queue_alloc((names->count + 1) * sizeof(*list));
    size_t from = 0;

    for (unsigned i = 0; i < names->count; i++) {
        list[i] = (struct slice){names->bytes.data + from, names->ends[i] - from};
        from = names->ends[i];
    }
    names->on_names(status, list, status == 0 ? names->count : 0, names->arg);
    free(list);
    free(names->ends);
    buf_deinit(&names->ids);
    buf_deinit(&names->bytes);
    free(names);
}

static int add_names(struct names *names, const struct redisReply *reply)
{
    for (size_t i = 0; i < reply->elements && names->count < MEMBERS_MAX; i++) {
        const struct redisReply *one = reply->element[i];

        if (one->type != REDIS_REPLY_STRING)
            continue; /* a member whose document expired */
        if (buf_append(&names->bytes, one->str, one->len) < 0)
            return ERR_TOO_BIG;
        names->ends[names->count++] = names->bytes.size;
    }
    return 0;
}

static void on_set(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct names *names = (struct names *)op;

    if (status == 0 && reply->type != REDIS_REPLY_ARRAY)
        status = ERR_PROTOCOL;
    if (status == 0)
        status = add_names(names, reply);
    names_done(names, status);
}

static struct names *new_names(struct queue *queue, queue_names_fn on_names, void *arg)
{
    struct names *names = queue_alloc(sizeof(*names));

    names->op.queue = queue;
    names->op.on_reply = on_set;
    names->on_names = on_names;
    names->arg = arg;
    names->ends = queue_alloc(MEMBERS_MAX * sizeof(names->ends[0]));
    buf_init(&names->ids, MEMBERS_MAX * QUEUE_SELF_SIZE);
    buf_init(&names->bytes, QUEUE_HELD_BYTES_MAX);
    return names;
}

void queue_paused_upstreams(struct queue *queue, queue_names_fn on_names, void *arg)
{
    struct names *names = new_names(queue, on_names, arg);
    int status = queue_can_read(queue);

    if (status < 0) {
        queue_op_fail(queue, &names->op, status);
        return;
    }
    redis_link_begin(queue->commands, 2);
    redis_link_text(queue->commands, "SMEMBERS");
    redis_link_text(queue->commands, QUEUE_KEY_PAUSED_UPSTREAMS);
    redis_link_end(queue->commands, queue_on_reply, names);
}

static void on_documents(struct queue_op *op, int status, const struct redisReply *reply);

static void ask_documents(struct names *names)
{
    struct redis_link *link = names->op.queue->commands;
    size_t left = (names->ids.size - names->next) / QUEUE_SELF_SIZE;
    unsigned count = left < MEMBERS_CALL ? (unsigned)left : MEMBERS_CALL;

    names->op.on_reply = on_documents;
    redis_link_begin(link, 1 + count);
    redis_link_text(link, "MGET");
    for (unsigned i = 0; i < count; i++) {
        struct queue_key key = queue_key_fleet_member(
            names->kind_text, names->ids.data + names->next, QUEUE_SELF_SIZE);
        redis_link_argument(link, key.text, key.size);
        names->next += QUEUE_SELF_SIZE;
    }
    redis_link_end(link, queue_on_reply, names);
}

static void on_documents(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct names *names = (struct names *)op;

    if (status == 0 && reply->type != REDIS_REPLY_ARRAY)
        status = ERR_PROTOCOL;
    if (status == 0)
        status = add_names(names, reply);
    if (status == 0 && names->next < names->ids.size)
        status = queue_can_read(op->queue);
    if (status == 0 && names->next < names->ids.size)
        ask_documents(names);
    else
        names_done(names, status);
}

static void on_members(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct names *names = (struct names *)op;

    if (status == 0 && reply->type != REDIS_REPLY_ARRAY)
        status = ERR_PROTOCOL;
    for (size_t i = 0; status == 0 && i < reply->elements; i++)
        if (reply->element[i]->type == REDIS_REPLY_STRING &&
            reply->element[i]->len == QUEUE_SELF_SIZE)
            status = buf_append(&names->ids, reply->element[i]->str, QUEUE_SELF_SIZE);
    if (status == 0 && names->ids.size > 0)
        status = queue_can_read(op->queue);
    if (status == 0 && names->ids.size > 0)
        ask_documents(names);
    else
        names_done(names, status);
}

void queue_fleet(struct queue *queue, const char *kind, queue_names_fn on_documents_, void *arg)
{
    struct names *names = new_names(queue, on_documents_, arg);
    struct queue_key key = queue_key_fleet(kind);
    int status = queue_can_read(queue);

    snprintf(names->kind_text, sizeof(names->kind_text), "%s", kind);
    names->op.on_reply = on_members;
    if (status < 0) {
        queue_op_fail(queue, &names->op, status);
        return;
    }
    redis_link_begin(queue->commands, 4);
    redis_link_text(queue->commands, "ZREVRANGE");
    redis_link_argument(queue->commands, key.text, key.size);
    redis_link_text(queue->commands, "0");
    redis_link_number(queue->commands, MEMBERS_MAX - 1);
    redis_link_end(queue->commands, queue_on_reply, names);
}

/* ---- usage of a tenant -------------------------------------------------------------- */

struct usage {
    struct queue_op op;
    queue_tenant_fn on_usage;
    void *arg;
    unsigned answers_left;
    int status;
    int64_t jobs, bytes;
};

static int64_t number_of(const struct redisReply *reply)
{
    int64_t number = 0;

    if (reply->type != REDIS_REPLY_STRING ||
        text_parse_i64(reply->str, reply->len, INT64_MIN, INT64_MAX, &number) < 0)
        return 0;
    return number;
}

static void on_usage(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct usage *usage = (struct usage *)op;

    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2))
        status = ERR_PROTOCOL;
    if (status < 0) {
        usage->status = status;
    } else {
        usage->jobs += number_of(reply->element[0]);
        usage->bytes += number_of(reply->element[1]);
    }
    if (usage->answers_left > 0 && --usage->answers_left > 0)
        return;
    usage->on_usage(usage->status, usage->jobs, usage->bytes, usage->arg);
    free(usage);
}

void queue_tenant_usage(struct queue *queue, const char tenant[JOB_TENANT_SIZE],
                        queue_tenant_fn on_tenant, void *arg)
{
    struct usage *usage = queue_alloc(sizeof(*usage));
    char jobs[1 + JOB_TENANT_SIZE] = "j", bytes[1 + JOB_TENANT_SIZE] = "b";
    int status = queue_can_read(queue);

    usage->op.queue = queue;
    usage->op.on_reply = on_usage;
    usage->on_usage = on_tenant;
    usage->arg = arg;
    if (status < 0) {
        queue_op_fail(queue, &usage->op, status);
        return;
    }
    memcpy(jobs + 1, tenant, JOB_TENANT_SIZE);
    memcpy(bytes + 1, tenant, JOB_TENANT_SIZE);
    usage->answers_left = queue->shards;
    for (unsigned shard = 0; shard < queue->shards; shard++) {
        struct queue_key key = queue_key_live(shard);

        redis_link_begin(queue->commands, 4);
        redis_link_text(queue->commands, "HMGET");
        redis_link_argument(queue->commands, key.text, key.size);
        redis_link_argument(queue->commands, jobs, sizeof(jobs));
        redis_link_argument(queue->commands, bytes, sizeof(bytes));
        redis_link_end(queue->commands, queue_on_reply, usage);
    }
}
