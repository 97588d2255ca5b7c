/* Slots with generations. A free slot's generation is even, one in use is odd. */
#include "common/base/pool.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"

#define NO_SLOT UINT32_MAX

struct slot {
    uint32_t generation;
    uint32_t next_free; /* of a free slot */
};

struct pool {
    size_t count;
    size_t count_max;
    size_t touched; /* slots from here on were never used: their memory is not touched */
    size_t stride;
    uint32_t first_free;
    struct slot *slots;
    char *objects;
};

int pool_create(size_t count_max, size_t object_size, struct pool **out)
{
    const size_t align = _Alignof(max_align_t);
    struct pool *pool = calloc(1, sizeof *pool);

    CHECK(count_max > 0);
    CHECK(count_max <= POOL_COUNT_MAX);
    CHECK(object_size > 0);
    CHECK(object_size <= SIZE_MAX / 2);
    if (!pool)
        return ERR_NOMEM;
    pool->count_max = count_max;
    pool->stride = (object_size + align - 1) / align * align;
    pool->first_free = NO_SLOT;
    pool->slots = calloc(count_max, sizeof *pool->slots);
    pool->objects = calloc(count_max, pool->stride);
    if (!pool->slots || !pool->objects) {
        pool_destroy(pool);
        return ERR_NOMEM;
    }
    *out = pool;
    return 0;
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    free(pool->slots);
    free(pool->objects);
    free(pool);
}

static uint64_t id_of(const struct pool *pool, size_t index)
{
    return (uint64_t)pool->slots[index].generation << 32 | index;
}

void *pool_take(struct pool *pool, uint64_t *out_id)
{
    size_t index = pool->first_free;

    if (index != NO_SLOT)
        pool->first_free = pool->slots[index].next_free;
    else if (pool->touched < pool->count_max)
        index = pool->touched++;
    else
        return NULL;
    pool->slots[index].generation++;
    CHECK(pool->slots[index].generation % 2 == 1);
    pool->count++;
    *out_id = id_of(pool, index);
    void *object = pool->objects + index * pool->stride;
    memset(object, 0, pool->stride);
    return object;
}

void *pool_find(const struct pool *pool, uint64_t id)
{
    size_t index = (size_t)(id & UINT32_MAX);
    uint32_t generation = (uint32_t)(id >> 32);

    if (index >= pool->touched || generation % 2 == 0 ||
        pool->slots[index].generation != generation)
        return NULL;
    return pool->objects + index * pool->stride;
}

bool pool_release(struct pool *pool, uint64_t id)
{
    size_t index = (size_t)(id & UINT32_MAX);

    if (!pool_find(pool, id))
        return false;
    pool->slots[index].generation++;
    pool->slots[index].next_free = pool->first_free;
    pool->first_free = (uint32_t)index;
    pool->count--;
    return true;
}

size_t pool_count(const struct pool *pool)
{
    return pool->count;
}

size_t pool_count_max(const struct pool *pool)
{
    return pool->count_max;
}

void pool_each(struct pool *pool, pool_object_fn on_object, void *arg)
{
    for (size_t i = 0; i < pool->touched; i++) {
        if (pool->slots[i].generation % 2 == 1)
            on_object(pool->objects + i * pool->stride, id_of(pool, i), arg);
    }
}
