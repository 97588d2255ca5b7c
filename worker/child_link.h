/* The child's end of the status socket: signs of life out; tickets of dead siblings, new
 * configurations and the supervisor's end in. */
#ifndef PENSTOCK_WORKER_CHILD_LINK_H
#define PENSTOCK_WORKER_CHILD_LINK_H

#include <stdint.h>
#include <uv.h>

#include "common/base/error.h"
#include "worker/supervise/child_process.h"

struct child_link_events {
    void (*on_orphans)(uint32_t number, int fd, void *arg); /* fd is taken */
    void (*on_config)(int fd, void *arg);                   /* fd is taken */
    void (*on_parent_gone)(void *arg);                      /* once */
    void *arg;
};

struct child_link {
    uv_poll_t poll;
    int fd; /* -1: none, or gone */
    bool is_open;
    struct child_link_events events;
};

/* Takes fd. ERR_IO. */
MUST_CHECK int child_link_open(struct child_link *link, uv_loop_t *loop, int fd,
                               const struct child_link_events *events);
/* Never blocks; what cannot be said now is left out. */
void child_link_say(struct child_link *link, enum child_message_type type, uint32_t number);
/* Closing twice is harmless. The handle is the loop's until its next turn. */
void child_link_close(struct child_link *link);

#endif
