/* Life of a struct queue, and the turn of the loop in which gathered commands go out. */
#include "common/queue/queue_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/digest.h"

enum { SECOND_MS = 1000, SELF_BITS = QUEUE_SELF_SIZE * 5 };

void *queue_alloc(size_t size)
{
    void *memory = calloc(1, size);

    CHECK(memory != NULL);
    return memory;
}

/* ---- ops ---------------------------------------------------------------------------- */

void queue_ops_push(struct queue_ops *ops, struct queue_op *op)
{
    op->next = NULL;
    if (ops->tail)
        ops->tail->next = op;
    else
        ops->head = op;
    ops->tail = op;
    ops->count++;
}

struct queue_op *queue_ops_pop(struct queue_ops *ops)
{
    struct queue_op *op = ops->head;

    if (!op)
        return NULL;
    ops->head = op->next;
    if (!ops->head)
        ops->tail = NULL;
    ops->count--;
    op->next = NULL;
    return op;
}

void queue_op_fail(struct queue *queue, struct queue_op *op, int status)
{
    op->queue = queue;
    op->status = status;
    queue_ops_push(&queue->failed, op);
    queue_want_turn(queue);
}

int queue_error_status(struct queue *queue, const struct redisReply *reply)
{
    switch (redis_error_of(reply)) {
    case REDIS_ERROR_FULL:
        return ERR_FULL;
    case REDIS_ERROR_LATER:
    case REDIS_ERROR_READONLY:
    case REDIS_ERROR_AUTH:
    case REDIS_ERROR_MISSING:
        queue_store_suspect(queue, reply);
        return ERR_UNFIT;
    case REDIS_ERROR_OTHER:
        break;
    }
    return ERR_PROTOCOL;
}

void queue_on_reply(int status, const struct redisReply *reply, void *arg)
{
    struct queue_op *op = arg;

    if (status == 0 && redis_reply_is_error(reply))
        status = queue_error_status(op->queue, reply);
    op->on_reply(op, status, reply);
}

int queue_can_read(const struct queue *queue)
{
    int status = redis_link_can_send(queue->commands);

    if (status == 0 && (queue->store.is_strange || queue->is_closing))
        return ERR_UNFIT;
    return status;
}

int queue_can_write(const struct queue *queue)
{
    int status = queue_can_read(queue);

    return status == 0 && !queue->store.is_fit ? ERR_UNFIT : status;
}

/* ---- calls -------------------------------------------------------------------------- */

static void call_begin(struct queue *queue, enum queue_verb verb, unsigned keys, unsigned arguments)
{
    const struct queue_functions *functions = &queue->functions;

    if (queue->store.uses_scripts) {
        redis_link_begin(queue->commands, 4 + keys + arguments);
        redis_link_text(queue->commands, "EVALSHA");
        redis_link_text(queue->commands, functions->script_sha1[queue_verb_script(verb)]);
    } else {
        redis_link_begin(queue->commands, 3 + keys + arguments);
        redis_link_text(queue->commands, "FCALL");
        redis_link_text(queue->commands, functions->names[verb]);
    }
    redis_link_number(queue->commands, keys);
}

static void call_key(struct queue *queue, unsigned shard)
{
    CHECK(shard < queue->shards);
    redis_link_argument(queue->commands, queue->clocks[shard].text, queue->clocks[shard].size);
}

static void call_verb(struct queue *queue, enum queue_verb verb)
{
    if (queue->store.uses_scripts)
        redis_link_text(queue->commands, queue_verb_word(verb));
}

void queue_call_begin(struct queue *queue, enum queue_verb verb, const unsigned *shards,
                      unsigned shards_count, unsigned arguments)
{
    call_begin(queue, verb, shards_count, arguments);
    for (unsigned i = 0; i < shards_count; i++)
        call_key(queue, shards[i]);
    call_verb(queue, verb);
}

void queue_call_begin_all(struct queue *queue, enum queue_verb verb, unsigned first,
                          unsigned arguments)
{
    call_begin(queue, verb, queue->shards, arguments);
    for (unsigned i = 0; i < queue->shards; i++)
        call_key(queue, (first + i) % queue->shards);
    call_verb(queue, verb);
}

void queue_call_end(struct queue *queue, struct queue_op *op)
{
    op->queue = queue;
    redis_link_end(queue->commands, queue_on_reply, op);
}

/* ---- the turn ----------------------------------------------------------------------- */

static void run_failed(struct queue *queue)
{
    struct queue_ops due = queue->failed;

    queue->failed = (struct queue_ops){.head = NULL};
    for (struct queue_op *op = queue_ops_pop(&due); op; op = queue_ops_pop(&due))
        op->on_reply(op, op->status, NULL);
}

static void on_turn(uv_idle_t *idle)
{
    struct queue *queue = idle->data;

    uv_idle_stop(idle);
    run_failed(queue);
    if (queue->is_closing)
        return;
    queue_submit_flush(queue);
    queue_commit_flush(queue);
    redis_link_flush(queue->commands);
    if (queue->messages)
        redis_link_flush(queue->messages);
}

void queue_want_turn(struct queue *queue)
{
    if (!queue->is_closing)
        uv_idle_start(&queue->turn, on_turn);
}

static void on_gathered(uv_timer_t *timer)
{
    queue_want_turn(timer->data);
}

void queue_want_turn_in(struct queue *queue, uint64_t ms)
{
    if (!uv_is_active((uv_handle_t *)&queue->gathering) ||
        uv_timer_get_due_in(&queue->gathering) > ms)
        uv_timer_start(&queue->gathering, on_gathered, ms, 0);
}

static void on_dirty(void *arg)
{
    queue_want_turn(arg);
}

static void on_second(uv_timer_t *timer)
{
    struct queue *queue = timer->data;
    int64_t now = clock_mono_ms();
    int64_t next = SECOND_MS - (int64_t)(digest_random_u64() % 200);

    queue_store_second(queue, now);
    queue_follow_second(queue);
    queue_stand_second(queue, now);
    queue_health_changed(queue);
    queue_want_turn(queue);
    if (queue->is_closing)
        return;
    if (queue->sweep_at_mono_ms > now && queue->sweep_at_mono_ms - now < next)
        next = queue->sweep_at_mono_ms - now;
    uv_timer_start(&queue->second, on_second, (uint64_t)next, 0);
}

void queue_sweep_soon(struct queue *queue, int64_t in_ms)
{
    int64_t at = clock_mono_ms() + in_ms;

    /* Only children that sweep, and only when it is sooner than what is planned. */
    if (!queue->does_sweep || queue->is_closing ||
        (uint64_t)in_ms >= uv_timer_get_due_in(&queue->second))
        return;
    queue->sweep_at_mono_ms = at;
    uv_timer_start(&queue->second, on_second, (uint64_t)in_ms, 0);
}

/* ---- links -------------------------------------------------------------------------- */

static void on_up(void *arg)
{
    struct queue *queue = arg;

    queue_store_on_up(queue);
}

static void on_down(const char *code, const char *why, void *arg)
{
    struct queue *queue = arg;

    queue_store_on_down(queue, code, why);
}

static void on_subscribed(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;

    if (status < 0)
        return;
    if (redis_reply_is_error(reply)) {
        redis_link_drop(queue->messages, redis_error_code(reply), reply->str);
        return;
    }
    queue->is_listening = true;
    queue_renew_soon(queue); /* cancels may have gone by */
    queue_health_changed(queue);
}

static void on_messages_up(void *arg)
{
    static const char *const channels[] = {QUEUE_CHANNEL_BROKER, QUEUE_CHANNEL_CHILD};
    struct queue *queue = arg;
    struct redis_link *link = queue->messages;

    for (int i = 0; i < 2; i++) {
        char channel[32];

        snprintf(channel, sizeof(channel), "%s%s", channels[i], queue->self_id);
        redis_link_begin(link, 2);
        redis_link_text(link, "SUBSCRIBE");
        redis_link_text(link, channel);
        redis_link_end(link, NULL, NULL);
    }
    redis_link_begin(link, 2);
    redis_link_text(link, "SUBSCRIBE");
    redis_link_text(link, QUEUE_CHANNEL_CONTROL);
    redis_link_end(link, on_subscribed, queue);
}

static void on_messages_down(const char *code, const char *why, void *arg)
{
    struct queue *queue = arg;

    queue->is_listening = false;
    if (redis_link_is_up(queue->commands) && queue->store.is_fit) {
        queue->store.reason = code;
        snprintf(queue->store.detail, sizeof(queue->store.detail), "subscription: %s", why);
    }
    queue_health_changed(queue);
}

static int open_links(struct queue *queue, const char *name)
{
    struct redis_link_options options = {.loop = queue->loop,
                                         .url = &queue->url,
                                         .name = name,
                                         .on_up = on_up,
                                         .on_down = on_down,
                                         .on_dirty = on_dirty,
                                         .arg = queue};
    int status = redis_link_create(&options, &queue->commands);

    if (status < 0)
        return status;
    queue->links_open = 1;
    if (!queue->must_subscribe)
        return 0;
    options.on_up = on_messages_up;
    options.on_down = on_messages_down;
    options.on_message = queue_on_message;
    status = redis_link_create(&options, &queue->messages);
    queue->links_open += status == 0;
    return status;
}

/* ---- life --------------------------------------------------------------------------- */

static void queue_free(struct queue *queue)
{
    queue_map_deinit(&queue->followed);
    queue_map_deinit(&queue->leases);
    queue_functions_deinit(&queue->functions);
    buf_deinit(&queue->store.info);
    digest_wipe(&queue->url, sizeof(queue->url));
    free(queue->clocks);
    free(queue);
}

static void close_step(struct queue *queue)
{
    if (queue->handles_open > 0 || queue->links_open > 0)
        return;
    void (*on_closed)(void *) = queue->on_closed;
    void *arg = queue->on_closed_arg;

    queue_free(queue);
    if (on_closed)
        on_closed(arg);
}

static void on_link_closed(void *arg)
{
    struct queue *queue = arg;

    queue->links_open--;
    close_step(queue);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct queue *queue = handle->data;

    queue->handles_open--;
    close_step(queue);
}

static void close_handles(struct queue *queue)
{
    queue->handles_open = 4;
    uv_close((uv_handle_t *)&queue->turn, on_handle_closed);
    uv_close((uv_handle_t *)&queue->second, on_handle_closed);
    uv_close((uv_handle_t *)&queue->gathering, on_handle_closed);
    uv_close((uv_handle_t *)&queue->renewing, on_handle_closed);
}

static void start_handles(struct queue *queue)
{
    uv_idle_init(queue->loop, &queue->turn);
    uv_timer_init(queue->loop, &queue->second);
    uv_timer_init(queue->loop, &queue->gathering);
    uv_timer_init(queue->loop, &queue->renewing);
    queue->turn.data = queue->second.data = queue->gathering.data = queue->renewing.data = queue;
    uv_timer_start(&queue->second, on_second, digest_random_u64() % SECOND_MS, 0);
}

static void set_defaults(struct queue *queue, const struct queue_options *options)
{
    static const int waits_ms[] = {1, 2};
    uint8_t random[(SELF_BITS + 7) / 8];

    queue->loop = options->loop;
    queue->durability = options->durability;
    queue->shards = options->shards;
    queue->routes_max = options->routes_max;
    queue->jobs_max = options->jobs_max;
    queue->bytes_max = options->bytes_max;
    queue->lease_ms = options->lease_ms;
    queue->must_subscribe = options->must_subscribe;
    digest_random(random, sizeof(random));
    digest_base32(random, SELF_BITS, queue->self_id);
    queue->next_shard = (unsigned)(digest_random_u64() % queue->shards);
    queue->claim_shard = queue->next_shard;
    queue->submits.jobs_max = LIMIT_BATCH_IN;
    queue->submits.wait_ms = waits_ms[0];
    for (int i = 0; i < 4; i++) {
        queue->commits[i].jobs_max = LIMIT_BATCH_OUT;
        queue->commits[i].wait_ms = waits_ms[1];
    }
    queue_map_init(&queue->followed, QUEUE_FOLLOWED_MAX);
    queue_map_init(&queue->leases, QUEUE_LEASES_MAX);
    buf_init(&queue->store.info, 64 << 10);
    queue->store.reason = "redis_unreachable";
    snprintf(queue->store.detail, sizeof(queue->store.detail), "not connected yet");
    for (unsigned shard = 0; shard < queue->shards; shard++)
        queue->clocks[shard] = queue_key_clock(shard);
}

int queue_create(const struct queue_options *options, struct queue **out, struct error_text *why)
{
    struct redis_url url;
    struct queue *queue;
    int status = redis_url_parse(options->url, &url, why);

    if (status < 0)
        return status;
    if (options->shards < 1 || options->shards > QUEUE_SHARDS_MAX)
        return error_set(why, ERR_INVALID, "redis.shards must be 1 to %d", QUEUE_SHARDS_MAX);
    queue = queue_alloc(sizeof(*queue));
    queue->store.clock_offset_ms = clock_wall_ms() - clock_boot_ms();
    queue->url = url;
    queue->clocks = queue_alloc(options->shards * sizeof(queue->clocks[0]));
    set_defaults(queue, options);
    status = queue_functions_init(&queue->functions);
    CHECK(status == 0);
    start_handles(queue);
    status = open_links(queue, options->name);
    CHECK(status == 0);
    redis_link_start(queue->commands);
    if (queue->messages)
        redis_link_start(queue->messages);
    *out = queue;
    return 0;
}

void queue_close(struct queue *queue, void (*on_closed)(void *arg), void *arg)
{
    CHECK(!queue->is_closing);
    queue->is_closing = true;
    queue->on_closed = on_closed;
    queue->on_closed_arg = arg;
    queue->links_open++; /* until the end of this call */
    redis_link_close(queue->commands, on_link_closed, queue);
    if (queue->messages)
        redis_link_close(queue->messages, on_link_closed, queue);
    for (struct queue_op *op = queue_ops_pop(&queue->submits.ops); op;
         op = queue_ops_pop(&queue->submits.ops))
        op->on_reply(op, ERR_OFFLINE, NULL);
    queue_commit_close(queue);
    while (queue->failed.count > 0)
        run_failed(queue);
    close_handles(queue);
    queue->links_open--;
}

/* ---- what is asked of it ------------------------------------------------------------ */

int64_t queue_now_ms(const struct queue *queue)
{
    return clock_boot_ms() + queue->store.clock_offset_ms;
}

const char *queue_self_id(const struct queue *queue)
{
    return queue->self_id;
}

unsigned queue_shard_for_next(const struct queue *queue)
{
    return queue->next_shard;
}

unsigned queue_shard_for_key(const struct queue *queue, const char tenant[JOB_TENANT_SIZE],
                             const uint8_t key_hash[32])
{
    uint32_t hash = digest_crc32c(digest_crc32c(0, tenant, JOB_TENANT_SIZE), key_hash, 32);

    return hash % queue->shards;
}

void queue_on_health(struct queue *queue, void (*on_change)(void *arg), void *arg)
{
    queue->on_health = on_change;
    queue->on_health_arg = arg;
}

void queue_on_worker_events(struct queue *queue, const struct queue_worker_events *events)
{
    queue->events = *events;
}
