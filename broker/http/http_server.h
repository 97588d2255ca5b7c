/* HTTP/1.1 server on a libuv loop: bytes <-> requests. Knows no jobs. The only door to
 * libmicrohttpd.
 *
 * libmicrohttpd runs in external epoll mode: its epoll descriptor is watched by our loop. Requests
 * whose answer is not there yet are suspended; while suspended it notices neither hang-up nor
 * time-out, so this module watches those sockets itself and keeps its own deadlines: header 10 s,
 * body 30 s + a minimum rate of 1 KiB/s, idle 60 s, waits as set.
 *
 * Life of a request, all on the loop's thread:
 *   on_headers   once. Either answers at once (the body is then not read: bounded drain and close),
 *                or calls http_request_want_body / http_request_stream_body and waits for more.
 *   on_body      zero or more times, streamed bodies only
 *   on_complete  once the whole body is there (also for requests without one)
 *   on_refused   instead of on_complete: body too large, too slow, malformed. Must answer.
 *   on_gone      exactly once, last: answered completely, or the client left. The request is freed
 * after it. http_respond may be called inside any of these or at any later time until on_gone. */
#ifndef PENSTOCK_HTTP_SERVER_H
#define PENSTOCK_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/slice.h"

struct uv_loop_s;
struct http_server;
struct http_request;

enum http_refusal {
    HTTP_BODY_TOO_LARGE,
    HTTP_BODY_TOO_SLOW,
    HTTP_BODY_MALFORMED,
    HTTP_OUT_OF_BUDGET
};

struct http_handler {
    void (*on_headers)(struct http_request *request, void *arg);
    void (*on_body)(struct http_request *request, const char *bytes, size_t size, void *arg);
    void (*on_complete)(struct http_request *request, void *arg);
    void (*on_refused)(struct http_request *request, enum http_refusal why, void *arg);
    void (*on_gone)(struct http_request *request, bool was_answered, void *arg);
    void *arg;
};

struct http_server_options {
    struct uv_loop_s *loop;
    int listen_fd; /* bound, listening, non-blocking; shared by processes; not closed by us */
    unsigned connections_max;
    unsigned per_address_max;  /* connections of one peer address, 0 = no limit */
    int64_t body_bytes_budget; /* all bodies in progress together; beyond: HTTP_OUT_OF_BUDGET. And
                                  all large answers: see http_request_has_room */
    bool is_counted;           /* requests, errors and seconds go into the metrics table */
    struct http_handler handler;
};

MUST_CHECK int http_server_create(const struct http_server_options *options,
                                  struct http_server **out, struct error_text *why);
/* Stops accepting; answers in flight go on; kept-alive connections get Connection: close and idle
 * ones are closed; everything left after grace_ms is cut. on_stopped runs once, the server is freed
 * after it. */
void http_server_stop(struct http_server *server, int64_t grace_ms, void (*on_stopped)(void *arg),
                      void *arg);
unsigned http_server_connections(const struct http_server *server);
unsigned http_server_held(const struct http_server *server); /* suspended requests */
/* Opens and binds "host:port" or "unix:/path" for the parent to share. Returns a descriptor or
 * ERR_IO. */
MUST_CHECK int http_listen(const char *address, struct error_text *why);
/* The port a descriptor of http_listen is bound to (for ":0"). */
int http_listen_port(int fd);

/* ---- request ------------------------------------------------------------- */
struct slice http_request_method(const struct http_request *request);
struct slice http_request_path(
    const struct http_request *request); /* raw, still percent-encoded, without query */
/* First query parameter of that name, percent-decoded into the request's own memory; bytes NULL
 * when absent. */
struct slice http_request_query(struct http_request *request, const char *name);
struct slice http_request_header(const struct http_request *request,
                                 const char *name); /* name in any case; NULL when absent */
struct slice http_request_peer(const struct http_request *request); /* "127.0.0.1" */
int64_t
http_request_content_length(const struct http_request *request); /* -1: not given (chunked) */
bool http_request_has_body(const struct http_request *request);
int64_t http_request_started_mono_ms(const struct http_request *request);
/* Collect the body, at most size_max bytes (more: on_refused). */
void http_request_want_body(struct http_request *request, size_t size_max);
/* Deliver the body by on_body as it comes. http_request_pause_body stops reading (back pressure).
 */
void http_request_stream_body(struct http_request *request);
void http_request_pause_body(struct http_request *request, bool paused);
/* The collected body; valid until on_gone. */
struct slice http_request_body(const struct http_request *request);
/* The client asked to wait (long poll, answer of a job): how long it took says nothing of us, and
 * is left out of METRIC_HTTP_SECONDS. Streams are left out by themselves. */
void http_request_mark_held(struct http_request *request);
/* The handler's own pointer. */
void http_request_set_data(struct http_request *request, void *data);
void *http_request_data(const struct http_request *request);

/* ---- response ------------------------------------------------------------ */
struct http_header {
    const char *name;
    struct slice value; /* < 4 KiB, no control bytes: else the header is left out and logged */
};
struct http_reply {
    int status;
    const char *content_type;          /* NULL: none */
    const struct http_header *headers; /* borrowed */
    unsigned headers_count;
    struct slice body;              /* copied, unless body_free is given */
    void (*body_free)(void *bytes); /* taken: called with body.bytes once sent */
    bool must_close;
};
/* Whether there is room to answer with a body of this size, which stays in memory until its client
 * has taken it. False for large ones only (over 64 KiB) and while others take up the budget. */
bool http_request_has_room(const struct http_request *request, size_t size);
/* Answers. A second answer to one request is a broken invariant. */
void http_respond(struct http_request *request, const struct http_reply *reply);
/* Starts a chunked answer of unknown length; then write and end. Not before on_complete. */
void http_stream_start(struct http_request *request, const struct http_reply *head);
/* Copies bytes into the stream's buffer. ERR_FULL when more than buffer_max (256 KiB) waits for a
 * slow reader: the caller ends the stream; nothing is lost, readers resume by event id. */
MUST_CHECK int http_stream_write(struct http_request *request, const void *bytes, size_t size);
void http_stream_end(struct http_request *request);

#endif
