/* What happened so far: counters, executions by nonce, and the log a fault harness reads. */
#ifndef SIM_STATS_H
#define SIM_STATS_H

#include "sim_base.h"
#include "sim_request.h"
#include "sim_table.h"
#include "sim_text.h"

#include <stdbool.h>

enum { STATUS_COUNT = 600 };

struct stats {
    int64_t requests;   /* generation requests: chat, completions, embeddings, messages */
    int64_t executions; /* those that were let in */
    int64_t in_flight;
    int64_t in_flight_max;
    int64_t waiting; /* of those in flight, for a place (queue) */
    int64_t cancelled;
    int64_t dropped; /* cut on purpose */
    int64_t connections_open;
    int64_t connections_total;
    int64_t bytes_in;
    int64_t bytes_out;
    int64_t last_request_at_ms;
    int64_t first_byte_at_ms; /* of the last generation answer */
    int64_t prompt_tokens;
    int64_t completion_tokens;
    int64_t by_status[STATUS_COUNT]; /* of generation requests */
    int64_t by_path[ENDPOINT_COUNT];
    struct table nonces;
};

/* Forget everything but what describes the present: open connections, requests in flight. */
void stats_reset(struct stats *stats);

void put_stats(struct text_buf *buf, const struct stats *stats);
void put_nonces(struct text_buf *buf, const struct stats *stats);
void put_metrics(struct text_buf *buf, const struct stats *stats, struct slice model);

const char *endpoint_path(enum endpoint endpoint);

/* One line per generation request, written when it ended:
 *   time_ms nonce path model status end
 * Fields hold no white space (percent-encoded); empty ones are "-". Status 0: nothing was sent. */
struct ledger {
    int fd; /* -1: no log */
    struct text_buf lines;
};

enum ending {
    ENDING_COMPLETE,  /* all bytes that were meant to go out went out */
    ENDING_CUT,       /* dropped on purpose */
    ENDING_CANCELLED, /* the client closed first */
    ENDING_STOPPED    /* the simulator was told to exit */
};

/* Append to `path`; false with errno set when it cannot be opened. */
MUST_CHECK bool ledger_open(struct ledger *ledger, const char *path);

void ledger_add(struct ledger *ledger, int64_t time_ms, struct slice nonce, enum endpoint endpoint,
                struct slice model, int status, enum ending ending);

/* Write out what is buffered; false when the file refuses it. */
MUST_CHECK bool ledger_flush(struct ledger *ledger);

#endif
