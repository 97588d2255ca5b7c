#include "broker/api/watch.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"

enum { BUCKETS_MIN = 64, BUCKETS_MAX = 65536 };

int watches_init(struct watches *watches, unsigned expected)
{
    unsigned count = BUCKETS_MIN;

    while (count < expected && count < BUCKETS_MAX)
        count *= 2;
    *watches = (struct watches){.mask = count - 1};
    watches->buckets = calloc(count, sizeof(struct watch *));
    return watches->buckets ? 0 : ERR_NOMEM;
}

void watches_deinit(struct watches *watches)
{
    CHECK(watches->count == 0);
    free(watches->buckets);
    *watches = (struct watches){.buckets = NULL};
}

/* The last characters of an id are random: they need no mixing beyond being put together. */
static unsigned bucket_of(const struct watches *watches, const struct job_id *id)
{
    uint64_t tail;
    memcpy(&tail, id->core + JOB_ID_CORE_SIZE - sizeof(tail), sizeof(tail));
    return (unsigned)((tail * 0x9e3779b97f4a7c15ULL) >> 40) & watches->mask;
}

void watch_add(struct watches *watches, struct watch *watch)
{
    CHECK(!watch->link);
    CHECK(watch->on_change);

    struct watch **head = &watches->buckets[bucket_of(watches, &watch->id)];
    watch->next = *head;
    watch->link = head;
    if (*head)
        (*head)->link = &watch->next;
    *head = watch;
    watches->count++;
}

void watch_remove(struct watches *watches, struct watch *watch)
{
    if (!watch->link)
        return;
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    watch->link = NULL;
    watches->count--;
}

bool watch_is_in(const struct watch *watch)
{
    return watch->link != NULL;
}

void watches_tell(struct watches *watches, const struct job *job)
{
    struct watch *watch = watches->buckets[bucket_of(watches, &job->id)];

    while (watch) {
        struct watch *next = watch->next;
        if (memcmp(watch->id.core, job->id.core, JOB_ID_CORE_SIZE) == 0)
            watch->on_change(watch, job);
        watch = next;
    }
}

/* ---- times ----------------------------------------------------------------------------------- */

void wheel_init(struct wheel *wheel, int64_t now_mono_ms)
{
    *wheel = (struct wheel){.done_tick = now_mono_ms / WHEEL_TICK_MS};
}

bool timer_is_on(const struct timer *timer)
{
    return timer->link != NULL;
}

void timer_stop(struct timer *timer)
{
    if (!timer->link)
        return;
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->link = NULL;
}

void timer_start(struct wheel *wheel, struct timer *timer)
{
    CHECK(timer->on_due);

    timer_stop(timer);
    int64_t tick = (timer->due_mono_ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
    if (tick <= wheel->done_tick)
        tick = wheel->done_tick + 1;
    struct timer **head = &wheel->slots[tick % WHEEL_SLOTS];
    timer->next = *head;
    timer->link = head;
    if (*head)
        (*head)->link = &timer->next;
    *head = timer;
}

/* A slot also holds timers of later rounds: those go back. The list is taken off first, so that a
 * callback that starts a timer for the same slot does not run it in this turn. */
static void run_slot(struct wheel *wheel, unsigned slot, int64_t now_mono_ms)
{
    struct timer *taken = wheel->slots[slot];

    wheel->slots[slot] = NULL;
    if (taken)
        taken->link = &taken;
    while (taken) {
        struct timer *timer = taken;
        timer_stop(timer);
        if (timer->due_mono_ms <= now_mono_ms)
            timer->on_due(timer);
        else
            timer_start(wheel, timer);
    }
}

void wheel_turn(struct wheel *wheel, int64_t now_mono_ms)
{
    int64_t tick = now_mono_ms / WHEEL_TICK_MS;

    /* After a stall longer than a round each slot is looked at once. */
    if (tick - wheel->done_tick > WHEEL_SLOTS)
        wheel->done_tick = tick - WHEEL_SLOTS;
    while (wheel->done_tick < tick) {
        wheel->done_tick++;
        run_slot(wheel, (unsigned)(wheel->done_tick % WHEEL_SLOTS), now_mono_ms);
    }
}
