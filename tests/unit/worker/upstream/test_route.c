#include "worker/upstream/route.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"

enum { COUNT = 4 };

struct fixture {
    struct settings settings;
    struct settings_upstream upstreams[COUNT];
    struct settings_alias aliases[2];
    struct router *router;
    bool is_open[COUNT];
    unsigned room[COUNT];
    unsigned in_flight[COUNT];
};

static bool gate_is_open(unsigned upstream, void *arg)
{
    return ((struct fixture *)arg)->is_open[upstream];
}

static unsigned gate_room(unsigned upstream, void *arg)
{
    return ((struct fixture *)arg)->room[upstream];
}

static unsigned gate_in_flight(unsigned upstream, void *arg)
{
    return ((struct fixture *)arg)->in_flight[upstream];
}

/* a and b serve "m" in tier 0; c takes "m*" there; d takes everything, in tier 1. */
static int open_fixture(void **state)
{
    static char m[] = "m", only_a[] = "only-a", m_any[] = "m*", x_z[] = "x?z", any[] = "*";
    static char *exact[] = {m, only_a};
    static char *glob[] = {m_any, x_z};
    static char *all[] = {any};
    static char name_a[] = "a", name_b[] = "b", name_c[] = "c", name_d[] = "d";
    static char from[] = "default", to[] = "m", nowhere[] = "nowhere", none[] = "none";
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    fixture->upstreams[0] =
        (struct settings_upstream){.name = name_a, .models = exact, .models_count = 2, .weight = 1};
    fixture->upstreams[1] =
        (struct settings_upstream){.name = name_b, .models = exact, .models_count = 1, .weight = 3};
    fixture->upstreams[2] =
        (struct settings_upstream){.name = name_c, .models = glob, .models_count = 2, .weight = 1};
    fixture->upstreams[3] = (struct settings_upstream){
        .name = name_d, .models = all, .models_count = 1, .weight = 1, .tier = 1};
    fixture->aliases[0] = (struct settings_alias){.from = from, .to = to};
    fixture->aliases[1] = (struct settings_alias){.from = none, .to = nowhere};
    fixture->settings.upstreams = fixture->upstreams;
    fixture->settings.upstreams_count = COUNT;
    fixture->settings.aliases = fixture->aliases;
    fixture->settings.aliases_count = 2;
    assert_int_equal(router_create(&fixture->settings, &fixture->router), 0);
    for (int i = 0; i < COUNT; i++) {
        fixture->is_open[i] = true;
        fixture->room[i] = 10;
    }
    struct router_gate gate = {gate_is_open, gate_room, gate_in_flight, fixture};
    router_set_gate(fixture->router, &gate);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;
    router_destroy(fixture->router);
    free(fixture);
    return 0;
}

static char pick(struct fixture *fixture, const char *route, uint64_t tried)
{
    unsigned upstream = 99;
    int status = router_pick(fixture->router, slice_of(route), tried, &upstream);
    if (status == 0)
        return router_upstream(fixture->router, upstream)->name[0];
    assert_int_equal(upstream, 99);
    return status == ERR_BUSY ? '!' : status == ERR_OFFLINE ? '-' : '?';
}

static unsigned room(struct fixture *fixture, const char *route)
{
    return router_room(fixture->router, slice_of(route));
}

static void test_exact_names_go_before_globs(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < 10; i++)
        assert_true(strchr("ab", pick(fixture, "m", 0)));
    assert_int_equal(pick(fixture, "only-a", 0), 'a');
    assert_int_equal(pick(fixture, "mother", 0), 'c');
    assert_int_equal(pick(fixture, "xyz", 0), 'c');
    assert_int_equal(pick(fixture, "anything", 0), 'd');
    assert_int_equal(room(fixture, "m"), 20);
    assert_int_equal(room(fixture, "mother"), 10);
}

static void test_the_next_group_serves_when_no_member_is_usable(void **state)
{
    struct fixture *fixture = *state;

    router_set_health(fixture->router, 0, ROUTER_DOWN);
    assert_int_equal(pick(fixture, "m", 0), 'b');
    assert_int_equal(room(fixture, "m"), 10);
    fixture->is_open[1] = false;
    assert_int_equal(pick(fixture, "m", 0), 'c');
    struct slice paused = slice_of("c");
    router_set_paused(fixture->router, &paused, 1);
    assert_true(router_is_paused(fixture->router, 2));
    assert_int_equal(pick(fixture, "m", 0), 'd');
    router_set_health(fixture->router, 3, ROUTER_DOWN);
    assert_int_equal(pick(fixture, "m", 0), '-');
    assert_int_equal(room(fixture, "m"), 0);
    assert_true(router_knows(fixture->router, slice_of("m")));
    /* One comes back. */
    router_set_paused(fixture->router, NULL, 0);
    assert_int_equal(pick(fixture, "m", 0), 'c');
    router_set_health(fixture->router, 0, ROUTER_UP);
    assert_int_equal(pick(fixture, "m", 0), 'a');
}

/* Being full is no failure: the job waits for its own tier. */
static void test_full_upstreams_do_not_spill_over(void **state)
{
    struct fixture *fixture = *state;

    fixture->room[0] = 0;
    assert_int_equal(pick(fixture, "m", 0), 'b');
    fixture->room[1] = 0;
    assert_int_equal(pick(fixture, "m", 0), '!');
    assert_int_equal(room(fixture, "m"), 0);
    fixture->room[0] = UINT_MAX;
    fixture->room[1] = UINT_MAX;
    assert_int_equal(room(fixture, "m"), UINT_MAX);
}

static void test_tried_upstreams_are_left_out(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(pick(fixture, "m", 1), 'b');
    assert_int_equal(pick(fixture, "m", 3), 'c');
    assert_int_equal(pick(fixture, "m", 7), 'd');
    assert_int_equal(pick(fixture, "m", 15), '-');
}

static void test_calls_are_shared_by_weight(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < 40; i++)
        fixture->in_flight[pick(fixture, "m", 0) - 'a']++;
    assert_int_equal(fixture->in_flight[0], 10);
    assert_int_equal(fixture->in_flight[1], 30);
}

static void test_equals_take_turns(void **state)
{
    struct fixture *fixture = *state;
    int picks[COUNT] = {0};

    fixture->upstreams[1].weight = 1;
    for (int i = 0; i < 10; i++)
        picks[pick(fixture, "m", 0) - 'a']++;
    assert_int_equal(picks[0], 5);
    assert_int_equal(picks[1], 5);
}

static void test_aliases(void **state)
{
    struct fixture *fixture = *state;

    assert_true(slice_is(router_upstream_model(fixture->router, slice_of("default")), "m"));
    assert_true(slice_is(router_upstream_model(fixture->router, slice_of("m")), "m"));
    assert_true(strchr("ab", pick(fixture, "default", 0)));
    assert_int_equal(room(fixture, "default"), 20);
}

static void test_unknown_routes(void **state)
{
    struct fixture *fixture = *state;

    fixture->settings.upstreams_count = 3; /* without the one that takes everything */
    router_destroy(fixture->router);
    assert_int_equal(router_create(&fixture->settings, &fixture->router), 0);
    assert_int_equal(pick(fixture, "zzz", 0), '?');
    assert_int_equal(pick(fixture, "none", 0), '?');
    assert_int_equal(room(fixture, "zzz"), 0);
    assert_false(router_knows(fixture->router, slice_of("zzz")));
    assert_int_equal(room(fixture, "m"), UINT_MAX); /* no gate: no limit */
}

static void test_learned_models(void **state)
{
    struct fixture *fixture = *state;
    char long_name[400];
    struct slice names[] = {slice_of("z-model"), slice_of("a-model"), slice_of("z-model"),
                            slice_of(""),        {long_name, 300},    {"\xff", 1}};

    memset(long_name, 'n', sizeof long_name);
    fixture->upstreams[0].models_count = 0;
    router_set_health(fixture->router, 3, ROUTER_DOWN);
    assert_int_equal(pick(fixture, "z-model", 0), '-');
    assert_int_equal(router_set_models(fixture->router, 0, names, 6), 1);
    assert_int_equal(router_set_models(fixture->router, 0, names, 6), 0);
    assert_int_equal(router_models_count(fixture->router, 0), 2);
    assert_string_equal(router_model(fixture->router, 0, 0), "a-model");
    assert_int_equal(pick(fixture, "z-model", 0), 'a');
    assert_int_equal(pick(fixture, "a-model", 0), 'a');
    assert_int_equal(pick(fixture, "a-mode", 0), '-');
    assert_int_equal(pick(fixture, "a-model2", 0), '-');
    assert_int_equal(router_set_models(fixture->router, 0, names, 1), 1);
    assert_int_equal(pick(fixture, "a-model", 0), '-');
    /* Whose models stand in the settings learns none. */
    assert_int_equal(router_set_models(fixture->router, 1, names, 2), 0);
    assert_int_equal(router_models_count(fixture->router, 1), 1);
}

static void on_route(struct slice route, void *arg)
{
    char *text = arg;
    strncat(text, route.bytes, route.size);
    strncat(text, " ", 2);
}

static void test_every_route_is_named_once(void **state)
{
    struct fixture *fixture = *state;
    char text[256] = "";

    router_each_route(fixture->router, on_route, text);
    /* "none" leads to "nowhere", which the upstream that takes everything serves. */
    assert_string_equal(text, "m only-a default none ");
}

#define TEST(function_) cmocka_unit_test_setup_teardown(function_, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exact_names_go_before_globs),
        TEST(test_the_next_group_serves_when_no_member_is_usable),
        TEST(test_full_upstreams_do_not_spill_over),
        TEST(test_tried_upstreams_are_left_out),
        TEST(test_calls_are_shared_by_weight),
        TEST(test_equals_take_turns),
        TEST(test_aliases),
        TEST(test_unknown_routes),
        TEST(test_learned_models),
        TEST(test_every_route_is_named_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
