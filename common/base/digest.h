/* Hashes, random bytes, comparisons and encodings: the only door to OpenSSL's crypto. */
#ifndef PENSTOCK_BASE_DIGEST_H
#define PENSTOCK_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

enum { DIGEST_SHA256_SIZE = 32 };

void digest_sha256(const void *bytes, size_t size, uint8_t out[DIGEST_SHA256_SIZE]);
void digest_hmac_sha256(const void *key, size_t key_size, const void *bytes, size_t size,
                        uint8_t out[DIGEST_SHA256_SIZE]);
/* Castagnoli polynomial (RFC 3720); seed 0 starts, the result of one call continues the next. */
uint32_t digest_crc32c(uint32_t seed, const void *bytes, size_t size);
/* The same without special instructions: what processors without them run. */
uint32_t digest_crc32c_portable(uint32_t seed, const void *bytes, size_t size);
/* SipHash-2-4: a hash for tables that those who do not know the key cannot steer. */
uint64_t digest_siphash(const uint64_t key[2], const void *bytes, size_t size);
/* From the kernel, through a small refilled pool that notices fork(). Aborts if there is none. */
void digest_random(void *out, size_t size);
uint64_t digest_random_u64(void);
bool digest_equal(const void *a, const void *b, size_t size); /* constant time */
void digest_wipe(void *bytes, size_t size);
void digest_hex(const void *bytes, size_t size, char *out); /* 2*size + 1 bytes */
/* Lower-case Crockford base32 of `bits` bits, most significant first, 5 bits a character, last one
 * padded with zero bits; writes ceil(bits/5) characters, no terminator. */
void digest_base32(const uint8_t *bytes, size_t bits, char *out);
/* Value of one base32 character, -1 when it is none. */
int digest_base32_value(char c);

#endif
