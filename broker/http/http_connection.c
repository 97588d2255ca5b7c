/* Connections: adopting, suspending, deadlines, hang-ups.
 *
 * libmicrohttpd has no deadlines here: its only one is "no activity", which a byte every few
 * seconds defeats. We look at each connection once a second, and see what arrives and what is
 * acknowledged on its socket through TCP_INFO, without a system call in the ordinary course of a
 * request. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/http/http_internal.h"
#include "broker/http/http_progress.h"

static const char timed_out[] = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n"
                                "Connection: close\r\n\r\n";

static struct http_connection *connection_of(struct http_link *link)
{
    return (struct http_connection *)((char *)link - offsetof(struct http_connection, link));
}

static struct http_connection *take_free(struct http_server *server)
{
    struct http_connection *connection = server->free_connections;

    if (!connection)
        return calloc(1, sizeof *connection);
    server->free_connections = connection->link.next ? connection_of(connection->link.next) : NULL;
    server->free_connections_count--;
    memset(connection, 0, sizeof *connection);
    return connection;
}

static void release(struct http_connection *connection)
{
    struct http_server *server = connection->server;

    CHECK(!connection->request);
    CHECK(!connection->is_suspended);
    connection->link.previous->next = connection->link.next;
    connection->link.next->previous = connection->link.previous;
    http_server_forget(server, connection);
    if (server->free_connections_count >= HTTP_POOLED_MAX) {
        free(connection);
        return;
    }
    connection->link.next = server->free_connections ? &server->free_connections->link : NULL;
    server->free_connections = connection;
    server->free_connections_count++;
}

void http_connections_free(struct http_server *server)
{
    while (server->free_connections) {
        struct http_connection *connection = server->free_connections;
        server->free_connections =
            connection->link.next ? connection_of(connection->link.next) : NULL;
        free(connection);
    }
}

void http_connection_adopt(struct http_server *server, int fd,
                           const struct sockaddr_storage *address, socklen_t address_size)
{
    struct http_connection *connection = take_free(server);
    struct http_link *head = &server->connections[(unsigned)fd % HTTP_BUCKETS];

    if (!connection) {
        if (server->peers)
            http_peers_leave(server->peers, address);
        (void)close(fd);
        return;
    }
    connection->server = server;
    connection->fd = fd;
    connection->address = *address;
    connection->since_mono_ms = http_now_ms(server);
    connection->bytes_seen = -1;
    connection->link = (struct http_link){.next = head, .previous = head->previous};
    head->previous->next = &connection->link;
    head->previous = &connection->link;
    server->connections_count++;
    server->adopting = connection;
    if (MHD_add_connection(server->daemon, fd, (const struct sockaddr *)address, address_size) !=
            MHD_YES &&
        server->adopting == connection)
        release(connection); /* it closed fd and never heard of us */
    server->adopting = NULL;
    http_server_make_due(server);
}

/* The newest connection of that descriptor: some versions take connections only in their next run.
 */
static struct http_connection *find_pending(struct http_server *server, int fd)
{
    struct http_link *head = &server->connections[(unsigned)fd % HTTP_BUCKETS];

    for (struct http_link *at = head->previous; at != head; at = at->previous) {
        struct http_connection *connection = connection_of(at);
        if (connection->fd == fd && !connection->mhd)
            return connection;
    }
    return NULL;
}

void http_connection_notify(void *arg, struct MHD_Connection *mhd, void **context,
                            enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = arg;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        CHECK(info != NULL);
        struct http_connection *connection = find_pending(server, info->connect_fd);
        CHECK(connection != NULL);
        connection->mhd = mhd;
        *context = connection;
        if (server->adopting == connection)
            server->adopting = NULL;
    } else if (*context) {
        struct http_connection *connection = *context;
        *context = NULL;
        release(connection);
    }
}

void http_connection_suspend(struct http_connection *connection)
{
    struct http_server *server = connection->server;

    CHECK(!connection->is_suspended);
    CHECK(server->held_count < server->options.connections_max);
    connection->is_suspended = true;
    connection->held_at = server->held_count;
    server->held[server->held_count++] = connection;
    MHD_suspend_connection(connection->mhd);
}

void http_connection_resume(struct http_connection *connection)
{
    struct http_server *server = connection->server;

    if (!connection->is_suspended)
        return;
    connection->is_suspended = false;
    server->held_count--;
    server->held[connection->held_at] = server->held[server->held_count];
    server->held[connection->held_at]->held_at = connection->held_at;
    MHD_resume_connection(connection->mhd);
    http_server_make_due(server);
}

void http_connection_cut(struct http_connection *connection)
{
    if (connection->is_cut || !connection->mhd)
        return;
    connection->is_cut = true;
    if (connection->request)
        connection->request->is_dead = true;
    (void)shutdown(connection->fd, SHUT_RDWR); /* libmicrohttpd finds it closed */
    http_connection_resume(connection);
    http_server_make_due(connection->server);
}

void http_connections_cut_all(struct http_server *server, bool only_idle)
{
    for (unsigned i = 0; i < HTTP_BUCKETS; i++) {
        struct http_link *head = &server->connections[i];
        for (struct http_link *at = head->next; at != head; at = at->next) {
            struct http_connection *connection = connection_of(at);
            if (!only_idle || !connection->request)
                http_connection_cut(connection);
        }
    }
}

/* ---- hang-ups ------------------------------------------------------------ */

/* Suspended sockets are out of libmicrohttpd's sight. Walked backwards: cutting one fills its place
 * from the end. */
static void look_for_hangups(struct http_server *server)
{
    if (server->held_count == 0)
        return;
    for (unsigned i = 0; i < server->held_count; i++)
        server->held_polls[i] = (struct pollfd){.fd = server->held[i]->fd, .events = POLLRDHUP};
    if (poll(server->held_polls, server->held_count, 0) <= 0)
        return;
    for (unsigned i = server->held_count; i-- > 0;) {
        if (server->held_polls[i].revents != 0)
            http_connection_cut(server->held[i]);
    }
}

/* libmicrohttpd does not see the end of a connection that came in one piece with the last bytes
 * before it. Whoever has sent all it ever will and left the request unfinished is not waited for.
 */
static bool has_ended(const struct http_connection *connection)
{
    const struct http_request *request = connection->request;
    char byte;

    if (connection->is_suspended)
        return false; /* look_for_hangups sees those */
    if (request && request->phase != HTTP_LINE && request->phase != HTTP_DISCARD &&
        request->phase != HTTP_COLLECT && request->phase != HTTP_STREAM)
        return false;
    ssize_t size = recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
}

/* ---- deadlines ----------------------------------------------------------- */

static void refuse_slow_header(struct http_connection *connection)
{
    (void)send(connection->fd, timed_out, sizeof timed_out - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    http_connection_cut(connection);
}

/* Nothing, or part of a header, since the last request. */
static void check_waiting(struct http_connection *connection, int64_t now_ms)
{
    int64_t waited_ms = now_ms - connection->since_mono_ms;

    if (connection->header_mono_ms == 0 && waited_ms >= 1000) {
        int64_t before = connection->bytes_seen;
        if (before < 0 && connection->requests_count == 0)
            before = 0; /* a new connection: whatever came is a header */
        connection->bytes_seen = http_progress_received(connection->fd);
        if (before >= 0 && connection->bytes_seen > before)
            connection->header_mono_ms =
                connection->requests_count == 0 ? connection->since_mono_ms : now_ms;
    }
    if (connection->header_mono_ms != 0 && now_ms - connection->header_mono_ms >= HTTP_HEADER_MS)
        refuse_slow_header(connection);
    else if (connection->header_mono_ms == 0 && waited_ms >= HTTP_IDLE_MS)
        http_connection_cut(connection);
}

static void check_body(struct http_request *request, int64_t now_ms)
{
    int64_t elapsed_ms = now_ms - request->body_mono_ms;

    if (request->is_paused || now_ms < request->deadline_mono_ms)
        return;
    if (request->body_taken / HTTP_BODY_BYTES_PER_S >= elapsed_ms / 1000) {
        request->deadline_mono_ms = now_ms + HTTP_BODY_MS / 10;
        return;
    }
    request->body_left = -1; /* not to be waited for */
    if (request->is_answered)
        http_connection_cut(request->connection);
    else
        http_request_refuse(request, HTTP_BODY_TOO_SLOW);
}

static void check_sending(struct http_request *request, int64_t now_ms)
{
    struct http_connection *connection = request->connection;
    bool is_waiting_for_us = connection->is_suspended;

    if (request->deadline_mono_ms == 0 || is_waiting_for_us) {
        request->deadline_mono_ms = now_ms + HTTP_SEND_MS;
        request->sent_seen = 0;
        return;
    }
    if (now_ms < request->deadline_mono_ms)
        return;
    int64_t sent = http_progress_acknowledged(connection->fd);
    if (sent < 0) {
        if (now_ms - request->deadline_mono_ms >= HTTP_SEND_LOCAL_MS)
            http_connection_cut(connection);
        return;
    }
    if (request->sent_seen > 0 &&
        sent - request->sent_seen < (int64_t)HTTP_BODY_BYTES_PER_S * HTTP_SEND_MS / 1000) {
        http_connection_cut(connection);
        return;
    }
    request->sent_seen = sent > 0 ? sent : 1;
    request->deadline_mono_ms = now_ms + HTTP_SEND_MS;
}

static void check_connection(struct http_connection *connection, int64_t now_ms)
{
    struct http_request *request = connection->request;

    if (!connection
             ->mhd) { /* refused in a later run, without a notice, and its descriptor closed */
        if (now_ms - connection->since_mono_ms >= HTTP_ADOPT_MS)
            release(connection);
        return;
    }
    if (connection->is_cut)
        return;
    if (has_ended(connection)) {
        http_connection_cut(connection);
        return;
    }
    if (!request) {
        check_waiting(connection, now_ms);
        return;
    }
    switch (request->phase) {
    case HTTP_LINE:
        if (now_ms - request->started_mono_ms >= HTTP_HEADER_MS)
            refuse_slow_header(connection);
        break;
    case HTTP_DISCARD:
    case HTTP_COLLECT:
    case HTTP_STREAM:
        check_body(request, now_ms);
        break;
    case HTTP_LINGER:
        if (now_ms >= request->deadline_mono_ms)
            http_connection_cut(connection);
        break;
    case HTTP_QUEUED:
        check_sending(request, now_ms);
        break;
    case HTTP_HEADERS:
    case HTTP_COMPLETE:
        break; /* the handler's turn; it keeps its own time */
    }
}

void http_connections_tick(struct http_server *server, int64_t now_ms)
{
    struct http_link *head = &server->connections[server->bucket];

    look_for_hangups(server);
    server->bucket = (server->bucket + 1) % HTTP_BUCKETS;
    for (struct http_link *at = head->next; at != head;) {
        struct http_connection *connection = connection_of(at);
        at = at->next;
        check_connection(connection, now_ms);
    }
}
