/* Why a job waits, where it stands, and what the fleet says of itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/census_copy.h"
#include "broker/api/queue_view.h"
#include "broker/api/why.h"
#include "common/base/error.h"
#include "common/base/jdoc.h"

#define UPSTREAM(name, state, models, in_flight, concurrency)                                   \
    "{\"name\":\"" name "\",\"kind\":\"openai\",\"models\":" models ",\"in_flight\":" in_flight \
    ",\"concurrency\":" concurrency ",\"tier\":0,\"weight\":1,\"state\":\"" state               \
    "\",\"calls\":10,\"errors\":1,\"latency_ms\":5.0}"
#define WORKER(id, upstreams)                                                                   \
    "{\"id\":\"" id "\",\"kind\":\"worker\",\"host\":\"h\",\"pid\":1,\"upstreams\":[" upstreams \
    "],\"metrics\":\"secret\"}"

static struct fleet *fleet_of(const char *const *documents, unsigned count)
{
    struct fleet *fleet = fleet_create();

    assert_non_null(fleet);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(fleet_add_worker(fleet, slice_of(documents[i])), 0);
    fleet_finish(fleet, NULL, 0);
    return fleet;
}

static struct job queued_job(const char *route)
{
    return (struct job){.route = slice_of(route),
                        .priority = JOB_NORMAL,
                        .tenant = {'a', 'a', 'a', 'a', 'a', 'a'},
                        .created_at_ms = 5000};
}

static struct job job_in(enum job_state state)
{
    struct job job = queued_job("m");

    if (state == JOB_SCHEDULED)
        job_enter(&job, 9000);
    else if (state != JOB_QUEUED)
        assert_int_equal(job_set_state(&job, JOB_RUNNING), 0);
    if (job.state != state)
        assert_int_equal(job_set_state(&job, state), 0);
    return job;
}

static void assert_why(const struct job *job, const struct queue_census *census,
                       const struct fleet *fleet, const char *wanted)
{
    struct job_view view = {.position = 99};

    why_explain(job, census, fleet, 6000, &view);
    assert_string_equal(view.why, wanted);
}

static void test_why_of_states(void **state)
{
    struct job job = job_in(JOB_SCHEDULED);

    (void)state;
    assert_why(&job, NULL, NULL, "waiting for its due time, in 3.0 s");
    job.attempt = 1;
    assert_why(&job, NULL, NULL, "retrying in 3.0 s");
    job.attempts_count = 1;
    job.attempts[0] =
        (struct job_attempt){.error_code = slice_of("upstream_overloaded"), .http_status = 503};
    assert_why(&job, NULL, NULL, "retrying in 3.0 s after upstream_overloaded (503)");
    job.attempts[0].http_status = 0;
    job.attempts[0].error_code = slice_of("upstream_timeout");
    job.due_at_ms = 100;
    assert_why(&job, NULL, NULL, "retrying in 0.0 s after upstream_timeout");

    job = job_in(JOB_RUNNING);
    assert_why(&job, NULL, NULL, "running");
    job.upstream = slice_of("gpu0");
    assert_why(&job, NULL, NULL, "running at upstream gpu0");
    for (unsigned i = JOB_SUCCEEDED; i <= JOB_FAILED; i++) {
        job = job_in((enum job_state)i);
        assert_why(&job, NULL, NULL, "");
    }
    job = queued_job("m");
    assert_why(&job, NULL, NULL, "waiting its turn");
}

static void test_why_of_pools(void **state)
{
    static const char *const full[] = {
        WORKER("a", UPSTREAM("gpu0", "up", "[\"m\"]", "32", "32")),
        WORKER("b", UPSTREAM("gpu0", "up", "[\"m\"]", "32", "32")),
    };
    static const char *const room[] = {
        WORKER("a", UPSTREAM("gpu0", "up", "[\"m\"]", "32",
                             "32") "," UPSTREAM("gpu1", "up", "[\"m*\"]", "1", "32")),
    };
    static const char *const down[] = {
        WORKER("a", UPSTREAM("gpu0", "down", "[\"m\"]", "0", "32")),
    };
    static const char *const unknown[] = {
        WORKER("a", UPSTREAM("gpu0", "unknown", "[]", "0", "32")),
    };
    const struct job job = queued_job("m");
    const struct job other = queued_job("other");
    struct fleet *fleet = fleet_of(full, 2);

    (void)state;
    assert_why(&job, NULL, fleet, "waiting for upstream gpu0: 64 of 64 calls in flight");
    assert_why(&other, NULL, fleet, "no worker serves this model");
    fleet_destroy(fleet);

    fleet = fleet_of(room, 1);
    assert_why(&job, NULL, fleet, "waiting its turn");
    fleet_destroy(fleet);

    fleet = fleet_of(down, 1);
    assert_why(&job, NULL, fleet, "waiting for upstream gpu0: it is down");
    fleet_destroy(fleet);

    /* Nobody knows yet what gpu0 serves: nothing is claimed. */
    fleet = fleet_of(unknown, 1);
    assert_why(&job, NULL, fleet, "waiting its turn");
    fleet_destroy(fleet);

    fleet = fleet_of(NULL, 0);
    assert_why(&job, NULL, fleet, "no worker is running");
    fleet_destroy(fleet);

    fleet = fleet_create();
    const struct slice paused[] = {slice_of("gpu0"), slice_of("gone")};
    assert_int_equal(fleet_add_worker(fleet, slice_of(full[0])), 0);
    fleet_finish(fleet, paused, 2);
    assert_why(&job, NULL, fleet, "waiting for upstream gpu0: it is paused");
    assert_string_equal(fleet_state(fleet_find(fleet, slice_of("gone"))), "paused");
    fleet_destroy(fleet);
}

static void test_paused_route(void **state)
{
    const struct queue_route route = {.name = slice_of("m"), .is_paused = true};
    const struct queue_census census = {.routes = &route, .routes_count = 1};
    const struct job job = queued_job("m");

    (void)state;
    assert_why(&job, &census, NULL, "paused");
}

/* ---- position -------------------------------------------------------------------------------- */

static struct queue_lane lane(enum job_priority priority, char tenant, int64_t depth, int64_t head,
                              int64_t tail)
{
    struct queue_lane made = {
        .priority = priority, .depth = depth, .head_at_ms = head, .tail_at_ms = tail};

    memset(made.tenant, tenant, sizeof(made.tenant));
    return made;
}

static int64_t position_of(const struct job *job, const struct queue_lane *lanes, unsigned count)
{
    const struct queue_route route = {.lanes = lanes, .lanes_count = count};

    return why_position(job, &route);
}

static void test_position(void **state)
{
    struct job job = queued_job("m");
    const struct queue_lane own[] = {lane(JOB_NORMAL, 'a', 100, 1000, 9000)};
    const struct queue_lane bands[] = {lane(JOB_HIGH, 'b', 7, 1, 2), lane(JOB_LOW, 'a', 50, 1, 2),
                                       lane(JOB_NORMAL, 'a', 1, 5000, 5000)};
    const struct queue_lane others[] = {lane(JOB_NORMAL, 'a', 10, 1000, 2000),
                                        lane(JOB_NORMAL, 'b', 3, 1, 2),
                                        lane(JOB_NORMAL, 'c', 1000, 1, 2)};

    (void)state;
    assert_int_equal(position_of(&job, NULL, 0), 1);
    assert_in_range(position_of(&job, own, 1), 49, 52); /* in the middle of the lane's time */
    assert_int_equal(position_of(&job, bands, 3), 8);   /* better bands, and nobody else */
    /* All ten older ones of its own, and as many of others as take turns with them. */
    assert_int_equal(position_of(&job, others, 3), 21);
    job.created_at_ms = 500; /* older than the lane's first */
    assert_int_equal(position_of(&job, own, 1), 1);
    job.created_at_ms = 999999;
    assert_int_equal(position_of(&job, own, 1), 101);
}

/* ---- fleet ----------------------------------------------------------------------------------- */

static void test_fleet_adds_up(void **state)
{
    static const char *const documents[] = {
        WORKER("a", UPSTREAM("gpu1", "up", "[\"x\",\"m\"]", "1",
                             "8") "," UPSTREAM("gpu0", "down", "[\"m\"]", "2", "8")),
        WORKER("b", UPSTREAM("gpu1", "down", "[\"m\",\"y*\"]", "3", "8")),
    };
    struct fleet *fleet = fleet_of(documents, 2);

    (void)state;
    assert_int_equal(fleet->workers, 2);
    assert_int_equal(fleet->upstreams_count, 2);
    assert_string_equal(fleet->upstreams[0].name, "gpu0"); /* sorted */
    const struct fleet_upstream *upstream = fleet_find(fleet, slice_of("gpu1"));
    assert_int_equal(upstream->in_flight, 4);
    assert_int_equal(upstream->concurrency, 16);
    assert_int_equal(upstream->calls, 20);
    assert_int_equal(upstream->models_count, 3);
    assert_true(fleet_serves(upstream, slice_of("yes")));
    assert_false(fleet_serves(upstream, slice_of("no")));
    assert_string_equal(fleet_state(upstream), "up"); /* as long as one worker reaches it */
    assert_string_equal(fleet_state(fleet_find(fleet, slice_of("gpu0"))), "down");
    assert_null(fleet_find(fleet, slice_of("gpu2")));
    assert_null(strstr(fleet->texts.data, "secret"));
    assert_non_null(strstr(fleet->texts.data, "\n{\"id\":\"b\""));
    fleet_destroy(fleet);
}

static void test_strange_documents(void **state)
{
    static const char *const refused[] = {"", "[]", "5", "{", "nonsense"};
    static const char *const odd[] = {
        "{}",
        "{\"upstreams\":5}",
        "{\"upstreams\":[5,null,{},{\"name\":5},{\"name\":\"\"}]}",
        "{\"upstreams\":[{\"name\":\"a\",\"models\":5,\"in_flight\":-1,\"state\":7}]}",
        "{\"upstreams\":[{\"name\":\"a\",\"models\":[1,\"\",null]}]}",
    };
    struct fleet *fleet = fleet_create();

    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_int_equal(fleet_add_worker(fleet, slice_of(refused[i])), ERR_INVALID);
    assert_int_equal(fleet->workers, 0);
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        assert_int_equal(fleet_add_worker(fleet, slice_of(odd[i])), 0);
    fleet_finish(fleet, NULL, 0);
    assert_int_equal(fleet->upstreams_count, 1);
    assert_int_equal(fleet->upstreams[0].models_count, 0);
    assert_false(fleet->is_complete);
    fleet_destroy(fleet);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static void test_queue_view(void **state)
{
    const struct queue_lane lanes[] = {lane(JOB_HIGH, 'a', 2, 4000, 4500),
                                       lane(JOB_LOW, 'b', 3, 1000, 2000)};
    const struct queue_route route = {.name = slice_of("org/m"),
                                      .waiting = 5,
                                      .oldest_at_ms = 1000,
                                      .submitted = 20,
                                      .succeeded = 8,
                                      .failed = 1,
                                      .lanes = lanes,
                                      .lanes_count = 2};
    struct queue_route earlier = route;
    const struct queue_census before = {.routes = &earlier, .routes_count = 1};
    struct queue_view_options options = {.now_ms = 6000, .before = &before, .before_ms = 2000};
    struct buf out = {.size_max = 8192};

    (void)state;
    earlier.submitted = 10;
    earlier.succeeded = 7;
    assert_int_equal(queue_view_put(&out, &route, &options), 0);
    assert_string_equal(
        out.data,
        "{\"object\":\"queue\",\"route\":\"org/m\",\"paused\":false,\"depth\":5,"
        "\"depth_by_priority\":{\"high\":2,\"normal\":0,\"low\":3},\"oldest_age_ms\":5000,"
        "\"in_flight\":6,\"rates\":{\"submitted_per_second\":5.00,\"finished_per_second\":0.50},"
        "\"totals\":{\"submitted\":20,\"succeeded\":8,\"failed\":1,\"cancelled\":0,\"expired\":0,"
        "\"retried\":0}}");

    options.tenant_hash = "aaaaaa";
    buf_clear(&out);
    assert_true(queue_view_is_visible(&route, &options));
    assert_int_equal(queue_view_put(&out, &route, &options), 0);
    assert_string_equal(out.data,
                        "{\"object\":\"queue\",\"route\":\"org/m\",\"paused\":false,\"depth\":2,"
                        "\"depth_by_priority\":{\"high\":2,\"normal\":0,\"low\":0},"
                        "\"oldest_age_ms\":2000}");
    options.tenant_hash = "cccccc";
    assert_false(queue_view_is_visible(&route, &options));
    buf_deinit(&out);
}

static void test_census_copy(void **state)
{
    struct queue_lane lanes[] = {lane(JOB_HIGH, 'a', 2, 1, 2), lane(JOB_LOW, 'b', 3, 1, 2)};
    char names[] = "onetwo";
    const struct queue_route routes[] = {
        {.name = {names, 3}, .lanes = lanes, .lanes_count = 1},
        {.name = {names + 3, 3}, .lanes = lanes, .lanes_count = 2},
    };
    const struct queue_census census = {.routes = routes, .routes_count = 2, .running = 7};
    struct census_copy *copy = census_copy_create(&census);

    (void)state;
    assert_non_null(copy);
    memset(lanes, 0, sizeof(lanes));
    memset(names, 0, sizeof(names) - 1);
    assert_int_equal(copy->census.running, 7);
    assert_ptr_equal(why_find_route(&copy->census, slice_of("two")), &copy->census.routes[1]);
    assert_null(why_find_route(&copy->census, slice_of("three")));
    assert_int_equal(copy->census.routes[1].lanes[1].depth, 3);
    census_copy_destroy(copy);
    census_copy_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_why_of_states), cmocka_unit_test(test_why_of_pools),
        cmocka_unit_test(test_paused_route),  cmocka_unit_test(test_position),
        cmocka_unit_test(test_fleet_adds_up), cmocka_unit_test(test_strange_documents),
        cmocka_unit_test(test_queue_view),    cmocka_unit_test(test_census_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
