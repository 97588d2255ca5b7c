/* What happens rarely: a multi handle libcurl gave up, connections nobody uses, TLS that cannot be
 * trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "call_helper.h"
#include "common/base/clock.h"
#include "tls_server.h"
#include "worker/upstream/upstream_internal.h"

static int open_fixture(void **state)
{
    struct call_fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    call_fixture_open(fixture, 200, 1 << 20);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    call_fixture_close(*state);
    free(*state);
    return 0;
}

static void test_calls_of_a_broken_multi_end_and_it_is_mended(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result results[MULTI_CALLS_FIRST + 1];
    struct upstream_request request = call_request(call_url(fixture, "/hang"), "{}");

    for (int i = 0; i <= MULTI_CALLS_FIRST; i++) /* the last one goes to the second handle */
        call_start(fixture, &request, &results[i]);
    while (atomic_load(&fixture->server.counts->requests) <= MULTI_CALLS_FIRST)
        (void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
    fixture->pool->multis[0].is_broken = true;
    pool_wake(fixture->pool);
    call_wait(fixture, &fixture->answers, MULTI_CALLS_FIRST, 1000);
    for (int i = 0; i < MULTI_CALLS_FIRST; i++) {
        assert_int_equal(results[i].ends, 1);
        assert_int_equal(results[i].answer.end, UPSTREAM_BROKEN);
    }
    assert_int_equal(results[MULTI_CALLS_FIRST].ends, 0);
    assert_int_equal(upstream_pool_in_flight(fixture->pool), 1);

    request.url = call_url(fixture, "/ok");
    call_run(fixture, &request, &results[0]);
    assert_int_equal(results[0].answer.end, UPSTREAM_ANSWERED);
    upstream_call_abort(results[MULTI_CALLS_FIRST].call);
    call_wait(fixture, &fixture->answers, MULTI_CALLS_FIRST + 2, 1000);
}

static void test_few_calls_share_the_first_multi(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result results[200];
    struct upstream_request request = call_request(call_url(fixture, "/wait/300"), "{}");

    assert_int_equal(fixture->pool->multi_count, 7);
    for (int i = 0; i < 200; i++) {
        call_start(fixture, &request, &results[i]);
        if (i == MULTI_CALLS_FIRST - 1)
            assert_int_equal(fixture->pool->multis[1].running, 0);
    }
    for (unsigned i = 0; i < 7; i++)
        assert_true(fixture->pool->multis[i].running <= MULTI_CALLS_FIRST);
    call_wait(fixture, &fixture->answered, 200, 10000);
}

static void test_unused_connections_are_closed(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;
    struct upstream_request request = call_request(call_url(fixture, "/ok"), "{}");

    call_run(fixture, &request, &result);
    multi_tidy(fixture->pool, clock_mono_ms() + MULTI_IDLE_MS - 1000);
    call_run(fixture, &request, &result);
    assert_int_equal(atomic_load(&fixture->server.counts->connections), 1);

    int64_t end_ms = clock_mono_ms() + 5000;
    multi_tidy(fixture->pool, clock_mono_ms() + MULTI_IDLE_MS);
    while (atomic_load(&fixture->server.counts->open) > 0)
        assert_true(clock_mono_ms() < end_ms);
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(atomic_load(&fixture->server.counts->connections), 2);
}

/* --- TLS ----------------------------------------------------------------- */

static void test_a_certificate_nobody_vouches_for(void **state)
{
    struct call_fixture *fixture = *state;
    struct tls_server server;
    struct call_result result;
    char url[64];

    tls_server_start(&server);
    (void)snprintf(url, sizeof url, "https://127.0.0.1:%d/v1", server.port);
    struct upstream_request request = call_request(url, "{\"secret\":1}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_CONNECT);
    assert_non_null(strstr(result.answer.detail, "certificate"));
    assert_true(tls_server_was_refused(&server));
}

static void test_a_handshake_that_stands_still(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;
    char url[64];

    (void)snprintf(url, sizeof url, "https://127.0.0.1:%d/ok", fixture->server.port);
    struct upstream_request request = call_request(url, "{}");
    request.connect_timeout_ms = 300;
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_CONNECT);
    assert_true(result.took_ms >= 300 && result.took_ms < 2000);
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 0);
}

#define TEST(function_) cmocka_unit_test_setup_teardown(function_, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_calls_of_a_broken_multi_end_and_it_is_mended),
        TEST(test_few_calls_share_the_first_multi),
        TEST(test_unused_connections_are_closed),
        TEST(test_a_certificate_nobody_vouches_for),
        TEST(test_a_handshake_that_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
