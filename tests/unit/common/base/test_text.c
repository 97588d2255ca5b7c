/* Numbers, durations, sizes, UTF-8, globs, percent coding and HTTP dates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "common/base/text.h"

static void test_parse_i64(void **state)
{
    static const struct {
        const char *text;
        int64_t min;
        int64_t max;
        int status;
        int64_t value;
    } cases[] = {
        {"0", 0, 10, 0, 0},
        {"10", 0, 10, 0, 10},
        {"007", 0, 10, 0, 7},
        {"11", 0, 10, ERR_INVALID, 0},
        {"-1", 0, 10, ERR_INVALID, 0},
        {"-1", -1, 10, 0, -1},
        {"-2", -1, 10, ERR_INVALID, 0},
        {"-0", -1, 10, 0, 0},
        {"9223372036854775807", 0, INT64_MAX, 0, INT64_MAX},
        {"9223372036854775808", 0, INT64_MAX, ERR_INVALID, 0},
        {"-9223372036854775808", INT64_MIN, 0, 0, INT64_MIN},
        {"-9223372036854775809", INT64_MIN, 0, ERR_INVALID, 0},
        {"18446744073709551616", 0, INT64_MAX, ERR_INVALID, 0},
        {"184467440737095516160", 0, INT64_MAX, ERR_INVALID, 0},
        {"5", 6, 9, ERR_INVALID, 0},
        {"", 0, 10, ERR_INVALID, 0},
        {"-", -5, 5, ERR_INVALID, 0},
        {"+1", -5, 5, ERR_INVALID, 0},
        {" 1", 0, 5, ERR_INVALID, 0},
        {"1 ", 0, 5, ERR_INVALID, 0},
        {"1.0", 0, 5, ERR_INVALID, 0},
        {"0x1", 0, 5, ERR_INVALID, 0},
        {"--1", -5, 5, ERR_INVALID, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = 77;
        int status = text_parse_i64(cases[i].text, strlen(cases[i].text), cases[i].min,
                                    cases[i].max, &value);
        assert_int_equal(status, cases[i].status);
        assert_true(value == (status == 0 ? cases[i].value : 77));
    }
}

static void test_parse_double(void **state)
{
    static const char *const bad[] = {"",   "-",   ".5",  "1.",  "1e",       "1e+", "+1",   " 1",
                                      "1 ", "nan", "inf", "0x1", "1e999999", "1,5", "1.5.2"};
    double value = 0;
    (void)state;

    assert_int_equal(text_parse_double("-2.5e-1", 7, &value), 0);
    assert_true(value == -0.25);
    assert_int_equal(text_parse_double("3", 1, &value), 0);
    assert_true(value == 3);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(text_parse_double(bad[i], strlen(bad[i]), &value), ERR_INVALID);
    assert_true(value == 3);
}

static int64_t duration(const char *text)
{
    int64_t ms = -1;
    int status = text_parse_duration_ms(text, strlen(text), 86400000 * INT64_C(30), &ms);
    return status < 0 ? status : ms;
}

static void test_parse_duration(void **state)
{
    (void)state;
    assert_int_equal(duration("250ms"), 250);
    assert_int_equal(duration("30s"), 30000);
    assert_int_equal(duration("30"), 30000);
    assert_int_equal(duration("5m"), 300000);
    assert_int_equal(duration("2h"), 7200000);
    assert_int_equal(duration("7d"), 604800000);
    assert_int_equal(duration("0"), 0);
    assert_int_equal(duration("31d"), ERR_INVALID);
    assert_int_equal(duration("99999999999999999d"), ERR_INVALID);
    assert_int_equal(duration("-1s"), ERR_INVALID);
    assert_int_equal(duration("1.5s"), ERR_INVALID);
    assert_int_equal(duration("1 s"), ERR_INVALID);
    assert_int_equal(duration("1S"), ERR_INVALID);
    assert_int_equal(duration("s"), ERR_INVALID);
    assert_int_equal(duration(""), ERR_INVALID);
    assert_int_equal(duration("5min"), ERR_INVALID);
}

static int64_t size_of(const char *text)
{
    int64_t bytes = -1;
    int status = text_parse_size(text, strlen(text), INT64_C(1) << 40, &bytes);
    return status < 0 ? status : bytes;
}

static void test_parse_size(void **state)
{
    (void)state;
    assert_int_equal(size_of("4096"), 4096);
    assert_int_equal(size_of("64k"), 65536);
    assert_int_equal(size_of("16M"), 16777216);
    assert_true(size_of("2G") == INT64_C(2147483648));
    assert_int_equal(size_of("2000G"), ERR_INVALID);
    assert_int_equal(size_of("99999999999999G"), ERR_INVALID);
    assert_int_equal(size_of("2K"), ERR_INVALID);
    assert_int_equal(size_of("2kB"), ERR_INVALID);
    assert_int_equal(size_of("k"), ERR_INVALID);
    assert_int_equal(size_of("-1"), ERR_INVALID);
    assert_int_equal(size_of(""), ERR_INVALID);
}

static void test_utf8(void **state)
{
    static const char *const good[] = {"",
                                       "plain ascii that is longer than eight",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "12345678\xc3\xa9"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x41",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xe2\x82\x41",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xf0\x90\x80",
                                      "\xff",
                                      "12345678\xc3"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(text_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(text_is_utf8(bad[i], strlen(bad[i])));
    assert_int_equal(text_utf8_sequence("\xf0\x9f\x98\x80", 4), 4);
    assert_int_equal(text_utf8_sequence("\xf0\x9f\x98\x80", 3), 0);
    assert_int_equal(text_utf8_sequence("", 0), 0);
}

static void test_comparisons(void **state)
{
    (void)state;
    assert_true(text_equal("abcd", 3, "abc"));
    assert_false(text_equal("abcd", 4, "abc"));
    assert_false(text_equal("ab", 2, "abc"));
    assert_true(text_equal(NULL, 0, ""));
    assert_true(text_equal_nocase("BeArEr", 6, "bearer"));
    assert_false(text_equal_nocase("Bearer2", 7, "bearer"));
    assert_true(text_starts_with("redis://x", "redis://"));
    assert_false(text_starts_with("red", "redis"));
    assert_true(text_starts_with("x", ""));
}

static void test_globs(void **state)
{
    static const struct {
        const char *pattern;
        const char *text;
        bool matches;
    } cases[] = {
        {"", "", true},          {"", "a", false},           {"*", "", true},
        {"*", "anything", true}, {"bge-*", "bge-m3", true},  {"bge-*", "bge-", true},
        {"bge-*", "bge", false}, {"a?c", "abc", true},       {"a?c", "ac", false},
        {"*b", "aab", true},     {"*b", "aba", false},       {"a*b*c", "a1b2b3c", true},
        {"a*b*c", "a1c", false}, {"**a", "bba", true},       {"[ab]", "[ab]", true},
        {"[ab]", "a", false},    {"gpt-4", "gpt-40", false}, {"?", "", false},
    };
    static const char pathological[] = "*a*a*a*a*a*a*a*a*b";
    char text[2000];
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(text_glob_match(cases[i].pattern, cases[i].text, strlen(cases[i].text)),
                         cases[i].matches);
    memset(text, 'a', sizeof text);
    assert_false(text_glob_match(pathological, text, sizeof text)); /* and soon enough */
    assert_false(text_glob_match("abc", "abcd", 4));
    assert_true(text_glob_match("abc", "abcd", 3));
}

static void test_percent_coding(void **state)
{
    char out[16];
    (void)state;

    assert_int_equal(text_percent_decode("a%2Fb%c3%A9", 11, out, sizeof out), 5);
    assert_string_equal(out, "a/b\xc3\xa9");
    assert_int_equal(text_percent_decode("a+b", 3, out, sizeof out), 3);
    assert_string_equal(out, "a+b");
    assert_int_equal(text_percent_decode("%00", 3, out, sizeof out), ERR_INVALID);
    assert_int_equal(text_percent_decode("%4", 2, out, sizeof out), ERR_INVALID);
    assert_int_equal(text_percent_decode("%", 1, out, sizeof out), ERR_INVALID);
    assert_int_equal(text_percent_decode("%zz", 3, out, sizeof out), ERR_INVALID);
    assert_int_equal(text_percent_decode("%411", 2, out, sizeof out), ERR_INVALID);
    assert_int_equal(text_percent_decode("abcd", 4, out, 4), ERR_TOO_BIG);
    assert_int_equal(text_percent_decode("abcd", 4, out, 5), 4);

    assert_int_equal(text_percent_encode("a/b ~\xc3", 6, out, sizeof out), 12);
    assert_string_equal(out, "a%2Fb%20~%C3");
    assert_int_equal(text_percent_encode("/", 1, out, 3), ERR_TOO_BIG);
    assert_int_equal(text_percent_encode("/", 1, out, 4), 3);
    assert_int_equal(text_percent_encode("", 0, out, 1), 0);
    assert_string_equal(out, "");
}

static int64_t http_date(const char *text)
{
    int64_t ms = 0;
    int status = text_parse_http_date(text, strlen(text), &ms);
    return status < 0 ? status : ms;
}

static void test_http_dates(void **state)
{
    char out[30];
    (void)state;

    assert_true(http_date("Sun, 06 Nov 1994 08:49:37 GMT") == INT64_C(784111777000));
    assert_int_equal(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
    assert_true(http_date("Thu, 29 Feb 2024 23:59:60 GMT") == INT64_C(1709251200000));
    assert_int_equal(http_date("Wed, 29 Feb 2023 00:00:00 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sun, 06 Nov 1994 24:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sun, 06 Nov 1994 08:49:37 UTC"), ERR_INVALID);
    assert_int_equal(http_date("Xun, 06 Nov 1994 08:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sun, 06 Nox 1994 08:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sun, 00 Nov 1994 08:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sun, +6 Nov 1994 08:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sun, 06 Nov 1969 08:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date("Sunday, 06-Nov-94 08:49:37 GMT"), ERR_INVALID);
    assert_int_equal(http_date(""), ERR_INVALID);

    text_format_http_date(INT64_C(784111777999), out);
    assert_string_equal(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    text_format_http_date(-5, out);
    assert_string_equal(out, "Thu, 01 Jan 1970 00:00:00 GMT");
    text_format_http_date(INT64_MAX, out);
    assert_string_equal(out, "Fri, 31 Dec 9999 23:59:59 GMT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_i64),      cmocka_unit_test(test_parse_double),
        cmocka_unit_test(test_parse_duration), cmocka_unit_test(test_parse_size),
        cmocka_unit_test(test_utf8),           cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_globs),          cmocka_unit_test(test_percent_coding),
        cmocka_unit_test(test_http_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
