/* Who waits for what: a table from job ids to the contexts that follow them, and a wheel of
 * deadlines. Both are intrusive and bounded by the number of connections. Know nothing of requests.
 */
#ifndef PENSTOCK_API_WATCH_H
#define PENSTOCK_API_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/job/job.h"

/* ---- jobs ------------------------------------------------------------------------------------ */

struct watch {
    struct job_id id;
    void (*on_change)(struct watch *watch, const struct job *job);
    struct watch *next, **link; /* link NULL: not in a table */
};

struct watches {
    struct watch **buckets;
    unsigned mask;
    unsigned count;
};

MUST_CHECK int watches_init(struct watches *watches, unsigned expected);
void watches_deinit(struct watches *watches);
/* id and on_change are set by the caller. */
void watch_add(struct watches *watches, struct watch *watch);
void watch_remove(struct watches *watches, struct watch *watch); /* harmless when not in */
bool watch_is_in(const struct watch *watch);
/* Calls on_change of every watch of job->id. A callback may remove its own watch. */
void watches_tell(struct watches *watches, const struct job *job);

/* ---- times ----------------------------------------------------------------------------------- */

enum { WHEEL_SLOTS = 1024, WHEEL_TICK_MS = 100 };

struct timer {
    int64_t due_mono_ms;
    void (*on_due)(struct timer *timer);
    struct timer *next, **link; /* link NULL: not running */
};

/* Timers are due at the first tick at or after their time, so up to WHEEL_TICK_MS late. */
struct wheel {
    struct timer *slots[WHEEL_SLOTS];
    int64_t done_tick; /* everything up to it has run */
};

void wheel_init(struct wheel *wheel, int64_t now_mono_ms);
/* Starts it, or moves it. due_mono_ms and on_due are set by the caller before. */
void timer_start(struct wheel *wheel, struct timer *timer);
void timer_stop(struct timer *timer); /* harmless when not running */
bool timer_is_on(const struct timer *timer);
/* Runs what is due. A callback may start and stop any timer. */
void wheel_turn(struct wheel *wheel, int64_t now_mono_ms);

#endif
