/* Jobs that submits start for an idle child and hand to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/worker/run/bench.h"

static void test_handed_jobs_start(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};

    runner_turn(&bench->runner);
    assert_true(bench->queue.request.hand_max > 0);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 1);
    claim_take_handed(&bench->runner, &(struct queue_claim_result){.jobs = jobs, .jobs_count = 2});
    assert_int_equal(bench->pool.calls_count, 2);
    assert_int_equal(bench->runner.counts.claimed, 2);
    /* Asks for more at once, and stands again when there is none. */
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    assert_int_equal(fake_room(&bench->queue, "m"), 2);
    assert_int_equal(fake_room(&bench->queue, "n"), 2); /* for all it serves */
    assert_true(bench->queue.request.hand_max > 0);
    /* One more crosses with that claim. */
    claim_take_handed(&bench->runner,
                      &(struct queue_claim_result){.jobs = &jobs[2], .jobs_count = 1});
    assert_int_equal(bench->pool.calls_count, 3);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    for (unsigned i = 0; i < 3; i++) {
        fake_answer(&bench->pool, i, 200, ANSWER);
        fake_done(&bench->queue, i, 0);
    }
    close_bench(bench);
}

/* It crossed with a claim that brought a suspect, which runs alone. */
static void test_handed_jobs_leave_a_suspect_alone(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[2] = {job_of(1), job_of(2)};

    jobs[0].crashes = LIMIT_CRASHES_SUSPECT;
    jobs[0].flags |= JOB_FLAG_SUSPECT;
    give(bench, jobs, 1, false);
    assert_int_equal(bench->runner.suspects_count, 1);
    claim_take_handed(&bench->runner,
                      &(struct queue_claim_result){.jobs = &jobs[1], .jobs_count = 1});
    assert_int_equal(bench->pool.calls_count, 1);
    assert_int_equal(bench->queue.commits[0].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 0, 0);
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 1, 0);
    close_bench(bench);
}

/* The other way round: what was handed runs when the claim that was meant for a suspect alone
 * brings it. The suspect goes back and comes with the next such claim. */
static void test_a_suspect_waits_for_handed_jobs(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job handed = job_of(1), suspect = job_of(2);

    suspect.crashes = LIMIT_CRASHES_SUSPECT;
    suspect.flags |= JOB_FLAG_SUSPECT;
    runner_turn(&bench->runner);
    assert_true(bench->queue.request.takes_suspect);
    claim_take_handed(&bench->runner,
                      &(struct queue_claim_result){.jobs = &handed, .jobs_count = 1});
    fake_answer_claim(&bench->queue,
                      &(struct queue_claim_result){.jobs = &suspect, .jobs_count = 1});
    assert_int_equal(bench->runner.suspects_count, 0);
    assert_int_equal(bench->pool.calls_count, 1);
    assert_int_equal(bench->queue.commits[0].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 0, 0);
    runner_turn(&bench->runner);
    assert_false(bench->queue.request.takes_suspect); /* not beside what runs */
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    fake_answer(&bench->pool, 0, 200, ANSWER);
    fake_done(&bench->queue, 1, 0);
    claim_wake(&bench->runner);
    runner_turn(&bench->runner);
    assert_true(bench->queue.request.takes_suspect);
    fake_answer_claim(&bench->queue,
                      &(struct queue_claim_result){.jobs = &suspect, .jobs_count = 1});
    assert_int_equal(bench->runner.suspects_count, 1);
    fake_answer(&bench->pool, 1, 200, ANSWER);
    fake_done(&bench->queue, 2, 0);
    close_bench(bench);
}

/* More came with them than was handed, and nothing that we know has room: hints tell. */
static void test_more_than_was_handed_is_asked_for(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 10);
    struct job jobs[4] = {job_of(1), job_of(2), job_of(3), job_of(4)};

    runner_turn(&bench->runner);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    claim_take_handed(&bench->runner, &(struct queue_claim_result){
                                          .jobs = jobs, .jobs_count = 4, .has_more = true});
    runner_turn(&bench->runner);
    assert_int_equal(bench->queue.claims_count, 2);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){0});
    for (unsigned i = 0; i < 4; i++) {
        fake_answer(&bench->pool, i, 200, ANSWER);
        fake_done(&bench->queue, i, 0);
    }
    close_bench(bench);
}

/* It crossed with a claim that took the last room. */
static void test_handed_jobs_without_room_go_back(void **state)
{
    (void)state;
    struct bench *bench = open_bench(ONE, 2);
    struct job jobs[3] = {job_of(1), job_of(2), job_of(3)};

    give(bench, jobs, 2, false);
    claim_take_handed(&bench->runner,
                      &(struct queue_claim_result){.jobs = &jobs[2], .jobs_count = 1});
    assert_int_equal(bench->pool.calls_count, 2);
    assert_int_equal(bench->queue.commits[0].verb, FAKE_RELEASE);
    fake_done(&bench->queue, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        fake_answer(&bench->pool, i, 200, ANSWER);
        fake_done(&bench->queue, i + 1, 0);
    }
    close_bench(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handed_jobs_start),
        cmocka_unit_test(test_handed_jobs_leave_a_suspect_alone),
        cmocka_unit_test(test_a_suspect_waits_for_handed_jobs),
        cmocka_unit_test(test_more_than_was_handed_is_asked_for),
        cmocka_unit_test(test_handed_jobs_without_room_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
