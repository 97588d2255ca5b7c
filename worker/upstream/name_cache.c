#include "worker/upstream/name_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/check.h"

void name_cache_deinit(struct name_cache *cache)
{
    for (unsigned i = 0; i < cache->count; i++)
        free(cache->entries[i]);
    cache->count = 0;
}

static bool is_idle(const struct name_entry *entry)
{
    return !entry->is_asking && link_is_empty(&entry->waits);
}

/* A new entry, in the place of the longest unasked one when all places are taken. */
static struct name_entry *add_entry(struct name_cache *cache, const char *host)
{
    struct name_entry *entry = NULL;

    if (strlen(host) >= NAME_HOST_SIZE)
        return NULL;
    if (cache->count < NAME_COUNT_MAX) {
        entry = calloc(1, sizeof *entry);
        if (!entry)
            return NULL;
        cache->entries[cache->count++] = entry;
    } else {
        for (unsigned i = 0; i < cache->count; i++) {
            struct name_entry *other = cache->entries[i];
            if (is_idle(other) && (!entry || other->asked_at_mono_ms < entry->asked_at_mono_ms))
                entry = other;
        }
        if (!entry)
            return NULL;
        memset(entry, 0, sizeof *entry);
    }
    (void)snprintf(entry->host, sizeof entry->host, "%s", host);
    link_open(&entry->waits);
    return entry;
}

enum name_answer name_cache_find(struct name_cache *cache, const char *host, int64_t now_mono_ms,
                                 struct name_entry **out_entry, bool *out_must_ask)
{
    struct name_entry *entry = NULL;
    bool is_new = false;

    *out_must_ask = false;
    for (unsigned i = 0; i < cache->count && !entry; i++) {
        if (strcasecmp(cache->entries[i]->host, host) == 0)
            entry = cache->entries[i];
    }
    if (!entry) {
        entry = add_entry(cache, host);
        is_new = true;
    }
    if (!entry)
        return NAME_FULL;
    *out_entry = entry;

    bool is_known = entry->addresses[0] != '\0';
    int64_t age_ms = now_mono_ms - entry->asked_at_mono_ms;
    bool is_due = is_new || age_ms >= (is_known ? NAME_FRESH_MS : NAME_NEGATIVE_MS);
    if (is_due && !entry->is_asking) {
        entry->is_asking = true;
        *out_must_ask = true;
    }
    if (is_known)
        return NAME_READY;
    return entry->is_asking ? NAME_WAIT : NAME_NOT_FOUND;
}

void name_cache_store(struct name_entry *entry, const char *addresses, int64_t now_mono_ms)
{
    CHECK(entry->is_asking);
    entry->is_asking = false;
    entry->asked_at_mono_ms = now_mono_ms;
    if (addresses && addresses[0] != '\0')
        (void)snprintf(entry->addresses, sizeof entry->addresses, "%s", addresses);
}
