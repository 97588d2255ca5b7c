#include "worker/upstream/name_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct name_entry *expect(struct name_cache *cache, const char *host, int64_t now_ms,
                                 enum name_answer answer, bool must_ask)
{
    struct name_entry *entry = NULL;
    bool asks;

    assert_int_equal(name_cache_find(cache, host, now_ms, &entry, &asks), answer);
    assert_int_equal(asks, must_ask);
    return entry;
}

static void test_a_name_is_asked_for_once(void **state)
{
    struct name_cache cache = {.count = 0};
    (void)state;

    struct name_entry *entry = expect(&cache, "host", 1000, NAME_WAIT, true);
    assert_ptr_equal(expect(&cache, "HOST", 1100, NAME_WAIT, false), entry);
    name_cache_store(entry, "10.0.0.1", 1200);
    assert_ptr_equal(expect(&cache, "host", 1200 + NAME_FRESH_MS - 1, NAME_READY, false), entry);
    assert_string_equal(entry->addresses, "10.0.0.1");
    name_cache_deinit(&cache);
}

static void test_old_answers_serve_while_asking_and_when_nobody_answers(void **state)
{
    struct name_cache cache = {.count = 0};
    (void)state;

    struct name_entry *entry = expect(&cache, "host", 0, NAME_WAIT, true);
    name_cache_store(entry, "10.0.0.1", 0);
    (void)expect(&cache, "host", NAME_FRESH_MS, NAME_READY, true);
    (void)expect(&cache, "host", NAME_FRESH_MS + 1, NAME_READY, false); /* one look-up runs */
    name_cache_store(entry, NULL, NAME_FRESH_MS + 5000);
    assert_string_equal(entry->addresses, "10.0.0.1");
    (void)expect(&cache, "host", NAME_FRESH_MS + 6000, NAME_READY, false);
    (void)expect(&cache, "host", 2 * NAME_FRESH_MS + 5000, NAME_READY, true);
    name_cache_store(entry, "10.0.0.2", 2 * NAME_FRESH_MS + 5000);
    assert_string_equal(entry->addresses, "10.0.0.2");
    name_cache_deinit(&cache);
}

static void test_a_name_that_is_not_there_rests(void **state)
{
    struct name_cache cache = {.count = 0};
    (void)state;

    struct name_entry *entry = expect(&cache, "host", 0, NAME_WAIT, true);
    name_cache_store(entry, NULL, 100);
    (void)expect(&cache, "host", 100 + NAME_NEGATIVE_MS - 1, NAME_NOT_FOUND, false);
    (void)expect(&cache, "host", 100 + NAME_NEGATIVE_MS, NAME_WAIT, true);
    name_cache_deinit(&cache);
}

static void test_the_cache_is_bounded(void **state)
{
    struct name_cache cache = {.count = 0};
    struct name_entry *first = NULL;
    char host[32];
    (void)state;

    for (int i = 0; i < NAME_COUNT_MAX; i++) {
        (void)snprintf(host, sizeof host, "host%d", i);
        struct name_entry *entry = expect(&cache, host, i, NAME_WAIT, true);
        first = first ? first : entry;
    }
    struct name_entry *entry = NULL;
    bool must_ask;
    assert_int_equal(name_cache_find(&cache, "more", 0, &entry, &must_ask), NAME_FULL);
    assert_false(must_ask);
    /* As soon as one is asked out, its place is free for another. */
    name_cache_store(first, "10.0.0.1", 500);
    assert_ptr_equal(expect(&cache, "more", 500, NAME_WAIT, true), first);
    assert_string_equal(first->addresses, "");
    name_cache_deinit(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_is_asked_for_once),
        cmocka_unit_test(test_old_answers_serve_while_asking_and_when_nobody_answers),
        cmocka_unit_test(test_a_name_that_is_not_there_rests),
        cmocka_unit_test(test_the_cache_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
