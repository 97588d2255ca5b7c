/* Who hears of changes: held submits, followers, history, and what happens when a message is
 * missed. */
#include "queue_rig.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/queue/queue_fleet.h"

struct heard {
    struct job_id id;
    enum job_state states[32];
    uint32_t sequences[32];
    char payload[64];
    int count;
};

static void on_change(const struct job *job, void *arg)
{
    struct heard *heard = arg;

    assert_true(heard->count < 32);
    heard->id = job->id;
    heard->states[heard->count] = job->state;
    heard->sequences[heard->count] = job->sequence;
    if (job->payload.bytes)
        snprintf(heard->payload, sizeof(heard->payload), "%.*s", (int)job->payload.size,
                 job->payload.bytes);
    heard->count++;
}

static void wait_count(struct rig *rig, const struct heard *heard, int count)
{
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS;
         heard->count < count && clock_mono_ms() < until;)
        rig_run_ms(rig, 2);
    assert_int_equal(heard->count, count);
}

static struct queue_submit_result submit_held(struct rig *rig, struct queue *queue,
                                              const struct job *job)
{
    struct queue_submission submission = {.job = job, .weight = 1, .hold = true};

    return rig_submit_full(rig, queue, &submission);
}

static void a_held_job_tells_its_end(void **state)
{
    struct rig *rig = *state;
    struct queue *broker = rig_queue(rig, "broker"), *worker = rig_queue(rig, "worker");
    struct heard heard = {.count = 0};
    struct job job = rig_job(broker, "m");

    queue_on_change(broker, on_change, &heard);
    assert_int_equal(submit_held(rig, broker, &job).status, 0);
    struct job running = rig_claim(rig, worker, "m", 1, false)->jobs[0];
    assert_memory_equal(running.home, queue_self_id(broker), JOB_HOME_SIZE);
    assert_int_equal(rig_finish(rig, worker, &running, "{\"n\":1}"), 0);
    wait_count(rig, &heard, 1);
    assert_int_equal(heard.states[0], JOB_SUCCEEDED);
    assert_string_equal(heard.payload, "{\"n\":1}");
    assert_string_equal(heard.id.core, job.id.core);
    queue_unfollow(broker, &job.id);

    /* Cancelled ones, too. */
    job = rig_job(broker, "m");
    assert_int_equal(submit_held(rig, broker, &job).status, 0);
    assert_int_equal(rig_cancel(rig, worker, &job.id, NULL), 0);
    wait_count(rig, &heard, 2);
    assert_int_equal(heard.states[1], JOB_CANCELLED);
    /* Nobody who let go is told anything. */
    job = rig_job(broker, "m");
    assert_int_equal(submit_held(rig, broker, &job).status, 0);
    queue_unfollow(broker, &job.id);
    assert_int_equal(rig_cancel(rig, worker, &job.id, NULL), 0);
    rig_run_ms(rig, 50);
    assert_int_equal(heard.count, 2);
    rig_close(rig, broker);
    rig_close(rig, worker);
}

struct got {
    struct job job;
    int status;
    int is_done;
};

static void on_job(int status, const struct job *job, void *arg)
{
    struct got *got = arg;

    got->status = status;
    if (job)
        got->job = *job;
    got->is_done = 1;
}

static int follow(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out)
{
    struct got got = {.is_done = 0};

    queue_follow(queue, id, on_job, &got);
    rig_wait(rig, &got.is_done);
    *out = got.job;
    return got.status;
}

struct replayed {
    uint32_t sequences[64];
    int count;
    int status;
    int is_done;
};

static void on_history(int status, const struct job *job, void *arg)
{
    struct replayed *replayed = arg;

    if (job) {
        replayed->sequences[replayed->count++] = job->sequence;
        return;
    }
    replayed->status = status;
    replayed->is_done = 1;
}

static struct replayed history(struct rig *rig, struct queue *queue, const struct job_id *id,
                               uint32_t after)
{
    struct replayed replayed = {.is_done = 0};

    queue_history(queue, id, after, on_history, &replayed);
    rig_wait(rig, &replayed.is_done);
    return replayed;
}

static void followers_hear_every_change(void **state)
{
    struct rig *rig = *state;
    struct queue *broker[2], *worker = rig_queue(rig, "worker");
    struct heard heard[2] = {{.count = 0}};
    struct job job, now;
    static const enum job_state expected[] = {JOB_RUNNING, JOB_SCHEDULED, JOB_QUEUED, JOB_RUNNING,
                                              JOB_FAILED};

    queue_sweep_start(worker);
    for (int i = 0; i < 2; i++) {
        broker[i] = rig_queue(rig, "broker");
        queue_on_change(broker[i], on_change, &heard[i]);
    }
    job = rig_job(broker[0], "m");
    assert_int_equal(rig_submit(rig, broker[0], &job).status, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(follow(rig, broker[i], &job.id, &now), 0);
        assert_int_equal(now.state, JOB_QUEUED);
        assert_int_equal(now.sequence, 1);
    }
    struct job running = rig_claim(rig, worker, "m", 1, false)->jobs[0];
    assert_int_equal(rig_retry(rig, worker, &running, 20), 0);
    for (int i = 0; i < 2; i++)
        wait_count(rig, &heard[i], 3);
    running = rig_claim(rig, worker, "m", 1, false)->jobs[0];
    assert_int_equal(rig_fail(rig, worker, &running, "upstream_rejected"), 0);
    for (int i = 0; i < 2; i++) {
        wait_count(rig, &heard[i], 5);
        for (int n = 0; n < 5; n++) {
            assert_int_equal(heard[i].states[n], expected[n]);
            assert_int_equal(heard[i].sequences[n], n + 2);
        }
    }
    struct replayed all = history(rig, broker[0], &job.id, 1);
    assert_int_equal(all.status, 0);
    assert_int_equal(all.count, 5);
    struct replayed rest = history(rig, broker[1], &job.id, 4);
    assert_int_equal(rest.status, 0);
    assert_int_equal(rest.count, 2);
    assert_int_equal(rest.sequences[0], 5);
    assert_int_equal(history(rig, broker[1], &job.id, 6).status, 0);
    /* What was before the first follower was not recorded. */
    assert_int_equal(history(rig, broker[1], &job.id, 0).status, ERR_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        queue_unfollow(broker[i], &job.id);
        rig_close(rig, broker[i]);
    }
    rig_close(rig, worker);
}

static void follows_are_counted(void **state)
{
    struct rig *rig = *state;
    struct queue *broker = rig_queue(rig, "broker");
    struct heard heard = {.count = 0};
    struct job job = rig_job(broker, "m"), now;

    queue_on_change(broker, on_change, &heard);
    assert_int_equal(follow(rig, broker, &job.id, &now), ERR_NOT_FOUND);
    queue_unfollow(broker, &job.id); /* a follow counts, whatever it found */
    assert_int_equal(rig_submit(rig, broker, &job).status, 0);
    assert_int_equal(follow(rig, broker, &job.id, &now), 0);
    assert_int_equal(follow(rig, broker, &job.id, &now), 0);
    queue_unfollow(broker, &job.id);
    struct job running = rig_claim(rig, broker, "m", 1, false)->jobs[0];
    wait_count(rig, &heard, 1);
    queue_unfollow(broker, &job.id);
    rig_run_ms(rig, 20);
    assert_int_equal(
        rig_ask_number(&rig->redis, "EXISTS {%u}:f:%s", job_id_shard(&job.id), job.id.core), 0);
    assert_int_equal(rig_finish(rig, broker, &running, "{}"), 0);
    rig_run_ms(rig, 30);
    assert_int_equal(heard.count, 1);
    rig_close(rig, broker);
}

/* A change may reach this process first as the answer to a second follower. */
static void what_one_follower_is_answered_all_hear(void **state)
{
    struct rig *rig = *state;
    struct queue *broker = rig_queue(rig, "broker");
    struct heard heard = {.count = 0};
    struct got cancelled = {.is_done = 0}, second = {.is_done = 0};
    struct job job = rig_job(broker, "m"), now;

    queue_on_change(broker, on_change, &heard);
    assert_int_equal(rig_submit(rig, broker, &job).status, 0);
    assert_int_equal(follow(rig, broker, &job.id, &now), 0);
    /* The loop stands still: the message is lost, and the subscription comes back later. */
    rig_ask(&rig->redis, "CLIENT KILL TYPE pubsub");
    queue_cancel(broker, &job.id, on_job, &cancelled);
    queue_follow(broker, &job.id, on_job, &second);
    rig_wait(rig, &cancelled.is_done);
    rig_wait(rig, &second.is_done);
    assert_int_equal(second.status, 0);
    assert_int_equal(second.job.state, JOB_CANCELLED);
    wait_count(rig, &heard, 1);
    assert_int_equal(heard.states[0], JOB_CANCELLED);
    queue_unfollow(broker, &job.id);
    queue_unfollow(broker, &job.id);
    rig_close(rig, broker);
}

static void missed_messages_are_made_up_for(void **state)
{
    struct rig *rig = *state;
    struct queue *broker = rig_queue(rig, "broker"), *worker = rig_queue(rig, "worker");
    struct heard heard = {.count = 0};
    struct job jobs[2], now;

    queue_on_change(broker, on_change, &heard);
    jobs[0] = rig_job(broker, "m");
    assert_int_equal(submit_held(rig, broker, &jobs[0]).status, 0);
    jobs[1] = rig_job(broker, "m");
    assert_int_equal(rig_submit(rig, broker, &jobs[1]).status, 0);
    assert_int_equal(follow(rig, broker, &jobs[1].id, &now), 0);
    /* The subscriptions die, and something happens before they are back. */
    rig_ask(&rig->redis, "CLIENT KILL TYPE pubsub");
    for (int i = 0; i < 2; i++)
        assert_int_equal(rig_cancel(rig, worker, &jobs[i].id, NULL), 0);
    wait_count(rig, &heard, 2);
    assert_int_equal(heard.states[0], JOB_CANCELLED);
    assert_int_equal(heard.states[1], JOB_CANCELLED);
    rig_close(rig, broker);
    rig_close(rig, worker);
}

/* ---- workers ------------------------------------------------------------------------ */

struct events {
    struct job_id cancelled;
    unsigned claim;
    int cancels, wakes, controls;
};

static void on_cancel(const struct job_id *id, unsigned claim, void *arg)
{
    struct events *events = arg;

    events->cancelled = *id;
    events->claim = claim;
    events->cancels++;
}

static void on_wake(void *arg)
{
    ((struct events *)arg)->wakes++;
}

static void on_control(void *arg)
{
    ((struct events *)arg)->controls++;
}

static void on_status(int status, void *arg)
{
    assert_int_equal(status, 0);
    *(int *)arg = 1;
}

static void workers_are_told(void **state)
{
    struct rig *rig = *state;
    struct queue *broker = rig_queue(rig, "broker"), *worker = rig_queue(rig, "worker");
    struct events events = {.cancels = 0};
    struct queue_worker_events told = {
        .on_wake = on_wake, .on_cancel = on_cancel, .on_control = on_control, .arg = &events};
    struct job job = rig_job(broker, "m");
    int is_done = 0;

    queue_on_worker_events(worker, &told);
    assert_int_equal(rig_claim(rig, worker, "m", 1, false)->count, 0);
    assert_int_equal(rig_submit(rig, broker, &job).status, 0);
    rig_wait(rig, &events.wakes);
    struct job running = rig_claim(rig, worker, "m", 1, false)->jobs[0];
    int64_t asked = clock_mono_ms();
    assert_int_equal(rig_cancel(rig, broker, &job.id, NULL), 0);
    rig_wait(rig, &events.cancels);
    assert_true(clock_mono_ms() - asked < 3000); /* unheard, it would be noticed after 5 s */
    assert_string_equal(events.cancelled.core, job.id.core);
    assert_int_equal(events.claim, running.claim);
    queue_pause_upstream(broker, slice_of("gpu0"), true, on_status, &is_done);
    rig_wait(rig, &events.controls);
    rig_wait(rig, &is_done);
    rig_close(rig, broker);
    rig_close(rig, worker);
}

/* ---- notices that do not come ------------------------------------------------------- */

enum { NOTICE_MS_MAX = 3000 }; /* leases of 15 s: the next round would come after 5 s */

static void on_lost(const struct job_id *id, unsigned claim, void *arg)
{
    (void)id;
    assert_int_equal(claim, 1);
    *(int *)arg += 1;
}

static void a_cancel_that_nobody_heard_is_noticed(void **state)
{
    struct rig *rig = *state;
    struct queue *broker = rig_queue(rig, "broker"), *worker = rig_queue(rig, "worker");
    struct job job = rig_job(broker, "m");
    int lost_count = 0;

    queue_on_lost(worker, on_lost, &lost_count);
    assert_int_equal(rig_submit(rig, broker, &job).status, 0);
    assert_int_equal(rig_claim(rig, worker, "m", 1, false)->count, 1);
    rig_ask(&rig->redis, "CLIENT KILL TYPE pubsub");
    assert_int_equal(rig_cancel(rig, broker, &job.id, NULL), 0);
    int64_t asked = clock_mono_ms();
    rig_wait(rig, &lost_count);
    assert_true(clock_mono_ms() - asked < NOTICE_MS_MAX);
    rig_close(rig, broker);
    rig_close(rig, worker);
}

struct claimed {
    unsigned count;
    int is_done;
};

static void on_claimed(const struct queue_claim_result *result, void *arg)
{
    struct claimed *claimed = arg;

    claimed->count = result->jobs_count;
    claimed->is_done = 1;
}

/* Claims a large job, after a small one that comes along with the answer when there is one. The
 * worker has the records, the large body is on its way: now the first of them is cancelled, and the
 * notice comes for a job that nobody was given yet. */
static void cancel_during_claim(struct rig *rig, unsigned small_count)
{
    struct queue *worker = rig_queue(rig, "worker");
    struct events events = {.cancels = 0};
    struct queue_worker_events told = {.on_cancel = on_cancel, .arg = &events};
    struct queue_room room = {.route = slice_of("m"), .room = 2};
    struct queue_claim_request request = {.rooms = &room, .rooms_count = 1, .count_max = 2};
    struct job jobs[2] = {rig_job(worker, "m")};
    struct claimed claimed = {.is_done = 0};
    int lost_count = 0;
    static char body[4000001];
    unsigned shard = job_id_shard(&jobs[0].id);
    char message[1 + JOB_ID_CORE_SIZE + 2] = {0};

    queue_on_lost(worker, on_lost, &lost_count);
    queue_on_worker_events(worker, &told);
    if (small_count > 0) {
        assert_int_equal(rig_submit(rig, worker, &jobs[0]).status, 0);
        jobs[1] = rig_job(worker, "m");
    }
    memset(body, 'b', sizeof(body) - 1);
    jobs[small_count].payload = slice_of(body);
    assert_int_equal(rig_submit(rig, worker, &jobs[small_count]).status, 0);
    queue_claim(worker, &request, on_claimed, &claimed);
    while (!strstr(rig_ask(&rig->redis, "INFO commandstats"), "cmdstat_mget:calls=1"))
        uv_run(&rig->loop, UV_RUN_NOWAIT);
    assert_int_equal(claimed.is_done, 0);
    assert_int_equal(rig_ask_number(&rig->redis, "DEL {%u}:L", shard), 1);
    message[0] = 'c';
    memcpy(message + 1, jobs[0].id.core, JOB_ID_CORE_SIZE);
    message[1 + JOB_ID_CORE_SIZE] = 1; /* the first claim */
    assert_int_equal(rig_ask_number(&rig->redis, "PUBLISH pk:c:%s %b", queue_self_id(worker),
                                    message, sizeof(message)),
                     1);
    /* Most of the body does not fit into the socket: it cannot come before the notice. */
    assert_string_equal(rig_ask(&rig->redis, "PING"), "PONG");
    assert_int_equal(kill(rig->redis.pid, SIGSTOP), 0);
    rig_wait(rig, &events.cancels);
    assert_int_equal(claimed.is_done, 0);
    assert_int_equal(kill(rig->redis.pid, SIGCONT), 0);
    int64_t asked = clock_mono_ms();
    rig_wait(rig, &claimed.is_done);
    assert_int_equal(claimed.count, 1 + small_count);
    rig_wait(rig, &lost_count);
    assert_true(clock_mono_ms() - asked < NOTICE_MS_MAX);
    rig_close(rig, worker);
}

static void a_cancel_during_the_claim_is_noticed(void **state)
{
    cancel_during_claim(*state, 0);
}

static void a_cancel_while_the_claim_waits_for_another_is_noticed(void **state)
{
    cancel_during_claim(*state, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_held_job_tells_its_end, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(followers_hear_every_change, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(follows_are_counted, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(what_one_follower_is_answered_all_hear, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(missed_messages_are_made_up_for, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(workers_are_told, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_cancel_that_nobody_heard_is_noticed, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_cancel_during_the_claim_is_noticed, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(a_cancel_while_the_claim_waits_for_another_is_noticed,
                                        rig_set_up, rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
