/* SipHash-2-4 (Aumasson and Bernstein): a keyed hash for tables, fast on short inputs. Part of
 * digest.h. */
#include <string.h>

#include "common/base/digest.h"

struct sip {
    uint64_t a;
    uint64_t b;
    uint64_t c;
    uint64_t d;
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void mix(struct sip *sip, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        sip->a += sip->b;
        sip->c += sip->d;
        sip->b = rotate(sip->b, 13) ^ sip->a;
        sip->d = rotate(sip->d, 16) ^ sip->c;
        sip->a = rotate(sip->a, 32);
        sip->c += sip->b;
        sip->a += sip->d;
        sip->b = rotate(sip->b, 17) ^ sip->c;
        sip->d = rotate(sip->d, 21) ^ sip->a;
        sip->c = rotate(sip->c, 32);
    }
}

/* Up to eight bytes, the first one lowest. */
static uint64_t load(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static void absorb(struct sip *sip, uint64_t word)
{
    sip->d ^= word;
    mix(sip, 2);
    sip->a ^= word;
}

uint64_t digest_siphash(const uint64_t key[2], const void *bytes, size_t size)
{
    struct sip sip = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                      key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = bytes;
    size_t left = size;

    for (; left >= 8; left -= 8, at += 8)
        absorb(&sip, load(at, 8));
    absorb(&sip, load(at, left) | (uint64_t)size << 56);
    sip.c ^= 0xff;
    mix(&sip, 4);
    return sip.a ^ sip.b ^ sip.c ^ sip.d;
}
