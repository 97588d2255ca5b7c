/* claim: one call over all shards, one MGET of the records that are too large to come with its
 * answer, then what stands apart of them. What a standing claim brings comes by a message instead
 * (functions/claim.lua) and goes the same way from there. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/log.h"
#include "common/base/text.h"
#include "common/queue/queue_load.h"

struct claim {
    struct queue_op op; /* of the call */
    struct queue_op records_op;
    queue_claim_fn on_claim;
    void *arg;
    uint8_t token[JOB_TOKEN_SIZE];
    int64_t asked_boot_ms;
    struct queue_load *loads;
    bool was_read_again[LIMIT_CLAIM_COUNT];
    unsigned count;
    unsigned apart[LIMIT_CLAIM_COUNT]; /* loads whose records did not come along */
    unsigned apart_count;
    unsigned waiting; /* records not completed yet */
    int status;       /* why some records could not be read */
    struct job *jobs;
    unsigned jobs_count;
    struct queue_room hints[LIMIT_HINT_ROUTES];
    char hint_names[LIMIT_HINT_ROUTES][LIMIT_ROUTE_BYTES];
    unsigned hints_count;
    bool has_more;
    unsigned newer_count;
    bool is_open;    /* was sent or handed: may bring a job whose cancel comes before it */
    bool is_current; /* was sent: no other claim starts before it is done */
    bool is_handed;
    bool goes_back; /* handed, and nobody here takes it */
};

/* A record that fails its checks twice is ended here. */
struct read_again {
    struct queue_op op;
    struct claim *claim;
    unsigned index;
};

static void claim_done(struct claim *claim, int status)
{
    struct queue *queue = claim->op.queue;
    struct queue_claim_result result = {.status = status,
                                        .jobs = claim->jobs,
                                        .jobs_count = claim->jobs_count,
                                        .waiting = claim->hints,
                                        .waiting_count = claim->hints_count,
                                        .has_more = claim->has_more,
                                        .newer_count = claim->newer_count};

    bool is_late = clock_boot_ms() - claim->asked_boot_ms > queue->lease_ms / 3;

    if (claim->is_current)
        queue->is_claiming = false;
    if (claim->is_open)
        queue->claims_open--;
    if (claim->is_handed)
        queue->stand.handed_open--;
    claim->on_claim(&result, claim->arg);
    if (claim->is_open && (queue->missed_cancel || is_late))
        queue_renew_soon(queue);
    if (queue->claims_open == 0)
        queue->missed_cancel = false;
    queue_stand_step(queue);
    for (unsigned i = 0; i < claim->count; i++)
        queue_load_deinit(&claim->loads[i]);
    free(claim->loads);
    free(claim->jobs);
    free(claim);
}

static void claim_step(struct claim *claim)
{
    if (claim->waiting > 0)
        return;
    claim->jobs = queue_alloc((claim->count ? claim->count : 1) * sizeof(*claim->jobs));
    for (unsigned i = 0; i < claim->count; i++) {
        if (claim->loads[i].status < 0)
            continue;
        claim->jobs[claim->jobs_count++] = claim->loads[i].job;
        /* Not before all are here: who hears that a lease has ended must know the job. */
        if (!claim->goes_back)
            queue_lease_add(claim->op.queue, &claim->loads[i].job, claim->asked_boot_ms);
    }
    claim_done(claim, claim->jobs_count > 0 ? 0 : claim->status);
}

/* ---- records that cannot be read ---------------------------------------------------- */

static void on_failed_corrupt(int status, void *arg)
{
    (void)arg;
    log_event(LOG_DEBUG, "corrupt_record_failed", LOG_I("status", status));
}

/* Ends a job whose record is broken. What the header says is taken as it is; route and meta may be
 * what broke. */
static void fail_corrupt(struct claim *claim, const struct queue_load *load, const char *bytes,
                         size_t size)
{
    struct job job = {.id = load->id};
    char head[JOB_HEADER_SIZE];

    if (size < JOB_HEADER_SIZE || bytes[0] != 'P' || (unsigned char)bytes[1] > JOB_SCHEMA)
        return; /* nothing here to be failed: its lease lapses, and recovery drops it */
    memcpy(head, bytes, sizeof(head));
    job.schema = (unsigned char)head[1];
    job.claim = (unsigned char)head[4] | (unsigned)(unsigned char)head[5] << 8;
    job.attempt = (unsigned char)head[6];
    job.crashes = (unsigned char)head[7];
    job.priority = head[41] == '0' ? JOB_HIGH : head[41] == '2' ? JOB_LOW : JOB_NORMAL;
    memcpy(job.token, claim->token, JOB_TOKEN_SIZE);
    memcpy(job.tenant, head + 42, JOB_TENANT_SIZE);
    job.max_attempts = (unsigned char)head[48];
    job.created_at_ms = job_id_at_ms(&load->id);
    job.started_at_ms = job.finished_at_ms = queue_now_ms(claim->op.queue);
    job.result_ttl_s = LIMIT_RECORD_AFTER_RESULT_S;
    job.error_code = slice_of("corrupt_record");
    job.error_message = slice_of("the stored record does not fit its checksum");
    CHECK(job_state_from_letter('F', &job.state) == 0);
    queue_fail(claim->op.queue, &job, on_failed_corrupt, NULL);
}

static void on_loaded(struct queue_load *load);

static void on_read_again(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct read_again *again = (struct read_again *)op;
    struct claim *claim = again->claim;
    struct queue_load *load = &claim->loads[again->index];

    free(again);
    if (status == 0 && reply->type == REDIS_REPLY_STRING) {
        struct job_id id = load->id;

        queue_load_deinit(load);
        *load = (struct queue_load){.queue = claim->op.queue,
                                    .id = id,
                                    .wants_payload = true,
                                    .on_loaded = on_loaded,
                                    .arg = claim};
        queue_load_start(load, reply->str, reply->len);
        return;
    }
    claim->waiting--;
    claim_step(claim);
}

static void read_again(struct claim *claim, unsigned index)
{
    struct read_again *again = queue_alloc(sizeof(*again));
    struct queue_key key = queue_key_job(&claim->loads[index].id);
    struct redis_link *link = claim->op.queue->commands;

    claim->was_read_again[index] = true;
    again->op.queue = claim->op.queue;
    again->op.on_reply = on_read_again;
    again->claim = claim;
    again->index = index;
    redis_link_begin(link, 2);
    redis_link_text(link, "GET");
    redis_link_argument(link, key.text, key.size);
    redis_link_end(link, queue_on_reply, again);
}

static void on_loaded(struct queue_load *load)
{
    struct claim *claim = load->arg;
    unsigned index = (unsigned)(load - claim->loads);
    const struct job *job = &load->job;

    if (load->status == ERR_TOO_BIG)
        load->status = ERR_CORRUPT;
    if (load->status == ERR_CORRUPT && !claim->was_read_again[index] &&
        queue_can_read(claim->op.queue) == 0) {
        read_again(claim, index);
        return;
    }
    if (load->status == ERR_CORRUPT) {
        fail_corrupt(claim, load, load->record.data, load->record.size);
    } else if (load->status == 0 && (job->state != JOB_RUNNING ||
                                     memcmp(job->token, claim->token, JOB_TOKEN_SIZE) != 0)) {
        /* Cancelled or lost between the two answers. */
        load->status = ERR_FENCED;
    }
    claim->waiting--;
    claim_step(claim);
}

/* ---- the two answers ---------------------------------------------------------------- */

static void on_records(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct claim *claim = (struct claim *)((char *)op - offsetof(struct claim, records_op));

    if (status == 0 && reply &&
        (reply->type != REDIS_REPLY_ARRAY || reply->elements != claim->apart_count))
        status = ERR_PROTOCOL;
    claim->status = status;
    for (unsigned i = 0; i < claim->apart_count; i++) {
        struct queue_load *load = &claim->loads[claim->apart[i]];

        if (status == 0 && reply->element[i]->type == REDIS_REPLY_STRING) {
            queue_load_start(load, reply->element[i]->str, reply->element[i]->len);
        } else {
            /* It runs in our name and we do not know it: its lease lapses. */
            load->status = status < 0 ? status : ERR_NOT_FOUND;
            claim->waiting--;
        }
    }
    claim->waiting--;
    claim_step(claim);
}

static void ask_records(struct claim *claim)
{
    struct redis_link *link = claim->op.queue->commands;

    claim->records_op.queue = claim->op.queue;
    claim->records_op.on_reply = on_records;
    redis_link_begin(link, 1 + claim->apart_count);
    redis_link_text(link, "MGET");
    for (unsigned i = 0; i < claim->apart_count; i++) {
        struct queue_key key = queue_key_job(&claim->loads[claim->apart[i]].id);
        redis_link_argument(link, key.text, key.size);
    }
    redis_link_end(link, queue_on_reply, &claim->records_op);
}

static void read_hints(struct claim *claim, const struct redisReply *reply)
{
    for (size_t i = 0; i + 1 < reply->elements && claim->hints_count < LIMIT_HINT_ROUTES; i += 2) {
        const struct redisReply *name = reply->element[i], *band = reply->element[i + 1];
        int64_t number = 0;

        if (name->type != REDIS_REPLY_STRING || name->len > LIMIT_ROUTE_BYTES ||
            band->type != REDIS_REPLY_STRING ||
            text_parse_i64(band->str, band->len, 0, JOB_PRIORITY_COUNT - 1, &number) < 0)
            continue;
        memcpy(claim->hint_names[claim->hints_count], name->str, name->len);
        claim->hints[claim->hints_count] = (struct queue_room){
            .route = {claim->hint_names[claim->hints_count], name->len}, .room = (unsigned)number};
        claim->hints_count++;
    }
}

static struct queue_load new_load(struct claim *claim)
{
    return (struct queue_load){
        .queue = claim->op.queue, .wants_payload = true, .on_loaded = on_loaded, .arg = claim};
}

/* An id of a job that this store can hold. */
static int read_id(const struct queue *queue, const char *bytes, struct job_id *out)
{
    int status = job_id_parse_core((struct slice){bytes, JOB_ID_CORE_SIZE}, out);

    return status == 0 && job_id_shard(out) >= queue->shards ? ERR_PROTOCOL : status;
}

static int read_answer(struct claim *claim, const struct redisReply *reply)
{
    const struct redisReply *ids;
    size_t count;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 7 ||
        reply->element[0]->type != REDIS_REPLY_STRING ||
        reply->element[2]->type != REDIS_REPLY_ARRAY ||
        reply->element[5]->type != REDIS_REPLY_ARRAY ||
        reply->element[6]->type != REDIS_REPLY_STRING)
        return ERR_PROTOCOL;
    if (reply->element[6]->len == JOB_TOKEN_SIZE)
        queue_stand_was_handed(claim->op.queue, (const uint8_t *)reply->element[6]->str);
    ids = reply->element[0];
    count = ids->len / JOB_ID_CORE_SIZE;
    if (ids->len % JOB_ID_CORE_SIZE != 0 || count > LIMIT_CLAIM_COUNT ||
        reply->element[5]->elements != count)
        return ERR_PROTOCOL;
    claim->loads = queue_alloc((count + 1) * sizeof(*claim->loads));
    for (size_t at = 0; at < ids->len; at += JOB_ID_CORE_SIZE) {
        struct queue_load *load = &claim->loads[claim->count];

        *load = new_load(claim);
        if (read_id(claim->op.queue, ids->str + at, &load->id) < 0)
            return ERR_PROTOCOL;
        claim->count++;
    }
    claim->has_more = reply->element[1]->integer != 0;
    read_hints(claim, reply->element[2]);
    claim->newer_count = (unsigned)reply->element[3]->integer;
    queue_note_newer(claim->op.queue, claim->newer_count);
    return 0;
}

/* A record that came along is taken at once, the others are asked for. */
static void take_record(struct claim *claim, unsigned index, const char *bytes, size_t size,
                        int64_t claimed_at_ms)
{
    struct queue_load *load = &claim->loads[index];

    if (size == 0) {
        claim->apart[claim->apart_count++] = index;
        return;
    }
    load->claim_token = claim->token;
    load->claimed_at_ms = claimed_at_ms;
    queue_load_start(load, bytes, size);
}

static void take_apart(struct claim *claim)
{
    if (claim->apart_count > 0 && redis_link_is_up(claim->op.queue->commands))
        ask_records(claim);
    else
        on_records(&claim->records_op, claim->apart_count > 0 ? ERR_OFFLINE : 0, NULL);
}

static void take_records(struct claim *claim, const struct redisReply *reply)
{
    claim->waiting = claim->count + 1; /* one for take_apart, or for the answer it asks for */
    for (unsigned i = 0; i < claim->count; i++) {
        const struct redisReply *one = reply->element[5]->element[i];
        size_t size = one->type == REDIS_REPLY_STRING ? one->len : 0;

        take_record(claim, i, one->str, size, reply->element[4]->integer);
    }
    take_apart(claim);
}

static void on_answer(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct claim *claim = (struct claim *)op;

    if (status == 0)
        status = read_answer(claim, reply);
    if (status < 0)
        claim->count = 0;
    if (claim->count > 0)
        take_records(claim, reply);
    else
        claim_done(claim, status);
}

void queue_claim(struct queue *queue, const struct queue_claim_request *request,
                 queue_claim_fn on_claim, void *arg)
{
    struct claim *claim = queue_alloc(sizeof(*claim));
    unsigned count =
        request->count_max < LIMIT_CLAIM_COUNT ? request->count_max : LIMIT_CLAIM_COUNT;
    unsigned rooms =
        request->rooms_count < LIMIT_CLAIM_ROUTES ? request->rooms_count : LIMIT_CLAIM_ROUTES;
    int status = queue->is_claiming ? ERR_BUSY : queue_can_write(queue);

    claim->op.queue = queue;
    claim->op.on_reply = on_answer;
    claim->on_claim = on_claim;
    claim->arg = arg;
    if (status < 0) {
        queue_op_fail(queue, &claim->op, status);
        return;
    }
    queue->is_claiming = claim->is_current = claim->is_open = true;
    queue->claims_open++;
    claim->asked_boot_ms = clock_boot_ms();
    memcpy(claim->token, queue->self_id, QUEUE_SELF_SIZE);
    digest_random(claim->token + QUEUE_SELF_SIZE, JOB_TOKEN_SIZE - QUEUE_SELF_SIZE);
    /* Who hears nothing is handed nothing. */
    unsigned hand_max = request->wants_wake && queue->is_listening ? request->hand_max : 0;
    if (hand_max > 0)
        queue_stand_note(queue, claim->token, claim->asked_boot_ms);
    queue_call_begin_all(queue, VERB_CLAIM, queue->claim_shard, 7 + 2 * rooms);
    queue->claim_shard = (queue->claim_shard + 1) % queue->shards;
    redis_link_argument(queue->commands, queue->self_id, QUEUE_SELF_SIZE);
    redis_link_argument(queue->commands, claim->token, JOB_TOKEN_SIZE);
    redis_link_number(queue->commands, queue->lease_ms);
    redis_link_number(queue->commands, count);
    redis_link_text(queue->commands, !request->takes_suspect  ? "0"
                                     : request->suspect_first ? "2"
                                                              : "1");
    redis_link_text(queue->commands, request->wants_wake ? "1" : "0");
    redis_link_number(queue->commands, hand_max);
    for (unsigned i = 0; i < rooms; i++) {
        redis_link_argument(queue->commands, request->rooms[i].route.bytes,
                            request->rooms[i].route.size);
        redis_link_number(queue->commands, request->rooms[i].room);
    }
    queue_call_end(queue, &claim->op);
}

/* ---- what is handed ----------------------------------------------------------------- */

enum {
    HANDED_HEAD = 1 + JOB_TOKEN_SIZE + 6 + 1, /* 'j', token, time, has more */
    HANDED_ROW = JOB_ID_CORE_SIZE + 2,        /* and the record */
};

static unsigned le16(const char *bytes)
{
    return (unsigned char)bytes[0] | (unsigned)(unsigned char)bytes[1] << 8;
}

/* How many jobs; -1: this is no such message. */
static int count_handed(const struct queue *queue, const char *bytes, size_t size)
{
    int count = 0;

    if (size < HANDED_HEAD)
        return -1;
    for (size_t at = HANDED_HEAD; at < size; count++) {
        struct job_id id;

        if (count == LIMIT_CLAIM_COUNT || size - at < HANDED_ROW ||
            read_id(queue, bytes + at, &id) < 0)
            return -1;
        size_t record_size = le16(bytes + at + JOB_ID_CORE_SIZE);
        at += HANDED_ROW;
        if (record_size > size - at)
            return -1;
        at += record_size;
    }
    return count > 0 ? count : -1;
}

static void on_given_back(int status, void *arg)
{
    struct queue *queue = arg;

    log_event(LOG_DEBUG, "handed_given_back", LOG_I("status", status));
    queue->stand.handed_open--;
    queue_stand_step(queue);
}

static void give_back(const struct queue_claim_result *result, void *arg)
{
    struct queue *queue = arg;

    queue->stand.handed_open += result->jobs_count;
    for (unsigned i = 0; i < result->jobs_count; i++)
        queue_release(queue, &result->jobs[i], on_given_back, queue);
}

void queue_on_handed(struct queue *queue, const char *bytes, size_t size)
{
    int count = count_handed(queue, bytes, size);
    struct claim *claim;
    int64_t claimed_at_ms = 0;

    if (count < 0 || memcmp(bytes + 1, queue->self_id, QUEUE_SELF_SIZE) != 0)
        return;
    claim = queue_alloc(sizeof(*claim));
    claim->op.queue = queue;
    memcpy(claim->token, bytes + 1, JOB_TOKEN_SIZE);
    claim->on_claim = queue->events.on_handed;
    claim->arg = queue->events.arg;
    if (!queue_stand_heard(queue, claim->token, &claim->asked_boot_ms) || !claim->on_claim) {
        claim->goes_back = true;
        claim->asked_boot_ms = clock_boot_ms();
        claim->on_claim = give_back;
        claim->arg = queue;
    }
    claim->is_open = claim->is_handed = true;
    queue->claims_open++;
    queue->stand.handed_open++;
    for (int i = 5; i >= 0; i--)
        claimed_at_ms = claimed_at_ms << 8 | (unsigned char)bytes[1 + JOB_TOKEN_SIZE + i];
    claim->has_more = bytes[HANDED_HEAD - 1] != 0;
    claim->loads = queue_alloc((size_t)count * sizeof(*claim->loads));
    claim->count = (unsigned)count;
    claim->waiting = claim->count + 1;
    for (size_t at = HANDED_HEAD, i = 0; at < size; i++) {
        size_t record_size = le16(bytes + at + JOB_ID_CORE_SIZE);

        claim->loads[i] = new_load(claim);
        int status = read_id(queue, bytes + at, &claim->loads[i].id);
        CHECK(status == 0); /* count_handed looked */
        at += HANDED_ROW;
        take_record(claim, (unsigned)i, bytes + at, record_size, claimed_at_ms);
        at += record_size;
    }
    take_apart(claim);
}
