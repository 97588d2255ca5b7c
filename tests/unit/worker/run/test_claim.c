/* Claims of suspects: alone where that can be had, else one at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/worker/run/fakes.h"
#include "worker/run/runner.h"

static const int64_t NOW = 1790000000000;
static const char ANSWER[] =
    "{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{\"index\":0,"
    "\"message\":"
    "{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}";

static const char ONE[] =
    "upstreams:\n"
    "  - {name: one, kind: openai, base_url: 'http://127.0.0.1:1001/v1', models: [m, n],"
    " concurrency: 4}\n";

struct bench {
    struct queue queue;
    struct upstream_pool pool;
    struct runner runner;
};

static struct upstream_set *open_set(const char *text)
{
    struct settings *settings = NULL;
    struct upstream_set *set = NULL;
    struct error_text why = {""};
    if (settings_parse("test", text, strlen(text), &settings, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(upstream_set_create(settings, 0, 1, NULL, &set), 0);
    return set;
}

static struct bench *open_bench(const char *text, unsigned inflight_max)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct error_text why = {""};
    assert_non_null(bench);
    bench->queue.now_ms = NOW;
    struct runner_options options = {.queue = &bench->queue,
                                     .pool = &bench->pool,
                                     .set = open_set(text),
                                     .inflight_max = inflight_max,
                                     .lease_ms = 15000,
                                     .tickets_fd = -1};
    assert_int_equal(runner_init(&bench->runner, &options, &why), 0);
    return bench;
}

static void close_bench(struct bench *bench)
{
    if (bench->queue.is_asked)
        fake_answer_claim(&bench->queue, &(struct queue_claim_result){.status = ERR_UNKNOWN});
    assert_true(runner_is_idle(&bench->runner));
    runner_deinit(&bench->runner);
    fake_queue_deinit(&bench->queue);
    free(bench);
}

static struct job job_of(unsigned number)
{
    uint8_t random[15] = {0};
    struct job job = {.state = JOB_RUNNING,
                      .claim = 1,
                      .max_attempts = 3,
                      .endpoint = ENDPOINT_CHAT,
                      .created_at_ms = NOW - 5,
                      .expires_at_ms = NOW + 3600 * 1000,
                      .timeout_ms = 60000,
                      .route = slice_of("m"),
                      .payload = slice_of("{\"model\":\"m\",\"messages\":[]}")};
    memcpy(random, &number, sizeof number);
    memcpy(random + 8, &number, sizeof number);
    job.id = job_id_make(number % 16, NOW, random);
    return job;
}

/* Lets the runner claim and gives it these jobs. */
static void give(struct bench *bench, const struct job *jobs, unsigned count, bool has_more)
{
    runner_turn(&bench->runner);
    assert_true(bench->queue.is_asked);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = jobs, .jobs_count = count, .has_more = has_more});
}

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
        cmocka_unit_test(test_suspects_run_in_company_when_they_must),
        cmocka_unit_test(test_suspect_that_takes_long_gets_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
