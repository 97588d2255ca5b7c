/* The table against a plain array, its limits, and removal while walking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/table.h"

enum { KEYS = 500 };

static struct table *create(size_t count_max)
{
    struct table *table = NULL;
    assert_int_equal(table_create(count_max, &table), 0);
    return table;
}

static void test_basics(void **state)
{
    struct table *table = create(2);
    char value[3];
    char longer[TABLE_KEY_MAX + 1] = "";
    (void)state;

    assert_null(table_find(table, "a", 1));
    assert_int_equal(table_put(table, "a", 1, &value[0]), 0);
    assert_int_equal(table_put(table, "a", 1, &value[1]), ERR_CONFLICT);
    assert_ptr_equal(table_find(table, "a", 1), &value[0]);
    assert_null(table_find(table, "ab", 2));
    assert_null(table_find(table, "", 0));
    assert_int_equal(table_put(table, "", 0, &value[1]), 0); /* an empty key is a key */
    assert_ptr_equal(table_find(table, "", 0), &value[1]);
    assert_int_equal(table_put(table, "c", 1, &value[2]), ERR_FULL);
    assert_int_equal(table_put(table, "a", 1, &value[2]), ERR_CONFLICT);
    assert_int_equal(table_put(table, longer, sizeof longer, &value[2]), ERR_TOO_BIG);
    assert_null(table_find(table, longer, sizeof longer));
    assert_null(table_take(table, longer, sizeof longer));
    assert_ptr_equal(table_take(table, "a", 1), &value[0]);
    assert_null(table_take(table, "a", 1));
    assert_int_equal(table_put(table, longer, TABLE_KEY_MAX, &value[2]), 0);
    assert_ptr_equal(table_find(table, longer, TABLE_KEY_MAX), &value[2]);
    assert_null(table_find(table, longer, TABLE_KEY_MAX - 1));
    assert_int_equal(table_count(table), 2);
    table_destroy(table);
    table_destroy(NULL);
}

/* Random puts and takes; after each the table knows exactly what the array knows. */
static void test_against_an_array(void **state)
{
    static char values[KEYS];
    bool is_in[KEYS] = {false};
    struct table *table = create(KEYS / 2);
    size_t count = 0;
    (void)state;

    for (int step = 0; step < 50000; step++) {
        size_t i = digest_random_u64() % KEYS;
        bool puts = digest_random_u64() % 2 == 0;
        if (puts) {
            int expected = is_in[i] ? ERR_CONFLICT : count == KEYS / 2 ? ERR_FULL : 0;
            assert_int_equal(table_put(table, &i, sizeof i, &values[i]), expected);
            count += expected == 0;
            is_in[i] = is_in[i] || expected == 0;
        } else {
            assert_ptr_equal(table_take(table, &i, sizeof i), is_in[i] ? &values[i] : NULL);
            count -= is_in[i];
            is_in[i] = false;
        }
        assert_int_equal(table_count(table), count);
        size_t other = digest_random_u64() % KEYS;
        assert_ptr_equal(table_find(table, &other, sizeof other),
                         is_in[other] ? &values[other] : NULL);
    }
    for (size_t i = 0; i < KEYS; i++)
        assert_ptr_equal(table_find(table, &i, sizeof i), is_in[i] ? &values[i] : NULL);
    table_destroy(table);
}

struct visit {
    struct table *table;
    int sum;
    bool takes;
};

static void on_entry(const void *key, size_t key_size, void *value, void *arg)
{
    struct visit *visit = arg;
    visit->sum += *(int *)value;
    if (visit->takes)
        assert_ptr_equal(table_take(visit->table, key, key_size), value);
}

static void test_each_may_take(void **state)
{
    struct table *table = create(100);
    struct visit visit = {.table = table};
    int values[100];
    char key[32];
    (void)state;

    for (int i = 0; i < 100; i++) {
        values[i] = i;
        int size = snprintf(key, sizeof key, "job_%d", i);
        assert_int_equal(table_put(table, key, (size_t)size, &values[i]), 0);
    }
    table_each(table, on_entry, &visit);
    assert_int_equal(visit.sum, 4950);
    visit.takes = true;
    table_each(table, on_entry, &visit);
    assert_int_equal(visit.sum, 9900);
    assert_int_equal(table_count(table), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(table_put(table, &i, sizeof i, &values[i]), 0);
    assert_int_equal(table_put(table, "x", 1, &values[0]), ERR_FULL);
    table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basics),
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_each_may_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
