/* Job objects of finished jobs, rendered once: they never change, so polls for them need no store.
 * Bounded by count and bytes (the least recently used goes first), and by age: what never changes
 * may still be gone one day, swept with its time or lost with an emptied store. */
#ifndef PENSTOCK_API_CACHE_H
#define PENSTOCK_API_CACHE_H

#include <stdint.h>

#include "broker/api/render.h"
#include "common/job/job.h"

struct cache;

struct cached_job {
    struct slice text; /* without the tenant */
    struct slice tenant_name;
    char etag[ETAG_SIZE];
};

MUST_CHECK int cache_create(unsigned entries_max, size_t bytes_max, struct cache **out);
void cache_destroy(struct cache *cache);
/* Valid until the next call of this module. Records that the store has dropped by now_ms are not
 * found. */
bool cache_find(struct cache *cache, const struct job_id *id, int64_t now_ms,
                struct cached_job *out);
/* text: the job object without the tenant. Without memory nothing is kept. */
void cache_put(struct cache *cache, const struct job *job, struct slice text, int64_t now_ms);

#endif
