/* Growth, the maximum, failure that leaves things as they were, and giving the bytes away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/error.h"

static void test_zeroed_is_empty(void **state)
{
    struct buf buf = {0};
    size_t size = 7;
    (void)state;

    assert_int_equal(buf_append(&buf, "", 0), 0);
    assert_string_equal(buf.data, "");
    assert_int_equal(buf_append_char(&buf, 'x'), ERR_TOO_BIG);
    assert_null(buf_take(&buf, &size));
    assert_int_equal(size, 0);
    buf_deinit(&buf);
    buf_deinit(&buf);
}

static void test_grows_up_to_the_maximum(void **state)
{
    struct buf buf;
    (void)state;

    buf_init(&buf, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf_append_char(&buf, (char)('a' + i % 26)), 0);
        assert_int_equal(buf.data[buf.size], 0);
    }
    assert_true(buf.capacity <= 1001);
    assert_int_equal(buf_append_char(&buf, 'x'), ERR_TOO_BIG);
    assert_int_equal(buf.size, 1000);
    assert_int_equal(strlen(buf.data), 1000);
    assert_int_equal(buf_append(&buf, "", 0), 0);
    buf_deinit(&buf);
    assert_int_equal(buf.size_max, 1000);
    assert_null(buf.data);
}

static void test_reserve_does_not_wrap(void **state)
{
    struct buf buf = {.size_max = SIZE_MAX};
    (void)state;

    assert_int_equal(buf_reserve(&buf, SIZE_MAX), ERR_TOO_BIG);
    assert_int_equal(buf_append_text(&buf, "abc"), 0);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX), ERR_TOO_BIG);
    assert_int_equal(buf_reserve(&buf, SIZE_MAX - 3), ERR_TOO_BIG);
    assert_string_equal(buf.data, "abc");
    assert_int_equal(buf_reserve(&buf, 5000), 0);
    assert_true(buf.capacity >= 5004);
    assert_string_equal(buf.data, "abc");
    buf_deinit(&buf);
}

static void test_printf(void **state)
{
    struct buf buf = {.size_max = 200};
    char longer[150];
    (void)state;

    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(buf_printf(&buf, "%d-%s", 42, "x"), 0);
    assert_string_equal(buf.data, "42-x");
    assert_int_equal(buf_printf(&buf, "[%s]", longer), 0);
    assert_int_equal(buf.size, 4 + 151);
    assert_int_equal(buf_printf(&buf, "[%s]", longer), ERR_TOO_BIG);
    assert_int_equal(buf.size, 155);
    assert_int_equal(strlen(buf.data), 155);
    assert_int_equal(buf.data[154], ']');
    buf_deinit(&buf);
}

static void test_a_lowered_maximum_counts(void **state)
{
    struct buf buf = {.size_max = 100};
    (void)state;

    assert_int_equal(buf_append_text(&buf, "12345678"), 0);
    buf.size_max = 10;
    assert_int_equal(buf_printf(&buf, "abc"), ERR_TOO_BIG);
    assert_string_equal(buf.data, "12345678");
    assert_int_equal(buf_printf(&buf, "ab"), 0);
    buf.size_max = 5;
    assert_int_equal(buf_append_char(&buf, 'x'), ERR_TOO_BIG);
    assert_int_equal(buf_printf(&buf, "%s", ""), ERR_TOO_BIG);
    assert_string_equal(buf.data, "12345678ab");
    buf_deinit(&buf);
}

static void test_consume_and_clear(void **state)
{
    struct buf buf = {.size_max = 100};
    (void)state;

    buf_clear(&buf);
    buf_consume(&buf, 0);
    assert_int_equal(buf_append_text(&buf, "hello world"), 0);
    buf_consume(&buf, 6);
    assert_string_equal(buf.data, "world");
    buf_consume(&buf, 5);
    assert_string_equal(buf.data, "");
    assert_int_equal(buf_append_text(&buf, "again"), 0);
    buf_clear(&buf);
    assert_int_equal(buf.size, 0);
    assert_string_equal(buf.data, "");
    buf_deinit(&buf);
}

static void test_take_moves_the_bytes(void **state)
{
    struct buf buf = {.size_max = 100};
    size_t size = 0;
    (void)state;

    assert_int_equal(buf_append(&buf, "a\0b", 3), 0);
    char *bytes = buf_take(&buf, &size);
    assert_int_equal(size, 3);
    assert_memory_equal(bytes, "a\0b", 4);
    assert_null(buf.data);
    assert_int_equal(buf.size_max, 100);
    free(bytes);
    assert_int_equal(buf_append_char(&buf, 'x'), 0);
    buf_clear(&buf);
    assert_null(buf_take(&buf, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_is_empty),
        cmocka_unit_test(test_grows_up_to_the_maximum),
        cmocka_unit_test(test_reserve_does_not_wrap),
        cmocka_unit_test(test_printf),
        cmocka_unit_test(test_a_lowered_maximum_counts),
        cmocka_unit_test(test_consume_and_clear),
        cmocka_unit_test(test_take_moves_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
