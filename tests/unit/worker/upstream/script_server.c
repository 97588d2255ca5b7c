#include "script_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/check.h"

enum { HEAD_MAX = 16384, CONNECTIONS_MAX = 16384 };

enum plan { PLAN_READ, PLAN_WAIT, PLAN_SILENT, PLAN_DRIP, PLAN_FLOOD };

struct connection {
    int fd;
    enum plan plan;
    char *head; /* the request so far, allocated while it is being read */
    size_t head_size;
    size_t body_left;
    size_t body_size;
    unsigned body_sum;
    bool in_body;
    bool is_last; /* the next request ends the connection */
    int64_t due_ms;
    int step_ms;
    int bytes_left;
    const char *flood;
};

struct server {
    int epoll;
    int listener;
    int lifeline; /* ends when the test's process does */
    struct script_counts *counts;
    struct connection *connections[CONNECTIONS_MAX]; /* by descriptor */
    int fd_max;
};

static int64_t now_ms(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void send_text(struct connection *connection, const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t sent = send(connection->fd, text, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            continue; /* the tests read */
        if (sent <= 0)
            return;
        text += sent;
        size -= (size_t)sent;
    }
}

static void connection_close(struct server *server, struct connection *connection, bool is_hard)
{
    if (is_hard) {
        struct linger linger = {.l_onoff = 1};
        CHECK(setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    }
    server->connections[connection->fd] = NULL;
    close(connection->fd);
    free(connection->head);
    free(connection);
    atomic_fetch_sub(&server->counts->open, 1);
}

static void send_ok(struct connection *connection)
{
    char body[96];
    char text[256];

    int size = snprintf(body, sizeof body, "{\"size\":%zu,\"sum\":%u}", connection->body_size,
                        connection->body_sum);
    (void)snprintf(
        text, sizeof text,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size,
        body);
    send_text(connection, text);
    connection->plan = PLAN_READ;
}

static void send_length(struct connection *connection, size_t size)
{
    char text[160];
    char *body = malloc(size + 1);

    CHECK(body != NULL);
    memset(body, 'x', size);
    body[size] = '\0';
    (void)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    send_text(connection, text);
    send_text(connection, body);
    free(body);
}

static void send_long_line(struct connection *connection)
{
    char part[1025];

    memset(part, 'h', sizeof part - 1);
    part[sizeof part - 1] = '\0';
    send_text(connection, "HTTP/1.1 200 OK\r\nX-Long: ");
    for (int i = 0; i < 1024; i++)
        send_text(connection, part);
    send_text(connection, "\r\nContent-Length: 0\r\n\r\n");
}

static void send_models(struct connection *connection, int count)
{
    char body[1024] = "{\"object\":\"list\",\"data\":[";
    char text[1280];
    size_t size = strlen(body);

    for (int i = 1; i <= count && size < sizeof body - 32; i++)
        size += (size_t)snprintf(body + size, sizeof body - size, "%s{\"id\":\"m%d\"}",
                                 i > 1 ? "," : "", i);
    if (count >= 0)
        size += (size_t)snprintf(body + size, sizeof body - size, "]}");
    (void)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", size,
                   body);
    send_text(connection, text);
}

/* What is said at once, and whether the connection ends after it. */
static const struct {
    const char *path;
    const char *text;
    bool is_closed;
} plain[] = {
    {"/cut", "", true},
    {"/cut-head", "HTTP/1.1 200 OK\r\nContent-Ty", true},
    {"/cut-body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"choices\"", true},
    {"/cut-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"choices\"", true},
    {"/garbage", "\x01\x02\x03 this is not HTTP\r\n\r\n", true},
    {"/http09", "<html>hello</html>\n", true},
    {"/gzip",
     "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x01",
     false},
    {"/limited",
     "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nretry-after-ms: 1500\r\n"
     "x-should-retry: true\r\nx-request-id: req_42\r\nx-ratelimit-remaining-requests: 0\r\n"
     "x-ratelimit-remaining-tokens: 12\r\nContent-Type: application/json\r\nContent-Length: "
     "2\r\n\r\n{}",
     false},
    {"/redirect", "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n", false},
    {"/continue",
     "HTTP/1.1 100 Continue\r\nretry-after: 9\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-request-id: "
     "no\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
     false},
    {"/longer", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}{}{}{}", false},
    {"/stall", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\"", false},
};

static int find_plain(const char *path)
{
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(path, plain[i].path) == 0)
            return (int)i;
    }
    return -1;
}

/* Answers one request. False: the connection is gone. */
static bool answer(struct server *server, struct connection *connection, const char *path)
{
    unsigned step;
    unsigned count;

    if (connection->is_last || strcmp(path, "/reset") == 0) {
        connection_close(server, connection, !connection->is_last);
        return false;
    }
    int row = find_plain(path);
    if (row >= 0) {
        send_text(connection, plain[row].text);
        connection->plan = strcmp(path, "/stall") == 0 ? PLAN_SILENT : PLAN_READ;
        if (plain[row].is_closed)
            connection_close(server, connection, false);
        return !plain[row].is_closed;
    }
    if (strcmp(path, "/health") == 0) {
        int status = atomic_load(&server->counts->health_status);
        char text[96];
        if (status == 0) {
            connection_close(server, connection, false);
            return false;
        }
        (void)snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status);
        send_text(connection, text);
    } else if (strcmp(path, "/v1/models") == 0) {
        send_models(connection, atomic_load(&server->counts->models));
    } else if (strcmp(path, "/hang") == 0) {
        connection->plan = PLAN_SILENT;
    } else if (sscanf(path, "/wait/%u", &step) == 1) {
        connection->plan = PLAN_WAIT;
        connection->due_ms = now_ms() + step;
    } else if (sscanf(path, "/drip/%u/%u", &step, &count) == 2) {
        char text[128];
        (void)snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", count);
        send_text(connection, text);
        connection->plan = PLAN_DRIP;
        connection->step_ms = (int)step;
        connection->bytes_left = (int)count;
        connection->due_ms = now_ms() + step;
    } else if (strcmp(path, "/endless") == 0) {
        send_text(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection->plan = PLAN_FLOOD;
        connection->flood =
            "40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n";
    } else if (strcmp(path, "/head-flood") == 0) {
        send_text(connection, "HTTP/1.1 200 OK\r\n");
        connection->plan = PLAN_FLOOD;
        connection->flood = "X-Again: and again\r\n";
    } else if (sscanf(path, "/length/%u", &count) == 1) {
        send_length(connection, count);
    } else if (strcmp(path, "/head-line") == 0) {
        send_long_line(connection);
    } else {
        connection->is_last = strcmp(path, "/once") == 0;
        send_ok(connection);
    }
    return true;
}

/* Consumes bytes of a request. False: the connection is gone. */
static bool take_bytes(struct server *server, struct connection *connection, const char *bytes,
                       size_t size)
{
    char path[128];

    while (size > 0) {
        if (!connection->in_body) {
            if (!connection->head)
                CHECK((connection->head = calloc(1, HEAD_MAX)) != NULL);
            CHECK(connection->head_size + 1 < HEAD_MAX);
            connection->head[connection->head_size++] = *bytes++;
            size--;
            if (connection->head_size < 4 ||
                memcmp(connection->head + connection->head_size - 4, "\r\n\r\n", 4) != 0)
                continue;
            const char *length = strcasestr(connection->head, "\r\ncontent-length:");
            connection->body_left = length ? (size_t)strtoul(length + 17, NULL, 10) : 0;
            connection->body_size = connection->body_left;
            connection->body_sum = 0;
            connection->in_body = true;
        }
        size_t count = size < connection->body_left ? size : connection->body_left;
        for (size_t i = 0; i < count; i++)
            connection->body_sum += (unsigned char)bytes[i];
        connection->body_left -= count;
        bytes += count;
        size -= count;
        if (connection->body_left > 0)
            continue;
        CHECK(sscanf(connection->head, "%*s %127s", path) == 1);
        free(connection->head);
        connection->head = NULL;
        connection->head_size = 0;
        connection->in_body = false;
        atomic_fetch_add(&server->counts->requests, 1);
        if (!answer(server, connection, path))
            return false;
    }
    return true;
}

static void on_readable(struct server *server, struct connection *connection)
{
    char bytes[16384];

    for (;;) {
        ssize_t size = recv(connection->fd, bytes, sizeof bytes, 0);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size <= 0) {
            atomic_fetch_add(&server->counts->closed_by_peer, 1);
            connection_close(server, connection, false);
            return;
        }
        if (!take_bytes(server, connection, bytes, (size_t)size))
            return;
    }
}

static void on_accept(struct server *server)
{
    for (;;) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        CHECK(fd < CONNECTIONS_MAX);
        struct connection *connection = calloc(1, sizeof *connection);
        CHECK(connection != NULL);
        connection->fd = fd;
        server->connections[fd] = connection;
        if (fd > server->fd_max)
            server->fd_max = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        CHECK(epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) == 0);
        atomic_fetch_add(&server->counts->connections, 1);
        int open = atomic_fetch_add(&server->counts->open, 1) + 1;
        if (open > atomic_load(&server->counts->open_max))
            atomic_store(&server->counts->open_max, open);
    }
}

/* Moves whoever waits, drips or floods; answers whether anybody floods. */
static bool on_tick(struct server *server)
{
    int64_t now = now_ms();
    bool is_flooding = false;

    for (int fd = 0; fd <= server->fd_max; fd++) {
        struct connection *connection = server->connections[fd];
        if (!connection)
            continue;
        if (connection->plan == PLAN_WAIT && now >= connection->due_ms) {
            send_ok(connection);
        } else if (connection->plan == PLAN_DRIP && now >= connection->due_ms) {
            send_text(connection, "d");
            connection->due_ms += connection->step_ms;
            if (--connection->bytes_left == 0)
                connection->plan = PLAN_READ;
        } else if (connection->plan == PLAN_FLOOD) {
            is_flooding = true;
            for (int i = 0; i < 1000; i++) {
                if (send(fd, connection->flood, strlen(connection->flood), MSG_NOSIGNAL) <= 0)
                    break;
            }
        }
    }
    return is_flooding;
}

static void serve(struct server *server)
{
    struct epoll_event events[256];
    bool is_flooding = false;

    for (;;) {
        int count = epoll_wait(server->epoll, events, 256, is_flooding ? 0 : 5);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == server->lifeline)
                _exit(0);
            if (fd == server->listener)
                on_accept(server);
            else if (server->connections[fd])
                on_readable(server, server->connections[fd]);
        }
        is_flooding = on_tick(server);
    }
}

void script_server_start(struct script_server *server)
{
    static struct server child;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;

    server->counts = mmap(NULL, sizeof *server->counts, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(server->counts != MAP_FAILED);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(listener, 4096) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    server->port = ntohs(address.sin_port);
    (void)fflush(NULL);
    int lifeline[2];
    CHECK(pipe2(lifeline, O_CLOEXEC) == 0);
    server->pid = fork();
    CHECK(server->pid >= 0);
    if (server->pid > 0) {
        close(listener);
        close(lifeline[0]);
        server->lifeline = lifeline[1];
        return;
    }
    close(lifeline[1]);
    struct rlimit files;
    CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
    child.counts = server->counts;
    child.listener = listener;
    child.lifeline = lifeline[0];
    child.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    CHECK(epoll_ctl(child.epoll, EPOLL_CTL_ADD, listener, &event) == 0);
    event.data.fd = child.lifeline;
    CHECK(epoll_ctl(child.epoll, EPOLL_CTL_ADD, child.lifeline, &event) == 0);
    serve(&child);
}

void script_server_stop(struct script_server *server)
{
    CHECK(kill(server->pid, SIGKILL) == 0);
    CHECK(waitpid(server->pid, NULL, 0) == server->pid);
    close(server->lifeline);
    CHECK(munmap(server->counts, sizeof *server->counts) == 0);
}
