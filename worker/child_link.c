#include "worker/child_link.h"

#include <unistd.h>

static void take_message(struct child_link *link, const struct child_message *message, int fd)
{
    if (message->type == CHILD_SAYS_ORPHANS && fd >= 0)
        link->events.on_orphans(message->number, fd, link->events.arg);
    else if (message->type == CHILD_SAYS_CONFIG && fd >= 0)
        link->events.on_config(fd, link->events.arg);
    else if (fd >= 0)
        (void)close(fd);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct child_link *link = poll->data;
    struct child_message message;
    int fd;

    (void)events;
    int got = status < 0 ? ERR_STATE : 1;
    while (got == 1 && link->is_open) {
        got = child_message_receive(link->fd, &message, &fd);
        if (got == 1)
            take_message(link, &message, fd);
    }
    if (got < 0 && link->is_open) {
        child_link_close(link);
        link->events.on_parent_gone(link->events.arg);
    }
}

int child_link_open(struct child_link *link, uv_loop_t *loop, int fd,
                    const struct child_link_events *events)
{
    *link = (struct child_link){.fd = fd, .events = *events};
    if (uv_poll_init(loop, &link->poll, fd) != 0)
        return ERR_IO;
    link->poll.data = link;
    link->is_open = true;
    return uv_poll_start(&link->poll, UV_READABLE, on_readable) == 0 ? 0 : ERR_IO;
}

void child_link_say(struct child_link *link, enum child_message_type type, uint32_t number)
{
    const struct child_message message = {.type = type, .number = number};

    if (!link->is_open)
        return;
    /* Whether the other side is gone is found out by reading. */
    int status = child_message_send(link->fd, &message, -1);
    (void)status;
}

static void on_closed(uv_handle_t *handle)
{
    struct child_link *link = handle->data;
    (void)close(link->fd);
    link->fd = -1;
}

void child_link_close(struct child_link *link)
{
    if (!link->is_open)
        return;
    link->is_open = false;
    uv_close((uv_handle_t *)&link->poll, on_closed);
}
