#include "sim_table.h"

#include "sim_text.h"

#include <stdlib.h>

_Static_assert(TABLE_COUNT_MAX * 2 < TABLE_SLOT_COUNT, "probing stays short");

int64_t table_add(struct table *table, struct slice key)
{
    if (key.size > TABLE_KEY_BYTES_MAX)
        key.size = TABLE_KEY_BYTES_MAX;
    if (table->slots == NULL) {
        table->slots = calloc(TABLE_SLOT_COUNT, sizeof(*table->slots));
        SIM_CHECK(table->slots != NULL);
    }
    uint64_t hash = text_hash(key.data, key.size, 0);
    size_t at = hash % TABLE_SLOT_COUNT;
    for (; table->slots[at].key != NULL; at = (at + 1) % TABLE_SLOT_COUNT) {
        struct table_entry *entry = &table->slots[at];
        if (entry->hash == hash && slice_is(key, entry->key, entry->key_size))
            return ++entry->count;
    }
    if (table->count == TABLE_COUNT_MAX) {
        table->dropped++;
        return 0;
    }
    char *copy = malloc(key.size + 1);
    SIM_CHECK(copy != NULL);
    memcpy(copy, key.data, key.size);
    table->slots[at] = (struct table_entry){hash, copy, key.size, 1};
    table->count++;
    return 1;
}

void table_reset(struct table *table)
{
    if (table->slots != NULL)
        for (size_t i = 0; i < TABLE_SLOT_COUNT; i++)
            free(table->slots[i].key);
    free(table->slots);
    *table = (struct table){0};
}
