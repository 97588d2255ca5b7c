/* One child as the supervisor holds it: the process, the socket it gives signs of life on, and the
 * memory that says which jobs it holds. Mechanism only. What stands in the tickets' memory is the
 * children's business: the supervisor only keeps it open, so that it outlives the child.
 *
 * The socket (a SOCK_SEQPACKET pair) carries struct child_message both ways; CHILD_SAYS_ORPHANS
 * and CHILD_SAYS_CONFIG bring a descriptor along. The child finds its descriptors as "STATUS",
 * "TICKETS" and "CONFIG" (process_child_fd). */
#ifndef PENSTOCK_SUPERVISE_CHILD_PROCESS_H
#define PENSTOCK_SUPERVISE_CHILD_PROCESS_H

#include <stdint.h>

#include "common/base/error.h"
#include "common/base/process.h"

enum child_message_type {
    CHILD_SAYS_ALIVE = 1, /* child to supervisor, each second */
    CHILD_SAYS_ORPHANS =
        2, /* supervisor to child, with the tickets of a dead sibling: number names them */
    CHILD_SAYS_RECOVERED = 3, /* child to supervisor: number's tickets were recovered */
    CHILD_SAYS_CONFIG = 4,    /* supervisor to child, with a new configuration's text */
};

struct child_message {
    uint32_t type;
    uint32_t number;
};

struct child_process {
    struct process process; /* pid 0: none runs */
    int status_fd;          /* our end, non-blocking; -1: none */
    int tickets_fd;         /* -1: none */
};

struct child_process_options {
    const char *path; /* as process_options.path */
    const char *const *argv;
    const char *const *env; /* as process_options.env */
    int config_fd;          /* borrowed; -1: none */
};

/* ERR_IO with the reason; nothing is left behind. */
MUST_CHECK int child_process_spawn(const struct child_process_options *options,
                                   struct child_process *out, struct error_text *why);
/* After the process ended: closes the socket; the tickets' descriptor moves to the caller (-1: none
 * worth keeping). */
int child_process_bury(struct child_process *child);

/* Both ends of the socket. receive: 1 and a message (out_fd -1 unless one came along, then owned by
 * the caller); 0: nothing there now; ERR_STATE: the other side is gone. send never blocks; fd -1:
 * none. ERR_BUSY: the other side does not read; ERR_STATE: it is gone. */
MUST_CHECK int child_message_receive(int socket_fd, struct child_message *out, int *out_fd);
MUST_CHECK int child_message_send(int socket_fd, const struct child_message *message, int fd);

#endif
