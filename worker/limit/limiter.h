/* How many calls each upstream may take from this child now: its share of `concurrency` and
 * `requests_per_minute`, a circuit breaker, and waits an upstream asked for. Pure: time and
 * randomness are arguments.
 *
 * The life of a call: router_pick, limiter_start, …, limiter_end. */
#ifndef PENSTOCK_LIMIT_LIMITER_H
#define PENSTOCK_LIMIT_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/settings.h"
#include "common/job/outcome.h"

struct limiter;

/* children >= 1, child < children: of this host. */
MUST_CHECK int limiter_create(const struct settings *settings, unsigned child, unsigned children,
                              int64_t now_mono_ms, struct limiter **out);
void limiter_destroy(struct limiter *limiter);

/* False while the breaker is open or a Retry-After runs: look at other upstreams. */
bool limiter_is_open(const struct limiter *limiter, unsigned upstream, int64_t now_mono_ms);
/* Calls that may start now; 0 while not open. */
unsigned limiter_room(const struct limiter *limiter, unsigned upstream, int64_t now_mono_ms);
unsigned limiter_in_flight(const struct limiter *limiter, unsigned upstream);
unsigned limiter_share(const struct limiter *limiter, unsigned upstream); /* of concurrency */

void limiter_start(struct limiter *limiter, unsigned upstream, int64_t now_mono_ms);
/* One for each start. class_: OUTCOME_ABORTED says nothing about the upstream. retry_after_ms: as
 * the upstream asked, -1: it did not. random: uniform. */
void limiter_end(struct limiter *limiter, unsigned upstream, enum outcome_class class_,
                 int64_t retry_after_ms, double latency_ms, int64_t now_mono_ms, uint64_t random);

/* For publishing. */
struct limiter_view {
    unsigned in_flight;
    unsigned share;
    uint64_t calls;
    uint64_t errors;   /* calls that did not end in OUTCOME_OK, without the aborted */
    double latency_ms; /* moving average of answered calls */
    bool is_open;
    int64_t hold_ms; /* left of a wait the upstream asked for */
};
struct limiter_view limiter_view(const struct limiter *limiter, unsigned upstream,
                                 int64_t now_mono_ms);

#endif
