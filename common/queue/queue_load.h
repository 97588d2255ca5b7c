/* A record with everything that stands apart of it. */
#ifndef PENSTOCK_QUEUE_QUEUE_LOAD_H
#define PENSTOCK_QUEUE_QUEUE_LOAD_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/job/job.h"

struct queue;

/* Completes a record into a job: checks it, reads attempts and pieces where they stand apart.
 * on_loaded runs once, at once when nothing is missing; job is borrowed from load, which the caller
 * frees. */
struct queue_load {
    struct queue *queue;
    struct job_id id;
    struct buf record;
    struct buf attempts;
    struct buf payload;
    struct job job;
    struct error_text why;
    unsigned waiting;
    int status;
    bool wants_payload;
    const uint8_t
        *claim_token; /* the record is from before a claim by this token; NULL: as it is */
    int64_t claimed_at_ms;
    void (*on_loaded)(struct queue_load *load);
    void *arg;
};
/* bytes: from the beginning of the record. */
void queue_load_start(struct queue_load *load, const char *bytes, size_t size);
void queue_load_deinit(struct queue_load *load);

#endif
