/* Which jobs this child holds, in memory that outlives it: its id (queue_self_id), then one slot of
 * JOB_MEMBER_SIZE bytes (a member of the lease set) for each attempt. A slot counts when its first
 * byte is not zero; that byte is written last and cleared first, so a child may die at any
 * instruction. The supervisor keeps the memory open and hands it to a sibling. The head also names
 * the slot whose job is being worked on in this moment: should the child die of it, that job alone
 * is to blame. */
#ifndef PENSTOCK_RUN_TICKETS_H
#define PENSTOCK_RUN_TICKETS_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/job/job.h"

enum { TICKETS_CHILD_SIZE = 8 };

struct tickets {
    char *memory; /* NULL: kept nowhere */
    unsigned count;
};

/* Maps fd (borrowed, a memfd of any size) for count slots, and writes TICKETS_CHILD_SIZE characters
 * of id; fd -1: nothing is kept. ERR_IO with the reason. */
MUST_CHECK int tickets_open(struct tickets *tickets, int fd, const char *child_id, unsigned count,
                            struct error_text *why);
void tickets_close(struct tickets *tickets);
/* job as it was claimed: id, priority, tenant, claim and token make the member. */
void tickets_write(struct tickets *tickets, unsigned slot, const struct job *job);
void tickets_clear(struct tickets *tickets, unsigned slot);
/* What follows is done for the job of this slot alone, until tickets_leave. */
void tickets_enter(struct tickets *tickets, unsigned slot);
void tickets_leave(struct tickets *tickets);
/* Appends the members in use that a dead sibling left in fd (borrowed), and gives its id. 1: the
 * first of them was being worked on when it died; 0: none was. ERR_NOT_FOUND: it left nothing.
 * ERR_IO, ERR_NOMEM, ERR_CORRUPT: not tickets of ours. */
MUST_CHECK int tickets_read(int fd, struct buf *out_members, char out_child_id[TICKETS_CHILD_SIZE]);

#endif
