#include "worker/limit/rate_limit.h"

#include "common/base/check.h"

void rate_limit_init(struct rate_limit *limit, int64_t per_minute, unsigned children,
                     int64_t now_mono_ms)
{
    CHECK(per_minute >= 0);
    CHECK(children > 0);
    double per_second = (double)per_minute / 60.0 / children;
    limit->per_ms = per_second / 1000.0;
    limit->burst = per_second > 1 ? per_second : 1;
    limit->tokens = limit->burst;
    limit->at_mono_ms = now_mono_ms;
}

static double tokens_at(const struct rate_limit *limit, int64_t now_mono_ms)
{
    double passed_ms =
        now_mono_ms > limit->at_mono_ms ? (double)(now_mono_ms - limit->at_mono_ms) : 0;
    double tokens = limit->tokens + passed_ms * limit->per_ms;
    return tokens < limit->burst ? tokens : limit->burst;
}

uint32_t rate_limit_room(const struct rate_limit *limit, int64_t now_mono_ms)
{
    if (limit->per_ms <= 0)
        return UINT32_MAX;
    /* A sum of fractions may stay a hair under the whole it stands for. */
    double tokens = tokens_at(limit, now_mono_ms) + 1e-9;
    return tokens < 1 ? 0 : tokens > 1e9 ? UINT32_MAX : (uint32_t)tokens;
}

void rate_limit_take(struct rate_limit *limit, int64_t now_mono_ms)
{
    if (limit->per_ms <= 0)
        return;
    limit->tokens = tokens_at(limit, now_mono_ms) - 1;
    if (now_mono_ms > limit->at_mono_ms)
        limit->at_mono_ms = now_mono_ms;
}
