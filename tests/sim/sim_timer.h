/* A heap of moments. A timer is embedded in its owner and named by address; no callbacks. */
#ifndef SIM_TIMER_H
#define SIM_TIMER_H

#include "sim_base.h"

#include <stdbool.h>

/* Zeroed memory is a timer that is off. It must not move in memory while it is on. */
struct timer {
    int64_t due_mono_ms;
    size_t place; /* in the heap, from 1; 0 when off */
    void *owner;
};

/* Zeroed memory is an empty heap. Grows with the number of timers that are on, which the number
 * of connections bounds. */
struct timer_heap {
    struct timer **slots;
    size_t count;
    size_t capacity;
};

/* Switch on, or move an active timer. */
void timer_set(struct timer_heap *heap, struct timer *timer, int64_t due_mono_ms);

/* Legal for a timer that is off. */
void timer_stop(struct timer_heap *heap, struct timer *timer);

static inline bool timer_is_on(const struct timer *timer)
{
    return timer->place != 0;
}

/* Switch off and return a timer whose moment has come, NULL when there is none. */
struct timer *timer_take_due(struct timer_heap *heap, int64_t now_mono_ms);

/* Milliseconds until the next moment, -1 without one. */
int timer_wait_ms(const struct timer_heap *heap, int64_t now_mono_ms);

void timer_heap_deinit(struct timer_heap *heap);

#endif
