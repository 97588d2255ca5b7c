/* A job's way through the queue against a real Redis: submit, claim, commit and everything around.
 */
#include "queue_rig.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/digest.h"

static void wait_state(struct rig *rig, struct queue *queue, const struct job_id *id,
                       enum job_state state)
{
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; clock_mono_ms() < until;) {
        if (rig_state(rig, queue, id) == state)
            return;
        rig_run_ms(rig, 10);
    }
    fail_msg("still %s", job_state_word(rig_state(rig, queue, id)));
}

static void submit_claim_finish_get(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");
    const struct rig_claimed *claimed;
    struct job now;

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_QUEUED);
    assert_true(slice_equal(now.payload, job.payload));

    claimed = rig_claim(rig, queue, "m", 10, false);
    assert_int_equal(claimed->status, 0);
    assert_int_equal(claimed->count, 1);
    assert_false(claimed->has_more);
    assert_int_equal(claimed->jobs[0].claim, 1);
    assert_memory_equal(claimed->jobs[0].id.core, job.id.core, JOB_ID_CORE_SIZE);
    assert_int_equal(rig_state(rig, queue, &job.id), JOB_RUNNING);
    assert_int_equal(rig_inspect(rig, queue), 0);

    struct job running = claimed->jobs[0];
    assert_int_equal(rig_claim(rig, queue, "m", 10, false)->count, 0);
    assert_int_equal(rig_finish(rig, queue, &running, "{\"ok\":1}"), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SUCCEEDED);
    assert_int_equal(now.sequence, 3);
    assert_true(slice_is(now.payload, "{\"ok\":1}"));
    assert_true(slice_is(now.content_type, "application/json"));
    /* Again: it is the same commit. */
    assert_int_equal(rig_finish(rig, queue, &running, "{\"ok\":1}"), 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    assert_int_equal(rig_ask_number(&rig->redis, "HGET {%u}:n j", job_id_shard(&job.id)), 0);
    assert_int_equal(rig_ask_number(&rig->redis, "HGET {%u}:n b", job_id_shard(&job.id)), 0);
    assert_true(rig_ask_number(&rig->redis, "TTL {%u}:j:%s", job_id_shard(&job.id), job.id.core) >
                3600);
    rig_close(rig, queue);
}

static void large_bodies_and_results_go_in_pieces(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");
    static char body[700001], result[300001];
    const struct rig_claimed *claimed;
    struct job now;

    memset(body, 'b', sizeof(body) - 1);
    memset(result, 'r', sizeof(result) - 1);
    job.payload = slice_of(body);
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    assert_int_equal(
        rig_ask_number(&rig->redis, "EXISTS {%u}:b:%s:2", job_id_shard(&job.id), job.id.core), 1);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_true(slice_is(now.payload, body));
    claimed = rig_claim(rig, queue, "m", 1, false);
    assert_int_equal(claimed->count, 1);
    assert_int_equal(claimed->jobs[0].payload.size, sizeof(body) - 1);

    struct job running = claimed->jobs[0];
    assert_int_equal(rig_finish(rig, queue, &running, result), 0);
    assert_int_equal(
        rig_ask_number(&rig->redis, "EXISTS {%u}:b:%s:0", job_id_shard(&job.id), job.id.core), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SUCCEEDED);
    assert_int_equal(now.pieces, 2);
    assert_true(slice_is(now.payload, result));
    assert_int_equal(rig_finish(rig, queue, &running, result), 0);

    /* Pieces live as long as the result, the record longer: the job is there, its payload is not.
     */
    for (int i = 0; i < 2; i++)
        rig_ask(&rig->redis, "DEL {%u}:r:%s:1:%d", job_id_shard(&job.id), job.id.core, i);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_null(now.payload.bytes);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

/* queue_get_small brings the payload as long as the whole record fits, and the job in any case. */
static void small_records_come_whole(void **state)
{
    static char bytes[LIMIT_INLINE_BYTES];
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    size_t head = 0;

    memset(bytes, '7', sizeof(bytes));
    for (size_t size = 1; size < sizeof(bytes);
         size = size == 1 ? LIMIT_SMALL_RECORD_BYTES - head : size + 1) {
        struct job job = rig_job(queue, "m"), now;

        job.payload = (struct slice){bytes, size};
        assert_int_equal(rig_submit(rig, queue, &job).status, 0);
        assert_int_equal(rig_get_small(rig, queue, &job.id, &now), 0);
        assert_int_equal(now.state, JOB_QUEUED);
        assert_int_equal(now.payload_size, size);
        if (size > 1 && head + size > LIMIT_SMALL_RECORD_BYTES) {
            assert_null(now.payload.bytes);
            break;
        }
        assert_true(slice_equal(now.payload, job.payload));
        if (size == 1) {
            char id[JOB_ID_TEXT_SIZE + 1];
            job_id_text(&job.id, id);
            head = (size_t)rig_ask_number(&rig->redis, "STRLEN {%u}:j:%s", job_id_shard(&job.id),
                                          id + strlen("job_")) -
                   1;
        }
    }
    struct job gone = rig_job(queue, "m"), now;
    assert_int_equal(rig_get_small(rig, queue, &gone.id, &now), ERR_NOT_FOUND);
    rig_close(rig, queue);
}

static void retry_waits_and_counts(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m"), later = rig_job(queue, "m"), now;

    queue_sweep_start(queue);
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    struct job running = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    later.id.core[33] = later.id.core[33] == '0' ? '8' : '0';
    assert_int_equal(rig_submit(rig, queue, &later).status, 0);
    assert_int_equal(rig_retry(rig, queue, &running, 150), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SCHEDULED);
    assert_int_equal(now.attempt, 1);
    assert_int_equal(now.attempts_count, 1);
    assert_int_equal(now.attempts[0].http_status, 503);
    assert_true(slice_is(now.attempts[0].error_code, "upstream_overloaded"));
    assert_int_equal(rig_retry(rig, queue, &running, 100), 0); /* the same retry again */
    assert_int_equal(rig_inspect(rig, queue), 0);

    wait_state(rig, queue, &job.id, JOB_QUEUED);
    assert_true(queue_now_ms(queue) >= now.due_at_ms);
    /* A retry goes before what came later, in its own shard. */
    for (int i = 0; i < 2; i++) {
        const struct rig_claimed *claimed = rig_claim(rig, queue, "m", 1, false);
        assert_int_equal(claimed->count, 1);
        if (memcmp(claimed->jobs[0].id.core, job.id.core, JOB_ID_CORE_SIZE) == 0)
            running = claimed->jobs[0];
    }
    assert_int_equal(running.claim, 2);
    assert_int_equal(running.attempt, 1);
    assert_int_equal(running.attempts_count, 1);
    assert_int_equal(rig_finish(rig, queue, &running, "{}"), 0);
    assert_int_equal(
        rig_ask_number(&rig->redis, "EXISTS {%u}:t:%s", job_id_shard(&job.id), job.id.core), 0);
    rig_close(rig, queue);
}

static void release_counts_nothing_and_goes_first(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    struct job job, other, now;

    rig->options.shards = 1;
    queue = rig_queue(rig, "test");
    job = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    struct job running = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    other = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &other).status, 0);
    assert_int_equal(rig_release(rig, queue, &running), 0);
    assert_int_equal(rig_release(rig, queue, &running), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_QUEUED);
    assert_int_equal(now.attempt, 0);
    assert_int_equal(now.crashes, 0);
    assert_int_equal(now.claim, 1);
    assert_int_equal(rig_inspect(rig, queue), 0);
    assert_memory_equal(rig_claim(rig, queue, "m", 1, false)->jobs[0].id.core, job.id.core,
                        JOB_ID_CORE_SIZE);
    /* The old claim is over. */
    assert_int_equal(rig_release(rig, queue, &running), ERR_FENCED);
    assert_int_equal(rig_finish(rig, queue, &running, "{}"), ERR_FENCED);
    rig_close(rig, queue);
}

static void cancel_in_every_live_state(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job jobs[3], now;

    for (int i = 0; i < 3; i++)
        jobs[i] = rig_job(queue, i == 2 ? "other" : "m");
    jobs[1].due_at_ms = queue_now_ms(queue) + 60000;
    assert_int_equal(job_state_from_letter('s', &jobs[1].state), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_submit(rig, queue, &jobs[i]).status, 0);
    struct job running = rig_claim(rig, queue, "other", 1, false)->jobs[0];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_cancel(rig, queue, &jobs[i].id, &now), 0);
        assert_int_equal(now.state, JOB_CANCELLED);
        assert_true(slice_is(now.error_code, "cancelled"));
        assert_true(now.finished_at_ms >= now.created_at_ms);
        assert_int_equal(rig_get(rig, queue, &jobs[i].id, &now), 0);
        assert_int_equal(now.state, JOB_CANCELLED);
        assert_int_equal(now.payload_size, 0);
        assert_int_equal(rig_cancel(rig, queue, &jobs[i].id, &now), ERR_STATE);
        assert_int_equal(now.state, JOB_CANCELLED);
    }
    assert_int_equal(rig_finish(rig, queue, &running, "{}"), ERR_FENCED);
    assert_int_equal(rig_claim(rig, queue, "m", 9, false)->count, 0);
    for (unsigned shard = 0; shard < 16; shard++)
        assert_true(rig_ask_number(&rig->redis, "HGET {%u}:n j", shard) <= 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    struct job unknown = rig_job(queue, "m");
    assert_int_equal(rig_cancel(rig, queue, &unknown.id, NULL), ERR_NOT_FOUND);
    rig_close(rig, queue);
}

struct forgotten {
    int status;
    int is_done;
};

static void on_forgotten(int status, const struct job *job, void *arg)
{
    struct forgotten *forgotten = arg;

    forgotten->status = status;
    if (status == 0)
        assert_true(job->flags & JOB_FLAG_FORGOTTEN);
    forgotten->is_done = 1;
}

static void forget_removes_the_result(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m"), now;
    struct forgotten forgotten = {.is_done = 0};
    static char result[100001];

    memset(result, 'r', sizeof(result) - 1);
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    queue_forget(queue, &job.id, on_forgotten, &forgotten);
    rig_wait(rig, &forgotten.is_done);
    assert_int_equal(forgotten.status, ERR_STATE);
    struct job running = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    assert_int_equal(rig_finish(rig, queue, &running, result), 0);
    forgotten.is_done = 0;
    queue_forget(queue, &job.id, on_forgotten, &forgotten);
    rig_wait(rig, &forgotten.is_done);
    assert_int_equal(forgotten.status, 0);
    assert_int_equal(
        rig_ask_number(&rig->redis, "EXISTS {%u}:r:%s:1:0", job_id_shard(&job.id), job.id.core), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SUCCEEDED);
    assert_int_equal(now.payload_size, 0);
    assert_true(slice_is(now.content_type, "application/json"));
    assert_true(rig_ask_number(&rig->redis, "TTL {%u}:j:%s", job_id_shard(&job.id), job.id.core) >
                0);
    rig_close(rig, queue);
}

static void deadlines_are_kept(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job jobs[4], now;
    struct job running;

    for (int i = 0; i < 4; i++) {
        jobs[i] = rig_job(queue, i == 3 ? "runs" : i == 2 ? "claimed" : "m");
        jobs[i].expires_at_ms = queue_now_ms(queue) + 1500;
    }
    jobs[1].due_at_ms = queue_now_ms(queue) + 60000;
    assert_int_equal(job_state_from_letter('s', &jobs[1].state), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig_submit(rig, queue, &jobs[i]).status, 0);
    running = rig_claim(rig, queue, "runs", 1, false)->jobs[0];
    while (queue_now_ms(queue) <= jobs[3].expires_at_ms + 50)
        rig_run_ms(rig, 20);
    /* A claim that comes too late ends the job instead. */
    assert_int_equal(rig_claim(rig, queue, "claimed", 1, false)->count, 0);
    assert_int_equal(rig_state(rig, queue, &jobs[2].id), JOB_EXPIRED);
    queue_sweep_start(queue);
    wait_state(rig, queue, &jobs[0].id, JOB_EXPIRED);
    wait_state(rig, queue, &jobs[1].id, JOB_EXPIRED);
    assert_int_equal(rig_get(rig, queue, &jobs[0].id, &now), 0);
    assert_true(slice_is(now.error_code, "expired"));
    /* A running job is its worker's. */
    assert_int_equal(rig_state(rig, queue, &jobs[3].id), JOB_RUNNING);
    assert_int_equal(rig_finish(rig, queue, &running, "{}"), 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

/* A job that still runs at its deadline may be handed back, to a route that nobody serves. */
static void a_deadline_outlasts_a_run(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");
    unsigned shard = job_id_shard(&job.id);
    long long noted = job.expires_at_ms = queue_now_ms(queue) + 1500;

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    job = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    queue_sweep_start(queue);
    for (int i = 0; i < 1000 && noted == job.expires_at_ms; i++) {
        rig_run_ms(rig, 10);
        noted = rig_ask_number(&rig->redis, "ZSCORE {%u}:Y %s", shard, job.id.core);
    }
    assert_true(noted > job.expires_at_ms);
    assert_int_equal(rig_release(rig, queue, &job), 0);
    rig_ask(&rig->redis, "ZADD {%u}:Y XX 1 %s", shard, job.id.core); /* as if that time had come */
    wait_state(rig, queue, &job.id, JOB_EXPIRED);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

static void far_deadlines_come_near(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");
    unsigned shard = job_id_shard(&job.id);
    long long minute = job.expires_at_ms / 60000;

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    assert_int_equal(rig_ask_number(&rig->redis, "LLEN {%u}:y:%lld", shard, minute), 1);
    /* As if the sweep had come that far: the list is moved, whatever the clock says. */
    rig_ask(&rig->redis, "RENAME {%u}:y:%lld {%u}:y:%lld", shard, minute, shard, minute - 60);
    rig_ask(&rig->redis, "SET {%u}:yp %lld", shard, minute - 62);
    queue_sweep_start(queue);
    for (int i = 0; i < 1000 && rig_ask_number(&rig->redis, "ZCARD {%u}:Y", shard) != 1; i++)
        rig_run_ms(rig, 10);
    assert_int_equal(rig_ask_number(&rig->redis, "ZSCORE {%u}:Y %s", shard, job.id.core),
                     job.expires_at_ms);
    rig_close(rig, queue);
}

/* The usual deadline stands in no list of its own: the index of the hour is walked a day later. */
static void usual_deadlines_are_found_by_the_index(void **state)
{
    static const char index_ttl[] =
        "EVAL return(redis.call('TTL',redis.call('KEYS','{%u}:i:*')[1])) 0";
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job jobs[3];
    unsigned shard = 3;
    uint8_t random[15];

    for (int i = 0; i < 3; i++) {
        jobs[i] = rig_job(queue, "m");
        digest_random(random, sizeof(random));
        jobs[i].id = job_id_make(3, jobs[i].created_at_ms, random);
        jobs[i].expires_at_ms = job_id_at_ms(&jobs[i].id) + LIMIT_EXPIRES_DEFAULT_MS;
        if (i == 1)
            jobs[i].expires_at_ms += 3600000; /* has its own list, and is passed over */
        if (i == 2)
            jobs[i].expires_at_ms = 0;
        assert_int_equal(rig_submit(rig, queue, &jobs[i]).status, 0);
    }
    long long minute = jobs[0].expires_at_ms / 60000;

    assert_int_equal(rig_ask_number(&rig->redis, "EXISTS {%u}:y:%lld", shard, minute), 0);
    assert_int_equal(rig_ask_number(&rig->redis, "LLEN {%u}:y:%lld", shard, minute + 60), 1);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {%u}:yi", shard), 1);
    /* An outage of days must not outlast the list. */
    assert_true(rig_ask_number(&rig->redis, index_ttl, shard) > 60 * 24 * 3600);
    queue_sweep_start(queue);
    rig_run_ms(rig, 100);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {%u}:Y", shard), 0);
    /* As if a day had gone by. */
    rig_ask(&rig->redis, "SET {%u}:yp %lld", shard, minute + 2);
    rig_ask(&rig->redis,
            "EVAL redis.call('ZADD',KEYS[1],0,redis.call('ZRANGE',KEYS[1],0,0)[1]) 1 {%u}:yi",
            shard);
    for (int i = 0; i < 1000 && rig_ask_number(&rig->redis, "ZCARD {%u}:Y", shard) == 0; i++)
        rig_run_ms(rig, 10);
    assert_int_equal(rig_ask_number(&rig->redis, "ZSCORE {%u}:Y %s", shard, jobs[0].id.core),
                     jobs[0].expires_at_ms);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {%u}:Y", shard), 1);
    /* Nothing more is found by the list: it is kept as long as the index needs it, no longer. */
    for (int i = 0; i < 1000 && rig_ask_number(&rig->redis, "ZCARD {%u}:yi", shard) != 0; i++)
        rig_run_ms(rig, 10);
    assert_int_equal(rig_ask_number(&rig->redis, "EXISTS {%u}:yi {%u}:yo", shard, shard), 0);
    assert_in_range(rig_ask_number(&rig->redis, index_ttl, shard), 1, 40 * 24 * 3600);
    rig_close(rig, queue);
}

/* One sweep does a bounded part and the next follows at once: deadlines that come near faster than
 * they are looked at would pile up in the store. One sweep a second would take ten minutes. */
static void sweeps_keep_up_with_deadlines(void **state)
{
    enum { IDS = 60000, LIMIT_MS = 30000 };
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    long long minute = queue_now_ms(queue) / 60000;
    int64_t began;

    rig_ask(&rig->redis, "SET {2}:yp %lld", minute);
    /* The jobs have ended long ago. */
    rig_ask(&rig->redis, "EVAL %s 1 {2}:y:%lld %d",
            "for n = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], string.format('%034d', n)) end",
            minute, IDS);
    queue_sweep_start(queue);
    began = clock_mono_ms();
    while (clock_mono_ms() - began < LIMIT_MS &&
           rig_ask_number(&rig->redis, "EXISTS {2}:y:%lld", minute) != 0)
        rig_run_ms(rig, 20);
    assert_int_equal(rig_ask_number(&rig->redis, "EXISTS {2}:y:%lld", minute), 0);
    rig_close(rig, queue);
}

static void delayed_jobs_start_when_due(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");

    queue_sweep_start(queue);
    job.due_at_ms = queue_now_ms(queue) + 300;
    assert_int_equal(job_state_from_letter('s', &job.state), 0);
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    assert_int_equal(rig_claim(rig, queue, "m", 1, false)->count, 0);
    wait_state(rig, queue, &job.id, JOB_QUEUED);
    assert_true(queue_now_ms(queue) >= job.due_at_ms);
    assert_int_equal(rig_claim(rig, queue, "m", 1, false)->count, 1);
    rig_close(rig, queue);
}

static struct queue_submit_result submit_keyed(struct rig *rig, struct queue *queue,
                                               const char *key, const char *body)
{
    uint8_t key_hash[32], body_hash[32];
    struct job job = rig_job(queue, "m");
    struct queue_submission submission = {
        .job = &job, .key_hash = key_hash, .body_hash = body_hash, .weight = 1};
    uint8_t random[15];

    digest_sha256(key, strlen(key), key_hash);
    digest_sha256(body, strlen(body), body_hash);
    digest_random(random, sizeof(random));
    job.id =
        job_id_make(queue_shard_for_key(queue, job.tenant, key_hash), job.created_at_ms, random);
    job.payload = slice_of(body);
    return rig_submit_full(rig, queue, &submission);
}

static void idempotency_keys(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct queue_submit_result first = submit_keyed(rig, queue, "k", "a");
    struct queue_submit_result second = submit_keyed(rig, queue, "k", "a");
    struct queue_submit_result third = submit_keyed(rig, queue, "k", "b");
    struct queue_submit_result other = submit_keyed(rig, queue, "l", "a");

    assert_int_equal(first.status, 0);
    assert_false(first.is_replay);
    assert_int_equal(second.status, 0);
    assert_true(second.is_replay);
    assert_string_equal(second.id.core, first.id.core);
    assert_int_equal(third.status, ERR_CONFLICT);
    assert_string_equal(third.id.core, first.id.core);
    assert_int_equal(other.status, 0);
    assert_false(other.is_replay);
    assert_int_equal(rig_claim(rig, queue, "m", 9, false)->count, 2);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

struct many {
    unsigned left, kept, replays, full;
    struct queue_submit_result last;
};

static void on_many(const struct queue_submit_result *result, void *arg)
{
    struct many *many = arg;

    many->left--;
    many->kept += result->status == 0 && !result->is_replay;
    many->replays += result->status == 0 && result->is_replay;
    many->full += result->status == ERR_FULL;
    many->last = *result;
}

static void wait_many(struct rig *rig, const struct many *many)
{
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; many->left > 0 && clock_mono_ms() < until;)
        uv_run(&rig->loop, UV_RUN_ONCE);
    assert_int_equal(many->left, 0);
}

/* The same key many times in one flush creates one job, and refused neighbours harm nobody. */
static void one_batch_with_everything(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct many keyed = {.left = 100}, plain = {.left = 100};
    uint8_t key_hash[32] = {1}, body_hash[32] = {2};

    for (int i = 0; i < 100; i++) {
        struct job job = rig_job(queue, "m");
        struct queue_submission submission = {.job = &job, .weight = 1};

        queue_submit(queue, &submission, on_many, &plain);
        job = rig_job(queue, "m");
        job.id = job_id_make(queue_shard_for_key(queue, job.tenant, key_hash), job.created_at_ms,
                             (const uint8_t *)job.id.core);
        submission.key_hash = key_hash;
        submission.body_hash = body_hash;
        queue_submit(queue, &submission, on_many, &keyed);
    }
    wait_many(rig, &plain);
    wait_many(rig, &keyed);
    assert_int_equal(plain.kept, 100);
    assert_int_equal(keyed.kept, 1);
    assert_int_equal(keyed.replays, 99);
    unsigned claimed = 0;
    for (int i = 0; i < 2; i++)
        claimed += rig_claim(rig, queue, "m", 64, false)->count;
    assert_int_equal(claimed, 101);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:idle"), 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

static void scripts_where_functions_are_refused(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    struct job job, now;

    rig_ask(&rig->redis, "ACL SETUSER default -function -fcall");
    queue = rig_queue(rig, "test");
    job = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    struct job running = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    assert_int_equal(rig_finish(rig, queue, &running, "{}"), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SUCCEEDED);
    /* The script cache may be emptied at any time. */
    rig_ask(&rig->redis, "SCRIPT FLUSH");
    rig_run_ms(rig, 1300);
    rig_wait_ready(rig, queue, true);
    job = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    rig_close(rig, queue);
}

static void functions_that_vanish_come_back(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");

    rig_ask(&rig->redis, "FUNCTION FLUSH");
    assert_int_equal(rig_submit(rig, queue, &job).status, ERR_UNFIT);
    assert_int_equal(rig_get(rig, queue, &job.id, NULL),
                     ERR_NOT_FOUND); /* nothing was left behind */
    rig_wait_ready(rig, queue, true);
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    rig_close(rig, queue);
}

/* Small records come with the answer of the claim, as they were before; large ones are read after
 * it. */
static void what_is_claimed_is_what_is_stored(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    static char body[60000];
    const size_t sizes[] = {2, 1000, 3900, 4096, 5000, 50000};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };

    memset(body, 'b', sizeof(body));
    for (int i = 0; i < COUNT; i++) {
        struct job job = rig_job(queue, "m");

        job.payload = (struct slice){body, sizes[i]};
        assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    }
    for (int round = 1; round <= 2; round++) { /* what was released keeps the time of its start */
        const struct rig_claimed *claimed = rig_claim(rig, queue, "m", COUNT, false);
        struct job jobs[COUNT];

        assert_int_equal(claimed->count, COUNT);
        memcpy(jobs, claimed->jobs, sizeof(jobs));
        for (int i = 0; i < COUNT; i++) {
            struct job now;

            assert_int_equal(rig_get(rig, queue, &jobs[i].id, &now), 0);
            assert_int_equal(now.state, JOB_RUNNING);
            assert_int_equal(jobs[i].state, JOB_RUNNING);
            assert_int_equal(jobs[i].claim, round);
            assert_int_equal(now.claim, round);
            assert_int_equal(jobs[i].payload.size, now.payload_size);
            assert_int_equal(jobs[i].sequence, now.sequence);
            assert_int_equal(jobs[i].started_at_ms, now.started_at_ms);
            assert_true(now.started_at_ms > 0);
            assert_memory_equal(jobs[i].token, now.token, JOB_TOKEN_SIZE);
        }
        for (int i = COUNT - 1; round == 1 && i >= 0; i--)
            assert_int_equal(rig_release(rig, queue, &jobs[i]), 0);
    }
    rig_close(rig, queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(submit_claim_finish_get, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(what_is_claimed_is_what_is_stored, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(large_bodies_and_results_go_in_pieces, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(small_records_come_whole, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(retry_waits_and_counts, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(release_counts_nothing_and_goes_first, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(cancel_in_every_live_state, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(forget_removes_the_result, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(deadlines_are_kept, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_deadline_outlasts_a_run, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(far_deadlines_come_near, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(usual_deadlines_are_found_by_the_index, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(sweeps_keep_up_with_deadlines, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(delayed_jobs_start_when_due, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(idempotency_keys, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(one_batch_with_everything, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(scripts_where_functions_are_refused, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(functions_that_vanish_come_back, rig_set_up, rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
