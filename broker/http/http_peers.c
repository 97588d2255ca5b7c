/* Open addressing with linear probing; entries whose count falls to zero are closed up at once, so
 * the table never fills with the dead. */
#include "broker/http/http_peers.h"

#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/digest.h"

struct entry {
    uint64_t key[2]; /* IPv4 as a mapped IPv6 address */
    uint32_t count;  /* 0: free */
};

struct http_peers {
    size_t mask;
    uint64_t seed; /* clients choose addresses: they must not choose slots */
    struct entry *entries;
};

struct http_peers *http_peers_create(unsigned connections_max)
{
    size_t size = 16;
    struct http_peers *peers = calloc(1, sizeof *peers);

    if (!peers)
        return NULL;
    while (size < (size_t)connections_max * 2)
        size *= 2;
    peers->mask = size - 1;
    peers->seed = digest_random_u64() | 1;
    peers->entries = calloc(size, sizeof *peers->entries);
    if (!peers->entries) {
        free(peers);
        return NULL;
    }
    return peers;
}

void http_peers_destroy(struct http_peers *peers)
{
    if (!peers)
        return;
    free(peers->entries);
    free(peers);
}

static bool make_key(const struct sockaddr_storage *address, uint64_t key[2])
{
    unsigned char bytes[16] = {0};

    if (address->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        bytes[10] = 0xff;
        bytes[11] = 0xff;
        memcpy(bytes + 12, &in.sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        memcpy(bytes, &in6.sin6_addr, 16);
    } else {
        return false;
    }
    memcpy(key, bytes, sizeof bytes);
    return true;
}

static size_t home_of(const struct http_peers *peers, const uint64_t key[2])
{
    uint64_t hash = (key[0] ^ peers->seed) * 0x9e3779b97f4a7c15U;
    hash = (hash ^ (hash >> 29) ^ key[1]) * (peers->seed ^ 0xbf58476d1ce4e5b9U);
    return (size_t)(hash >> 32) & peers->mask;
}

/* The entry of this key, or the free one where it would go. */
static size_t find(const struct http_peers *peers, const uint64_t key[2])
{
    size_t at = home_of(peers, key);
    while (peers->entries[at].count > 0 &&
           memcmp(peers->entries[at].key, key, sizeof peers->entries[at].key) != 0)
        at = (at + 1) & peers->mask;
    return at;
}

bool http_peers_enter(struct http_peers *peers, const struct sockaddr_storage *address,
                      unsigned per_address_max)
{
    uint64_t key[2];

    if (!make_key(address, key))
        return true;
    struct entry *entry = &peers->entries[find(peers, key)];
    if (entry->count >= per_address_max)
        return false;
    memcpy(entry->key, key, sizeof key);
    entry->count++;
    return true;
}

/* Moves back what stood behind the gap only because its place was taken. */
static void close_gap(struct http_peers *peers, size_t gap)
{
    size_t at = (gap + 1) & peers->mask;

    while (peers->entries[at].count > 0) {
        size_t home = home_of(peers, peers->entries[at].key);
        if (((at - home) & peers->mask) >= ((at - gap) & peers->mask)) {
            peers->entries[gap] = peers->entries[at];
            peers->entries[at].count = 0;
            gap = at;
        }
        at = (at + 1) & peers->mask;
    }
}

void http_peers_leave(struct http_peers *peers, const struct sockaddr_storage *address)
{
    uint64_t key[2];

    if (!make_key(address, key))
        return;
    size_t at = find(peers, key);
    CHECK(peers->entries[at].count > 0);
    if (--peers->entries[at].count == 0)
        close_gap(peers, at);
}
