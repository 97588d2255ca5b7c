/* A map from short byte keys to pointers: hashed with a random key of this table's own, so that
 * clients who choose the keys cannot make it slow. Its maximum is fixed at creation; when full it
 * refuses. The table copies keys and borrows values. */
#ifndef PENSTOCK_BASE_TABLE_H
#define PENSTOCK_BASE_TABLE_H

#include <stddef.h>

#include "common/base/check.h"

enum { TABLE_KEY_MAX = 64, TABLE_COUNT_MAX = 1 << 24 };

struct table;

/* ERR_NOMEM. count_max 1..TABLE_COUNT_MAX. */
MUST_CHECK int table_create(size_t count_max, struct table **out);
void table_destroy(struct table *table); /* values are forgotten, not released */
/* value must not be NULL. ERR_CONFLICT: the key is there, nothing was changed. ERR_FULL.
 * ERR_TOO_BIG: key of more than TABLE_KEY_MAX bytes. */
MUST_CHECK int table_put(struct table *table, const void *key, size_t key_size, void *value);
/* NULL when there is none, also for keys that are too long. */
void *table_find(const struct table *table, const void *key, size_t key_size);
/* The same, and takes the entry out. */
void *table_take(struct table *table, const void *key, size_t key_size);
size_t table_count(const struct table *table);
/* Calls on_entry for every entry, in no particular order; it may take out any and put others (these
 * may or may not be visited). The key is borrowed until its entry is taken out. */
typedef void (*table_entry_fn)(const void *key, size_t key_size, void *value, void *arg);
void table_each(struct table *table, table_entry_fn on_entry, void *arg);

#endif
