/* How an attempt ended: the one vocabulary between upstream, provider, retry and commit. */
#ifndef PENSTOCK_JOB_OUTCOME_H
#define PENSTOCK_JOB_OUTCOME_H

#include <stdint.h>

#include "common/job/job.h"

/* class, word used in attempts' error_code */
#define OUTCOME_LIST(X)                                                                        \
    X(OUTCOME_OK, "")                                                                          \
    X(OUTCOME_RATE_LIMITED, "rate_limited")       /* 429: retry */                             \
    X(OUTCOME_OVERLOADED, "upstream_overloaded")  /* 503, 529: retry */                        \
    X(OUTCOME_UPSTREAM_ERROR, "upstream_error")   /* 500, 502, 504, 408, 425: retry */         \
    X(OUTCOME_TIMEOUT, "upstream_timeout")        /* one of our four time-outs: retry */       \
    X(OUTCOME_CONNECTION, "upstream_unreachable") /* never reached: retry */                   \
    X(OUTCOME_TRUNCATED, "upstream_truncated")    /* cut off in the answer: retry */           \
    X(OUTCOME_MALFORMED, "upstream_malformed")    /* not what the endpoint answers: retry */   \
    X(OUTCOME_TOO_LARGE, "upstream_too_large")    /* fail */                                   \
    X(OUTCOME_REDIRECT, "upstream_redirect")      /* 3xx: fail */                              \
    X(OUTCOME_REJECTED, "upstream_rejected")      /* other 4xx: fail at once */                \
    X(OUTCOME_QUOTA, "insufficient_quota")        /* 429 that waiting does not mend: fail */   \
    X(OUTCOME_ABORTED, "aborted")                 /* by us: cancel, drain, lease lost */       \
    X(OUTCOME_DEADLINE, "deadline_exceeded")      /* expires_at came while running: expired */ \
    X(OUTCOME_INTERNAL, "internal")               /* fail */

enum outcome_class {
#define OUTCOME_ENUM(name, word) name,
    OUTCOME_LIST(OUTCOME_ENUM)
#undef OUTCOME_ENUM
        OUTCOME_COUNT
};

struct outcome {
    enum outcome_class class_;
    int http_status;        /* 0: no answer */
    int64_t retry_after_ms; /* -1: not said */
    struct job_usage usage;
    char message[512]; /* words for people, valid UTF-8, no secrets, no prompt text */
};

const char *outcome_word(enum outcome_class class_);
bool outcome_may_retry(enum outcome_class class_);
void outcome_set_message(struct outcome *outcome,
                         struct slice text); /* truncates on a character, replaces bad UTF-8 */

#endif
