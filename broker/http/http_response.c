/* Answers: through libmicrohttpd where the whole request was read, past it where the body was not.
 *
 * libmicrohttpd takes an answer only before or after a body, never in it, and closes at once what
 * it answers early: unread bytes would turn the close into a reset that overtakes the answer. So an
 * answer to a body that nobody reads to its end is written to the socket by us (nothing else is
 * being written then), the sending side is shut down, and the client gets a second and 64 KiB to
 * notice. */
#include "broker/http/http_server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "broker/http/http_internal.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/text.h"

enum { HEADER_VALUE_SIZE = 4096, RAW_BYTES_MAX = 1024 * 1024 };

static bool is_sendable(const struct http_header *header)
{
    if (header->value.size < HEADER_VALUE_SIZE && http_is_field_value(header->value) &&
        !memchr(header->value.bytes ? header->value.bytes : "", '\t', header->value.size))
        return true;
    log_event(LOG_WARN, "http_header_left_out", LOG_S("name", header->name));
    return false;
}

static void free_body(const struct http_reply *reply)
{
    union { /* the bytes are ours to free, though nobody may write to them */
        const char *in;
        void *out;
    } body = {.in = reply->body.bytes};
    if (reply->body_free)
        reply->body_free(body.out);
}

/* ---- past libmicrohttpd -------------------------------------------------- */

static int format_raw(struct buf *out, const struct http_reply *reply, bool with_body)
{
    char date[30];
    int status;

    text_format_http_date(clock_wall_ms(), date);
    status = buf_printf(
        out, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\nContent-Length: %zu\r\n",
        reply->status, MHD_get_reason_phrase_for((unsigned)reply->status), date, reply->body.size);
    if (status == 0 && reply->content_type)
        status = buf_printf(out, "Content-Type: %s\r\n", reply->content_type);
    for (unsigned i = 0; i < reply->headers_count && status == 0; i++) {
        const struct http_header *header = &reply->headers[i];
        if (is_sendable(header))
            status = buf_printf(out, "%s: %.*s\r\n", header->name, (int)header->value.size,
                                header->value.bytes);
    }
    if (status == 0)
        status = buf_append(out, "\r\n", 2);
    if (status == 0 && with_body)
        status = buf_append(out, reply->body.bytes, reply->body.size);
    return status;
}

static void send_raw(struct http_request *request, const struct http_reply *reply)
{
    struct http_connection *connection = request->connection;
    bool with_body = !slice_is(http_request_method(request), "HEAD");

    request->reply.size_max = RAW_BYTES_MAX;
    request->is_sent_raw = true;
    request->phase = HTTP_LINGER;
    request->body_taken = 0;
    request->is_paused = false;
    request->deadline_mono_ms = http_now_ms(request->server) + HTTP_LINGER_MS;
    if (format_raw(&request->reply, reply, with_body) == 0) {
        /* The socket's buffer is empty: what does not fit now is not worth waiting for. */
        (void)send(connection->fd, request->reply.data, request->reply.size,
                   MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    (void)shutdown(connection->fd, SHUT_WR);
    http_connection_resume(connection);
}

/* Whether the rest of the body is too long, or too slow, to be read before the answer. */
static bool must_send_raw(const struct http_request *request)
{
    int64_t left = request->body_left;

    if (request->phase >= HTTP_LINGER)
        return false;
    if (request->phase == HTTP_HEADERS) {
        if (!http_request_has_body(request))
            return false;
        left = request->framing.is_chunked ? -1 : request->framing.length;
    }
    if (request->in_headers && request->framing.expects_continue)
        return false; /* nothing was sent yet, nothing will be */
    return left < 0 || left > HTTP_DISCARD_BYTES;
}

/* ---- through libmicrohttpd ----------------------------------------------- */

static void add_headers(struct MHD_Response *response, const struct http_reply *reply)
{
    char value[HEADER_VALUE_SIZE];

    if (reply->content_type)
        (void)MHD_add_response_header(response, "Content-Type", reply->content_type);
    for (unsigned i = 0; i < reply->headers_count; i++) {
        const struct http_header *header = &reply->headers[i];
        if (!is_sendable(header))
            continue;
        if (header->value.size > 0)
            memcpy(value, header->value.bytes, header->value.size);
        value[header->value.size] = '\0';
        (void)MHD_add_response_header(response, header->name, value);
    }
}

static struct MHD_Response *make_response(struct http_request *request,
                                          const struct http_reply *reply)
{
    union { /* libmicrohttpd takes its buffers without const and does not write to them */
        const char *in;
        void *out;
    } body = {.in = reply->body.bytes};

    if (reply->body_free)
        return MHD_create_response_from_buffer_with_free_callback(reply->body.size, body.out,
                                                                  reply->body_free);
    request->reply.size_max = SIZE_MAX / 4;
    if (buf_append(&request->reply, reply->body.bytes, reply->body.size) != 0)
        return NULL;
    if (reply->body.size > HTTP_REPLY_BYTES) {
        request->reply_budget = (int64_t)reply->body.size;
        request->server->reply_bytes += request->reply_budget;
    }
    return MHD_create_response_from_buffer(request->reply.size, request->reply.data,
                                           MHD_RESPMEM_PERSISTENT);
}

enum MHD_Result http_response_queue(struct http_request *request)
{
    struct MHD_Response *response = request->response;
    struct http_server *server = request->server;

    if (!response)
        return MHD_NO;
    request->response = NULL;
    request->phase = HTTP_QUEUED;
    request->deadline_mono_ms = 0;
    if (request->must_close || server->is_stopping ||
        request->connection->requests_count + 1 >= HTTP_REQUESTS_PER_CONNECTION)
        (void)MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result result =
        MHD_queue_response(request->connection->mhd, request->status, response);
    MHD_destroy_response(response); /* our reference */
    return result;
}

static void count(const struct http_request *request, int status)
{
    if (!request->server->options.is_counted)
        return;
    metrics_add(METRIC_HTTP_REQUESTS, 1);
    if (status >= 400)
        metrics_add(METRIC_HTTP_ERRORS, 1);
    if (!request->is_held && !request->is_stream)
        metrics_observe_ms(METRIC_HTTP_SECONDS,
                           (double)(clock_mono_ns() - request->started_mono_ns) / 1e6);
}

/* The answer is made: now, or when the body is through. */
static void offer(struct http_request *request, struct MHD_Response *response, int status)
{
    struct http_connection *connection = request->connection;

    request->response = response;
    request->status = (unsigned)status;
    if (!response) {
        http_connection_cut(connection);
        return;
    }
    if (request->phase == HTTP_COLLECT || request->phase == HTTP_STREAM) {
        request->phase = HTTP_DISCARD;
        request->is_paused = false;
        http_connection_resume(connection);
    } else if (request->phase == HTTP_COMPLETE && connection->is_suspended) {
        if (http_response_queue(request) != MHD_YES)
            http_connection_cut(connection);
        http_connection_resume(connection);
    }
}

bool http_request_has_room(const struct http_request *request, size_t size)
{
    const struct http_server *server = request->server;

    return size <= HTTP_REPLY_BYTES || server->reply_bytes == 0 ||
           server->reply_bytes + (int64_t)size <= server->options.body_bytes_budget;
}

void http_respond(struct http_request *request, const struct http_reply *reply)
{
    CHECK(!request->is_answered);
    CHECK(reply->status >= 200 && reply->status <= 599);
    request->is_answered = true;
    count(request, reply->status);
    if (request->is_dead) {
        free_body(reply);
        return;
    }
    if (must_send_raw(request)) {
        send_raw(request, reply);
        free_body(reply);
        return;
    }
    request->must_close = reply->must_close;
    struct MHD_Response *response = make_response(request, reply);
    if (response)
        add_headers(response, reply);
    else
        free_body(reply);
    offer(request, response, reply->status);
}

void http_response_problem(struct http_request *request, int status, const char *detail)
{
    char text[512];
    int size = snprintf(text, sizeof text,
                        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,"
                        "\"code\":\"malformed_request\",\"detail\":\"%s\"}\n",
                        MHD_get_reason_phrase_for((unsigned)status), status, detail);
    CHECK(size > 0 && (size_t)size < sizeof text);
    http_respond(request, &(struct http_reply){.status = status,
                                               .content_type = "application/problem+json",
                                               .body = {text, (size_t)size},
                                               .must_close = true});
}

/* ---- streams ------------------------------------------------------------- */

void http_stream_offer(struct http_request *request, struct MHD_Response *response,
                       const struct http_reply *head)
{
    request->is_answered = true;
    count(request, head->status);
    request->must_close = head->must_close;
    if (response)
        add_headers(response, head);
    offer(request, response, head->status);
}
