/* Which routes a claim asks for: hot ones first, each in its turn, and what is forgotten when there
 * are too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/run/route_list.h"

/* "full*" has no room. */
static unsigned room(struct slice name, void *arg)
{
    unsigned *calls = arg;
    (*calls)++;
    return name.size >= 4 && memcmp(name.bytes, "full", 4) == 0 ? 0 : 3;
}

struct picked {
    struct route_choice choices[8];
    unsigned count;
    unsigned hot_count;
    unsigned calls;
};

static struct picked pick(struct route_list *list, unsigned count_max)
{
    struct picked picked = {0};
    picked.count =
        route_list_select(list, room, &picked.calls, picked.choices, count_max, &picked.hot_count);
    return picked;
}

static void test_empty(void **state)
{
    (void)state;
    struct route_list list = {0};
    struct picked picked = pick(&list, 8);
    assert_int_equal(picked.count, 0);
    assert_false(route_list_has_hot(&list));
    route_list_settle(&list);
    route_list_deinit(&list);
}

static void test_hot_or_else_cold(void **state)
{
    (void)state;
    struct route_list list = {0};
    route_list_keep(&list, slice_of("a"));
    route_list_keep(&list, slice_of("full-b"));
    route_list_heat(&list, slice_of("c"));
    route_list_heat(&list, slice_of("c"));
    route_list_heat(&list, slice_of("full-d"));

    struct picked picked = pick(&list, 8);
    assert_int_equal(picked.count, 1);
    assert_int_equal(picked.hot_count, 1);
    assert_true(slice_is(picked.choices[0].name, "c"));
    assert_int_equal(picked.choices[0].room, 3);

    /* c gave nothing: it is cold. full-d was not asked: it stays hot. */
    route_list_settle(&list);
    picked = pick(&list, 8);
    assert_int_equal(picked.hot_count, 0);
    assert_int_equal(picked.count, 2);
    assert_true(route_list_has_hot(&list));
    route_list_deinit(&list);
}

static void test_heated_since_stays_hot(void **state)
{
    (void)state;
    struct route_list list = {0};
    route_list_heat(&list, slice_of("a"));
    route_list_heat(&list, slice_of("b"));
    (void)pick(&list, 8);
    route_list_heat(&list, slice_of("b"));
    route_list_settle(&list);
    struct picked picked = pick(&list, 8);
    assert_int_equal(picked.hot_count, 1);
    assert_true(slice_is(picked.choices[0].name, "b"));
    route_list_deinit(&list);
}

static void test_every_route_gets_its_turn(void **state)
{
    (void)state;
    struct route_list list = {0};
    char name[8];
    unsigned seen[20] = {0};
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        route_list_heat(&list, slice_of(name));
    }
    for (int round = 0; round < 20; round++) {
        struct picked picked = pick(&list, 4);
        assert_int_equal(picked.count, 4);
        for (unsigned i = 0; i < picked.count; i++) {
            unsigned at = (unsigned)(picked.choices[i].name.bytes[0] - '0');
            if (picked.choices[i].name.size == 2)
                at = at * 10 + (unsigned)(picked.choices[i].name.bytes[1] - '0');
            seen[at]++;
        }
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(seen[i], 4);
    route_list_deinit(&list);
}

static void test_bounds(void **state)
{
    (void)state;
    struct route_list list = {0};
    char name[LIMIT_ROUTE_BYTES + 2];

    memset(name, 'n', sizeof name);
    route_list_heat(&list, (struct slice){.bytes = name, .size = LIMIT_ROUTE_BYTES + 1});
    route_list_heat(&list, (struct slice){.bytes = name, .size = 0});
    assert_int_equal(list.count, 0);
    route_list_heat(&list, (struct slice){.bytes = name, .size = LIMIT_ROUTE_BYTES});
    assert_int_equal(list.count, 1);

    route_list_keep(&list, slice_of("kept"));
    for (int i = 0; i < ROUTE_LIST_MAX * 2; i++) {
        (void)snprintf(name, sizeof name, "learned-%d", i);
        route_list_heat(&list, slice_of(name));
    }
    assert_int_equal(list.count, ROUTE_LIST_MAX);
    assert_int_equal(list.hot_count, ROUTE_LIST_MAX - 1);
    bool has_kept = false;
    for (unsigned i = 0; i < list.count; i++)
        has_kept =
            has_kept || (list.rows[i]->size == 4 && memcmp(list.rows[i]->name, "kept", 4) == 0);
    assert_true(has_kept);

    /* When even what is kept fills the list, more names are left to the hints. */
    for (int i = 0; i < ROUTE_LIST_MAX * 2; i++) {
        (void)snprintf(name, sizeof name, "kept-%d", i);
        route_list_keep(&list, slice_of(name));
    }
    assert_int_equal(list.count, ROUTE_LIST_MAX);
    assert_int_equal(list.hot_count, 0);
    route_list_heat(&list, slice_of("one-more"));
    assert_int_equal(list.hot_count, 0);
    route_list_unkeep_all(&list);
    route_list_heat(&list, slice_of("one-more"));
    assert_int_equal(list.hot_count, 1);
    route_list_deinit(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_hot_or_else_cold),
        cmocka_unit_test(test_heated_since_stays_hot),
        cmocka_unit_test(test_every_route_gets_its_turn),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
