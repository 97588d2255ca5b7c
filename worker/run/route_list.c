#include "worker/run/route_list.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"

static uint64_t hash_of(struct slice name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.size; i++)
        hash = (hash ^ (unsigned char)name.bytes[i]) * 0x100000001b3u;
    return hash;
}

void route_list_deinit(struct route_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        free(list->rows[i]);
    free(list->rows);
    *list = (struct route_list){0};
}

static struct route_row *find(const struct route_list *list, struct slice name)
{
    uint64_t hash = hash_of(name);

    for (unsigned i = 0; i < list->count; i++) {
        struct route_row *row = list->rows[i];
        if (row->hash == hash && row->size == name.size &&
            memcmp(row->name, name.bytes, name.size) == 0)
            return row;
    }
    return NULL;
}

/* The learned row that was heard of longest ago, cold before hot; NULL when all are kept. */
static struct route_row *most_forgettable(const struct route_list *list)
{
    struct route_row *found = NULL;

    for (unsigned i = 0; i < list->count; i++) {
        struct route_row *row = list->rows[i];
        if (row->is_kept)
            continue;
        if (!found || (found->is_hot && !row->is_hot) ||
            (found->is_hot == row->is_hot && row->heard < found->heard))
            found = row;
    }
    return found;
}

static struct route_row *new_row(struct route_list *list)
{
    if (list->count == ROUTE_LIST_MAX) {
        struct route_row *row = most_forgettable(list);
        if (row && row->is_hot)
            list->hot_count--;
        return row;
    }
    if (!list->rows) {
        list->rows = calloc(ROUTE_LIST_MAX, sizeof *list->rows);
        if (!list->rows)
            return NULL;
    }
    struct route_row *row = calloc(1, sizeof *row);
    if (row)
        list->rows[list->count++] = row;
    return row;
}

/* The row of this name, made when there is none; NULL: cannot be kept. */
static struct route_row *find_or_add(struct route_list *list, struct slice name)
{
    if (name.size == 0 || name.size > LIMIT_ROUTE_BYTES)
        return NULL;
    struct route_row *row = find(list, name);
    if (!row) {
        row = new_row(list);
        if (!row)
            return NULL;
        *row = (struct route_row){.hash = hash_of(name), .size = (uint16_t)name.size};
        memcpy(row->name, name.bytes, name.size);
    }
    row->heard = ++list->clock;
    return row;
}

void route_list_keep(struct route_list *list, struct slice name)
{
    struct route_row *row = find_or_add(list, name);
    if (row)
        row->is_kept = true;
}

void route_list_unkeep_all(struct route_list *list)
{
    for (unsigned i = 0; i < list->count; i++)
        list->rows[i]->is_kept = false;
}

void route_list_heat(struct route_list *list, struct slice name)
{
    struct route_row *row = find_or_add(list, name);
    if (!row)
        return;
    row->is_asked = false;
    if (row->is_hot)
        return;
    row->is_hot = true;
    list->hot_count++;
}

bool route_list_has_hot(const struct route_list *list)
{
    return list->hot_count > 0;
}

unsigned route_list_select(struct route_list *list, unsigned (*room)(struct slice name, void *arg),
                           void *arg, struct route_choice *out, unsigned count_max,
                           unsigned *out_hot_count)
{
    unsigned count = 0;
    unsigned hot_count = 0;

    for (unsigned i = 0; i < list->count; i++)
        list->rows[i]->is_asked = false;
    for (int round = list->hot_count > 0 ? 0 : 1; round < 2 && count == 0; round++) {
        bool wants_hot = round == 0;
        for (unsigned i = 0; i < list->count && count < count_max; i++) {
            struct route_row *row = list->rows[(list->cursor + i) % list->count];
            if (row->is_hot != wants_hot)
                continue;
            struct slice name = {.bytes = row->name, .size = row->size};
            unsigned free_room = room(name, arg);
            if (free_room == 0)
                continue;
            row->is_asked = true;
            hot_count += wants_hot;
            out[count++] = (struct route_choice){.name = name, .room = free_room};
        }
    }
    if (list->count > 0) /* every row gets its turn at the front */
        list->cursor = (list->cursor + 1) % list->count;
    *out_hot_count = hot_count;
    return count;
}

void route_list_settle(struct route_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        struct route_row *row = list->rows[i];
        if (!row->is_asked || !row->is_hot)
            continue;
        row->is_hot = false;
        CHECK(list->hot_count > 0);
        list->hot_count--;
    }
}
