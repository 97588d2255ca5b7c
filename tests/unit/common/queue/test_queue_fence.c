/* Who may write: leases, claim numbers and tokens, recovery, and the state table against the
 * functions. */
#include "queue_rig.h"

#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/job/job_codec.h"
#include "common/queue/queue_functions.h"

static void make_member(const struct job *job, char out[JOB_MEMBER_SIZE])
{
    job_ticket_make(job, out);
    memcpy(out + JOB_TICKET_SIZE, job->token, JOB_TOKEN_SIZE);
}

struct recovered {
    int status;
    int is_done;
};

static void on_recovered(int status, void *arg)
{
    struct recovered *recovered = arg;

    recovered->status = status;
    recovered->is_done = 1;
}

static void recover(struct rig *rig, struct queue *queue, const struct job *job)
{
    rig_recover(rig, queue, job, QUEUE_BLAME_EACH);
}

static void a_recovered_job_fences_its_old_worker(void **state)
{
    struct rig *rig = *state;
    struct queue *old = rig_queue(rig, "old"), *new = rig_queue(rig, "new");
    struct job job = rig_job(old, "m"), now;

    assert_int_equal(rig_submit(rig, old, &job).status, 0);
    struct job first = rig_claim(rig, old, "m", 1, false)->jobs[0];
    recover(rig, new, &first);
    recover(rig, new, &first); /* twice does nothing more */
    assert_int_equal(rig_get(rig, new, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_QUEUED);
    assert_int_equal(now.crashes, 1);
    assert_int_equal(now.attempt, 0);
    assert_int_equal(rig_retry(rig, old, &first, 10), ERR_FENCED);
    assert_int_equal(rig_release(rig, old, &first), ERR_FENCED);
    struct job second = rig_claim(rig, new, "m", 1, false)->jobs[0];
    assert_int_equal(second.claim, 2);
    assert_int_equal(rig_finish(rig, old, &first, "{\"by\":\"old\"}"), ERR_FENCED);
    assert_int_equal(rig_fail(rig, old, &first, "x"), ERR_FENCED);
    assert_int_equal(rig_finish(rig, new, &second, "{\"by\":\"new\"}"), 0);
    assert_int_equal(rig_finish(rig, old, &first, "{\"by\":\"old\"}"), ERR_FENCED);
    /* The right claim with another token is somebody else's, too. */
    struct job forged = second;
    forged.token[15] ^= 1;
    assert_int_equal(rig_finish(rig, old, &forged, "{}"), ERR_FENCED);
    assert_int_equal(rig_get(rig, new, &job.id, &now), 0);
    assert_true(slice_is(now.payload, "{\"by\":\"new\"}"));
    assert_int_equal(rig_inspect(rig, new), 0);
    rig_close(rig, old);
    rig_close(rig, new);
}

/* What a dead child was given is found by its id, over all shards, and nobody else's. */
static void a_dead_child_is_found_by_its_id(void **state)
{
    struct rig *rig = *state;
    struct queue *dead = rig_queue(rig, "dead"), *alive = rig_queue(rig, "alive");
    struct recovered recovered = {.is_done = 0};
    struct job jobs[40];

    for (int i = 0; i < 40; i++) {
        jobs[i] = rig_job(dead, "m");
        assert_int_equal(rig_submit(rig, dead, &jobs[i]).status, 0);
    }
    assert_int_equal(rig_claim(rig, dead, "m", 30, false)->count, 30);
    const struct rig_claimed *claimed = rig_claim(rig, alive, "m", 10, false);
    assert_int_equal(claimed->count, 10);
    struct job mine = claimed->jobs[0];

    queue_recover_child(alive, "no good!", QUEUE_BLAME_EACH, on_recovered, &recovered);
    rig_wait(rig, &recovered.is_done);
    assert_int_equal(recovered.status, ERR_INVALID);
    for (int round = 0; round < 2; round++) { /* the second finds nothing any more */
        recovered.is_done = 0;
        queue_recover_child(alive, queue_self_id(dead), QUEUE_BLAME_EACH, on_recovered, &recovered);
        rig_wait(rig, &recovered.is_done);
        assert_int_equal(recovered.status, 0);
    }
    int queued = 0;
    for (int i = 0; i < 40; i++)
        queued += rig_state(rig, alive, &jobs[i].id) == JOB_QUEUED;
    assert_int_equal(queued, 30);
    assert_int_equal(rig_state(rig, alive, &mine.id), JOB_RUNNING);
    assert_int_equal(rig_inspect(rig, alive), 0);
    rig_close(rig, dead);
    rig_close(rig, alive);
}

static int lost_count;
static void on_lost(const struct job_id *id, unsigned claim, void *arg)
{
    (void)id;
    assert_int_equal(claim, 1);
    *(int *)arg += 1;
}

static void leases_lapse_and_are_renewed(void **state)
{
    struct rig *rig = *state;
    struct queue *worker, *other;
    struct job job, now;
    struct recovered recovered = {.is_done = 0};
    char member[JOB_MEMBER_SIZE];

    rig->options.lease_ms = 600;
    worker = rig_queue(rig, "worker");
    other = rig_queue(rig, "other");
    lost_count = 0;
    queue_on_lost(worker, on_lost, &lost_count);
    job = rig_job(worker, "m");
    assert_int_equal(rig_submit(rig, worker, &job).status, 0);
    struct job running = rig_claim(rig, worker, "m", 1, false)->jobs[0];
    queue_sweep_start(other);
    rig_run_ms(rig, 2500);
    assert_int_equal(rig_state(rig, worker, &job.id), JOB_RUNNING);
    assert_true(queue_lease_age_ms(worker) < 600);
    assert_int_equal(lost_count, 0);

    /* Recovered by hand: the next round notices. */
    make_member(&running, member);
    queue_recover(other, member, 1, QUEUE_BLAME_EACH, on_recovered, &recovered);
    rig_wait(rig, &recovered.is_done);
    rig_wait(rig, &lost_count);
    assert_int_equal(lost_count, 1);

    /* A worker that is gone renews nothing. */
    running = rig_claim(rig, worker, "m", 1, false)->jobs[0];
    assert_int_equal(running.claim, 2);
    rig_close(rig, worker);
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; clock_mono_ms() < until;) {
        assert_int_equal(rig_get(rig, other, &job.id, &now), 0);
        if (now.state == JOB_QUEUED)
            break;
        rig_run_ms(rig, 20);
    }
    assert_int_equal(now.state, JOB_QUEUED);
    assert_int_equal(now.crashes, 2);
    assert_int_equal(rig_inspect(rig, other), 0);
    rig_close(rig, other);
}

static void a_broken_record_fails_alone(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct job good, bad, now;
    const struct rig_claimed *claimed;

    bad = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &bad).status, 0);
    good = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &good).status, 0);
    /* One bit of the body. */
    long long size =
        rig_ask_number(&rig->redis, "STRLEN {%u}:j:%s", job_id_shard(&bad.id), bad.id.core);
    rig_ask(&rig->redis, "SETRANGE {%u}:j:%s %lld !", job_id_shard(&bad.id), bad.id.core, size - 3);
    claimed = rig_claim(rig, queue, "m", 5, false);
    assert_int_equal(claimed->count, 1);
    assert_memory_equal(claimed->jobs[0].id.core, good.id.core, JOB_ID_CORE_SIZE);
    for (int i = 0; i < 100 && (rig_get(rig, queue, &bad.id, &now) != 0 || now.state != JOB_FAILED);
         i++)
        rig_run_ms(rig, 10);
    assert_int_equal(now.state, JOB_FAILED);
    assert_true(slice_is(now.error_code, "corrupt_record"));
    rig_close(rig, queue);
}

static void put_something_else(struct rig *rig, const struct job *job)
{
    rig_ask(&rig->redis, "DEL {0}:j:%s", job->id.core);
    rig_ask(&rig->redis, "HSET {0}:j:%s a b", job->id.core);
}

static void what_is_no_record_hurts_no_other(void **state)
{
    struct rig *rig = *state;
    struct job jobs[3];

    rig->options.shards = 1;
    struct queue *queue = rig_queue(rig, "worker");
    for (int i = 0; i < 3; i++) {
        jobs[i] = rig_job(queue, "m");
        assert_int_equal(rig_submit(rig, queue, &jobs[i]).status, 0);
    }
    put_something_else(rig, &jobs[1]);
    const struct rig_claimed *claimed = rig_claim(rig, queue, "m", 5, false);
    assert_int_equal(claimed->status, 0);
    assert_int_equal(claimed->count, 2);
    jobs[0] = claimed->jobs[0];
    jobs[2] = claimed->jobs[1];
    put_something_else(rig, &jobs[0]);
    assert_int_equal(rig_finish(rig, queue, &jobs[0], "{}"), ERR_FENCED);
    recover(rig, queue, &jobs[0]);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:L"), 1);
    assert_int_equal(rig_finish(rig, queue, &jobs[2], "{}"), 0);
    rig_close(rig, queue);
}

static void a_newer_record_is_left_alone(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    struct job job, other;

    rig->options.shards = 1;
    queue = rig_queue(rig, "worker");
    job = rig_job(queue, "m");
    other = rig_job(queue, "n");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    assert_int_equal(rig_submit(rig, queue, &other).status, 0);
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", job.id.core, "\2", (size_t)1);
    assert_int_equal(rig_claim(rig, queue, "m", 5, false)->count, 0);
    assert_int_equal(
        rig_ask_number(&rig->redis, "LLEN {0}:q:m:1%b", job.tenant, (size_t)JOB_TENANT_SIZE), 1);
    assert_int_equal(rig_get(rig, queue, &job.id, NULL), ERR_NEWER);
    assert_int_equal(rig_cancel(rig, queue, &job.id, NULL), ERR_NEWER);
    assert_int_equal(rig_claim(rig, queue, "n", 5, false)->count, 1);
    assert_int_equal(rig_inspect(rig, queue), 0);
    /* Who can read it finds it again. */
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", job.id.core, "\1", (size_t)1);
    assert_int_equal(rig_claim(rig, queue, "m", 5, false)->count, 1);
    rig_close(rig, queue);
}

static void leases_and_deadlines_of_newer_records_are_left_alone(void **state)
{
    struct rig *rig = *state;
    struct queue *worker;
    struct job running, waiting, now;

    rig->options.shards = 1;
    rig->options.lease_ms = 600;
    worker = rig_queue(rig, "worker");
    running = rig_job(worker, "m");
    waiting = rig_job(worker, "n");
    waiting.expires_at_ms = queue_now_ms(worker) + 700;
    assert_int_equal(rig_submit(rig, worker, &running).status, 0);
    assert_int_equal(rig_submit(rig, worker, &waiting).status, 0);
    assert_int_equal(rig_claim(rig, worker, "m", 5, false)->count, 1);
    rig_close(rig, worker);
    worker = rig_queue(rig, "other");
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", running.id.core, "\2", (size_t)1);
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", waiting.id.core, "\2", (size_t)1);
    queue_sweep_start(worker);
    rig_run_ms(rig, 2500);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:L"), 1);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:Y"), 1);
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", running.id.core, "\1", (size_t)1);
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", waiting.id.core, "\1", (size_t)1);
    for (int i = 0; i < 300 && rig_state(rig, worker, &waiting.id) != JOB_EXPIRED; i++)
        rig_run_ms(rig, 10);
    assert_int_equal(rig_state(rig, worker, &waiting.id), JOB_EXPIRED);
    for (int i = 0; i < 300 && rig_state(rig, worker, &running.id) != JOB_QUEUED; i++)
        rig_run_ms(rig, 10);
    assert_int_equal(rig_get(rig, worker, &running.id, &now), 0);
    assert_int_equal(now.state, JOB_QUEUED);
    assert_int_equal(now.crashes, 1);
    rig_close(rig, worker);
}

/* ---- random lives ------------------------------------------------------------------------- */

enum { LIVES = 400, WORKERS = 3 };

struct lives {
    struct rig *rig;
    struct queue *workers[WORKERS];
    struct job_id ids[LIVES];
    unsigned recorded[LIVES]; /* outcomes that were answered with 0 */
    unsigned fenced;
    uint32_t random;
};

static uint32_t next_random(struct lives *lives)
{
    lives->random = lives->random * 1664525u + 1013904223u;
    return lives->random >> 8;
}

static unsigned index_of(const struct lives *lives, const struct job_id *id)
{
    unsigned i = 0;

    while (i < LIVES && memcmp(lives->ids[i].core, id->core, JOB_ID_CORE_SIZE) != 0)
        i++;
    assert_true(i < LIVES);
    return i;
}

static void note(struct lives *lives, const struct job *job, int status, bool is_outcome)
{
    assert_true(status == 0 || status == ERR_FENCED);
    lives->fenced += status == ERR_FENCED;
    if (is_outcome && status == 0)
        lives->recorded[index_of(lives, &job->id)]++;
}

/* What may happen to a claimed job; sometimes its worker goes on although it lost it. */
static void live(struct lives *lives, struct queue *worker, const struct job *job)
{
    struct rig *rig = lives->rig;
    struct queue *other = lives->workers[next_random(lives) % WORKERS];
    uint32_t what = next_random(lives) % 10;

    if (what == 9 && job->crashes < LIMIT_CRASHES_SUSPECT - 1) {
        recover(rig, other, job);
        if (next_random(lives) % 2)
            note(lives, job, rig_finish(rig, worker, job, "{\"late\":1}"), true);
    } else if (what == 8) {
        note(lives, job, rig_cancel(rig, other, &job->id, NULL), true);
        note(lives, job, rig_retry(rig, worker, job, 1), false);
    } else if (what >= 6) {
        note(lives, job, rig_release(rig, worker, job), false);
    } else if (what >= 4) {
        note(lives, job, rig_retry(rig, worker, job, next_random(lives) % 20), false);
    } else if (what == 3) {
        note(lives, job, rig_fail(rig, worker, job, "upstream_rejected"), true);
    } else {
        note(lives, job, rig_finish(rig, worker, job, "{}"), true);
    }
}

static void every_life_ends_once(void **state)
{
    static struct lives lives;
    unsigned ended = 0;

    lives = (struct lives){.rig = *state, .random = 20261121};
    for (int i = 0; i < WORKERS; i++)
        lives.workers[i] = rig_queue(lives.rig, "worker");
    queue_sweep_start(lives.workers[0]);
    for (int i = 0; i < LIVES; i++) {
        struct job job = rig_job(lives.workers[0], "m");
        lives.ids[i] = job.id;
        assert_int_equal(rig_submit(lives.rig, lives.workers[0], &job).status, 0);
    }
    /* Bounded by time, not by turns: what is due later waits for a sweep, however fast they are. */
    int64_t until = clock_mono_ms() + 4 * RIG_WAIT_MS;
    for (int round = 0; ended < LIVES && clock_mono_ms() < until; round++) {
        struct queue *worker = lives.workers[next_random(&lives) % WORKERS];
        struct rig_claimed claimed =
            *rig_claim(lives.rig, worker, "m", 1 + next_random(&lives) % 8, true);

        for (unsigned i = 0; i < claimed.count; i++)
            live(&lives, worker, &claimed.jobs[i]);
        if (claimed.count > 0 || round % 10 != 0)
            continue;
        ended = 0;
        for (int i = 0; i < LIVES; i++)
            ended += job_state_is_final(rig_state(lives.rig, worker, &lives.ids[i]));
    }
    for (int i = 0; i < LIVES; i++)
        assert_int_equal(lives.recorded[i], 1);
    print_message("%u refused writes of lost leases\n", lives.fenced);
    assert_true(lives.fenced > 20);
    for (unsigned shard = 0; shard < 16; shard++) {
        assert_int_equal(rig_ask_number(&lives.rig->redis, "ZCARD {%u}:L", shard), 0);
        assert_int_equal(rig_ask_number(&lives.rig->redis, "ZCARD {%u}:D", shard), 0);
        assert_int_equal(rig_ask_number(&lives.rig->redis, "HGET {%u}:n j", shard), 0);
        assert_int_equal(rig_ask_number(&lives.rig->redis, "HGET {%u}:n b", shard), 0);
    }
    assert_int_equal(rig_inspect(lives.rig, lives.workers[1]), 0);
    for (int i = 0; i < WORKERS; i++)
        rig_close(lives.rig, lives.workers[i]);
}

/* ---- every verb in every state ------------------------------------------------------ */

struct table {
    struct rig *rig;
    struct queue *queue;
    redisContext *context;
    char library[64];
};

static enum job_state state_now(const struct table *table, const struct job_id *id)
{
    redisReply *reply = redisCommand(table->context, "GETRANGE {0}:j:%s 2 2", id->core);
    enum job_state found = JOB_STATE_COUNT;

    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    assert_int_equal(job_state_from_letter(reply->str[0], &found), 0);
    freeReplyObject(reply);
    return found;
}

/* Calls a function as C would, with the member or id of the job, whatever its state is. */
static void call_verb(const struct table *table, const char *verb, struct job job)
{
    char name[64], owner[JOB_MEMBER_SIZE];
    struct buf record = {.size_max = 1 << 20};
    redisReply *reply;

    snprintf(name, sizeof(name), "%s%s", table->library, verb);
    make_member(&job, owner);
    if (strcmp(verb, "finish") == 0 || strcmp(verb, "fail") == 0) {
        assert_int_equal(job_state_from_letter(verb[1] == 'i' ? 'S' : 'F', &job.state), 0);
        assert_int_equal(job_encode(&job, &record), 0);
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck 0 0 %b %b 100000", name, owner,
                             sizeof(owner), record.data, record.size);
    } else if (strcmp(verb, "retry") == 0) {
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck %b 99999999999999 x", name, owner,
                             sizeof(owner));
    } else if (strcmp(verb, "release") == 0) {
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck %b", name, owner, sizeof(owner));
    } else if (strcmp(verb, "recover") == 0) {
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck %b", name, owner, sizeof(owner));
    } else if (strcmp(verb, "claim") == 0) {
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck %s %b 15000 10 1 0 0 m 10", name,
                             "childchi", job.token, (size_t)JOB_TOKEN_SIZE);
    } else if (strcmp(verb, "sweep") == 0) {
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck 0", name);
    } else {
        reply = redisCommand(table->context, "FCALL %s 1 {0}:ck %b", name, job.id.core,
                             (size_t)JOB_ID_CORE_SIZE);
    }
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", verb, reply->str);
    freeReplyObject(reply);
    buf_deinit(&record);
}

/* A job in the given state with everything that could tempt a function: ticket, lease, delayed
 * entry, deadline. */
static struct job place(const struct table *table, enum job_state job_state)
{
    struct job job = rig_job(table->queue, "m");
    struct buf record = {.size_max = 1 << 20};
    char member[JOB_MEMBER_SIZE];
    const char *const commands[] = {"RPUSH {0}:q:m:1%b %b", "ZADD {0}:D 1 %b%b",
                                    "ZADD {0}:L 1 %b%b"};

    job.claim = 1;
    memset(job.token, 'T', sizeof(job.token));
    job.state = job_state; /* lint: own state */
    if (job_state_is_final(job_state))
        job.payload = slice_of("{}");
    assert_int_equal(job_encode(&job, &record), 0);
    make_member(&job, member);
    freeReplyObject(
        redisCommand(table->context, "SET {0}:j:%s %b", job.id.core, record.data, record.size));
    freeReplyObject(redisCommand(table->context, commands[0], job.tenant, (size_t)JOB_TENANT_SIZE,
                                 member, (size_t)JOB_TICKET_SIZE));
    freeReplyObject(
        redisCommand(table->context, "ZADD {0}:R:m 1e15 1%b", job.tenant, (size_t)JOB_TENANT_SIZE));
    freeReplyObject(redisCommand(table->context, "ZADD {0}:A 1 m"));
    freeReplyObject(
        redisCommand(table->context, commands[1], member, (size_t)JOB_TICKET_SIZE, "", (size_t)0));
    freeReplyObject(
        redisCommand(table->context, commands[2], member, (size_t)JOB_MEMBER_SIZE, "", (size_t)0));
    freeReplyObject(redisCommand(table->context, "ZADD {0}:Y 1 %s", job.id.core));
    buf_deinit(&record);
    return job;
}

static void functions_follow_the_state_table(void **state)
{
    static const char *const verbs[] = {"claim",   "finish", "fail",   "retry", "release",
                                        "recover", "sweep",  "cancel", "forget"};
    struct table table = {.rig = *state};
    struct queue_functions functions;
    unsigned moves = 0;

    table.rig->options.shards = 1;
    table.queue = rig_queue(table.rig, "test");
    table.context = redisConnectUnix(table.rig->redis.socket);
    assert_int_equal(queue_functions_init(&functions), 0);
    memcpy(table.library, functions.names[0], strlen(functions.names[0]) - strlen("submit"));
    queue_functions_deinit(&functions);
    for (int from = 0; from < JOB_STATE_COUNT; from++) {
        for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
            struct job job = place(&table, (enum job_state)from);
            call_verb(&table, verbs[i], job);
            enum job_state to = state_now(&table, &job.id);

            if (to != (enum job_state)from) {
                moves++;
                /* A sweep may take two steps at once: due, and then past its deadline. */
                if (!job_state_may_follow((enum job_state)from, to))
                    fail_msg("%s: %s -> %s", verbs[i], job_state_word((enum job_state)from),
                             job_state_word(to));
            }
            rig_ask(&table.rig->redis,
                    "DEL {0}:j:%s {0}:L {0}:D {0}:Y {0}:S {0}:R:m {0}:A {0}:q:m:1%b", job.id.core,
                    job.tenant, (size_t)JOB_TENANT_SIZE);
        }
    }
    /* claim, 7 ways on from running, and cancel and expire of what waits, at least. */
    assert_true(moves >= 12);
    redisFree(table.context);
    rig_close(table.rig, table.queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_recovered_job_fences_its_old_worker, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_dead_child_is_found_by_its_id, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(leases_lapse_and_are_renewed, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_broken_record_fails_alone, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_record_hurts_no_other, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_newer_record_is_left_alone, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(leases_and_deadlines_of_newer_records_are_left_alone,
                                        rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(every_life_ends_once, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(functions_follow_the_state_table, rig_set_up,
                                        rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
