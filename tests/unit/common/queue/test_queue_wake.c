/* Wake-ups: who is told that a job waits, and where its claim looks. */
#include "queue_rig.h"

static void on_wake(void *arg)
{
    *(int *)arg += 1;
}

static void idle_children_are_woken_one_at_a_time(void **state)
{
    struct rig *rig = *state;
    struct queue *front = rig_queue(rig, "front"), *child[2];
    int wakes[2] = {0, 0};

    for (int i = 0; i < 2; i++) {
        struct queue_worker_events events = {.on_wake = on_wake, .arg = &wakes[i]};
        child[i] = rig_queue(rig, "child");
        queue_on_worker_events(child[i], &events);
        assert_int_equal(rig_claim(rig, child[i], i == 0 ? "other" : "m", 5, false)->count, 0);
        rig_run_ms(rig, 3);
    }
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:idle"), 2);
    struct job job = rig_job(front, "m");
    assert_int_equal(rig_submit(rig, front, &job).status, 0);
    rig_wait(rig, &wakes[0]);
    assert_int_equal(wakes[1], 0);
    /* The first child does not serve the route: its claim hands the wake on. */
    assert_int_equal(rig_claim(rig, child[0], "other", 5, false)->count, 0);
    rig_wait(rig, &wakes[1]);
    assert_int_equal(rig_claim(rig, child[1], "m", 5, false)->count, 1);
    assert_int_equal(rig_claim(rig, child[1], "m", 5, false)->count, 0);
    /* Nobody else is woken for it. */
    rig_run_ms(rig, 100);
    assert_int_equal(wakes[0], 1);
    assert_int_equal(wakes[1], 1);
    for (int i = 0; i < 2; i++)
        rig_close(rig, child[i]);
    /* Dead children in the idle set do not swallow wakes. */
    job = rig_job(front, "m");
    assert_int_equal(rig_submit(rig, front, &job).status, 0);
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:idle"), 0);
    rig_close(rig, front);
}

static long long listings(const struct rig *rig)
{
    return rig_ask_number(&rig->redis, "EVAL %s 0",
                          "return tonumber(string.match(redis.call('INFO', 'commandstats'),"
                          " 'cmdstat_zrange:calls=(%d+)') or 0)");
}

/* A wake names the shard of its job: the claim looks there, and in no shard that has nothing. */
static void a_woken_claim_looks_where_the_job_is(void **state)
{
    struct rig *rig = *state;
    struct queue *front = rig_queue(rig, "front"), *child = rig_queue(rig, "child");
    long long looks = 0, looks_of_nothing = 0;
    int wakes = 0;
    struct queue_worker_events events = {.on_wake = on_wake, .arg = &wakes};

    queue_on_worker_events(child, &events);
    for (int i = 0; i < 40; i++) {
        struct job job = rig_job(front, "m");
        long long before = listings(rig);

        assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 0);
        looks_of_nothing += listings(rig) - before;
        wakes = 0;
        assert_int_equal(rig_submit(rig, front, &job).status, 0);
        rig_wait(rig, &wakes);
        before = listings(rig);
        assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 1);
        looks += listings(rig) - before;
    }
    assert_int_equal(looks_of_nothing, 0);
    assert_int_equal(looks, 80); /* of the shard, and of the route when it was drained */
    rig_close(rig, child);
    rig_close(rig, front);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(idle_children_are_woken_one_at_a_time, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_woken_claim_looks_where_the_job_is, rig_set_up,
                                        rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
