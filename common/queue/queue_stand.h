/* Inside of struct queue: claims that stand, that is, whose answer may come by a message, later;
 * and whether it came. The claim after one that was answered so is told of it
 * (functions/claim.lua): a message that does not follow within a second is lost. Then the
 * subscription is not trusted any more, and the jobs are recovered at once, with nothing counted
 * against them. */
#ifndef PENSTOCK_QUEUE_QUEUE_STAND_H
#define PENSTOCK_QUEUE_QUEUE_STAND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/job/job.h"
#include "common/queue/queue_worker.h"

enum {
    QUEUE_STANDING_MAX = 4, /* claims that went out while the message for one was on its way */
    QUEUE_UNHEARD_MAX = 8,  /* beyond, the leases of the oldest lapse */
};

struct queue_standing {
    uint8_t token[JOB_TOKEN_SIZE];
    int64_t asked_boot_ms;
    bool was_heard;
};

struct queue_unheard {
    uint8_t token[JOB_TOKEN_SIZE];
    int64_t since_mono_ms; /* 0: free */
};

struct queue_withdrawal;

struct queue_stand {
    struct queue_standing claims[QUEUE_STANDING_MAX]; /* the last ones */
    unsigned next;
    struct queue_unheard unheard[QUEUE_UNHEARD_MAX];
    unsigned unheard_next;
    unsigned handed_open; /* messages whose jobs are not all here yet, or not back yet */
    struct queue_withdrawal *withdrawal; /* waits for these */
};

/* A claim with this token stands from now on, if it finds nothing. */
void queue_stand_note(struct queue *queue, const uint8_t *token, int64_t asked_boot_ms);
/* A message for it has come. False: it was so long ago that its leases may be over, or is not known
 * any more. Else when it was asked: leases are not older. */
bool queue_stand_heard(struct queue *queue, const uint8_t *token, int64_t *out_boot_ms);
/* Redis says that there was a message for it. */
void queue_stand_was_handed(struct queue *queue, const uint8_t *token);
void queue_stand_second(struct queue *queue, int64_t now_mono_ms);
/* handed_open has become less. */
void queue_stand_step(struct queue *queue);

#endif
