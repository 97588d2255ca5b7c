/* Is this Redis fit for what we promise, and is it the one we know? Looked at after every connect,
 * every five seconds, and every second while it is not fit. Unfit means not ready, with the reason;
 * never an exit. */
#include "common/queue/queue_private.h"

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/text.h"

enum {
    PROBE_EVERY_MS = 5000,
    NEWER_SAY_MS = 60 * 1000,
    CLAIMABLE_MS_MAX = 3000, /* an older proof that claims are possible is none */
    FULL_PERCENT = 85,       /* new jobs are refused above this share of maxmemory… */
    DRAINED_PERCENT = 80,    /* …until it is below this */
    BROKER_GAP_MS = 1500,    /* brokers sweep when no worker has for this long */
    WORKER_GAP_MS = 300,
    OFFSET_ROUND_TRIP_MS = 50, /* slower answers say little about the other clock */
};

static void ask_identity(struct queue *queue);

/* ---- verdicts ----------------------------------------------------------------------- */

static void unfit(struct queue *queue, const char *reason, const char *detail)
{
    struct queue_store *store = &queue->store;

    store->is_fit = false;
    store->is_probing = false;
    store->reason = reason;
    snprintf(store->detail, sizeof(store->detail), "%s", detail);
    queue_health_changed(queue);
}

void queue_store_suspect(struct queue *queue, const struct redisReply *reply)
{
    enum redis_error error = redis_error_of(reply);

    if (queue->is_closing)
        return;
    unfit(queue, redis_error_code(reply), reply->str);
    /* The address may by now be another machine's. */
    if (error == REDIS_ERROR_READONLY)
        redis_link_drop(queue->commands, "redis_read_only", reply->str);
}

bool queue_is_ready(const struct queue *queue)
{
    return queue->store.is_fit && redis_link_is_up(queue->commands) &&
           (!queue->messages || queue->is_listening) &&
           clock_mono_ms() - queue->store.claimable_mono_ms <= CLAIMABLE_MS_MAX;
}

void queue_health_changed(struct queue *queue)
{
    bool is_ready = queue_is_ready(queue);

    if (is_ready == queue->was_ready || queue->is_closing)
        return;
    queue->was_ready = is_ready;
    log_event(LOG_DEBUG, "store", LOG_I("ready", is_ready),
              LOG_S("reason", is_ready ? "" : queue->store.reason));
    if (is_ready) {
        queue_follow_on_ready(queue);
        if (queue->events.on_wake)
            queue->events.on_wake(queue->events.arg);
        queue_want_turn(queue);
    }
    if (queue->on_health)
        queue->on_health(queue->on_health_arg);
}

void queue_health(const struct queue *queue, struct queue_health *out)
{
    const struct queue_store *store = &queue->store;

    *out = (struct queue_health){.is_ready = queue_is_ready(queue),
                                 .reason = "",
                                 .detail = store->note,
                                 .last_ok_mono_ms = redis_link_last_ok_mono_ms(queue->commands),
                                 .memory_used = store->memory_used,
                                 .memory_max = store->memory_max,
                                 .round_trip_ms = redis_link_round_trip_ms(queue->commands)};
    if (!out->is_ready) {
        bool is_quiet = store->is_fit && redis_link_is_up(queue->commands);
        out->reason = store->reason[0] ? store->reason : "redis_unreachable";
        out->detail = store->detail[0] ? store->detail
                      : is_quiet       ? "no proof within 3 s that jobs can be claimed"
                                       : "not connected";
    }
    memcpy(out->store_id, store->id, sizeof(out->store_id));
    memcpy(out->redis_version, store->version, sizeof(out->redis_version));
}

/* ---- INFO --------------------------------------------------------------------------- */

/* Value of "name:" in the gathered INFO text, up to the end of its line. */
static struct slice info_value(const struct queue_store *store, const char *name)
{
    size_t size = strlen(name);
    const char *at = store->info.data;

    while (at && *at) {
        const char *end = strpbrk(at, "\r\n");
        size_t line = end ? (size_t)(end - at) : strlen(at);
        if (line > size && memcmp(at, name, size) == 0 && at[size] == ':')
            return (struct slice){at + size + 1, line - size - 1};
        at += line;
        at += strspn(at, "\r\n");
    }
    return (struct slice){"", 0};
}

static int64_t info_number(const struct queue_store *store, const char *name)
{
    struct slice value = info_value(store, name);
    int64_t number = 0;

    return text_parse_i64(value.bytes, value.size, 0, INT64_MAX, &number) == 0 ? number : 0;
}

static int64_t major_version(struct slice version)
{
    const char *dot = memchr(version.bytes, '.', version.size);
    int64_t major = 0;

    if (!dot || text_parse_i64(version.bytes, (size_t)(dot - version.bytes), 0, 1000, &major) < 0)
        return 0;
    return major;
}

static void learn_memory(struct queue_store *store)
{
    store->memory_used = info_number(store, "used_memory");
    store->memory_max = info_number(store, "maxmemory");
    if (store->memory_max == 0)
        store->is_nearly_full = false;
    else if (store->memory_used > store->memory_max / 100 * FULL_PERCENT)
        store->is_nearly_full = true;
    else if (store->memory_used < store->memory_max / 100 * DRAINED_PERCENT)
        store->is_nearly_full = false;
}

/* The reason this Redis does not do, or NULL. */
static const char *judge(struct queue *queue, char detail[256])
{
    struct queue_store *store = &queue->store;
    struct slice version = info_value(store, "redis_version");
    struct slice policy = info_value(store, "maxmemory_policy");
    struct slice sync = info_value(store, "appendfsync");

    detail[0] = '\0';
    snprintf(store->version, sizeof(store->version), "%.*s", (int)version.size, version.bytes);
    learn_memory(store);
    if (major_version(version) < 7) {
        snprintf(detail, 256, "Redis %s; 7.0 or later is needed", store->version);
        return "redis_too_old";
    }
    if (info_number(store, "loading") != 0) {
        snprintf(detail, 256, "Redis is loading its data");
        return "redis_loading";
    }
    if (!slice_is(info_value(store, "role"), "master")) {
        snprintf(detail, 256, "this Redis is a replica");
        return "redis_read_only";
    }
    if (!slice_is(policy, "noeviction")) {
        snprintf(detail, 256, "maxmemory-policy is %.*s: jobs could vanish; set noeviction",
                 (int)policy.size, policy.bytes);
        return "redis_may_evict";
    }
    if (queue->durability == DURABILITY_MEMORY)
        return NULL;
    if (info_number(store, "aof_enabled") == 0) {
        snprintf(detail, 256, "appendonly is off, durability asks for it");
        return "redis_not_durable";
    }
    if (sync.size > 0 && !slice_is(sync, "always")) {
        snprintf(detail, 256, "appendfsync is %.*s, durability asks for always", (int)sync.size,
                 sync.bytes);
        return "redis_not_durable";
    }
    /* A replica that is still being sent the data acknowledges nothing. */
    if (queue->durability == DURABILITY_REPLICA && !strstr(store->info.data, "state=online")) {
        snprintf(detail, 256, "no replica is online, durability asks for one");
        return "redis_not_durable";
    }
    return NULL;
}

static void on_probed(struct queue *queue)
{
    struct queue_store *store = &queue->store;
    char detail[256];
    const char *reason;

    if (!store->is_probing)
        return;
    if (store->info_status < 0) {
        unfit(queue, store->reason[0] ? store->reason : "redis_protocol",
              store->detail[0] ? store->detail : "INFO was not answered");
        return;
    }
    reason = judge(queue, detail);
    store->probed_mono_ms = clock_mono_ms();
    if (reason)
        unfit(queue, reason, detail);
    else
        ask_identity(queue);
}

static void on_info(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;
    struct queue_store *store = &queue->store;

    if (status < 0)
        return; /* the connection is gone, and the probe with it */
    store->info_left--;
    if (redis_reply_is_error(reply)) {
        store->info_status = ERR_UNFIT;
        store->reason = redis_error_code(reply);
        snprintf(store->detail, sizeof(store->detail), "%s", reply->str);
    } else if (reply->type == REDIS_REPLY_STRING &&
               (buf_append(&store->info, reply->str, reply->len) < 0 ||
                buf_append_text(&store->info, "\r\n") < 0)) {
        store->info_status = ERR_UNFIT;
    }
    if (store->info_left == 0)
        on_probed(queue);
}

static void on_config(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;
    struct queue_store *store = &queue->store;

    if (status < 0)
        return;
    store->info_left--;
    store->note[0] = '\0';
    if (redis_reply_is_error(reply))
        snprintf(store->note, sizeof(store->note),
                 "CONFIG is refused, so appendfsync could not be checked");
    else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[1]->str &&
             buf_printf(&store->info, "appendfsync:%s\r\n", reply->element[1]->str) < 0)
        store->info_status = ERR_UNFIT;
    if (store->info_left == 0)
        on_probed(queue);
}

static void probe(struct queue *queue)
{
    static const char *const sections[] = {"server", "memory", "persistence", "replication"};
    struct queue_store *store = &queue->store;
    struct redis_link *link = queue->commands;

    if (redis_link_can_send(link) < 0)
        return;
    store->is_probing = true;
    store->was_loaded = false;
    store->info_status = 0;
    store->info_left = 5;
    buf_clear(&store->info);
    redis_link_begin(link, 3);
    redis_link_text(link, "CONFIG");
    redis_link_text(link, "GET");
    redis_link_text(link, "appendfsync");
    redis_link_end(link, on_config, queue);
    for (int i = 0; i < 4; i++) {
        redis_link_begin(link, 2);
        redis_link_text(link, "INFO");
        redis_link_text(link, sections[i]);
        redis_link_end(link, on_info, queue);
    }
}

/* ---- identity ----------------------------------------------------------------------- */

static void strange(struct queue *queue, const char *reason, const char *detail)
{
    queue->store.is_strange = true;
    unfit(queue, reason, detail);
}

static void on_identity(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;
    struct queue_store *store = &queue->store;

    if (status < 0 || !store->is_probing)
        return;
    if (redis_reply_is_error(reply)) {
        (void)queue_error_status(queue, reply);
        unfit(queue, redis_error_code(reply), reply->str);
    } else if (reply->type != REDIS_REPLY_STRING || reply->len != 32) {
        if (store->id[0])
            strange(queue, "store_identity", "the store was emptied: its identity is gone");
        else
            unfit(queue, "store_identity", "the store has no identity and takes none");
    } else if (store->id[0] && memcmp(store->id, reply->str, 32) != 0) {
        strange(queue, "store_identity",
                "this is another store than the one this process has worked with");
    } else {
        memcpy(store->id, reply->str, 32);
        store->is_strange = false;
    }
}

static void on_shards(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;
    struct queue_store *store = &queue->store;
    int64_t shards = 0, schema = JOB_SCHEMA, layout = 1;
    char detail[128];

    if (status < 0 || !store->is_probing)
        return;
    if (redis_reply_is_error(reply)) {
        (void)queue_error_status(queue, reply);
        return;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        text_parse_i64(reply->element[0]->str, reply->element[0]->len, 1, QUEUE_SHARDS_MAX,
                       &shards) < 0) {
        unfit(queue, "shards_differ", "the store does not say its number of shards");
        return;
    }
    if (reply->element[2]->type == REDIS_REPLY_STRING &&
        text_parse_i64(reply->element[2]->str, reply->element[2]->len, 1, 1000, &layout) < 0)
        layout = QUEUE_LAYOUT + 1;
    if (layout != QUEUE_LAYOUT) {
        strange(queue, layout > QUEUE_LAYOUT ? "layout_too_new" : "layout_too_old",
                layout > QUEUE_LAYOUT ? "a newer version keeps the store's keys in another way"
                                      : "an older version keeps the store's keys in another way");
        return;
    }
    if (reply->element[1]->type == REDIS_REPLY_STRING &&
        text_parse_i64(reply->element[1]->str, reply->element[1]->len, 1, 255, &schema) < 0)
        schema = JOB_SCHEMA;
    store->schema = schema < JOB_SCHEMA ? (unsigned)schema : JOB_SCHEMA;
    if (schema > JOB_SCHEMA && !store->note[0])
        snprintf(store->note, sizeof(store->note),
                 "jobs are written in schema %lld; this version reads up to %d", (long long)schema,
                 JOB_SCHEMA);
    if (shards != (int64_t)queue->shards) {
        snprintf(detail, sizeof(detail), "the store has %lld shards, redis.shards says %u",
                 (long long)shards, queue->shards);
        strange(queue, "shards_differ", detail);
        return;
    }
    queue_sweep_send(queue);
}

static void ask_identity(struct queue *queue)
{
    struct redis_link *link = queue->commands;
    uint8_t random[16];
    char id[33], number[16], schema[16], layout[16];

    if (!queue->store.id[0]) {
        const char *const rows[3][2] = {{"shards", number}, {"schema", schema}, {"layout", layout}};

        digest_random(random, sizeof(random));
        digest_hex(random, sizeof(random), id);
        snprintf(number, sizeof(number), "%u", queue->shards);
        snprintf(schema, sizeof(schema), "%d", JOB_SCHEMA);
        snprintf(layout, sizeof(layout), "%d", QUEUE_LAYOUT);
        redis_link_begin(link, 4);
        redis_link_text(link, "SET");
        redis_link_text(link, QUEUE_KEY_STORE_ID);
        redis_link_text(link, id);
        redis_link_text(link, "NX");
        redis_link_end(link, NULL, NULL);
        for (int i = 0; i < 3; i++) {
            redis_link_begin(link, 4);
            redis_link_text(link, "HSETNX");
            redis_link_text(link, QUEUE_KEY_CONFIG);
            redis_link_text(link, rows[i][0]);
            redis_link_text(link, rows[i][1]);
            redis_link_end(link, NULL, NULL);
        }
    }
    redis_link_begin(link, 2);
    redis_link_text(link, "GET");
    redis_link_text(link, QUEUE_KEY_STORE_ID);
    redis_link_end(link, on_identity, queue);
    redis_link_begin(link, 5);
    redis_link_text(link, "HMGET");
    redis_link_text(link, QUEUE_KEY_CONFIG);
    redis_link_text(link, "shards");
    redis_link_text(link, "schema");
    redis_link_text(link, "layout");
    redis_link_end(link, on_shards, queue);
}

void queue_note_newer(struct queue *queue, uint64_t count)
{
    int64_t now_mono_ms = clock_mono_ms();

    if (count == 0)
        return;
    metrics_add(METRIC_SCHEMA_TOO_NEW, count);
    if (queue->store.newer_mono_ms && now_mono_ms - queue->store.newer_mono_ms < NEWER_SAY_MS)
        return;
    queue->store.newer_mono_ms = now_mono_ms;
    log_event(LOG_WARN, "schema_too_new", LOG_I("reads", JOB_SCHEMA));
}

/* ---- functions ---------------------------------------------------------------------- */

static void on_script_loaded(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;
    char(*sha1)[41] = queue->functions.script_sha1;
    int which = sha1[0][0] ? 1 : 0;

    if (status < 0)
        return;
    if (redis_reply_is_error(reply) || reply->type != REDIS_REPLY_STRING || reply->len != 40) {
        unfit(queue, "functions_refused",
              redis_reply_is_error(reply) ? reply->str : "SCRIPT LOAD failed");
        return;
    }
    memcpy(sha1[which], reply->str, 41);
    if (which == 1 && queue->store.is_probing)
        queue_sweep_send(queue);
}

/* Functions are refused here: the same text as scripts. */
static void load_scripts(struct queue *queue)
{
    queue->store.uses_scripts = true;
    for (int i = 0; i < SCRIPT_COUNT; i++)
        queue->functions.script_sha1[i][0] = '\0';
    for (int i = 0; i < SCRIPT_COUNT; i++) {
        redis_link_begin(queue->commands, 3);
        redis_link_text(queue->commands, "SCRIPT");
        redis_link_text(queue->commands, "LOAD");
        redis_link_argument(queue->commands, queue->functions.scripts[i].data,
                            queue->functions.scripts[i].size);
        redis_link_end(queue->commands, on_script_loaded, queue);
    }
}

static void on_library_loaded(int status, const struct redisReply *reply, void *arg)
{
    struct queue *queue = arg;

    if (status < 0 || !queue->store.is_probing)
        return;
    if (redis_reply_is_error(reply) && !strstr(reply->str, "already exists")) {
        enum redis_error error = redis_error_of(reply);

        if (error == REDIS_ERROR_LATER || error == REDIS_ERROR_READONLY)
            (void)queue_error_status(queue, reply);
        else
            load_scripts(queue);
        return;
    }
    queue_sweep_send(queue);
}

static void load_functions(struct queue *queue)
{
    if (queue->store.uses_scripts) {
        load_scripts(queue);
        return;
    }
    redis_link_begin(queue->commands, 3);
    redis_link_text(queue->commands, "FUNCTION");
    redis_link_text(queue->commands, "LOAD");
    redis_link_argument(queue->commands, queue->functions.library.data,
                        queue->functions.library.size);
    redis_link_end(queue->commands, on_library_loaded, queue);
}

static bool may_be_refused(const struct redisReply *reply)
{
    return redis_reply_is_error(reply) && (strstr(reply->str, "unknown command") != NULL ||
                                           strncmp(reply->str, "NOPERM ", 7) == 0);
}

/* The answer to a sweep: proof that jobs can be claimed, and the last step of a probe. */
void queue_store_on_sweep(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct queue *queue = op->queue;
    struct queue_store *store = &queue->store;
    bool was_probing = store->info_left == 0 && redis_link_is_up(queue->commands);

    queue->is_sweeping = false;
    if (status == 0 && reply->type == REDIS_REPLY_ARRAY && reply->elements == 6) {
        store->claimable_mono_ms = clock_mono_ms();
        store->is_fit = store->is_fit || store->is_probing;
        store->is_probing = false;
        if (store->is_fit) {
            store->reason = "";
            store->detail[0] = '\0';
        }
        queue_sweep_done(queue, reply);
        queue_health_changed(queue);
        return;
    }
    bool is_missing = redis_reply_is_error(reply) && redis_error_of(reply) == REDIS_ERROR_MISSING;
    bool is_refused = may_be_refused(reply) && !store->uses_scripts;
    if (was_probing && (is_missing || is_refused) && !store->was_loaded) {
        store->is_probing = true;
        store->was_loaded = true;
        if (is_refused)
            load_scripts(queue);
        else
            load_functions(queue);
        return;
    }
    if (status == ERR_PROTOCOL && reply)
        unfit(queue, "redis_protocol",
              redis_reply_is_error(reply) ? reply->str : "sweep answered nonsense");
}

/* ---- events ------------------------------------------------------------------------- */

void queue_store_on_up(struct queue *queue)
{
    queue->store.reason = "redis_unreachable";
    snprintf(queue->store.detail, sizeof(queue->store.detail), "connected, being checked");
    probe(queue);
}

void queue_store_on_down(struct queue *queue, const char *code, const char *why)
{
    queue->is_sweeping = false;
    queue->tenants_known_count = 0;
    unfit(queue, code, why);
}

void queue_store_second(struct queue *queue, int64_t now_mono_ms)
{
    struct queue_store *store = &queue->store;
    bool is_old = now_mono_ms - store->probed_mono_ms > PROBE_EVERY_MS;

    if (!redis_link_is_up(queue->commands) || store->is_probing)
        return;
    if (!store->is_fit || is_old) {
        probe(queue);
        return;
    }
    queue_sweep_send(queue);
}

/* How old the last sweep of anybody must be for ours to be more than a tick of the clocks. */
static int64_t sweep_gap_ms(struct queue *queue)
{
    bool is_due = queue->sweep_at_mono_ms != 0 && clock_mono_ms() >= queue->sweep_at_mono_ms;

    if (is_due)
        queue->sweep_at_mono_ms = 0;
    if (!queue->messages)
        return INT64_MAX; /* a tool */
    if (!queue->does_sweep)
        return BROKER_GAP_MS;
    return is_due ? 0 : WORKER_GAP_MS;
}

void queue_sweep_done(struct queue *queue, const struct redisReply *reply)
{
    struct redisReply **row = reply->element;
    double round_trip = redis_link_round_trip_ms(queue->commands);

    if (row[0]->integer > 0 &&
        (!queue->store.is_clock_known || round_trip < OFFSET_ROUND_TRIP_MS)) {
        queue->store.clock_offset_ms = row[0]->integer - clock_boot_ms();
        queue->store.is_clock_known = true;
    }
    metrics_add(METRIC_JOBS_RECOVERED, (uint64_t)row[1]->integer);
    metrics_add(METRIC_JOBS_EXPIRED, (uint64_t)row[3]->integer);
    if (row[5]->integer != 0)
        queue_sweep_soon(queue, 1);
    else if (row[4]->integer >= 0)
        queue_sweep_soon(queue, row[4]->integer + 1 + (int64_t)(digest_random_u64() % 4));
}

void queue_sweep_send(struct queue *queue)
{
    if (queue->is_sweeping || redis_link_can_send(queue->commands) < 0)
        return;
    queue->is_sweeping = true;
    queue->sweep_op.on_reply = queue_store_on_sweep;
    queue_call_begin_all(queue, VERB_SWEEP, 0, 1);
    redis_link_number(queue->commands, sweep_gap_ms(queue));
    queue_call_end(queue, &queue->sweep_op);
}

void queue_sweep_start(struct queue *queue)
{
    queue->does_sweep = true;
}
