#include "tests/unit/broker/http/web.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/text.h"

enum { WAIT_MS = 5000 };

static void on_headers(struct http_request *request, void *arg)
{
    struct web *web = arg;

    web->headers_count++;
    if (web->early_status != 0) {
        http_respond(request,
                     &(struct http_reply){.status = web->early_status, .body = {"early\n", 6}});
    } else if (web->is_streaming) {
        web->streaming = request;
        http_request_stream_body(request);
    } else if (web->body_max > 0) {
        http_request_want_body(request, web->body_max);
    }
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *arg)
{
    struct web *web = arg;

    for (size_t i = 0; i < size; i++)
        assert_int_equal(bytes[i], 'x');
    web->streamed_size += size;
    web->pieces_count++;
    if (web->pauses)
        http_request_pause_body(request, true);
}

static void on_complete(struct http_request *request, void *arg)
{
    struct web *web = arg;
    char text[256];
    struct slice method = http_request_method(request);
    struct slice path = http_request_path(request);
    struct slice body = http_request_body(request);

    web->complete_count++;
    if (web->is_holding) {
        assert_true(web->held_count < WEB_HELD_MAX);
        web->held[web->held_count++] = request;
        return;
    }
    int size = snprintf(text, sizeof text, "%.*s %.*s %zu %.*s", (int)method.size, method.bytes,
                        (int)path.size, path.bytes, body.size,
                        body.size < 100 ? (int)body.size : 100, body.bytes ? body.bytes : "");
    if ((size_t)size >= sizeof text) /* a long path is cut */
        size = sizeof text - 1;
    http_respond(request, &(struct http_reply){.status = 200,
                                               .content_type = "text/plain",
                                               .body = {text, (size_t)size}});
}

static void on_refused(struct http_request *request, enum http_refusal why, void *arg)
{
    struct web *web = arg;
    int status = web->refusal_status != 0 ? web->refusal_status : 413;

    web->refused_count++;
    web->refusal = why;
    http_respond(request, &(struct http_reply){.status = status, .body = {"refused\n", 8}});
}

static void on_gone(struct http_request *request, bool was_answered, void *arg)
{
    struct web *web = arg;

    web->gone_count++;
    web->answered_count += was_answered;
    if (web->streaming == request)
        web->streaming = NULL;
    for (unsigned i = 0; i < web->held_count; i++) {
        if (web->held[i] == request)
            web->held[i] = web->held[--web->held_count];
    }
}

void web_start(struct web *web, const struct http_server_options *options)
{
    struct error_text why = {0};
    struct http_server_options all = {
        .connections_max = 100,
        .body_bytes_budget = 1 << 30,
        .is_counted = true,
        .handler = {on_headers, on_body, on_complete, on_refused, on_gone, web}};

    *web = (struct web){.body_max = 1000};
    if (options) {
        if (options->connections_max > 0)
            all.connections_max = options->connections_max;
        if (options->body_bytes_budget > 0)
            all.body_bytes_budget = options->body_bytes_budget;
        all.per_address_max = options->per_address_max;
    }
    assert_int_equal(uv_loop_init(&web->loop), 0);
    web->listen_fd = http_listen("127.0.0.1:0", &why);
    assert_true(web->listen_fd >= 0);
    web->port = http_listen_port(web->listen_fd);
    all.loop = &web->loop;
    all.listen_fd = web->listen_fd;
    assert_int_equal(http_server_create(&all, &web->server, &why), 0);
}

static void on_stopped(void *arg)
{
    struct web *web = arg;
    web->is_stopped = true;
}

void web_stop(struct web *web)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;

    if (!web->is_stopped)
        http_server_stop(web->server, 0, on_stopped, web);
    while (!web->is_stopped && clock_mono_ms() < end_ms)
        web_turn(web);
    assert_true(web->is_stopped);
    assert_int_equal(uv_loop_close(&web->loop), 0);
    assert_int_equal(web->gone_count, web->headers_count);
    assert_int_equal(web->held_count, 0);
    (void)close(web->listen_fd);
}

void web_turn(struct web *web)
{
    (void)uv_run(&web->loop, UV_RUN_NOWAIT);
    (void)poll(NULL, 0, 1);
}

void web_wait(struct web *web, const unsigned *counter, unsigned count)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;

    while (*counter < count && clock_mono_ms() < end_ms)
        web_turn(web);
    assert_int_equal(*counter, count);
}

void web_wait_connections(struct web *web, unsigned count)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;

    while (http_server_connections(web->server) != count && clock_mono_ms() < end_ms)
        web_turn(web);
    assert_int_equal(http_server_connections(web->server), count);
}

void web_advance(struct web *web, int64_t ms)
{
    int64_t now_ms = http_now_ms(web->server) + ms;

    for (int i = 0; i < HTTP_BUCKETS; i++)
        http_connections_tick(web->server, now_ms);
}

int web_connect(struct web *web)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)web->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void web_send_bytes(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

void web_send(int fd, const char *text)
{
    web_send_bytes(fd, text, strlen(text));
}

/* ---- reading answers ----------------------------------------------------- */

/* Joins chunks in place. True once the last one is there. */
static bool join_chunks(struct web_answer *answer, char *from, const char *end)
{
    char *to = from;

    for (;;) {
        char *line = memmem(from, (size_t)(end - from), "\r\n", 2);
        if (!line)
            return false;
        size_t size = 0;
        for (const char *c = from; c < line; c++) {
            assert_non_null(strchr("0123456789abcdefABCDEF", *c));
            size = size * 16 + (size_t)(*c <= '9' ? *c - '0' : (*c | 32) - 'a' + 10);
        }
        if ((size_t)(end - line) < size + 4)
            return false;
        if (size == 0)
            break;
        memmove(to, line + 2, size);
        to += size;
        from = line + 2 + size + 2;
    }
    *to = '\0';
    answer->body_size = (size_t)(to - answer->body);
    return true;
}

/* Whether text holds a whole answer; fills status and body in. */
static bool parse(struct web_answer *answer, bool is_head)
{
    int64_t length = -1;
    int64_t status;
    char *end = answer->text + answer->size;
    char *head_end = strstr(answer->text, "\r\n\r\n");

    if (!head_end)
        return false;
    assert_true(text_starts_with(answer->text, "HTTP/1.1 "));
    assert_int_equal(text_parse_i64(answer->text + 9, 3, 100, 599, &status), 0);
    answer->status = (int)status;
    answer->body = head_end + 4;
    answer->body_size = (size_t)(end - answer->body);
    const char *found = strcasestr(answer->text, "\r\nContent-Length: ");
    if (found && found < head_end) {
        const char *digits = found + 18;
        assert_int_equal(
            text_parse_i64(digits, strspn(digits, "0123456789"), 0, INT32_MAX, &length), 0);
        return is_head || answer->body_size >= (size_t)length;
    }
    if (strcasestr(answer->text, "\r\nTransfer-Encoding: chunked\r\n")) {
        char *copy = strdup(answer->body);
        struct web_answer trial = {.body = copy};
        bool is_whole = join_chunks(&trial, copy, copy + answer->body_size);
        free(copy);
        return is_whole && join_chunks(answer, answer->body, end);
    }
    return true;
}

void web_receive(struct web *web, int fd, bool until_close, struct web_answer *out)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;
    struct web_answer answer = {.text = calloc(1, WEB_TEXT_SIZE)};
    bool is_whole = false;

    assert_non_null(answer.text);
    while (clock_mono_ms() < end_ms && !answer.is_closed && !answer.is_reset) {
        web_turn(web);
        ssize_t count =
            recv(fd, answer.text + answer.size, WEB_TEXT_SIZE - 1 - answer.size, MSG_DONTWAIT);
        if (count > 0)
            answer.size += (size_t)count;
        else if (count == 0)
            answer.is_closed = true;
        else if (errno == ECONNRESET)
            answer.is_reset = true;
        if (!is_whole && count > 0)
            is_whole = parse(&answer, false);
        if (is_whole && !until_close)
            break;
    }
    *out = answer;
}

void web_exchange(struct web *web, const char *request, bool until_close, struct web_answer *out)
{
    int fd = web_connect(web);

    web_send(fd, request);
    web_receive(web, fd, until_close, out);
    (void)close(fd);
}

void web_answer_free(struct web_answer *answer)
{
    free(answer->text);
    *answer = (struct web_answer){0};
}

bool web_has_line(const struct web_answer *answer, const char *line)
{
    char wanted[256];

    assert_true((size_t)snprintf(wanted, sizeof wanted, "\r\n%s\r\n", line) < sizeof wanted);
    return answer->text && strcasestr(answer->text, wanted) != NULL;
}
