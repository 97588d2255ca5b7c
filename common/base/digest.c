/* SHA-256, HMAC, random bytes, constant-time comparison, hex and base32 over OpenSSL. */
#include "common/base/digest.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { RANDOM_POOL_SIZE = 1024 };

/* Unused random bytes stand at the end of `bytes`. The page is wiped by the kernel in the child of
 * a fork, and a wiped pool is an empty one, so two processes never hand out the same bytes. */
struct random_pool {
    size_t left;
    uint8_t bytes[RANDOM_POOL_SIZE];
};

static struct random_pool *random_pool; /* NULL: none yet; without one each call asks the kernel */
static bool random_pool_refused;        /* this kernel cannot wipe a page on fork */

void digest_sha256(const void *bytes, size_t size, uint8_t out[DIGEST_SHA256_SIZE])
{
    unsigned out_size = 0;

    CHECK(EVP_Digest(bytes, size, out, &out_size, EVP_sha256(), NULL) == 1);
    CHECK(out_size == DIGEST_SHA256_SIZE);
}

void digest_hmac_sha256(const void *key, size_t key_size, const void *bytes, size_t size,
                        uint8_t out[DIGEST_SHA256_SIZE])
{
    unsigned out_size = 0;

    CHECK(key_size <= INT32_MAX);
    CHECK(HMAC(EVP_sha256(), key, (int)key_size, bytes, size, out, &out_size) != NULL);
    CHECK(out_size == DIGEST_SHA256_SIZE);
}

static void ask_kernel(uint8_t *out, size_t size)
{
    while (size > 0) {
        ssize_t count = getrandom(out, size, 0);
        if (count < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        out += count;
        size -= (size_t)count;
    }
}

static struct random_pool *find_pool(void)
{
    if (random_pool || random_pool_refused)
        return random_pool;

    void *page =
        mmap(NULL, sizeof *random_pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, sizeof *random_pool, MADV_WIPEONFORK) != 0) {
        if (page != MAP_FAILED)
            (void)munmap(page, sizeof *random_pool);
        random_pool_refused = true;
        return NULL;
    }
    random_pool = page;
    return random_pool;
}

void digest_random(void *out, size_t size)
{
    struct random_pool *pool = size <= RANDOM_POOL_SIZE / 4 ? find_pool() : NULL;

    if (!pool) {
        ask_kernel(out, size);
        return;
    }
    if (pool->left < size) {
        ask_kernel(pool->bytes, sizeof pool->bytes);
        pool->left = sizeof pool->bytes;
    }
    uint8_t *from = pool->bytes + sizeof pool->bytes - pool->left;
    memcpy(out, from, size);
    digest_wipe(from, size); /* what was handed out must not be found here later */
    pool->left -= size;
}

uint64_t digest_random_u64(void)
{
    uint64_t value;
    digest_random(&value, sizeof value);
    return value;
}

bool digest_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}

void digest_wipe(void *bytes, size_t size)
{
    OPENSSL_cleanse(bytes, size);
}

void digest_hex(const void *bytes, size_t size, char *out)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *at = bytes;

    for (size_t i = 0; i < size; i++) {
        *out++ = hex[at[i] >> 4];
        *out++ = hex[at[i] & 15];
    }
    *out = '\0';
}

static const char base32_letters[33] = "0123456789abcdefghjkmnpqrstvwxyz";

void digest_base32(const uint8_t *bytes, size_t bits, char *out)
{
    size_t last = (bits + 7) / 8 - 1;

    for (size_t at = 0; at < bits; at += 5) {
        /* Five bits lie in at most two bytes. */
        unsigned pair = (unsigned)bytes[at / 8] << 8 | (at / 8 < last ? bytes[at / 8 + 1] : 0u);
        unsigned value = pair >> (11 - at % 8) & 31u;
        if (bits - at < 5)
            value &= ~((1u << (5 - (bits - at))) - 1);
        *out++ = base32_letters[value];
    }
}

/* Value + 1 of each letter, 0 for all other bytes. */
static const unsigned char base32_values[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['g'] = 17, ['h'] = 18, ['j'] = 19, ['k'] = 20, ['m'] = 21, ['n'] = 22, ['p'] = 23, ['q'] = 24,
    ['r'] = 25, ['s'] = 26, ['t'] = 27, ['v'] = 28, ['w'] = 29, ['x'] = 30, ['y'] = 31, ['z'] = 32};

int digest_base32_value(char c)
{
    return base32_values[(unsigned char)c] - 1;
}
