/* The ring of rows between reading a line and writing its result. */
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bulk.h"

enum { CAPACITY_MIN = 1024 };

struct bulk_item *bulk_item_at(const struct bulk *bulk, int64_t index)
{
    CHECK(index >= bulk->first);
    CHECK(index < bulk->next);
    return &bulk->ring[index & (bulk->capacity - 1)];
}

bool bulk_has_room(const struct bulk *bulk)
{
    return bulk->next - bulk->first < BULK_WINDOW_MAX;
}

/* Twice as large; every row moves to its new place. */
static int grow(struct bulk *bulk)
{
    int64_t capacity = bulk->capacity > 0 ? bulk->capacity * 2 : CAPACITY_MIN;
    struct bulk_item *ring = calloc((size_t)capacity, sizeof(*ring));

    if (!ring)
        return ERR_NOMEM;
    for (int64_t at = bulk->first; at < bulk->next; at++)
        ring[at & (capacity - 1)] = *bulk_item_at(bulk, at);
    free(bulk->ring);
    bulk->ring = ring;
    bulk->capacity = capacity;
    return 0;
}

int bulk_add_item(struct bulk *bulk, int64_t line, int64_t *out_index)
{
    if (!bulk_has_room(bulk))
        return ERR_FULL;
    if (bulk->next - bulk->first == bulk->capacity && grow(bulk) < 0)
        return ERR_NOMEM;
    *out_index = bulk->next++;
    *bulk_item_at(bulk, *out_index) = (struct bulk_item){.phase = BULK_SENDING, .line = line};
    bulk->stats.lines++;
    bulk->progress.total++;
    return 0;
}

void bulk_refuse(struct bulk *bulk, struct bulk_item *item, const char *code, const char *message)
{
    struct buf text = {.size_max = 65536};

    CHECK(item->phase == BULK_SENDING);
    if (buf_append_text(&text, "{\"code\": ") == 0 &&
        json_put_string(&text, code, strlen(code)) == 0 &&
        buf_append_text(&text, ", \"message\": ") == 0 &&
        json_put_string(&text, message, strlen(message)) == 0 && buf_append_char(&text, '}') == 0)
        item->error = buf_take(&text, NULL);
    buf_deinit(&text);
    item->phase = BULK_REFUSED;
    bulk->stats.refused++;
    bulk->refused_rows++;
}

void bulk_drop_written(struct bulk *bulk)
{
    while (bulk->first < bulk->next && bulk_item_at(bulk, bulk->first)->phase == BULK_WRITTEN)
        bulk->first++;
}

void bulk_deinit(struct bulk *bulk)
{
    for (int64_t at = bulk->first; at < bulk->next; at++) {
        free(bulk_item_at(bulk, at)->custom_id);
        free(bulk_item_at(bulk, at)->error);
    }
    free(bulk->ring);
    buf_deinit(&bulk->chunk.body);
    line_reader_deinit(&bulk->input);
}
