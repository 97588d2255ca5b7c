/* Jobs as a submitter makes them, and submit: what queue_submit.c sends, with limits and keys. */
#include "model.h"

#include <stdio.h>
#include <string.h>

#include "common/base/digest.h"
#include "common/job/limits.h"

enum {
    GROUP_SIZE = 43,
    KEYED = 1,
    USUAL_DEADLINE = 2,
    HOUR_MS = 3600 * 1000,
    MINUTE_MS = 60 * 1000
};

const char *const model_routes[MODEL_ROUTES] = {"m", "m:0aaaaaa", "large model"};
const char *const model_tenants[MODEL_TENANTS] = {"acme", "umbrella"};

struct job history_job(const struct history *history, unsigned index, char text[MODEL_TEXT_SIZE])
{
    const struct model_job *from = &history->model.jobs[index];
    struct job job = {.id = history->ids[index],
                      .priority = from->priority,
                      .endpoint = ENDPOINT_CHAT,
                      .max_attempts = 5,
                      .sequence = 1,
                      .result_ttl_s = MODEL_RESULT_TTL_S,
                      .timeout_ms = 60000,
                      .created_at_ms = from->created_ms,
                      .expires_at_ms = from->expires_ms,
                      .claim = from->claim,
                      .crashes = from->crashes,
                      .route = slice_of(model_routes[from->route]),
                      .tenant_name = slice_of(model_tenants[from->tenant])};

    (void)snprintf(text, MODEL_TEXT_SIZE, "body %u of %.20s", index, history->ids[index].core);
    job.payload = slice_of(text);
    if (from->body_pieces > 0) {
        job.flags |= JOB_FLAG_PIECES;
        job.pieces = from->body_pieces;
        job.payload_size = (uint32_t)job.payload.size;
    }
    if (from->has_home)
        memcpy(job.home, "aaaabbbb", JOB_HOME_SIZE);
    job_tenant_hash(job.tenant_name, job.tenant);
    return job;
}

/* A submission: one job, how the batch groups it, and what it asks for. */
struct submission {
    unsigned index;
    int key; /* -1: none */
    unsigned body;
    int64_t due_ms;
    bool joins; /* the group of the one before it */
};

struct batch {
    struct submission of[MODEL_BATCH];
    unsigned count;
};

static void draw_times(const struct history *history, struct random *random, struct model_job *job,
                       int64_t *out_due_ms)
{
    static const unsigned reach_ms[] = {2000, 30000, 240000, 10 * HOUR_MS};

    if (random_chance(random, 25))
        *out_due_ms = history->now_ms + random_below(random, 20000) - 1000;
    if (random_chance(random, 40))
        job->expires_ms =
            history->now_ms + 1 + random_below(random, reach_ms[random_below(random, 4)]);
    else if (random_chance(random, 50))
        job->expires_ms = history->now_ms + LIMIT_EXPIRES_DEFAULT_MS;
}

static void draw(struct history *history, struct random *random, struct submission *out)
{
    unsigned index = history->jobs_count++;
    struct model_job *job = &history->model.jobs[index];
    uint8_t bytes[15];

    *job = (struct model_job){.state = JOB_QUEUED,
                              .shard = random_below(random, MODEL_SHARDS),
                              .route = random_below(random, MODEL_ROUTES),
                              .tenant = random_below(random, MODEL_TENANTS),
                              .priority = (enum job_priority)random_below(random, 3),
                              .claim = random_chance(random, 10) ? UINT16_MAX : 0,
                              .crashes = random_chance(random, 10) ? 3 : 0, /* poison is near */
                              .sequence = 1,
                              .owner = -1,
                              .commit_claim = -1,
                              .has_home = random_chance(random, 20),
                              .created_ms = history->now_ms,
                              .body_pieces = random_chance(random, 10) ? 2 : 0};
    *out = (struct submission){.index = index, .key = -1};
    draw_times(history, random, job, &out->due_ms);
    if (random_chance(random, 30)) {
        out->key = (int)random_below(random, MODEL_KEYS);
        out->body = random_below(random, 2);
        job->shard = (unsigned)out->key % MODEL_SHARDS; /* as queue_shard_for_key */
    }
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random_next(random);
    history->ids[index] = job_id_make(job->shard, history->now_ms, bytes);
}

/* Makes a job like the one before, so that both share a group. */
static void join(struct history *history, struct submission *one, const struct submission *before)
{
    struct model_job *job = &history->model.jobs[one->index];
    const struct model_job *from = &history->model.jobs[before->index];
    uint8_t bytes[15];

    job->shard = from->shard;
    job->route = from->route;
    job->tenant = from->tenant;
    job->priority = from->priority;
    job->body_pieces = 0;
    job->expires_ms = from->expires_ms;
    if (job->expires_ms > 0 && !model_has_usual_deadline(job) &&
        (job->expires_ms + 1) % MINUTE_MS > 1)
        job->expires_ms++;
    one->key = -1;
    one->due_ms = 0;
    one->joins = true;
    memset(bytes, (int)one->index, sizeof(bytes)); /* no two alike, whichever bits are used */
    history->ids[one->index] = job_id_make(job->shard, history->now_ms, bytes);
}

static void draw_batch(struct history *history, struct random *random, struct batch *out)
{
    unsigned wanted = 1 + random_below(random, MODEL_BATCH);

    out->count = 0;
    while (out->count < wanted && history->jobs_count < MODEL_JOBS_MAX) {
        struct submission *one = &out->of[out->count++];
        const struct submission *before = one - 1;

        draw(history, random, one);
        if (out->count > 1 && history->jobs_max == 0 && random_chance(random, 40) &&
            before->key < 0 && before->due_ms == 0 &&
            history->model.jobs[before->index].body_pieces == 0)
            join(history, one, before);
    }
}

/* ---- sending ------------------------------------------------------------------------ */

static void put(struct buf *out, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        CHECK(buf_append_char(out, (char)(value >> (8 * i) & 0xff)) == 0);
}

static void send_records(struct history *history, const struct batch *batch)
{
    struct command *command = &history->command;
    struct buf record = {.size_max = 1 << 16};

    command_begin(command);
    command_text(command, "MSET");
    for (unsigned i = 0; i < batch->count; i++) {
        unsigned index = batch->of[i].index;
        struct model_job *from = &history->model.jobs[index];
        char text[MODEL_TEXT_SIZE];
        struct job job = history_job(history, index, text);

        job_enter(&job, batch->of[i].due_ms);
        buf_clear(&record);
        CHECK(job_encode(&job, &record) == 0);
        from->live_bytes = job_head_size(record.data, record.size) -
                           (from->has_home ? (size_t)JOB_HOME_SIZE : 0) + job.payload.size;
        command_format(command, "{%u}:j:%s", from->shard, job.id.core);
        command_add(command, record.data, record.size);
        for (unsigned n = 0; n < from->body_pieces; n++) {
            command_format(command, "{%u}:b:%s:%u", from->shard, job.id.core, n);
            command_text(command, "piece");
        }
    }
    buf_deinit(&record);
    store_append(history->store, command);
}

static unsigned group_end(const struct batch *batch, unsigned from)
{
    unsigned end = from + 1;

    while (end < batch->count && batch->of[end].joins)
        end++;
    return end;
}

static void put_hash(struct buf *out, char kind, unsigned number)
{
    char hash[33];

    (void)snprintf(hash, sizeof(hash), "%c%031u", kind, number);
    CHECK(buf_append(out, hash, 32) == 0);
}

static void send_group(struct history *history, const struct batch *batch, unsigned from,
                       unsigned end)
{
    const struct submission *first = &batch->of[from];
    const struct model_job *job = &history->model.jobs[first->index];
    struct buf group = {.size_max = 4096};
    char ticket[JOB_TICKET_SIZE], packed[JOB_ID_PACKED_SIZE], text[MODEL_TEXT_SIZE];
    uint64_t bytes = 0;

    for (unsigned i = from; i < end; i++)
        bytes += history->model.jobs[batch->of[i].index].live_bytes;
    job_ticket_make(&(struct job){.priority = JOB_HIGH}, ticket);
    put(&group, job->shard + 1, 1);
    put(&group,
        (first->key >= 0 ? KEYED : 0) | (model_has_usual_deadline(job) ? USUAL_DEADLINE : 0), 1);
    put(&group, end - from, 2);
    put(&group, job->body_pieces, 2);
    put(&group, 1 + job->tenant, 2); /* weight */
    put(&group, (uint64_t)first->due_ms, 6);
    put(&group, (uint64_t)job->expires_ms, 6);
    put(&group, bytes, 8);
    put(&group, UINT32_MAX, 4);
    put(&group, (uint64_t)(history->now_ms / HOUR_MS), 4);
    struct job lane = history_job(history, first->index, text);
    job_ticket_make(&lane, ticket);
    CHECK(buf_append(&group, ticket + 35, 1 + JOB_TENANT_SIZE) == 0);
    CHECK(group.size == GROUP_SIZE);
    if (first->key >= 0) {
        put_hash(&group, 'k', (unsigned)first->key);
        put_hash(&group, 'b', first->body);
    }
    command_add(&history->command, group.data, group.size);
    command_text(&history->command, model_routes[job->route]);
    for (unsigned i = from; i < end; i++) {
        struct job one = history_job(history, batch->of[i].index, text);

        job_ticket_make(&one, ticket);
        job_id_pack(&one.id, packed);
        command_add(&history->command, ticket, sizeof(ticket));
        command_add(&history->command, packed, sizeof(packed));
    }
    buf_deinit(&group);
}

static redisReply *send(struct history *history, const struct batch *batch)
{
    static const unsigned shards[MODEL_SHARDS] = {0, 1};
    struct buf limits = {.size_max = 64};
    redisReply *stored, *reply;

    send_records(history, batch);
    stored = store_reply(history->store);
    CHECK(stored->type == REDIS_REPLY_STATUS);
    freeReplyObject(stored);
    store_verb(history->store, &history->command, VERB_SUBMIT, shards, MODEL_SHARDS);
    put(&limits, (uint64_t)history->routes_max, 4);
    put(&limits, (uint64_t)history->jobs_max, 8);
    put(&limits, 0, 8);
    put(&limits, MODEL_SHARDS, 2);
    command_add(&history->command, limits.data, limits.size);
    buf_deinit(&limits);
    for (unsigned i = 0; i < batch->count; i = group_end(batch, i))
        send_group(history, batch, i, group_end(batch, i));
    reply = history_ask(history);
    return reply;
}

/* ---- what ought to come ------------------------------------------------------------- */

static int64_t live_jobs(const struct model *model)
{
    int64_t count = 0;

    for (unsigned i = 0; i < MODEL_JOBS_MAX; i++)
        count += model_is_live(&model->jobs[i]);
    return count;
}

static bool is_used(const struct model *model, int key)
{
    int job = key >= 0 ? model->keys[key].job : -1;

    return job >= 0 && model->jobs[job].exists && !model->jobs[job].is_gone;
}

/* Letter for a group, and what it adds to live routes. */
static char expect(struct history *history, const struct submission *one, unsigned count,
                   unsigned *routes)
{
    const struct model *model = &history->model;
    unsigned route = model->jobs[one->index].route;
    unsigned live = (unsigned)__builtin_popcount(*routes);

    if (is_used(model, one->key)) {
        history->met[MET_REPLAY]++;
        return model->keys[one->key].body == one->body ? 'r' : 'c';
    }
    if (history->routes_max > 0 && !(*routes >> route & 1U) && live >= history->routes_max)
        return 'm';
    if (history->jobs_max > 0)
        return live_jobs(model) + count > history->jobs_max ? 'f' : 'k';
    return 'k';
}

static void accept(struct history *history, const struct submission *one)
{
    struct model *model = &history->model;
    struct model_job *job = &model->jobs[one->index];

    job->exists = true;
    job->position = ++model->positions;
    if (one->due_ms > 0) {
        job->state = JOB_SCHEDULED;
        job->due_ms = one->due_ms;
    }
    if (one->key >= 0)
        model->keys[one->key] = (struct model_key){(int)one->index, one->body};
    model->totals[job->shard][job->route][TOTAL_SUBMITTED]++;
    history->met[MET_SUBMIT]++;
    history->met[MET_PIECES] += job->body_pieces > 0;
    history_say(history, "  job %u: shard %u route %u priority %d due %+lld expires %+lld key %d\n",
                one->index, job->shard, job->route, (int)job->priority,
                (long long)(one->due_ms ? one->due_ms - history->now_ms : 0),
                (long long)(job->expires_ms ? job->expires_ms - history->now_ms : 0), one->key);
}

static void note_refusal(struct history *history, char letter)
{
    history->met[MET_CONFLICT] += letter == 'c';
    history->met[MET_TOO_MANY] += letter == 'm';
    history->met[MET_FULL] += letter == 'f';
}

void history_submit(struct history *history, struct random *random)
{
    unsigned routes = history->live_routes, group = 0, first = history->jobs_count;
    size_t earlier = 1;
    struct batch batch;
    redisReply *reply;

    draw_batch(history, random, &batch);
    if (batch.count == 0)
        return;
    reply = send(history, &batch);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1) {
        history_fault(history, "submit: %s", reply->str ? reply->str : "no list");
        batch.count = 0;
    }
    for (unsigned i = 0; i < batch.count; group++) {
        const struct submission *one = &batch.of[i];
        unsigned end = group_end(&batch, i);
        char letter = expect(history, one, end - i, &routes);
        const char *said = reply->element[0]->str;

        if (reply->element[0]->len <= group || said[group] != letter)
            history_fault(history, "submit of job %u: answered %s at %u, expected %c", one->index,
                          said, group, letter);
        if (letter == 'r' || letter == 'c') {
            int job = history->model.keys[one->key].job;

            if (earlier >= reply->elements ||
                memcmp(reply->element[earlier]->str, history->ids[job].core, JOB_ID_CORE_SIZE) != 0)
                history_fault(history, "submit: the earlier job of key %d is job %d", one->key,
                              job);
            earlier++;
        }
        for (; i < end; i++)
            if (letter == 'k')
                accept(history, &batch.of[i]);
        if (letter == 'k' && history->routes_max > 0)
            routes |= 1U << history->model.jobs[one->index].route;
        note_refusal(history, letter);
    }
    freeReplyObject(reply);
    history_take_handed(history, first);
}
