/* The routes this child asks for: names from the configuration, which stay, and names learned from
 * the queue's hints, which are forgotten when the list is full (the coldest first). Pure: no queue,
 * no router, no clock.
 *
 * A route is hot while jobs are believed to wait for it. Claims ask for hot routes; without any,
 * for the cold ones in turn, so that a new job of a known route is found by the first claim. */
#ifndef PENSTOCK_RUN_ROUTE_LIST_H
#define PENSTOCK_RUN_ROUTE_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/job/limits.h"

enum { ROUTE_LIST_MAX = 2048 };

struct route_row {
    uint64_t hash;
    uint16_t size;
    bool is_kept;
    bool is_hot;
    bool is_asked;  /* in the last selection, and not heated since */
    uint64_t heard; /* grows; when it was last heard of */
    char name[LIMIT_ROUTE_BYTES];
};

struct route_list {
    struct route_row **rows;
    unsigned count;
    unsigned hot_count;
    unsigned cursor; /* where the next selection of cold routes starts */
    uint64_t clock;
};

void route_list_deinit(struct route_list *list);
/* A name of the configuration. Names that are too long or one too many are left out: their jobs
 * come by hints. */
void route_list_keep(struct route_list *list, struct slice name);
/* After a reload: no name is kept any more. */
void route_list_unkeep_all(struct route_list *list);
/* Jobs wait for it. */
void route_list_heat(struct route_list *list, struct slice name);
bool route_list_has_hot(const struct route_list *list);

struct route_choice {
    struct slice name; /* borrowed until the list changes */
    unsigned room;
};
/* What should be asked for now, at most count_max: the hot routes that have room or, when there is
 * none, the cold ones that have, each in turn. Asking for both would only cost: an answer names the
 * routes that wait and were not asked for. room says how many jobs of a route could start.
 * *out_hot_count of the choices are hot: all or none. */
unsigned route_list_select(struct route_list *list, unsigned (*room)(struct slice name, void *arg),
                           void *arg, struct route_choice *out, unsigned count_max,
                           unsigned *out_hot_count);
/* The last selection was answered and nothing more waits for it: what was not heated since is cold.
 */
void route_list_settle(struct route_list *list);

#endif
