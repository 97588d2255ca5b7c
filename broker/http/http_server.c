/* The server: libmicrohttpd on the loop, accepting, stopping.
 *
 * libmicrohttpd runs once a turn, after the loop has polled, so that what arrived and what was
 * answered in this turn go through together. It gets its connections from us: we stop accepting
 * when full instead of dropping. */
#include "broker/http/http_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/http/http_internal.h"
#include "common/base/log.h"

/* The level at which newer versions refuse bare LF, folded lines and their like by themselves. */
#if MHD_VERSION >= 0x00097701
#define STRICTNESS MHD_OPTION_CLIENT_DISCIPLINE_LVL
#else
#define STRICTNESS MHD_OPTION_STRICT_FOR_CLIENT
#endif

enum { LOG_TEXT_SIZE = 256 };

int64_t http_now_ms(const struct http_server *server)
{
    return (int64_t)uv_now(server->options.loop);
}

static void on_spin(uv_idle_t *handle)
{
    (void)handle; /* being active keeps the loop from sleeping */
}

void http_server_make_due(struct http_server *server)
{
    if (server->is_due || server->is_stopped)
        return;
    server->is_due = true;
    (void)uv_idle_start(&server->spin, on_spin);
}

static void finish_stop(struct http_server *server);

static void run(struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 1;

    server->is_due = false;
    (void)MHD_run(server->daemon);
    if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES && wait_ms == 0)
        http_server_make_due(server);
    if (!server->is_due)
        (void)uv_idle_stop(&server->spin);
}

static void on_check(uv_check_t *handle)
{
    struct http_server *server = handle->data;

    if (server->is_due)
        run(server);
    if (server->is_stopping && server->connections_count == 0)
        finish_stop(server);
}

static void on_mhd(uv_poll_t *handle, int status, int events)
{
    struct http_server *server = handle->data;

    (void)status; /* an error is libmicrohttpd's to find */
    (void)events;
    server->is_due = true; /* on_check comes in this same turn */
}

/* ---- accepting ----------------------------------------------------------- */

static void refuse_peer(int fd)
{
    static const char answer[] = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n"
                                 "Retry-After: 1\r\nConnection: close\r\n\r\n";
    (void)send(fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    (void)close(fd);
}

static void stop_accepting(struct http_server *server)
{
    if (server->is_accepting)
        (void)uv_poll_stop(&server->listen_poll);
    server->is_accepting = false;
}

static void on_listen(uv_poll_t *handle, int status, int events)
{
    struct http_server *server = handle->data;

    (void)status;
    (void)events;
    for (int i = 0; i < HTTP_ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;

        if (server->connections_count >= server->options.connections_max) {
            stop_accepting(server); /* they wait in the kernel's queue until one leaves */
            return;
        }
        int fd = accept4(server->options.listen_fd, (struct sockaddr *)&address, &size,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                log_event(LOG_ERROR, "http_accept", LOG_S("error", strerror(errno)));
                stop_accepting(server); /* the tick tries again */
            }
            return;
        }
        if (server->peers &&
            !http_peers_enter(server->peers, &address, server->options.per_address_max))
            refuse_peer(fd);
        else
            http_connection_adopt(server, fd, &address, size);
    }
}

static void start_accepting(struct http_server *server)
{
    if (server->is_accepting || server->is_stopping)
        return;
    if (server->connections_count >= server->options.connections_max)
        return;
    server->is_accepting = uv_poll_start(&server->listen_poll, UV_READABLE, on_listen) == 0;
}

void http_server_forget(struct http_server *server, struct http_connection *connection)
{
    CHECK(server->connections_count > 0);
    server->connections_count--;
    if (server->peers)
        http_peers_leave(server->peers, &connection->address);
    start_accepting(server);
}

static void on_tick(uv_timer_t *handle)
{
    struct http_server *server = handle->data;
    int64_t now_ms = http_now_ms(server);

    start_accepting(server);
    http_connections_tick(server, now_ms);
    if (!server->is_stopping)
        return;
    if (now_ms >= server->stop_cut_mono_ms)
        http_connections_cut_all(server, false);
    else if (now_ms >= server->stop_idle_mono_ms)
        http_connections_cut_all(server, true);
}

/* ---- life ---------------------------------------------------------------- */

__attribute__((format(printf, 2, 0))) static void on_mhd_log(void *arg, const char *format,
                                                             va_list args)
{
    char text[LOG_TEXT_SIZE];

    (void)arg;
    if (!log_is_on(LOG_DEBUG))
        return;
    int size = vsnprintf(text, sizeof text, format, args);
    while (size > 0 && size < LOG_TEXT_SIZE && text[size - 1] == '\n')
        text[--size] = '\0';
    log_event(LOG_DEBUG, "http_parser", LOG_S("detail", text));
}

/* Query and path stay as they came: whoever needs them decodes them. */
static size_t on_unescape(void *arg, struct MHD_Connection *mhd, char *text)
{
    (void)arg;
    (void)mhd;
    return strlen(text);
}

static int start_daemon(struct http_server *server, struct error_text *why)
{
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;

    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, http_request_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log,
        server, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_BYTES,
        MHD_OPTION_CONNECTION_LIMIT, server->options.connections_max + 1,
        MHD_OPTION_CONNECTION_TIMEOUT, 0U, MHD_OPTION_NOTIFY_COMPLETED, http_request_completed,
        server, MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify, server,
        MHD_OPTION_URI_LOG_CALLBACK, http_request_open, server, MHD_OPTION_UNESCAPE_CALLBACK,
        on_unescape, server, STRICTNESS, 1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (!server->daemon)
        return error_set(why, ERR_IO, "libmicrohttpd did not start: %s", strerror(errno));
    return 0;
}

static void start_handles(struct http_server *server)
{
    uv_loop_t *loop = server->options.loop;
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    CHECK(info != NULL);
    CHECK(uv_poll_init(loop, &server->mhd_poll, info->epoll_fd) == 0);
    CHECK(uv_poll_init(loop, &server->listen_poll, server->options.listen_fd) == 0);
    CHECK(uv_check_init(loop, &server->check) == 0);
    CHECK(uv_idle_init(loop, &server->spin) == 0);
    CHECK(uv_timer_init(loop, &server->tick) == 0);
    server->open_handles = 5;
    server->mhd_poll.data = server;
    server->listen_poll.data = server;
    server->check.data = server;
    server->spin.data = server;
    server->tick.data = server;
    CHECK(uv_poll_start(&server->mhd_poll, UV_READABLE, on_mhd) == 0);
    CHECK(uv_check_start(&server->check, on_check) == 0);
    CHECK(uv_timer_start(&server->tick, on_tick, HTTP_TICK_MS, HTTP_TICK_MS) == 0);
    start_accepting(server);
}

static void server_free(struct http_server *server)
{
    http_connections_free(server);
    http_requests_free(server);
    http_peers_destroy(server->peers);
    free(server->held);
    free(server->held_polls);
    free(server);
}

int http_server_create(const struct http_server_options *options, struct http_server **out,
                       struct error_text *why)
{
    CHECK(options->connections_max > 0);
    CHECK(options->handler.on_headers && options->handler.on_complete);
    CHECK(options->handler.on_refused && options->handler.on_gone);
    struct http_server *server = calloc(1, sizeof *server);
    if (!server)
        return error_set(why, ERR_NOMEM, "out of memory");

    server->options = *options;
    for (unsigned i = 0; i < HTTP_BUCKETS; i++)
        server->connections[i] =
            (struct http_link){&server->connections[i], &server->connections[i]};
    server->held = calloc(options->connections_max, sizeof(struct http_connection *));
    server->held_polls = calloc(options->connections_max, sizeof *server->held_polls);
    if (options->per_address_max > 0)
        server->peers = http_peers_create(options->connections_max);
    int status = 0;
    if (!server->held || !server->held_polls || (options->per_address_max > 0 && !server->peers))
        status = error_set(why, ERR_NOMEM, "out of memory");
    if (status == 0)
        status = start_daemon(server, why);
    if (status < 0) {
        server_free(server);
        return status;
    }
    start_handles(server);
    *out = server;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http_server *server = handle->data;

    CHECK(server->open_handles > 0);
    if (--server->open_handles > 0)
        return;
    void (*on_stopped)(void *arg) = server->on_stopped;
    void *arg = server->on_stopped_arg;
    MHD_stop_daemon(server->daemon);
    server_free(server);
    on_stopped(arg);
}

static void finish_stop(struct http_server *server)
{
    if (server->is_stopped)
        return;
    server->is_stopped = true;
    uv_close((uv_handle_t *)&server->mhd_poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->listen_poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->check, on_handle_closed);
    uv_close((uv_handle_t *)&server->spin, on_handle_closed);
    uv_close((uv_handle_t *)&server->tick, on_handle_closed);
}

void http_server_stop(struct http_server *server, int64_t grace_ms, void (*on_stopped)(void *arg),
                      void *arg)
{
    int64_t now_ms = http_now_ms(server);

    CHECK(on_stopped != NULL);
    stop_accepting(server);
    if (!server->is_stopping) {
        server->is_stopping = true;
        server->stop_idle_mono_ms = now_ms + HTTP_STOP_IDLE_MS;
        server->stop_cut_mono_ms = now_ms + grace_ms;
    } else if (now_ms + grace_ms < server->stop_cut_mono_ms) {
        server->stop_cut_mono_ms = now_ms + grace_ms; /* asked again, less patiently */
    }
    server->on_stopped = on_stopped;
    server->on_stopped_arg = arg;
    http_server_make_due(server);
}

unsigned http_server_connections(const struct http_server *server)
{
    return server->connections_count;
}

unsigned http_server_held(const struct http_server *server)
{
    return server->held_count;
}
