/* Ids outlive their objects without naming others; the pool is never larger than asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/pool.h"

struct thing {
    long double widest; /* wants the strictest alignment */
    int value;
};

static struct pool *create(size_t count_max)
{
    struct pool *pool = NULL;
    assert_int_equal(pool_create(count_max, sizeof(struct thing), &pool), 0);
    return pool;
}

static void test_take_find_release(void **state)
{
    struct pool *pool = create(2);
    uint64_t a = 0;
    uint64_t b = 0;
    uint64_t c = 0;
    (void)state;

    assert_null(pool_find(pool, 0));
    struct thing *first = pool_take(pool, &a);
    struct thing *second = pool_take(pool, &b);
    assert_non_null(first);
    assert_non_null(second);
    assert_true(a != 0 && b != 0 && a != b);
    assert_int_equal((uintptr_t)second % _Alignof(struct thing), 0);
    assert_null(pool_take(pool, &c));
    assert_int_equal(pool_count(pool), 2);
    first->value = 41;
    assert_ptr_equal(pool_find(pool, a), first);

    assert_true(pool_release(pool, a));
    assert_false(pool_release(pool, a));
    assert_null(pool_find(pool, a));
    struct thing *third = pool_take(pool, &c);
    assert_ptr_equal(third, first);    /* the same memory, */
    assert_int_equal(third->value, 0); /* emptied, */
    assert_true(c != a);               /* under another id */
    assert_null(pool_find(pool, a));
    assert_ptr_equal(pool_find(pool, b), second);
    assert_int_equal(pool_count(pool), 2);
    assert_int_equal(pool_count_max(pool), 2);
    pool_destroy(pool);
    pool_destroy(NULL);
}

static void test_ids_that_never_were(void **state)
{
    struct pool *pool = create(4);
    uint64_t id = 0;
    (void)state;

    assert_non_null(pool_take(pool, &id));
    assert_null(pool_find(pool, id + 1));
    assert_null(pool_find(pool, id + ((uint64_t)1 << 32)));
    assert_null(pool_find(pool, id + ((uint64_t)2 << 32)));
    assert_null(pool_find(pool, UINT64_MAX));
    assert_false(pool_release(pool, UINT64_MAX));
    assert_int_equal(pool_count(pool), 1);
    pool_destroy(pool);
}

struct visit {
    struct pool *pool;
    int sum;
    bool releases;
};

static void on_object(void *object, uint64_t id, void *arg)
{
    struct visit *visit = arg;
    const struct thing *thing = object;
    visit->sum += thing->value;
    assert_ptr_equal(pool_find(visit->pool, id), object);
    if (visit->releases)
        assert_true(pool_release(visit->pool, id));
}

static void test_each_may_release(void **state)
{
    struct pool *pool = create(100);
    struct visit visit = {.pool = pool};
    uint64_t ids[100];
    (void)state;

    for (int i = 0; i < 100; i++) {
        struct thing *thing = pool_take(pool, &ids[i]);
        assert_non_null(thing);
        thing->value = i;
    }
    for (int i = 0; i < 100; i += 2)
        assert_true(pool_release(pool, ids[i]));
    pool_each(pool, on_object, &visit);
    assert_int_equal(visit.sum, 2500);
    visit.releases = true;
    pool_each(pool, on_object, &visit);
    assert_int_equal(pool_count(pool), 0);
    for (int i = 0; i < 100; i++)
        assert_non_null(pool_take(pool, &ids[i]));
    assert_null(pool_take(pool, &ids[0]));
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_find_release),
        cmocka_unit_test(test_ids_that_never_were),
        cmocka_unit_test(test_each_may_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
