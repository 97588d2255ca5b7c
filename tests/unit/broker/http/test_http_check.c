/* The framing rules by themselves, byte for byte where it matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/http/http_check.h"

static int status_of_header(const char *name, const char *value, size_t size)
{
    struct http_framing framing;

    http_framing_start(&framing);
    http_framing_add(&framing, slice_of(name), (struct slice){value, size});
    if (framing.status != 0)
        assert_non_null(framing.detail);
    return framing.status;
}

static void test_every_byte_of_a_name(void **state)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    (void)state;

    for (int c = 1; c < 256; c++) {
        char name[3] = {'a', (char)c, '\0'};
        bool is_legal = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z') || strchr(others, c) != NULL;
        assert_int_equal(status_of_header(name, "v", 1), is_legal ? 0 : 400);
    }
    assert_int_equal(status_of_header("", "v", 1), 400);
}

static void test_every_byte_of_a_value_at_every_place(void **state)
{
    (void)state;

    for (int c = 0; c < 256; c++) {
        for (size_t at = 0; at < 20; at++) {
            char value[21];
            memset(value, 'v', sizeof value);
            value[at] = (char)c;
            bool is_legal = (c >= 0x20 && c != 0x7f) || c == '\t';
            assert_int_equal(status_of_header("A", value, sizeof value), is_legal ? 0 : 400);
        }
    }
}

static void test_hosts(void **state)
{
    static const char *const good[] = {"a", "a.example:80", "[::1]:80", "127.0.0.1", "", "a_b-c~d"};
    static const char *const bad[] = {"a/b",  "me@a",  "a b",  "a?b", "a#b",
                                      "a\\b", "\"a\"", "a,b@", "<a>"};
    (void)state;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(status_of_header("host", good[i], strlen(good[i])), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(status_of_header("HOST", bad[i], strlen(bad[i])), 400);
}

static void test_lengths(void **state)
{
    struct http_framing framing;
    (void)state;

    http_framing_start(&framing);
    assert_int_equal(framing.length, -1);
    http_framing_add(&framing, slice_of("content-length"), slice_of("9223372036854775807 \t"));
    assert_int_equal(framing.status, 0);
    assert_true(framing.length == INT64_MAX);
    http_framing_add(&framing, slice_of("Content-Length"), slice_of("0"));
    assert_int_equal(framing.status, 400);
    assert_int_equal(status_of_header("Content-Length", "9223372036854775808", 19), 400);
    assert_int_equal(status_of_header("Content-Length", "", 0), 400);
    assert_int_equal(status_of_header("Content-Length", "1a", 2), 400);
    assert_int_equal(status_of_header("Content-Length", "1\0", 2), 400);
}

static int status_of_line(const char *method, const char *target, const char *host, size_t *out_at)
{
    struct http_framing framing;

    http_framing_start(&framing);
    if (host)
        http_framing_add(&framing, slice_of("Host"), slice_of(host));
    http_framing_line(&framing, slice_of(method), slice_of(target), out_at);
    return framing.status;
}

static void test_targets(void **state)
{
    size_t at = 99;
    (void)state;

    assert_int_equal(status_of_line("GET", "/", "a", &at), 0);
    assert_int_equal(at, 0);
    assert_int_equal(status_of_line("GET", "HTTP://A.b:1/x", "a.B:1", &at), 0);
    assert_int_equal(at, 12);
    assert_int_equal(status_of_line("GET", "https://a?x", "a", &at), 0);
    assert_int_equal(at, 9);
    assert_int_equal(status_of_line("GET", "http://a/x", NULL, &at), 0); /* HTTP/1.0 */
    assert_int_equal(status_of_line("GET", "http://a/x", "", &at), 400);
    assert_int_equal(status_of_line("GET", "http://ab/x", "a", &at), 400);
    assert_int_equal(status_of_line("GET", "http://me@a/x", "a", &at), 400);
    assert_int_equal(status_of_line("GET", "ftp://a/x", "a", &at), 400);
    assert_int_equal(status_of_line("GET", "*", "a", &at), 400);
    assert_int_equal(status_of_line("OPTIONS", "*", "a", &at), 0);
    assert_int_equal(status_of_line("CONNECT", "a:443", "a", &at), 0);
    assert_int_equal(status_of_line("TRACE", "/", "a", &at), 0);
    assert_int_equal(status_of_line("BREW", "/", "a", &at), 501);
    assert_int_equal(status_of_line("GET", "/a b", "a", &at), 400);
    assert_int_equal(status_of_line("GET", "", "a", &at), 400);
}

static int status_at_end(const char *version, const char *const *names, const char *const *values,
                         size_t head_size)
{
    struct http_framing framing;

    http_framing_start(&framing);
    for (unsigned i = 0; names[i]; i++)
        http_framing_add(&framing, slice_of(names[i]), slice_of(values[i]));
    http_framing_end(&framing, slice_of(version), head_size);
    return framing.status;
}

static void test_relations(void **state)
{
    static const char *const host[] = {"Host", "Content-Length", NULL};
    static const char *const chunked[] = {"Host", "Transfer-Encoding", NULL};
    static const char *const both[] = {"Content-Length", "Transfer-Encoding", "Host", NULL};
    static const char *const none[] = {NULL};
    static const char *const values[] = {"a", "0", "0"};
    static const char *const encodings[] = {"a", "Chunked", NULL};
    static const char *const mixed[] = {"0", "chunked", "a"};
    (void)state;

    assert_int_equal(status_at_end("HTTP/1.1", host, values, 100), 0);
    assert_int_equal(status_at_end("HTTP/1.1", host, values, HTTP_HEAD_MAX), 0);
    assert_int_equal(status_at_end("HTTP/1.1", host, values, HTTP_HEAD_MAX + 1), 431);
    assert_int_equal(status_at_end("HTTP/1.1", none, values, 100), 400);
    assert_int_equal(status_at_end("HTTP/1.0", none, values, 100), 0);
    assert_int_equal(status_at_end("HTTP/1.1", chunked, encodings, 100), 0);
    assert_int_equal(status_at_end("HTTP/1.0", chunked, encodings, 100), 400);
    assert_int_equal(status_at_end("HTTP/1.1", both, mixed, 100), 400);
    assert_int_equal(status_at_end("HTTP/1.2", host, values, 100), 505);
    assert_int_equal(status_at_end("HTTP/2.0", host, values, 100), 505);
    assert_int_equal(status_at_end("", host, values, 100), 400);
    assert_int_equal(status_at_end("http/1.1", host, values, 100), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_of_a_name),
        cmocka_unit_test(test_every_byte_of_a_value_at_every_place),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_relations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
