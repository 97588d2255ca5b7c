/* The state of one `penstock bulk` run: what was sent, what came back, what is still awaited. Used
 * by cmd_bulk.c (the command) and bulk_collect.c (polling and results). */
#ifndef PENSTOCK_CLI_BULK_H
#define PENSTOCK_CLI_BULK_H

#include <stdint.h>
#include <stdio.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"

enum bulk_state { BULK_REFUSED, BULK_PENDING, BULK_ENDED, BULK_WRITTEN };

struct bulk_item {
    char id[40];         /* "" when refused */
    char *custom_id;     /* JSON text or NULL; owned */
    char *error;         /* of a refused line: JSON object text; owned */
    float run_s;         /* started to finished */
    float whole_s;       /* created to finished */
    char status[12];     /* last known */
    unsigned char state; /* enum bulk_state */
};

struct bulk {
    struct cli *cli;
    FILE *out;
    bool is_ordered;
    struct bulk_item *items;
    size_t items_count, items_capacity;
    size_t first_pending; /* everything before it has ended */
    size_t next_ordered;  /* next line to write with --ordered */
    int64_t succeeded, failed, refused;
    double input_tokens, output_tokens;
    double started_s, ended_s; /* wall seconds of the server: first creation, last end */
    int64_t begin_mono_ms;
    struct progress progress;
};

void bulk_deinit(struct bulk *bulk);
MUST_CHECK int bulk_add_item(struct bulk *bulk, struct bulk_item **out);
/* Polls until every job has ended and writes each result. Returns a cli_exit code of the run itself
 * (failed jobs are counted, not an error here). */
MUST_CHECK int bulk_collect(struct bulk *bulk);
void bulk_summary(struct bulk *bulk);

#endif
