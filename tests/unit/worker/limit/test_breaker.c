#include "worker/limit/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* The longest wait that random numbers make of a nominal one. */
static int64_t longest(int64_t wait_ms)
{
    return wait_ms * 5 / 4;
}

static void trip(struct breaker *breaker, int64_t now_ms)
{
    for (int i = 0; i < BREAKER_FAILURES; i++) {
        assert_int_equal(breaker->mode, BREAKER_CLOSED);
        breaker_start(breaker, now_ms);
        breaker_failure(breaker, now_ms, 12345);
    }
    assert_int_equal(breaker->mode, BREAKER_OPEN);
}

static void test_a_row_of_failures_opens(void **state)
{
    struct breaker breaker = {.mode = BREAKER_CLOSED};
    (void)state;

    assert_int_equal(breaker_room(&breaker, 1000, 0), UINT32_MAX);
    for (int i = 0; i < 100; i++) { /* failures between successes do not */
        breaker_failure(&breaker, 0, 0);
        if (i % (BREAKER_FAILURES - 1) == 0)
            breaker_success(&breaker);
    }
    assert_int_equal(breaker.mode, BREAKER_CLOSED);
    breaker_success(&breaker);
    trip(&breaker, 1000);
    assert_false(breaker_is_passable(&breaker, 1001));
    assert_int_equal(breaker_room(&breaker, 0, 1001), 0);
}

static void test_one_probe_at_a_time(void **state)
{
    struct breaker breaker = {.mode = BREAKER_CLOSED};
    (void)state;

    trip(&breaker, 0);
    int64_t now_ms = longest(BREAKER_WAIT_MIN_MS);
    assert_true(breaker_is_passable(&breaker, now_ms));
    assert_int_equal(breaker_room(&breaker, 60, now_ms), 1); /* old calls do not keep it away */
    breaker_start(&breaker, now_ms);
    assert_int_equal(breaker.mode, BREAKER_PROBING);
    assert_int_equal(breaker_room(&breaker, 1, now_ms), 0);
    /* One that never comes back is given up. */
    assert_int_equal(breaker_room(&breaker, 1, now_ms + BREAKER_WAIT_MAX_MS), 1);
}

static void test_failed_probes_wait_longer(void **state)
{
    struct breaker breaker = {.mode = BREAKER_CLOSED};
    int64_t now_ms = 0;
    int64_t wait_ms = BREAKER_WAIT_MIN_MS;
    (void)state;

    trip(&breaker, now_ms);
    for (int i = 0; i < 10; i++) {
        assert_true(breaker.until_mono_ms >= now_ms + wait_ms * 3 / 4);
        assert_true(breaker.until_mono_ms <= now_ms + longest(wait_ms));
        now_ms = breaker.until_mono_ms;
        breaker_start(&breaker, now_ms);
        breaker_failure(&breaker, now_ms, (uint64_t)i * 7919);
        assert_int_equal(breaker.mode, BREAKER_OPEN);
        wait_ms = wait_ms * 2 < BREAKER_WAIT_MAX_MS ? wait_ms * 2 : BREAKER_WAIT_MAX_MS;
    }
}

static void test_a_good_probe_closes_and_ramps(void **state)
{
    struct breaker breaker = {.mode = BREAKER_CLOSED};
    (void)state;

    trip(&breaker, 0);
    breaker_start(&breaker, 5000);
    breaker_success(&breaker);
    assert_int_equal(breaker.mode, BREAKER_CLOSED);
    assert_int_equal(breaker_room(&breaker, 0, 5000), BREAKER_RAMP_FIRST);
    assert_int_equal(breaker_room(&breaker, BREAKER_RAMP_FIRST + 5, 5000), 0);
    for (unsigned i = 1; i <= 10; i++) {
        breaker_success(&breaker);
        assert_int_equal(breaker_room(&breaker, 0, 5000), BREAKER_RAMP_FIRST + i);
    }
    for (unsigned i = 0; i < BREAKER_RAMP_DONE; i++)
        breaker_success(&breaker);
    assert_int_equal(breaker_room(&breaker, 0, 5000), UINT32_MAX);
    trip(&breaker, 6000); /* and the waits start small again */
    assert_true(breaker.until_mono_ms <= 6000 + longest(BREAKER_WAIT_MIN_MS));
}

static void test_calls_from_before_it_opened(void **state)
{
    struct breaker breaker = {.mode = BREAKER_CLOSED};
    (void)state;

    trip(&breaker, 0);
    int64_t until_ms = breaker.until_mono_ms;
    for (int i = 0; i < 100; i++)
        breaker_failure(&breaker, 10, 1);
    assert_int_equal(breaker.until_mono_ms, until_ms);
    breaker_success(&breaker); /* it lives after all */
    assert_int_equal(breaker.mode, BREAKER_CLOSED);
}

static void test_an_aborted_probe_is_made_again(void **state)
{
    struct breaker breaker = {.mode = BREAKER_CLOSED};
    (void)state;

    breaker_nothing(&breaker, 0);
    assert_int_equal(breaker.mode, BREAKER_CLOSED);
    trip(&breaker, 0);
    breaker_start(&breaker, 5000);
    breaker_nothing(&breaker, 5100);
    assert_int_equal(breaker_room(&breaker, 0, 5100), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_row_of_failures_opens),
        cmocka_unit_test(test_one_probe_at_a_time),
        cmocka_unit_test(test_failed_probes_wait_longer),
        cmocka_unit_test(test_a_good_probe_closes_and_ramps),
        cmocka_unit_test(test_calls_from_before_it_opened),
        cmocka_unit_test(test_an_aborted_probe_is_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
