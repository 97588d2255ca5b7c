/* The simulator itself: one thread, one epoll, everything bounded.
 *
 * sim_main.c     command line, listening, the loop
 * sim_conn.c     a connection's life: reading requests, timers, closing
 * sim_send.c     an answer's way out: head, framing, drips, cuts
 * sim_route.c    which handler a request gets; refusals
 * sim_generate.c generation requests: gates, behaviour, rendering
 * sim_control.c  /stats, /control, /metrics, /health, /v1/models
 */
#ifndef SIM_H
#define SIM_H

#include "sim_base.h"
#include "sim_conn.h"
#include "sim_http.h"
#include "sim_reply.h"
#include "sim_request.h"
#include "sim_settings.h"
#include "sim_stats.h"
#include "sim_text.h"
#include "sim_timer.h"

#include <stdbool.h>

enum {
    LISTENER_COUNT_MAX = 16,
    SCRATCH_BYTES = 256 * 1024,     /* one read */
    FILLER_BYTES = 64 * 1024,       /* one write of padding */
    KEEP_BYTES = 8 * 1024,          /* buffers up to this size stay with their connection */
    PIPELINE_BYTES_MAX = 64 * 1024, /* read ahead while a request is being answered */
    LINGER_MS = 1000,               /* how long a closed answer waits for the client's close */
    TICK_MS = 100,                  /* of drips and of the log */
    SWEEP_MS = 5000,                /* how often idle connections are looked for */
    NEVER_MS = 3600 * 1000          /* even "never" ends */
};

struct sim {
    int epoll_fd;
    int signal_fd;
    struct watch signal_watch;
    struct listener listeners[LISTENER_COUNT_MAX];
    size_t listener_count;
    bool is_accept_paused; /* out of descriptors */
    bool is_stopping;
    int64_t now_mono_us;
    int64_t now_mono_ms;
    int64_t now_wall_ms;
    int64_t idle_timeout_ms;
    struct timer_heap timers;
    struct timer ledger_timer;
    struct timer sweep_timer;
    struct conn *open_conns;
    struct conn *free_conns;
    struct conn *dead_conns; /* closed in this turn */
    size_t free_count;
    struct conn *wait_first;
    struct conn *wait_last;
    int64_t executing;
    struct settings settings;
    struct settings start_settings; /* as of the command line */
    double bucket;                  /* of rate_limit, in requests */
    int64_t bucket_mono_us;
    uint64_t random;
    uint64_t id_next;
    int64_t date_s;
    char date[32];
    struct stats stats;
    struct table fail_keys;
    struct ledger ledger;
    struct text_buf body;     /* scratch of the answer being made */
    struct text_buf text;     /* scratch of its text */
    struct text_buf headers;  /* its extra headers */
    struct setting_room room; /* here since the stack may be cleared on each call */
    char *scratch;
    char *filler;
};

/* --- sim_route.c ----------------------------------------------------------------------------- */

/* Answer a complete request. */
void route_request(struct conn *conn, const struct http_request *request);

/* Answer with an error and close: the bytes are not HTTP as we know it. */
void route_refuse(struct conn *conn, int status, const char *why);

/* Compose sim->body as an answer without any behaviour and start it. */
void route_answer(struct conn *conn, const struct http_request *request, int status,
                  const char *content_type);
void route_answer_refusal(struct conn *conn, const struct http_request *request,
                          const struct refusal *refusal);
uint64_t route_next_id(struct sim *sim);

/* Whether the request's key is the one asked for. */
bool route_is_authorized(const struct sim *sim, const struct http_request *request);

/* --- sim_generate.c -------------------------------------------------------------------------- */

void generate_answer(struct conn *conn, const struct http_request *request);

/* --- sim_control.c --------------------------------------------------------------------------- */

void control_answer(struct conn *conn, const struct http_request *request);

#endif
