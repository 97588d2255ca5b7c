/* Standing claims: what comes while a child is idle is handed to it by the submit that brings it.
 */
#include "queue_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/digest.h"
#include "common/queue/queue_fleet.h"
#include "common/queue/queue_stand.h"

enum { HELD_MAX = 32, STANDING_MS = 2500 };

/* What a child was told. */
struct told {
    int handed; /* messages */
    int wakes, cancels, withdrawn;
    unsigned count; /* jobs */
    struct job jobs[HELD_MAX];
    char routes[HELD_MAX][LIMIT_ROUTE_BYTES];
    size_t sizes[HELD_MAX]; /* of their payloads */
    uint32_t sums[HELD_MAX];
    bool has_more;
};

static void on_wake(void *arg)
{
    ((struct told *)arg)->wakes++;
}

static void on_handed(const struct queue_claim_result *result, void *arg)
{
    struct told *told = arg;

    assert_int_equal(result->status, 0);
    assert_int_equal(result->waiting_count, 0);
    for (unsigned i = 0; i < result->jobs_count; i++) {
        const struct job *job = &result->jobs[i];

        assert_true(told->count < HELD_MAX);
        assert_int_equal(job->state, JOB_RUNNING);
        assert_int_equal(job->claim, 1);
        assert_true(job->started_at_ms > 0);
        told->sizes[told->count] = job->payload.size;
        told->sums[told->count] = digest_crc32c(0, job->payload.bytes, job->payload.size);
        told->jobs[told->count] = rig_copy(job, told->routes[told->count]);
        told->jobs[told->count++].payload = (struct slice){NULL, 0};
    }
    told->has_more = result->has_more;
    told->handed++;
}

static void on_cancel(const struct job_id *id, unsigned claim, void *arg)
{
    (void)id;
    assert_int_equal(claim, 1);
    ((struct told *)arg)->cancels++;
}

static void on_withdrawn(int status, void *arg)
{
    assert_int_equal(status, 0);
    ((struct told *)arg)->withdrawn = 1;
}

static struct queue *new_child(struct rig *rig, struct told *told)
{
    const struct queue_worker_events events = {
        .on_wake = on_wake, .on_handed = on_handed, .on_cancel = on_cancel, .arg = told};
    struct queue *child = rig_queue(rig, "child");

    *told = (struct told){.handed = 0};
    queue_on_worker_events(child, &events);
    return child;
}

/* A claim of this child that finds nothing and stands. */
static void stand(struct rig *rig, struct queue *child, const char *route, unsigned room,
                  unsigned hand_max)
{
    struct queue_room rooms[2] = {{slice_of("elsewhere"), 3}, {slice_of(route), room}};
    struct queue_claim_request request = {.rooms = rooms,
                                          .rooms_count = 2,
                                          .count_max = 64,
                                          .wants_wake = true,
                                          .hand_max = hand_max};

    assert_int_equal(rig_claim_request(rig, child, &request)->count, 0);
}

static struct job_id submit_one(struct rig *rig, struct queue *front, const char *route)
{
    struct job job = rig_job(front, route);

    assert_int_equal(rig_submit(rig, front, &job).status, 0);
    return job.id;
}

static long long is_standing(const struct rig *rig, const struct queue *child)
{
    return rig_ask_number(&rig->redis, "EXISTS {0}:st:%s", queue_self_id(child));
}

static long long idle_count(const struct rig *rig)
{
    return rig_ask_number(&rig->redis, "ZCARD {0}:idle");
}

static void on_submit(const struct queue_submit_result *result, void *arg)
{
    (void)arg;
    assert_int_equal(result->status, 0);
}

/* ---- the usual way ------------------------------------------------------------------ */

static void an_idle_child_is_handed_the_job(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    stand(rig, child, "m", 5, 64);
    assert_int_equal(is_standing(rig, child), 1);
    struct job_id id = submit_one(rig, front, "m");
    rig_wait(rig, &told.handed);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.jobs[0].id.core, id.core);
    assert_int_equal(told.sizes[0], told.jobs[0].payload_size);
    assert_false(told.has_more);
    assert_int_equal(rig_state(rig, front, &id), JOB_RUNNING);
    assert_int_equal(idle_count(rig), 0);
    assert_int_equal(rig_inspect(rig, front), 0);
    /* Once: the next one waits to be claimed. */
    id = submit_one(rig, front, "m");
    assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
    assert_int_equal(rig_finish(rig, child, &told.jobs[0], "{}"), 0);
    assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 1);
    assert_int_equal(told.wakes, 0);
    assert_int_equal(told.handed, 1);
    rig_close(rig, child);
    rig_close(rig, front);
}

static void what_is_handed_has_a_lease_that_is_renewed(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front");

    rig->options.lease_ms = 600;
    struct queue *child = new_child(rig, &told);
    rig->options.lease_ms = 15000;
    queue_sweep_start(front);
    stand(rig, child, "m", 5, 64);
    struct job_id id = submit_one(rig, front, "m");
    rig_wait(rig, &told.handed);
    rig_run_ms(rig, 2500); /* sweeps go by */
    assert_int_equal(rig_state(rig, front, &id), JOB_RUNNING);
    assert_int_equal(rig_finish(rig, child, &told.jobs[0], "{}"), 0);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* As many as the room and the count of the claim allow; the rest is claimed. */
static void no_more_is_handed_than_was_asked_for(void **state)
{
    static const struct {
        unsigned room, hand_max, handed;
    } cases[] = {{2, 64, 2}, {64, 3, 3}, {64, 64, 8}};
    struct rig *rig = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told told;
        struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

        stand(rig, child, "m", cases[i].room, cases[i].hand_max);
        /* One submit of ten jobs, as they are gathered. */
        for (int n = 0; n < 10; n++) {
            struct job job = rig_job(front, "m");
            struct queue_submission one = {.job = &job, .weight = 1};
            queue_submit(front, &one, on_submit, NULL);
        }
        rig_wait(rig, &told.handed);
        assert_int_equal(told.count, cases[i].handed);
        assert_true(told.has_more);
        for (unsigned n = 0; n < told.count; n++)
            assert_int_equal(rig_finish(rig, child, &told.jobs[n], "{}"), 0);
        const struct rig_claimed *rest = rig_claim(rig, child, "m", 64, false);
        assert_int_equal(rest->count, 10 - cases[i].handed);
        for (unsigned n = 0; n < rest->count; n++)
            assert_int_equal(rig_finish(rig, child, &rest->jobs[n], "{}"), 0);
        rig_close(rig, child);
        rig_close(rig, front);
    }
}

/* Records too large for a message, and bodies in pieces, are read by the child. */
static void large_bodies_are_fetched(void **state)
{
    static const size_t sizes[] = {3 << 10, 20 << 10, 200 << 10};
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    for (unsigned i = 0; i < 3; i++) {
        struct job job = rig_job(front, "m");
        char *body = malloc(sizes[i]);

        assert_non_null(body);
        memset(body, 'a' + (int)i, sizes[i]);
        job.payload = (struct slice){body, sizes[i]};
        stand(rig, child, "m", 5, 64);
        told.handed = 0;
        assert_int_equal(rig_submit(rig, front, &job).status, 0);
        rig_wait(rig, &told.handed);
        assert_int_equal(told.count, i + 1);
        assert_int_equal(told.sizes[i], sizes[i]);
        assert_int_equal(told.sums[i], digest_crc32c(0, body, sizes[i]));
        free(body);
    }
    rig_close(rig, child);
    rig_close(rig, front);
}

static void a_cancel_after_it_is_heard(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    stand(rig, child, "m", 5, 64);
    struct job_id id = submit_one(rig, front, "m");
    assert_int_equal(rig_cancel(rig, front, &id, NULL), 0);
    rig_wait(rig, &told.cancels);
    assert_int_equal(told.handed, 1);
    assert_int_equal(queue_lease_age_ms(child), 0); /* nothing is held */
    assert_int_equal(rig_finish(rig, child, &told.jobs[0], "{}"), ERR_FENCED);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* ---- who gets nothing --------------------------------------------------------------- */

static void a_claim_of_another_route_is_woken(void **state)
{
    struct rig *rig = *state;
    struct told told, other;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told),
                 *second = new_child(rig, &other);

    stand(rig, child, "n", 5, 64);
    rig_run_ms(rig, 3);
    stand(rig, second, "m", 5, 64);
    struct job_id id = submit_one(rig, front, "m");
    rig_wait(rig, &told.wakes);
    assert_int_equal(told.handed, 0);
    assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
    /* Its claim wakes the next one. */
    stand(rig, child, "n", 5, 64);
    rig_wait(rig, &other.wakes);
    assert_int_equal(rig_claim(rig, second, "m", 5, false)->count, 1);
    rig_close(rig, second);
    rig_close(rig, child);
    rig_close(rig, front);
}

static void submit_together(struct rig *rig, struct queue *front, const char *first,
                            const char *second)
{
    struct job jobs[2] = {rig_job(front, first), rig_job(front, second)};

    (void)rig;
    for (int i = 0; i < 2; i++) {
        struct queue_submission one = {.job = &jobs[i], .weight = 1};
        queue_submit(front, &one, on_submit, NULL);
    }
}

/* What does not go to the first child is not forgotten about. */
static void the_rest_of_a_submit_wakes_the_next_child(void **state)
{
    static const struct {
        const char *routes[2], *jobs[2];
    } cases[] = {{{"m", "m"}, {"m", "m"}}, {{"m", "n"}, {"m", "n"}}, {{"m", "n"}, {"n", "m"}}};
    struct rig *rig = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told told, other;
        struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told),
                     *second = new_child(rig, &other);

        stand(rig, child, cases[i].routes[0], 1, 64);
        rig_run_ms(rig, 3);
        stand(rig, second, cases[i].routes[1], 1, 64);
        submit_together(rig, front, cases[i].jobs[0], cases[i].jobs[1]);
        rig_wait(rig, &told.handed);
        rig_wait(rig, &other.wakes);
        assert_int_equal(told.count, 1);
        assert_true(told.has_more);
        assert_int_equal(other.handed, 0);
        const struct rig_claimed *rest = rig_claim(rig, second, cases[i].routes[1], 1, false);
        assert_int_equal(rest->count, 1);
        rig_close(rig, second);
        rig_close(rig, child);
        rig_close(rig, front);
    }
}

/* Of a newer version, of an older one that cannot read what we write, or of nobody. */
static void a_claim_that_cannot_be_read_is_woken(void **state)
{
    static const char *const changes[] = {"SETRANGE %s 0 \x02", "SETRANGE %s 1 %b", "SET %s x",
                                          "SET %s 123456789012345678901234567890",
                                          "HSET %s field 1"};
    struct rig *rig = *state;

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct told told;
        struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);
        char key[32];

        stand(rig, child, "m", 5, 64);
        snprintf(key, sizeof(key), "{0}:st:%s", queue_self_id(child));
        if (changes[i][0] == 'H')
            assert_int_equal(rig_ask_number(&rig->redis, "UNLINK %s", key), 1);
        rig_ask(&rig->redis, changes[i], key, "\0", (size_t)1);
        struct job_id id = submit_one(rig, front, "m");
        rig_wait(rig, &told.wakes);
        assert_int_equal(told.handed, 0);
        assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
        assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 1);
        rig_close(rig, child);
        rig_close(rig, front);
    }
}

static void a_child_that_is_gone_is_passed_over(void **state)
{
    struct rig *rig = *state;
    struct told gone, told;
    struct queue *front = rig_queue(rig, "front"), *first = new_child(rig, &gone),
                 *child = new_child(rig, &told);

    stand(rig, first, "m", 5, 64);
    rig_run_ms(rig, 3);
    stand(rig, child, "m", 5, 64);
    rig_close(rig, first);
    assert_int_equal(idle_count(rig), 2);
    (void)submit_one(rig, front, "m");
    rig_wait(rig, &told.handed);
    assert_int_equal(idle_count(rig), 0);
    rig_close(rig, child);
    /* And where nobody is left, the job waits. */
    struct job_id id = submit_one(rig, front, "m");
    assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
    rig_close(rig, front);
}

static void a_claim_stands_for_a_moment(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);
    char key[32];

    stand(rig, child, "m", 5, 64);
    snprintf(key, sizeof(key), "{0}:st:%s", queue_self_id(child));
    long long left = rig_ask_number(&rig->redis, "PTTL %s", key);
    assert_in_range(left, 1, STANDING_MS);
    assert_int_equal(rig_ask_number(&rig->redis, "PEXPIRE %s 0", key), 1);
    struct job_id id = submit_one(rig, front, "m");
    rig_wait(rig, &told.wakes);
    assert_int_equal(told.handed, 0);
    assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* A later claim takes its place, whatever becomes of that. */
static void a_later_claim_ends_it(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    stand(rig, child, "m", 5, 64);
    assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 0); /* wants a wake only */
    assert_int_equal(is_standing(rig, child), 0);
    (void)submit_one(rig, front, "m");
    rig_wait(rig, &told.wakes);
    assert_int_equal(told.handed, 0);
    rig_close(rig, child);
    rig_close(rig, front);
}

static void a_paused_route_is_not_handed_out(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    stand(rig, child, "m", 5, 64);
    queue_pause_route(front, slice_of("m"), true, on_withdrawn, &told);
    rig_wait(rig, &told.withdrawn);
    struct job_id id = submit_one(rig, front, "m");
    rig_run_ms(rig, 50);
    assert_int_equal(told.handed, 0);
    assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
    rig_close(rig, child);
    rig_close(rig, front);
}

static void who_withdraws_is_given_nothing(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);
    struct job job = rig_job(front, "m");
    struct queue_submission one = {.job = &job, .weight = 1};

    /* All that was handed before comes before the answer: submit first, and ask at once. */
    stand(rig, child, "m", 5, 64);
    queue_submit(front, &one, on_submit, NULL);
    while (idle_count(rig) == 1)
        uv_run(&rig->loop, UV_RUN_NOWAIT);
    told.handed = 0;
    queue_withdraw(child, on_withdrawn, &told);
    rig_wait(rig, &told.withdrawn);
    assert_int_equal(told.count, 1);

    stand(rig, child, "m", 5, 64);
    told.withdrawn = 0;
    queue_withdraw(child, on_withdrawn, &told);
    rig_wait(rig, &told.withdrawn);
    struct job_id id = submit_one(rig, front, "m");
    rig_run_ms(rig, 50);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.wakes, 0);
    assert_int_equal(rig_state(rig, front, &id), JOB_QUEUED);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* Also those whose bodies are still being read. */
static void who_withdraws_waits_for_what_was_handed(void **state)
{
    static char body[1 << 20];
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    memset(body, 'b', sizeof(body));
    for (unsigned round = 1; round <= 20; round++) {
        struct job job = rig_job(front, "m");
        struct queue_submission one = {.job = &job, .weight = 1};

        job.payload = (struct slice){body, sizeof(body)};
        stand(rig, child, "m", 64, 64);
        queue_submit(front, &one, on_submit, NULL);
        while (idle_count(rig) == 1)
            uv_run(&rig->loop, UV_RUN_NOWAIT);
        told.withdrawn = 0;
        queue_withdraw(child, on_withdrawn, &told);
        rig_wait(rig, &told.withdrawn);
        assert_int_equal(told.count, round);
        assert_int_equal(told.sizes[round - 1], sizeof(body));
    }
    rig_close(rig, child);
    rig_close(rig, front);
}

/* ---- what goes back ----------------------------------------------------------------- */

static void wait_queued(struct rig *rig, struct queue *front, const struct job_id *id)
{
    for (int i = 0; i < 500 && rig_state(rig, front, id) != JOB_QUEUED; i++)
        rig_run_ms(rig, 10);
    assert_int_equal(rig_state(rig, front, id), JOB_QUEUED);
}

/* Nobody here takes it: it is not kept until its lease lapses. */
static void what_nobody_takes_goes_back(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);
    const struct queue_worker_events deaf = {.on_wake = on_wake, .arg = &told};
    struct job job;

    queue_on_worker_events(child, &deaf);
    stand(rig, child, "m", 5, 64);
    struct job_id id = submit_one(rig, front, "m");
    wait_queued(rig, front, &id);
    assert_int_equal(rig_get(rig, front, &id, &job), 0);
    assert_int_equal(job.crashes, 0);
    assert_int_equal(job.claim, 1);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* Read so late that the lease may be over: we slept, and so did the message. */
static void what_comes_too_late_goes_back(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front");

    rig->options.lease_ms = 300;
    struct queue *child = new_child(rig, &told);
    rig->options.lease_ms = 15000;
    stand(rig, child, "m", 5, 64);
    rig_run_ms(rig, 400); /* nobody renews what is not there: the claim grows old */
    struct job_id id = submit_one(rig, front, "m");
    wait_queued(rig, front, &id);
    assert_int_equal(told.handed, 0);
    rig_close(rig, child);
    rig_close(rig, front);
}

static void kill_subscription(struct rig *rig, const char *name)
{
    const char *list = rig_ask(&rig->redis, "CLIENT LIST TYPE pubsub");
    const char *line = strstr(list, name);
    long long id = 0;

    assert_non_null(line);
    while (line > list && line[-1] != '\n')
        line--;
    assert_int_equal(sscanf(line, "id=%lld", &id), 1);
    assert_int_equal(rig_ask_number(&rig->redis, "CLIENT KILL ID %lld", id), 1);
}

/* The message went down with its connection: the next claim is told, and nothing is counted. */
static void what_never_came_is_recovered(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);
    redisContext *other = redisConnectUnix(rig->redis.socket);
    struct job job;

    /* Redis sees somebody listen, to the end. */
    assert_non_null(other);
    freeReplyObject(redisCommand(other, "SUBSCRIBE pk:c:%s", queue_self_id(child)));
    stand(rig, child, "m", 5, 64);
    kill_subscription(rig, "child");
    struct job_id id = submit_one(rig, front, "m");
    assert_int_equal(rig_state(rig, front, &id), JOB_RUNNING);
    rig_wait_ready(rig, child, true);
    assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 0);
    wait_queued(rig, front, &id);
    assert_int_equal(told.handed, 0);
    assert_int_equal(rig_get(rig, front, &id, &job), 0);
    assert_int_equal(job.crashes, 0);
    assert_int_equal(rig_claim(rig, child, "m", 5, false)->count, 1);
    /* What did come is not recovered. */
    rig_wait_ready(rig, child, true);
    stand(rig, child, "m", 5, 64);
    id = submit_one(rig, front, "m");
    rig_wait(rig, &told.handed);
    stand(rig, child, "m", 5, 64);
    rig_run_ms(rig, 2500);
    assert_int_equal(rig_state(rig, front, &id), JOB_RUNNING);
    redisFree(other);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* So many claims went out since that nobody knows whether it came: the job may well run here. */
static void what_may_have_come_is_not_recovered(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);

    stand(rig, child, "m", 5, 64);
    struct job_id id = submit_one(rig, front, "m");
    rig_wait(rig, &told.handed);
    for (uint8_t i = 0; i < QUEUE_STANDING_MAX; i++)
        queue_stand_note(child, (const uint8_t[JOB_TOKEN_SIZE]){i, 1}, 0);
    stand(rig, child, "m", 5, 64);
    rig_run_ms(rig, 2500);
    assert_int_equal(rig_state(rig, front, &id), JOB_RUNNING);
    rig_close(rig, child);
    rig_close(rig, front);
}

/* Somebody with rights on our channel, or a later version, says what we do not understand. */
static void other_messages_are_left_alone(void **state)
{
    struct rig *rig = *state;
    struct told told;
    struct queue *front = rig_queue(rig, "front"), *child = new_child(rig, &told);
    static const char *const bodies[] = {
        "j", "jx", "j0123456789012345678901234567", "jaaaaaaaabbbbbbbb1234567x", "k", ""};

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        assert_int_equal(
            rig_ask_number(&rig->redis, "PUBLISH pk:c:%s %s", queue_self_id(child), bodies[i]), 1);
    /* Our id, and a job that is not there, or cannot be. */
    static const char *const ids[] = {"0001f2z0h8v6k3mqa9c7d5e1r4t2w0xnpb",
                                      "zz01f2z0h8v6k3mqa9c7d5e1r4t2w0xnpb"};
    for (int i = 0; i < 2; i++)
        assert_int_equal(rig_ask_number(&rig->redis, "PUBLISH pk:c:%s j%saaaaaaaa1234567%s%b",
                                        queue_self_id(child), queue_self_id(child), ids[i], "\0",
                                        (size_t)2),
                         1);
    rig_run_ms(rig, 50);
    assert_int_equal(told.handed, 0);
    assert_int_equal(queue_lease_age_ms(child), 0);
    rig_close(rig, child);
    rig_close(rig, front);
}

int main(void)
{
#define IN_RIG(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)
    const struct CMUnitTest tests[] = {
        IN_RIG(an_idle_child_is_handed_the_job),
        IN_RIG(what_is_handed_has_a_lease_that_is_renewed),
        IN_RIG(no_more_is_handed_than_was_asked_for),
        IN_RIG(large_bodies_are_fetched),
        IN_RIG(a_cancel_after_it_is_heard),
        IN_RIG(a_claim_of_another_route_is_woken),
        IN_RIG(the_rest_of_a_submit_wakes_the_next_child),
        IN_RIG(a_claim_that_cannot_be_read_is_woken),
        IN_RIG(a_child_that_is_gone_is_passed_over),
        IN_RIG(a_claim_stands_for_a_moment),
        IN_RIG(a_later_claim_ends_it),
        IN_RIG(a_paused_route_is_not_handed_out),
        IN_RIG(who_withdraws_is_given_nothing),
        IN_RIG(who_withdraws_waits_for_what_was_handed),
        IN_RIG(what_nobody_takes_goes_back),
        IN_RIG(what_comes_too_late_goes_back),
        IN_RIG(what_never_came_is_recovered),
        IN_RIG(what_may_have_come_is_not_recovered),
        IN_RIG(other_messages_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
