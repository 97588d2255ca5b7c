/* A token bucket: so many calls a minute, spread evenly, at most one second's worth at once. Pure.
 */
#ifndef PENSTOCK_LIMIT_RATE_LIMIT_H
#define PENSTOCK_LIMIT_RATE_LIMIT_H

#include <stdint.h>

struct rate_limit {
    double per_ms; /* 0: no limit */
    double burst;
    double tokens;
    int64_t at_mono_ms;
};

/* per_minute 0: no limit; divided between children. The bucket starts full. */
void rate_limit_init(struct rate_limit *limit, int64_t per_minute, unsigned children,
                     int64_t now_mono_ms);
/* Calls that may start now; UINT32_MAX: any number. */
uint32_t rate_limit_room(const struct rate_limit *limit, int64_t now_mono_ms);
/* One call starts. Without room it starts on credit: the next ones wait longer. */
void rate_limit_take(struct rate_limit *limit, int64_t now_mono_ms);

#endif
