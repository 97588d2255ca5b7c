/* Requests: from the request line to the completed notice, and the reading of bodies.
 *
 * libmicrohttpd calls the access handler once with the headers, then with each piece of body, then
 * once more when all is there. An answer is queued in the last call only (or, closing the
 * connection, in the first): queued earlier it would cut connections with unread bytes, and the
 * client would see a reset instead of the answer. */
#include "broker/http/http_server.h"

#include <stdlib.h>
#include <string.h>

#include "broker/http/http_internal.h"
#include "common/base/clock.h"

static struct http_request *take_free(struct http_server *server)
{
    struct http_request *request = server->free_requests;

    if (!request)
        return calloc(1, sizeof *request);
    server->free_requests = request->next_free;
    server->free_requests_count--;
    return request;
}

/* Clears everything but the memory of its buffers, when that is small. */
static void release(struct http_request *request)
{
    struct http_server *server = request->server;
    struct buf kept[] = {request->body, request->reply, request->query};

    if (request->target != request->target_inline)
        free(request->target);
    free(request->params);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (kept[i].capacity > HTTP_BODY_KEEP_BYTES)
            buf_deinit(&kept[i]);
        buf_clear(&kept[i]);
    }
    server->body_bytes -= request->budget;
    server->reply_bytes -= request->reply_budget;
    if (server->free_requests_count >= HTTP_POOLED_MAX) {
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            buf_deinit(&kept[i]);
        free(request);
        return;
    }
    memset(request, 0, offsetof(struct http_request, target_inline));
    request->body = kept[0];
    request->reply = kept[1];
    request->query = kept[2];
    request->next_free = server->free_requests;
    server->free_requests = request;
    server->free_requests_count++;
}

void http_requests_free(struct http_server *server)
{
    while (server->free_requests) {
        struct http_request *request = server->free_requests;
        server->free_requests = request->next_free;
        buf_deinit(&request->body);
        buf_deinit(&request->reply);
        buf_deinit(&request->query);
        free(request);
    }
}

/* Also the first notice of a request; what it returns becomes *context. */
void *http_request_open(void *arg, const char *target, struct MHD_Connection *mhd)
{
    struct http_server *server = arg;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct http_request *request = take_free(server);

    CHECK(info && info->socket_context);
    if (!request)
        return NULL;
    request->server = server;
    request->connection = info->socket_context;
    CHECK(!request->connection->request);
    request->connection->request = request;
    request->started_mono_ms = http_now_ms(server);
    request->started_mono_ns = clock_mono_ns();
    request->params_count = -1;
    request->line_target = target;
    request->target_size = strlen(target);
    request->target = request->target_inline;
    if (request->target_size >= HTTP_TARGET_INLINE) {
        request->target = malloc(request->target_size + 1);
        if (!request->target) {
            request->target = request->target_inline;
            request->target_size = 0; /* refused as malformed: better than a wrong path */
        }
    }
    memcpy(request->target, target, request->target_size);
    request->target[request->target_size] = '\0';
    return request;
}

/* ---- the head ------------------------------------------------------------ */

struct head_scan {
    struct http_framing *framing;
    const char *line_end; /* where the line before ended */
    bool is_in_place;     /* every line so far began two bytes after the one before ended */
};

static enum MHD_Result on_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                 size_t name_size, const char *value, size_t value_size)
{
    struct head_scan *scan = arg;

    (void)kind;
    if (!value)
        return MHD_YES;
    http_framing_add(scan->framing, (struct slice){name, name_size},
                     (struct slice){value, value_size});
    if (name != scan->line_end + 2 || value < name + name_size + 1)
        scan->is_in_place = false;
    scan->line_end = value + value_size;
    return MHD_YES;
}

/* Older versions of libmicrohttpd end lines at a bare LF, unfold folded ones, cut texts at NUL, and
 * leave out what follows a header without a name, all without a word. But they parse in place and
 * say how long the head was: unless every part stands exactly where the one before lets it begin,
 * and the end where it should, something of that kind happened. */
static bool is_head_clean(const struct http_request *request, const struct head_scan *scan,
                          const char *version, size_t head_size)
{
#if MHD_VERSION >= 0x00097701
    (void)request, (void)scan, (void)version, (void)head_size;
    return true; /* refused by the parser itself, see STRICTNESS */
#else
    return request->line_target == request->method + strlen(request->method) + 1 &&
           version == request->line_target + request->target_size + 1 && scan->is_in_place &&
           request->method + head_size == scan->line_end + 4 &&
           memcmp(scan->line_end, "\0\0\0\0", 4) == 0; /* what it leaves of CR LF CR LF */
#endif
}

static void check_head(struct http_request *request, const char *method, const char *version)
{
    struct http_framing *framing = &request->framing;
    struct MHD_Connection *mhd = request->connection->mhd;
    struct slice target = {request->target, request->target_size};
    struct head_scan scan = {
        .framing = framing, .line_end = version + strlen(version), .is_in_place = true};

    http_framing_start(framing);
    (void)MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, on_header, &scan);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    CHECK(info != NULL);
    http_framing_line(framing, slice_of(method), target, &request->path_at);
    http_framing_end(framing, slice_of(version), info->header_size - target.size);
    if (framing->status == 0 && !is_head_clean(request, &scan, version, info->header_size)) {
        framing->status = 400;
        framing->detail =
            "a line of the head is folded, has no name, holds a NUL or does not end in CR LF";
    }
    const char *path = target.bytes + request->path_at;
    const char *query = memchr(path, '?', target.size - request->path_at);
    request->path_size = query ? (size_t)(query - path) : target.size - request->path_at;
}

static enum MHD_Result answer_now(struct http_request *request)
{
    request->must_close = true;
    return http_response_queue(request);
}

/* Where its body ends nobody knows, so nothing after it is read as a request. */
static enum MHD_Result refuse_head(struct http_request *request)
{
    if (request->framing.lengths_count > 0 || request->framing.encodings_count > 0) {
        request->framing.is_chunked = true;
        request->framing.expects_continue = false;
    }
    http_response_problem(request, request->framing.status, request->framing.detail);
    if (request->phase == HTTP_LINGER)
        return MHD_YES;
    return answer_now(request);
}

/* ---- bodies -------------------------------------------------------------- */

static void start_body(struct http_request *request, enum http_phase phase)
{
    request->phase = phase;
    request->body_mono_ms = http_now_ms(request->server);
    request->deadline_mono_ms = request->body_mono_ms + HTTP_BODY_MS;
    request->body_left = request->framing.is_chunked ? -1 : request->framing.length;
}

/* Asks the handler for the answer to a body that is refused. */
void http_request_refuse(struct http_request *request, enum http_refusal why)
{
    const struct http_handler *handler = &request->server->options.handler;
    bool was_in_handler = request->in_handler;

    if (request->is_refused || request->is_answered)
        return;
    request->is_refused = true;
    request->in_handler = true;
    handler->on_refused(request, why, handler->arg);
    request->in_handler = was_in_handler;
    CHECK(request->is_answered);
}

/* The budget counts memory that was taken, not what a header promises. */
static bool reserve_body(struct http_request *request, size_t more)
{
    struct http_server *server = request->server;
    size_t wanted = request->body.size + more;
    size_t step = request->body.capacity * 2;

    if (wanted + 1 <= request->body.capacity)
        return true;
    if (step < HTTP_BODY_STEP_BYTES)
        step = HTTP_BODY_STEP_BYTES;
    if (step > request->body_max)
        step = request->body_max;
    if (!request->framing.is_chunked && step > (size_t)request->framing.length)
        step = (size_t)request->framing.length; /* exactly: no byte too many */
    if (step < wanted)
        step = wanted;
    if (server->body_bytes - request->budget + (int64_t)step > server->options.body_bytes_budget)
        return false;
    if (buf_reserve(&request->body, step - request->body.size) != 0)
        return false;
    server->body_bytes += (int64_t)step - request->budget;
    request->budget = (int64_t)step;
    return true;
}

static void collect(struct http_request *request, const char *bytes, size_t size)
{
    if (size > request->body_max - request->body.size)
        http_request_refuse(request, HTTP_BODY_TOO_LARGE);
    else if (!reserve_body(request, size) || buf_append(&request->body, bytes, size) != 0)
        http_request_refuse(request, HTTP_OUT_OF_BUDGET);
}

/* One piece of body. MHD_NO closes the connection. */
static enum MHD_Result take_body(struct http_request *request, const char *bytes, size_t *size)
{
    const struct http_handler *handler = &request->server->options.handler;

    if (request->phase == HTTP_STREAM && request->is_paused) {
        http_connection_suspend(request->connection); /* the bytes stay where they are */
        return MHD_YES;
    }
    size_t count = *size;
    *size = 0;
    request->body_taken += (int64_t)count;
    if (request->body_left >= (int64_t)count)
        request->body_left -= (int64_t)count;
    switch (request->phase) {
    case HTTP_COLLECT:
        collect(request, bytes, count);
        break;
    case HTTP_STREAM:
        request->in_handler = true;
        handler->on_body(request, bytes, count, handler->arg);
        request->in_handler = false;
        break;
    case HTTP_DISCARD:
        if (request->body_taken > HTTP_DISCARD_BYTES && !request->is_answered)
            http_request_refuse(request, HTTP_BODY_TOO_LARGE);
        break;
    case HTTP_LINGER:
        return request->body_taken > HTTP_DISCARD_BYTES ? MHD_NO : MHD_YES;
    case HTTP_LINE:
    case HTTP_HEADERS:
    case HTTP_COMPLETE:
    case HTTP_QUEUED:
        CHECK(!"a body where none can be");
        break;
    }
    if (request->phase == HTTP_STREAM && request->is_paused)
        http_connection_suspend(request->connection);
    return MHD_YES;
}

/* ---- the access handler -------------------------------------------------- */

static enum MHD_Result take_headers(struct http_request *request, const char *method,
                                    const char *version)
{
    const struct http_handler *handler = &request->server->options.handler;

    request->phase = HTTP_HEADERS;
    request->method = method;
    request->in_headers = true;
    check_head(request, method, version);
    if (request->framing.status != 0)
        return refuse_head(request);
    request->is_known = true;
    request->in_handler = true;
    handler->on_headers(request, handler->arg);
    if (request->phase == HTTP_COLLECT && !request->framing.is_chunked &&
        request->framing.length > (int64_t)request->body_max)
        http_request_refuse(request, HTTP_BODY_TOO_LARGE); /* before a byte of it is read */
    request->in_handler = false;
    request->in_headers = false;
    if (request->is_dead)
        return MHD_NO;
    if (request->phase == HTTP_LINGER || !http_request_has_body(request))
        return MHD_YES;
    if (request->is_answered && request->framing.expects_continue)
        return answer_now(request); /* the client has not begun to send it */
    if (request->phase == HTTP_HEADERS)
        start_body(request, HTTP_DISCARD); /* answered already, or a body that means nothing here */
    return MHD_YES;
}

static enum MHD_Result take_end(struct http_request *request)
{
    const struct http_handler *handler = &request->server->options.handler;

    if (request->phase == HTTP_LINGER)
        return MHD_NO; /* it has read the answer or never will */
    if (request->phase < HTTP_COMPLETE) {
        request->phase = HTTP_COMPLETE;
        if (!request->is_answered) {
            request->in_handler = true;
            handler->on_complete(request, handler->arg);
            request->in_handler = false;
        }
    }
    if (request->is_answered)
        return http_response_queue(request);
    http_connection_suspend(request->connection);
    return MHD_YES;
}

enum MHD_Result http_request_access(void *arg, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *bytes,
                                    size_t *size, void **context)
{
    struct http_request *request = *context;

    (void)arg;
    (void)mhd;
    (void)url;
    if (!request || request->is_dead) /* out of memory, or gone */
        return MHD_NO;
    if (request->phase == HTTP_LINE)
        return take_headers(request, method, version);
    if (*size > 0)
        return take_body(request, bytes, size);
    return take_end(request);
}

void http_request_completed(void *arg, struct MHD_Connection *mhd, void **context,
                            enum MHD_RequestTerminationCode why)
{
    struct http_server *server = arg;
    struct http_request *request = *context;
    const struct http_handler *handler = &server->options.handler;

    (void)mhd;
    *context = NULL;
    if (!request)
        return;
    struct http_connection *connection = request->connection;
    bool was_answered = request->is_sent_raw || (request->phase == HTTP_QUEUED &&
                                                 why == MHD_REQUEST_TERMINATED_COMPLETED_OK);

    CHECK(!connection->is_suspended);
    connection->request = NULL;
    connection->requests_count++;
    connection->since_mono_ms = http_now_ms(server);
    connection->header_mono_ms = 0;
    connection->bytes_seen = -1;
    request->is_dead = true;
    if (request->is_known)
        handler->on_gone(request, was_answered, handler->arg);
    if (request->response)
        MHD_destroy_response(request->response);
    release(request);
}

/* ---- what handlers ask --------------------------------------------------- */

void http_request_want_body(struct http_request *request, size_t size_max)
{
    CHECK(request->phase == HTTP_HEADERS);
    CHECK(!request->is_answered);
    CHECK(size_max < SIZE_MAX / 4);
    if (!http_request_has_body(request))
        return;
    request->body_max = size_max;
    request->body.size_max = size_max + 1;
    start_body(request, HTTP_COLLECT);
}

void http_request_stream_body(struct http_request *request)
{
    CHECK(request->phase == HTTP_HEADERS);
    CHECK(!request->is_answered);
    CHECK(request->server->options.handler.on_body != NULL);
    if (http_request_has_body(request))
        start_body(request, HTTP_STREAM);
}

void http_request_pause_body(struct http_request *request, bool paused)
{
    if (request->phase != HTTP_STREAM || request->is_paused == paused)
        return;
    request->is_paused = paused;
    if (paused)
        return; /* takes hold at the next piece */
    request->body_mono_ms = http_now_ms(request->server);
    request->body_taken = 0;
    request->deadline_mono_ms = request->body_mono_ms + HTTP_BODY_MS;
    http_connection_resume(request->connection);
}

bool http_request_has_body(const struct http_request *request)
{
    return request->framing.is_chunked || request->framing.length > 0;
}

int64_t http_request_content_length(const struct http_request *request)
{
    return request->framing.length;
}

struct slice http_request_body(const struct http_request *request)
{
    return (struct slice){request->body.data, request->body.size};
}

struct slice http_request_method(const struct http_request *request)
{
    return slice_of(request->method);
}

struct slice http_request_path(const struct http_request *request)
{
    return (struct slice){request->target + request->path_at, request->path_size};
}

struct slice http_request_header(const struct http_request *request, const char *name)
{
    const char *value = NULL;
    size_t size = 0;

    if (MHD_lookup_connection_value_n(request->connection->mhd, MHD_HEADER_KIND, name, strlen(name),
                                      &value, &size) != MHD_YES ||
        !value)
        return (struct slice){0};
    while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t'))
        size--;
    return (struct slice){value, size};
}

int64_t http_request_started_mono_ms(const struct http_request *request)
{
    return request->started_mono_ms;
}

void http_request_mark_held(struct http_request *request)
{
    request->is_held = true;
}

void http_request_set_data(struct http_request *request, void *data)
{
    request->data = data;
}

void *http_request_data(const struct http_request *request)
{
    return request->data;
}
