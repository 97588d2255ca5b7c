/* A bounded table of texts with a count each: nonces seen, failures already given. */
#ifndef SIM_TABLE_H
#define SIM_TABLE_H

#include "sim_base.h"

enum { TABLE_COUNT_MAX = 200000, TABLE_KEY_BYTES_MAX = 128 };

struct table_entry {
    uint64_t hash;
    char *key; /* NULL: free */
    size_t key_size;
    int64_t count;
};

/* Zeroed memory is an empty table; its slots are made at the first use. When it is full, unknown
 * texts are not remembered and `dropped` counts them. */
struct table {
    struct table_entry *slots;
    size_t count;
    int64_t dropped;
};

enum { TABLE_SLOT_COUNT = 1 << 19 };

/* Count one more for `key` (cut at TABLE_KEY_BYTES_MAX); returns the new count, 0 when full. */
int64_t table_add(struct table *table, struct slice key);

void table_reset(struct table *table);

#endif
