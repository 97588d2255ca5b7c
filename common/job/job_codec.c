/* Header fields are read and written by offset, so that Lua and C agree byte for byte on any
 * machine. */
#include "common/job/job_codec.h"

#include <string.h>

#include "common/base/digest.h"
#include "common/job/job_meta.h"

enum {
    AT_STATE = 2,
    AT_FLAGS = 3,
    AT_CLAIM = 4,
    AT_ATTEMPT = 6,
    AT_CRASHES = 7,
    AT_SEQUENCE = 8,
    AT_TOKEN = 12,
    AT_STARTED = 28,
    AT_DUE = 34, /* of what has ended: when it did */
    AT_VERDICT = 40,
    AT_PRIORITY = 41,
    AT_TENANT = 42,
    AT_MAX_ATTEMPTS = 48,
    AT_CREATED = 50,
    AT_EXPIRES = 56,
    AT_PIECES = 62,
    AT_PAYLOAD_SIZE = 64,
    AT_META_SIZE = 68,
    AT_ROUTE_SIZE = 70,
    AT_TTL = 72,
    AT_TIMEOUT = 76,
    AT_META_CRC = 80,
    AT_PAYLOAD_CRC = 84,
    AT_TICKET_CRC = 88,
};

static void put(char *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (char)(value >> (8 * i) & 0xff);
}

static uint64_t get(const char *at, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(unsigned char)at[i] << (8 * i);
    return value;
}

static void put_ticket_body(const struct job *job, char out[JOB_TICKET_SIZE - 6])
{
    out[0] = JOB_TICKET_SCHEMA;
    memcpy(out + 1, job->id.core, JOB_ID_CORE_SIZE);
    out[35] = (char)('0' + (int)job->priority);
    memcpy(out + 36, job->tenant, JOB_TENANT_SIZE);
}

static void put_header(const struct job *job, bool has_home, size_t meta_size, char *h)
{
    char ticket[JOB_TICKET_SIZE];

    job_ticket_make(job, ticket);
    memset(h, 0, JOB_HEADER_SIZE);
    h[0] = 'P';
    h[1] = (char)(job->schema ? job->schema : JOB_SCHEMA);
    h[AT_STATE] = job_state_letter(job->state);
    h[AT_FLAGS] = (char)(job->flags | (has_home ? JOB_RECORD_HOME : 0));
    put(h + AT_CLAIM, job->claim, 2);
    put(h + AT_ATTEMPT, job->attempt, 1);
    put(h + AT_CRASHES, job->crashes, 1);
    put(h + AT_SEQUENCE, job->sequence, 4);
    memcpy(h + AT_TOKEN, job->token, JOB_TOKEN_SIZE);
    put(h + AT_STARTED, (uint64_t)job->started_at_ms, 6);
    put(h + AT_DUE,
        (uint64_t)(job_state_is_final(job->state) ? job->finished_at_ms : job->due_at_ms), 6);
    put(h + AT_CREATED, (uint64_t)job->created_at_ms, 6);
    put(h + AT_EXPIRES, (uint64_t)job->expires_at_ms, 6);
    put(h + AT_PIECES, job->pieces, 2);
    put(h + AT_META_SIZE, meta_size, 2);
    put(h + AT_ROUTE_SIZE, job->route.size, 2);
    put(h + AT_TTL, job->result_ttl_s, 4);
    put(h + AT_TIMEOUT, job->timeout_ms, 4);
    memcpy(h + AT_TICKET_CRC, ticket + 42, 4);
    memcpy(h + AT_TENANT, job->tenant, JOB_TENANT_SIZE);
    h[AT_PRIORITY] = (char)('0' + (int)job->priority);
    put(h + AT_MAX_ATTEMPTS, job->max_attempts, 1);
}

static bool has_home(const struct job *job)
{
    return job->home[0] != '\0';
}

int job_encode(const struct job *job, struct buf *out)
{
    bool in_pieces = (job->flags & JOB_FLAG_PIECES) != 0;
    bool home = has_home(job);
    size_t start = out->size;
    size_t head = JOB_HEADER_SIZE + (home ? (size_t)JOB_HOME_SIZE : 0) + job->route.size;
    int status;

    CHECK(job->schema <= JOB_SCHEMA);
    if (job->route.size > LIMIT_ROUTE_BYTES || (!in_pieces && job->payload.size > UINT32_MAX))
        return ERR_TOO_BIG;
    status = buf_reserve(out, head + (in_pieces ? 0 : job->payload.size) + 256);
    if (status < 0)
        return status;
    out->size += head;
    status = job_meta_encode(job, out);
    if (status < 0)
        goto fail;
    size_t meta_size = out->size - start - head;
    if (meta_size > UINT16_MAX || head + meta_size > JOB_HEAD_SIZE_MAX) {
        status = ERR_TOO_BIG;
        goto fail;
    }
    char *h = out->data + start;
    put_header(job, home, meta_size, h);
    if (home)
        memcpy(h + JOB_HEADER_SIZE, job->home, JOB_HOME_SIZE);
    if (job->route.size > 0)
        memcpy(h + head - job->route.size, job->route.bytes, job->route.size);
    put(h + AT_META_CRC, digest_crc32c(0, h + head - job->route.size, job->route.size + meta_size),
        4);
    put(h + AT_PAYLOAD_SIZE, in_pieces ? job->payload_size : job->payload.size, 4);
    put(h + AT_PAYLOAD_CRC, digest_crc32c(0, job->payload.bytes, job->payload.size), 4);
    if (!in_pieces && job->payload.size > 0)
        status = buf_append(out, job->payload.bytes, job->payload.size);
    if (status >= 0)
        return 0;
fail:
    out->size = start;
    return status;
}

size_t job_head_size(const char *bytes, size_t size)
{
    if (size < JOB_HEADER_SIZE || bytes[0] != 'P')
        return 0;
    return JOB_HEADER_SIZE + (bytes[AT_FLAGS] & JOB_RECORD_HOME ? (size_t)JOB_HOME_SIZE : 0) +
           get(bytes + AT_ROUTE_SIZE, 2) + get(bytes + AT_META_SIZE, 2);
}

static int get_header(const char *h, struct job *job, struct error_text *why)
{
    enum job_state state;
    int priority = h[AT_PRIORITY] - '0';

    if (job_state_from_letter(h[AT_STATE], &state) < 0)
        return error_set(why, ERR_CORRUPT, "state letter 0x%02x", (unsigned char)h[AT_STATE]);
    if (priority < 0 || priority >= JOB_PRIORITY_COUNT)
        return error_set(why, ERR_CORRUPT, "priority %d", priority);
    job->state = state; /* lint: own state */
    job->priority = (enum job_priority)priority;
    job->flags = (unsigned char)h[AT_FLAGS] & ~(unsigned)JOB_RECORD_HOME;
    job->claim = (unsigned)get(h + AT_CLAIM, 2);
    job->attempt = (unsigned)get(h + AT_ATTEMPT, 1);
    job->crashes = (unsigned)get(h + AT_CRASHES, 1);
    job->sequence = (uint32_t)get(h + AT_SEQUENCE, 4);
    memcpy(job->token, h + AT_TOKEN, JOB_TOKEN_SIZE);
    job->started_at_ms = (int64_t)get(h + AT_STARTED, 6);
    *(job_state_is_final(state) ? &job->finished_at_ms : &job->due_at_ms) =
        (int64_t)get(h + AT_DUE, 6);
    job->created_at_ms = (int64_t)get(h + AT_CREATED, 6);
    job->expires_at_ms = (int64_t)get(h + AT_EXPIRES, 6);
    job->pieces = (unsigned)get(h + AT_PIECES, 2);
    job->payload_size = (uint32_t)get(h + AT_PAYLOAD_SIZE, 4);
    job->result_ttl_s = (uint32_t)get(h + AT_TTL, 4);
    job->timeout_ms = (uint32_t)get(h + AT_TIMEOUT, 4);
    memcpy(job->tenant, h + AT_TENANT, JOB_TENANT_SIZE);
    job->max_attempts = (unsigned)get(h + AT_MAX_ATTEMPTS, 1);
    return 0;
}

/* What a Redis function decided without touching meta. */
static void apply_verdict(enum job_verdict verdict, struct job *job)
{
    switch (verdict) {
    case JOB_VERDICT_NONE:
        return;
    case JOB_VERDICT_POISON:
        job->error_code = slice_of("poison");
        job->error_message = slice_of("the worker process died each time this job ran");
        return;
    case JOB_VERDICT_CANCELLED:
        job->error_code = slice_of("cancelled");
        job->error_message = slice_of("cancelled on request");
        return;
    case JOB_VERDICT_EXPIRED:
        job->error_code = slice_of("expired");
        job->error_message = slice_of("not finished before expires_at");
        return;
    }
}

int job_decode(const struct job_id *id, const char *bytes, size_t size, struct job *out,
               struct error_text *why)
{
    struct job job = {.id = *id};
    size_t head = job_head_size(bytes, size);
    int status;

    if (head == 0)
        return error_set(why, ERR_CORRUPT, "no job header in %zu bytes", size);
    job.schema = (unsigned char)bytes[1];
    if (job.schema == 0 || job.schema > JOB_SCHEMA)
        return error_set(why, job.schema ? ERR_NEWER : ERR_CORRUPT, "schema %u", job.schema);
    if (head > size)
        return error_set(why, ERR_TOO_BIG, "head of %zu bytes, %zu given", head, size);
    status = get_header(bytes, &job, why);
    if (status < 0)
        return status;

    size_t meta_size = get(bytes + AT_META_SIZE, 2);
    size_t route_size = get(bytes + AT_ROUTE_SIZE, 2);
    const char *route = bytes + head - meta_size - route_size;
    if (digest_crc32c(0, route, route_size + meta_size) != get(bytes + AT_META_CRC, 4))
        return error_set(why, ERR_CORRUPT, "checksum of route and meta");
    if (bytes[AT_FLAGS] & JOB_RECORD_HOME)
        memcpy(job.home, bytes + JOB_HEADER_SIZE, JOB_HOME_SIZE);
    job.route = (struct slice){route, route_size};
    status = job_meta_decode(route + route_size, meta_size, &job, why);
    if (status < 0)
        return status;
    apply_verdict((enum job_verdict)bytes[AT_VERDICT], &job);
    if (!(job.flags & JOB_FLAG_PIECES) && size - head >= job.payload_size) {
        job.payload = (struct slice){bytes + head, job.payload_size};
        status = job_check_payload(bytes, size, job.payload.bytes, job.payload.size);
        if (status < 0)
            return error_set(why, status, "checksum of payload");
    }
    *out = job;
    return 0;
}

void job_record_claim(char *record, const uint8_t token[JOB_TOKEN_SIZE], int64_t now_ms)
{
    record[AT_STATE] = 'r';
    put(record + AT_CLAIM, get(record + AT_CLAIM, 2) + 1, 2);
    put(record + AT_SEQUENCE, get(record + AT_SEQUENCE, 4) + 1, 4);
    memcpy(record + AT_TOKEN, token, JOB_TOKEN_SIZE);
    if (get(record + AT_STARTED, 6) == 0)
        put(record + AT_STARTED, (uint64_t)now_ms, 6);
}

int job_check_payload(const char *record, size_t record_size, const char *payload, size_t size)
{
    if (record_size < JOB_HEADER_SIZE || size != get(record + AT_PAYLOAD_SIZE, 4))
        return ERR_CORRUPT;
    return digest_crc32c(0, payload, size) == get(record + AT_PAYLOAD_CRC, 4) ? 0 : ERR_CORRUPT;
}

void job_ticket_make(const struct job *job, char out[JOB_TICKET_SIZE])
{
    put_ticket_body(job, out);
    put(out + 42, digest_crc32c(0, out, 42), 4);
    put(out + 46, job->claim, 2);
}

int job_ticket_parse(const char *ticket, size_t size, struct job *out)
{
    struct job_id id;
    int priority;

    if (size < 1)
        return ERR_CORRUPT;
    if (ticket[0] != JOB_TICKET_SCHEMA)
        return ticket[0] > JOB_TICKET_SCHEMA ? ERR_NEWER : ERR_CORRUPT;
    if (size != JOB_TICKET_SIZE || digest_crc32c(0, ticket, 42) != get(ticket + 42, 4))
        return ERR_CORRUPT;
    priority = ticket[35] - '0';
    if (job_id_parse_core((struct slice){ticket + 1, JOB_ID_CORE_SIZE}, &id) < 0 || priority < 0 ||
        priority >= JOB_PRIORITY_COUNT)
        return ERR_CORRUPT;
    out->id = id;
    out->priority = (enum job_priority)priority;
    memcpy(out->tenant, ticket + 36, JOB_TENANT_SIZE);
    out->claim = (unsigned)get(ticket + 46, 2);
    return 0;
}
