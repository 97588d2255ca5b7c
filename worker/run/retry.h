/* What comes after an attempt that did not succeed: pure arithmetic over values. No clock, no
 * random numbers of its own, no I/O; commit.c carries out what is decided here. */
#ifndef PENSTOCK_RUN_RETRY_H
#define PENSTOCK_RUN_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/job/outcome.h"

enum {
    RETRY_BASE_MS = 500,                 /* widest first delay */
    RETRY_CAP_MS = 60 * 1000,            /* widest delay of our own */
    RETRY_AFTER_MAX_MS = 15 * 60 * 1000, /* an upstream may ask for so much */
    RETRY_BUDGET_SLOTS = 12,             /* of RETRY_BUDGET_SLOT_MS: two minutes */
    RETRY_BUDGET_SLOT_MS = 10 * 1000,
    RETRY_BUDGET_PERCENT = 10,     /* retries among all requests */
    RETRY_BUDGET_GRACE_PER_S = 10, /* always allowed */
};

enum retry_action {
    RETRY_LATER,     /* give it back, due at due_at_ms */
    RETRY_ELSEWHERE, /* at once, on another upstream: still the same attempt, nothing reached the
                        first one */
    RETRY_FAIL,
    RETRY_EXPIRE,
};

struct retry_question {
    enum outcome_class class_; /* not OUTCOME_OK, not OUTCOME_ABORTED */
    unsigned attempt;          /* tries that failed, this one included: 1.. */
    unsigned max_attempts;
    int64_t retry_after_ms; /* as the upstream asked; -1: it did not */
    int should_retry;       /* the upstream's word: 1 yes, 0 no, -1 none */
    int64_t now_ms;         /* Redis' wall clock */
    int64_t expires_at_ms;  /* 0: never */
    bool is_over_budget;    /* too many retries went to this upstream lately */
    bool has_alternative;   /* another upstream could take it now */
    uint64_t random;        /* uniform */
};

struct retry_answer {
    enum retry_action action;
    int64_t due_at_ms;     /* with RETRY_LATER */
    bool is_past_deadline; /* with RETRY_FAIL: another try was allowed, but not before the deadline
                            */
};

struct retry_answer retry_decide(const struct retry_question *question);

/* Retries among the requests to one upstream in the last two minutes. Zeroed memory is an empty
 * budget. */
struct retry_budget {
    int64_t slot; /* number of the newest slot: time / RETRY_BUDGET_SLOT_MS */
    uint32_t requests[RETRY_BUDGET_SLOTS];
    uint32_t retries[RETRY_BUDGET_SLOTS];
    uint64_t requests_sum;
    uint64_t retries_sum;
};
void retry_budget_note(struct retry_budget *budget, int64_t now_mono_ms, bool is_retry);
/* Whether one more retry would be more than the upstream should get. */
bool retry_budget_is_spent(struct retry_budget *budget, int64_t now_mono_ms);

#endif
