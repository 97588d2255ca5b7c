/* Recovering what dead siblings held: their tickets go to queue_recover in pieces, then
 * queue_recover_child looks for what they were given without living to note it; again and again
 * until Redis took it all. Bounded by what the supervisor hands out (ORPHANS_MAX). */
#ifndef PENSTOCK_WORKER_RECOVERY_H
#define PENSTOCK_WORKER_RECOVERY_H

#include "common/base/buf.h"
#include "common/queue/queue_worker.h"
#include "worker/run/tickets.h"
#include "worker/supervise/orphans.h"

struct recovery;
struct recovery_row {
    struct recovery *recovery;
    uint32_t number; /* 0: free */
    struct buf members;
    char child_id[TICKETS_CHILD_SIZE];
    bool has_culprit;       /* the first of the members was being worked on when the child died */
    enum queue_blame blame; /* for the others */
    bool is_asking;
    bool is_hunting;    /* the members are done: the search by id is next */
    size_t asked_bytes; /* of the members, in the call in flight */
};

struct recovery {
    struct queue *queue;
    void (*on_recovered)(uint32_t number, void *arg);
    void *arg;
    struct recovery_row rows[ORPHANS_MAX];
};

void recovery_init(struct recovery *recovery, struct queue *queue,
                   void (*on_recovered)(uint32_t number, void *arg), void *arg);
/* Nothing may be in flight: after the queue was closed. */
void recovery_deinit(struct recovery *recovery);
/* Takes fd. */
void recovery_add(struct recovery *recovery, uint32_t number, int fd);
/* Tries again what failed. */
void recovery_tick(struct recovery *recovery);

#endif
