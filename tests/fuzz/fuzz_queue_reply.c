/* Any replies to what the queue asks, and any message that hands it jobs: a link to Redis that
 * answers out of the input. Replies of every type, wrong counts, errors, half records, silence:
 * each callback comes exactly once, and nothing of a reply is used after it is gone. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/queue/queue_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
extern const unsigned fuzz_replay_changes; /* there are many small inputs: see replay.c */
const unsigned fuzz_replay_changes = 300;

enum { PENDING_MAX = 4096, NODES_MAX = 64, DEPTH_MAX = 4, CALLS_MAX = 8, ROUNDS_MAX = 200 };

static struct {
    const uint8_t *bytes;
    size_t size;
    unsigned nodes;
    unsigned due, seen; /* callbacks */
} input;

static unsigned take(unsigned count)
{
    if (input.size == 0)
        return 0;
    input.size--;
    return *input.bytes++ % count;
}

/* ---- replies --------------------------------------------------------------------------------- */

static char *copy_text(const void *bytes, size_t size)
{
    char *text = malloc(size + 1);

    CHECK(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

static void make_text(redisReply *reply, unsigned kind)
{
    static const char *const words[] = {"OK", "0", "k", "kkk", "-1", "QUEUED", "1000", "f"};
    size_t size = take(200);

    if (kind == 0) {
        const char *word = words[size % 8];
        reply->len = strlen(word);
        reply->str = copy_text(word, reply->len);
        return;
    }
    reply->len = size < input.size ? size : input.size;
    reply->str = copy_text(input.bytes, reply->len);
    input.bytes += reply->len;
    input.size -= reply->len;
}

/* A record as a submitter makes it, then with a few bytes changed. */
static void make_record(redisReply *reply)
{
    static const struct job job = {.id = {"0001f2z0h8v6k3mqa9c7d5e1r4t2w0xnpb"},
                                   .priority = JOB_NORMAL,
                                   .max_attempts = 5,
                                   .sequence = 1,
                                   .tenant = {'a', 'b', 'c', 'd', 'e', 'f'},
                                   .route = {"m", 1},
                                   .payload = {"{}", 2}};
    struct buf out = {.size_max = 4096};

    CHECK(job_encode(&job, &out) == 0);
    for (unsigned changes = take(3); changes > 0; changes--)
        out.data[take((unsigned)out.size)] = (char)take(256);
    reply->len = out.size - take(4);
    reply->str = copy_text(out.data, reply->len);
    buf_deinit(&out);
}

static redisReply *make_reply(unsigned depth)
{
    redisReply *reply = calloc(1, sizeof(*reply));
    unsigned kind = take(12);

    CHECK(reply != NULL);
    if (input.nodes++ > NODES_MAX || (kind >= 9 && depth == DEPTH_MAX))
        kind = 0;
    reply->type = REDIS_REPLY_NIL;
    if (kind == 1 || kind == 2) {
        reply->type = REDIS_REPLY_INTEGER;
        reply->integer = kind == 1 ? (long long)take(4) - 1 : (long long)take(256) << take(56);
    } else if (kind == 3) {
        reply->type = REDIS_REPLY_ERROR;
        make_text(reply, 1);
    } else if (kind == 4) {
        reply->type = REDIS_REPLY_STATUS;
        make_text(reply, 0);
    } else if (kind == 5 || kind == 6) {
        reply->type = REDIS_REPLY_STRING;
        make_text(reply, kind - 5);
    } else if (kind == 7 || kind == 8) {
        reply->type = REDIS_REPLY_STRING;
        make_record(reply);
    } else if (kind >= 9) {
        reply->type = REDIS_REPLY_ARRAY;
        reply->elements = take(7);
        reply->element = calloc(reply->elements + 1, sizeof(*reply->element));
        CHECK(reply->element != NULL);
        for (size_t i = 0; i < reply->elements; i++)
            reply->element[i] = make_reply(depth + 1);
    }
    return reply;
}

/* ---- the link -------------------------------------------------------------------------------- */

struct redis_link {
    struct redis_link_options options;
    struct {
        redis_reply_fn on_reply;
        void *arg;
    } pending[PENDING_MAX];
    unsigned first, count;
    bool is_up, was_dropped;
};

int redis_link_create(const struct redis_link_options *options, struct redis_link **out)
{
    struct redis_link *link = calloc(1, sizeof(*link));

    CHECK(link != NULL);
    link->options = *options;
    *out = link;
    return 0;
}

void redis_link_start(struct redis_link *link)
{
    (void)link;
}

static void answer(struct redis_link *link, bool is_lost)
{
    redis_reply_fn on_reply = link->pending[link->first].on_reply;
    void *arg = link->pending[link->first].arg;
    redisReply *reply;

    link->first = (link->first + 1) % PENDING_MAX;
    link->count--;
    if (is_lost) {
        if (on_reply)
            on_reply(ERR_UNKNOWN, NULL, arg);
        return;
    }
    input.nodes = 0;
    reply = make_reply(0);
    if (on_reply)
        on_reply(0, reply, arg);
    freeReplyObject(reply);
}

void redis_link_close(struct redis_link *link, void (*on_closed)(void *arg), void *arg)
{
    link->is_up = false;
    while (link->count > 0)
        answer(link, true);
    free(link);
    on_closed(arg);
}

bool redis_link_is_up(const struct redis_link *link)
{
    return link->is_up;
}

int redis_link_can_send(const struct redis_link *link)
{
    if (!link->is_up)
        return ERR_OFFLINE;
    return link->count < PENDING_MAX - 1024 ? 0 : ERR_BUSY;
}

void redis_link_begin(struct redis_link *link, unsigned argc)
{
    CHECK(link->is_up && argc > 0);
}

void redis_link_argument(struct redis_link *link, const void *bytes, size_t size)
{
    CHECK(link->is_up && (bytes || size == 0));
}

void redis_link_text(struct redis_link *link, const char *text)
{
    CHECK(link->is_up && text);
}

void redis_link_number(struct redis_link *link, int64_t number)
{
    (void)number;
    CHECK(link->is_up);
}

void redis_link_end(struct redis_link *link, redis_reply_fn on_reply, void *arg)
{
    unsigned at = (link->first + link->count) % PENDING_MAX;

    CHECK(link->is_up && link->count < PENDING_MAX);
    link->pending[at].on_reply = on_reply;
    link->pending[at].arg = arg;
    link->count++;
    link->options.on_dirty(link->options.arg);
}

void redis_link_flush(struct redis_link *link)
{
    (void)link;
}

void redis_link_drop(struct redis_link *link, const char *code, const char *why)
{
    CHECK(code && why);
    link->was_dropped = true;
}

double redis_link_round_trip_ms(const struct redis_link *link)
{
    (void)link;
    return 0;
}

int64_t redis_link_last_ok_mono_ms(const struct redis_link *link)
{
    (void)link;
    return clock_mono_ms();
}

/* The first byte of an error says what it means here. */
enum redis_error redis_error_of(const struct redisReply *reply)
{
    return reply->str && reply->len > 0
               ? (enum redis_error)((unsigned char)reply->str[0] % (REDIS_ERROR_OTHER + 1))
               : REDIS_ERROR_OTHER;
}

const char *redis_error_code(const struct redisReply *reply)
{
    return redis_reply_is_error(reply) ? "redis_error" : "redis_protocol";
}

bool redis_reply_is_error(const struct redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void on_submitted(const struct queue_submit_result *result, void *arg)
{
    (void)arg;
    CHECK(result->status <= 0 && (result->status != ERR_FULL || result->reason));
    input.seen++;
}

static void on_job(int status, const struct job *job, void *arg)
{
    (void)arg;
    CHECK(status <= 0);
    CHECK(status != 0 || (job && job->state < JOB_STATE_COUNT));
    input.seen++;
}

static void on_past(int status, const struct job *job, void *arg)
{
    (void)arg;
    if (!job || status < 0)
        input.seen++;
}

static void on_ids(int status, const struct job_id *ids, unsigned count, const struct job_id *next,
                   void *arg)
{
    (void)arg;
    CHECK(status <= 0 && next && (count == 0 || ids) && count <= LIMIT_LIST_ROWS);
    input.seen++;
}

static void on_done(int status, void *arg)
{
    (void)arg;
    CHECK(status <= 0);
    input.seen++;
}

static void on_claimed(const struct queue_claim_result *result, void *arg)
{
    (void)arg;
    CHECK(result->jobs_count <= LIMIT_CLAIM_COUNT);
    for (unsigned i = 0; i < result->jobs_count; i++)
        CHECK(result->jobs[i].payload.bytes || result->jobs[i].payload.size == 0);
    input.seen++;
}

static void on_handed(const struct queue_claim_result *result, void *arg)
{
    on_claimed(result, arg);
    input.seen--; /* nobody asked */
}

/* A message as a submit sends it: of a claim that stands, of one that does not, or of nobody. */
static void hand(struct queue *queue)
{
    struct buf message = {.size_max = 1 << 16};
    unsigned whose = take(4), jobs = take(4);
    static const char head[1 + JOB_TOKEN_SIZE + 6 + 1] = "j";

    CHECK(buf_append(&message, head, sizeof(head)) == 0);
    if (whose < 3)
        memcpy(message.data + 1, queue->self_id, QUEUE_SELF_SIZE);
    if (whose < 2)
        memcpy(message.data + 1, queue->stand.claims[whose].token, JOB_TOKEN_SIZE);
    for (unsigned i = 0; i < jobs; i++) {
        redisReply record = {.type = REDIS_REPLY_NIL};
        char row[JOB_ID_CORE_SIZE + 2 + 1];

        if (take(3) > 0)
            make_record(&record);
        memcpy(row, "0001f2z0h8v6k3mqa9c7d5e1r4t2w0xnpb", JOB_ID_CORE_SIZE);
        row[JOB_ID_CORE_SIZE] = (char)(record.len & 255);
        row[JOB_ID_CORE_SIZE + 1] = (char)(record.len >> 8);
        CHECK(buf_append(&message, row, JOB_ID_CORE_SIZE + 2) == 0);
        CHECK(buf_append(&message, record.str, record.len) == 0);
        free(record.str);
    }
    for (unsigned changes = take(3); changes > 0; changes--)
        message.data[take(256) % message.size] = (char)take(256);
    message.size -= take(4);
    queue_on_handed(queue, message.data, message.size);
    buf_deinit(&message);
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void call(struct queue *queue)
{
    const struct job_id id = {"0001f2z0h8v6k3mqa9c7d5e1r4t2w0xnpb"};
    const struct queue_room room = {slice_of("m"), 4};
    const struct queue_claim_request request = {
        .rooms = &room, .rooms_count = 1, .count_max = 4, .wants_wake = true, .hand_max = 4};
    const struct queue_list_query query = {.limit = LIMIT_LIST_ROWS};
    struct job job = {.id = id,
                      .priority = JOB_NORMAL,
                      .sequence = 1,
                      .route = slice_of("m"),
                      .tenant_name = slice_of("acme"),
                      .payload = slice_of("{}")};
    const struct queue_submission submission = {.job = &job, .weight = 1};
    unsigned how;

    input.due++;
    switch (take(13)) {
    case 0:
        queue_submit(queue, &submission, on_submitted, NULL);
        break;
    case 1:
        how = take(3);
        if (how == 2)
            queue_get_small(queue, &id, on_job, NULL);
        else
            queue_get(queue, &id, how == 0, on_job, NULL);
        break;
    case 2:
        queue_get_request(queue, &id, on_job, NULL);
        break;
    case 3:
        queue_list(queue, &query, on_ids, NULL);
        break;
    case 4:
        queue_follow(queue, &id, on_job, NULL);
        break;
    case 5:
        queue_history(queue, &id, 0, on_past, NULL);
        break;
    case 6:
        queue_cancel(queue, &id, on_job, NULL);
        break;
    case 7:
        queue_forget(queue, &id, on_job, NULL);
        break;
    case 8:
        queue_claim(queue, &request, on_claimed, NULL);
        break;
    case 9:
        CHECK(job_set_state(&job, JOB_RUNNING) == 0);
        queue_release(queue, &job, on_done, NULL);
        break;
    case 10:
        if (queue->stand.withdrawal) /* one at a time */
            input.seen++;
        else
            queue_withdraw(queue, on_done, NULL);
        break;
    case 11:
        hand(queue);
        input.seen++;
        break;
    default:
        queue_recover_child(queue, "aaaabbbb", QUEUE_BLAME_EACH, on_done, NULL);
        break;
    }
}

static void turn(struct queue *queue, uv_loop_t *loop)
{
    (void)uv_run(loop, UV_RUN_NOWAIT);
    for (unsigned i = queue->commands->count; i > 0 && queue->commands->count > 0; i--)
        answer(queue->commands, input.size == 0);
    queue->store.is_fit = true; /* whatever a probe was told: go on */
    queue->store.is_strange = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct queue *queue = NULL;
    struct error_text why = {""};
    uv_loop_t loop;
    bool is_closed = false;

    log_set_level(LOG_ERROR);
    CHECK(uv_loop_init(&loop) == 0);
    const struct queue_options options = {.loop = &loop,
                                          .url = "redis://127.0.0.1:1",
                                          .shards = 2,
                                          .routes_max = 4,
                                          .lease_ms = 15000,
                                          .name = "fuzz"};
    memset(&input, 0, sizeof(input));
    const struct queue_worker_events events = {.on_handed = on_handed};

    CHECK(queue_create(&options, &queue, &why) == 0);
    queue_on_worker_events(queue, &events);
    queue->commands->is_up = true;
    queue->store.is_fit = true;
    input.bytes = bytes;
    input.size = size;
    for (int i = 0; i < CALLS_MAX && input.size > 0; i++) {
        call(queue);
        turn(queue, &loop);
    }
    for (int i = 0; i < ROUNDS_MAX && queue->commands->count > 0; i++)
        turn(queue, &loop);
    queue_close(queue, on_closed, &is_closed);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(is_closed);
    CHECK(input.seen == input.due);
    CHECK(uv_loop_close(&loop) == 0);
    return 0;
}
