/* A fixed number of equal objects, known by ids instead of pointers.
 *
 * An id names one use of a slot: after pool_release it finds nothing, also when the slot is in use
 * again (the id would have to come round after 2^32 uses of the same slot). So what must survive a
 * callback keeps the id and asks again. 0 is never an id. When all objects are in use pool_take
 * refuses. */
#ifndef PENSTOCK_BASE_POOL_H
#define PENSTOCK_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

enum { POOL_COUNT_MAX = 1 << 24 };

struct pool;

/* ERR_NOMEM. count_max 1..POOL_COUNT_MAX; object_size in bytes, any alignment up to max_align_t. */
MUST_CHECK int pool_create(size_t count_max, size_t object_size, struct pool **out);
void pool_destroy(struct pool *pool); /* objects are forgotten, not cleaned up */
/* A zeroed object and its id; NULL when full. */
void *pool_take(struct pool *pool, uint64_t *out_id);
/* Borrowed until pool_release; NULL when the id names nothing (any more). */
void *pool_find(const struct pool *pool, uint64_t id);
/* false when the id names nothing (any more). */
bool pool_release(struct pool *pool, uint64_t id);
size_t pool_count(const struct pool *pool); /* in use */
size_t pool_count_max(const struct pool *pool);
/* Calls on_object for every object in use, which may release any object and take others (these may
 * or may not be visited). */
typedef void (*pool_object_fn)(void *object, uint64_t id, void *arg);
void pool_each(struct pool *pool, pool_object_fn on_object, void *arg);

#endif
