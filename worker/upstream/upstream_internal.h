/* What upstream.c, upstream_pool.c, upstream_curl.c and upstream_multi.c share. Nobody else
 * includes this. */
#ifndef PENSTOCK_UPSTREAM_INTERNAL_H
#define PENSTOCK_UPSTREAM_INTERNAL_H

#include <curl/curl.h>
#include <uv.h>

#include "common/base/buf.h"
#include "worker/upstream/answer_head.h"
#include "worker/upstream/link.h"
#include "worker/upstream/resolver.h"
#include "worker/upstream/upstream.h"
#include "worker/upstream/wheel.h"

enum {
    MULTI_COUNT_MAX = 32,
    MULTI_CALLS_FIRST = 32,    /* running calls a multi handle takes before the next one is used */
    MULTI_IDLE_MS = 60 * 1000, /* without a call for so long: its connections are closed */
    CALLS_IDLE_MAX = 1024,     /* ended calls kept for the next ones */
    CONNECTION_AGE_MAX_S = 45, /* idle; below what servers keep connections for */
    CONNECTION_LIFE_MAX_S = 600,  /* so that new addresses and certificates are noticed */
    READ_BUFFER_BYTES = 8 * 1024, /* one per call in flight */
    SEND_BUFFER_BYTES = 16 * 1024 /* libcurl's least; only for bodies beyond 64 KiB */
};

enum call_phase {
    CALL_IDLE,       /* in the pool of ended calls */
    CALL_RESOLVING,  /* waits for the name */
    CALL_CONNECTING, /* libcurl has it; the request did not go out */
    CALL_SENT,       /* the request goes or went out, nothing came back */
    CALL_RECEIVING,
    CALL_ENDED /* on_end runs */
};

/* Why we made libcurl stop, when it was us. */
enum call_stop { STOP_NONE, STOP_TOO_LARGE, STOP_ENCODED, STOP_HEAD, STOP_REFUSED, STOP_RESENT };

struct multi {
    struct upstream_pool *pool;
    CURLM *handle;
    uv_timer_t timer;
    unsigned running;
    bool was_used; /* may hold connections */
    int64_t used_at_mono_ms;
    bool is_broken; /* libcurl said its state is undefined */
};

struct upstream_call {
    struct upstream_pool *pool;
    struct multi *multi; /* while libcurl has it */
    CURL *easy;
    struct link link;   /* of the pool: live, or idle */
    struct link ending; /* aborted, or its name is known not to exist */
    struct wheel_entry deadline;
    struct resolver_wait wait;
    enum call_phase phase;
    enum call_stop stop;
    unsigned passes; /* how often libcurl was about to send the request */
    bool is_aborted;
    bool was_reused;
    upstream_chunk_fn on_chunk;
    upstream_end_fn on_end;
    void *arg;
    int first_byte_timeout_ms;
    int idle_timeout_ms;
    int64_t phase_due_ms; /* monotonic; of connect, first byte, or the next byte */
    int64_t total_due_ms;
    int64_t started_at_ns;
    int64_t first_byte_at_ns; /* 0: none came */
    struct answer_head head;
    struct buf body;
    struct curl_slist *headers; /* one block: the list, then its texts */
    struct curl_slist pin;      /* "host:port:addresses" */
    char host[256];             /* "" for an address */
    int port;
    char error[CURL_ERROR_SIZE];
};

/* A socket of libcurl and its watcher. The watcher lives as long as the socket: a kept connection
 * that is used again needs no system call to be watched again. */
struct watched_socket {
    uv_poll_t poll;
    struct multi *multi;
    curl_socket_t fd;
    int wanted;  /* what libcurl waits for: UV_READABLE | UV_WRITABLE */
    int watched; /* what the loop watches for */
};

struct upstream_pool {
    struct upstream_pool_options options;
    uv_loop_t *loop;
    CURLSH *share;
    struct resolver *resolver;
    struct multi multis[MULTI_COUNT_MAX];
    unsigned multi_count;
    struct watched_socket **sockets; /* by descriptor */
    size_t sockets_size;
    struct link live;
    struct link idle;
    struct link ending;
    unsigned live_count;
    unsigned running_count; /* of these, with libcurl */
    unsigned idle_count;
    struct wheel wheel;
    int64_t wheel_armed_ms; /* -1: the timer is not running */
    uv_timer_t wheel_timer;
    uv_timer_t tidy_timer;
    uv_idle_t pending; /* runs while something must be done before the loop waits */
    unsigned open_handles;
    bool is_closing;
    bool is_closed;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

/* upstream.c */
void call_free(struct upstream_call *call); /* one that is idle, or half made */
void call_end(struct upstream_call *call, enum upstream_end end, int http_status,
              const char *detail);
/* Sets the time limit of the phase the call enters; 0: none. */
void call_limit_phase(struct upstream_call *call, int timeout_ms, int64_t now_mono_ms);

/* upstream_pool.c */
/* What is pending is looked at before the loop waits again. */
void pool_wake(struct upstream_pool *pool);

/* upstream_curl.c: everything that is said to a libcurl handle of one call */
MUST_CHECK int call_easy_create(struct upstream_call *call);
MUST_CHECK int call_easy_prepare(struct upstream_call *call,
                                 const struct upstream_request *request);
MUST_CHECK int call_check_request(const struct upstream_request *request,
                                  struct upstream_call *call);
MUST_CHECK int call_pin(struct upstream_call *call, const char *addresses);
void call_finish(struct upstream_call *call, CURLcode result);

/* upstream_multi.c: multi handles, their timers and sockets */
MUST_CHECK int multi_open(struct multi *multi, struct upstream_pool *pool);
void multi_close(struct multi *multi);
struct multi *multi_pick(struct upstream_pool *pool);
MUST_CHECK int multi_add(struct multi *multi, struct upstream_call *call);
void multi_remove(struct upstream_call *call);
/* Ends the calls of multi handles libcurl gave up, and opens those anew. */
void multi_mend(struct upstream_pool *pool);
/* Closes the connections of multi handles nobody used lately. */
void multi_tidy(struct upstream_pool *pool, int64_t now_mono_ms);
/* Stops watching whatever libcurl left behind. */
void multi_forget_sockets(struct upstream_pool *pool);
curl_socket_t multi_on_open_socket(void *pool, curlsocktype purpose, struct curl_sockaddr *address);
int multi_on_close_socket(void *pool, curl_socket_t fd);

#endif
