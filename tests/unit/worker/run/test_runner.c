/* The life of claims and attempts against a queue and an upstream that answer on command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/worker/run/bench.h"

static const char TWO[] =
    "upstreams:\n"
    "  - {name: one, kind: openai, base_url: 'http://127.0.0.1:1001/v1', models: [m],"
    " concurrency: 4}\n"
    "  - {name: two, kind: openai, base_url: 'http://127.0.0.1:1002/v1', models: [m],"
    " concurrency: 4, tier: 1}\n";

static void give_one(struct bench *bench, unsigned number)
{
    struct job job = job_of(number);
    give(bench, &job, 1, false);
}

/* ---- claims ---- */

static void test_claims_follow_the_room(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 100);
    struct job jobs[4] = {job_of(1), job_of(2), job_of(3), job_of(4)};

    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1);
    assert_int_equal(fake_room(&bench->queue, "m"), 4);
    assert_int_equal(fake_room(&bench->queue, "n"), 4);
    assert_true(bench->queue.request.wants_wake);
    assert_true(bench->queue.request.takes_suspect);
    assert_int_equal(bench->queue.request.count_max, 1);                /* a suspect comes alone */
    assert_int_equal(bench->queue.request.hand_max, LIMIT_CLAIM_COUNT); /* and is not new */
    runner_turn(&bench->runner);                                        /* one at a time */
    assert_int_equal(bench->queue.claims_count, 1);

    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = jobs, .jobs_count = 3, .has_more = true});
    assert_int_equal(bench->pool.calls_count, 3);
    runner_turn(&bench->runner);
    assert_int_equal(fake_room(&bench->queue, "m"), 1);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = &jobs[3], .jobs_count = 1, .has_more = true});

    /* Full: nothing is asked for until a call ends. */
    runner_turn(&bench->runner);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    fake_answer(&bench->pool, 2, 200, ANSWER);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 3);
    assert_int_equal(fake_room(&bench->queue, "m"), 1);
    /* Nothing found: we are asleep until something wakes us. */
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 3);
    claim_wake(&bench->runner);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 4);

    for (unsigned i = 0; i < 4; i++)
        if (bench->pool.calls[i].is_running)
            fake_answer(&bench->pool, i, 200, ANSWER);
    for (unsigned i = 0; i < 4; i++)
        fake_done(&bench->queue, i, 0);
    close_bench(bench);
}

static void test_claims_are_bounded_by_free_attempts(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 2);
    struct job jobs[2] = {job_of(1), job_of(2)};

    bench->runner.claimer.wants_suspect = false;
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.request.count_max, 2);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = jobs, .jobs_count = 2, .has_more = true});
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1); /* it still waits for its commit */
    fake_done(&bench->queue, 0, 0);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    assert_int_equal(bench->queue.request.count_max, 1);
    fake_answer(&bench->pool, 1, 200, ANSWER);
    fake_done(&bench->queue, 1, 0);
    close_bench(bench);
}

static void test_claims_are_bounded_by_bytes(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 100);
    struct attempt_table *table = &bench->runner.table;

    give_one(bench, 1);
    claim_wake(&bench->runner);
    assert_int_equal(table->body_bytes, job_of(1).payload.size);
    table->body_bytes += 2u << 30; /* as if */
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1);
    table->body_bytes -= 2u << 30;
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 0, 0);
    assert_int_equal(table->body_bytes, 0);
    close_bench(bench);
}

static void test_claims_wait_for_results_to_be_stored(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 100);

    bench->queue.commit_bytes = 200u << 20;
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 0);
    bench->queue.commit_bytes = 1u << 20;
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1);
    close_bench(bench);
}

static void test_hints_are_followed(void **state)
{
    (void)state;
    struct bench *bench =
        open_bench("upstreams:\n  - {name: one, kind: openai, base_url: 'http://127.0.0.1:1/v1',"
                   " models: ['g-*'], concurrency: 2}\n",
                   10);
    struct queue_room hints[2] = {{.route = slice_of("g-7")}, {.route = slice_of("other")}};

    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.request.rooms_count, 0);
    fake_answer_claim(&bench->queue,
                      &(struct queue_claim_result){.waiting = hints, .waiting_count = 2});
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    assert_int_equal(fake_room(&bench->queue, "g-7"), 2);
    assert_int_equal(fake_room(&bench->queue, "other"), 0); /* nobody here serves it */
    close_bench(bench);
}

static void test_failed_claim_pauses(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    runner_turn(&bench->runner);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){.status = ERR_OFFLINE});
    runner_turn(&bench->runner);
    runner_tick(&bench->runner);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1);
    bench->runner.claimer.paused_until_mono_ms = 0; /* CLAIM_PAUSE_MS later */
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    close_bench(bench);
}

/* ---- outcomes ---- */

static void test_success(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    give_one(bench, 1);
    assert_string_equal(bench->pool.calls[0].url, "http://127.0.0.1:1001/v1/chat/completions");
    assert_true(slice_is(bench->pool.calls[0].body, "{\"model\":\"m\",\"messages\":[]}"));
    assert_int_equal(bench->pool.calls[0].timeout_ms,
                     60000); /* the job's, shorter than the upstream's */
    bench->queue.now_ms = NOW + 30;
    fake_answer(&bench->pool, 0, 200, ANSWER);

    assert_int_equal(bench->queue.commits_count, 1);
    const struct fake_commit *commit = &bench->queue.commits[0];
    assert_int_equal(commit->verb, FAKE_FINISH);
    assert_true(slice_is(commit->job.payload, ANSWER));
    assert_int_equal(commit->job.http_status, 200);
    assert_true(slice_is(commit->job.content_type, "application/json"));
    assert_true(slice_is(commit->job.upstream, "one"));
    assert_true(slice_is(commit->job.worker, "selfself"));
    assert_int_equal(commit->job.finished_at_ms, NOW + 30);
    assert_int_equal(commit->job.attempt, 0);
    assert_int_equal(commit->job.usage.total_tokens, 7);
    assert_int_equal(commit->job.attempts_count, 1);
    assert_int_equal(commit->job.attempts[0].http_status, 200);
    assert_int_equal(commit->job.attempts[0].started_at_ms, NOW);
    assert_int_equal(commit->job.attempts[0].finished_at_ms, NOW + 30);
    assert_int_equal(commit->job.attempts[0].error_code.size, 0);
    assert_false(runner_is_idle(&bench->runner));
    fake_done(&bench->queue, 0, 0);
    assert_int_equal(bench->runner.counts.succeeded, 1);
    close_bench(bench);
}

static void test_retry_then_fail(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job job = job_of(1);

    give(bench, &job, 1, false);
    fake_answer(&bench->pool, 0, 503, "{\"error\":{\"message\":\"busy\"}}");
    const struct fake_commit *commit = &bench->queue.commits[0];
    assert_int_equal(commit->verb, FAKE_RETRY);
    assert_in_range(commit->due_at_ms, NOW, NOW + RETRY_BASE_MS);
    assert_int_equal(commit->job.attempt, 0); /* the queue counts it */
    assert_int_equal(commit->attempt.http_status, 503);
    assert_string_equal(commit->attempt_message, "busy");
    assert_null(commit->job.payload.bytes);
    fake_done(&bench->queue, 0, 0);

    job.attempt = 2;
    job.claim = 3;
    claim_wake(&bench->runner);
    give(bench, &job, 1, false);
    fake_answer(&bench->pool, 1, 503, "{\"error\":{\"message\":\"busy\"}}");
    commit = &bench->queue.commits[1];
    assert_int_equal(commit->verb, FAKE_FAIL);
    assert_int_equal(commit->job.state, JOB_FAILED);
    assert_int_equal(commit->job.attempt, 3);
    assert_int_equal(commit->job.http_status, 503);
    assert_true(slice_is(commit->job.payload, "{\"error\":{\"message\":\"busy\"}}"));
    assert_true(slice_is(commit->job.error_code, "upstream_overloaded"));
    assert_true(slice_is(commit->job.error_message, "busy"));
    fake_done(&bench->queue, 1, 0);
    assert_int_equal(bench->runner.counts.failed, 1);
    close_bench(bench);
}

/* An answer that looks like success but is none must not be shown as the job's result. */
static void test_malformed_answer_is_not_shown(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job job = job_of(1);
    job.max_attempts = 1;
    give(bench, &job, 1, false);
    fake_answer(&bench->pool, 0, 200, "<html>");
    const struct fake_commit *commit = &bench->queue.commits[0];
    assert_int_equal(commit->verb, FAKE_FAIL);
    assert_int_equal(commit->job.http_status, 0);
    assert_int_equal(commit->job.payload.size, 0);
    assert_true(slice_is(commit->job.error_code, "upstream_malformed"));
    assert_int_equal(commit->job.attempts[0].http_status, 200);
    fake_done(&bench->queue, 0, 0);
    close_bench(bench);
}

static void test_ends_without_an_answer(void **state)
{
    (void)state;
    static const struct {
        enum upstream_end end;
        const char *code;
    } rows[] = {
        {UPSTREAM_CONNECT, "upstream_unreachable"},
        {UPSTREAM_TIMEOUT_FIRST_BYTE, "upstream_timeout"},
        {UPSTREAM_TIMEOUT_IDLE, "upstream_timeout"},
        {UPSTREAM_TIMEOUT_TOTAL, "upstream_timeout"},
        {UPSTREAM_BROKEN, "upstream_truncated"},
        {UPSTREAM_TOO_LARGE, "upstream_too_large"},
        {UPSTREAM_PROTOCOL, "upstream_malformed"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench *bench = open_bench(ONE, 10);
        struct job job = job_of(1);
        job.max_attempts = 1;
        give(bench, &job, 1, false);
        fake_end(&bench->pool, 0, rows[i].end);
        assert_int_equal(bench->queue.commits[0].verb, FAKE_FAIL);
        assert_true(slice_is(bench->queue.commits[0].job.error_code, rows[i].code));
        assert_true(slice_is(bench->queue.commits[0].job.error_message, "words of the transport"));
        fake_done(&bench->queue, 0, 0);
        close_bench(bench);
    }
}

static void test_deadline(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};
    jobs[0].expires_at_ms = NOW; /* over before it starts */
    jobs[1].expires_at_ms = jobs[2].expires_at_ms = NOW + 1500;
    give(bench, jobs, 3, false);
    assert_int_equal(bench->pool.calls_count, 2);
    assert_int_equal(bench->pool.calls[0].timeout_ms, 1500);
    assert_int_equal(bench->queue.commits[0].verb, FAKE_FAIL);
    assert_int_equal(bench->queue.commits[0].job.state, JOB_EXPIRED);
    assert_int_equal(bench->queue.commits[0].job.attempt, 0);
    bench->queue.now_ms = NOW + 1500;
    fake_end(&bench->pool, 0, UPSTREAM_TIMEOUT_TOTAL);
    assert_int_equal(bench->queue.commits[1].job.state, JOB_EXPIRED);
    assert_true(slice_is(bench->queue.commits[1].job.error_code, "deadline_exceeded"));
    fake_end_stale(&bench->pool, 1, 1500); /* late, it does not go again */
    assert_int_equal(bench->queue.commits[2].job.state, JOB_EXPIRED);
    for (unsigned i = 0; i < 3; i++)
        fake_done(&bench->queue, i, 0);
    assert_int_equal(bench->runner.counts.expired, 3);
    close_bench(bench);
}

static void test_unreachable_goes_elsewhere_once(void **state)
{
    (void)state;
    struct bench *bench = open_bench(TWO, 10);
    give_one(bench, 1);
    assert_string_equal(bench->pool.calls[0].url, "http://127.0.0.1:1001/v1/chat/completions");
    fake_end(&bench->pool, 0, UPSTREAM_CONNECT);
    assert_int_equal(bench->pool.calls_count, 2);
    assert_string_equal(bench->pool.calls[1].url, "http://127.0.0.1:1002/v1/chat/completions");
    assert_true(slice_is(bench->pool.calls[1].body, "{\"model\":\"m\",\"messages\":[]}"));
    fake_answer(&bench->pool, 1, 200, ANSWER);
    const struct job *job = &bench->queue.commits[0].job;
    assert_int_equal(bench->queue.commits[0].verb, FAKE_FINISH);
    assert_int_equal(job->attempts_count, 2);
    assert_true(slice_is(job->attempts[0].upstream, "one"));
    assert_true(slice_is(job->attempts[0].error_message, "words of the transport"));
    assert_true(slice_is(job->attempts[1].upstream, "two"));
    assert_true(slice_is(job->upstream, "two"));
    fake_done(&bench->queue, 0, 0);

    claim_wake(&bench->runner);
    give_one(bench, 2);
    fake_end(&bench->pool, 2, UPSTREAM_CONNECT);
    fake_end(&bench->pool, 3, UPSTREAM_CONNECT);
    assert_int_equal(bench->pool.calls_count, 4);
    assert_int_equal(bench->queue.commits[1].verb, FAKE_RETRY);
    assert_string_equal(bench->queue.commits[1].attempt_message,
                        "words of the transport (before: words of the transport)");
    fake_done(&bench->queue, 1, 0);
    close_bench(bench);
}

static void test_call_that_cannot_start(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    bench->pool.start_status = ERR_BUSY;
    give_one(bench, 1);
    assert_int_equal(bench->queue.commits[0].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 0, 0);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1); /* not in a circle */

    bench->pool.start_status = ERR_INVALID;
    bench->runner.claimer.paused_until_mono_ms = 0;
    claim_wake(&bench->runner);
    give_one(bench, 2);
    assert_int_equal(bench->queue.commits[1].verb, FAKE_FAIL);
    assert_true(slice_is(bench->queue.commits[1].job.error_code, "internal"));
    fake_done(&bench->queue, 1, 0);
    close_bench(bench);
}

/* A kept connection was closed while it was idle: nobody's failure, once. */
static void test_stale_connection(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    give_one(bench, 1);
    fake_end_stale(&bench->pool, 0, 3);
    assert_true(bench->pool.calls[1].is_fresh && !bench->pool.calls[0].is_fresh);
    fake_answer(&bench->pool, 1, 200, ANSWER);
    assert_int_equal(bench->queue.commits[0].job.attempts_count, 1);
    fake_done(&bench->queue, 0, 0);

    give_one(bench, 2);
    fake_end_stale(&bench->pool, 2, 3);
    fake_end_stale(&bench->pool, 3, 3); /* twice is a failure */
    assert_int_equal(bench->queue.commits[1].verb, FAKE_RETRY);
    fake_done(&bench->queue, 1, 0);
    give_one(bench, 3);
    fake_end_stale(&bench->pool, 4, 5000); /* it was worked on */
    assert_int_equal(bench->queue.commits[2].verb, FAKE_RETRY);
    fake_done(&bench->queue, 2, 0);
    close_bench(bench);
}

/* ---- cancel, lost leases, fences ---- */

static void test_cancel_and_lost(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};

    give(bench, jobs, 3, false);
    runner_on_cancel(&bench->runner, &jobs[0].id, 1);
    runner_on_cancel(&bench->runner, &jobs[0].id, 1);
    runner_on_lost(&bench->runner, &jobs[1].id, 1);
    runner_on_cancel(&bench->runner, &jobs[2].id, 7); /* another claim */
    assert_true(bench->pool.calls[0].is_aborted);
    assert_true(bench->pool.calls[1].is_aborted);
    assert_false(bench->pool.calls[2].is_aborted);
    fake_answer(&bench->pool, 0, 200,
                ANSWER); /* the answer was faster than the abort: still cancelled */
    fake_end_aborted(&bench->pool);
    assert_int_equal(bench->queue.commits_count, 0);
    assert_int_equal(bench->runner.table.count, 1);

    fake_answer(&bench->pool, 2, 200, ANSWER);
    runner_on_cancel(&bench->runner, &jobs[2].id, 1); /* too late: the queue decides */
    fake_done(&bench->queue, 0, ERR_FENCED);
    assert_int_equal(bench->runner.counts.fenced, 2);
    assert_int_equal(bench->runner.counts.succeeded, 0);
    close_bench(bench);
}

static void test_fenced_commits_are_held(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[4] = {job_of(1), job_of(2), job_of(3), job_of(4)};

    give(bench, jobs, 4, false);
    bench->queue.lease_age_ms = 10001;
    for (unsigned i = 0; i < 3; i++)
        fake_answer(&bench->pool, i, i == 2 ? 503 : 200, ANSWER);
    assert_int_equal(bench->queue.commits_count, 0);
    runner_on_cancel(&bench->runner, &jobs[1].id, 1);
    runner_tick(&bench->runner);
    assert_int_equal(bench->queue.commits_count, 0);
    claim_wake(&bench->runner);
    runner_turn(&bench->runner);
    assert_false(bench->queue.is_asked);

    bench->queue.lease_age_ms = 3;
    runner_tick(&bench->runner);
    assert_int_equal(bench->queue.commits_count, 2); /* the cancelled one is gone */
    assert_int_equal(bench->queue.commits[0].verb, FAKE_FINISH);
    assert_true(slice_is(bench->queue.commits[0].job.payload, ANSWER));
    assert_int_equal(bench->queue.commits[1].verb, FAKE_RETRY);
    assert_int_equal(bench->runner.held_bytes, 0);
    fake_done(&bench->queue, 0, 0);
    fake_done(&bench->queue, 1, 0);
    fake_answer(&bench->pool, 3, 200, ANSWER);
    fake_done(&bench->queue, 2, 0);
    close_bench(bench);
}

static void test_result_the_queue_cannot_hold_is_given_up(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    give_one(bench, 1);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 0, ERR_BUSY);
    claim_wake(&bench->runner);
    runner_turn(&bench->runner);
    assert_false(bench->queue.is_asked); /* no new work while the queue is full */
    runner_tick(&bench->runner);
    assert_int_equal(bench->queue.commits[1].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 1, ERR_BUSY);
    runner_tick(&bench->runner);
    assert_int_equal(bench->queue.commits[2].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 2, 0);
    assert_int_equal(bench->runner.counts.succeeded, 0);
    assert_int_equal(bench->runner.counts.handed_back, 1);
    runner_turn(&bench->runner);
    assert_true(bench->queue.is_asked);
    close_bench(bench);
}

/* A commit that is refused as such is a bug somewhere. The job must not stay ours for ever, nor run
 * again and again uncounted: its lease lapses. */
static void test_refused_commit_is_left_to_lapse(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    give_one(bench, 1);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 0, ERR_PROTOCOL);
    assert_true(runner_is_idle(&bench->runner));
    runner_tick(&bench->runner);
    assert_int_equal(bench->queue.commits_count, 1);
    close_bench(bench);
}

/* ---- drain and reload ---- */

static void test_drain_and_hand_back(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};

    give(bench, jobs, 2, true);
    runner_turn(&bench->runner);
    assert_true(bench->queue.is_asked);
    runner_drain(&bench->runner);
    /* A claim that was out when we were told: its job goes back untouched. */
    fake_answer_claim(&bench->queue,
                      &(struct queue_claim_result){.jobs = &jobs[2], .jobs_count = 1});
    assert_int_equal(bench->pool.calls_count, 2);
    assert_int_equal(bench->queue.commits[0].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 0, 0);
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    /* And what was handed to us before the queue knew. */
    assert_int_equal(bench->queue.withdrawals_count, 1);
    claim_take_handed(&bench->runner,
                      &(struct queue_claim_result){.jobs = &jobs[2], .jobs_count = 1});
    fake_withdrawn(&bench->queue, 0);
    assert_int_equal(bench->pool.calls_count, 2);
    assert_int_equal(bench->queue.commits[1].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 1, 0);

    fake_answer(&bench->pool, 0, 200, ANSWER); /* what runs may finish */
    assert_int_equal(bench->queue.commits[2].verb, FAKE_FINISH);
    runner_hand_back(&bench->runner);
    fake_end_aborted(&bench->pool);
    assert_int_equal(bench->queue.commits[3].verb, FAKE_RELEASE);
    assert_int_equal(bench->queue.commits[3].job.attempt, 0);
    assert_false(runner_is_idle(&bench->runner));
    fake_done(&bench->queue, 2, 0);
    fake_done(&bench->queue, 3, 0);
    assert_true(runner_is_idle(&bench->runner));
    assert_int_equal(bench->runner.counts.handed_back, 3);
    assert_int_equal(bench->queue.withdrawals_count, 1);
    close_bench(bench);
}

/* Who leaves is not idle before nothing can be handed to it any more, Redis or no Redis. */
static void test_leaving_waits_for_what_is_handed(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bench *bench = open_bench(ONE, 10);

        runner_drain(&bench->runner);
        assert_int_equal(bench->queue.withdrawals_count, 1);
        assert_false(runner_is_idle(&bench->runner));
        runner_hand_back(&bench->runner);
        assert_int_equal(bench->queue.withdrawals_count, 1);
        fake_withdrawn(&bench->queue, i == 0 ? 0 : ERR_OFFLINE);
        assert_true(runner_is_idle(&bench->runner));
        close_bench(bench);
    }
}

static void test_abandon(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    give_one(bench, 1);
    bench->queue.lease_age_ms = 20000;
    fake_answer(&bench->pool, 0, 200, ANSWER);
    runner_abandon(&bench->runner);
    assert_true(runner_is_idle(&bench->runner));
    close_bench(bench);
}

/* Calls of before the reload go on, and count against the new limits. */
static void test_reload(void **state)
{
    (void)state;
    struct bench *bench = open_bench(TWO, 10);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};

    give(bench, jobs, 3, true);
    runner_use_set(&bench->runner, open_set(ONE, bench->runner.set));
    runner_turn(&bench->runner);
    assert_int_equal(fake_room(&bench->queue, "m"), 1);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_answer(&bench->pool, 1, 200, ANSWER);
    assert_true(slice_is(bench->queue.commits[0].job.upstream, "one"));
    claim_wake(&bench->runner);
    runner_turn(&bench->runner);
    assert_int_equal(fake_room(&bench->queue, "m"), 3);
    fake_end(&bench->pool, 2, UPSTREAM_CONNECT); /* its own, old set still knows another upstream */
    assert_string_equal(bench->pool.calls[3].url, "http://127.0.0.1:1002/v1/chat/completions");
    fake_answer(&bench->pool, 3, 200, ANSWER);
    for (unsigned i = 0; i < 3; i++)
        fake_done(&bench->queue, i, 0);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    claim_wake(&bench->runner);
    runner_turn(&bench->runner);
    assert_int_equal(fake_room(&bench->queue, "m"), 4);
    close_bench(bench);
}

static void test_missing_key_blocks_an_upstream(void **state)
{
    (void)state;
    static const char keyless[] =
        "upstreams:\n"
        "  - {name: one, kind: openai, base_url: 'http://127.0.0.1:1001/v1', models: [m],"
        " api_key_env: PENSTOCK_TEST_NO_SUCH_KEY}\n"
        "  - {name: two, kind: openai, base_url: 'http://127.0.0.1:1002/v1', models: [m],"
        " tier: 1, concurrency: 4, api_key_env: PENSTOCK_TEST_KEY}\n";
    assert_int_equal(setenv("PENSTOCK_TEST_KEY", "sk-1", 1), 0);
    struct bench *bench = open_bench(keyless, 10);
    assert_string_equal(bench->runner.set->blocked[0], "api_key_missing");
    assert_null(bench->runner.set->blocked[1]);
    give_one(bench, 1);
    assert_string_equal(bench->pool.calls[0].url, "http://127.0.0.1:1002/v1/chat/completions");
    assert_non_null(strstr(bench->pool.calls[0].authorization, "Bearer sk-1"));
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 0, 0);
    close_bench(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims_follow_the_room),
        cmocka_unit_test(test_claims_are_bounded_by_free_attempts),
        cmocka_unit_test(test_claims_are_bounded_by_bytes),
        cmocka_unit_test(test_claims_wait_for_results_to_be_stored),
        cmocka_unit_test(test_hints_are_followed),
        cmocka_unit_test(test_failed_claim_pauses),
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_retry_then_fail),
        cmocka_unit_test(test_malformed_answer_is_not_shown),
        cmocka_unit_test(test_ends_without_an_answer),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_unreachable_goes_elsewhere_once),
        cmocka_unit_test(test_call_that_cannot_start),
        cmocka_unit_test(test_stale_connection),
        cmocka_unit_test(test_cancel_and_lost),
        cmocka_unit_test(test_fenced_commits_are_held),
        cmocka_unit_test(test_result_the_queue_cannot_hold_is_given_up),
        cmocka_unit_test(test_refused_commit_is_left_to_lapse),
        cmocka_unit_test(test_drain_and_hand_back),
        cmocka_unit_test(test_leaving_waits_for_what_is_handed),
        cmocka_unit_test(test_abandon),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_missing_key_blocks_an_upstream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
