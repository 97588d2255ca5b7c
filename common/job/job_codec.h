/* The stored form of a job: fixed header, route, meta (msgpack), payload. The only door to msgpack.
 *
 * Header, little-endian, 92 bytes. Bytes 2..40 change in place, inside Redis functions; the rest is
 * written once per record. Lua knows these offsets (functions/_prelude.lua); what every verb does
 * to records is held to this by tests/model and the tests of the queue.
 *
 *   0 'P'          1 schema        2 state letter  3 flags       4 claim u16     6 attempt u8
 *   7 crashes u8   8 sequence u32  12 token 16     28 started u48
 *  34 due u48, of a job that has ended when it did               40 verdict u8 (enum job_verdict)
 *  41 priority '0'..'2'            42 tenant 6     48 max attempts u8              (49 reserved 1)
 *  50 created u48  56 expires u48  62 pieces u16   64 payload size u32
 *  68 meta size u16                70 route size u16             72 result ttl s u32
 *  76 timeout ms u32               80 meta CRC32C (of route and meta)
 *  84 payload CRC32C               88 ticket CRC32C
 *
 * Then, when flag bit 4 (0x10, JOB_RECORD_HOME) is set: 8 bytes home broker id;
 * then `route size` bytes, `meta size` bytes, and the payload unless JOB_FLAG_PIECES is set.
 *
 * Meta is a msgpack map with small integer keys, each only when it has a value; unknown keys are
 * skipped, so that minor additions need no new schema.
 *
 * Ticket, 48 bytes, the only thing that moves between structures:
 *   0 schema (JOB_TICKET_SCHEMA)   1 id core 34   35 priority '0'..'2'   36 tenant 6   42 CRC32C of
 * bytes 0..41   46 claim u16 A member of the lease set is ticket + token (64 bytes). */
#ifndef PENSTOCK_JOB_JOB_CODEC_H
#define PENSTOCK_JOB_JOB_CODEC_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/job/job.h"

/* Why a Redis function ended a job by itself; decoded into error_code and error_message. */
enum job_verdict {
    JOB_VERDICT_NONE,
    JOB_VERDICT_POISON,
    JOB_VERDICT_CANCELLED,
    JOB_VERDICT_EXPIRED
};

/* What this build writes at most, and reads with everything below. Another number only in test
 * builds (make SCHEMA=2), so that versions can be run side by side. */
#ifndef PENSTOCK_SCHEMA
#define PENSTOCK_SCHEMA 1
#endif

enum {
    JOB_SCHEMA = PENSTOCK_SCHEMA,
    JOB_TICKET_SCHEMA = '1',
    JOB_HEADER_SIZE = 92,
    JOB_RECORD_HOME = 0x10,
    JOB_TICKET_SIZE = 48,
    JOB_MEMBER_SIZE = JOB_TICKET_SIZE + JOB_TOKEN_SIZE,
    JOB_HEAD_SIZE_MAX = 65536, /* header + route + meta */
    JOB_HEAD_READ_SIZE = 1024, /* what a poll reads first: nearly always the whole head */
};

/* Appends the record of job to out: with payload bytes inline, or without them when
 * JOB_FLAG_PIECES is set (the caller stores the pieces). payload_size is taken from
 * payload.size unless pieces. It is written in the schema job->schema says. ERR_TOO_BIG, ERR_NOMEM.
 */
MUST_CHECK int job_encode(const struct job *job, struct buf *out);

/* Reads a record; slices of out point into bytes. `bytes` may end anywhere after the head (polls
 * read only the beginning): payload.bytes is then NULL and its checksum is not looked at.
 * ERR_CORRUPT with what does not fit in why; ERR_NEWER for a schema above ours; ERR_TOO_BIG when
 * the head itself is longer than size: read job_head_size() bytes and try again. The id is not in
 * the record: the caller knows it. */
MUST_CHECK int job_decode(const struct job_id *id, const char *bytes, size_t size, struct job *out,
                          struct error_text *why);
/* Does to a record what the claim function does to it in Redis: queued -> running. record: at least
 * JOB_HEADER_SIZE bytes. */
void job_record_claim(char *record, const uint8_t token[JOB_TOKEN_SIZE], int64_t now_ms);
/* Bytes of header, route and meta; needs JOB_HEADER_SIZE bytes. 0 when this is no header. */
size_t job_head_size(const char *bytes, size_t size);
/* Checksum of a payload that was read apart (pieces). ERR_CORRUPT. */
MUST_CHECK int job_check_payload(const char *record, size_t record_size, const char *payload,
                                 size_t size);

void job_ticket_make(const struct job *job, char out[JOB_TICKET_SIZE]);
/* Verifies schema and checksum; sets id, priority, tenant and claim of out. ERR_CORRUPT, ERR_NEWER.
 */
MUST_CHECK int job_ticket_parse(const char *ticket, size_t size, struct job *out);

/* One attempt as msgpack, for the list of failed attempts beside a live job. */
MUST_CHECK int job_attempt_encode(const struct job_attempt *attempt, struct buf *out);
MUST_CHECK int job_attempt_decode(const char *bytes, size_t size, struct job_attempt *out);

#endif
