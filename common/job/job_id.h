/* Job ids: "job_" and 34 characters of lower-case Crockford base32 = 170 bits: shard (10),
 * milliseconds since the epoch (42), random (118). Any broker finds a job's shard without a
 * look-up, ids sort by time within a shard, and nobody guesses one. */
#ifndef PENSTOCK_JOB_JOB_ID_H
#define PENSTOCK_JOB_JOB_ID_H

#include <stdint.h>

#include "common/base/check.h"
#include "common/base/slice.h"

enum {
    JOB_ID_CORE_SIZE = 34,                   /* as it stands in Redis keys and tickets */
    JOB_ID_TEXT_SIZE = 4 + JOB_ID_CORE_SIZE, /* with "job_" */
    JOB_ID_PACKED_SIZE = 22,                 /* the 170 bits, for indexes */
};

struct job_id {
    char core[JOB_ID_CORE_SIZE + 1]; /* terminated, without "job_" */
};

/* random: 15 bytes, of which 118 bits are used. */
struct job_id job_id_make(unsigned shard, int64_t at_ms, const uint8_t random[15]);
/* Accepts exactly "job_" + 34 valid characters whose shard is below shards. ERR_INVALID. */
MUST_CHECK int job_id_parse(struct slice text, unsigned shards, struct job_id *out);
/* As parse, of the 34 characters alone. */
MUST_CHECK int job_id_parse_core(struct slice core, struct job_id *out);
unsigned job_id_shard(const struct job_id *id);
int64_t job_id_at_ms(const struct job_id *id);
void job_id_text(const struct job_id *id, char out[JOB_ID_TEXT_SIZE + 1]);
void job_id_pack(const struct job_id *id, char out[JOB_ID_PACKED_SIZE]);
MUST_CHECK int job_id_unpack(const char packed[JOB_ID_PACKED_SIZE], struct job_id *out);

#endif
