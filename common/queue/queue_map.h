/* Jobs by id: a hash table of entries that begin with their id. Ids are random, so their last
 * characters are the hash. Memory grows with the entries, up to a maximum. */
#ifndef PENSTOCK_QUEUE_QUEUE_MAP_H
#define PENSTOCK_QUEUE_QUEUE_MAP_H

#include <stddef.h>

#include "common/job/job_id.h"

/* First member of every entry. */
struct queue_map_entry {
    struct queue_map_entry *next;
    struct job_id id;
};

struct queue_map {
    struct queue_map_entry **slots;
    size_t slots_count;
    size_t count;
    size_t count_max;
};

void queue_map_init(struct queue_map *map, size_t count_max);
/* Frees all entries with free(). */
void queue_map_deinit(struct queue_map *map);
struct queue_map_entry *queue_map_find(const struct queue_map *map, const struct job_id *id);
/* New zeroed entry of entry_size bytes; the id must not be there yet. NULL: full, or out of memory.
 */
struct queue_map_entry *queue_map_add(struct queue_map *map, const struct job_id *id,
                                      size_t entry_size);
void queue_map_remove(struct queue_map *map, const struct job_id *id);

#endif
