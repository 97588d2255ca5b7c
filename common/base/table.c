/* Entries stand densely in one array; a second array of their numbers is probed linearly. Both are
 * zeroed memory of the full size, of which the kernel hands out only what is used. */
#include "common/base/table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/digest.h"
#include "common/base/error.h"

struct entry {
    void *value; /* NULL: free */
    uint64_t hash;
    uint32_t next_free; /* number of the next free entry, 0: none */
    uint8_t key_size;
    uint8_t key[TABLE_KEY_MAX];
};

struct table {
    uint64_t seed[2];
    size_t count;
    size_t count_max;
    size_t touched;      /* entries from here on were never used */
    size_t mask;         /* places - 1; a power of two, at most three quarters full */
    uint32_t first_free; /* numbers count from 1, 0: none */
    uint32_t *places;    /* number of the entry, 0: empty */
    struct entry *entries;
};

int table_create(size_t count_max, struct table **out)
{
    struct table *table = calloc(1, sizeof *table);
    size_t places = 8;

    CHECK(count_max > 0);
    CHECK(count_max <= TABLE_COUNT_MAX);
    if (!table)
        return ERR_NOMEM;
    while (places / 4 * 3 < count_max)
        places *= 2;
    digest_random(table->seed, sizeof table->seed);
    table->count_max = count_max;
    table->mask = places - 1;
    table->places = calloc(places, sizeof *table->places);
    table->entries = calloc(count_max, sizeof *table->entries);
    if (!table->places || !table->entries) {
        table_destroy(table);
        return ERR_NOMEM;
    }
    *out = table;
    return 0;
}

void table_destroy(struct table *table)
{
    if (!table)
        return;
    free(table->places);
    free(table->entries);
    free(table);
}

static struct entry *entry_at(const struct table *table, size_t place)
{
    return &table->entries[table->places[place] - 1];
}

/* Where the key is, or the empty place where it would be. */
static size_t find_place(const struct table *table, uint64_t hash, const void *key, size_t key_size)
{
    size_t place = (size_t)hash & table->mask;

    for (; table->places[place] != 0; place = (place + 1) & table->mask) {
        const struct entry *entry = entry_at(table, place);
        if (entry->hash == hash && entry->key_size == key_size &&
            memcmp(entry->key, key, key_size) == 0)
            break;
    }
    return place;
}

int table_put(struct table *table, const void *key, size_t key_size, void *value)
{
    CHECK(value != NULL);
    if (key_size > TABLE_KEY_MAX)
        return ERR_TOO_BIG;
    uint64_t hash = digest_siphash(table->seed, key, key_size);
    size_t place = find_place(table, hash, key, key_size);
    if (table->places[place] != 0)
        return ERR_CONFLICT;
    if (table->count == table->count_max)
        return ERR_FULL;

    uint32_t number = table->first_free;
    if (number != 0)
        table->first_free = table->entries[number - 1].next_free;
    else
        number = (uint32_t)++table->touched;
    CHECK(number <= table->count_max);
    struct entry *entry = &table->entries[number - 1];
    entry->value = value;
    entry->hash = hash;
    entry->key_size = (uint8_t)key_size;
    if (key_size > 0)
        memcpy(entry->key, key, key_size);
    table->places[place] = number;
    table->count++;
    return 0;
}

void *table_find(const struct table *table, const void *key, size_t key_size)
{
    if (key_size > TABLE_KEY_MAX)
        return NULL;
    size_t place = find_place(table, digest_siphash(table->seed, key, key_size), key, key_size);
    return table->places[place] != 0 ? entry_at(table, place)->value : NULL;
}

/* Closes the gap: what follows moves up unless it would leave its own run. */
static void close_gap(struct table *table, size_t gap)
{
    size_t place = gap;

    for (;;) {
        place = (place + 1) & table->mask;
        if (table->places[place] == 0)
            break;
        size_t home = (size_t)entry_at(table, place)->hash & table->mask;
        if (((place - home) & table->mask) < ((place - gap) & table->mask))
            continue;
        table->places[gap] = table->places[place];
        gap = place;
    }
    table->places[gap] = 0;
}

void *table_take(struct table *table, const void *key, size_t key_size)
{
    if (key_size > TABLE_KEY_MAX)
        return NULL;
    size_t place = find_place(table, digest_siphash(table->seed, key, key_size), key, key_size);
    uint32_t number = table->places[place];
    if (number == 0)
        return NULL;

    struct entry *entry = &table->entries[number - 1];
    void *value = entry->value;
    close_gap(table, place);
    entry->value = NULL;
    entry->next_free = table->first_free;
    table->first_free = number;
    table->count--;
    return value;
}

size_t table_count(const struct table *table)
{
    return table->count;
}

void table_each(struct table *table, table_entry_fn on_entry, void *arg)
{
    for (size_t i = 0; i < table->touched; i++) {
        struct entry *entry = &table->entries[i];
        if (entry->value)
            on_entry(entry->key, entry->key_size, entry->value, arg);
    }
}
