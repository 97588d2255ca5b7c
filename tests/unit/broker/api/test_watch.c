/* Who waits for which job, and until when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/watch.h"

/* ---- jobs ------------------------------------------------------------------------------------ */

struct waiter {
    struct watch watch;
    struct watches *watches;
    unsigned told;
    bool leaves;
};

static void on_change(struct watch *watch, const struct job *job)
{
    struct waiter *waiter = (struct waiter *)watch;

    assert_memory_equal(job->id.core, watch->id.core, JOB_ID_CORE_SIZE);
    waiter->told++;
    if (waiter->leaves)
        watch_remove(waiter->watches, watch);
}

static struct job_id id_of(unsigned number)
{
    uint8_t random[15] = {(uint8_t)number, (uint8_t)(number >> 8), 3};

    random[14] = (uint8_t)number;
    return job_id_make(number % 16, 1790000000000 + number, random);
}

static void test_watches(void **state)
{
    struct waiter waiters[300];
    struct watches watches;

    (void)state;
    assert_int_equal(watches_init(&watches, 10), 0); /* fewer buckets than waiters */
    for (unsigned i = 0; i < 300; i++) {
        waiters[i] = (struct waiter){.watches = &watches, .leaves = i % 2};
        waiters[i].watch.id = id_of(i / 3); /* three for each job */
        waiters[i].watch.on_change = on_change;
        watch_add(&watches, &waiters[i].watch);
        assert_true(watch_is_in(&waiters[i].watch));
    }
    assert_int_equal(watches.count, 300);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 100; i++) {
            const struct job job = {.id = id_of(i)};
            watches_tell(&watches, &job);
        }
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(waiters[i].told, waiters[i].leaves ? 1 : 2);
    assert_int_equal(watches.count, 150);
    for (unsigned i = 0; i < 300; i++)
        watch_remove(&watches, &waiters[i].watch); /* harmless for those that have left */
    watches_deinit(&watches);
}

/* ---- times ----------------------------------------------------------------------------------- */

struct clocked {
    struct timer timer;
    struct wheel *wheel;
    int64_t *now;
    int64_t ran_at;
    unsigned ran;
    int64_t again_ms;
    struct timer *stops;
};

static void on_due(struct timer *timer)
{
    struct clocked *clocked = (struct clocked *)timer;

    assert_false(timer_is_on(timer));
    clocked->ran++;
    clocked->ran_at = *clocked->now;
    if (clocked->stops)
        timer_stop(clocked->stops);
    if (clocked->again_ms > 0) {
        timer->due_mono_ms = *clocked->now + clocked->again_ms;
        timer_start(clocked->wheel, timer);
    }
}

static void test_wheel(void **state)
{
    static const int64_t delays[] = {0,    1,     99,     100,    101,    250,   1000,
                                     5050, 99999, 102400, 102401, 204900, 300000};
    enum { COUNT = sizeof(delays) / sizeof(delays[0]) };
    struct clocked clocked[COUNT];
    struct wheel wheel;
    int64_t start = 123456789, now = start;

    (void)state;
    wheel_init(&wheel, now);
    for (unsigned i = 0; i < COUNT; i++) {
        clocked[i] = (struct clocked){.wheel = &wheel, .now = &now};
        clocked[i].timer.due_mono_ms = now + delays[i];
        clocked[i].timer.on_due = on_due;
        timer_start(&wheel, &clocked[i].timer);
        timer_start(&wheel, &clocked[i].timer); /* moves, does not double */
    }
    for (; now < start + 301000; now += 37)
        wheel_turn(&wheel, now);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(clocked[i].ran, 1);
        assert_true(clocked[i].ran_at >= start + delays[i]);
        assert_true(clocked[i].ran_at <= start + delays[i] + 2 * WHEEL_TICK_MS + 37);
    }
}

static void test_repeat_and_stop(void **state)
{
    struct wheel wheel;
    int64_t now = 1000000;
    struct clocked ticking = {.wheel = &wheel, .now = &now, .again_ms = 500};
    struct clocked victim = {.wheel = &wheel, .now = &now};
    struct clocked killer = {.wheel = &wheel, .now = &now, .stops = &victim.timer};

    (void)state;
    wheel_init(&wheel, now);
    ticking.timer.on_due = victim.timer.on_due = killer.timer.on_due = on_due;
    ticking.timer.due_mono_ms = now + 500;
    victim.timer.due_mono_ms = now + 300;
    killer.timer.due_mono_ms = now + 200;
    timer_start(&wheel, &ticking.timer);
    timer_start(&wheel, &victim.timer);
    timer_start(&wheel, &killer.timer);
    for (; now < 1000000 + 10000; now += 100)
        wheel_turn(&wheel, now);
    assert_in_range(ticking.ran, 16, 19);
    assert_int_equal(killer.ran, 1);
    assert_int_equal(victim.ran, 0);
    timer_stop(&ticking.timer);
    timer_stop(&ticking.timer);
    assert_false(timer_is_on(&ticking.timer));
}

/* A process that stood still for an hour runs what came due meanwhile, once. */
static void test_stall(void **state)
{
    struct wheel wheel;
    int64_t now = 5000;
    struct clocked clocked = {.wheel = &wheel, .now = &now};

    (void)state;
    wheel_init(&wheel, now);
    clocked.timer.on_due = on_due;
    clocked.timer.due_mono_ms = now + 60000;
    timer_start(&wheel, &clocked.timer);
    now += 3600 * 1000;
    wheel_turn(&wheel, now);
    assert_int_equal(clocked.ran, 1);
    wheel_turn(&wheel, now + 3600 * 1000);
    assert_int_equal(clocked.ran, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watches),
        cmocka_unit_test(test_wheel),
        cmocka_unit_test(test_repeat_and_stop),
        cmocka_unit_test(test_stall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
