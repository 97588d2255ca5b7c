#include "worker/limit/limiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/limit/breaker.h"

static struct limiter *create(int concurrency, int64_t requests_per_minute)
{
    struct settings_upstream upstreams[2] = {{.concurrency = 1}};
    struct settings settings = {.upstreams = upstreams, .upstreams_count = 2};
    struct limiter *limiter = NULL;

    upstreams[1].concurrency = concurrency;
    upstreams[1].requests_per_minute = requests_per_minute;
    assert_int_equal(limiter_create(&settings, 0, 1, 0, &limiter), 0);
    return limiter;
}

static void call(struct limiter *limiter, enum outcome_class class_, int64_t retry_after_ms,
                 int64_t now_ms)
{
    limiter_start(limiter, 1, now_ms);
    limiter_end(limiter, 1, class_, retry_after_ms, 100, now_ms, 0);
}

static void test_in_flight_is_bounded(void **state)
{
    struct limiter *limiter = create(3, 0);
    (void)state;

    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(limiter_room(limiter, 1, 0), 3 - i);
        limiter_start(limiter, 1, 0);
    }
    assert_int_equal(limiter_room(limiter, 1, 0), 0);
    assert_true(limiter_is_open(limiter, 1, 0)); /* full is not shut */
    assert_int_equal(limiter_in_flight(limiter, 1), 3);
    assert_int_equal(limiter_room(limiter, 0, 0), 1); /* the neighbour does not care */
    limiter_end(limiter, 1, OUTCOME_OK, -1, 20, 0, 0);
    assert_int_equal(limiter_room(limiter, 1, 0), 1);
    limiter_destroy(limiter);
}

static void test_the_pace_is_kept(void **state)
{
    struct limiter *limiter = create(100, 300);
    (void)state;

    assert_int_equal(limiter_room(limiter, 1, 0), 5);
    for (int i = 0; i < 5; i++)
        limiter_start(limiter, 1, 0);
    assert_int_equal(limiter_room(limiter, 1, 0), 0);
    assert_int_equal(limiter_room(limiter, 1, 1000), 5);
    limiter_destroy(limiter);
}

static void test_a_wait_that_was_asked_for_is_kept(void **state)
{
    struct limiter *limiter = create(10, 0);
    (void)state;

    call(limiter, OUTCOME_RATE_LIMITED, 5000, 1000);
    assert_false(limiter_is_open(limiter, 1, 5999));
    assert_int_equal(limiter_room(limiter, 1, 5999), 0);
    assert_int_equal(limiter_view(limiter, 1, 3000).hold_ms, 3000);
    assert_int_equal(limiter_room(limiter, 1, 6000), 10);
    call(limiter, OUTCOME_RATE_LIMITED, 5000, 6000);
    call(limiter, OUTCOME_RATE_LIMITED, 10, 6000); /* a shorter one does not shorten it */
    assert_int_equal(limiter_room(limiter, 1, 10000), 0);
    call(limiter, OUTCOME_OVERLOADED, 5000, 20000);
    assert_int_equal(limiter_room(limiter, 1, 24999), 0);
    /* A wait of a year is none. */
    call(limiter, OUTCOME_RATE_LIMITED, INT64_C(365) * 24 * 3600 * 1000, 30000);
    assert_int_equal(limiter_room(limiter, 1, 30000 + 15 * 60 * 1000), 10);
    limiter_destroy(limiter);
}

static void test_refusals_without_a_wait_grow(void **state)
{
    struct limiter *limiter = create(10, 0);
    int64_t now_ms = 0;
    int64_t before_ms = 0;
    (void)state;

    for (int i = 0; i < 6; i++) {
        call(limiter, OUTCOME_RATE_LIMITED, -1, now_ms);
        int64_t hold_ms = limiter_view(limiter, 1, now_ms).hold_ms;
        assert_true(hold_ms > before_ms);
        call(limiter, OUTCOME_RATE_LIMITED, -1, now_ms); /* came from the same wave */
        assert_int_equal(limiter_view(limiter, 1, now_ms).hold_ms, hold_ms);
        before_ms = hold_ms;
        now_ms += hold_ms;
    }
    assert_true(before_ms <= 16000);
    call(limiter, OUTCOME_OK, -1, now_ms);
    call(limiter, OUTCOME_RATE_LIMITED, -1, now_ms);
    assert_true(limiter_view(limiter, 1, now_ms).hold_ms <= 500);
    limiter_destroy(limiter);
}

static void test_failures_open_the_breaker(void **state)
{
    static const enum outcome_class classes[] = {OUTCOME_CONNECTION,     OUTCOME_TIMEOUT,
                                                 OUTCOME_UPSTREAM_ERROR, OUTCOME_OVERLOADED,
                                                 OUTCOME_TRUNCATED,      OUTCOME_MALFORMED};
    struct limiter *limiter = create(10, 0);
    (void)state;

    for (int i = 0; i < BREAKER_FAILURES; i++) {
        assert_true(limiter_is_open(limiter, 1, 0));
        call(limiter, classes[i % 6], -1, 0);
    }
    assert_false(limiter_is_open(limiter, 1, 0));
    assert_true(limiter_is_open(limiter, 0, 0));
    assert_int_equal(limiter_room(limiter, 1, 60000), 1);
    call(limiter, OUTCOME_REJECTED, -1, 60000); /* it answers: it is back */
    assert_int_equal(limiter_room(limiter, 1, 60000), BREAKER_RAMP_FIRST);
    limiter_destroy(limiter);
}

static void test_requests_it_dislikes_are_no_failures_of_it(void **state)
{
    static const enum outcome_class classes[] = {
        OUTCOME_REJECTED, OUTCOME_TOO_LARGE, OUTCOME_REDIRECT, OUTCOME_QUOTA,
        OUTCOME_ABORTED,  OUTCOME_DEADLINE,  OUTCOME_INTERNAL};
    struct limiter *limiter = create(10, 0);
    (void)state;

    for (int i = 0; i < 70; i++)
        call(limiter, classes[i % 7], -1, 0);
    assert_int_equal(limiter_room(limiter, 1, 0), 10);
    struct limiter_view view = limiter_view(limiter, 1, 0);
    assert_int_equal(view.calls, 70);
    assert_int_equal(view.errors, 40);
    assert_int_equal(view.in_flight, 0);
    assert_int_equal(view.share, 10);
    call(limiter, OUTCOME_OK, -1, 0);
    assert_true(limiter_view(limiter, 1, 0).latency_ms > 99);
    limiter_destroy(limiter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_flight_is_bounded),
        cmocka_unit_test(test_the_pace_is_kept),
        cmocka_unit_test(test_a_wait_that_was_asked_for_is_kept),
        cmocka_unit_test(test_refusals_without_a_wait_grow),
        cmocka_unit_test(test_failures_open_the_breaker),
        cmocka_unit_test(test_requests_it_dislikes_are_no_failures_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
