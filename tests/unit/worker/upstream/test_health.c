#include "worker/upstream/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "call_helper.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "worker/upstream/route.h"

struct fixture {
    struct call_fixture calls;
    struct settings settings;
    struct settings_upstream upstream;
    struct health_target target;
    struct router *router;
    struct health *health;
    size_t changes;
    bool is_stopped;
    char base_url[64];
};

static void on_change(unsigned upstream, void *arg)
{
    struct fixture *fixture = arg;
    assert_int_equal(upstream, 0);
    fixture->changes++;
}

/* Reads "m1", "m2" out of the list of the script server; what a provider does, without one. */
static int list_models(struct slice body, void (*on_model)(struct slice name, void *arg), void *arg)
{
    static const char mark[] = "\"id\":\"";
    const char *at = body.bytes;
    int count = 0;

    if (body.size < 2 || memcmp(body.bytes + body.size - 2, "]}", 2) != 0)
        return ERR_INVALID;
    while ((at = memmem(at, body.size - (size_t)(at - body.bytes), mark, sizeof mark - 1))) {
        at += sizeof mark - 1;
        on_model((struct slice){at, strcspn(at, "\"")}, arg);
        count++;
    }
    return count;
}

static void fixture_open(struct fixture *fixture, const char *health_path)
{
    static char name[] = "gpu0";

    memset(fixture, 0, sizeof *fixture);
    call_fixture_open(&fixture->calls, 8, 1 << 20);
    (void)snprintf(fixture->base_url, sizeof fixture->base_url, "http://127.0.0.1:%d/v1",
                   fixture->calls.server.port);
    fixture->upstream = (struct settings_upstream){.name = name,
                                                   .base_url = fixture->base_url,
                                                   .connect_timeout_ms = 1000,
                                                   .health = strdup(health_path)};
    fixture->settings.upstreams = &fixture->upstream;
    fixture->settings.upstreams_count = 1;
    fixture->target = (struct health_target){.models_path = "/models",
                                             .list_models = list_models,
                                             .header = slice_of("Authorization: Bearer key")};
    assert_int_equal(router_create(&fixture->settings, &fixture->router), 0);
}

static void fixture_start(struct fixture *fixture)
{
    struct health_options options = {.loop = &fixture->calls.loop,
                                     .pool = fixture->calls.pool,
                                     .router = fixture->router,
                                     .targets = &fixture->target,
                                     .on_change = on_change,
                                     .arg = fixture};
    assert_int_equal(health_start(&options, &fixture->health), 0);
}

static void on_stopped(void *arg)
{
    *(bool *)arg = true;
}

static void fixture_close(struct fixture *fixture)
{
    health_stop(fixture->health, on_stopped, &fixture->is_stopped);
    assert_false(fixture->is_stopped);
    while (!fixture->is_stopped)
        (void)uv_run(&fixture->calls.loop, UV_RUN_ONCE);
    call_fixture_close(&fixture->calls);
    router_destroy(fixture->router);
    free(fixture->upstream.health);
}

static void wait_for(struct fixture *fixture, enum router_health health, int at_most_ms)
{
    int64_t end_ms = clock_mono_ms() + at_most_ms;
    while (router_health(fixture->router, 0) != health) {
        assert_true(clock_mono_ms() < end_ms);
        (void)uv_run(&fixture->calls.loop, UV_RUN_ONCE);
    }
}

static void test_up_and_what_it_serves(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_open(&fixture, "/health");
    atomic_store(&fixture.calls.server.counts->health_status, 404); /* an answer is an answer */
    atomic_store(&fixture.calls.server.counts->models, 3);
    fixture_start(&fixture);
    assert_int_equal(router_health(fixture.router, 0), ROUTER_UNKNOWN);
    call_wait(&fixture.calls, &fixture.changes, 2, 5000);
    assert_int_equal(router_health(fixture.router, 0), ROUTER_UP);
    assert_int_equal(router_models_count(fixture.router, 0), 3);
    assert_string_equal(router_model(fixture.router, 0, 2), "m3");
    assert_int_equal(atomic_load(&fixture.calls.server.counts->requests), 2);
    fixture_close(&fixture);
}

static void test_down_and_up_again(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_open(&fixture, "/health");
    atomic_store(&fixture.calls.server.counts->health_status, 503);
    atomic_store(&fixture.calls.server.counts->models, -1); /* not JSON: nothing is learned */
    fixture_start(&fixture);
    wait_for(&fixture, ROUTER_DOWN, 3000);
    assert_int_equal(router_models_count(fixture.router, 0), 0);
    atomic_store(&fixture.calls.server.counts->health_status, 200);
    wait_for(&fixture, ROUTER_UP, 4000);
    assert_int_equal(fixture.changes, 2);
    fixture_close(&fixture);
}

static void test_a_closed_connection_is_down(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_open(&fixture, "/health");
    fixture_start(&fixture);
    wait_for(&fixture, ROUTER_DOWN, 3000);
    fixture_close(&fixture);
}

static void test_without_a_path_nothing_is_asked(void **state)
{
    static char m[] = "m";
    static char *models[] = {m};
    struct fixture fixture;
    (void)state;

    fixture_open(&fixture, "");
    fixture.upstream.models = models;
    fixture.upstream.models_count = 1;
    fixture_start(&fixture);
    for (int i = 0; i < 5; i++)
        (void)uv_run(&fixture.calls.loop, UV_RUN_NOWAIT);
    assert_int_equal(upstream_pool_in_flight(fixture.calls.pool), 0);
    assert_int_equal(router_health(fixture.router, 0), ROUTER_UNKNOWN);
    fixture_close(&fixture);
}

static void test_stopping_while_it_asks(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_open(&fixture, "/hang");
    fixture_start(&fixture);
    while (upstream_pool_in_flight(fixture.calls.pool) < 2)
        (void)uv_run(&fixture.calls.loop, UV_RUN_ONCE);
    fixture_close(&fixture);
    assert_int_equal(fixture.changes, 0);
}

static void test_no_upstreams_at_all(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_open(&fixture, "/health");
    router_destroy(fixture.router);
    fixture.settings.upstreams_count = 0;
    assert_int_equal(router_create(&fixture.settings, &fixture.router), 0);
    fixture_start(&fixture);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_up_and_what_it_serves),
        cmocka_unit_test(test_down_and_up_again),
        cmocka_unit_test(test_a_closed_connection_is_down),
        cmocka_unit_test(test_without_a_path_nothing_is_asked),
        cmocka_unit_test(test_stopping_while_it_asks),
        cmocka_unit_test(test_no_upstreams_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
