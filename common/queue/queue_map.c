#include "common/queue/queue_map.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS_MIN = 64 };

static size_t slot_of(const struct queue_map *map, const struct job_id *id)
{
    size_t hash = 0;

    /* Twelve characters of five random bits each; the last one of an id has fewer. */
    for (int i = JOB_ID_CORE_SIZE - 13; i < JOB_ID_CORE_SIZE - 1; i++)
        hash = hash * 31 + (unsigned char)id->core[i];
    return hash & (map->slots_count - 1);
}

void queue_map_init(struct queue_map *map, size_t count_max)
{
    *map = (struct queue_map){.count_max = count_max};
}

void queue_map_deinit(struct queue_map *map)
{
    for (size_t i = 0; i < map->slots_count; i++) {
        for (struct queue_map_entry *next, *entry = map->slots[i]; entry; entry = next) {
            next = entry->next;
            free(entry);
        }
    }
    free(map->slots);
    *map = (struct queue_map){.count_max = map->count_max};
}

struct queue_map_entry *queue_map_find(const struct queue_map *map, const struct job_id *id)
{
    if (map->slots_count == 0)
        return NULL;
    for (struct queue_map_entry *entry = map->slots[slot_of(map, id)]; entry; entry = entry->next)
        if (memcmp(entry->id.core, id->core, JOB_ID_CORE_SIZE) == 0)
            return entry;
    return NULL;
}

static bool grow(struct queue_map *map)
{
    struct queue_map bigger = *map;

    bigger.slots_count = map->slots_count ? 2 * map->slots_count : SLOTS_MIN;
    bigger.slots = calloc(bigger.slots_count, sizeof(struct queue_map_entry *));
    if (!bigger.slots)
        return false;
    for (size_t i = 0; i < map->slots_count; i++) {
        for (struct queue_map_entry *next, *entry = map->slots[i]; entry; entry = next) {
            size_t slot = slot_of(&bigger, &entry->id);

            next = entry->next;
            entry->next = bigger.slots[slot];
            bigger.slots[slot] = entry;
        }
    }
    free(map->slots);
    *map = bigger;
    return true;
}

struct queue_map_entry *queue_map_add(struct queue_map *map, const struct job_id *id,
                                      size_t entry_size)
{
    if (map->count >= map->count_max || (map->count >= map->slots_count && !grow(map)))
        return NULL;
    struct queue_map_entry *entry = calloc(1, entry_size);
    if (!entry)
        return NULL;
    size_t slot = slot_of(map, id);
    entry->id = *id;
    entry->next = map->slots[slot];
    map->slots[slot] = entry;
    map->count++;
    return entry;
}

void queue_map_remove(struct queue_map *map, const struct job_id *id)
{
    if (map->slots_count == 0)
        return;
    for (struct queue_map_entry **at = &map->slots[slot_of(map, id)]; *at; at = &(*at)->next) {
        struct queue_map_entry *entry = *at;

        if (memcmp(entry->id.core, id->core, JOB_ID_CORE_SIZE) != 0)
            continue;
        *at = entry->next;
        free(entry);
        map->count--;
        return;
    }
}
