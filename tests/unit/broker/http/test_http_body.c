/* Bodies: limits, refusals before and during them, expectation, streaming with pauses, slow
 * clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/broker/http/web.h"

#define HOST "Host: a.example\r\n"

static void send_xs(int fd, size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 'x', size);
    for (size_t sent = 0; sent < size;) { /* a server that stopped reading ends it */
        ssize_t count = send(fd, bytes + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count <= 0)
            break;
        sent += (size_t)count;
    }
    free(bytes);
}

static void test_declared_too_large(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    int fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    send_xs(fd, 1000);
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 200);
    web_answer_free(&answer);

    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n\r\n");
    send_xs(fd, 1001);
    web_receive(&web, fd, false, &answer); /* short enough to read past: the connection lives */
    assert_int_equal(answer.status, 413);
    assert_int_equal(web.refusal, HTTP_BODY_TOO_LARGE);
    web_answer_free(&answer);
    web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 200);
    web_answer_free(&answer);

    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\n");
    web_receive(&web, fd, false, &answer); /* before a byte of it was read */
    assert_int_equal(answer.status, 413);
    assert_true(web_has_line(&answer, "Connection: close"));
    web_answer_free(&answer);
    send_xs(fd, 60000); /* what was on its way must not reset the answer */
    web_receive(&web, fd, true, &answer);
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);
    assert_int_equal(web.complete_count, 2);
    web_wait(&web, &web.gone_count, 4);
    assert_int_equal(web.answered_count, 4);
    web_stop(&web);
}

static void test_chunked_too_large(void **state)
{
    struct web web;
    struct web_answer answer;
    char chunk[700];
    (void)state;

    web_start(&web, NULL);
    memset(chunk, 'x', sizeof chunk);
    memcpy(chunk, "2b4\r\n", 5);
    memcpy(chunk + 5 + 0x2b4, "\r\n", 2);
    int fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    web_send_bytes(fd, chunk, 5 + 0x2b4 + 2);
    web_wait(&web, &web.headers_count, 1);
    assert_int_equal(web.refused_count, 0);
    web_send_bytes(fd, chunk, 5 + 0x2b4 + 2);
    web_receive(&web, fd, true, &answer);
    assert_int_equal(answer.status, 413);
    assert_string_equal(answer.body, "refused\n");
    assert_true(answer.is_closed);
    assert_int_equal(web.refused_count, 1);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
    assert_int_equal(web.complete_count, 0);
}

static void test_expectation(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    int fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-Continue\r\n\r\n");
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 100);
    web_answer_free(&answer);
    web_send(fd, "abc");
    web_receive(&web, fd, false, &answer);
    assert_string_equal(answer.body, "POST / 3 abc");
    web_answer_free(&answer);

    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
    web_receive(&web, fd, true, &answer); /* the final status, and no 100 before it */
    assert_int_equal(answer.status, 413);
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);

    web.early_status = 401;
    web_exchange(&web,
                 "POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
                 true, &answer);
    assert_int_equal(answer.status, 401);
    web_answer_free(&answer);
    web_stop(&web);
}

static void test_early_answer(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.early_status = 401;
    int fd = web_connect(&web);
    for (int i = 0; i < 3; i++) { /* small bodies: read past, kept alive */
        web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
        web_receive(&web, fd, false, &answer);
        assert_int_equal(answer.status, 401);
        assert_false(web_has_line(&answer, "Connection: close"));
        web_answer_free(&answer);
    }
    web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 401);
    web_answer_free(&answer);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 401);
    assert_true(web_has_line(&answer, "Connection: close"));
    web_answer_free(&answer);
    web_advance(&web, HTTP_LINGER_MS + 1); /* it does not close: we do */
    web_wait(&web, &web.gone_count, 5);
    (void)close(fd);
    web_wait_connections(&web, 0);

    fd = web_connect(&web); /* more than we are willing to read past */
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\n");
    send_xs(fd, 200000);
    web_wait(&web, &web.gone_count, 6);
    (void)close(fd);
    web_stop(&web);
    assert_int_equal(web.complete_count, 0);
}

static void test_unwanted_body(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.body_max = 0; /* on_headers asks for nothing */
    web_exchange(&web, "DELETE /d HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", false,
                 &answer);
    assert_string_equal(answer.body, "DELETE /d 0 ");
    web_answer_free(&answer);
    int fd = web_connect(&web);
    web_send(fd, "DELETE /d HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    send_xs(fd, 100000);
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 413);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
}

static void test_budget(void **state)
{
    const struct http_server_options options = {.body_bytes_budget = 1500};
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, &options);
    web.refusal_status = 503;
    int first = web_connect(&web);
    web_send(first, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    send_xs(first, 500);
    while (web.server->body_bytes == 0)
        web_turn(&web);
    int second = web_connect(&web);
    web_send(second, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    send_xs(second, 1000);
    web_receive(&web, second, false, &answer);
    assert_int_equal(answer.status, 503);
    assert_int_equal(web.refusal, HTTP_OUT_OF_BUDGET);
    web_answer_free(&answer);
    (void)close(second);
    send_xs(first, 500);
    web_receive(&web, first, false, &answer);
    assert_int_equal(answer.status, 200);
    web_answer_free(&answer);
    (void)close(first);
    web_wait_connections(&web, 0);
    assert_int_equal(web.server->body_bytes, 0);
    web_stop(&web);
}

static void test_large_body_is_whole(void **state)
{
    enum { SIZE = 400 * 1024 };
    struct web web;
    char *bytes = malloc(SIZE);
    (void)state;

    assert_non_null(bytes);
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (char)('a' + i % 23);
    web_start(&web, NULL);
    web.body_max = SIZE;
    web.is_holding = true;
    int fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 409600\r\n\r\n");
    for (size_t sent = 0; sent < SIZE;) {
        ssize_t count = send(fd, bytes + sent, SIZE - sent, MSG_DONTWAIT);
        sent += count > 0 ? (size_t)count : 0;
        web_turn(&web);
    }
    web_wait(&web, &web.held_count, 1);
    struct slice body = http_request_body(web.held[0]);
    assert_int_equal(body.size, SIZE);
    assert_memory_equal(body.bytes, bytes, SIZE);
    http_respond(web.held[0], &(struct http_reply){.status = 200});
    web_wait(&web, &web.gone_count, 1);
    free(bytes);
    (void)close(fd);
    web_stop(&web);
}

static void test_streams_and_pauses(void **state)
{
    enum { SIZE = 200 * 1024 };
    struct web web;
    struct web_answer answer;
    char *bytes = malloc(SIZE);
    (void)state;

    assert_non_null(bytes);
    memset(bytes, 'x', SIZE);
    web_start(&web, NULL);
    web.is_streaming = true;
    web.pauses = true;
    int fd = web_connect(&web);
    web_send(fd, "POST /s HTTP/1.1\r\n" HOST "Content-Length: 204800\r\n\r\n");
    size_t sent = 0;
    while (web.complete_count == 0) {
        ssize_t count = send(fd, bytes + sent, SIZE - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += count > 0 ? (size_t)count : 0;
        unsigned before = web.pieces_count;
        for (int i = 0; i < 20; i++)
            web_turn(&web);
        if (web.complete_count > 0)
            break;
        assert_true(web.pieces_count <= before + 1); /* none while paused */
        assert_non_null(web.streaming);
        http_request_pause_body(web.streaming, false);
    }
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(web.streamed_size, SIZE);
    assert_true(web.pieces_count > 5);
    web_answer_free(&answer);
    free(bytes);
    (void)close(fd);
    web_stop(&web);
}

static void test_answer_in_a_stream(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_streaming = true;
    web.pauses = true;
    for (int paused = 0; paused < 2; paused++) {
        web.pauses = paused;
        int fd = web_connect(&web);
        web_send(fd, "POST /s HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
        send_xs(fd, 5000);
        web_wait(&web, &web.pieces_count, (unsigned)paused + 1);
        http_respond(web.streaming, &(struct http_reply){.status = 507, .body = {"full\n", 5}});
        web_receive(&web, fd, true, &answer);
        assert_int_equal(answer.status, 507);
        assert_string_equal(answer.body, "full\n");
        assert_true(answer.is_closed);
        web_answer_free(&answer);
        (void)close(fd);
        web_wait(&web, &web.gone_count, (unsigned)paused + 1);
    }
    web_stop(&web);
}

static void test_slow_body(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.refusal_status = 408;
    int fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    send_xs(fd, 500);
    web_wait(&web, &web.headers_count, 1);
    web_advance(&web, HTTP_BODY_MS - 2000);
    assert_int_equal(web.refused_count, 0);
    web_advance(&web, HTTP_BODY_MS + 1);
    assert_int_equal(web.refused_count, 1);
    assert_int_equal(web.refusal, HTTP_BODY_TOO_SLOW);
    web_receive(&web, fd, true, &answer);
    assert_int_equal(answer.status, 408);
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);

    web.body_max =
        1000000; /* 100 KB in 30 s is fast enough, and what comes of it in 200 s is not */
    fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
    send_xs(fd, 100000);
    while (!web.server->body_bytes || web.server->body_bytes < 100000)
        web_turn(&web);
    web_advance(&web, HTTP_BODY_MS + 1);
    assert_int_equal(web.refused_count, 1);
    web_advance(&web, 200 * 1000);
    assert_int_equal(web.refused_count, 2);
    web_wait(&web, &web.gone_count, 1);
    (void)close(fd);
    web_stop(&web);
}

static void test_client_leaves_in_a_body(void **state)
{
    struct web web;
    (void)state;

    web_start(&web, NULL);
    int fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nxxx");
    web_wait(&web, &web.headers_count, 1);
    (void)close(fd);
    web_wait(&web, &web.gone_count, 1);
    assert_int_equal(web.answered_count, 0);
    web.is_streaming = true;
    web.pauses = true;
    fd = web_connect(&web);
    web_send(fd, "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nxxx");
    web_wait(&web, &web.pieces_count, 1);
    (void)close(fd); /* while we pause */
    web_wait(&web, &web.gone_count, 2);
    web_stop(&web);
    assert_int_equal(web.complete_count, 0);
}

/* Answers that nobody takes are counted until their clients are gone. */
static void test_room_for_answers(void **state)
{
    enum { SIZE = 8 << 20 };
    const struct http_server_options options = {.body_bytes_budget = SIZE + SIZE / 2};
    struct http_reply reply = {.status = 200};
    struct web web;
    int fds[2];
    char *bytes = calloc(1, SIZE);
    (void)state;

    assert_non_null(bytes);
    reply.body = (struct slice){bytes, SIZE};
    web_start(&web, &options);
    web.is_holding = true;
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = web_connect(&web);
        web_send(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        web_wait(&web, &web.held_count, i + 1);
    }
    assert_true(http_request_has_room(web.held[0], SIZE));
    http_respond(web.held[0], &reply);
    for (int i = 0; i < 20; i++)
        web_turn(&web);
    assert_false(http_request_has_room(web.held[1], SIZE));
    assert_true(http_request_has_room(web.held[1], 1000));
    (void)close(fds[0]);
    web_wait(&web, &web.gone_count, 1);
    assert_true(http_request_has_room(web.held[1], 100 * (size_t)SIZE)); /* one always fits */
    http_respond(web.held[1], &(struct http_reply){.status = 204});
    (void)close(fds[1]);
    web_wait_connections(&web, 0);
    assert_int_equal(web.server->reply_bytes, 0);
    free(bytes);
    web_stop(&web);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_declared_too_large), cmocka_unit_test(test_chunked_too_large),
        cmocka_unit_test(test_expectation),        cmocka_unit_test(test_early_answer),
        cmocka_unit_test(test_unwanted_body),      cmocka_unit_test(test_budget),
        cmocka_unit_test(test_room_for_answers),   cmocka_unit_test(test_large_body_is_whole),
        cmocka_unit_test(test_streams_and_pauses), cmocka_unit_test(test_answer_in_a_stream),
        cmocka_unit_test(test_slow_body),          cmocka_unit_test(test_client_leaves_in_a_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
