/* Answers of unknown length: prompt, complete, bounded, and given up when the reader leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "tests/unit/broker/http/web.h"

#define HOST "Host: a.example\r\n"

static struct http_request *start_stream(struct web *web, int *out_fd)
{
    const struct http_reply head = {.status = 200, .content_type = "text/event-stream"};
    unsigned before = web->held_count;

    web->is_holding = true;
    *out_fd = web_connect(web);
    web_send(*out_fd, "GET /events HTTP/1.1\r\n" HOST "\r\n");
    web_wait(web, &web->held_count, before + 1);
    http_stream_start(web->held[before], &head);
    return web->held[before];
}

static size_t receive_until(struct web *web, int fd, char *text, size_t size_max, const char *end)
{
    int64_t end_ms = clock_mono_ms() + 5000;
    size_t size = 0;

    text[0] = '\0';
    while (!strstr(text, end) && clock_mono_ms() < end_ms) {
        web_turn(web);
        ssize_t count = recv(fd, text + size, size_max - 1 - size, MSG_DONTWAIT);
        size += count > 0 ? (size_t)count : 0;
        text[size] = '\0';
    }
    assert_non_null(strstr(text, end));
    return size;
}

static void test_arrives_as_it_is_written(void **state)
{
    struct web web;
    char text[4096];
    int fd;
    (void)state;

    web_start(&web, NULL);
    struct http_request *request = start_stream(&web, &fd);
    (void)receive_until(&web, fd, text, sizeof text, "\r\n\r\n"); /* the head, before any data */
    assert_non_null(strcasestr(text, "Content-Type: text/event-stream\r\n"));
    assert_non_null(strcasestr(text, "Transfer-Encoding: chunked\r\n"));
    for (int i = 0; i < 10; i++) {
        char line[32];
        int size = snprintf(line, sizeof line, "data: %d\n\n", i);
        assert_int_equal(http_stream_write(request, line, (size_t)size), 0);
        (void)receive_until(&web, fd, text, sizeof text, line);
        assert_int_equal(http_server_held(web.server), 1);
    }
    assert_int_equal(http_stream_write(request, "", 0), 0);
    http_stream_end(request);
    (void)receive_until(&web, fd, text, sizeof text, "0\r\n\r\n");
    web_wait(&web, &web.gone_count, 1);
    assert_int_equal(web.answered_count, 1);
    web.is_holding = false; /* the connection lives on */
    web_send(fd, "GET /after HTTP/1.1\r\n" HOST "\r\n");
    (void)receive_until(&web, fd, text, sizeof text, "GET /after 0");
    (void)close(fd);
    web_stop(&web);
}

static void test_readers_that_left_are_let_go(void **state)
{
    enum { READERS = 8 };
    const struct linger reset = {.l_onoff = 1};
    struct web web;
    char text[4096];
    int fds[READERS];
    (void)state;

    web_start(&web, NULL);
    for (unsigned i = 0; i < READERS; i++) {
        struct http_request *request = start_stream(&web, &fds[i]);
        (void)receive_until(&web, fds[i], text, sizeof text, "\r\n\r\n");
        if (i % 4 < 2)
            continue;
        assert_int_equal(http_stream_write(request, "data", 4), 0);
        (void)receive_until(&web, fds[i], text, sizeof text, "data");
    }
    for (int i = 0; i < READERS; i++) {
        if (i % 2 == 1) /* by a reset, which leaves nothing to be read */
            assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        (void)close(fds[i]);
    }
    web_wait(&web, &web.gone_count, READERS);
    web_wait_connections(&web, 0);
    web_stop(&web);
}

static void test_written_before_it_flows(void **state)
{
    struct web web;
    struct web_answer answer;
    int fd;
    (void)state;

    web_start(&web, NULL);
    struct http_request *request = start_stream(&web, &fd);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(http_stream_write(request, "0123456789", 10), 0);
    http_stream_end(request);
    http_stream_end(request);
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body_size, 10000);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(answer.body[i], '0' + i % 10);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
}

static void test_slow_reader_fills_the_buffer(void **state)
{
    static char piece[8192];
    struct web web;
    int fd;
    size_t written = 0;
    int status = 0;
    (void)state;

    memset(piece, 'Q', sizeof piece);
    web_start(&web, NULL);
    struct http_request *request = start_stream(&web, &fd);
    for (int i = 0; i < 10000 && status == 0; i++) {
        status = http_stream_write(request, piece, sizeof piece);
        if (status == 0)
            written += sizeof piece;
        (void)uv_run(&web.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(status, ERR_FULL);
    assert_true(written >= HTTP_STREAM_BYTES);
    http_stream_end(request);
    size_t received = 0; /* what was taken arrives all the same */
    int64_t end_ms = clock_mono_ms() + 10000;
    while (received < written && clock_mono_ms() < end_ms) {
        static char text[65536];
        (void)uv_run(&web.loop, UV_RUN_NOWAIT);
        ssize_t count = recv(fd, text, sizeof text, MSG_DONTWAIT);
        for (ssize_t i = 0; i < count; i++)
            received += text[i] == 'Q';
    }
    assert_int_equal(received, written);
    web_wait(&web, &web.gone_count, 1);
    assert_int_equal(web.answered_count, 1);
    (void)close(fd);
    web_stop(&web);
}

static void test_reader_leaves(void **state)
{
    struct web web;
    int fd;
    (void)state;

    web_start(&web, NULL);
    struct http_request *request = start_stream(&web, &fd); /* while nothing flows */
    assert_int_equal(http_stream_write(request, "a", 1), 0);
    for (int i = 0; i < 20; i++)
        web_turn(&web);
    (void)close(fd);
    web_wait(&web, &web.gone_count, 1);

    request = start_stream(&web, &fd); /* while something does */
    (void)close(fd);
    for (int i = 0; i < 100 && web.gone_count < 2; i++) {
        if (http_stream_write(request, "abc", 3) != 0)
            break;
        web_turn(&web);
    }
    web_wait(&web, &web.gone_count, 2);
    assert_int_equal(web.answered_count, 0);
    web_stop(&web);
}

static void test_many_streams(void **state)
{
    struct web web;
    struct http_request *requests[30];
    int fds[30];
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    for (int i = 0; i < 30; i++)
        requests[i] = start_stream(&web, &fds[i]);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 30; i++)
            assert_int_equal(http_stream_write(requests[i], "tick\n", 5), 0);
        (void)uv_run(&web.loop, UV_RUN_NOWAIT);
    }
    for (int i = 0; i < 30; i++)
        http_stream_end(requests[i]);
    for (int i = 0; i < 30; i++) {
        web_receive(&web, fds[i], false, &answer);
        assert_int_equal(answer.body_size, 250);
        web_answer_free(&answer);
        (void)close(fds[i]);
    }
    assert_int_equal(web.answered_count, 30);
    web_stop(&web);
}

static void test_old_client_gets_it_until_close(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int fd = web_connect(&web);
    web_send(fd, "GET /events HTTP/1.0\r\n\r\n");
    web_wait(&web, &web.held_count, 1);
    struct http_request *request = web.held[0];
    http_stream_start(request, &(struct http_reply){.status = 200});
    assert_int_equal(http_stream_write(request, "plain", 5), 0);
    http_stream_end(request);
    web_receive(&web, fd, true, &answer);
    assert_string_equal(answer.body, "plain");
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrives_as_it_is_written),
        cmocka_unit_test(test_readers_that_left_are_let_go),
        cmocka_unit_test(test_written_before_it_flows),
        cmocka_unit_test(test_slow_reader_fills_the_buffer),
        cmocka_unit_test(test_reader_leaves),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_old_client_gets_it_until_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
