/* One Redis connection that comes back by itself: connect, log in, deadlines, pings, reconnect with
 * full jitter.
 *
 * Deadlines: 3 s to connect and log in, 5 s for the oldest unanswered command, 2 s for the ping
 * that is sent after 2 s without traffic. Names are resolved off the loop. Commands are appended
 * and go out with redis_link_flush; the owner learns by on_dirty that there is something to flush.
 * Nothing is ever sent twice. */
#ifndef PENSTOCK_QUEUE_REDIS_LINK_H
#define PENSTOCK_QUEUE_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/queue/redis_url.h"

struct redisReply;
struct redis_link;
struct uv_loop_s;

struct redis_link_options {
    struct uv_loop_s *loop;
    const struct redis_url *url; /* copied */
    const char *name;            /* CLIENT SETNAME; copied */
    /* Logged in: commands may be sent. Not called inside redis_link_start. */
    void (*on_up)(void *arg);
    /* No connection: code is a constant word such as "redis_unreachable", why a sentence. Called
     * once for each failed attempt and each lost connection, after the pending callbacks. */
    void (*on_down)(const char *code, const char *why, void *arg);
    /* Messages of subscribed channels; NULL for a link that does not subscribe. */
    void (*on_message)(const struct redisReply *reply, void *arg);
    void (*on_dirty)(void *arg); /* something waits for redis_link_flush */
    void *arg;
};

/* status 0: reply (borrowed; it may be an error reply). ERR_UNKNOWN: sent, and the connection died:
 * reply is NULL. */
typedef void (*redis_reply_fn)(int status, const struct redisReply *reply, void *arg);

MUST_CHECK int redis_link_create(const struct redis_link_options *options, struct redis_link **out);
void redis_link_start(struct redis_link *link);
/* Pending callbacks run inside with ERR_UNKNOWN; on_closed runs later, after the memory is freed.
 */
void redis_link_close(struct redis_link *link, void (*on_closed)(void *arg), void *arg);

bool redis_link_is_up(const struct redis_link *link);
/* 0; ERR_OFFLINE; ERR_BUSY above 4,096 unanswered commands or 64 MiB unsent bytes. */
MUST_CHECK int redis_link_can_send(const struct redis_link *link);
/* One command: begin, argc times argument, end. Only while up. on_reply may be NULL (then errors
 * are ignored). */
void redis_link_begin(struct redis_link *link, unsigned argc);
void redis_link_argument(struct redis_link *link, const void *bytes, size_t size);
void redis_link_text(struct redis_link *link, const char *text);
void redis_link_number(struct redis_link *link, int64_t number);
void redis_link_end(struct redis_link *link, redis_reply_fn on_reply, void *arg);
void redis_link_flush(struct redis_link *link);
/* Drops the connection as if it had died, and reconnects: what answers READONLY is not our primary.
 */
void redis_link_drop(struct redis_link *link, const char *code, const char *why);

double redis_link_round_trip_ms(const struct redis_link *link);    /* of the last ping */
int64_t redis_link_last_ok_mono_ms(const struct redis_link *link); /* last reply */

/* What an error reply means, by its first word. */
enum redis_error {
    REDIS_ERROR_LATER, /* refused before it ran, try again: loading, busy, no disk, no replicas */
    REDIS_ERROR_READONLY, /* a replica */
    REDIS_ERROR_FULL,     /* maxmemory */
    REDIS_ERROR_AUTH,     /* not logged in, or not allowed */
    REDIS_ERROR_MISSING,  /* function or script is not loaded */
    REDIS_ERROR_OTHER
};
enum redis_error redis_error_of(const struct redisReply *reply);
/* "redis_loading", "redis_read_only", …: what queue_health says of it. */
const char *redis_error_code(const struct redisReply *reply);
bool redis_reply_is_error(const struct redisReply *reply);

#endif
