/* Every refusal the API knows: code, status, title and what retrying means, in one row each; and
 * its text in the shape of the dialect that was asked. Pure. */
#ifndef PENSTOCK_API_ERRORS_H
#define PENSTOCK_API_ERRORS_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/slice.h"

enum api_dialect { DIALECT_NATIVE, DIALECT_OPENAI, DIALECT_ANTHROPIC };

/* What a client may do about it: nothing (the request itself is wrong: the status says so), try
 * again soon (Retry-After is sent), or never (x-should-retry: false, where SDKs would otherwise
 * retry the status). */
enum problem_retry { RETRY_UNSAID, RETRY_SOON, RETRY_NEVER };

/* name, status, code, title, retry */
#define PROBLEM_LIST(X)                                                                          \
    X(PROBLEM_INVALID_JSON, 400, "invalid_json", "The body is not valid JSON", RETRY_UNSAID)     \
    X(PROBLEM_INVALID_REQUEST, 400, "invalid_request", "The request is not valid", RETRY_UNSAID) \
    X(PROBLEM_MISSING_FIELD, 400, "missing_field", "A required field is missing", RETRY_UNSAID)  \
    X(PROBLEM_UNKNOWN_FIELD, 400, "unknown_field", "The field is not known", RETRY_UNSAID)       \
    X(PROBLEM_UNKNOWN_ENDPOINT, 400, "unknown_endpoint", "The endpoint is not known",            \
      RETRY_UNSAID)                                                                              \
    X(PROBLEM_NOT_SUPPORTED, 400, "not_supported", "Not supported", RETRY_UNSAID)                \
    X(PROBLEM_NO_SUCH_FEATURE, 404, "not_supported", "Not supported", RETRY_NEVER)               \
    X(PROBLEM_UNAUTHORIZED, 401, "invalid_api_key", "No valid API key was given", RETRY_UNSAID)  \
    X(PROBLEM_FORBIDDEN, 403, "forbidden", "The key does not allow this", RETRY_UNSAID)          \
    X(PROBLEM_NOT_FOUND, 404, "not_found", "Not found", RETRY_UNSAID)                            \
    X(PROBLEM_MODEL_NOT_FOUND, 404, "model_not_found", "The model is not known", RETRY_UNSAID)   \
    X(PROBLEM_METHOD, 405, "method_not_allowed", "The method is not allowed here", RETRY_UNSAID) \
    X(PROBLEM_BODY_TIMEOUT, 408, "body_timeout", "The body came too slowly", RETRY_UNSAID)       \
    X(PROBLEM_NOT_FINISHED, 409, "job_not_finished", "The job has not ended", RETRY_NEVER)       \
    X(PROBLEM_FINISHED, 409, "job_finished", "The job has ended before", RETRY_NEVER)            \
    X(PROBLEM_NOT_RETRYABLE, 409, "job_not_retryable", "The job cannot be retried", RETRY_NEVER) \
    X(PROBLEM_CANCELLED, 409, "cancelled", "The job was cancelled", RETRY_NEVER)                 \
    X(PROBLEM_RESULT_GONE, 410, "result_gone", "The result is gone", RETRY_UNSAID)               \
    X(PROBLEM_BODY_GONE, 410, "body_gone", "The body of the job is gone", RETRY_UNSAID)          \
    X(PROBLEM_TOO_LARGE, 413, "body_too_large", "The body is too large", RETRY_UNSAID)           \
    X(PROBLEM_MEDIA_TYPE, 415, "unsupported_media_type", "The content type is not supported",    \
      RETRY_UNSAID)                                                                              \
    X(PROBLEM_ENCODING, 415, "unsupported_encoding", "Encoded bodies are not supported",         \
      RETRY_UNSAID)                                                                              \
    X(PROBLEM_IDEMPOTENCY, 422, "idempotency_mismatch",                                          \
      "The idempotency key was used with another request", RETRY_UNSAID)                         \
    X(PROBLEM_JOB_FAILED, 422, "job_failed", "The job has no result", RETRY_UNSAID)              \
    X(PROBLEM_RATE_LIMITED, 429, "rate_limit_exceeded", "Too many requests", RETRY_SOON)         \
    X(PROBLEM_JOBS_QUOTA, 429, "jobs_quota_exceeded", "Too many unfinished jobs", RETRY_SOON)    \
    X(PROBLEM_BYTES_QUOTA, 429, "bytes_quota_exceeded", "Too many bytes of unfinished jobs",     \
      RETRY_SOON)                                                                                \
    X(PROBLEM_TOO_MANY_MODELS, 429, "too_many_models", "Too many models are in use", RETRY_SOON) \
    X(PROBLEM_QUEUE_FULL, 429, "queue_full", "The queue is full", RETRY_SOON)                    \
    X(PROBLEM_INTERNAL, 500, "internal", "Internal error", RETRY_NEVER)                          \
    X(PROBLEM_CORRUPT, 500, "corrupt_record", "The stored record is damaged", RETRY_NEVER)       \
    X(PROBLEM_UPSTREAM, 502, "upstream_error", "The upstream failed", RETRY_NEVER)               \
    X(PROBLEM_STORE_UNAVAILABLE, 503, "store_unavailable", "The store is not available",         \
      RETRY_SOON)                                                                                \
    X(PROBLEM_STORE_FULL, 503, "store_full", "The store is full", RETRY_SOON)                    \
    X(PROBLEM_OUTCOME_UNKNOWN, 503, "outcome_unknown", "The outcome is not known", RETRY_SOON)   \
    X(PROBLEM_OVERLOADED, 503, "overloaded", "Too much is in progress", RETRY_SOON)              \
    X(PROBLEM_SHUTTING_DOWN, 503, "shutting_down", "This process is going away", RETRY_SOON)     \
    X(PROBLEM_UPSTREAM_TIMEOUT, 504, "upstream_timeout", "The upstream took too long", RETRY_NEVER)

enum problem_kind {
#define PROBLEM_ENUM(name, status, code, title, retry) name,
    PROBLEM_LIST(PROBLEM_ENUM)
#undef PROBLEM_ENUM
        PROBLEM_COUNT
};

enum { PROBLEM_DETAIL_SIZE = 512, PROBLEM_PARAM_SIZE = 160, PROBLEM_CODE_SIZE = 64 };

struct problem {
    enum problem_kind kind;
    char code[PROBLEM_CODE_SIZE];   /* "": the row's */
    char param[PROBLEM_PARAM_SIZE]; /* "": none; else a path such as "body.model" */
    char detail[PROBLEM_DETAIL_SIZE];
    char job_id[48];   /* "": none; of outcome_unknown */
    int status;        /* 0: the row's */
    bool is_final;     /* x-should-retry: false whatever the row says */
    int retry_after_s; /* 0: the caller of problem_put draws 1..5 where the row says soon */
};

/* Fills all of problem and returns ERR_INVALID, so that validators can `return problem_set(...)`.
 * param may be NULL. Text from outside may stand in detail: it is escaped on output. */
PRINTF_LIKE(4, 5)
int problem_set(struct problem *problem, enum problem_kind kind, const char *param,
                const char *detail, ...);
/* What a code of common/base/error.h, given by the queue, means to a client. */
void problem_from_status(struct problem *problem, int status);

int problem_status(const struct problem *problem);
const char *problem_code(const struct problem *problem);
enum problem_retry problem_retry_of(const struct problem *problem);

/* The body in the dialect's shape. request_id: only Anthropic's carries it. */
MUST_CHECK int problem_put(struct buf *out, const struct problem *problem, enum api_dialect dialect,
                           struct slice request_id);
/* {"code","message","param"} as bulk answers it in a line. */
MUST_CHECK int problem_put_line(struct buf *out, const struct problem *problem);
const char *problem_content_type(enum api_dialect dialect);

#endif
