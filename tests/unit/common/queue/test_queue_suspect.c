/* Suspects: whose job was being worked on when its process died, how they run alone, and how they
 * end. */
#include "queue_rig.h"

#include <string.h>

/* Whose job was being worked on is a suspect after one death and poison after three more; those
 * that died along with it stay as they are. */
static void blame_falls_on_the_culprit_alone(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct job culprit = rig_job(queue, "m"), bystander = rig_job(queue, "n"), now;

    assert_int_equal(rig_submit(rig, queue, &culprit).status, 0);
    assert_int_equal(rig_submit(rig, queue, &bystander).status, 0);
    for (int death = 1; death <= LIMIT_CRASHES - LIMIT_CRASHES_SUSPECT + 1; death++) {
        struct job running = rig_claim(rig, queue, "m", 5, death > 1)->jobs[0];
        assert_int_equal((running.flags & JOB_FLAG_SUSPECT) != 0, death > 1);
        struct job beside = rig_claim(rig, queue, "n", 5, false)->jobs[0];
        rig_recover(rig, queue, &running, QUEUE_BLAME_CULPRIT);
        rig_recover(rig, queue, &beside, QUEUE_BLAME_NOBODY);
        assert_int_equal(rig_get(rig, queue, &bystander.id, &now), 0);
        assert_int_equal(now.state, JOB_QUEUED);
        assert_int_equal(now.crashes, 0);
    }
    assert_int_equal(rig_get(rig, queue, &culprit.id, &now), 0);
    assert_int_equal(now.state, JOB_FAILED);
    assert_true(slice_is(now.error_code, "poison"));
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

static void suspects_run_alone_and_end_as_poison(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct job job = rig_job(queue, "m"), now;

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    for (int crash = 1; crash <= LIMIT_CRASHES; crash++) {
        bool is_suspect = crash > LIMIT_CRASHES_SUSPECT;

        if (is_suspect) {
            assert_int_equal(rig_claim(rig, queue, "m", 5, false)->count, 0);
            assert_int_equal(rig_claim(rig, queue, "other", 5, true)->count, 0);
        }
        const struct rig_claimed *claimed = rig_claim(rig, queue, "m", 5, is_suspect);
        assert_int_equal(claimed->count, 1);
        struct job running = claimed->jobs[0];
        assert_int_equal((running.flags & JOB_FLAG_SUSPECT) != 0, is_suspect);
        rig_recover(rig, queue, &running, QUEUE_BLAME_EACH);
    }
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_FAILED);
    assert_true(slice_is(now.error_code, "poison"));
    assert_int_equal(now.crashes, LIMIT_CRASHES);
    assert_int_equal(rig_claim(rig, queue, "m", 5, true)->count, 0);
    assert_int_equal(rig_ask_number(&rig->redis, "EXISTS {0}:sp"), 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

static void a_newer_suspect_is_left_alone(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    struct job job;

    rig->options.shards = 1;
    queue = rig_queue(rig, "worker");
    job = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    for (int crash = 0; crash < LIMIT_CRASHES_SUSPECT; crash++) {
        struct job running = rig_claim(rig, queue, "m", 5, false)->jobs[0];
        rig_recover(rig, queue, &running, QUEUE_BLAME_EACH);
    }
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", job.id.core, "\2", (size_t)1);
    assert_int_equal(rig_claim(rig, queue, "m", 5, true)->count, 0);
    rig_ask(&rig->redis, "SETRANGE {0}:j:%s 1 %b", job.id.core, "\1", (size_t)1);
    assert_int_equal(rig_claim(rig, queue, "m", 5, true)->count, 1);
    rig_close(rig, queue);
}

/* However many wait for a route that nobody serves, those of others have their turn. */
static void suspects_of_one_route_hold_up_no_others(void **state)
{
    struct rig *rig = *state;
    unsigned claims = 0;

    rig->options.shards = 1;
    struct queue *queue = rig_queue(rig, "worker");
    for (int i = 0; i <= 40; i++) {
        const char *route = i < 40 ? "unserved" : "m";
        struct job job = rig_job(queue, route);

        assert_int_equal(rig_submit(rig, queue, &job).status, 0);
        struct job running = rig_claim(rig, queue, route, 1, false)->jobs[0];
        rig_recover(rig, queue, &running, QUEUE_BLAME_CULPRIT);
    }
    /* Who is told of a route and asks for it meets its suspect in the next look. */
    bool is_told = false;
    while (!is_told) {
        const struct rig_claimed *claimed = rig_claim(rig, queue, "none", 1, true);

        for (unsigned i = 0; i < claimed->waiting_count; i++)
            is_told |= strcmp(claimed->waiting[i], "m") == 0;
        assert_true(++claims < 10);
    }
    assert_int_equal(rig_claim(rig, queue, "m", 1, true)->count, 1);
    claims = 0; /* and none is lost */
    while (claims < 40 && rig_claim(rig, queue, "unserved", 1, true)->count == 1)
        claims++;
    assert_int_equal(claims, 40);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

/* A child that has just come asks for what it knows, and would have company before it hears of the
 * suspect. */
static void a_suspect_of_an_unknown_route_comes_first(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct queue_room rooms[2] = {{slice_of("m"), 5}, {slice_of("late"), 5}};
    struct queue_claim_request request = {.rooms = rooms,
                                          .rooms_count = 1,
                                          .count_max = 1,
                                          .takes_suspect = true,
                                          .suspect_first = true,
                                          .wants_wake = true,
                                          .hand_max = 1};
    struct job job = rig_job(queue, "late"), other = rig_job(queue, "m");

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    struct job running = rig_claim(rig, queue, "late", 1, false)->jobs[0];
    rig_recover(rig, queue, &running, QUEUE_BLAME_CULPRIT);
    assert_int_equal(rig_submit(rig, queue, &other).status, 0);

    const struct rig_claimed *claimed = rig_claim_request(rig, queue, &request);
    assert_int_equal(claimed->count, 0);
    assert_true(claimed->has_more);
    assert_string_equal(claimed->waiting[0], "late");
    assert_int_equal(rig_ask_number(&rig->redis, "ZCARD {0}:idle"), 0); /* it asks again */
    request.rooms_count = 2;
    claimed = rig_claim_request(rig, queue, &request);
    assert_int_equal(claimed->count, 1);
    assert_true((claimed->jobs[0].flags & JOB_FLAG_SUSPECT) != 0);
    running = claimed->jobs[0];
    assert_int_equal(rig_release(rig, queue, &running), 0);

    /* Who cannot serve its route has the others all the same. */
    request.rooms_count = 1;
    request.suspect_first = false;
    claimed = rig_claim_request(rig, queue, &request);
    assert_int_equal(claimed->count, 1);
    assert_true((claimed->jobs[0].flags & JOB_FLAG_SUSPECT) == 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blame_falls_on_the_culprit_alone, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(suspects_run_alone_and_end_as_poison, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_newer_suspect_is_left_alone, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(suspects_of_one_route_hold_up_no_others, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_suspect_of_an_unknown_route_comes_first, rig_set_up,
                                        rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
