/* Whose turn it is: tenants, bands, quotas, hints; how the queue is shown: lists, census, fleet. */
#include "queue_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/job/job_codec.h"
#include "common/queue/queue_fleet.h"

struct many {
    unsigned left, kept, full;
    const char *reason;
};

static void on_many(const struct queue_submit_result *result, void *arg)
{
    struct many *many = arg;

    many->left--;
    many->kept += result->status == 0;
    many->full += result->status == ERR_FULL;
    if (result->status == ERR_FULL)
        many->reason = result->reason;
}

static void wait_many(struct rig *rig, const struct many *many)
{
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; many->left > 0 && clock_mono_ms() < until;)
        uv_run(&rig->loop, UV_RUN_ONCE);
    assert_int_equal(many->left, 0);
}

static struct job tenant_job(const struct queue *queue, const char *route, const char *tenant,
                             enum job_priority priority)
{
    struct job job = rig_job(queue, route);

    job.tenant_name = slice_of(tenant);
    job_tenant_hash(job.tenant_name, job.tenant);
    job.priority = priority;
    return job;
}

static void submit_many(struct rig *rig, struct queue *queue, const char *route, const char *tenant,
                        enum job_priority priority, unsigned weight, unsigned count)
{
    struct many many = {.left = count};

    for (unsigned i = 0; i < count; i++) {
        struct job job = tenant_job(queue, route, tenant, priority);
        struct queue_submission submission = {.job = &job, .weight = weight};

        queue_submit(queue, &submission, on_many, &many);
        if (i % 64 == 63)
            uv_run(&rig->loop, UV_RUN_NOWAIT); /* so that they go to several shards */
    }
    wait_many(rig, &many);
    assert_int_equal(many.kept, count);
}

/* Claims count jobs one call of `room` after the other; counts those of a tenant and of a priority.
 */
static unsigned claim_some(struct rig *rig, struct queue *queue, unsigned count, unsigned room,
                           const char *tenant, enum job_priority priority)
{
    unsigned found = 0;
    char hash[JOB_TENANT_SIZE] = "";

    if (tenant)
        job_tenant_hash(slice_of(tenant), hash);
    for (unsigned done = 0; done < count;) {
        const struct rig_claimed *claimed = rig_claim(rig, queue, "m", room, false);

        assert_int_equal(claimed->status, 0);
        if (claimed->count == 0)
            break;
        for (unsigned i = 0; i < claimed->count; i++)
            found += tenant ? memcmp(claimed->jobs[i].tenant, hash, JOB_TENANT_SIZE) == 0
                            : claimed->jobs[i].priority == priority;
        done += claimed->count;
    }
    return found;
}

static void tenants_take_turns(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;

    rig->options.shards = 4;
    queue = rig_queue(rig, "test");
    submit_many(rig, queue, "m", "whale", JOB_NORMAL, 1, 2000);
    submit_many(rig, queue, "m", "small", JOB_NORMAL, 1, 200);
    /* In the first 480 claims the small tenant has half, up to what it has in each shard. */
    unsigned small = claim_some(rig, queue, 480, 16, "small", JOB_NORMAL);
    print_message("small tenant: %u of 200 in the first 480\n", small);
    assert_true(small >= 180);
    rig_close(rig, queue);
}

static void weights_share(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;

    rig->options.shards = 1;
    queue = rig_queue(rig, "test");
    submit_many(rig, queue, "m", "one", JOB_NORMAL, 1, 1000);
    submit_many(rig, queue, "m", "three", JOB_NORMAL, 3, 1000);
    unsigned three = claim_some(rig, queue, 800, 16, "three", JOB_NORMAL);
    print_message("weight 3 of 4: %u of 800\n", three);
    assert_in_range(three, 560, 640);
    rig_close(rig, queue);
}

static void a_new_lane_has_no_hoarded_credit(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;

    rig->options.shards = 1;
    queue = rig_queue(rig, "test");
    submit_many(rig, queue, "m", "steady", JOB_NORMAL, 1, 1000);
    (void)claim_some(rig, queue, 400, 16, "steady", JOB_NORMAL);
    submit_many(rig, queue, "m", "late", JOB_NORMAL, 1, 400);
    unsigned late = claim_some(rig, queue, 200, 16, "late", JOB_NORMAL);
    print_message("late tenant: %u of 200\n", late);
    assert_in_range(late, 90, 112);
    rig_close(rig, queue);
}

static void low_keeps_a_twentieth(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;

    rig->options.shards = 1;
    queue = rig_queue(rig, "test");
    submit_many(rig, queue, "m", "a", JOB_LOW, 1, 200);
    submit_many(rig, queue, "m", "a", JOB_NORMAL, 1, 1000);
    submit_many(rig, queue, "m", "a", JOB_HIGH, 1, 1000);
    unsigned low = claim_some(rig, queue, 1000, 10, NULL, JOB_LOW);
    print_message("low: %u of 1000\n", low);
    assert_in_range(low, 45, 55);
    /* High goes first all the same: what is left of the first thousand claims is high. */
    assert_in_range(claim_some(rig, queue, 50, 10, NULL, JOB_HIGH), 45, 50);
    rig_close(rig, queue);
}

static void high_goes_first_over_all_shards(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");

    submit_many(rig, queue, "m", "a", JOB_NORMAL, 1, 640);
    submit_many(rig, queue, "m", "b", JOB_HIGH, 1, 3);
    assert_int_equal(claim_some(rig, queue, 3, 3, NULL, JOB_HIGH), 3);
    rig_close(rig, queue);
}

static void routes_do_not_block_each_other(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");

    submit_many(rig, queue, "full", "a", JOB_HIGH, 1, 500);
    submit_many(rig, queue, "m", "a", JOB_LOW, 1, 5);
    const struct rig_claimed *claimed = rig_claim(rig, queue, "m", 5, false);
    assert_int_equal(claimed->count, 5);
    assert_false(claimed->has_more);
    assert_int_equal(claimed->waiting_count, 1);
    assert_string_equal(claimed->waiting[0], "full");
    rig_close(rig, queue);
}

/* Where only one job fits, it is of the route asked for first: who asks lets them take turns. */
static void the_route_asked_for_first_goes_first(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct queue_room rooms[2];
    struct queue_claim_request request = {
        .rooms = rooms, .rooms_count = 2, .count_max = 1, .wants_wake = true};

    submit_many(rig, queue, "a", "a", JOB_NORMAL, 1, 2000);
    submit_many(rig, queue, "z", "a", JOB_NORMAL, 1, 2000);
    for (int i = 0; i < 40; i++) {
        rooms[i % 2] = (struct queue_room){slice_of("a"), 5};
        rooms[1 - i % 2] = (struct queue_room){slice_of("z"), 5};
        const struct rig_claimed *claimed = rig_claim_request(rig, queue, &request);
        assert_int_equal(claimed->count, 1);
        assert_int_equal(claimed->routes[0][0], i % 2 == 0 ? 'a' : 'z');
    }
    rig_close(rig, queue);
}

/* A claim that fills its child tells of other routes all the same: else one that nobody has named
 * would wait until the others are through. */
static void who_is_full_hears_of_other_routes(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct queue_room room = {slice_of("a"), 5};
    struct queue_claim_request request = {
        .rooms = &room, .rooms_count = 1, .count_max = 1, .wants_wake = true};

    submit_many(rig, queue, "a", "a", JOB_NORMAL, 1, 100);
    submit_many(rig, queue, "z", "a", JOB_HIGH, 1, 1);
    const struct rig_claimed *claimed = rig_claim_request(rig, queue, &request);
    assert_int_equal(claimed->count, 1);
    assert_true(claimed->has_more);
    assert_int_equal(claimed->waiting_count, 1);
    assert_string_equal(claimed->waiting[0], "z");
    rig_close(rig, queue);
}

/* The same few routes in every shard leave room to hear of one that waits in a single shard, and
 * routes asked for are found behind more of others than are told of. */
static void hints_name_every_route_once(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    char name[16];

    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof(name), "o%d", i);
        submit_many(rig, queue, name, "a", JOB_NORMAL, 1, 2000);
    }
    submit_many(rig, queue, "single", "a", JOB_LOW, 1, 1);
    for (int i = 0; i < 16; i++)
        assert_int_equal(rig_claim(rig, queue, "", 0, false)->waiting_count, 7);
    for (int i = 6; i < 40; i++) {
        snprintf(name, sizeof(name), "o%d", i);
        submit_many(rig, queue, name, "a", JOB_NORMAL, 1, 70);
    }
    submit_many(rig, queue, "far", "a", JOB_LOW, 1, 1);
    const struct rig_claimed *claimed = rig_claim(rig, queue, "far", 5, false);
    assert_int_equal(claimed->count, 1);
    assert_int_equal(claimed->waiting_count, LIMIT_HINT_ROUTES);
    rig_close(rig, queue);
}

static void more_waiting_routes_than_one_look_shows(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    char name[16];

    rig->options.shards = 1;
    queue = rig_queue(rig, "test");
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "a%d", i);
        submit_many(rig, queue, name, "a", JOB_HIGH, 1, 1);
    }
    submit_many(rig, queue, "z", "a", JOB_LOW, 1, 1);
    const struct rig_claimed *claimed = rig_claim(rig, queue, "z", 5, false);
    assert_int_equal(claimed->count, 1);
    assert_int_equal(claimed->waiting_count, LIMIT_HINT_ROUTES);
    rig_close(rig, queue);
}

static void limits_refuse_and_leave_nothing(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    struct many many = {.left = 12};
    char name[16];

    rig->options.routes_max = 8;
    queue = rig_queue(rig, "test");
    for (int i = 0; i < 12; i++) {
        struct job job;

        snprintf(name, sizeof(name), "r%d", i);
        job = rig_job(queue, name);
        struct queue_submission submission = {.job = &job, .weight = 1};
        queue_submit(queue, &submission, on_many, &many);
        wait_many(rig, &(struct many){.left = 0});
        rig_run_ms(rig, 1); /* a flush of its own: another shard */
    }
    wait_many(rig, &many);
    assert_int_equal(many.kept, 8);
    assert_int_equal(many.full, 4);
    assert_string_equal(many.reason, "too_many_models");
    assert_int_equal(
        rig_ask_number(&rig->redis, "EVAL %s 0", "return #redis.call('KEYS','{*}:j:*')"), 8);
    /* A route that has been served makes room for another one. */
    assert_int_equal(rig_claim(rig, queue, "r0", 1, false)->count, 1);
    struct job job = rig_job(queue, "fresh");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    job = rig_job(queue, "fresher");
    assert_int_equal(rig_submit(rig, queue, &job).status, ERR_FULL);
    rig_close(rig, queue);

    rig->options.routes_max = 0;
    rig->options.jobs_max = 10;
    queue = rig_queue(rig, "test");
    many = (struct many){.left = 5};
    for (int i = 0; i < 5; i++) {
        struct queue_submission submission = {.job = &job, .weight = 1};
        job = rig_job(queue, "m");
        queue_submit(queue, &submission, on_many, &many);
    }
    wait_many(rig, &many);
    assert_int_equal(many.kept, 1); /* nine are there: eight and the fresh one */
    assert_string_equal(many.reason, "queue_full");
    rig_close(rig, queue);
}

/* ---- lists, census, fleet ----------------------------------------------------------- */

struct listed {
    struct job_id ids[1000];
    unsigned count;
    struct job_id next;
    int status;
    int is_done;
};

static void on_ids(int status, const struct job_id *ids, unsigned count, const struct job_id *next,
                   void *arg)
{
    struct listed *listed = arg;

    listed->status = status;
    listed->count = count;
    if (count > 0)
        memcpy(listed->ids, ids, count * sizeof(ids[0]));
    listed->next = *next;
    listed->is_done = 1;
}

static void list(struct rig *rig, struct queue *queue, const char *tenant,
                 const struct job_id *after, unsigned limit, struct listed *listed)
{
    struct queue_list_query query = {.tenant = tenant, .after = *after, .limit = limit};

    listed->is_done = 0;
    queue_list(queue, &query, on_ids, listed);
    rig_wait(rig, &listed->is_done);
    assert_int_equal(listed->status, 0);
}

static void lists_are_newest_first_and_complete(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    static struct listed listed;
    struct many many = {.left = 300};
    struct job_id after = {.core = ""}, previous;
    unsigned total = 0;
    char acme[JOB_TENANT_SIZE];
    int64_t now = queue_now_ms(queue);

    job_tenant_hash(slice_of("acme"), acme);
    for (int i = 0; i < 300; i++) {
        struct job job = rig_job(queue, "m");
        struct queue_submission submission = {.job = &job, .weight = 1};
        uint8_t random[15];

        /* Over five hours, in order of time as they come. */
        digest_random(random, sizeof(random));
        job.created_at_ms = now - (300 - i) / 50 * 50 * 60000; /* fifty in the same moment */
        job.id = job_id_make(queue_shard_for_next(queue), job.created_at_ms, random);
        queue_submit(queue, &submission, on_many, &many);
        if (i % 7 == 0)
            uv_run(&rig->loop, UV_RUN_NOWAIT);
    }
    wait_many(rig, &many);
    assert_int_equal(many.kept, 300);
    submit_many(rig, queue, "m", "other", JOB_NORMAL, 1, 20);
    for (int page = 0; page < 100; page++) {
        list(rig, queue, acme, &after, 17, &listed);
        for (unsigned i = 0; i < listed.count; i++) {
            if (total > 0)
                assert_true(job_id_at_ms(&listed.ids[i]) <= job_id_at_ms(&previous));
            previous = listed.ids[i];
            total++;
        }
        after = listed.next;
        if (!after.core[0])
            break;
    }
    assert_int_equal(total, 300);
    after.core[0] = '\0';
    list(rig, queue, NULL, &after, 1000, &listed);
    assert_int_equal(listed.count, 320);
    job_tenant_hash(slice_of("nobody"), acme);
    list(rig, queue, acme, &after, 10, &listed);
    assert_int_equal(listed.count, 0);
    assert_int_equal(listed.next.core[0], '\0');
    rig_close(rig, queue);
}

/* Brokers are not equally fast and clocks are set: ids come in any order, and are listed in theirs.
 */
static void lists_find_what_came_late(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    static struct listed listed;
    struct many many = {.left = 1200};
    struct job_id after = {.core = ""}, previous;
    unsigned total = 0;
    int64_t now = queue_now_ms(queue);

    for (int i = 0; i < 1200; i++) {
        struct job job = rig_job(queue, "m");
        struct queue_submission submission = {.job = &job, .weight = 1};
        uint8_t random[15];

        digest_random(random, sizeof(random));
        job.created_at_ms =
            now - (i % 3 == 0 ? (int64_t)(digest_random_u64() % 7200000) : 1200 - i);
        job.id = job_id_make(queue_shard_for_next(queue), job.created_at_ms, random);
        queue_submit(queue, &submission, on_many, &many);
        uv_run(&rig->loop, UV_RUN_NOWAIT);
    }
    wait_many(rig, &many);
    assert_int_equal(many.kept, 1200);
    do {
        list(rig, queue, NULL, &after, 17, &listed);
        for (unsigned i = 0; i < listed.count; i++, total++) {
            if (total > 0)
                assert_true(job_id_at_ms(&listed.ids[i]) <= job_id_at_ms(&previous));
            previous = listed.ids[i];
        }
        after = listed.next;
    } while (after.core[0]);
    assert_int_equal(total, 1200);
    rig_close(rig, queue);
}

struct counted {
    int64_t waiting, running, scheduled, live, submitted, succeeded;
    unsigned routes, lanes;
    bool is_paused;
    int is_done;
};

static void on_census(const struct queue_census *census, void *arg)
{
    struct counted *counted = arg;

    assert_int_equal(census->status, 0);
    *counted = (struct counted){.running = census->running,
                                .scheduled = census->scheduled,
                                .live = census->live_jobs,
                                .routes = census->routes_count};
    for (unsigned i = 0; i < census->routes_count; i++) {
        if (!slice_is(census->routes[i].name, "m"))
            continue;
        counted->waiting = census->routes[i].waiting;
        counted->submitted = census->routes[i].submitted;
        counted->succeeded = census->routes[i].succeeded;
        counted->lanes = census->routes[i].lanes_count;
        counted->is_paused = census->routes[i].is_paused;
    }
    counted->is_done = 1;
}

static void on_status(int status, void *arg)
{
    assert_int_equal(status, 0);
    *(int *)arg = 1;
}

static void take_census(struct rig *rig, struct queue *queue, struct counted *counted)
{
    counted->is_done = 0;
    queue_take_census(queue, on_census, counted);
    rig_wait(rig, &counted->is_done);
}

static void census_and_pause(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct counted counted;
    char name[16];
    int is_done = 0;

    submit_many(rig, queue, "m", "a", JOB_NORMAL, 1, 200);
    submit_many(rig, queue, "m", "b", JOB_LOW, 1, 100);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "r%d", i);
        submit_many(rig, queue, name, "a", JOB_NORMAL, 1, 1);
    }
    const struct rig_claimed *claimed = rig_claim(rig, queue, "m", 2, false);
    assert_int_equal(claimed->count, 2);
    struct job running = claimed->jobs[0];
    assert_int_equal(rig_finish(rig, queue, &running, "{}"), 0);
    take_census(rig, queue, &counted);
    assert_int_equal(counted.routes, 301);
    assert_int_equal(counted.waiting, 298);
    assert_int_equal(counted.running, 1);
    assert_int_equal(counted.submitted, 300);
    assert_int_equal(counted.succeeded, 1);
    assert_int_equal(counted.live, 599);
    assert_false(counted.is_paused);

    queue_pause_route(queue, slice_of("m"), true, on_status, &is_done);
    rig_wait(rig, &is_done);
    assert_int_equal(rig_claim(rig, queue, "m", 5, false)->count, 0);
    submit_many(rig, queue, "m", "a", JOB_HIGH, 1, 3);
    assert_int_equal(rig_claim(rig, queue, "m", 5, false)->count, 0);
    take_census(rig, queue, &counted);
    assert_true(counted.is_paused);
    assert_int_equal(rig_inspect(rig, queue), 0);
    is_done = 0;
    queue_pause_route(queue, slice_of("m"), false, on_status, &is_done);
    rig_wait(rig, &is_done);
    assert_int_equal(rig_claim(rig, queue, "m", 5, false)->count, 5);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

struct documents {
    unsigned count;
    char first[64];
    int is_done;
};

static void on_documents(int status, const struct slice *names, unsigned count, void *arg)
{
    struct documents *documents = arg;

    assert_int_equal(status, 0);
    documents->count = count;
    if (count > 0)
        snprintf(documents->first, sizeof(documents->first), "%.*s", (int)names[0].size,
                 names[0].bytes);
    documents->is_done = 1;
}

static void processes_publish_themselves(void **state)
{
    struct rig *rig = *state;
    struct queue *one = rig_queue(rig, "one"), *two = rig_queue(rig, "two");
    struct documents documents = {.is_done = 0};
    int is_done = 0;

    queue_publish(one, "worker", slice_of("{\"n\":1}"), 60000, on_status, &is_done);
    rig_wait(rig, &is_done);
    is_done = 0;
    queue_publish(two, "worker", slice_of("{\"n\":2}"), 1500, on_status, &is_done);
    rig_wait(rig, &is_done);
    queue_fleet(one, "worker", on_documents, &documents);
    rig_wait(rig, &documents.is_done);
    assert_int_equal(documents.count, 2);
    for (int i = 0; i < 500 && documents.count > 1; i++) {
        rig_run_ms(rig, 20);
        documents.is_done = 0;
        queue_fleet(one, "worker", on_documents, &documents);
        rig_wait(rig, &documents.is_done);
    }
    assert_int_equal(documents.count, 1);
    assert_string_equal(documents.first, "{\"n\":1}");
    is_done = 0;
    queue_unpublish(one, "worker", on_status, &is_done);
    rig_wait(rig, &is_done);
    documents.is_done = 0;
    queue_fleet(two, "worker", on_documents, &documents);
    rig_wait(rig, &documents.is_done);
    assert_int_equal(documents.count, 0);

    is_done = 0;
    queue_pause_upstream(one, slice_of("gpu0"), true, on_status, &is_done);
    rig_wait(rig, &is_done);
    documents.is_done = 0;
    queue_paused_upstreams(two, on_documents, &documents);
    rig_wait(rig, &documents.is_done);
    assert_int_equal(documents.count, 1);
    assert_string_equal(documents.first, "gpu0");
    rig_close(rig, one);
    rig_close(rig, two);
}

struct used {
    int64_t jobs, bytes;
    int is_done;
};

static void on_usage(int status, int64_t jobs, int64_t bytes, void *arg)
{
    struct used *used = arg;

    assert_int_equal(status, 0);
    *used = (struct used){jobs, bytes, 1};
}

static void usage_of_a_tenant(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct used used = {.is_done = 0};
    char hash[JOB_TENANT_SIZE];

    submit_many(rig, queue, "m", "a", JOB_NORMAL, 1, 70);
    job_tenant_hash(slice_of("a"), hash);
    queue_tenant_usage(queue, hash, on_usage, &used);
    rig_wait(rig, &used.is_done);
    assert_int_equal(used.jobs, 70);
    assert_true(used.bytes > 70 * JOB_HEADER_SIZE);
    rig_close(rig, queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tenants_take_turns, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(weights_share, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_new_lane_has_no_hoarded_credit, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(low_keeps_a_twentieth, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(high_goes_first_over_all_shards, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(routes_do_not_block_each_other, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(the_route_asked_for_first_goes_first, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(who_is_full_hears_of_other_routes, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(hints_name_every_route_once, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(more_waiting_routes_than_one_look_shows, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(limits_refuse_and_leave_nothing, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(lists_are_newest_first_and_complete, rig_set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(lists_find_what_came_late, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(census_and_pause, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(processes_publish_themselves, rig_set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(usage_of_a_tenant, rig_set_up, rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
