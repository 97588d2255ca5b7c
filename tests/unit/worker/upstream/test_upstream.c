/* Calls that are answered: what is sent, what comes back, when time limits end them, and what is
 * refused at once. */
#include "worker/upstream/upstream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "call_helper.h"
#include "common/base/buf.h"

static int open_fixture(void **state)
{
    struct call_fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    call_fixture_open(fixture, 8, 1 << 20);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    call_fixture_close(*state);
    free(*state);
    return 0;
}

static void test_post_is_answered(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/ok"), "hello");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.answer.http_status, 200);
    assert_string_equal(result.body, "{\"size\":5,\"sum\":532}");
    assert_string_equal(result.answer.content_type, "application/json");
    assert_string_equal(result.answer.detail, "");
    assert_int_equal(result.answer.retry_after_ms, -1);
    assert_true(result.answer.first_byte_ms > 0);
    assert_true(result.answer.total_ms >= result.answer.first_byte_ms);
    assert_int_equal(result.chunk_bytes, result.body_size);
    assert_int_equal(upstream_pool_in_flight(fixture->pool), 0);
}

static void test_get_is_answered(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/ok"), "");
    request.method = "GET";
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_string_equal(result.body, "{\"size\":0,\"sum\":0}");
}

/* Beyond what libcurl sends in one piece, and beyond what it would ask permission for. */
static void test_large_body_arrives_whole(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;
    char expected[64];
    size_t size = 3 << 20;
    char *body = malloc(size + 1);

    assert_non_null(body);
    memset(body, 'a', size);
    body[size] = '\0';
    struct upstream_request request = call_request(call_url(fixture, "/ok"), body);
    call_run(fixture, &request, &result);
    (void)snprintf(expected, sizeof expected, "{\"size\":%zu,\"sum\":%zu}", size, size * 'a');
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_string_equal(result.body, expected);
    free(body);
}

static void test_large_answer_is_collected(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/length/1000000"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.body_size, 1000000);
    assert_int_equal(result.chunk_bytes, 1000000);
}

static void test_headers_of_interest_are_kept(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/limited"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.answer.http_status, 429);
    assert_int_equal(result.answer.retry_after_ms, 1500);
    assert_int_equal(result.answer.should_retry, 1);
    assert_string_equal(result.answer.request_id, "req_42");
    assert_int_equal(result.answer.rate_remaining_requests, 0);
    assert_int_equal(result.answer.rate_remaining_tokens, 12);

    /* The next call on the same handle starts from nothing. */
    request.url = call_url(fixture, "/ok");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.retry_after_ms, -1);
    assert_int_equal(result.answer.should_retry, -1);
    assert_string_equal(result.answer.request_id, "");
    assert_int_equal(result.answer.rate_remaining_requests, -1);
}

static void test_headers_of_1xx_answers_do_not_count(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/continue"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.answer.http_status, 200);
    assert_int_equal(result.answer.retry_after_ms, -1);
    assert_string_equal(result.answer.request_id, "");
}

static void test_redirects_are_not_followed(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/redirect"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.answer.http_status, 302);
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 1);
}

static void test_connections_are_kept(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/ok"), "{}");
    for (int i = 0; i < 50; i++) {
        call_run(fixture, &request, &result);
        assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    }
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 50);
    assert_int_equal(atomic_load(&fixture->server.counts->connections), 1);
}

static void expect_end(struct call_fixture *fixture, const struct upstream_request *request,
                       enum upstream_end end, int64_t at_least_ms, int64_t at_most_ms)
{
    struct call_result result;

    call_run(fixture, request, &result);
    assert_int_equal(result.answer.end, end);
    assert_true(result.took_ms >= at_least_ms);
    assert_true(result.took_ms <= at_most_ms);
    assert_string_not_equal(result.answer.detail, "");
    assert_int_equal(upstream_pool_in_flight(fixture->pool), 0);
}

static void test_first_byte_has_a_limit(void **state)
{
    struct upstream_request request = call_request(call_url(*state, "/hang"), "{}");
    request.first_byte_timeout_ms = 300;
    expect_end(*state, &request, UPSTREAM_TIMEOUT_FIRST_BYTE, 300, 2000);
}

static void test_silence_has_a_limit(void **state)
{
    struct upstream_request request = call_request(call_url(*state, "/stall"), "{}");
    request.idle_timeout_ms = 300;
    expect_end(*state, &request, UPSTREAM_TIMEOUT_IDLE, 300, 2000);
}

static void test_whole_call_has_a_limit(void **state)
{
    struct upstream_request request = call_request(call_url(*state, "/drip/20/100000"), "{}");
    request.idle_timeout_ms = 250;
    request.timeout_ms = 700;
    expect_end(*state, &request, UPSTREAM_TIMEOUT_TOTAL, 700, 3000);
}

static void test_slow_answers_live_as_long_as_bytes_come(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/drip/40/20"), "{}");
    request.idle_timeout_ms = 500; /* less than the whole takes */
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.body_size, 20);
    assert_true(result.took_ms >= 600);
}

/* A listening socket whose queue is full answers no further connection, like a blackholed address.
 */
static void test_connecting_has_a_limit(void **state)
{
    /* Taken for documentation: no route leads there. Networks that answer at once refuse it, which
     * ends the same. */
    struct upstream_request request = call_request("http://192.0.2.1:9/v1", "{}");
    request.connect_timeout_ms = 300;
    expect_end(*state, &request, UPSTREAM_CONNECT, 0, 2000);
}

static void test_refused_is_told_at_once(void **state)
{
    struct upstream_request request = call_request("http://127.0.0.1:1/v1", "{}");
    expect_end(*state, &request, UPSTREAM_CONNECT, 0, 2000);
}

static void test_names_are_resolved(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;
    char url[64];

    (void)snprintf(url, sizeof url, "http://localhost:%d/ok", fixture->server.port);
    struct upstream_request request = call_request(url, "{}");
    for (int i = 0; i < 3; i++) {
        call_run(fixture, &request, &result);
        assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    }
    assert_int_equal(atomic_load(&fixture->server.counts->connections), 1);
}

static void test_unknown_names_end_as_unreachable(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request("http://no-such-host.invalid/v1", "{}");
    request.connect_timeout_ms = 3000;
    for (int i = 0; i < 2; i++) { /* the second one knows already */
        call_run(fixture, &request, &result);
        assert_int_equal(result.answer.end, UPSTREAM_CONNECT);
        assert_true(result.took_ms <= 4000);
    }
}

static void test_proxies_of_the_environment_are_ignored(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
    struct upstream_request request = call_request(call_url(fixture, "/ok"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(unsetenv("http_proxy"), 0);
    assert_int_equal(unsetenv("ALL_PROXY"), 0);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
}

static void expect_refused(struct call_fixture *fixture, const struct upstream_request *request)
{
    struct upstream_call *call = NULL;
    int status =
        upstream_call_start(fixture->pool, request, NULL, (upstream_end_fn)abort, NULL, &call);
    assert_int_equal(status, ERR_INVALID);
    assert_null(call);
    assert_int_equal(upstream_pool_in_flight(fixture->pool), 0);
}

static void test_bad_requests_are_refused(void **state)
{
    static const char *const urls[] = {"",
                                       "ftp://127.0.0.1/",
                                       "file:///etc/passwd",
                                       "http://",
                                       "http:///path",
                                       "http://user:secret@127.0.0.1/",
                                       "http://127.0.0.1:0/",
                                       "http://127.0.0.1:65536/",
                                       "http://127.0.0.1:x/",
                                       "http://[::1/",
                                       "http://127.0.0.1/a b",
                                       "http://127.0.0.1/a\r\nX: y"};
    static const char *const headers[] = {"",
                                          "X",
                                          ": x",
                                          "X Y: z",
                                          "X: a\r\nY: b",
                                          "X: a\nb",
                                          "X:",
                                          "X: \x01",
                                          "Content-Length: 3",
                                          "Transfer-Encoding: chunked",
                                          "Expect: 100-continue",
                                          "Connection: close"};
    struct call_fixture *fixture = *state;
    struct upstream_request request = call_request(call_url(fixture, "/ok"), "{}");

    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct upstream_request bad = request;
        bad.url = urls[i];
        expect_refused(fixture, &bad);
    }
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct upstream_request bad = request;
        struct slice line = slice_of(headers[i]);
        bad.headers = &line;
        bad.headers_count = 1;
        expect_refused(fixture, &bad);
    }
    struct upstream_request bad = request;
    bad.method = "DELETE";
    expect_refused(fixture, &bad);
    bad = request;
    bad.method = "GET"; /* with a body */
    expect_refused(fixture, &bad);
    bad = request;
    bad.timeout_ms = 0;
    expect_refused(fixture, &bad);
    assert_int_equal(atomic_load(&fixture->server.counts->connections), 0);
}

static void test_more_than_calls_max_are_refused(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result results[9];

    struct upstream_request request = call_request(call_url(fixture, "/wait/200"), "{}");
    for (int i = 0; i < 8; i++)
        call_start(fixture, &request, &results[i]);
    assert_int_equal(
        upstream_call_start(fixture->pool, &request, NULL, (upstream_end_fn)abort, NULL, NULL),
        ERR_BUSY);
    call_wait(fixture, &fixture->answers, 8, 5000);
    assert_int_equal(fixture->answered, 8);
    call_run(fixture, &request, &results[8]);
    assert_int_equal(results[8].answer.end, UPSTREAM_ANSWERED);
}

#define TEST(function_) cmocka_unit_test_setup_teardown(function_, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_post_is_answered),
        TEST(test_get_is_answered),
        TEST(test_large_body_arrives_whole),
        TEST(test_large_answer_is_collected),
        TEST(test_headers_of_interest_are_kept),
        TEST(test_headers_of_1xx_answers_do_not_count),
        TEST(test_redirects_are_not_followed),
        TEST(test_connections_are_kept),
        TEST(test_first_byte_has_a_limit),
        TEST(test_silence_has_a_limit),
        TEST(test_whole_call_has_a_limit),
        TEST(test_slow_answers_live_as_long_as_bytes_come),
        TEST(test_connecting_has_a_limit),
        TEST(test_refused_is_told_at_once),
        TEST(test_names_are_resolved),
        TEST(test_unknown_names_end_as_unreachable),
        TEST(test_proxies_of_the_environment_are_ignored),
        TEST(test_bad_requests_are_refused),
        TEST(test_more_than_calls_max_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
