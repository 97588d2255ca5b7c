/* Who leaves, who is too slow, who is too many, and stopping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/broker/http/web.h"

#define HOST "Host: a.example\r\n"

static void test_held_client_leaves(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int stays = web_connect(&web);
    web_send(stays, "GET /stays HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    for (unsigned i = 0; i < 2; i++) { /* closed at once, and half-closed */
        int leaves = web_connect(&web);
        web_send(leaves, "GET /leaves HTTP/1.1\r\n" HOST "\r\n");
        web_wait(&web, &web.held_count, 2);
        int64_t start_ms = clock_mono_ms();
        if (i == 0)
            (void)close(leaves);
        else
            (void)shutdown(leaves, SHUT_WR);
        web_wait(&web, &web.gone_count, i + 1);
        assert_true(clock_mono_ms() - start_ms < 1000);
        if (i == 1)
            (void)close(leaves);
    }
    assert_int_equal(web.answered_count, 0);
    assert_int_equal(web.held_count, 1);
    assert_int_equal(http_server_held(web.server), 1);
    http_respond(web.held[0], &(struct http_reply){.status = 200});
    web_receive(&web, stays, false, &answer);
    assert_int_equal(answer.status, 200);
    web_answer_free(&answer);
    (void)close(stays);
    web_stop(&web);
}

/* The end comes in one piece with the last bytes, or with none. */
static void test_gone_with_the_last_bytes(void **state)
{
    static const char *const texts[] = {
        "", "GET /", "GET / HTTP/1.1\r\n" HOST,
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nxxx",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nx"};
    enum { TEXTS = sizeof texts / sizeof texts[0] };
    struct web web;
    int64_t start_ms = clock_mono_ms();
    (void)state;

    web_start(&web, NULL);
    for (unsigned i = 0; i < 2 * TEXTS; i++) {
        int fd = web_connect(&web);
        web_wait_connections(&web, 1);
        for (unsigned turns = 0; turns < 3 && i >= TEXTS; turns++)
            web_turn(&web);
        web_send(fd, texts[i % TEXTS]);
        (void)close(fd);
        web_wait_connections(&web, 0);
    }
    assert_true(clock_mono_ms() - start_ms < 2 * TEXTS * 1500);
    web_stop(&web);
}

static unsigned freed_count;

static void count_free(void *bytes)
{
    free(bytes);
    freed_count++;
}

/* Between our noticing that a client left and on_gone the handler may still answer. */
static void test_answer_to_nobody(void **state)
{
    struct web web;
    (void)state;

    freed_count = 0;
    web_start(&web, NULL);
    web.is_holding = true;
    for (unsigned i = 0; i < 3; i++) {
        int fd = web_connect(&web);
        web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
        web_wait(&web, &web.held_count, 1);
        struct http_request *request = web.held[0];
        (void)close(fd);
        if (i < 2)
            web_advance(&web, 0); /* noticed, not yet told */
        if (i == 1) {
            http_stream_start(request, &(struct http_reply){.status = 200});
            assert_int_equal(http_stream_write(request, "abc", 3), 0);
            http_stream_end(request);
        } else {
            http_respond(request, &(struct http_reply){.status = 200,
                                                       .body = {strdup("x"), 1},
                                                       .body_free = count_free});
        }
        web_wait(&web, &web.gone_count, i + 1);
    }
    assert_int_equal(freed_count, 2);
    web_stop(&web);
}

static void test_slow_header(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    int fd = web_connect(&web); /* part of a request line */
    web_send(fd, "GET /");
    web_wait_connections(&web, 1);
    web_advance(&web, HTTP_HEADER_MS - 2000);
    assert_int_equal(http_server_connections(web.server), 1);
    web_advance(&web, HTTP_HEADER_MS + 100);
    web_receive(&web, fd, true, &answer);
    assert_int_equal(answer.status, 408);
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(fd);
    web_wait_connections(&web, 0);

    fd = web_connect(&web); /* part of the headers */
    web_send(fd, "GET / HTTP/1.1\r\nHost: a");
    web_wait_connections(&web, 1);
    for (int i = 0; i < 20; i++)
        web_turn(&web);
    web_advance(&web, HTTP_HEADER_MS + 100);
    web_receive(&web, fd, true, &answer);
    assert_int_equal(answer.status, 408);
    web_answer_free(&answer);
    (void)close(fd);
    web_wait_connections(&web, 0);

    fd = web_connect(&web); /* the second request of a connection */
    web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_receive(&web, fd, false, &answer);
    assert_int_equal(answer.status, 200);
    web_answer_free(&answer);
    web_advance(&web, 1000);
    web_send(fd, "GET");
    for (int i = 0; i < 20; i++)
        web_turn(&web);
    web_advance(&web, 2000);
    web_advance(&web, 2000 + HTTP_HEADER_MS);
    web_receive(&web, fd, true, &answer);
    assert_int_equal(answer.status, 408);
    web_answer_free(&answer);
    (void)close(fd);
    web_stop(&web);
    assert_int_equal(web.headers_count, 1);
}

static void test_idle_connections(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    int silent = web_connect(&web);
    int used = web_connect(&web);
    web_send(used, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_receive(&web, used, false, &answer);
    web_answer_free(&answer);
    web_wait_connections(&web, 2);
    for (int64_t ms = 0; ms < HTTP_IDLE_MS; ms += 10000)
        web_advance(&web, ms);
    for (int i = 0; i < 10; i++)
        web_turn(&web);
    assert_int_equal(http_server_connections(web.server), 2);
    web_advance(&web, HTTP_IDLE_MS + 1);
    web_receive(&web, silent, true, &answer);
    assert_int_equal(answer.size, 0); /* silently */
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    web_receive(&web, used, true, &answer);
    assert_int_equal(answer.size, 0);
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(silent);
    (void)close(used);
    web_wait_connections(&web, 0);
    web_stop(&web);
}

static void test_held_requests_have_no_deadline(void **state)
{
    struct web web;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int fd = web_connect(&web);
    web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    web_advance(&web, 3600 * 1000);
    web_turn(&web);
    assert_int_equal(web.held_count, 1);
    http_respond(web.held[0], &(struct http_reply){.status = 200});
    web_wait(&web, &web.answered_count, 1);
    (void)close(fd);
    web_stop(&web);
}

static void test_slow_reader_is_cut(void **state)
{
    enum { SIZE = 32 * 1024 * 1024 };
    struct web web;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int fd = web_connect(&web);
    web_send(fd, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    char *bytes = calloc(1, SIZE);
    assert_non_null(bytes);
    http_respond(web.held[0],
                 &(struct http_reply){.status = 200, .body = {bytes, SIZE}, .body_free = free});
    for (int i = 0; i < 50; i++)
        web_turn(&web);
    web_advance(&web, 0);
    web_advance(&web, HTTP_SEND_MS + 1);
    web_advance(&web, 2 * HTTP_SEND_MS + 2);
    web_wait(&web, &web.gone_count, 1);
    assert_int_equal(web.answered_count, 0);
    (void)close(fd);
    web_stop(&web);
}

static void test_full_house_waits_outside(void **state)
{
    const struct http_server_options options = {.connections_max = 3};
    struct web web;
    struct web_answer answer;
    int fds[5];
    (void)state;

    web_start(&web, &options);
    for (int i = 0; i < 5; i++) {
        fds[i] = web_connect(&web);
        web_send(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
    }
    web_wait(&web, &web.gone_count, 3);
    for (int i = 0; i < 20; i++)
        web_turn(&web);
    assert_int_equal(http_server_connections(web.server), 3);
    assert_int_equal(web.gone_count, 3);
    (void)close(fds[0]);
    (void)close(fds[1]);
    for (int i = 3; i < 5; i++) { /* they were not dropped */
        web_receive(&web, fds[i], false, &answer);
        assert_int_equal(answer.status, 200);
        web_answer_free(&answer);
    }
    for (int i = 2; i < 5; i++)
        (void)close(fds[i]);
    web_stop(&web);
}

static void test_limit_per_address(void **state)
{
    const struct http_server_options options = {.per_address_max = 2};
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, &options);
    int first = web_connect(&web);
    int second = web_connect(&web);
    web_wait_connections(&web, 2);
    int third = web_connect(&web);
    web_receive(&web, third, true, &answer);
    assert_int_equal(answer.status, 429);
    assert_true(answer.is_closed);
    web_answer_free(&answer);
    (void)close(third);
    (void)close(first);
    web_wait_connections(&web, 1);
    third = web_connect(&web);
    web_send(third, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_receive(&web, third, false, &answer);
    assert_int_equal(answer.status, 200);
    web_answer_free(&answer);
    (void)close(second);
    (void)close(third);
    web_stop(&web);
}

static void on_stopped(void *arg)
{
    struct web *web = arg;
    web->is_stopped = true;
}

static void test_stop_lets_answers_out(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int held = web_connect(&web);
    web_send(held, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    int idle = web_connect(&web);
    web_wait_connections(&web, 2);
    http_server_stop(web.server, 10000, on_stopped, &web);
    int late = web_connect(&web); /* into the kernel's queue: a sibling would take it */
    web_send(late, "GET / HTTP/1.1\r\n" HOST "\r\n");

    web_send(idle, "GET / HTTP/1.1\r\n" HOST "\r\n"); /* came just in time */
    web_wait(&web, &web.held_count, 2);
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? idle : held;
        http_respond(web.held[1 - i], &(struct http_reply){.status = 200, .body = {"ok", 2}});
        web_receive(&web, fd, true, &answer);
        assert_int_equal(answer.status, 200);
        assert_true(web_has_line(&answer, "Connection: close"));
        assert_true(answer.is_closed);
        web_answer_free(&answer);
        (void)close(fd);
    }
    for (int i = 0; i < 1000 && !web.is_stopped; i++)
        web_turn(&web);
    assert_true(web.is_stopped);
    assert_int_equal(web.headers_count, 2);
    (void)close(late);
    web_stop(&web);
}

static void test_stop_cuts_what_is_left(void **state)
{
    struct web web;
    struct web_answer answer;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int held = web_connect(&web);
    web_send(held, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    int reading = web_connect(&web);
    web_send(reading, "POST / HTTP/1.1\r\n" HOST "Content-Length: 100\r\n\r\nabc");
    web_wait(&web, &web.headers_count, 2);
    int64_t start_ms = clock_mono_ms();
    http_server_stop(web.server, 300, on_stopped, &web);
    web_receive(&web, held, true, &answer);
    assert_true(answer.is_closed || answer.is_reset);
    assert_int_equal(answer.status, 0);
    assert_true(clock_mono_ms() - start_ms >= 200);
    web_answer_free(&answer);
    for (int i = 0; i < 1000 && !web.is_stopped; i++)
        web_turn(&web);
    assert_true(web.is_stopped);
    (void)close(held);
    (void)close(reading);
    web_stop(&web);
}

/* Asking again with less patience. */
static void test_second_stop_is_at_once(void **state)
{
    struct web web;
    (void)state;

    web_start(&web, NULL);
    web.is_holding = true;
    int held = web_connect(&web);
    web_send(held, "GET / HTTP/1.1\r\n" HOST "\r\n");
    web_wait(&web, &web.held_count, 1);
    http_server_stop(web.server, 100000, on_stopped, &web);
    for (int i = 0; i < 50; i++)
        web_turn(&web);
    assert_false(web.is_stopped);
    http_server_stop(web.server, 0, on_stopped, &web);
    for (int i = 0; i < 1000 && !web.is_stopped; i++)
        web_turn(&web);
    assert_true(web.is_stopped);
    (void)close(held);
    web_stop(&web);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_client_leaves),
        cmocka_unit_test(test_gone_with_the_last_bytes),
        cmocka_unit_test(test_answer_to_nobody),
        cmocka_unit_test(test_slow_header),
        cmocka_unit_test(test_idle_connections),
        cmocka_unit_test(test_held_requests_have_no_deadline),
        cmocka_unit_test(test_slow_reader_is_cut),
        cmocka_unit_test(test_full_house_waits_outside),
        cmocka_unit_test(test_limit_per_address),
        cmocka_unit_test(test_stop_lets_answers_out),
        cmocka_unit_test(test_stop_cuts_what_is_left),
        cmocka_unit_test(test_second_stop_is_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
