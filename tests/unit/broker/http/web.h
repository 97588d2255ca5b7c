/* A server on port 0 and clients on plain sockets, all on one loop in one thread. */
#ifndef PENSTOCK_TEST_HTTP_WEB_H
#define PENSTOCK_TEST_HTTP_WEB_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "broker/http/http_internal.h"
#include "broker/http/http_server.h"

enum { WEB_HELD_MAX = 64, WEB_TEXT_SIZE = 512 * 1024 };

struct web {
    uv_loop_t loop;
    struct http_server *server;
    int listen_fd;
    int port;
    size_t body_max;    /* what on_headers asks for */
    bool is_holding;    /* on_complete keeps requests in held instead of answering */
    bool is_streaming;  /* on_headers streams the body */
    bool pauses;        /* on_body pauses after each piece */
    int early_status;   /* on_headers answers at once */
    int refusal_status; /* what on_refused answers; 0: 413 */
    struct http_request *held[WEB_HELD_MAX];
    unsigned held_count;
    unsigned headers_count, complete_count, refused_count, gone_count, answered_count, freed_count;
    size_t streamed_size;
    unsigned pieces_count;
    enum http_refusal refusal;
    struct http_request *streaming; /* the last request whose body is streamed */
    bool is_stopped;
};

struct web_answer {
    int status; /* 0: none came */
    char *text; /* head and body as received, terminated */
    size_t size;
    char *body; /* inside text; chunks are joined */
    size_t body_size;
    bool is_closed; /* by the server, orderly */
    bool is_reset;
};

/* options: connections_max, per_address_max and body_bytes_budget of it are used when not 0. */
void web_start(struct web *web, const struct http_server_options *options);
/* Stops, and checks that the loop is empty and every request was given up. */
void web_stop(struct web *web);
/* One turn without waiting, then a breath for the kernel. */
void web_turn(struct web *web);
/* Turns until *counter reaches count; fails the test after 5 s. */
void web_wait(struct web *web, const unsigned *counter, unsigned count);
void web_wait_connections(struct web *web, unsigned count);
/* Deadlines as they will be ms from now. */
void web_advance(struct web *web, int64_t ms);

int web_connect(struct web *web);
void web_send(int fd, const char *text);
void web_send_bytes(int fd, const void *bytes, size_t size);
/* Reads one whole answer; with until_close goes on until the server closes. */
void web_receive(struct web *web, int fd, bool until_close, struct web_answer *out);
/* Connects, sends, receives, closes. */
void web_exchange(struct web *web, const char *request, bool until_close, struct web_answer *out);
void web_answer_free(struct web_answer *answer);
/* Whether this line stands in the answer (in any case of letters). */
bool web_has_line(const struct web_answer *answer, const char *line);

#endif
