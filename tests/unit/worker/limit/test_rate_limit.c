#include "worker/limit/rate_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* Calls that start when as many as there is room for start at every step. */
static int run(struct rate_limit *limit, int64_t from_ms, int64_t to_ms, int64_t step_ms)
{
    int count = 0;
    for (int64_t now_ms = from_ms; now_ms < to_ms; now_ms += step_ms) {
        for (uint32_t room = rate_limit_room(limit, now_ms); room > 0; room--) {
            rate_limit_take(limit, now_ms);
            count++;
        }
        assert_int_equal(rate_limit_room(limit, now_ms), 0);
    }
    return count;
}

static void test_zero_is_no_limit(void **state)
{
    struct rate_limit limit;
    (void)state;

    rate_limit_init(&limit, 0, 4, 0);
    for (int i = 0; i < 10; i++)
        rate_limit_take(&limit, 0);
    assert_int_equal(rate_limit_room(&limit, 0), UINT32_MAX);
}

static void test_a_minute_gets_its_calls(void **state)
{
    struct rate_limit limit;
    (void)state;

    rate_limit_init(&limit, 600, 1, 5000);
    assert_int_equal(rate_limit_room(&limit, 5000), 10); /* one second's worth at once */
    int count = run(&limit, 5000, 65000, 7);
    assert_true(count >= 605 && count <= 610);
    count = run(&limit, 65000, 125000, 100);
    assert_true(count >= 599 && count <= 601);
}

static void test_slow_limits_and_children(void **state)
{
    struct rate_limit limit;
    (void)state;

    rate_limit_init(&limit, 6, 1, 0); /* one every ten seconds */
    int count = run(&limit, 0, 60000, 500);
    assert_true(count >= 6 && count <= 7);
    rate_limit_init(&limit, 600, 4, 0);
    count = run(&limit, 0, 60000, 50);
    assert_true(count >= 150 && count <= 153);
}

static void test_idle_time_is_not_saved_up(void **state)
{
    struct rate_limit limit;
    (void)state;

    rate_limit_init(&limit, 60, 1, 0);
    assert_int_equal(rate_limit_room(&limit, 3600 * 1000), 1);
    assert_int_equal(run(&limit, 3600 * 1000, 3600 * 1000 + 1, 1), 1);
}

static void test_credit_is_paid_back(void **state)
{
    struct rate_limit limit;
    (void)state;

    rate_limit_init(&limit, 60, 1, 0);
    for (int i = 0; i < 3; i++)
        rate_limit_take(&limit, 0);
    assert_int_equal(rate_limit_room(&limit, 2900), 0);
    assert_int_equal(rate_limit_room(&limit, 3000), 1);
    rate_limit_take(&limit, 1000); /* time that went back counts as none */
    assert_int_equal(rate_limit_room(&limit, 1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_is_no_limit),
        cmocka_unit_test(test_a_minute_gets_its_calls),
        cmocka_unit_test(test_slow_limits_and_children),
        cmocka_unit_test(test_idle_time_is_not_saved_up),
        cmocka_unit_test(test_credit_is_paid_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
