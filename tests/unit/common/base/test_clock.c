/* The clocks go forward and agree with each other about their units. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/base/clock.h"

static void test_wall_is_unix_time(void **state)
{
    (void)state;
    int64_t before_s = (int64_t)time(NULL);
    int64_t wall_ms = clock_wall_ms();
    int64_t after_s = (int64_t)time(NULL);
    assert_true(wall_ms / 1000 >= before_s - 1);
    assert_true(wall_ms / 1000 <= after_s + 1);
}

static void test_monotonic_units_agree(void **state)
{
    (void)state;
    int64_t before_ms = clock_mono_ms();
    int64_t ns = clock_mono_ns();
    int64_t after_ms = clock_mono_ms();
    assert_true(before_ms <= ns / 1000000);
    assert_true(ns / 1000000 <= after_ms);
}

static void test_boot_is_not_behind_monotonic(void **state)
{
    (void)state;
    int64_t mono_ms = clock_mono_ms();
    assert_true(clock_boot_ms() >= mono_ms); /* it counts suspended time too */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wall_is_unix_time),
        cmocka_unit_test(test_monotonic_units_agree),
        cmocka_unit_test(test_boot_is_not_behind_monotonic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
