/* Requests and answers as they should be: parts of a request, late answers, keep-alive, headers,
 * sockets. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/metrics.h"
#include "tests/unit/broker/http/web.h"

#define HOST "Host: a.example\r\n"

static void test_get_and_post(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web_exchange(&web, "GET /a/%2fb?x=1 HTTP/1.1\r\n" HOST "\r\n", false, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "GET /a/%2fb 0 ");
    assert_true(web_has_line(&answer, "Content-Type: text/plain"));
    assert_true(web_has_line(&answer, "Content-Length: 14"));
    assert_non_null(strstr(answer.text, "\r\nDate: "));
    web_answer_free(&answer);

    web_exchange(&web, "POST /p HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", false,
                 &answer);
    assert_string_equal(answer.body, "POST /p 5 hello");
    web_answer_free(&answer);

    web_exchange(&web,
                 "POST /p HTTP/1.1\r\n" HOST
                 "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nT: t\r\n\r\n",
                 false, &answer);
    assert_string_equal(answer.body, "POST /p 5 hello");
    web_answer_free(&answer);

    web_exchange(&web, "GET http://a.example/abs?q HTTP/1.1\r\n" HOST "\r\n", false, &answer);
    assert_string_equal(answer.body, "GET /abs 0 ");
    web_answer_free(&answer);
    assert_int_equal(web.answered_count, 4);
    web_stop(&web);
}

static void test_keeps_alive_and_takes_pipelined(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    int fd = web_connect(&web);
    for (int i = 0; i < 20; i++) {
        web_send(fd, "POST /k HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab");
        web_receive(&web, fd, false, &answer);
        assert_string_equal(answer.body, "POST /k 2 ab");
        web_answer_free(&answer);
    }
    web_send(fd, "GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST
                 "Content-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    web_receive(&web, fd, true, &answer);
    assert_non_null(strstr(answer.text, "GET /1 0 "));
    assert_non_null(strstr(answer.text, "POST /2 1 x"));
    assert_non_null(strstr(answer.text, "GET /3 0 "));
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);
    assert_int_equal(web.gone_count, 23);
    web_stop(&web);
}

static void test_closes_after_many_requests(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    int fd = web_connect(&web);
    for (int i = 1; i <= HTTP_REQUESTS_PER_CONNECTION; i++) {
        web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        web_receive(&web, fd, i == HTTP_REQUESTS_PER_CONNECTION, &answer);
        assert_int_equal(answer.status, 200);
        assert_int_equal(web_has_line(&answer, "Connection: close"),
                         i == HTTP_REQUESTS_PER_CONNECTION);
        web_answer_free(&answer);
    }
    (void)close(fd);
    web_stop(&web);
}

static void test_late_answers(void **state)
{
    struct web web;
    struct web_answer answer;
    int fds[10];
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    for (int i = 0; i < 10; i++) {
        fds[i] = web_connect(&web);
        web_send(fds[i], "POST /late HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    }
    web_wait(&web, &web.held_count, 10);
    assert_int_equal(http_server_held(web.server), 10);
    while (web.held_count > 0) {
        unsigned before = web.held_count;
        struct slice body = http_request_body(web.held[0]);
        assert_true(slice_is(body, "abc"));
        http_respond(web.held[0], &(struct http_reply){.status = 202, .body = {"ok", 2}});
        for (int i = 0; web.held_count == before && i < 1000; i++)
            web_turn(&web);
        assert_int_equal(web.held_count, before - 1);
    }
    for (int i = 0; i < 10; i++) {
        web_receive(&web, fds[i], false, &answer);
        assert_int_equal(answer.status, 202);
        web_answer_free(&answer);
        (void)close(fds[i]);
    }
    assert_int_equal(web.answered_count, 10);
    assert_int_equal(http_server_held(web.server), 0);
    web_stop(&web);
}

static void free_text(void *bytes)
{
    free(bytes);
}

static void test_parts_of_a_request(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int fd = web_connect(&web);
    web_send(fd, "GET /q?a=1&b=x%20y+z&empty=&flag&a=2&bad=%zz&pl%75s=%2B&& HTTP/1.1\r\n" HOST
                 "X-Thing:  some value \r\n\r\n");
    web_wait(&web, &web.held_count, 1);
    struct http_request *request = web.held[0];
    assert_true(slice_is(http_request_query(request, "a"), "1"));
    assert_true(slice_is(http_request_query(request, "b"), "x y z"));
    assert_true(slice_is(http_request_query(request, "empty"), ""));
    assert_non_null(http_request_query(request, "empty").bytes);
    assert_non_null(http_request_query(request, "flag").bytes);
    assert_true(slice_is(http_request_query(request, "bad"), "%zz"));
    assert_true(slice_is(http_request_query(request, "plus"), "+"));
    assert_null(http_request_query(request, "none").bytes);
    assert_true(slice_is(http_request_path(request), "/q"));
    assert_true(slice_is(http_request_header(request, "x-THING"), "some value"));
    assert_null(http_request_header(request, "x-other").bytes);
    assert_true(slice_is(http_request_peer(request), "127.0.0.1"));
    assert_false(http_request_has_body(request));
    assert_int_equal(http_request_content_length(request), -1);
    assert_true(http_request_started_mono_ms(request) > 0);
    http_request_set_data(request, &web);
    assert_ptr_equal(http_request_data(request), &web);

    const struct http_header headers[] = {{"X-Good", {"fine", 4}},
                                          {"X-Split", {"a\r\nX-Evil: 1", 12}},
                                          {"X-Nul", {"a\0b", 3}},
                                          {"X-Empty", {"", 0}}};
    char *body = strdup("given away");
    http_respond(request, &(struct http_reply){.status = 404,
                                               .content_type = "application/json",
                                               .headers = headers,
                                               .headers_count = 4,
                                               .body = {body, 10},
                                               .body_free = free_text,
                                               .must_close = true});
    web_receive(&web, fd, true, &answer);
    assert_int_equal(answer.status, 404);
    assert_true(web_has_line(&answer, "X-Good: fine"));
    assert_null(strcasestr(answer.text, "X-Evil"));
    assert_null(strcasestr(answer.text, "X-Nul"));
    assert_string_equal(answer.body, "given away");
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
}

static void test_head_has_no_body(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web_exchange(&web, "HEAD /h HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", true, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body_size, 0);
    assert_true(web_has_line(&answer, "Content-Length: 10"));
    web_answer_free(&answer);
    web_stop(&web);
}

static void test_large_answer_is_whole(void **state)
{
    enum { SIZE = 300 * 1024 };
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int fd = web_connect(&web);
    web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    char *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (char)('a' + i % 26);
    http_respond(web.held[0], &(struct http_reply){.status = 200, .body = {bytes, SIZE}});
    memset(bytes, 0, SIZE); /* it was copied */
    free(bytes);
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.body_size, SIZE);
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(answer.body[i], 'a' + i % 26);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
}

static void test_counts(void **state)
{
    struct web web;
    struct web_answer answer;
    uint64_t requests = metrics_value(METRIC_HTTP_REQUESTS);
    uint64_t errors = metrics_value(METRIC_HTTP_ERRORS);
    (void)state;

    web_start(&web, NULL);
    web_exchange(&web, "GET / HTTP/1.1\r\n" HOST "\r\n", false, &answer);
    web_answer_free(&answer);
    web_exchange(&web, "FETCH / HTTP/1.1\r\n" HOST "\r\n", false, &answer);
    web_answer_free(&answer);
    web_stop(&web);
    assert_int_equal(metrics_value(METRIC_HTTP_REQUESTS), requests + 2);
    assert_int_equal(metrics_value(METRIC_HTTP_ERRORS), errors + 1);
}

static void test_listens_on_unix_sockets(void **state)
{
    char path[64] = "unix:/tmp/penstock-http-XXXXXX";
    struct error_text why = {0};
    struct stat info;
    (void)state;

    assert_non_null(mkdtemp(path + 5));
    char address[96];
    (void)snprintf(address, sizeof address, "%s/socket", path);
    int fd = http_listen(address, &why);
    assert_true(fd >= 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_int_equal(stat(address + 5, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
    assert_int_equal(http_listen(address, &why), ERR_IO); /* somebody is there */
    (void)close(fd);
    fd = http_listen(address, &why); /* nobody is there any more */
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(unlink(address + 5), 0);
    assert_int_equal(rmdir(path + 5), 0);
}

static void test_addresses(void **state)
{
    static const char *const bad[] = {
        "",       "host",  "127.0.0.1",   "127.0.0.1:", "127.0.0.1:99999",
        "::1:80", "unix:", "127.0.0.1:8x"};
    struct error_text why = {0};
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        why.text[0] = '\0';
        assert_int_equal(http_listen(bad[i], &why), ERR_INVALID);
        assert_true(why.text[0] != '\0');
    }
    int fd = http_listen("[::1]:0", &why);
    if (fd >= 0) { /* not every machine has IPv6 */
        assert_true(http_listen_port(fd) > 0);
        (void)close(fd);
    }
    fd = http_listen(":0", &why);
    assert_true(fd >= 0);
    assert_true(http_listen_port(fd) > 0);
    (void)close(fd);
    assert_int_equal(http_listen_port(-1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_and_post),
        cmocka_unit_test(test_keeps_alive_and_takes_pipelined),
        cmocka_unit_test(test_closes_after_many_requests),
        cmocka_unit_test(test_late_answers),
        cmocka_unit_test(test_parts_of_a_request),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_large_answer_is_whole),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_listens_on_unix_sockets),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
