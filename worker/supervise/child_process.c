#include "worker/supervise/child_process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

int child_process_spawn(const struct child_process_options *options, struct child_process *out,
                        struct error_text *why)
{
    int pair[2] = {-1, -1};
    int status;

    int tickets = memfd_create("penstock-tickets", MFD_CLOEXEC);
    if (tickets < 0)
        return error_set(why, ERR_IO, "memfd_create: %s", strerror(errno));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        status = error_set(why, ERR_IO, "socketpair: %s", strerror(errno));
        goto out;
    }

    const struct process_fd fds[] = {{.name = "STATUS", .fd = pair[1]},
                                     {.name = "TICKETS", .fd = tickets},
                                     {.name = "CONFIG", .fd = options->config_fd}};
    struct process_options process_options = {
        .path = options->path,
        .argv = options->argv,
        .env = options->env,
        .fds = fds,
        .fds_count = sizeof fds / sizeof fds[0],
        .death_signal =
            SIGTERM, /* should we die: the closed socket says that there is little time */
        .wants_ready = true,
    };
    struct process process;
    status = process_spawn(&process_options, &process, why);
    if (status < 0)
        goto out;
    *out = (struct child_process){.process = process, .status_fd = pair[0], .tickets_fd = tickets};
    pair[0] = -1;
    tickets = -1;
out:
    close_fd(&pair[0]);
    close_fd(&pair[1]);
    close_fd(&tickets);
    return status;
}

int child_process_bury(struct child_process *child)
{
    struct stat about;
    int tickets = child->tickets_fd;

    CHECK(child->process.pid == 0);
    close_fd(&child->status_fd);
    child->tickets_fd = -1;
    if (tickets >= 0 && (fstat(tickets, &about) != 0 || about.st_size == 0))
        close_fd(&tickets); /* it died before it could hold anything */
    return tickets;
}

/* Descriptors that came along; one is expected, more are closed. */
static int take_fd(struct msghdr *header)
{
    int taken = -1;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (taken < 0)
                taken = fd;
            else
                (void)close(fd);
        }
    }
    return taken;
}

int child_message_receive(int socket_fd, struct child_message *out, int *out_fd)
{
    struct child_message message;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};

    ssize_t size = recvmsg(socket_fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : ERR_STATE;
    if (size == 0)
        return ERR_STATE;
    int fd = take_fd(&header);
    if (size != (ssize_t)sizeof message) {
        close_fd(&fd);
        return ERR_STATE;
    }
    *out = message;
    *out_fd = fd;
    return 1;
}

int child_message_send(int socket_fd, const struct child_message *message, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct child_message copy = *message;
    struct iovec part = {.iov_base = &copy, .iov_len = sizeof copy};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof control.bytes;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    if (sendmsg(socket_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 0;
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? ERR_BUSY : ERR_STATE;
}
