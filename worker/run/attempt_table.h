/* The attempts of this child: a fixed number of objects in pooled memory, found by job id and
 * claim. Each keeps its slot in the tickets' memory from add to remove. Full: add gives NULL, and
 * claim.c asks for no more than fits. */
#ifndef PENSTOCK_RUN_ATTEMPT_TABLE_H
#define PENSTOCK_RUN_ATTEMPT_TABLE_H

#include "common/base/error.h"
#include "common/job/job.h"
#include "worker/run/attempt.h"
#include "worker/run/tickets.h"

enum { ATTEMPT_CHUNK = 64 };

struct attempt_table {
    unsigned count_max;
    unsigned count;
    size_t body_bytes;       /* of the jobs' requests */
    struct attempt **chunks; /* ATTEMPT_CHUNK attempts each, made when first needed, kept */
    unsigned made_count;
    struct attempt *free_first;
    uint32_t *places; /* open addressing: slot + 1, 0 empty */
    uint32_t places_mask;
    uint64_t seed;
    struct tickets tickets;
};

/* tickets_fd and child_id: see tickets_open. */
MUST_CHECK int attempt_table_init(struct attempt_table *table, unsigned count_max, int tickets_fd,
                                  const char *child_id, struct error_text *why);
/* All attempts must have been removed. */
void attempt_table_deinit(struct attempt_table *table);
/* A new attempt with a copy of job, its ticket written. NULL: full, or out of memory. */
struct attempt *attempt_table_add(struct attempt_table *table, const struct job *job);
/* NULL: not here (any more). */
struct attempt *attempt_table_find(const struct attempt_table *table, const struct job_id *id,
                                   unsigned claim);
/* Forgets it and its ticket; the memory is reused. */
void attempt_table_remove(struct attempt_table *table, struct attempt *attempt);
/* The attempt in slot 0..made_count-1, NULL when that is free. Removing while walking is fine. */
struct attempt *attempt_table_at(const struct attempt_table *table, unsigned slot);

#endif
