/* A timing wheel: thousands of deadlines at the price of one timer. Pure: the time is an argument.
 *
 * A deadline stands in the slot of its tick, or, when further away than the wheel spans, in a slot
 * on the way, where it is looked at and put on. Deadlines come due up to WHEEL_TICK_MS late, never
 * early. */
#ifndef PENSTOCK_UPSTREAM_WHEEL_H
#define PENSTOCK_UPSTREAM_WHEEL_H

#include <stdint.h>

#include "worker/upstream/link.h"

enum { WHEEL_TICK_MS = 16, WHEEL_SLOTS = 512 };

struct wheel_entry {
    struct link link;
    int64_t due_ms;
    int64_t tick; /* of the slot it stands in */
};

struct wheel {
    struct link slots[WHEEL_SLOTS];
    uint64_t occupied[WHEEL_SLOTS / 64];
    int64_t tick; /* slots before this one are empty */
    unsigned count;
};

void wheel_init(struct wheel *wheel, int64_t now_ms);
/* A deadline that is there already is only looked up again when it moved forward in time; otherwise
 * its slot serves as the place where the later deadline is found. */
void wheel_set(struct wheel *wheel, struct wheel_entry *entry, int64_t due_ms, int64_t now_ms);
void wheel_remove(struct wheel *wheel, struct wheel_entry *entry);
/* When wheel_expire should be called next; -1: never, the wheel is empty. */
int64_t wheel_next_ms(const struct wheel *wheel);
/* Takes out one deadline that has come; NULL when there is none. Call until NULL. */
struct wheel_entry *wheel_expire(struct wheel *wheel, int64_t now_ms);

#endif
