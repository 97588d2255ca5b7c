#include "tests/unit/worker/run/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char ANSWER[] =
    "{\"id\":\"c\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{\"index\":0,"
    "\"message\":"
    "{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}";

const char ONE[] =
    "upstreams:\n"
    "  - {name: one, kind: openai, base_url: 'http://127.0.0.1:1001/v1', models: [m, n],"
    " concurrency: 4}\n";

struct upstream_set *open_set(const char *text, const struct upstream_set *older)
{
    struct settings *settings = NULL;
    struct upstream_set *set = NULL;
    struct error_text why = {""};
    if (settings_parse("test", text, strlen(text), &settings, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(upstream_set_create(settings, 0, 1, older, &set), 0);
    return set;
}

struct bench *open_bench(const char *text, unsigned inflight_max)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct error_text why = {""};
    assert_non_null(bench);
    bench->queue.now_ms = NOW;
    struct runner_options options = {.queue = &bench->queue,
                                     .pool = &bench->pool,
                                     .set = open_set(text, NULL),
                                     .inflight_max = inflight_max,
                                     .lease_ms = 15000,
                                     .tickets_fd = -1};
    assert_int_equal(runner_init(&bench->runner, &options, &why), 0);
    return bench;
}

void close_bench(struct bench *bench)
{
    if (bench->queue.is_asked)
        fake_answer_claim(&bench->queue, &(struct queue_claim_result){.status = ERR_UNKNOWN});
    assert_true(runner_is_idle(&bench->runner));
    runner_deinit(&bench->runner);
    fake_queue_deinit(&bench->queue);
    free(bench);
}

struct job job_of(unsigned number)
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

void give(struct bench *bench, const struct job *jobs, unsigned count, bool has_more)
{
    runner_turn(&bench->runner);
    assert_true(bench->queue.is_asked);
    fake_answer_claim(&bench->queue, &(struct queue_claim_result){
                                         .jobs = jobs, .jobs_count = count, .has_more = has_more});
}
