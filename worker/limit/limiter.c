#include "worker/limit/limiter.h"

#include <stdlib.h>

#include "common/base/error.h"
#include "worker/limit/breaker.h"
#include "worker/limit/concurrency.h"
#include "worker/limit/rate_limit.h"

enum {
    HOLD_MAX_MS = 15 * 60 * 1000, /* an upstream may ask for so much */
    HOLD_FIRST_MS = 500,          /* after a 429 that says nothing; doubles with each further one */
    HOLD_DOUBLINGS_MAX = 5
};

struct limited {
    unsigned share;
    unsigned in_flight;
    struct breaker breaker;
    struct rate_limit rate;
    int64_t hold_until_mono_ms;
    unsigned refusals; /* 429 without a wait, in a row */
    uint64_t calls;
    uint64_t errors;
    double latency_ms;
};

struct limiter {
    unsigned count;
    struct limited upstreams[];
};

int limiter_create(const struct settings *settings, unsigned child, unsigned children,
                   int64_t now_mono_ms, struct limiter **out)
{
    struct limiter *limiter =
        calloc(1, sizeof *limiter + settings->upstreams_count * sizeof limiter->upstreams[0]);
    if (!limiter)
        return ERR_NOMEM;
    limiter->count = settings->upstreams_count;
    for (unsigned i = 0; i < limiter->count; i++) {
        struct limited *limited = &limiter->upstreams[i];
        limited->share = concurrency_share(settings->upstreams[i].concurrency, child, children);
        rate_limit_init(&limited->rate, settings->upstreams[i].requests_per_minute, children,
                        now_mono_ms);
    }
    *out = limiter;
    return 0;
}

void limiter_destroy(struct limiter *limiter)
{
    free(limiter);
}

static const struct limited *find(const struct limiter *limiter, unsigned upstream)
{
    CHECK(upstream < limiter->count);
    return &limiter->upstreams[upstream];
}

bool limiter_is_open(const struct limiter *limiter, unsigned upstream, int64_t now_mono_ms)
{
    const struct limited *limited = find(limiter, upstream);
    return now_mono_ms >= limited->hold_until_mono_ms &&
           breaker_is_passable(&limited->breaker, now_mono_ms);
}

unsigned limiter_room(const struct limiter *limiter, unsigned upstream, int64_t now_mono_ms)
{
    const struct limited *limited = find(limiter, upstream);
    if (!limiter_is_open(limiter, upstream, now_mono_ms) || limited->in_flight >= limited->share)
        return 0;
    uint32_t room = limited->share - limited->in_flight;
    uint32_t passing = breaker_room(&limited->breaker, limited->in_flight, now_mono_ms);
    uint32_t paced = rate_limit_room(&limited->rate, now_mono_ms);
    if (passing < room)
        room = passing;
    return paced < room ? paced : room;
}

unsigned limiter_in_flight(const struct limiter *limiter, unsigned upstream)
{
    return find(limiter, upstream)->in_flight;
}

unsigned limiter_share(const struct limiter *limiter, unsigned upstream)
{
    return find(limiter, upstream)->share;
}

void limiter_start(struct limiter *limiter, unsigned upstream, int64_t now_mono_ms)
{
    CHECK(upstream < limiter->count);
    struct limited *limited = &limiter->upstreams[upstream];
    limited->in_flight++;
    limited->calls++;
    breaker_start(&limited->breaker, now_mono_ms);
    rate_limit_take(&limited->rate, now_mono_ms);
}

static void hold(struct limited *limited, int64_t wait_ms, int64_t now_mono_ms)
{
    if (wait_ms > HOLD_MAX_MS)
        wait_ms = HOLD_MAX_MS;
    if (now_mono_ms + wait_ms > limited->hold_until_mono_ms)
        limited->hold_until_mono_ms = now_mono_ms + wait_ms;
}

static void on_refused(struct limited *limited, int64_t retry_after_ms, int64_t now_mono_ms,
                       uint64_t random)
{
    if (retry_after_ms >= 0) {
        hold(limited, retry_after_ms, now_mono_ms);
        return;
    }
    /* Calls that were in flight together are refused together; they count once. */
    if (now_mono_ms < limited->hold_until_mono_ms)
        return;
    int64_t wait_ms = (int64_t)HOLD_FIRST_MS << limited->refusals;
    if (limited->refusals < HOLD_DOUBLINGS_MAX)
        limited->refusals++;
    hold(limited, wait_ms / 2 + (int64_t)(random % (uint64_t)(wait_ms / 2)), now_mono_ms);
}

void limiter_end(struct limiter *limiter, unsigned upstream, enum outcome_class class_,
                 int64_t retry_after_ms, double latency_ms, int64_t now_mono_ms, uint64_t random)
{
    CHECK(upstream < limiter->count);
    struct limited *limited = &limiter->upstreams[upstream];
    CHECK(limited->in_flight > 0);
    limited->in_flight--;

    switch (class_) {
    case OUTCOME_OK:
        limited->refusals = 0;
        limited->latency_ms +=
            limited->latency_ms > 0 ? (latency_ms - limited->latency_ms) * 0.1 : latency_ms;
        breaker_success(&limited->breaker);
        return;
    case OUTCOME_TOO_LARGE:
    case OUTCOME_REDIRECT:
    case OUTCOME_REJECTED:
    case OUTCOME_QUOTA:
        breaker_success(&limited->breaker); /* it works; it does not like the request */
        break;
    case OUTCOME_RATE_LIMITED:
        breaker_success(&limited->breaker);
        on_refused(limited, retry_after_ms, now_mono_ms, random);
        break;
    case OUTCOME_OVERLOADED:
        breaker_failure(&limited->breaker, now_mono_ms, random);
        if (retry_after_ms >= 0)
            hold(limited, retry_after_ms, now_mono_ms);
        break;
    case OUTCOME_UPSTREAM_ERROR:
    case OUTCOME_TIMEOUT:
    case OUTCOME_CONNECTION:
    case OUTCOME_TRUNCATED:
    case OUTCOME_MALFORMED:
        breaker_failure(&limited->breaker, now_mono_ms, random);
        break;
    case OUTCOME_ABORTED:
    case OUTCOME_DEADLINE:
    case OUTCOME_INTERNAL:
    case OUTCOME_COUNT:
        breaker_nothing(&limited->breaker, now_mono_ms);
        return;
    }
    limited->errors++;
}

struct limiter_view limiter_view(const struct limiter *limiter, unsigned upstream,
                                 int64_t now_mono_ms)
{
    const struct limited *limited = find(limiter, upstream);
    int64_t hold_ms = limited->hold_until_mono_ms - now_mono_ms;
    return (struct limiter_view){.in_flight = limited->in_flight,
                                 .share = limited->share,
                                 .calls = limited->calls,
                                 .errors = limited->errors,
                                 .latency_ms = limited->latency_ms,
                                 .is_open = limiter_is_open(limiter, upstream, now_mono_ms),
                                 .hold_ms = hold_ms > 0 ? hold_ms : 0};
}
