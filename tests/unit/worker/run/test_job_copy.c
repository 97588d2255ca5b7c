/* A copied job stands on its own memory, field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/run/job_copy.h"

static char texts[20][16];

static struct slice text_of(int number)
{
    memset(texts[number], 'a' + number, 15);
    return (struct slice){.bytes = texts[number], .size = (size_t)(number % 15 + 1)};
}

static struct job full_job(void)
{
    struct job job = {.state = JOB_RUNNING, .claim = 3, .attempts_count = 2};
    job.route = text_of(0);
    job.tenant_name = text_of(1);
    job.metadata = text_of(2);
    job.webhook_url = text_of(3);
    job.request_id = text_of(4);
    job.retry_of = text_of(5);
    job.content_type = text_of(6);
    job.upstream = text_of(7);
    job.worker = text_of(8);
    job.error_code = text_of(9);
    job.error_message = text_of(10);
    job.payload = text_of(11);
    for (int i = 0; i < 2; i++) {
        job.attempts[i] = (struct job_attempt){.http_status = 500 + i,
                                               .upstream = text_of(12 + i * 3),
                                               .error_code = text_of(13 + i * 3),
                                               .error_message = text_of(14 + i * 3)};
    }
    return job;
}

static void assert_text(struct slice slice, int number)
{
    assert_int_equal(slice.size, number % 15 + 1);
    for (size_t i = 0; i < slice.size; i++)
        assert_int_equal(slice.bytes[i], 'a' + number);
}

static void assert_full(const struct job *job)
{
    assert_text(job->route, 0);
    assert_text(job->tenant_name, 1);
    assert_text(job->metadata, 2);
    assert_text(job->webhook_url, 3);
    assert_text(job->request_id, 4);
    assert_text(job->retry_of, 5);
    assert_text(job->content_type, 6);
    assert_text(job->upstream, 7);
    assert_text(job->worker, 8);
    assert_text(job->error_code, 9);
    assert_text(job->error_message, 10);
    assert_text(job->payload, 11);
    for (int i = 0; i < 2; i++) {
        assert_text(job->attempts[i].upstream, 12 + i * 3);
        assert_text(job->attempts[i].error_code, 13 + i * 3);
        assert_text(job->attempts[i].error_message, 14 + i * 3);
        assert_int_equal(job->attempts[i].http_status, 500 + i);
    }
    assert_int_equal(job->claim, 3);
}

static void test_copy_stands_alone(void **state)
{
    (void)state;
    struct job job = full_job();
    struct job copy;
    char *memory;
    assert_int_equal(job_copy(&job, &copy, &memory), 0);
    memset(texts, '!', sizeof texts);
    assert_full(&copy);
    free(memory);
}

static void test_copy_in_place(void **state)
{
    (void)state;
    struct job job = full_job();
    char *memory;
    assert_int_equal(job_copy(&job, &job, &memory), 0);
    memset(texts, '!', sizeof texts);
    assert_full(&job);
    free(memory);
}

static void test_empty_texts(void **state)
{
    (void)state;
    struct job job = {.payload = {.bytes = "", .size = 0}};
    struct job copy;
    char *memory;
    assert_int_equal(job_copy(&job, &copy, &memory), 0);
    assert_non_null(copy.payload.bytes); /* loaded and empty is not the same as not loaded */
    assert_null(copy.route.bytes);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy_stands_alone),
        cmocka_unit_test(test_copy_in_place),
        cmocka_unit_test(test_empty_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
