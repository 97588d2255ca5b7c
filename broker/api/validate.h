/* What is asked: a request's JSON and headers become a checked draft of a job, or a problem that
 * names the field. Pure. */
#ifndef PENSTOCK_API_VALIDATE_H
#define PENSTOCK_API_VALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/api/errors.h"
#include "common/base/buf.h"
#include "common/base/jdoc.h"
#include "common/job/job.h"

/* Slices point into the document or the request. */
struct draft {
    enum job_endpoint endpoint;
    struct slice body;  /* as it stands in the request */
    struct slice model; /* as the client named it */
    bool has_priority;
    enum job_priority priority;
    int64_t delay_ms;
    int64_t expires_in_ms;
    int64_t timeout_ms;
    unsigned max_attempts;
    bool wants_base64; /* an embeddings call that asks for base64 */
    char idempotency_key[LIMIT_IDEMPOTENCY_KEY_BYTES + 16];
    size_t idempotency_key_size; /* 0: none */
    struct buf metadata;         /* compact JSON; empty: none */
};

void draft_init(struct draft *draft);
void draft_deinit(struct draft *draft);

/* All return 0, or ERR_INVALID with the problem filled. */

/* A document out of bytes: PROBLEM_INVALID_JSON with the byte offset, or not an object. */
MUST_CHECK int validate_document(struct slice text, struct jdoc **out, struct problem *problem);
/* One job of the native API. */
MUST_CHECK int validate_job(const struct jdoc *doc, struct draft *draft, struct problem *problem);
/* A call of an OpenAI endpoint: text is the body of the job as a whole. */
MUST_CHECK int validate_call(const struct jdoc *doc, struct slice text, enum job_endpoint endpoint,
                             struct draft *draft, struct problem *problem);
/* Idempotency-Key: a quoted structured string or bare text. Also refuses a key that differs from
 * the draft's field. */
MUST_CHECK int validate_idempotency_key(struct slice header, struct draft *draft,
                                        struct problem *problem);

/* Penstock-* headers; bytes NULL: not given. */
struct validate_headers {
    struct slice priority, expires_ms, metadata, webhook;
};
MUST_CHECK int validate_option_headers(const struct validate_headers *headers, struct draft *draft,
                                       struct problem *problem);

/* 1..LIMIT_ROUTE_BYTES bytes without control characters. */
MUST_CHECK int validate_model(const struct jval *value, const char *param, struct slice *out,
                              struct problem *problem);

/* Prefer (RFC 7240), as far as we know it. */
struct prefer {
    bool respond_async;
    bool has_wait;
    int64_t wait_ms;
};
void parse_prefer(struct slice header, struct prefer *out);

/* ?wait=30s: 0 when absent. */
MUST_CHECK int validate_wait(struct slice text, int64_t *out_ms, struct problem *problem);
/* A whole number in a query or header. */
MUST_CHECK int validate_number(struct slice text, const char *param, int64_t min, int64_t max,
                               int64_t *out, struct problem *problem);

#endif
