/* What is refused before a handler sees it: framing, limits, targets, versions. One raw request per
 * row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/broker/http/web.h"

struct row {
    const char *name;
    const char *request;
    int status;
    bool stays_open; /* else the server must close */
};

#define HOST "Host: a.example\r\n"

static const struct row rows[] = {
    {"plain", "GET / HTTP/1.1\r\n" HOST "\r\n", 200, true},
    {"length and encoding",
     "POST / HTTP/1.1\r\n" HOST
     "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     400, false},
    {"encoding and length",
     "POST / HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     400, false},
    {"two lengths", "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
     400, false},
    {"same length twice",
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, false},
    {"list of lengths", "POST / HTTP/1.1\r\n" HOST "Content-Length: 3, 4\r\n\r\nabcd", 400, false},
    {"signed length", "POST / HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc", 400, false},
    {"negative length", "POST / HTTP/1.1\r\n" HOST "Content-Length: -3\r\n\r\nabc", 400, false},
    {"hex length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc", 400, false},
    {"split length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 1 2\r\n\r\nabc", 400, false},
    {"empty length", "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400, false},
    {"huge length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\n", 400,
     false},
    {"other encoding",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, false},
    {"encoding twice",
     "POST / HTTP/1.1\r\n" HOST
     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, false},
    {"encoding in 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, false},
    {"encoding in capitals",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200,
     true},
    {"bare LF in the request line", "GET / HTTP/1.1\n" HOST "\r\n", 400, false},
    {"bare LF after a header", "GET / HTTP/1.1\r\nHost: a.example\nA: b\r\n\r\n", 400, false},
    {"bare LF after the last header", "GET / HTTP/1.1\r\nHost: a.example\n\r\n", 400, false},
    {"bare LF at the end", "GET / HTTP/1.1\r\n" HOST "\n", 400, false},
    {"bare CR after a header", "GET / HTTP/1.1\r\nHost: a.example\rA: b\r\n\r\n", 400, false},
    {"control byte in a value", "GET / HTTP/1.1\r\n" HOST "A: b\x01z\r\n\r\n", 400, false},
    {"delete in a value", "GET / HTTP/1.1\r\n" HOST "A: bbbbbbbbbbbbbb\x7fz\r\n\r\n", 400, false},
    {"tab in a value", "GET / HTTP/1.1\r\n" HOST "A: b\tz\r\n\r\n", 200, true},
    {"space before the colon", "GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400, false},
    {"empty name", "GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n", 400, false},
    {"no colon", "GET / HTTP/1.1\r\n" HOST "abc\r\n\r\n", 400, false},
    {"folded line", "GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400, false},
    {"folded encoding",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400, false},
    {"folded first line", "GET / HTTP/1.1\r\n A: b\r\n" HOST "\r\n", 400, false},
    {"no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, false},
    {"no Host in 1.0", "GET / HTTP/1.0\r\n\r\n", 200, false},
    {"two Hosts", "GET / HTTP/1.1\r\n" HOST "Host: a.example\r\n\r\n", 400, false},
    {"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, false},
    {"Host with a user", "GET / HTTP/1.1\r\nHost: me@a\r\n\r\n", 400, false},
    {"Host with a port", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200, true},
    {"unknown method", "FETCH / HTTP/1.1\r\n" HOST "\r\n", 501, false},
    {"lower-case method", "get / HTTP/1.1\r\n" HOST "\r\n", 501, false},
    {"foreign absolute target", "GET http://b.example/ HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"own absolute target", "GET http://a.example/x?y HTTP/1.1\r\n" HOST "\r\n", 200, true},
    {"target without a slash", "GET x HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"target with a fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"target with a high byte", "GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"star", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 200, true},
    {"HTTP/0.9", "GET /\r\n\r\n", 400, false},
    {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, false},
    {"version 9.9", "GET / HTTP/9.9\r\n" HOST "\r\n", 505, false},
    {"no version number", "GET / HTTQ/1.1\r\n" HOST "\r\n", 400, false},
    {"other expectation", "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 200-ok\r\n\r\n",
     417, false},
    {"chunk of no size",
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400,
     false},
};

static void test_rows(void **state)
{
    struct web web;
    struct web_answer answer;
    unsigned bad = 0;
    (void)state;

    web_start(&web, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        web_exchange(&web, rows[i].request, !rows[i].stays_open, &answer);
        bool is_right =
            answer.status == rows[i].status || (rows[i].status == 0 && answer.status >= 400);
        if (!rows[i].stays_open && !answer.is_closed)
            is_right = false;
        if (!is_right) {
            print_error("%s: status %d, %s\n", rows[i].name, answer.status,
                        answer.is_closed  ? "closed"
                        : answer.is_reset ? "reset"
                                          : "open");
            bad++;
        }
        web_answer_free(&answer);
    }
    assert_int_equal(bad, 0);
    web_stop(&web);
}

/* A NUL cannot stand in a row. */
static void test_nul_is_refused(void **state)
{
#define NUL_ROW(text)          \
    {                          \
        text, sizeof(text) - 1 \
    }
    static const struct {
        const char *bytes;
        size_t size;
    } requests[] = {
        NUL_ROW("GET / HTTP/1.1\r\n" HOST "A: b\0c\r\nB: d\r\n\r\n"),
        NUL_ROW("GET / HTTP/1.1\r\n" HOST "A: b\0c\r\n\r\n"),
        NUL_ROW("GET / HTTP/1.1\r\n" HOST "A\0b: c\r\n\r\n"),
        NUL_ROW("GET /a\0b HTTP/1.1\r\n" HOST "\r\n"),
        NUL_ROW("GET /a\0 HTTP/1.1\r\n" HOST "\r\n"),
        NUL_ROW("GET / HTTP/1.1\0\r\n" HOST "\r\n"),
        NUL_ROW("GET\0 / HTTP/1.1\r\n" HOST "\r\n"),
        NUL_ROW("GET / HTTP/1.1\r\n" HOST "\0A: b\r\n\r\n"),
    };
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        int fd = web_connect(&web);
        web_send_bytes(fd, requests[i].bytes, requests[i].size);
        web_receive(&web, fd, true, &answer);
        bool is_refused = answer.status >= 400 || answer.size == 0; /* newer parsers just close */
        if (!is_refused || !answer.is_closed)
            print_error("request %zu: status %d\n", i, answer.status);
        assert_true(is_refused && answer.is_closed);
        web_answer_free(&answer);
        (void)close(fd);
    }
    assert_int_equal(web.headers_count, 0);
    web_stop(&web);
}

static int status_of(struct web *web, const char *request)
{
    struct web_answer answer;
    web_exchange(web, request, false, &answer);
    int status = answer.status;
    web_answer_free(&answer);
    return status;
}

static int status_with_target(struct web *web, size_t size)
{
    char *request = malloc(size + 100);
    assert_non_null(request);
    memcpy(request, "GET /", 5);
    memset(request + 5, 'a', size - 1);
    strcpy(request + 4 + size, " HTTP/1.1\r\n" HOST "\r\n");
    int status = status_of(web, request);
    free(request);
    return status;
}

static int status_with_headers(struct web *web, unsigned count, size_t value_size)
{
    size_t line = value_size + 16;
    char *request = calloc(1, count * line + 100);
    assert_non_null(request);
    strcpy(request, "GET / HTTP/1.1\r\n" HOST);
    char *at = request + strlen(request);
    for (unsigned i = 1; i < count; i++) {
        at += sprintf(at, "A%u: ", i);
        memset(at, 'v', value_size);
        at += value_size;
        at += sprintf(at, "\r\n");
    }
    strcpy(at, "\r\n");
    int status = status_of(web, request);
    free(request);
    return status;
}

static void test_limits_of_the_head(void **state)
{
    struct web web;
    (void)state;

    web_start(&web, NULL);
    assert_int_equal(status_with_target(&web, HTTP_TARGET_MAX), 200);
    assert_int_equal(status_with_target(&web, HTTP_TARGET_MAX + 1), 414);
    assert_int_equal(status_with_target(&web, 100000), 414);
    assert_int_equal(status_with_headers(&web, HTTP_HEADERS_MAX, 10), 200);
    assert_int_equal(status_with_headers(&web, HTTP_HEADERS_MAX + 1, 10), 431);
    assert_int_equal(status_with_headers(&web, 15, 1000), 200);
    assert_int_equal(status_with_headers(&web, 18, 1000), 431);
    assert_int_equal(status_with_headers(&web, 60, 1000), 431);
    assert_int_equal(web.gone_count, web.headers_count);
    web_stop(&web);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_nul_is_refused),
        cmocka_unit_test(test_limits_of_the_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
