/* Answers that grow: in memory first, then in a file that is mapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/spool.h"
#include "common/base/error.h"

static void fill(struct spool *spool, unsigned lines)
{
    for (unsigned i = 0; i < lines; i++) {
        char line[32];
        int size = snprintf(line, sizeof(line), "line %u\n", i);
        assert_int_equal(spool_append(spool, line, (size_t)size), 0);
    }
}

static void assert_lines(struct slice text, unsigned lines)
{
    size_t at = 0;

    for (unsigned i = 0; i < lines; i++) {
        char line[32];
        size_t size = (size_t)snprintf(line, sizeof(line), "line %u\n", i);
        assert_true(at + size <= text.size);
        assert_memory_equal(text.bytes + at, line, size);
        at += size;
    }
    assert_int_equal(at, text.size);
}

static void test_in_memory(void **state)
{
    struct spool spool;
    struct slice text;
    void (*free_text)(void *bytes) = NULL;

    (void)state;
    spool_init(&spool, 4096);
    assert_int_equal(spool_finish(&spool, &text, &free_text), 0);
    assert_int_equal(text.size, 0);
    fill(&spool, 100);
    assert_int_equal(spool_finish(&spool, &text, &free_text), 0);
    assert_lines(text, 100);
    assert_null(free_text);
    spool_deinit(&spool);
}

/* The mapping stays good after the spool is gone. */
static void test_in_file(void **state)
{
    struct spool spool;
    struct slice text;
    void (*free_text)(void *bytes) = NULL;

    (void)state;
    spool_init(&spool, 4096);
    fill(&spool, 100000);
    assert_true(spool.fd >= 0);
    assert_true(spool.memory.capacity <= 8192);
    assert_int_equal(spool_finish(&spool, &text, &free_text), 0);
    spool_deinit(&spool);
    assert_non_null(free_text);
    assert_lines(text, 100000);
    free_text((void *)(uintptr_t)text.bytes);
}

static void test_piece_larger_than_memory(void **state)
{
    static const char big[5000];
    struct spool spool;

    (void)state;
    spool_init(&spool, 4096);
    assert_int_equal(spool_append(&spool, big, sizeof(big)), ERR_FULL);
    assert_int_equal(spool_append(&spool, big, 4000), 0);
    assert_int_equal(spool_append(&spool, big, 4000), 0);
    spool_deinit(&spool);
    spool_deinit(&spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_memory),
        cmocka_unit_test(test_in_file),
        cmocka_unit_test(test_piece_larger_than_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
