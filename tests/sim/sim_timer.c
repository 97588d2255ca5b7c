#include "sim_timer.h"

#include <limits.h>
#include <stdlib.h>

enum { HEAP_COUNT_FIRST = 1024 };

static void heap_place(struct timer_heap *heap, size_t place, struct timer *timer)
{
    heap->slots[place - 1] = timer;
    timer->place = place;
}

static void heap_rise(struct timer_heap *heap, size_t place, struct timer *timer)
{
    while (place > 1) {
        struct timer *parent = heap->slots[place / 2 - 1];
        if (parent->due_mono_ms <= timer->due_mono_ms)
            break;
        heap_place(heap, place, parent);
        place /= 2;
    }
    heap_place(heap, place, timer);
}

static void heap_sink(struct timer_heap *heap, size_t place, struct timer *timer)
{
    for (;;) {
        size_t child = place * 2;
        if (child > heap->count)
            break;
        if (child < heap->count &&
            heap->slots[child]->due_mono_ms < heap->slots[child - 1]->due_mono_ms)
            child++;
        if (timer->due_mono_ms <= heap->slots[child - 1]->due_mono_ms)
            break;
        heap_place(heap, place, heap->slots[child - 1]);
        place = child;
    }
    heap_place(heap, place, timer);
}

static void heap_settle(struct timer_heap *heap, size_t place, struct timer *timer)
{
    if (place > 1 && timer->due_mono_ms < heap->slots[place / 2 - 1]->due_mono_ms)
        heap_rise(heap, place, timer);
    else
        heap_sink(heap, place, timer);
}

static void heap_grow(struct timer_heap *heap)
{
    size_t capacity = heap->capacity == 0 ? HEAP_COUNT_FIRST : heap->capacity * 2;
    struct timer **slots = calloc(capacity, sizeof(struct timer *));

    SIM_CHECK(slots != NULL);
    if (heap->count > 0)
        memcpy(slots, heap->slots, heap->count * sizeof(struct timer *));
    free(heap->slots);
    heap->slots = slots;
    heap->capacity = capacity;
}

void timer_set(struct timer_heap *heap, struct timer *timer, int64_t due_mono_ms)
{
    timer->due_mono_ms = due_mono_ms;
    if (timer->place != 0) {
        heap_settle(heap, timer->place, timer);
        return;
    }
    if (heap->count == heap->capacity)
        heap_grow(heap);
    heap->count++;
    heap_rise(heap, heap->count, timer);
}

void timer_stop(struct timer_heap *heap, struct timer *timer)
{
    size_t place = timer->place;

    if (place == 0)
        return;
    SIM_CHECK(place <= heap->count);
    SIM_CHECK(heap->slots[place - 1] == timer);
    struct timer *last = heap->slots[heap->count - 1];
    heap->count--;
    timer->place = 0;
    if (last != timer)
        heap_settle(heap, place, last);
}

struct timer *timer_take_due(struct timer_heap *heap, int64_t now_mono_ms)
{
    if (heap->count == 0 || heap->slots[0]->due_mono_ms > now_mono_ms)
        return NULL;
    struct timer *timer = heap->slots[0];
    timer_stop(heap, timer);
    return timer;
}

int timer_wait_ms(const struct timer_heap *heap, int64_t now_mono_ms)
{
    if (heap->count == 0)
        return -1;
    int64_t wait_ms = heap->slots[0]->due_mono_ms - now_mono_ms;
    if (wait_ms < 0)
        return 0;
    return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

void timer_heap_deinit(struct timer_heap *heap)
{
    free(heap->slots);
    *heap = (struct timer_heap){0};
}
