#include "common/queue/queue_keys.h"

#include <stdarg.h>
#include <stdio.h>

PRINTF_LIKE(1, 2) static struct queue_key make(const char *format, ...)
{
    struct queue_key key;
    va_list args;

    va_start(args, format);
    int size = vsnprintf(key.text, sizeof(key.text), format, args);
    va_end(args);
    CHECK(size > 0 && (size_t)size < sizeof(key.text));
    key.size = (size_t)size;
    return key;
}

struct queue_key queue_key_clock(unsigned shard)
{
    return make("{%u}:ck", shard);
}

struct queue_key queue_key_leases(unsigned shard)
{
    return make("{%u}:L", shard);
}

struct queue_key queue_key_job(const struct job_id *id)
{
    return make("{%u}:j:%s", job_id_shard(id), id->core);
}

struct queue_key queue_key_body_piece(const struct job_id *id, unsigned piece)
{
    return make("{%u}:b:%s:%u", job_id_shard(id), id->core, piece);
}

struct queue_key queue_key_result_piece(const struct job_id *id, unsigned claim, unsigned piece)
{
    return make("{%u}:r:%s:%u:%u", job_id_shard(id), id->core, claim, piece);
}

struct queue_key queue_key_request(const struct job_id *id)
{
    return make("{%u}:p:%s", job_id_shard(id), id->core);
}

struct queue_key queue_key_attempts(const struct job_id *id)
{
    return make("{%u}:t:%s", job_id_shard(id), id->core);
}

struct queue_key queue_key_followers(const struct job_id *id)
{
    return make("{%u}:f:%s", job_id_shard(id), id->core);
}

struct queue_key queue_key_live(unsigned shard)
{
    return make("{%u}:n", shard);
}

struct queue_key queue_key_fleet(const char *kind)
{
    return make("{0}:h:%s", kind);
}

struct queue_key queue_key_fleet_member(const char *kind, const char *id, size_t id_size)
{
    return make("{0}:h:%s:%.*s", kind, (int)(id_size < 64 ? id_size : 64), id);
}
