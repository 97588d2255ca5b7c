/* A circuit breaker: after a row of failures calls stop, then one at a time asks whether the
 * upstream is back; then the calls in flight grow from few to all. Pure: time and randomness are
 * arguments. Zeroed memory is a closed breaker.
 *
 *   CLOSED --BREAKER_FAILURES in a row--> OPEN --wait over--> PROBING --success--> CLOSED (ramp)
 *                                           ^------- failure, longer wait ---'
 */
#ifndef PENSTOCK_LIMIT_BREAKER_H
#define PENSTOCK_LIMIT_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BREAKER_FAILURES = 8,
    BREAKER_WAIT_MIN_MS = 1000, /* doubles with every failed probe */
    BREAKER_WAIT_MAX_MS = 16 * 1000,
    BREAKER_RAMP_FIRST =
        4, /* calls in flight right after a probe succeeded; one more with each success */
    BREAKER_RAMP_DONE = 1024
};

enum breaker_mode { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING };

struct breaker {
    enum breaker_mode mode;
    unsigned failures;     /* in a row, while closed */
    unsigned trips;        /* in a row, without a success between */
    unsigned ramp;         /* 0: no limit of ours */
    int64_t until_mono_ms; /* while open */
};

/* False: no call may start, not even a probe. */
bool breaker_is_passable(const struct breaker *breaker, int64_t now_mono_ms);
/* How many calls may start as far as the breaker cares; UINT32_MAX: any number. Calls that were in
 * flight when it opened do not keep the probe from starting. */
uint32_t breaker_room(const struct breaker *breaker, unsigned in_flight, int64_t now_mono_ms);
/* A call starts. The first one after the wait is the probe. */
void breaker_start(struct breaker *breaker, int64_t now_mono_ms);
/* While open, too: a call from before that succeeds is as good as a probe. */
void breaker_success(struct breaker *breaker);
void breaker_failure(struct breaker *breaker, int64_t now_mono_ms, uint64_t random);
/* A call ended and says nothing (aborted): a probe has to be made again. */
void breaker_nothing(struct breaker *breaker, int64_t now_mono_ms);

#endif
