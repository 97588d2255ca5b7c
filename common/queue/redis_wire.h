/* One socket to Redis on the libuv loop: connects, sends bytes, hands out replies. It knows no time
 * limits and never reconnects; redis_link.h does. hiredis parses, and encrypts where it was built
 * with TLS; its asynchronous half is not used, because it reports neither refused connections nor
 * silence. */
#ifndef PENSTOCK_QUEUE_REDIS_WIRE_H
#define PENSTOCK_QUEUE_REDIS_WIRE_H

#include "common/base/buf.h"
#include "common/queue/redis_url.h"

struct redisReply;
struct redis_wire;
struct uv_loop_s;

/* None runs inside redis_wire_open. After on_lost (at most once) the wire can only be closed.
 * Closing inside a callback is allowed. Replies are borrowed. */
struct redis_wire_events {
    void (*on_connected)(void *arg);
    void (*on_reply)(struct redisReply *reply, void *arg);
    void (*on_lost)(const char *why, void *arg);
    void *arg;
};

/* address: numeric, ignored for a unix socket. ERR_IO with the reason in why. */
MUST_CHECK int redis_wire_open(struct uv_loop_s *loop, const struct redis_url *url,
                               const char *address, const struct redis_wire_events *events,
                               struct redis_wire **out, struct error_text *why);
/* Append protocol bytes here, then flush. Its size is what waits to be sent and what was sent and
 * not dropped yet. */
struct buf *redis_wire_output(struct redis_wire *wire);
/* Sends what the socket takes; the rest goes when it is writable. May call on_lost. */
void redis_wire_flush(struct redis_wire *wire);
/* No callback comes after the call; memory is freed later, then on_closed runs. */
void redis_wire_close(struct redis_wire *wire, void (*on_closed)(void *arg), void *arg);

#endif
