/* The supervisor's table: every state with every event, delays, silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/supervise/supervisor.h"

static const int64_t NOW = 1000000;

struct row {
    enum child_state from;
    enum child_event event;
    enum child_state to;
    enum child_action action;
};

/* What the table must hold; everything else changes nothing. */
static const struct row rows[] = {
    {CHILD_WAITING, CHILD_DUE, CHILD_STARTING, CHILD_DO_SPAWN},
    {CHILD_WAITING, CHILD_STOP, CHILD_GONE, CHILD_DO_NOTHING},
    {CHILD_STARTING, CHILD_NOT_SPAWNED, CHILD_WAITING, CHILD_DO_DELAY},
    {CHILD_STARTING, CHILD_READY, CHILD_RUNNING, CHILD_DO_NOTHING},
    {CHILD_STARTING, CHILD_DIED, CHILD_WAITING, CHILD_DO_DELAY},
    {CHILD_STARTING, CHILD_MISCONFIGURED, CHILD_GONE, CHILD_DO_GIVE_UP},
    {CHILD_STARTING, CHILD_SILENT, CHILD_STALLED, CHILD_DO_KILL},
    {CHILD_STARTING, CHILD_STOP, CHILD_STOPPING, CHILD_DO_TERM},
    {CHILD_RUNNING, CHILD_DIED, CHILD_WAITING, CHILD_DO_DELAY},
    {CHILD_RUNNING, CHILD_MISCONFIGURED, CHILD_GONE, CHILD_DO_GIVE_UP},
    {CHILD_RUNNING, CHILD_SILENT, CHILD_STALLED, CHILD_DO_KILL},
    {CHILD_RUNNING, CHILD_STOP, CHILD_STOPPING, CHILD_DO_TERM},
    {CHILD_STALLED, CHILD_DIED, CHILD_WAITING, CHILD_DO_DELAY},
    {CHILD_STALLED, CHILD_MISCONFIGURED, CHILD_WAITING, CHILD_DO_DELAY},
    {CHILD_STALLED, CHILD_STOP, CHILD_ENDING, CHILD_DO_NOTHING},
    {CHILD_STOPPING, CHILD_DIED, CHILD_GONE, CHILD_DO_NOTHING},
    {CHILD_STOPPING, CHILD_MISCONFIGURED, CHILD_GONE, CHILD_DO_NOTHING},
    {CHILD_STOPPING, CHILD_SILENT, CHILD_ENDING, CHILD_DO_KILL},
    {CHILD_STOPPING, CHILD_HURRY, CHILD_STOPPING, CHILD_DO_TERM},
    {CHILD_STOPPING, CHILD_OVERDUE, CHILD_ENDING, CHILD_DO_KILL},
    {CHILD_ENDING, CHILD_DIED, CHILD_GONE, CHILD_DO_NOTHING},
    {CHILD_ENDING, CHILD_MISCONFIGURED, CHILD_GONE, CHILD_DO_NOTHING},
};

/* Events that lead from the start to each state. */
static void bring_to(struct supervisor *supervisor, enum child_state state)
{
    static const enum child_event paths[CHILD_STATE_COUNT][5] = {
        [CHILD_WAITING] = {CHILD_EVENT_COUNT},
        [CHILD_STARTING] = {CHILD_DUE, CHILD_EVENT_COUNT},
        [CHILD_RUNNING] = {CHILD_DUE, CHILD_READY, CHILD_EVENT_COUNT},
        [CHILD_STALLED] = {CHILD_DUE, CHILD_READY, CHILD_SILENT, CHILD_EVENT_COUNT},
        [CHILD_STOPPING] = {CHILD_DUE, CHILD_READY, CHILD_STOP, CHILD_EVENT_COUNT},
        [CHILD_ENDING] = {CHILD_DUE, CHILD_READY, CHILD_STOP, CHILD_OVERDUE, CHILD_EVENT_COUNT},
        [CHILD_GONE] = {CHILD_STOP, CHILD_EVENT_COUNT},
    };
    supervisor_init(supervisor, 1, NOW);
    for (int i = 0; i < 5 && paths[state][i] != CHILD_EVENT_COUNT; i++)
        (void)supervisor_step(supervisor, 0, paths[state][i], NOW);
    assert_int_equal(supervisor->children[0].state, state);
}

static void test_every_state_with_every_event(void **state)
{
    (void)state;
    size_t met = 0;

    for (int from = 0; from < CHILD_STATE_COUNT; from++) {
        for (int event = 0; event < CHILD_EVENT_COUNT; event++) {
            struct supervisor supervisor;
            struct row expected = {.to = (enum child_state)from, .action = CHILD_DO_NOTHING};
            for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                if ((int)rows[i].from == from && (int)rows[i].event == event) {
                    expected = rows[i];
                    met++;
                }
            }
            bring_to(&supervisor, (enum child_state)from);
            assert_int_equal(supervisor_step(&supervisor, 0, (enum child_event)event, NOW),
                             expected.action);
            assert_int_equal(supervisor.children[0].state, expected.to);
        }
    }
    assert_int_equal(met, sizeof rows / sizeof rows[0]);
}

/* Dies alive_ms after its start; returns the delay until the next one. */
static int64_t die(struct supervisor *supervisor, int64_t *now, int64_t alive_ms)
{
    assert_int_equal(supervisor_timed_event(supervisor, 0, *now), CHILD_DUE);
    assert_int_equal(supervisor_step(supervisor, 0, CHILD_DUE, *now), CHILD_DO_SPAWN);
    *now += alive_ms;
    assert_int_equal(supervisor_step(supervisor, 0, CHILD_DIED, *now), CHILD_DO_DELAY);
    int64_t delay = supervisor->children[0].due_mono_ms - *now;
    assert_int_equal(supervisor_timed_event(supervisor, 0, *now + delay - 1), CHILD_EVENT_COUNT);
    *now += delay;
    return delay;
}

static void test_delay_grows_and_starts_over(void **state)
{
    (void)state;
    static const int64_t delays[] = {50, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    struct supervisor supervisor;
    int64_t now = NOW;

    supervisor_init(&supervisor, 1, now);
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++)
        assert_int_equal(die(&supervisor, &now, 10), delays[i]);
    assert_int_equal(die(&supervisor, &now, SUPERVISOR_PROVEN_MS - 1), 5000);
    assert_int_equal(die(&supervisor, &now, SUPERVISOR_PROVEN_MS), 50);
    assert_int_equal(die(&supervisor, &now, 0), 100);
}

static void test_silence(void **state)
{
    (void)state;
    struct supervisor supervisor;

    bring_to(&supervisor, CHILD_RUNNING);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 9999), CHILD_EVENT_COUNT);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 10000), CHILD_SILENT);
    supervisor_note_sign(&supervisor, 0, NOW + 5000);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 14999), CHILD_EVENT_COUNT);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 15000), CHILD_SILENT);
    supervisor_forgive(&supervisor, NOW + 100000);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 109999), CHILD_EVENT_COUNT);

    /* A child that never becomes ready is silent too; one that does not run cannot be. */
    bring_to(&supervisor, CHILD_STARTING);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 10000), CHILD_SILENT);
    bring_to(&supervisor, CHILD_GONE);
    assert_int_equal(supervisor_timed_event(&supervisor, 0, NOW + 10000), CHILD_EVENT_COUNT);
}

static void test_over_and_all_running(void **state)
{
    (void)state;
    struct supervisor supervisor;

    supervisor_init(&supervisor, 3, NOW);
    assert_false(supervisor_is_over(&supervisor));
    for (unsigned i = 0; i < 3; i++) {
        assert_false(supervisor_all_running(&supervisor));
        assert_false(supervisor_is_alive(&supervisor, i));
        (void)supervisor_step(&supervisor, i, CHILD_DUE, NOW);
        assert_true(supervisor_is_alive(&supervisor, i));
        (void)supervisor_step(&supervisor, i, CHILD_READY, NOW);
    }
    assert_true(supervisor_all_running(&supervisor));
    for (unsigned i = 0; i < 3; i++) {
        assert_false(supervisor_is_over(&supervisor));
        (void)supervisor_step(&supervisor, i, CHILD_STOP, NOW);
        (void)supervisor_step(&supervisor, i, CHILD_DIED, NOW);
    }
    assert_true(supervisor_is_over(&supervisor));
    assert_string_equal(child_state_word(CHILD_STALLED), "stalled");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_with_every_event),
        cmocka_unit_test(test_delay_grows_and_starts_over),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_over_and_all_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
