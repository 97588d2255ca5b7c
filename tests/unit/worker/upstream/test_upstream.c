/* Calls against a server that behaves, one that waits, and none at all. */
#include "worker/upstream/upstream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "call_helper.h"

static void test_post_is_answered(void **state)
{
    struct call_fixture fixture;
    struct call_result result;
    (void)state;

    call_fixture_open(&fixture, 8, 1 << 20);
    struct upstream_request request = call_request(call_url(&fixture, "/ok"), "hello");
    call_run(&fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(result.answer.http_status, 200);
    assert_string_equal(result.body, "{\"size\":5,\"sum\":532}");
    assert_string_equal(result.answer.content_type, "application/json");
    assert_string_equal(result.answer.detail, "");
    assert_true(result.answer.first_byte_ms > 0);
    assert_true(result.answer.total_ms >= result.answer.first_byte_ms);
    assert_int_equal(result.chunk_bytes, result.body_size);
    assert_int_equal(upstream_pool_in_flight(fixture.pool), 0);
    call_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_post_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
