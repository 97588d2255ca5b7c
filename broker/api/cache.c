#include "broker/api/cache.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"

enum { AGE_MAX_MS = 10000 };

struct entry {
    struct job_id id;
    int64_t drop_at_ms;
    char etag[ETAG_SIZE];
    size_t text_size;
    size_t tenant_size;
    struct entry *bucket_next;
    struct entry *newer, *older;
    char bytes[]; /* text, then tenant */
};

struct cache {
    struct entry **buckets;
    unsigned mask;
    unsigned count, count_max;
    size_t bytes, bytes_max;
    struct entry *newest, *oldest;
};

int cache_create(unsigned entries_max, size_t bytes_max, struct cache **out)
{
    struct cache *cache = calloc(1, sizeof(*cache));
    unsigned buckets = 64;

    if (!cache)
        return ERR_NOMEM;
    while (buckets < entries_max && buckets < 1u << 20)
        buckets *= 2;
    cache->buckets = calloc(buckets, sizeof(struct entry *));
    if (!cache->buckets) {
        free(cache);
        return ERR_NOMEM;
    }
    cache->mask = buckets - 1;
    cache->count_max = entries_max;
    cache->bytes_max = bytes_max;
    *out = cache;
    return 0;
}

static struct entry **bucket_of(struct cache *cache, const struct job_id *id)
{
    uint64_t tail;

    memcpy(&tail, id->core + JOB_ID_CORE_SIZE - sizeof(tail), sizeof(tail));
    return &cache->buckets[(unsigned)((tail * 0x9e3779b97f4a7c15ULL) >> 40) & cache->mask];
}

static size_t entry_size(const struct entry *entry)
{
    return sizeof(*entry) + entry->text_size + entry->tenant_size;
}

static void unlink_age(struct cache *cache, struct entry *entry)
{
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        cache->newest = entry->older;
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        cache->oldest = entry->newer;
}

static void link_newest(struct cache *cache, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    if (cache->newest)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
}

static void drop(struct cache *cache, struct entry *entry)
{
    struct entry **link = bucket_of(cache, &entry->id);

    while (*link != entry)
        link = &(*link)->bucket_next;
    *link = entry->bucket_next;
    unlink_age(cache, entry);
    cache->count--;
    cache->bytes -= entry_size(entry);
    free(entry);
}

void cache_destroy(struct cache *cache)
{
    if (!cache)
        return;
    while (cache->oldest)
        drop(cache, cache->oldest);
    free(cache->buckets);
    free(cache);
}

static struct entry *look_up(struct cache *cache, const struct job_id *id)
{
    struct entry *entry = *bucket_of(cache, id);

    while (entry && memcmp(entry->id.core, id->core, JOB_ID_CORE_SIZE) != 0)
        entry = entry->bucket_next;
    return entry;
}

bool cache_find(struct cache *cache, const struct job_id *id, int64_t now_ms,
                struct cached_job *out)
{
    struct entry *entry = look_up(cache, id);

    if (!entry)
        return false;
    if (entry->drop_at_ms <= now_ms) {
        drop(cache, entry);
        return false;
    }
    unlink_age(cache, entry);
    link_newest(cache, entry);
    out->text = (struct slice){.bytes = entry->bytes, .size = entry->text_size};
    out->tenant_name =
        (struct slice){.bytes = entry->bytes + entry->text_size, .size = entry->tenant_size};
    memcpy(out->etag, entry->etag, sizeof(out->etag));
    return true;
}

static int64_t end_of(const struct job *job, int64_t now_ms)
{
    int64_t seconds = (int64_t)job->result_ttl_s + LIMIT_RECORD_AFTER_RESULT_S;
    int64_t end_ms = job->finished_at_ms + seconds * 1000;

    return end_ms < now_ms + AGE_MAX_MS ? end_ms : now_ms + AGE_MAX_MS;
}

void cache_put(struct cache *cache, const struct job *job, struct slice text, int64_t now_ms)
{
    CHECK(job_state_is_final(job->state));

    size_t size = sizeof(struct entry) + text.size + job->tenant_name.size;
    if (size > cache->bytes_max / 16 || look_up(cache, &job->id))
        return;
    while (cache->oldest &&
           (cache->count >= cache->count_max || cache->bytes + size > cache->bytes_max))
        drop(cache, cache->oldest);
    struct entry *entry = malloc(size);
    if (!entry)
        return;
    *entry = (struct entry){.id = job->id,
                            .drop_at_ms = end_of(job, now_ms),
                            .text_size = text.size,
                            .tenant_size = job->tenant_name.size};
    render_etag(job, entry->etag);
    memcpy(entry->bytes, text.bytes, text.size);
    if (job->tenant_name.size > 0)
        memcpy(entry->bytes + text.size, job->tenant_name.bytes, job->tenant_name.size);
    struct entry **bucket = bucket_of(cache, &job->id);
    entry->bucket_next = *bucket;
    *bucket = entry;
    link_newest(cache, entry);
    cache->count++;
    cache->bytes += size;
}
