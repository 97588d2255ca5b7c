/* HTTP calls to upstreams: libcurl's multi socket interface on the libuv loop. Knows no jobs and no
 * providers.
 *
 * Transfers are spread over several multi handles (one handle's connection search is quadratic in
 * busy connections to a host, measured), connections are reused, HTTP/1.1 unless asked, names
 * resolved off the loop (libuv's thread pool) and pinned, proxies off, redirects not followed, a
 * POST is never silently sent twice (a pre-request callback counts passes). Answers are bounded by
 * decoded bytes. */
#ifndef PENSTOCK_UPSTREAM_UPSTREAM_H
#define PENSTOCK_UPSTREAM_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/slice.h"

struct uv_loop_s;
struct upstream_pool; /* one per child */
struct upstream_call;

struct upstream_pool_options {
    struct uv_loop_s *loop;
    unsigned calls_max;        /* in flight; more: ERR_BUSY */
    unsigned multi_count;      /* 0 = chosen from calls_max: 1 per 32 calls, at most 32 */
    size_t response_bytes_max; /* decoded */
};
MUST_CHECK int upstream_pool_create(const struct upstream_pool_options *options,
                                    struct upstream_pool **out, struct error_text *why);
/* Aborts what runs (callbacks come with UPSTREAM_ABORTED), closes connections. */
void upstream_pool_close(struct upstream_pool *pool, void (*on_closed)(void *arg), void *arg);
unsigned upstream_pool_in_flight(const struct upstream_pool *pool);

enum upstream_end {
    UPSTREAM_ANSWERED, /* a complete answer: status, headers and body are there */
    UPSTREAM_CONNECT,  /* refused, unreachable, TLS, name not found, connect time-out: never reached
                          it */
    UPSTREAM_TIMEOUT_FIRST_BYTE,
    UPSTREAM_TIMEOUT_IDLE,
    UPSTREAM_TIMEOUT_TOTAL,
    UPSTREAM_BROKEN, /* cut, truncated or reset after the request went out */
    UPSTREAM_TOO_LARGE,
    UPSTREAM_PROTOCOL, /* not HTTP, HTTP/0.9, bad encoding */
    UPSTREAM_ABORTED   /* by upstream_call_abort or close */
};

struct upstream_request {
    const char *method; /* "POST", "GET" */
    const char *url;    /* copied */
    struct slice
        body; /* borrowed until on_end! (a claimed job's body lives as long as its attempt) */
    const struct slice *headers; /* complete lines "name: value", checked for CR/LF; copied */
    unsigned headers_count;
    /* connect: name, TCP and TLS; first byte: from the request's start; idle: between bytes;
     * timeout: the whole call. All but the last may be 0: no limit of its own. */
    int connect_timeout_ms, first_byte_timeout_ms, idle_timeout_ms, timeout_ms;
    bool http2;
    bool is_fresh; /* on a connection of its own, none that was kept */
};
struct upstream_answer {
    enum upstream_end end;
    int http_status;
    struct slice body; /* borrowed for the callback */
    char content_type[128];
    int64_t retry_after_ms; /* -1: none; from retry-after-ms or retry-after (seconds or date) */
    int should_retry;       /* x-should-retry: 1 true, 0 false, -1 absent */
    char request_id[80];
    int64_t rate_remaining_requests; /* -1 absent; x-ratelimit-remaining-requests */
    int64_t rate_remaining_tokens;   /* -1 absent; x-ratelimit-remaining-tokens */
    bool was_stale; /* BROKEN on a kept connection before the first byte: most likely it was closed
                       while idle */
    double first_byte_ms, total_ms;
    char detail[256]; /* words for people when not ANSWERED; no secrets */
};
typedef void (*upstream_end_fn)(const struct upstream_answer *answer, void *arg);
/* Called with pieces of the body as they come; may be NULL. Return non-zero to abort. Called from
 * inside libcurl: it may abort calls, but not start one. The body is collected for on_end all the
 * same. */
typedef int (*upstream_chunk_fn)(const char *bytes, size_t size, void *arg);

/* on_end runs exactly once, never before this returns; the call is gone when it returns. on_end may
 * start calls. ERR_BUSY, ERR_INVALID (URL, method, header, time-out), ERR_NOMEM, ERR_STATE
 * (closing). */
MUST_CHECK int upstream_call_start(struct upstream_pool *pool,
                                   const struct upstream_request *request,
                                   upstream_chunk_fn on_chunk, upstream_end_fn on_end, void *arg,
                                   struct upstream_call **out);
/* Ends the transfer within the loop turn; on_end comes with UPSTREAM_ABORTED. */
void upstream_call_abort(struct upstream_call *call);

#endif
