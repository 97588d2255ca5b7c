#include "worker/upstream/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 500 };

static void test_an_empty_wheel_has_nothing(void **state)
{
    struct wheel wheel;
    (void)state;

    wheel_init(&wheel, 1000);
    assert_int_equal(wheel_next_ms(&wheel), -1);
    assert_null(wheel_expire(&wheel, 5000));
    struct wheel_entry never = {.due_ms = 0};
    wheel_remove(&wheel, &never); /* not in it: nothing happens */
    assert_int_equal(wheel.count, 0);
}

static void test_deadlines_come_never_early_and_hardly_late(void **state)
{
    struct wheel wheel;
    struct wheel_entry entries[COUNT];
    int64_t now_ms = 12345;
    unsigned left = COUNT;
    (void)state;

    wheel_init(&wheel, now_ms);
    memset(entries, 0, sizeof entries);
    srand(7);
    for (int i = 0; i < COUNT; i++) /* many of them several turns away */
        wheel_set(&wheel, &entries[i], now_ms + rand() % 40000, now_ms);
    while (left > 0) {
        int64_t next_ms = wheel_next_ms(&wheel);
        assert_true(next_ms >= 0);
        if (next_ms > now_ms)
            now_ms = next_ms;
        struct wheel_entry *entry;
        while ((entry = wheel_expire(&wheel, now_ms))) {
            assert_true(entry->due_ms <= now_ms);
            assert_true(now_ms - entry->due_ms <= WHEEL_TICK_MS);
            left--;
        }
    }
    assert_int_equal(wheel_next_ms(&wheel), -1);
}

static void test_a_late_turn_finds_everything(void **state)
{
    struct wheel wheel;
    struct wheel_entry entries[COUNT];
    unsigned found = 0;
    (void)state;

    wheel_init(&wheel, 0);
    memset(entries, 0, sizeof entries);
    for (int i = 0; i < COUNT; i++)
        wheel_set(&wheel, &entries[i], i * 100, 0);
    while (wheel_expire(&wheel, 1000000))
        found++;
    assert_int_equal(found, COUNT);
}

static void test_moving_a_deadline(void **state)
{
    struct wheel wheel;
    struct wheel_entry entry = {.due_ms = 0};
    (void)state;

    wheel_init(&wheel, 0);
    wheel_set(&wheel, &entry, 1000, 0);
    wheel_set(&wheel, &entry, 3000, 0); /* later: stays where it is, and is put on from there */
    assert_true(wheel_next_ms(&wheel) <= 1016);
    assert_null(wheel_expire(&wheel, 2000));
    wheel_set(&wheel, &entry, 2100, 2000); /* earlier: moves at once */
    assert_true(wheel_next_ms(&wheel) <= 2112);
    assert_ptr_equal(wheel_expire(&wheel, 2112), &entry);
    assert_null(wheel_expire(&wheel, 10000));

    wheel_set(&wheel, &entry, 20000, 10000);
    wheel_remove(&wheel, &entry);
    assert_int_equal(wheel_next_ms(&wheel), -1);
    assert_null(wheel_expire(&wheel, 30000));
}

static void test_a_rest_of_days_costs_nothing(void **state)
{
    struct wheel wheel;
    struct wheel_entry entry = {.due_ms = 0};
    int64_t day_ms = 24 * 3600 * 1000;
    unsigned turns = 0;
    (void)state;

    wheel_init(&wheel, 0);
    wheel_set(&wheel, &entry, 5 * day_ms + 100, 5 * day_ms);
    for (int64_t now_ms = 5 * day_ms; !wheel_expire(&wheel, now_ms); turns++)
        now_ms = wheel_next_ms(&wheel);
    assert_true(turns <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_wheel_has_nothing),
        cmocka_unit_test(test_deadlines_come_never_early_and_hardly_late),
        cmocka_unit_test(test_a_late_turn_finds_everything),
        cmocka_unit_test(test_moving_a_deadline),
        cmocka_unit_test(test_a_rest_of_days_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
