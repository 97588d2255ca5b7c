/* census: every known route with its lanes, gathered a page at a time over the shards and added up
 * here. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

enum {
    PAGE_LANES = 256,
    ROUTES_MAX = 65536,
    LANES_MAX = 256,
    LANE_ROW = 1 + JOB_TENANT_SIZE + 4 + 2 * JOB_ID_CORE_SIZE,
    ROW_FIXED = 9, /* shard, name, paused, six totals */
};

struct gathered {
    struct queue_route route;
    struct queue_lane *lanes;
    unsigned lanes_capacity;
    char *name;
};

struct census {
    struct queue_op op;
    queue_census_fn on_census;
    void *arg;
    int64_t shard, offset; /* where the next page begins */
    struct queue_census sum;
    struct gathered *routes;
    unsigned routes_count, routes_capacity;
    unsigned *slots; /* index + 1 by hash of the name */
    unsigned slots_count;
};

static void census_done(struct census *census, int status)
{
    struct queue_route *routes = queue_alloc((census->routes_count + 1) * sizeof(*routes));

    for (unsigned i = 0; i < census->routes_count; i++) {
        routes[i] = census->routes[i].route;
        routes[i].lanes = census->routes[i].lanes;
    }
    census->sum.status = status;
    census->sum.routes = routes;
    census->sum.routes_count = status == 0 ? census->routes_count : 0;
    census->on_census(&census->sum, census->arg);
    for (unsigned i = 0; i < census->routes_count; i++) {
        free(census->routes[i].lanes);
        free(census->routes[i].name);
    }
    free(routes);
    free(census->routes);
    free(census->slots);
    free(census);
}

/* ---- routes by name ----------------------------------------------------------------- */

static unsigned hash_of(const char *name, size_t size)
{
    unsigned hash = 2166136261u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return hash;
}

static void add_slot(struct census *census, unsigned index)
{
    const struct gathered *one = &census->routes[index];
    unsigned at = hash_of(one->name, one->route.name.size) & (census->slots_count - 1);

    while (census->slots[at])
        at = (at + 1) & (census->slots_count - 1);
    census->slots[at] = index + 1;
}

static void make_room(struct census *census)
{
    struct gathered *bigger;

    if (census->routes_count < census->routes_capacity)
        return;
    census->routes_capacity = census->routes_capacity ? 2 * census->routes_capacity : 64;
    bigger = queue_alloc(census->routes_capacity * sizeof(*bigger));
    if (census->routes_count > 0)
        memcpy(bigger, census->routes, census->routes_count * sizeof(*bigger));
    free(census->routes);
    census->routes = bigger;
    free(census->slots);
    census->slots_count = 2 * census->routes_capacity;
    census->slots = queue_alloc(census->slots_count * sizeof(census->slots[0]));
    for (unsigned i = 0; i < census->routes_count; i++)
        add_slot(census, i);
}

static struct gathered *route_of(struct census *census, const char *name, size_t size)
{
    struct gathered *one;

    make_room(census);
    for (unsigned at = hash_of(name, size) & (census->slots_count - 1); census->slots[at];
         at = (at + 1) & (census->slots_count - 1)) {
        one = &census->routes[census->slots[at] - 1];
        if (one->route.name.size == size && memcmp(one->name, name, size) == 0)
            return one;
    }
    if (census->routes_count >= ROUTES_MAX)
        return NULL;
    one = &census->routes[census->routes_count];
    one->name = queue_alloc(size + 1);
    memcpy(one->name, name, size);
    one->route.name = (struct slice){one->name, size};
    add_slot(census, census->routes_count++);
    return one;
}

/* ---- rows --------------------------------------------------------------------------- */

static int64_t at_ms_of(const char *core)
{
    struct job_id id;

    return job_id_parse_core((struct slice){core, JOB_ID_CORE_SIZE}, &id) == 0 ? job_id_at_ms(&id)
                                                                               : 0;
}

/* Keeps the largest when there are too many. */
static struct queue_lane *new_lane(struct gathered *one, int64_t depth)
{
    struct queue_route *route = &one->route;
    unsigned least = 0;

    if (route->lanes_count == one->lanes_capacity && one->lanes_capacity < LANES_MAX) {
        unsigned capacity = one->lanes_capacity ? 2 * one->lanes_capacity : 8;
        struct queue_lane *bigger = queue_alloc(capacity * sizeof(*bigger));

        if (route->lanes_count > 0)
            memcpy(bigger, one->lanes, route->lanes_count * sizeof(*bigger));
        free(one->lanes);
        one->lanes = bigger;
        one->lanes_capacity = capacity;
    }
    if (route->lanes_count < one->lanes_capacity)
        return &one->lanes[route->lanes_count++];
    for (unsigned i = 1; i < route->lanes_count; i++)
        if (one->lanes[i].depth < one->lanes[least].depth)
            least = i;
    return depth > one->lanes[least].depth ? &one->lanes[least] : NULL;
}

static void add_lane(struct gathered *one, unsigned shard, const struct redisReply *row)
{
    const char *bytes = row->str;
    const char *ids = bytes + 1 + JOB_TENANT_SIZE + 4;
    int64_t depth = 0, head, tail;
    struct queue_lane *lane;

    if (row->type != REDIS_REPLY_STRING || row->len != LANE_ROW || bytes[0] < '0' || bytes[0] > '2')
        return;
    for (int i = 3; i >= 0; i--)
        depth = depth << 8 | (unsigned char)bytes[1 + JOB_TENANT_SIZE + i];
    head = at_ms_of(ids);
    tail = at_ms_of(ids + JOB_ID_CORE_SIZE);
    one->route.waiting += depth;
    if (one->route.oldest_at_ms == 0 || head < one->route.oldest_at_ms)
        one->route.oldest_at_ms = head;
    lane = new_lane(one, depth);
    if (!lane)
        return;
    *lane = (struct queue_lane){.shard = shard,
                                .priority = (enum job_priority)(bytes[0] - '0'),
                                .depth = depth,
                                .head_at_ms = head,
                                .tail_at_ms = tail};
    memcpy(lane->tenant, bytes + 1, JOB_TENANT_SIZE);
}

static void add_route(struct census *census, const struct redisReply *row)
{
    struct gathered *one;
    struct queue_route *route;

    if (row->type != REDIS_REPLY_ARRAY || row->elements < ROW_FIXED ||
        row->element[1]->type != REDIS_REPLY_STRING)
        return;
    one = route_of(census, row->element[1]->str, row->element[1]->len);
    if (!one)
        return;
    route = &one->route;
    route->is_paused = route->is_paused || row->element[2]->integer != 0;
    int64_t *const totals[] = {&route->submitted, &route->succeeded, &route->failed,
                               &route->cancelled, &route->expired,   &route->retried};
    for (int i = 0; i < 6; i++)
        *totals[i] += row->element[3 + i]->integer;
    for (size_t i = ROW_FIXED; i < row->elements; i++)
        add_lane(one, (unsigned)row->element[0]->integer - 1, row->element[i]);
}

static void add_shard(struct census *census, const struct redisReply *row)
{
    if (row->type != REDIS_REPLY_ARRAY || row->elements != 4)
        return;
    census->sum.running += row->element[0]->integer;
    census->sum.scheduled += row->element[1]->integer;
    census->sum.live_jobs += row->element[2]->integer;
    census->sum.live_bytes += row->element[3]->integer;
}

/* ---- pages -------------------------------------------------------------------------- */

static void ask_page(struct census *census)
{
    struct queue *queue = census->op.queue;

    queue_call_begin_all(queue, VERB_CENSUS, 0, 3);
    redis_link_number(queue->commands, census->shard);
    redis_link_number(queue->commands, census->offset);
    redis_link_number(queue->commands, PAGE_LANES);
    queue_call_end(queue, &census->op);
}

static void on_page(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct census *census = (struct census *)op;

    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4 ||
                        reply->element[2]->type != REDIS_REPLY_ARRAY ||
                        reply->element[3]->type != REDIS_REPLY_ARRAY))
        status = ERR_PROTOCOL;
    if (status < 0) {
        census_done(census, status);
        return;
    }
    for (size_t i = 0; i < reply->element[2]->elements; i++)
        add_shard(census, reply->element[2]->element[i]);
    for (size_t i = 0; i < reply->element[3]->elements; i++)
        add_route(census, reply->element[3]->element[i]);
    /* Every page goes on by at least one route, so this ends. */
    bool has_moved =
        reply->element[0]->integer > census->shard || reply->element[1]->integer > census->offset;
    census->shard = reply->element[0]->integer;
    census->offset = reply->element[1]->integer;
    if (!has_moved || census->shard > (int64_t)op->queue->shards) {
        census_done(census, 0);
        return;
    }
    status = queue_can_read(op->queue);
    if (status < 0)
        census_done(census, status);
    else
        ask_page(census);
}

void queue_take_census(struct queue *queue, queue_census_fn on_census, void *arg)
{
    struct census *census = queue_alloc(sizeof(*census));
    int status = queue_can_read(queue);

    census->op.queue = queue;
    census->op.on_reply = on_page;
    census->on_census = on_census;
    census->arg = arg;
    census->shard = 1;
    if (status < 0)
        queue_op_fail(queue, &census->op, status);
    else
        ask_page(census);
}
