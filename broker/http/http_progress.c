#include "broker/http/http_progress.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

static bool read_info(int fd, struct tcp_info *out)
{
    socklen_t size = sizeof *out;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, out, &size) != 0)
        return false;
    return size >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof out->tcpi_bytes_received;
}

int64_t http_progress_received(int fd)
{
    struct tcp_info info = {0};
    return read_info(fd, &info) ? (int64_t)info.tcpi_bytes_received : -1;
}

int64_t http_progress_acknowledged(int fd)
{
    struct tcp_info info = {0};
    return read_info(fd, &info) ? (int64_t)info.tcpi_bytes_acked : -1;
}
