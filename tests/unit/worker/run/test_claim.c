/* Claims of suspects: alone where that can be had, else one at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/worker/run/bench.h"

static void test_suspects_run_alone(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job job = job_of(1);

    job.flags = JOB_FLAG_SUSPECT;
    give(bench, &job, 1, true);
    assert_true(bench->queue.request.takes_suspect);
    assert_int_equal(bench->queue.request.count_max, 1); /* nothing comes along */
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1); /* nothing joins it */
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 0, 0);
    runner_turn(&bench->runner); /* others have their turn */
    assert_int_equal(bench->queue.claims_count, 2);
    assert_false(bench->queue.request.takes_suspect);
    assert_int_equal(bench->queue.request.count_max, 10);
    close_bench(bench);
}

/* A suspect of a route that we do not know: nothing else comes before we have asked for it by name,
 * but not twice in a row. */
static void test_suspects_come_first_once(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct queue_room waiting = {.route = slice_of("n")};

    runner_turn(&bench->runner);
    assert_true(bench->queue.request.takes_suspect);
    assert_true(bench->queue.request.suspect_first);
    fake_answer_claim(
        &bench->queue,
        &(struct queue_claim_result){.waiting = &waiting, .waiting_count = 1, .has_more = true});
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    assert_true(bench->queue.request.takes_suspect);
    assert_false(bench->queue.request.suspect_first);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    close_bench(bench);
}

/* As the first claim of a child does that comes before its queue is ready. */
static void test_a_claim_that_fails_forgets_no_suspect(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);

    runner_turn(&bench->runner);
    assert_true(bench->queue.request.takes_suspect);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){.status = ERR_UNFIT});
    bench->runner.claimer.paused_until_mono_ms = 0; /* CLAIM_PAUSE_MS later */
    bench->runner.claimer.has_change = true;
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    assert_true(bench->queue.request.takes_suspect);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    close_bench(bench);
}

static void test_suspects_run_in_company_when_they_must(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};

    jobs[1].flags = JOB_FLAG_SUSPECT;
    give(bench, &jobs[0], 1, true);
    runner_turn(&bench->runner);
    assert_false(bench->queue.request.takes_suspect);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){.has_more = true});
    /* Always something to do for so long. */
    bench->runner.claimer.crowded_mono_ms -= CLAIM_CROWDED_MS;
    runner_turn(&bench->runner);
    assert_true(bench->queue.request.takes_suspect);
    assert_int_equal(bench->queue.request.count_max, 9);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = &jobs[1], .jobs_count = 1, .has_more = true});
    runner_turn(&bench->runner); /* one of them at a time, and the others go on */
    assert_false(bench->queue.request.takes_suspect);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = &jobs[2], .jobs_count = 1, .has_more = true});
    fake_answer(&bench->pool, 1, 200, ANSWER);
    fake_done(&bench->queue, 0, 0);
    runner_turn(&bench->runner); /* the next one */
    assert_true(bench->queue.request.takes_suspect);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){.has_more = true});
    runner_turn(&bench->runner); /* there is none now: not asked for again and again */
    assert_false(bench->queue.request.takes_suspect);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_answer(&bench->pool, 2, 200, ANSWER);
    fake_done(&bench->queue, 1, 0);
    fake_done(&bench->queue, 2, 0);
    close_bench(bench);
}

static void test_suspect_that_takes_long_gets_company(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job job = job_of(1);

    job.flags = JOB_FLAG_SUSPECT;
    give(bench, &job, 1, true);
    bench->runner.claimer.alone_until_mono_ms -= CLAIM_ALONE_MS;
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    assert_false(bench->queue.request.takes_suspect);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 0, 0);
    close_bench(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suspects_run_alone),
        cmocka_unit_test(test_suspects_come_first_once),
        cmocka_unit_test(test_a_claim_that_fails_forgets_no_suspect),
        cmocka_unit_test(test_suspects_run_in_company_when_they_must),
        cmocka_unit_test(test_suspect_that_takes_long_gets_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
