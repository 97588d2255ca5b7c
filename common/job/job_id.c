#include "common/job/job_id.h"

#include <string.h>

#include "common/base/digest.h"
#include "common/base/error.h"

enum { SHARD_BITS = 10, TIME_BITS = 42, ID_BITS = 170, RANDOM_BITS = 118 };

_Static_assert(SHARD_BITS + TIME_BITS + RANDOM_BITS == ID_BITS, "the parts fill the id");
_Static_assert(JOB_ID_CORE_SIZE * 5 == ID_BITS, "34 characters hold it exactly");

/* Writes the low `count` bits of value at bit position `at`, most significant first. */
static void put_bits(uint8_t *bytes, unsigned at, uint64_t value, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if ((value >> (count - 1 - i)) & 1)
            bytes[(at + i) / 8] |= (uint8_t)(0x80u >> ((at + i) % 8));
    }
}

struct job_id job_id_make(unsigned shard, int64_t at_ms, const uint8_t random[15])
{
    struct job_id id = {0};
    uint8_t bytes[JOB_ID_PACKED_SIZE] = {0};

    CHECK(shard < 1u << SHARD_BITS);
    CHECK(at_ms >= 0 && at_ms < (int64_t)1 << TIME_BITS);
    put_bits(bytes, 0, shard, SHARD_BITS);
    put_bits(bytes, SHARD_BITS, (uint64_t)at_ms, TIME_BITS);
    put_bits(bytes, 52, random[0] >> 4, 4); /* to a byte boundary: bit 56 */
    memcpy(bytes + 7, random + 1, 14);      /* bits 56..167 */
    put_bits(bytes, 168, random[0] & 3, 2);
    digest_base32(bytes, ID_BITS, id.core);
    return id;
}

int job_id_parse_core(struct slice core, struct job_id *out)
{
    struct job_id id = {0};

    if (core.size != JOB_ID_CORE_SIZE)
        return ERR_INVALID;
    for (unsigned i = 0; i < JOB_ID_CORE_SIZE; i++) {
        if (digest_base32_value(core.bytes[i]) < 0)
            return ERR_INVALID;
    }
    memcpy(id.core, core.bytes, JOB_ID_CORE_SIZE);
    *out = id;
    return 0;
}

int job_id_parse(struct slice text, unsigned shards, struct job_id *out)
{
    struct job_id id;

    if (text.size != JOB_ID_TEXT_SIZE || memcmp(text.bytes, "job_", 4) != 0)
        return ERR_INVALID;
    if (job_id_parse_core((struct slice){text.bytes + 4, JOB_ID_CORE_SIZE}, &id) < 0)
        return ERR_INVALID;
    if (job_id_shard(&id) >= shards)
        return ERR_INVALID;
    *out = id;
    return 0;
}

unsigned job_id_shard(const struct job_id *id)
{
    int high = digest_base32_value(id->core[0]);
    int low = digest_base32_value(id->core[1]);

    CHECK(high >= 0 && low >= 0);
    return (unsigned)high * 32 + (unsigned)low;
}

int64_t job_id_at_ms(const struct job_id *id)
{
    int64_t bits = 0;

    /* Bits 10..51 stand in characters 2..9 and the first two bits of character 10. */
    for (unsigned i = 2; i <= 10; i++)
        bits = bits * 32 + digest_base32_value(id->core[i]);
    return bits >> 3;
}

void job_id_text(const struct job_id *id, char out[JOB_ID_TEXT_SIZE + 1])
{
    memcpy(out, "job_", 4);
    memcpy(out + 4, id->core, JOB_ID_CORE_SIZE);
    out[JOB_ID_TEXT_SIZE] = '\0';
}

void job_id_pack(const struct job_id *id, char out[JOB_ID_PACKED_SIZE])
{
    unsigned bits = 0; /* not yet written, in the low end of pending */
    uint32_t pending = 0;
    size_t size = 0;

    for (unsigned i = 0; i < JOB_ID_CORE_SIZE; i++) {
        pending = pending << 5 | (uint32_t)digest_base32_value(id->core[i]);
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            out[size++] = (char)(pending >> bits & 0xff);
        }
    }
    CHECK(size == JOB_ID_PACKED_SIZE - 1);
    out[size] = (char)(pending << (8 - bits) & 0xff);
}

int job_id_unpack(const char packed[JOB_ID_PACKED_SIZE], struct job_id *out)
{
    uint8_t bytes[JOB_ID_PACKED_SIZE];

    memcpy(bytes, packed, sizeof(bytes));
    if (bytes[JOB_ID_PACKED_SIZE - 1] & 0x3f)
        return ERR_INVALID;
    memset(out, 0, sizeof(*out));
    digest_base32(bytes, ID_BITS, out->core);
    return 0;
}
