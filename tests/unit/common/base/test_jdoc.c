/* Strictness, places, slices, numbers and duplicates of JSON documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/jdoc.h"
#include "common/base/jdoc_scan.h"

/* Parses a copy of exactly `size` bytes, so that reading one too far is seen by the sanitizer. */
static int parse_bytes(const char *text, size_t size, struct error_text *why)
{
    char *copy = malloc(size > 0 ? size : 1);
    struct jdoc *doc = NULL;

    assert_non_null(copy);
    memcpy(copy, text, size);
    int status = jdoc_parse(copy, size, &doc, why);
    jdoc_destroy(doc);
    free(copy);
    return status;
}

static struct jdoc *parse(const char *text)
{
    struct jdoc *doc = NULL;
    struct error_text why = {""};
    int status = jdoc_parse(text, strlen(text), &doc, &why);
    if (status != 0)
        fail_msg("%s: %s", text, why.text);
    return doc;
}

static void test_accepts_valid_texts(void **state)
{
    static const char *const texts[] = {"null",
                                        "true",
                                        "false",
                                        "0",
                                        "-0",
                                        "-1",
                                        "1.5",
                                        "1e5",
                                        "1E+5",
                                        "1e-400",
                                        "\"\"",
                                        "[]",
                                        "{}",
                                        " { } ",
                                        "\t[1 ,\r\n2]\n",
                                        "{\"\":1}",
                                        "{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}",
                                        "\"\\u0000\\/\\b\\f\\n\\r\\t\\\"\\\\\"",
                                        "\"\\ud800\"",
                                        "\"\\ud83d\\ude00\"",
                                        "\"\xf0\x9f\x98\x80 \xc3\xa9\"",
                                        "123456789012345678901234567890",
                                        "[-9223372036854775808,18446744073709551615]",
                                        "{\"\\ud83d\\uDE00\\u00e9\":1}"};
    struct error_text why;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (parse_bytes(texts[i], strlen(texts[i]), &why) != 0)
            fail_msg("%s: %s", texts[i], why.text);
    }
}

static const struct {
    const char *text;
    const char *why;
} refused[] = {
    {"", "empty text at byte 0"},
    {"  ", "empty text at byte 2"},
    {"\xef\xbb\xbf{}", "byte order mark at byte 0"},
    {"{} x", "more text after the value at byte 3"},
    {"{}{}", "more text after the value at byte 2"},
    {"1 2", "more text after the value at byte 2"},
    {"[1,]", "a value was expected at byte 3"},
    {"[,1]", "a value was expected at byte 1"},
    {"[1 2]", "',' or ']' was expected at byte 3"},
    {"[1}", "',' or ']' was expected at byte 2"},
    {"{\"a\":1,}", "a key in quotes was expected at byte 7"},
    {"{\"a\" 1}", "':' was expected at byte 5"},
    {"{\"a\":}", "a value was expected at byte 5"},
    {"{\"a\":1]", "',' or '}' was expected at byte 6"},
    {"{a:1}", "a key in quotes was expected at byte 1"},
    {"{'a':1}", "a key in quotes was expected at byte 1"},
    {"'a'", "a value was expected at byte 0"},
    {"[", "text ends too early at byte 1"},
    {"{\"a\":", "text ends too early at byte 5"},
    {"{\"a\":1", "text ends too early at byte 6"},
    {"{\"a\"", "':' was expected at byte 4"},
    {"]", "a value was expected at byte 0"},
    {"01", "a number may not start with 0 at byte 0"},
    {"-01", "a number may not start with 0 at byte 0"},
    {"1.", "a number needs digits after its point at byte 0"},
    {".5", "a value was expected at byte 0"},
    {"-", "a number needs digits at byte 0"},
    {"+1", "a value was expected at byte 0"},
    {"1e", "a number needs digits in its exponent at byte 0"},
    {"1e+", "a number needs digits in its exponent at byte 0"},
    {"1e999999", "number out of range at byte 0"},
    {"[-1e400]", "number out of range at byte 1"},
    {"NaN", "a value was expected at byte 0"},
    {"Infinity", "a value was expected at byte 0"},
    {"-Infinity", "a number needs digits at byte 0"},
    {"nan", "a value was expected at byte 0"},
    {"tru", "a value was expected at byte 0"},
    {"True", "a value was expected at byte 0"},
    {"nul", "a value was expected at byte 0"},
    {"truer", "more text after the value at byte 4"},
    {"0x10", "more text after the value at byte 1"},
    {"[1] // c", "more text after the value at byte 4"},
    {"/* c */ 1", "a value was expected at byte 0"},
    {"\"\n\"", "control character in a string at byte 1"},
    {"\"a\tb\"", "control character in a string at byte 2"},
    {"\"\\x41\"", "unknown escape in a string at byte 1"},
    {"\"\\u12g4\"", "\\u needs four hexadecimal digits at byte 1"},
    {"\"\\u12\"", "\\u needs four hexadecimal digits at byte 1"},
    {"\"abc", "text ends inside a string at byte 4"},
    {"\"abc\\", "text ends inside a string at byte 5"},
    {"\"\\u00", "text ends inside a string at byte 5"},
    {"\"\xff\"", "invalid UTF-8 at byte 1"},
    {"\"\xc0\x80\"", "invalid UTF-8 at byte 1"},
    {"\"\xed\xa0\x80\"", "invalid UTF-8 at byte 1"},
    {"\"abcdefghijk\xe2\x82\"", "invalid UTF-8 at byte 12"},
    {"{\"a\\u0000b\":1}", "NUL in a key at byte 3"},
    {"{\"a\\ud800b\":1}", "half a surrogate pair in a key at byte 3"},
    {"{\"a\\uDBFF\\ud800\":1}", "half a surrogate pair in a key at byte 3"},
    {"{\"a\\udfff\":1}", "half a surrogate pair in a key at byte 3"},
    {"{\"a\\ud83d\\udezz\":1}", "half a surrogate pair in a key at byte 3"},
    {"{\"a\\ud83d", "half a surrogate pair in a key at byte 3"},
    {"{\"a\":1,\"a\":2}", "duplicate key \"a\" at byte 7"},
    {"{\"a\":1,\"\\u0061\":2}", "duplicate key \"a\" at byte 7"},
    {"[{\"x\":{\"k\":1,\"l\":2,\"k\":3}}]", "duplicate key \"k\" at byte 19"},
    {"{\"\":1,\"\":2}", "duplicate key \"\" at byte 6"},
};

static void test_refuses_with_place(void **state)
{
    struct error_text why;
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(parse_bytes(refused[i].text, strlen(refused[i].text), &why), ERR_INVALID);
        assert_string_equal(why.text, refused[i].why);
    }
    assert_int_equal(parse_bytes("1\0", 2, &why), ERR_INVALID);
    assert_string_equal(why.text, "more text after the value at byte 1");
    assert_int_equal(parse_bytes("\"a\0b\"", 5, &why), ERR_INVALID);
    assert_int_equal(parse_bytes("\xff", 1, NULL), ERR_INVALID);
}

/* Each prefix of a valid object is invalid, and none makes the parser read past its end. */
static void test_refuses_every_prefix(void **state)
{
    static const char text[] =
        "{\"a\":[1,-2.5e3,\"x\\u00e9\xc3\xa9\"],\"b\":{\"c\":null,\"d\":true}}";
    struct error_text why;
    (void)state;
    for (size_t size = 0; size < sizeof text - 1; size++)
        assert_int_equal(parse_bytes(text, size, &why), ERR_INVALID);
    assert_int_equal(parse_bytes(text, sizeof text - 1, &why), 0);
}

static void fill_nested(char *text, size_t depth, const char *open, const char *close)
{
    text[0] = '\0';
    size_t at = 0;
    for (size_t i = 0; i < depth; i++, at += strlen(open))
        memcpy(text + at, open, strlen(open) + 1);
    memcpy(text + at, "1", 2);
    at++;
    for (size_t i = 0; i < depth; i++, at += strlen(close))
        memcpy(text + at, close, strlen(close) + 1);
}

static void test_depth_limit(void **state)
{
    char text[1024];
    struct error_text why;
    (void)state;

    fill_nested(text, JDOC_DEPTH_MAX, "[", "]");
    assert_int_equal(parse_bytes(text, strlen(text), &why), 0);
    fill_nested(text, JDOC_DEPTH_MAX, "{\"a\":", "}");
    assert_int_equal(parse_bytes(text, strlen(text), &why), 0);
    fill_nested(text, JDOC_DEPTH_MAX + 1, "[", "]");
    assert_int_equal(parse_bytes(text, strlen(text), &why), ERR_INVALID);
    assert_string_equal(why.text, "nested too deep at byte 64");
    fill_nested(text, JDOC_DEPTH_MAX + 1, "{\"a\":", "}");
    assert_int_equal(parse_bytes(text, strlen(text), &why), ERR_INVALID);
}

static int parse_repeated(const char *unit, size_t count, struct error_text *why)
{
    struct buf text = {.size_max = 64 * 1024 * 1024};

    assert_int_equal(buf_append_char(&text, '['), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(buf_printf(&text, "%s%s", i > 0 ? "," : "", unit), 0);
    assert_int_equal(buf_append_char(&text, ']'), 0);
    int status = parse_bytes(text.data, text.size, why);
    buf_deinit(&text);
    return status;
}

static void test_bounds_the_tree(void **state)
{
    struct error_text why;
    (void)state;
    assert_int_equal(parse_repeated("{}", JSON_SCAN_CONTAINERS_MAX, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "too many arrays and objects at byte"));
    assert_int_equal(parse_repeated("[]", JSON_SCAN_CONTAINERS_MAX - 1, &why), 0);
    assert_int_equal(parse_repeated("1", JSON_SCAN_VALUES_MAX, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "too many values at byte"));
    assert_int_equal(parse_repeated("1", JSON_SCAN_VALUES_MAX - 1, &why), 0);
}

static void test_reads_values(void **state)
{
    struct jdoc *doc = parse("{\"i\":-7,\"d\":2.5,\"b\":true,\"n\":null,\"s\":\"a\\u0000b\","
                             "\"a\":[1,\"x\"],\"o\":{\"k\":1}}");
    const struct jval *root = jdoc_root(doc);
    int64_t integer = 99;
    double number = 99;
    bool flag = false;
    size_t size = 0;
    (void)state;

    assert_int_equal(jval_type(root), JTYPE_OBJECT);
    assert_int_equal(jval_count(root), 7);
    assert_int_equal(jval_i64(jval_get(root, "i"), -10, 0, &integer), 0);
    assert_int_equal(integer, -7);
    assert_int_equal(jval_i64(jval_get(root, "i"), 0, 10, &integer), ERR_INVALID);
    assert_int_equal(jval_i64(jval_get(root, "d"), 0, 10, &integer), ERR_INVALID);
    assert_int_equal(jval_i64(jval_get(root, "s"), 0, 10, &integer), ERR_INVALID);
    assert_int_equal(integer, -7);
    assert_int_equal(jval_double(jval_get(root, "d"), &number), 0);
    assert_true(number == 2.5);
    assert_int_equal(jval_double(jval_get(root, "i"), &number), 0);
    assert_true(number == -7);
    assert_int_equal(jval_double(jval_get(root, "b"), &number), ERR_INVALID);
    assert_int_equal(jval_bool(jval_get(root, "b"), &flag), 0);
    assert_true(flag);
    assert_int_equal(jval_bool(jval_get(root, "i"), &flag), ERR_INVALID);
    assert_null(jval_get(root, "n"));
    assert_true(jval_has(root, "n"));
    assert_false(jval_has(root, "zzz"));
    assert_memory_equal(jval_string(jval_get(root, "s"), &size), "a\0b", 3);
    assert_int_equal(size, 3);
    assert_null(jval_string(jval_get(root, "i"), &size));
    const struct jval *array = jval_get(root, "a");
    assert_int_equal(jval_count(array), 2);
    assert_string_equal(jval_string(jval_at(array, 1), NULL), "x");
    assert_null(jval_at(array, 2));
    assert_null(jval_at(root, 0));
    assert_null(jval_get(array, "x"));
    assert_string_equal(jval_type_name(array), "array");
    assert_string_equal(jval_type_name(jval_get(root, "i")), "integer");
    assert_string_equal(jval_type_name(NULL), "null");
    jdoc_destroy(doc);
}

static void test_takes_null_everywhere(void **state)
{
    int64_t integer;
    double number;
    bool flag;
    (void)state;
    assert_int_equal(jval_type(NULL), JTYPE_NULL);
    assert_null(jval_get(NULL, "a"));
    assert_false(jval_has(NULL, "a"));
    assert_int_equal(jval_count(NULL), 0);
    assert_null(jval_at(NULL, 0));
    assert_null(jval_string(NULL, NULL));
    assert_int_equal(jval_i64(NULL, 0, 1, &integer), ERR_INVALID);
    assert_int_equal(jval_double(NULL, &number), ERR_INVALID);
    assert_int_equal(jval_bool(NULL, &flag), ERR_INVALID);
    assert_int_equal(jval_each(NULL, NULL, NULL), 0);
    jdoc_destroy(NULL);
}

static void test_integers_at_the_edges(void **state)
{
    struct jdoc *doc = parse("[9223372036854775807,-9223372036854775808,9223372036854775808,"
                             "-9223372036854775809,18446744073709551616,1.0,1e2]");
    const struct jval *root = jdoc_root(doc);
    struct buf out = {.size_max = 1000};
    int64_t value = 0;
    (void)state;

    assert_int_equal(jval_i64(jval_at(root, 0), INT64_MIN, INT64_MAX, &value), 0);
    assert_true(value == INT64_MAX);
    assert_int_equal(jval_i64(jval_at(root, 1), INT64_MIN, INT64_MAX, &value), 0);
    assert_true(value == INT64_MIN);
    for (size_t i = 2; i < 7; i++) {
        assert_int_equal(jval_i64(jval_at(root, i), INT64_MIN, INT64_MAX, &value), ERR_INVALID);
        assert_int_equal(jval_type(jval_at(root, i)), JTYPE_DOUBLE);
    }
    assert_int_equal(jval_print(root, &out), 0);
    assert_string_equal(out.data, "[9223372036854775807,-9223372036854775808,"
                                  "9223372036854775808e0,-9223372036854775809e0,"
                                  "18446744073709551616e0,1.0,1e2]");
    buf_deinit(&out);
    jdoc_destroy(doc);
}

static void assert_slice(const struct jdoc *doc, const char *key, const char *expected)
{
    const char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(jdoc_slice(doc, key, &bytes, &size), 0);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(bytes, expected, size);
}

static void test_slices(void **state)
{
    struct jdoc *doc = parse(" { \"body\" : {\"x\": [1,  2] } , \"s\":\"\\ud800\" ,\"n\" :1.50,"
                             "\"k\\u0065y\":true, \"in\":{\"deep\":1}} ");
    const char *bytes;
    size_t size;
    (void)state;

    assert_slice(doc, "body", "{\"x\": [1,  2] }");
    assert_slice(doc, "s", "\"\\ud800\"");
    assert_slice(doc, "n", "1.50");
    assert_slice(doc, "key", "true");
    assert_int_equal(jdoc_slice(doc, "k\\u0065y", &bytes, &size), ERR_NOT_FOUND);
    assert_int_equal(jdoc_slice(doc, "deep", &bytes, &size), ERR_NOT_FOUND);
    assert_int_equal(jdoc_slice(doc, "x", &bytes, &size), ERR_NOT_FOUND);
    jdoc_destroy(doc);
    doc = parse("[{\"a\":1}]");
    assert_int_equal(jdoc_slice(doc, "a", &bytes, &size), ERR_NOT_FOUND);
    jdoc_destroy(doc);
}

static void test_slices_beyond_the_recorded(void **state)
{
    struct buf text = {.size_max = 100000};
    (void)state;

    assert_int_equal(buf_append_text(&text, "{\"first\":0"), 0);
    for (int i = 0; i < 2 * JSON_SCAN_TOP_MAX; i++)
        assert_int_equal(buf_printf(&text, ",\"k%d\": %d ", i, i), 0);
    assert_int_equal(buf_append_text(&text, "}"), 0);
    struct jdoc *doc = parse(text.data);
    assert_slice(doc, "first", "0");
    assert_slice(doc, "k100", "100");
    assert_slice(doc, "k127", "127");
    jdoc_destroy(doc);
    buf_deinit(&text);
}

static void test_many_duplicates_stay_cheap(void **state)
{
    struct buf text = {.size_max = 8 * 1024 * 1024};
    struct error_text why;
    (void)state;

    /* Below the limit the key is named, above it is not; both are refused. */
    for (int count = 4000; count <= 100000; count += 96000) {
        buf_clear(&text);
        assert_int_equal(buf_append_text(&text, "{\"dup\":0"), 0);
        for (int i = 0; i < count; i++)
            assert_int_equal(buf_printf(&text, ",\"\\u006b%d\":0", i), 0);
        assert_int_equal(buf_append_text(&text, ",\"d\\u0075p\":0}"), 0);
        assert_int_equal(parse_bytes(text.data, text.size, &why), ERR_INVALID);
        assert_int_equal(strncmp(why.text, "duplicate key", 13), 0);
        assert_int_equal(strstr(why.text, "\"dup\"") != NULL, count == 4000);
    }
    buf_deinit(&text);
}

static int on_member(const char *key, const struct jval *value, void *arg)
{
    struct buf *out = arg;
    int64_t number = -1;
    if (jval_i64(value, 0, 100, &number) < 0)
        return 42;
    return buf_printf(out, "%s=%d;", key, (int)number);
}

static void test_each_member_in_order(void **state)
{
    struct buf out = {.size_max = 100};
    struct jdoc *doc = parse("{\"z\":1,\"a\":2,\"m\":3}");
    (void)state;

    assert_int_equal(jval_each(jdoc_root(doc), on_member, &out), 0);
    assert_string_equal(out.data, "z=1;a=2;m=3;");
    jdoc_destroy(doc);
    buf_clear(&out);
    doc = parse("{\"z\":1,\"a\":\"no\",\"m\":3}");
    assert_int_equal(jval_each(jdoc_root(doc), on_member, &out), 42);
    assert_string_equal(out.data, "z=1;");
    jdoc_destroy(doc);
    buf_deinit(&out);
}

static void test_prints_compactly(void **state)
{
    struct buf out = {.size_max = 200};
    struct jdoc *doc =
        parse("{ \"u\" : \"http://x/\\u00e9\" , \"n\" : [ null , 1.50, \"\\ud800\" ] }");
    (void)state;

    assert_int_equal(jval_print(jdoc_root(doc), &out), 0);
    assert_string_equal(out.data,
                        "{\"u\":\"http://x/\xc3\xa9\",\"n\":[null,1.50,\"\xef\xbf\xbd\"]}");
    buf_clear(&out);
    assert_int_equal(jval_print(NULL, &out), 0);
    assert_string_equal(out.data, "null");
    struct buf small = {.size_max = 5};
    assert_int_equal(jval_print(jdoc_root(doc), &small), ERR_TOO_BIG);
    jdoc_destroy(doc);
    buf_deinit(&small);
    buf_deinit(&out);
}

static void test_puts_strings(void **state)
{
    struct buf out = {.size_max = 100};
    (void)state;

    assert_int_equal(json_put_string(&out, "a\"\\\n\t\b\f\r\x01\0z", 11), 0);
    assert_string_equal(out.data, "\"a\\\"\\\\\\n\\t\\b\\f\\r\\u0001\\u0000z\"");
    buf_clear(&out);
    assert_int_equal(json_put_string(&out, "\xff\xc3\xa9\xe2\x82", 5), 0);
    assert_string_equal(out.data, "\"\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\"");
    struct buf small = {.size_max = 6};
    assert_int_equal(buf_append_text(&small, "ab"), 0);
    assert_int_equal(json_put_string(&small, "12345", 5), ERR_TOO_BIG);
    assert_string_equal(small.data, "ab");
    buf_deinit(&small);
    buf_deinit(&out);
}

static void test_puts_seconds(void **state)
{
    struct buf out = {.size_max = 100};
    (void)state;
    assert_int_equal(json_put_seconds(&out, 1790000000123), 0);
    assert_int_equal(buf_append_char(&out, ' '), 0);
    assert_int_equal(json_put_seconds(&out, 0), 0);
    assert_int_equal(buf_append_char(&out, ' '), 0);
    assert_int_equal(json_put_seconds(&out, 7), 0);
    assert_int_equal(buf_append_char(&out, ' '), 0);
    assert_int_equal(json_put_seconds(&out, -1500), 0);
    assert_string_equal(out.data, "1790000000.123 null 0.007 -1.500");
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_valid_texts),
        cmocka_unit_test(test_refuses_with_place),
        cmocka_unit_test(test_refuses_every_prefix),
        cmocka_unit_test(test_depth_limit),
        cmocka_unit_test(test_bounds_the_tree),
        cmocka_unit_test(test_reads_values),
        cmocka_unit_test(test_takes_null_everywhere),
        cmocka_unit_test(test_integers_at_the_edges),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_slices_beyond_the_recorded),
        cmocka_unit_test(test_many_duplicates_stay_cheap),
        cmocka_unit_test(test_each_member_in_order),
        cmocka_unit_test(test_prints_compactly),
        cmocka_unit_test(test_puts_strings),
        cmocka_unit_test(test_puts_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
