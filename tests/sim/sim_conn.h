/* Connections and the answer each has on its way. See sim.h for who is who. */
#ifndef SIM_CONN_H
#define SIM_CONN_H

#include "sim_base.h"
#include "sim_http.h"
#include "sim_request.h"
#include "sim_settings.h"
#include "sim_stats.h"
#include "sim_text.h"
#include "sim_timer.h"

#include <stdbool.h>

struct sim;

enum watch_kind { WATCH_LISTENER, WATCH_SIGNALS, WATCH_CONN };

/* First member of everything epoll knows. */
struct watch {
    enum watch_kind kind;
};

struct listener {
    struct watch watch;
    int fd;
};

enum conn_state {
    CONN_READING,   /* between requests, or in the middle of one */
    CONN_WAITING,   /* request complete, waits for a place (queue) */
    CONN_DELAYED,   /* waits for its delay */
    CONN_SILENT,    /* never answers */
    CONN_SENDING,   /* answer on its way */
    CONN_LINGERING, /* answer sent, ours closed, reads away what still comes */
    CONN_CLOSED     /* memory waits for the end of the turn */
};

enum finish {
    FINISH_KEEP,   /* next request, please */
    FINISH_LINGER, /* close politely */
    FINISH_CLOSE,  /* close at once */
    FINISH_RESET   /* TCP reset */
};

/* The request being answered. Positions count the answer's bytes from its first one, padding
 * included, which is never in memory as a whole. */
struct exchange {
    enum endpoint endpoint;
    bool is_generation; /* counts in stats and log */
    bool is_executing;  /* takes one of max_concurrency's places */
    bool is_silent;     /* never answer */
    bool is_cut;        /* something was dropped on purpose */
    bool is_begun;      /* first byte was sent */
    int status;         /* what the answer says; 0 when nothing is sent */
    enum finish finish;
    int64_t delay_ms;
    int64_t drip_bytes;
    int64_t token_ms;
    uint64_t fill_at;
    uint64_t fill_size;
    uint64_t sent;
    uint64_t cut_at;     /* nothing is sent from here on */
    uint64_t release_at; /* nothing is sent from here on before the next tick */
    size_t head_size;
    size_t nonce_size;
    size_t model_size;
    char nonce[SETTING_SHORT_BYTES_MAX];
    char model[SETTING_SHORT_BYTES_MAX];
};

struct conn {
    struct watch watch;
    int fd;
    enum conn_state state;
    uint32_t events; /* what epoll watches */
    struct sim *sim;
    struct conn *next; /* all open ones, or the free ones */
    struct conn *previous;
    struct conn *wait_next; /* those waiting for a place */
    struct conn *wait_previous;
    struct timer timer;
    int64_t active_mono_ms;
    struct text_buf in;
    struct text_buf out;
    /* The request being read. */
    size_t looked_at; /* bytes of the head searched for its end */
    size_t need_size; /* head and body, once the head is known; else 0 */
    bool is_chunked;
    struct http_chunks chunks;
    struct exchange exchange;
};

/* --- sim_conn.c ------------------------------------------------------------------------------ */

/* Accept what waits at a listener. */
void conn_accept_all(struct sim *sim, struct listener *listener);
void conn_on_event(struct conn *conn, uint32_t events);
void conn_on_timer(struct conn *conn);

/* The exchange is filled in and conn->out holds the answer: wait, delay or send. */
void conn_start_answer(struct conn *conn);

/* Let waiting requests in while there are places. */
void conn_admit_waiting(struct sim *sim);

/* Close connections that did nothing for too long. */
void conn_sweep(struct sim *sim);
void conn_free_dead(struct sim *sim);

/* Forget a connection without an answer; the exchange ends as `ending`. */
void conn_close(struct conn *conn, enum ending ending);
void conn_set_events(struct conn *conn, uint32_t events);

/* --- sim_send.c ------------------------------------------------------------------------------ */

/* How an answer is put together. */
struct answer {
    int status;
    const char *content_type;
    uint64_t id;
    size_t pad_at; /* see struct reply_result */
    bool is_stream;
    bool is_chunked;
    bool is_http10;
    bool is_keep_alive;
    bool is_head; /* answers HEAD: no body */
};

/* Write head and body (sim->body) into conn->out, padded, framed and spoiled as asked. */
void send_compose(struct conn *conn, const struct answer *answer,
                  const struct behaviour *behaviour);

enum send_progress {
    SEND_DONE,
    SEND_BLOCKED, /* the socket takes no more now */
    SEND_HELD,    /* the next tick releases more */
    SEND_FAILED
};

/* Send what may go now. */
enum send_progress send_pump(struct conn *conn);

/* A tick: let more bytes go. */
void send_release(struct conn *conn);

#endif
