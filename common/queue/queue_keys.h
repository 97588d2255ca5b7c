/* Every key and channel name that C builds. docs/redis-keys.md says what is behind them; the names
 * that only the Lua files under functions/ touch are built there. */
#ifndef PENSTOCK_QUEUE_QUEUE_KEYS_H
#define PENSTOCK_QUEUE_QUEUE_KEYS_H

#include <stddef.h>

#include "common/job/job.h"

enum { QUEUE_KEY_SIZE = 128 };

struct queue_key {
    char text[QUEUE_KEY_SIZE];
    size_t size;
};

struct queue_key queue_key_clock(unsigned shard);
struct queue_key queue_key_job(const struct job_id *id);
struct queue_key queue_key_body_piece(const struct job_id *id, unsigned piece);
struct queue_key queue_key_result_piece(const struct job_id *id, unsigned claim, unsigned piece);
struct queue_key queue_key_request(const struct job_id *id); /* of an ended job, for a retry */
struct queue_key queue_key_attempts(const struct job_id *id);
struct queue_key queue_key_followers(const struct job_id *id);
struct queue_key queue_key_live(unsigned shard);
struct queue_key queue_key_leases(unsigned shard);
struct queue_key queue_key_fleet(const char *kind);
struct queue_key queue_key_fleet_member(const char *kind, const char *id, size_t id_size);

#define QUEUE_KEY_IDLE "{0}:idle"
#define QUEUE_KEY_STORE_ID "{0}:id"
#define QUEUE_KEY_CONFIG "{0}:cfg"
#define QUEUE_KEY_TENANTS "{0}:T"
#define QUEUE_KEY_PAUSED_UPSTREAMS "{0}:U"

#define QUEUE_CHANNEL_BROKER "pk:b:"
#define QUEUE_CHANNEL_CHILD "pk:c:"
#define QUEUE_CHANNEL_CONTROL "pk:ctl"

#endif
