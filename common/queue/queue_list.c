/* list: ids newest first, merged over shards and hours from the index lists. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

enum { HOUR_MS = 3600 * 1000, TENANTS_MAX = 1024 };

struct list {
    struct queue_op op;
    queue_ids_fn on_ids;
    void *arg;
    unsigned limit;
    struct job_id after; /* ids from here on are wanted */
    int64_t hour;        /* next to be looked at */
    char (*tenants)[JOB_TENANT_SIZE];
    unsigned tenants_count;
    struct job_id *found; /* of one hour */
    size_t found_count;
    struct job_id *ids;
    unsigned count;
    size_t scanned;
    unsigned hours_left;
};

static void list_done(struct list *list, int status, bool has_more)
{
    struct job_id next = {.core = ""};

    if (has_more && list->count > 0)
        next = list->ids[list->count - 1];
    else if (has_more)
        next = list->after;
    list->on_ids(status, list->ids, status == 0 ? list->count : 0, &next, list->arg);
    free(list->tenants);
    free(list->found);
    free(list->ids);
    free(list);
}

/* Newest first: time, then the id itself, so that the order is total over all shards. */
static int compare_ids(const void *a, const void *b)
{
    int64_t left = job_id_at_ms(a), right = job_id_at_ms(b);

    if (left != right)
        return left > right ? -1 : 1;
    return -memcmp(((const struct job_id *)a)->core, ((const struct job_id *)b)->core,
                   JOB_ID_CORE_SIZE);
}

static void ask_hour(struct list *list);

static void take_hour(struct list *list, const struct redisReply *packed)
{
    size_t count = packed->len / JOB_ID_PACKED_SIZE;

    free(list->found);
    list->found = queue_alloc((count + 1) * sizeof(*list->found));
    list->found_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct job_id id;

        if (job_id_unpack(packed->str + i * JOB_ID_PACKED_SIZE, &id) < 0)
            continue;
        if (list->after.core[0] && compare_ids(&id, &list->after) <= 0)
            continue;
        list->found[list->found_count++] = id;
    }
    list->scanned += count;
    if (list->found_count > 1)
        qsort(list->found, list->found_count, sizeof(*list->found), compare_ids);
    for (size_t i = 0; i < list->found_count && list->count < list->limit; i++)
        list->ids[list->count++] = list->found[i];
    if (list->count > 0)
        list->after = list->ids[list->count - 1];
}

static void on_hour(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct list *list = (struct list *)op;
    int64_t hour, older;
    bool is_rest;

    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
                        reply->element[2]->type != REDIS_REPLY_STRING))
        status = ERR_PROTOCOL;
    if (status < 0) {
        list_done(list, status, false);
        return;
    }
    unsigned before = list->count;
    hour = reply->element[0]->integer;
    older = reply->element[1]->integer;
    take_hour(list, reply->element[2]);
    /* A window may hold only a part of its hour. */
    is_rest = list->count > before;
    list->hour = is_rest ? hour : older;
    if (hour < 0 || (!is_rest && older < 0)) {
        list_done(list, 0, false);
        return;
    }
    if (list->count >= list->limit || list->scanned >= LIMIT_LIST_SCAN || list->hours_left-- == 0) {
        list_done(list, 0, true);
        return;
    }
    status = queue_can_read(op->queue);
    if (status < 0)
        list_done(list, status, false);
    else
        ask_hour(list);
}

static void ask_hour(struct list *list)
{
    struct queue *queue = list->op.queue;
    int64_t at_ms = list->after.core[0] ? job_id_at_ms(&list->after) : INT64_MAX / 4096;

    list->op.on_reply = on_hour;
    queue_call_begin_all(queue, VERB_LIST, 0, 3 + list->tenants_count);
    redis_link_number(queue->commands, list->hour);
    redis_link_number(queue->commands, at_ms);
    redis_link_number(queue->commands, list->limit);
    for (unsigned i = 0; i < list->tenants_count; i++)
        redis_link_argument(queue->commands, list->tenants[i], JOB_TENANT_SIZE);
    queue_call_end(queue, &list->op);
}

static void on_tenants(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct list *list = (struct list *)op;

    if (status == 0 && reply->type != REDIS_REPLY_ARRAY)
        status = ERR_PROTOCOL;
    if (status == 0)
        status = queue_can_read(op->queue);
    if (status < 0) {
        list_done(list, status, false);
        return;
    }
    list->tenants = queue_alloc((reply->elements + 1) * sizeof(list->tenants[0]));
    for (size_t i = 0; i < reply->elements && list->tenants_count < TENANTS_MAX; i++)
        if (reply->element[i]->type == REDIS_REPLY_STRING &&
            reply->element[i]->len == JOB_TENANT_SIZE)
            memcpy(list->tenants[list->tenants_count++], reply->element[i]->str, JOB_TENANT_SIZE);
    if (list->tenants_count > 0)
        ask_hour(list);
    else
        list_done(list, 0, false);
}

void queue_list(struct queue *queue, const struct queue_list_query *query, queue_ids_fn on_ids,
                void *arg)
{
    struct list *list = queue_alloc(sizeof(*list));
    int status = queue_can_read(queue);

    CHECK(query->limit >= 1 && query->limit <= 1000);
    list->op.queue = queue;
    list->op.on_reply = on_hour;
    list->on_ids = on_ids;
    list->arg = arg;
    list->limit = query->limit;
    list->after = query->after;
    list->hour = list->after.core[0] ? job_id_at_ms(&list->after) / HOUR_MS : INT32_MAX;
    list->hours_left = LIMIT_LIST_SCAN / 10;
    list->ids = queue_alloc(query->limit * sizeof(*list->ids));
    if (status < 0) {
        queue_op_fail(queue, &list->op, status);
        return;
    }
    if (query->tenant) {
        list->tenants = queue_alloc(sizeof(list->tenants[0]));
        memcpy(list->tenants[0], query->tenant, JOB_TENANT_SIZE);
        list->tenants_count = 1;
        ask_hour(list);
        return;
    }
    list->op.on_reply = on_tenants;
    redis_link_begin(queue->commands, 2);
    redis_link_text(queue->commands, "HKEYS");
    redis_link_text(queue->commands, QUEUE_KEY_TENANTS);
    redis_link_end(queue->commands, queue_on_reply, list);
}
