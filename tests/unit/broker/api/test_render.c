/* The job object, to the letter; the cache of finished ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/cache.h"
#include "broker/api/render.h"
#include "common/base/jdoc.h"

static struct job_id id_of(unsigned number)
{
    uint8_t random[15] = {0};

    memcpy(random + 10, &number, sizeof(number));
    return job_id_make(number % 4, 1790000000123, random);
}

static struct job make_job(void)
{
    return (struct job){
        .id = id_of(1),
        .max_attempts = 5,
        .priority = JOB_NORMAL,
        .created_at_ms = 1790000000123,
        .expires_at_ms = 1790086400123,
        .route = slice_of("m"),
        .tenant_name = slice_of("acme"),
    };
}

static void set_state(struct job *job, enum job_state state)
{
    if (state != JOB_CANCELLED && state != JOB_EXPIRED && state != JOB_QUEUED)
        assert_int_equal(job_set_state(job, JOB_RUNNING), 0);
    if (job->state != state)
        assert_int_equal(job_set_state(job, state), 0);
}

static void assert_rendered(const struct job *job, const struct job_view *view, const char *wanted)
{
    struct buf out = {.size_max = 65536};
    struct jdoc *doc = NULL;
    char id[JOB_ID_TEXT_SIZE + 1], text[4096];

    job_id_text(&job->id, id);
    snprintf(text, sizeof(text), "{\"id\":\"%s\",\"object\":\"job\",%s\"/v1/jobs/%s/result\"", id,
             wanted, id);
    assert_int_equal(render_job(&out, job, view), 0);
    assert_int_equal(jdoc_parse(out.data, out.size, &doc, NULL), 0);
    if (strncmp(out.data, text, strlen(text)) != 0)
        fail_msg("%s\nis not\n%s", out.data, text);
    jdoc_destroy(doc);
    buf_deinit(&out);
}

static void test_queued(void **state)
{
    const struct job job = make_job();
    const struct job_view view = {.why = "waiting its \"turn\"", .position = 17};

    (void)state;
    assert_rendered(&job, &view,
                    "\"status\":\"queued\",\"endpoint\":\"/v1/chat/completions\",\"model\":\"m\","
                    "\"priority\":\"normal\",\"attempt\":0,\"max_attempts\":5,"
                    "\"created_at\":1790000000.123,\"started_at\":null,\"finished_at\":null,"
                    "\"expires_at\":1790086400.123,\"why\":\"waiting its \\\"turn\\\"\","
                    "\"position\":17,\"progress\":{\"output_tokens\":0},\"usage\":null,"
                    "\"error\":null,\"metadata\":{},\"attempts\":[],\"result_url\":");
}

static void test_failed(void **state)
{
    struct job job = make_job();
    const struct job_view view = {.position = 0};

    (void)state;
    set_state(&job, JOB_FAILED);
    job.attempt = 1;
    job.started_at_ms = 1790000001000;
    job.finished_at_ms = 1790000002005;
    job.error_code = slice_of("upstream_overloaded");
    job.error_message = slice_of("no\nroom");
    job.http_status = 503;
    job.metadata = slice_of("{\"k\":\"v\"}");
    job.usage = (struct job_usage){true, 1, 2, 3};
    job.attempts_count = 2;
    job.attempts[0] = (struct job_attempt){.started_at_ms = 1790000001000,
                                           .finished_at_ms = 1790000001500,
                                           .upstream = slice_of("gpu0"),
                                           .error_code = slice_of("upstream_timeout"),
                                           .error_message = slice_of("late")};
    job.attempts[1] = (struct job_attempt){.started_at_ms = 1790000001600,
                                           .finished_at_ms = 1790000002005,
                                           .http_status = 503,
                                           .upstream = slice_of("gpu0"),
                                           .error_code = slice_of("upstream_overloaded"),
                                           .error_message = slice_of("no room")};
    assert_rendered(
        &job, &view,
        "\"status\":\"failed\",\"endpoint\":\"/v1/chat/completions\",\"model\":\"m\","
        "\"priority\":\"normal\",\"attempt\":1,\"max_attempts\":5,\"created_at\":1790000000.123,"
        "\"started_at\":1790000001.000,\"finished_at\":1790000002.005,"
        "\"expires_at\":1790086400.123,\"why\":null,\"position\":null,"
        "\"progress\":{\"output_tokens\":2},\"usage\":{\"input_tokens\":1,\"output_tokens\":2,"
        "\"total_tokens\":3},\"error\":{\"code\":\"upstream_overloaded\",\"message\":\"no\\nroom\","
        "\"http_status\":503},\"metadata\":{\"k\":\"v\"},\"attempts\":["
        "{\"started_at\":1790000001.000,\"finished_at\":1790000001.500,\"upstream\":\"gpu0\","
        "\"http_status\":null,\"error\":{\"code\":\"upstream_timeout\",\"message\":\"late\","
        "\"http_status\":null}},"
        "{\"started_at\":1790000001.600,\"finished_at\":1790000002.005,\"upstream\":\"gpu0\","
        "\"http_status\":503,\"error\":{\"code\":\"upstream_overloaded\",\"message\":\"no room\","
        "\"http_status\":503}}],\"result_url\":");
}

static void test_retry_of_and_tenant_come_last(void **state)
{
    struct job job = make_job();
    const struct job_view view = {.with_tenant = true};
    struct buf out = {.size_max = 65536};

    (void)state;
    job.retry_of = slice_of("job_x");
    assert_int_equal(render_job(&out, &job, &view), 0);
    assert_non_null(strstr(out.data, "/result\",\"retry_of\":\"job_x\",\"tenant\":\"acme\"}"));
    assert_int_equal(out.data[out.size - 1], '}');
    buf_deinit(&out);
}

static void test_result_comes_last(void **state)
{
    struct job job = make_job();
    const struct job_view view = {.with_tenant = true};
    const char wanted[] = "\"tenant\":\"acme\",\"result\":{\"a\": [1]}}";
    const char none[] = "\"tenant\":\"acme\",\"result\":null}";
    struct buf out = {.size_max = 65536};

    (void)state;
    assert_int_equal(render_job(&out, &job, &view), 0);
    assert_int_equal(render_add_result(&out, slice_of("{\"a\": [1]}")), 0);
    assert_true(out.size > sizeof(wanted));
    assert_memory_equal(out.data + out.size - strlen(wanted), wanted, strlen(wanted));
    out.size = 0;
    assert_int_equal(render_job(&out, &job, &view), 0);
    assert_int_equal(render_add_result(&out, (struct slice){0}), 0);
    assert_memory_equal(out.data + out.size - strlen(none), none, strlen(none));
    out.size_max = out.size; /* no room: what was there stays whole */
    assert_true(render_add_result(&out, slice_of("[]")) < 0);
    assert_memory_equal(out.data + out.size - strlen(none), none, strlen(none));
    buf_deinit(&out);
}

static void test_no_room(void **state)
{
    const struct job job = make_job();
    const struct job_view view = {.with_tenant = true};
    struct buf whole = {.size_max = 65536};

    (void)state;
    assert_int_equal(render_job(&whole, &job, &view), 0);
    for (size_t max = 0; max < whole.size; max++) {
        struct buf out = {.size_max = max};
        assert_true(render_job(&out, &job, &view) < 0);
        buf_deinit(&out);
    }
    buf_deinit(&whole);
}

static void test_etag_changes_with_the_record(void **state)
{
    struct job job = make_job();
    char first[ETAG_SIZE], second[ETAG_SIZE];

    (void)state;
    render_etag(&job, first);
    render_etag(&job, second);
    assert_string_equal(first, second);
    assert_memory_equal(first, "W/\"", 3);
    job.sequence++;
    render_etag(&job, second);
    assert_string_not_equal(first, second);
}

static void test_done(void **state)
{
    struct job job = make_job();
    struct buf out = {.size_max = 4096};
    char id[JOB_ID_TEXT_SIZE + 1], wanted[128];

    (void)state;
    set_state(&job, JOB_SUCCEEDED);
    job_id_text(&job.id, id);
    snprintf(wanted, sizeof(wanted), "{\"id\":\"%s\",\"status\":\"succeeded\"}", id);
    assert_int_equal(render_done(&out, &job), 0);
    assert_string_equal(out.data, wanted);
    buf_deinit(&out);
}

static const int64_t T0 = 1790000000000;

/* ---- cache ----------------------------------------------------------------------------------- */

static void put(struct cache *cache, unsigned number, const char *text, int64_t now_ms)
{
    struct job job = make_job();

    job.id = id_of(number);
    set_state(&job, JOB_SUCCEEDED);
    job.sequence = number;
    job.finished_at_ms = 1790000000000;
    job.result_ttl_s = 100;
    cache_put(cache, &job, slice_of(text), now_ms);
}

static bool has(struct cache *cache, unsigned number, int64_t now_ms, struct cached_job *out)
{
    struct job_id id = id_of(number);

    return cache_find(cache, &id, now_ms, out);
}

static void test_cache(void **state)
{
    struct cache *cache = NULL;
    struct cached_job found;

    (void)state;
    assert_int_equal(cache_create(100, 1 << 20, &cache), 0);
    assert_false(has(cache, 1, T0, &found));
    put(cache, 1, "{one}", T0);
    put(cache, 2, "{two}", T0);
    put(cache, 1, "{again}", T0); /* finished jobs do not change: the first stays */
    assert_true(has(cache, 1, 1790000000000, &found));
    assert_true(slice_is(found.text, "{one}"));
    assert_true(slice_is(found.tenant_name, "acme"));
    assert_string_equal(found.etag, "W/\"1-S-0\"");
    assert_true(has(cache, 2, 1790000000000, &found));
    assert_true(slice_is(found.text, "{two}"));
    cache_destroy(cache);
}

static void test_cache_ends(void **state)
{
    const int64_t end_ms = T0 + (100 + LIMIT_RECORD_AFTER_RESULT_S) * 1000LL;
    struct cache *cache = NULL;
    struct cached_job found;

    (void)state;
    assert_int_equal(cache_create(100, 1 << 20, &cache), 0);
    put(cache, 1, "{}", T0);
    assert_true(has(cache, 1, T0 + 9999, &found));
    assert_false(has(cache, 1, T0 + 10000, &found));
    assert_false(has(cache, 1, T0, &found)); /* gone for good */
    put(cache, 1, "{}", T0 + 20000);
    assert_true(has(cache, 1, T0 + 20000, &found));
    /* What the store has dropped is not served any more. */
    put(cache, 2, "{}", end_ms - 5);
    assert_true(has(cache, 2, end_ms - 1, &found));
    assert_false(has(cache, 2, end_ms, &found));
    cache_destroy(cache);
}

static void test_cache_count_is_bounded(void **state)
{
    struct cache *cache = NULL;
    struct cached_job found;

    (void)state;
    assert_int_equal(cache_create(3, 1 << 20, &cache), 0);
    put(cache, 1, "{}", T0);
    put(cache, 2, "{}", T0);
    put(cache, 3, "{}", T0);
    assert_true(has(cache, 1, T0, &found)); /* used: 2 is the oldest now */
    put(cache, 4, "{}", T0);
    assert_false(has(cache, 2, T0, &found));
    assert_true(has(cache, 1, T0, &found));
    assert_true(has(cache, 3, T0, &found));
    assert_true(has(cache, 4, T0, &found));
    cache_destroy(cache);
}

static void test_cache_bytes_are_bounded(void **state)
{
    static char text[1000];
    struct cache *cache = NULL;
    struct cached_job found;
    unsigned kept = 0;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(cache_create(100000, 64 * 1024, &cache), 0);
    for (unsigned i = 0; i < 1000; i++)
        put(cache, i, text, T0);
    for (unsigned i = 0; i < 1000; i++)
        kept += has(cache, i, T0, &found);
    assert_in_range(kept, 40, 64);
    assert_true(has(cache, 999, T0, &found));
    put(cache, 5000, text, T0);
    cache_destroy(cache);
}

static void test_cache_refuses_giants(void **state)
{
    static char text[20000];
    struct cache *cache = NULL;
    struct cached_job found;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    assert_int_equal(cache_create(100, 64 * 1024, &cache), 0);
    put(cache, 1, "{}", T0);
    put(cache, 2, text, T0);
    assert_true(has(cache, 1, T0, &found));
    assert_false(has(cache, 2, T0, &found));
    cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queued),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_retry_of_and_tenant_come_last),
        cmocka_unit_test(test_result_comes_last),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_etag_changes_with_the_record),
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_ends),
        cmocka_unit_test(test_cache_count_is_bounded),
        cmocka_unit_test(test_cache_bytes_are_bounded),
        cmocka_unit_test(test_cache_refuses_giants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
