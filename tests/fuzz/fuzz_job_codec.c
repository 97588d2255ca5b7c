/* Any bytes as what is stored of jobs: records, tickets, attempts, ids. Read or refused; what was
 * read is written again and reads alike. Random bytes have no right checksums, so half of the
 * inputs get them first. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/digest.h"
#include "common/job/job_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum {
    PAYLOAD_SIZE_AT = 64,
    META_SIZE_AT = 68,
    ROUTE_SIZE_AT = 70,
    META_CRC_AT = 80,
    PAYLOAD_CRC_AT = 84,
    TICKET_CRC_AT = 88,
    PRIORITY_AT = 41,
    TENANT_AT = 42,
};

static const struct job_id id = {"0001f2z0h8v6k3mqa9c7d5e1r4t2w0xnpb"};

static size_t number(const char *at, unsigned size)
{
    size_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (size_t)(unsigned char)at[i] << (8 * i);
    return value;
}

static void put(char *at, size_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (char)(value >> (8 * i) & 0xff);
}

/* Makes a record of it: sizes that fit and checksums that are right. */
static void mend(char *h, size_t size)
{
    size_t home, room, route, meta;

    if (size < JOB_HEADER_SIZE + JOB_HOME_SIZE)
        return;
    h[0] = 'P';
    h[1] = JOB_SCHEMA;
    home = (h[3] & JOB_RECORD_HOME) ? (size_t)JOB_HOME_SIZE : 0;
    room = size - JOB_HEADER_SIZE - home;
    route =
        number(h + ROUTE_SIZE_AT, 2) % (room < LIMIT_ROUTE_BYTES ? room + 1 : LIMIT_ROUTE_BYTES);
    meta = number(h + META_SIZE_AT, 2) % (room - route + 1);
    put(h + ROUTE_SIZE_AT, route, 2);
    put(h + META_SIZE_AT, meta, 2);
    size_t head = JOB_HEADER_SIZE + home + route + meta;
    if (number(h + PAYLOAD_SIZE_AT, 4) > size - head)
        put(h + PAYLOAD_SIZE_AT, size - head, 4);
    size_t payload = number(h + PAYLOAD_SIZE_AT, 4);
    put(h + META_CRC_AT, digest_crc32c(0, h + JOB_HEADER_SIZE + home, route + meta), 4);
    put(h + PAYLOAD_CRC_AT, digest_crc32c(0, h + head, payload), 4);
    h[PRIORITY_AT] = (char)('0' + (unsigned char)h[PRIORITY_AT] % JOB_PRIORITY_COUNT);
    struct job job = {.id = id, .priority = (enum job_priority)(h[PRIORITY_AT] - '0')};
    char ticket[JOB_TICKET_SIZE];
    memcpy(job.tenant, h + TENANT_AT, JOB_TENANT_SIZE);
    job_ticket_make(&job, ticket);
    memcpy(h + TICKET_CRC_AT, ticket + 42, 4);
}

static bool is_within(struct slice part, const char *bytes, size_t size)
{
    return !part.bytes || part.size == 0 ||
           (part.bytes >= bytes && part.size <= size && part.bytes + part.size <= bytes + size);
}

static bool is_same(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

static void check_again(const struct job *job)
{
    struct buf out = {.size_max = 1 << 24};
    struct error_text why = {""};
    struct job again;
    int status = job_encode(job, &out);

    /* Verdicts become codes and messages when they are read, and those may not fit any more. */
    if (status < 0) {
        CHECK(status == ERR_TOO_BIG);
        buf_deinit(&out);
        return;
    }
    CHECK(job_decode(&job->id, out.data, out.size, &again, &why) == 0);
    CHECK(again.state == job->state && again.claim == job->claim);
    CHECK(again.attempt == job->attempt && again.sequence == job->sequence);
    CHECK(again.priority == job->priority && again.endpoint == job->endpoint);
    CHECK(again.expires_at_ms == job->expires_at_ms && again.due_at_ms == job->due_at_ms);
    CHECK(again.attempts_count == job->attempts_count);
    CHECK(is_same(again.route, job->route) && is_same(again.metadata, job->metadata));
    CHECK(is_same(again.error_code, job->error_code));
    CHECK(is_same(again.tenant_name, job->tenant_name));
    CHECK((job->flags & JOB_FLAG_PIECES) || is_same(again.payload, job->payload));
    buf_deinit(&out);
}

static void check_record(const char *bytes, size_t size)
{
    struct error_text why = {""};
    struct job job;
    size_t head = job_head_size(bytes, size);
    int status = job_decode(&id, bytes, size, &job, &why);

    CHECK(head == 0 || head >= JOB_HEADER_SIZE);
    if (status < 0) {
        CHECK(status == ERR_CORRUPT || status == ERR_NEWER || status == ERR_TOO_BIG);
        CHECK(status != ERR_CORRUPT || why.text[0] != '\0');
        CHECK(status != ERR_TOO_BIG || head > size);
        return;
    }
    CHECK(head > 0 && head <= size);
    CHECK(job.state < JOB_STATE_COUNT && job.priority < JOB_PRIORITY_COUNT);
    CHECK(job.attempts_count <= LIMIT_ATTEMPTS);
    CHECK(is_within(job.route, bytes, size) && is_within(job.metadata, bytes, size));
    CHECK(is_within(job.payload, bytes, size) && is_within(job.upstream, bytes, size));
    CHECK(is_within(job.webhook_url, bytes, size) && is_within(job.request_id, bytes, size));
    for (unsigned i = 0; i < job.attempts_count; i++)
        CHECK(is_within(job.attempts[i].error_message, bytes, size));
    if (job.payload.bytes)
        CHECK(job_check_payload(bytes, size, job.payload.bytes, job.payload.size) == 0);
    job.schema = 0;
    if (job.payload.bytes || (job.flags & JOB_FLAG_PIECES))
        check_again(&job);
}

static void check_ticket(char *bytes, size_t size, bool mends)
{
    char out[JOB_TICKET_SIZE];
    struct job job;
    int status;

    if (mends && size >= 46) {
        bytes[0] = JOB_TICKET_SCHEMA;
        put(bytes + 42, digest_crc32c(0, bytes, 42), 4);
    }
    memset(&job, 0, sizeof(job));
    status = job_ticket_parse(bytes, size, &job);
    if (status < 0) {
        CHECK(status == ERR_CORRUPT || status == ERR_NEWER);
        return;
    }
    job_ticket_make(&job, out);
    CHECK(size >= JOB_TICKET_SIZE && memcmp(out, bytes, JOB_TICKET_SIZE) == 0);
}

static void check_attempt(const char *bytes, size_t size)
{
    struct buf out = {.size_max = 1 << 20};
    struct job_attempt attempt, again;
    int status = job_attempt_decode(bytes, size, &attempt);

    if (status < 0) {
        CHECK(status == ERR_CORRUPT);
        return;
    }
    CHECK(is_within(attempt.upstream, bytes, size) && is_within(attempt.error_code, bytes, size));
    CHECK(job_attempt_encode(&attempt, &out) == 0);
    CHECK(job_attempt_decode(out.data, out.size, &again) == 0);
    CHECK(again.http_status == attempt.http_status);
    CHECK(is_same(again.error_message, attempt.error_message));
    buf_deinit(&out);
}

static void check_id(const char *bytes, size_t size)
{
    char text[JOB_ID_TEXT_SIZE + 1], packed[JOB_ID_PACKED_SIZE];
    struct job_id one, again;

    if (job_id_parse((struct slice){bytes, size}, 16, &one) == 0) {
        CHECK(job_id_shard(&one) < 16 && size == JOB_ID_TEXT_SIZE);
        job_id_text(&one, text);
        CHECK(memcmp(text, bytes, size) == 0);
        job_id_pack(&one, packed);
        CHECK(job_id_unpack(packed, &again) == 0);
        CHECK(memcmp(again.core, one.core, JOB_ID_CORE_SIZE) == 0);
    }
    if (size == JOB_ID_PACKED_SIZE && job_id_unpack(bytes, &one) == 0) {
        job_id_pack(&one, packed);
        CHECK(memcmp(packed, bytes, size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size); /* the first byte chooses; exactly as long, for the sanitizer */
    CHECK(text != NULL);
    memcpy(text, bytes + 1, size - 1);
    size--;
    switch (bytes[0] % 6) {
    case 0:
        check_record(text, size);
        break;
    case 1:
    case 2:
        mend(text, size);
        check_record(text, size);
        break;
    case 3:
        check_ticket(text, size, (bytes[0] & 64) != 0);
        break;
    case 4:
        check_attempt(text, size);
        break;
    default:
        check_id(text, size);
        break;
    }
    free(text);
    return 0;
}
