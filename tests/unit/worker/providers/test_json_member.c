#include "worker/providers/json_member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"

static void expect(const char *text, const char *key, const char *value)
{
    struct slice found = {NULL, 0};
    int status = json_member_find(slice_of(text), key, &found);
    if (value) {
        assert_int_equal(status, 0);
        assert_int_equal(found.size, strlen(value));
        assert_memory_equal(found.bytes, value, found.size);
    } else {
        assert_int_equal(status, ERR_NOT_FOUND);
    }
}

static void test_members_are_found(void **state)
{
    (void)state;
    expect("{\"model\":\"m\"}", "model", "\"m\"");
    expect(" {\n \"a\" : 1 ,\t\"model\" : \"m\" } ", "model", "\"m\"");
    expect("{\"a\":{\"model\":\"no\"},\"b\":[{\"model\":\"no\"}],\"model\":\"m\"}", "model",
           "\"m\"");
    expect("{\"a\":\"\\\",\\\"model\\\":\\\"no\\\"\",\"model\":\"m\"}", "model", "\"m\"");
    expect("{\"a\":\"}]\",\"b\":[\"]\"],\"model\":7}", "model", "7");
    expect("{\"model\":null}", "model", "null");
    expect("{\"model\":[1,{\"a\":\"]\"}, 2] }", "model", "[1,{\"a\":\"]\"}, 2]");
    expect("{\"a\":-1.5e3,\"model\":true}", "model", "true");
    expect("{\"mod\\u0065l\":\"m\"}", "model", "\"m\"");
    expect("{\"model\":\"m\\\"q\\\\\"}", "model", "\"m\\\"q\\\\\"");
}

static void test_absent_members_are_not(void **state)
{
    (void)state;
    expect("{}", "model", NULL);
    expect("{\"Model\":1,\"modell\":2,\"\":3}", "model", NULL);
    expect("{\"a\":\"model\"}", "model", NULL);
    expect("{\"\\u0061\":1}", "model", NULL);
}

static void test_texts_that_are_cut_or_no_objects(void **state)
{
    static const char whole[] = "{\"a\":[1,{\"b\":\"x\\\"\"}],\"model\":\"name\"}";
    struct slice found;
    (void)state;

    for (size_t size = 0; size < sizeof whole - 2; size++) {
        char *text = malloc(size + 1); /* so that a sanitizer sees reads beyond the end */
        assert_non_null(text);
        memcpy(text, whole, size);
        int status = json_member_find((struct slice){text, size}, "model", &found);
        assert_true(status == ERR_INVALID || (status == 0 && found.size == 6));
        free(text);
    }
    assert_int_equal(json_member_find(slice_of("[1]"), "model", &found), ERR_INVALID);
    assert_int_equal(json_member_find(slice_of("null"), "model", &found), ERR_INVALID);
    assert_int_equal(json_member_find(slice_of("{\"a\" 1}"), "model", &found), ERR_INVALID);
    assert_int_equal(json_member_find(slice_of("{\"a\":}"), "model", &found), ERR_INVALID);
}

static void test_comparing_strings(void **state)
{
    (void)state;
    assert_true(json_value_is_string(slice_of("\"m\""), slice_of("m")));
    assert_true(json_value_is_string(slice_of("\"\""), slice_of("")));
    assert_false(json_value_is_string(slice_of("\"m\""), slice_of("n")));
    assert_false(json_value_is_string(slice_of("\"mm\""), slice_of("m")));
    assert_false(json_value_is_string(slice_of("1m1"), slice_of("m")));
    assert_false(json_value_is_string(slice_of("\"a\\nb\""), slice_of("a\\nb")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_are_found),
        cmocka_unit_test(test_absent_members_are_not),
        cmocka_unit_test(test_texts_that_are_cut_or_no_objects),
        cmocka_unit_test(test_comparing_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
