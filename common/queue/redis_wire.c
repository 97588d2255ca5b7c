#include "common/queue/redis_wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <hiredis/hiredis.h>
#ifdef HAVE_HIREDIS_SSL
#include <hiredis/hiredis_ssl.h>
#endif
#include <uv.h>

#include "common/queue/redis_tls.h"

enum {
    OUTPUT_BYTES_MAX = 128 << 20, /* redis_link refuses long before */
    OUTPUT_KEPT_BYTES = 1 << 20,
    CHUNK_BYTES = 256 << 10, /* handed to the socket at a time */
    READ_BYTES = 16 << 10,   /* what hiredis reads at a time */
    READS_PER_TURN = 64,     /* others on the loop want to run too */
    USER_TIMEOUT_MS = 5000,
};

struct redis_wire {
    uv_poll_t poll;
    redisContext *context;
    struct redis_wire_events events;
    struct buf output;
    size_t sent; /* bytes of output that were handed over */
    bool is_tls;
    bool is_connected;
    bool is_over;      /* lost or closed: touch nothing */
    bool has_leftover; /* the context still holds bytes of a chunk */
    int watched;
#ifdef HAVE_HIREDIS_SSL
    struct ssl_st *tls; /* until hiredis has it */
#endif
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void lose(struct redis_wire *wire, const char *why)
{
    if (wire->is_over)
        return;
    wire->is_over = true;
    uv_poll_stop(&wire->poll);
    wire->events.on_lost(why, wire->events.arg);
}

static const char *context_error(const struct redis_wire *wire)
{
    return wire->context->errstr[0] ? wire->context->errstr : "connection lost";
}

/* Bytes that wait to be sent. */
static size_t unsent(const struct redis_wire *wire)
{
    return wire->output.size - wire->sent + (wire->has_leftover ? 1 : 0);
}

static void watch(struct redis_wire *wire)
{
    int wanted = wire->is_connected ? UV_READABLE : UV_WRITABLE;

    if (wire->is_connected && unsent(wire) > 0)
        wanted |= UV_WRITABLE;
    if (wire->is_over || wanted == wire->watched)
        return;
    wire->watched = wanted;
    CHECK(uv_poll_start(&wire->poll, wanted, on_poll) == 0);
}

static void set_socket_options(const struct redis_wire *wire)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},  {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 2}, {IPPROTO_TCP, TCP_KEEPINTVL, 1},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},  {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };

    /* Our own deadlines stand without them; they only notice some deaths earlier. */
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        (void)setsockopt(wire->context->fd, options[i].level, options[i].name, &options[i].value,
                         sizeof(options[i].value));
}

#ifdef HAVE_HIREDIS_SSL
static int start_tls(struct redis_wire *wire, const struct redis_url *url, struct error_text *why)
{
    if (!url->has_tls)
        return 0;
    wire->is_tls = true;
    wire->tls = redis_tls_create(url->host);
    return wire->tls ? 0 : error_set(why, ERR_IO, "TLS: cannot start for host %s", url->host);
}

static bool encrypt(struct redis_wire *wire)
{
    if (wire->is_tls && redisInitiateSSL(wire->context, wire->tls) != REDIS_OK)
        return false;
    wire->tls = NULL;
    return true;
}

static void end_tls(struct redis_wire *wire)
{
    redis_tls_destroy(wire->tls);
}
#else
static int start_tls(struct redis_wire *wire, const struct redis_url *url, struct error_text *why)
{
    (void)wire;
    return url->has_tls ? error_set(why, ERR_INVALID, "this build has no TLS for Redis") : 0;
}

static bool encrypt(struct redis_wire *wire)
{
    return !wire->is_tls;
}

static void end_tls(struct redis_wire *wire)
{
    (void)wire;
}
#endif

int redis_wire_open(struct uv_loop_s *loop, const struct redis_url *url, const char *address,
                    const struct redis_wire_events *events, struct redis_wire **out,
                    struct error_text *why)
{
    bool is_unix = url->path[0] != '\0';
    struct redis_wire *wire = calloc(1, sizeof(*wire));
    int status;

    if (!wire)
        return error_set(why, ERR_NOMEM, "out of memory");
    wire->events = *events;
    buf_init(&wire->output, OUTPUT_BYTES_MAX);
    status = start_tls(wire, url, why);
    if (status < 0)
        goto fail;
    wire->context =
        is_unix ? redisConnectUnixNonBlock(url->path) : redisConnectNonBlock(address, url->port);
    if (!wire->context) {
        status = error_set(why, ERR_NOMEM, "out of memory");
        goto fail;
    }
    if (wire->context->err || wire->context->fd < 0) {
        status = error_set(why, ERR_IO, "%s", context_error(wire));
        goto fail;
    }
    if (!is_unix)
        set_socket_options(wire);
    if (uv_poll_init(loop, &wire->poll, wire->context->fd) != 0) {
        status = error_set(why, ERR_IO, "the event loop refuses the socket");
        goto fail;
    }
    wire->poll.data = wire;
    watch(wire);
    *out = wire;
    return 0;
fail:
    if (wire->context)
        redisFree(wire->context);
    end_tls(wire);
    free(wire);
    return status;
}

struct buf *redis_wire_output(struct redis_wire *wire)
{
    return &wire->output;
}

static void sent_some(struct redis_wire *wire, size_t size)
{
    wire->sent += size;
    if (wire->sent == wire->output.size) {
        if (wire->output.capacity > OUTPUT_KEPT_BYTES)
            buf_deinit(&wire->output); /* what a burst took is given back */
        buf_clear(&wire->output);
        wire->sent = 0;
    } else if (wire->sent > wire->output.size / 2) {
        buf_consume(&wire->output, wire->sent);
        wire->sent = 0;
    }
}

/* Straight from our buffer, and without the signal that write() sends when the other end is gone.
 */
static bool send_plain(struct redis_wire *wire)
{
    while (wire->output.size > wire->sent) {
        ssize_t size = send(wire->context->fd, wire->output.data + wire->sent,
                            wire->output.size - wire->sent, MSG_NOSIGNAL);

        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            return true;
        if (size < 0) {
            lose(wire, strerror(errno));
            return false;
        }
        sent_some(wire, (size_t)size);
    }
    return true;
}

/* Through hiredis, which encrypts; a chunk at a time, because it moves what is left of one. */
static bool send_encrypted(struct redis_wire *wire)
{
    int done = 1;

    while (done && unsent(wire) > 0) {
        size_t left = wire->output.size - wire->sent;
        size_t chunk = left < CHUNK_BYTES ? left : CHUNK_BYTES;

        if (!wire->has_leftover) {
            if (redisAppendFormattedCommand(wire->context, wire->output.data + wire->sent, chunk) !=
                REDIS_OK)
                break;
            sent_some(wire, chunk);
        }
        if (redisBufferWrite(wire->context, &done) != REDIS_OK)
            break;
        wire->has_leftover = !done;
    }
    if (wire->context->err)
        lose(wire, context_error(wire));
    return !wire->context->err;
}

void redis_wire_flush(struct redis_wire *wire)
{
    if (wire->is_over || !wire->is_connected)
        return;
    if (wire->is_tls ? send_encrypted(wire) : send_plain(wire))
        watch(wire);
}

/* Hands out the replies that are complete. False: the wire is over. */
static bool hand_out(struct redis_wire *wire)
{
    for (;;) {
        void *reply = NULL;

        if (redisReaderGetReply(wire->context->reader, &reply) != REDIS_OK) {
            lose(wire, wire->context->reader->errstr);
            return false;
        }
        if (!reply)
            return true;
        wire->events.on_reply(reply, wire->events.arg);
        freeReplyObject(reply);
        if (wire->is_over)
            return false;
    }
}

static void read_replies(struct redis_wire *wire)
{
    for (int i = 0; i < READS_PER_TURN; i++) {
        size_t before = wire->context->reader->len;

        if (redisBufferRead(wire->context) != REDIS_OK) {
            /* What arrived before the end still counts. */
            if (hand_out(wire))
                lose(wire, context_error(wire));
            return;
        }
        size_t grown = wire->context->reader->len - before;
        if (!hand_out(wire) || grown < (wire->is_tls ? 1 : READ_BYTES))
            return;
    }
}

static void finish_connect(struct redis_wire *wire)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(wire->context->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error != 0) {
        lose(wire, strerror(error));
        return;
    }
    if (!encrypt(wire)) {
        lose(wire, context_error(wire));
        return;
    }
    wire->is_connected = true;
    watch(wire);
    wire->events.on_connected(wire->events.arg);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct redis_wire *wire = poll->data;

    if (wire->is_over)
        return;
    if (!wire->is_connected) {
        finish_connect(wire);
        return;
    }
    /* On an error the socket is still read: the reason and the last replies are in there. */
    if (status < 0 || (events & UV_READABLE))
        read_replies(wire);
    if (wire->is_over)
        return;
    if (status < 0) {
        lose(wire, "connection reset");
        return;
    }
    if ((events & UV_WRITABLE) || wire->is_tls)
        redis_wire_flush(wire);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct redis_wire *wire = handle->data;

    if (wire->on_closed)
        wire->on_closed(wire->closed_arg);
    redisFree(wire->context);
    end_tls(wire);
    buf_deinit(&wire->output);
    free(wire);
}

void redis_wire_close(struct redis_wire *wire, void (*on_closed)(void *arg), void *arg)
{
    wire->is_over = true;
    wire->on_closed = on_closed;
    wire->closed_arg = arg;
    if (!uv_is_closing((uv_handle_t *)&wire->poll))
        uv_close((uv_handle_t *)&wire->poll, on_poll_closed);
}
