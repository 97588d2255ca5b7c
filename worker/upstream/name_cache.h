/* Which addresses a host name has, as far as we know. Pure: asking is resolver.c's business.
 *
 * Fresh for NAME_FRESH_MS. After that the old answer goes on being used while one look-up runs, and
 * when the resolver is down for as long as that lasts. A name that was never found is not asked for
 * again for NAME_NEGATIVE_MS. */
#ifndef PENSTOCK_UPSTREAM_NAME_CACHE_H
#define PENSTOCK_UPSTREAM_NAME_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/upstream/link.h"

enum {
    NAME_HOST_SIZE = 256,
    NAME_ADDRESSES_SIZE = 384, /* "10.0.0.1,[2001:db8::1],…", at most 8 */
    NAME_COUNT_MAX = 256,
    NAME_FRESH_MS = 30 * 1000,
    NAME_NEGATIVE_MS = 2 * 1000
};

struct name_entry {
    char host[NAME_HOST_SIZE];
    char addresses[NAME_ADDRESSES_SIZE]; /* "" = none known */
    int64_t asked_at_mono_ms;            /* when the last answer came, good or bad */
    bool is_asking;
    struct link waits; /* whoever needs the first answer */
};

struct name_cache {
    struct name_entry *entries[NAME_COUNT_MAX];
    unsigned count;
};

enum name_answer {
    NAME_READY,     /* entry->addresses may be used */
    NAME_WAIT,      /* wait for the look-up that runs, or that the caller now starts */
    NAME_NOT_FOUND, /* asked a moment ago, in vain */
    NAME_FULL       /* too many names, all in use */
};

void name_cache_deinit(struct name_cache *cache);
/* out_must_ask: the caller starts a look-up and ends it with name_cache_store. */
enum name_answer name_cache_find(struct name_cache *cache, const char *host, int64_t now_mono_ms,
                                 struct name_entry **out_entry, bool *out_must_ask);
/* addresses: NULL when the look-up failed. */
void name_cache_store(struct name_entry *entry, const char *addresses, int64_t now_mono_ms);

#endif
