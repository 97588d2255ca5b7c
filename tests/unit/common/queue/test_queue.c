/* A job's way through the queue against a real Redis: submit, claim, commit and everything around.
 */
#include "queue_rig.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"

static int set_up(void **state)
{
    static struct rig rig;

    rig_start(&rig, NULL);
    *state = &rig;
    return 0;
}

static int tear_down(void **state)
{
    rig_stop(*state);
    return 0;
}

static void submit_claim_finish_get(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");
    const struct rig_claimed *claimed;
    struct job now;

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_QUEUED);
    assert_true(slice_equal(now.payload, job.payload));

    claimed = rig_claim(rig, queue, "m", 10, false);
    assert_int_equal(claimed->status, 0);
    assert_int_equal(claimed->count, 1);
    assert_false(claimed->has_more);
    assert_int_equal(claimed->jobs[0].claim, 1);
    assert_memory_equal(claimed->jobs[0].id.core, job.id.core, JOB_ID_CORE_SIZE);
    assert_int_equal(rig_state(rig, queue, &job.id), JOB_RUNNING);
    assert_int_equal(rig_inspect(rig, queue), 0);

    struct job running = claimed->jobs[0];
    assert_int_equal(rig_claim(rig, queue, "m", 10, false)->count, 0);
    assert_int_equal(rig_finish(rig, queue, &running, "{\"ok\":1}"), 0);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SUCCEEDED);
    assert_true(slice_is(now.payload, "{\"ok\":1}"));
    assert_true(slice_is(now.content_type, "application/json"));
    /* Again: it is the same commit. */
    assert_int_equal(rig_finish(rig, queue, &running, "{\"ok\":1}"), 0);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(submit_claim_finish_get, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
