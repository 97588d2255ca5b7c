/* The state of one `penstock bulk` run. cmd_bulk.c is the command and its loop, bulk_send.c reads
 * lines and sends them, bulk_collect.c asks which jobs have ended, bulk_write.c fetches and writes
 * results, bulk_stats.c sums up.
 *
 * Lines become rows of a ring: a row begins when its line is read and ends when its result is
 * written. The ring grows to BULK_WINDOW_MAX rows; then reading waits for writing, so memory is
 * bounded whatever the size of the file. */
#ifndef PENSTOCK_CLI_BULK_H
#define PENSTOCK_CLI_BULK_H

#include <stdint.h>
#include <stdio.h>

#include "broker/cli/bulk_stats.h"
#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/line_reader.h"
#include "broker/cli/terminal.h"

enum {
    BULK_WINDOW_MAX = 1 << 19,
    BULK_CHUNK_LINES = 1000,
    BULK_CHUNK_BYTES = 8 << 20,
    BULK_LINE_BYTES_MAX = 64 << 20,
    BULK_OFFLINE_MS = 120000, /* the server may be away for so long */
    BULK_STUCK_MS = 600000    /* and refuse everything, while nothing else happens, for so long */
};

enum bulk_phase {
    BULK_SENDING, /* not accepted yet */
    BULK_PENDING, /* accepted, has not ended */
    BULK_ENDED,   /* its result is to be written */
    BULK_REFUSED, /* the line is, or the server refused it; to be written */
    BULK_WRITTEN
};

struct bulk_item {
    char id[40];     /* "" until accepted */
    char status[11]; /* of an ended job; "gone" when nobody knows it any more */
    uint8_t phase;   /* enum bulk_phase */
    uint8_t misses;  /* answers in a row without this job */
    float run_s;     /* started to finished */
    int64_t line;    /* in the input, from 1 */
    char *custom_id; /* JSON text or NULL; owned */
    char *error;     /* of a refused line: JSON object text; owned */
};

/* Lines that are being sent. */
struct bulk_chunk {
    struct buf body;
    size_t ends[BULK_CHUNK_LINES];   /* of each line in body, line end included */
    int64_t items[BULK_CHUNK_LINES]; /* the row of each line */
    unsigned count;
    int64_t again_mono_ms; /* not to be sent before */
};

struct bulk {
    struct cli *cli;
    FILE *out;
    bool is_ordered, must_wait;
    const char *priority;
    char run_key[80]; /* line n has the idempotency key "run_key#n" unless it names one */

    struct line_reader input;
    bool has_read_all;
    struct bulk_chunk chunk;

    struct bulk_item *ring;
    int64_t capacity;      /* rows of the ring, a power of two */
    int64_t first, next;   /* rows first ≤ n < next exist */
    int64_t first_pending; /* none before it is pending */
    int64_t sweep;         /* where the look beyond the oldest rows goes on */
    int64_t refused_rows;  /* not written yet, when not ordered */

    int64_t progress_mono_ms; /* last time a line was accepted or a job ended */
    int64_t end_mono_ms;      /* of --timeout; 0: none */
    struct bulk_stats stats;
    struct progress progress;
};

struct bulk_item *bulk_item_at(const struct bulk *bulk, int64_t index);
/* A new row at the end; NULL when the window is full. */
MUST_CHECK int bulk_add_item(struct bulk *bulk, int64_t line, int64_t *out_index);
bool bulk_has_room(const struct bulk *bulk);
/* The line is refused, by us or by the server. */
void bulk_refuse(struct bulk *bulk, struct bulk_item *item, const char *code, const char *message);
/* After a row was written: gives back what it holds, and the rows at the front of the ring. */
void bulk_drop_written(struct bulk *bulk);
void bulk_deinit(struct bulk *bulk);

/* The steps of the loop: each does what can be done now and says whether anything moved. They
 * return a cli_exit code. */
MUST_CHECK int bulk_send_step(struct bulk *bulk, bool *moved);
MUST_CHECK int bulk_collect_step(struct bulk *bulk, bool *moved);
/* Waits a moment for the oldest job. */
MUST_CHECK int bulk_collect_hold(struct bulk *bulk);
/* Writes rows: of these (NULL, 0: none in particular) when not ordered, and whatever is next when
 * ordered. */
MUST_CHECK int bulk_write_rows(struct bulk *bulk, struct bulk_item *const *items, unsigned count);
/* Whether a line refused with this code may be accepted later. */
bool bulk_may_send_again(const char *code);

#endif
