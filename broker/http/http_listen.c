/* Listening sockets, for the parent to open before there are children. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker/http/http_server.h"
#include "common/base/text.h"

enum { BACKLOG = 4096, HOST_SIZE = 256, PORT_SIZE = 8 };

static int failed(struct error_text *why, int fd, const char *address, const char *what)
{
    int saved = errno;
    if (fd >= 0)
        (void)close(fd);
    return error_set(why, ERR_IO, "%s: %s: %s", address, what, strerror(saved));
}

/* A socket file that nobody listens on is left over from a process that was killed. */
static void remove_stale(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
        errno == ECONNREFUSED)
        (void)unlink(address->sun_path);
    (void)close(fd);
}

static int listen_unix(const char *text, const char *path, struct error_text *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return error_set(why, ERR_INVALID, "%s: a path of 1 to %zu bytes is needed", text,
                         sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    remove_stale(&address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return failed(why, fd, text, "socket");
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return failed(why, fd, text, "bind");
    if (listen(fd, BACKLOG) != 0)
        return failed(why, fd, text, "listen");
    return fd;
}

/* "host:port", "[v6]:port", ":port". */
static int split(const char *text, char host[HOST_SIZE], char port[PORT_SIZE])
{
    int64_t number;
    const char *colon = strrchr(text, ':');
    const char *from = text;

    if (!colon || text_parse_i64(colon + 1, strlen(colon + 1), 0, 65535, &number) != 0)
        return ERR_INVALID;
    size_t size = (size_t)(colon - text);
    if (size >= 2 && from[0] == '[' && from[size - 1] == ']') {
        from++;
        size -= 2;
    } else if (memchr(text, ':', size)) {
        return ERR_INVALID; /* a bare IPv6 address: which colon is it? */
    }
    if (size >= HOST_SIZE)
        return ERR_INVALID;
    memcpy(host, from, size);
    host[size] = '\0';
    (void)snprintf(port, PORT_SIZE, "%d", (int)number);
    return 0;
}

static int open_inet(const char *text, const struct addrinfo *info, struct error_text *why)
{
    const int on = 1;
    const int off = 0;

    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return failed(why, fd, text, "socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) /* [::] takes IPv4 as well */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0)
        return failed(why, fd, text, "bind");
    if (listen(fd, BACKLOG) != 0)
        return failed(why, fd, text, "listen");
    return fd;
}

int http_listen(const char *address, struct error_text *why)
{
    char host[HOST_SIZE];
    char port[PORT_SIZE];
    struct addrinfo *found = NULL;
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};

    if (text_starts_with(address, "unix:"))
        return listen_unix(address, address + 5, why);
    if (split(address, host, port) != 0)
        return error_set(why, ERR_INVALID, "%s: not host:port, [address]:port or unix:/path",
                         address);
    int status = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found);
    if (status != 0)
        return error_set(why, ERR_IO, "%s: %s", address, gai_strerror(status));
    int fd = open_inet(address, found, why);
    freeaddrinfo(found);
    return fd;
}

int http_listen_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET) {
        memcpy(&in, &address, sizeof in);
        return ntohs(in.sin_port);
    }
    if (address.ss_family == AF_INET6) {
        memcpy(&in6, &address, sizeof in6);
        return ntohs(in6.sin6_port);
    }
    return 0;
}
