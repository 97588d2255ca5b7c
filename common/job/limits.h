/* Every number that bounds a job, with its unit and its reason. */
#ifndef PENSTOCK_JOB_LIMITS_H
#define PENSTOCK_JOB_LIMITS_H

#include <assert.h>

enum {
    LIMIT_ROUTE_BYTES = 256,   /* a model name as clients write it */
    LIMIT_TENANT_BYTES = 64,   /* a tenant's name in the keys file */
    LIMIT_METADATA_PAIRS = 16, /* as OpenAI's metadata */
    LIMIT_METADATA_KEY_BYTES = 64,
    LIMIT_METADATA_VALUE_BYTES = 512,
    LIMIT_METADATA_BYTES = 16 * 1024, /* the JSON text of all pairs, escapes included */
    LIMIT_IDEMPOTENCY_KEY_BYTES = 255,
    LIMIT_WEBHOOK_URL_BYTES = 2048,
    LIMIT_REQUEST_ID_BYTES = 64,
    LIMIT_ERROR_BYTES = 4096, /* error text kept with a job */
    LIMIT_CONTENT_TYPE_BYTES = 128,
    LIMIT_ATTEMPTS = 20, /* max_attempts may not ask for more */
    LIMIT_ATTEMPTS_DEFAULT = 5,
    LIMIT_CRASHES = 5,              /* two in company, three alone: then poison */
    LIMIT_CRASHES_SUSPECT = 2,      /* from here a job runs in the one-at-a-time lane */
    LIMIT_INLINE_BYTES = 64 * 1024, /* larger payloads go in pieces */
    LIMIT_PIECE_BYTES = 256 * 1024,
    LIMIT_PUBLISH_BYTES = 8 * 1024,              /* larger records are announced, not carried */
    LIMIT_WAIT_MS = 300 * 1000,                  /* longest ?wait= */
    LIMIT_QUERY_IDS = 1000,                      /* ids in one POST /v1/jobs/query */
    LIMIT_SMALL_RECORD_BYTES = 16 * 1024,        /* with a result that a query may bring along */
    LIMIT_QUERY_RESULTS_BYTES = 8 * 1024 * 1024, /* results in one answer */
    LIMIT_LIST_ROWS = 100,
    LIMIT_LIST_SCAN = 10000, /* index entries one list call looks at */
    LIMIT_CLAIM_COUNT = 64,  /* jobs in one claim call */
    LIMIT_CLAIM_ROUTES = 64, /* (route, room) pairs in one claim call */
    LIMIT_HINT_ROUTES = 16,
    LIMIT_SWEEP = 100,    /* items a sweep handles in one call */
    LIMIT_BATCH_IN = 64,  /* submits in one flush */
    LIMIT_BATCH_OUT = 64, /* commits in one flush */
    LIMIT_IDEMPOTENCY_S = 24 * 3600,
    LIMIT_RECORD_AFTER_RESULT_S = 24 * 3600, /* the record outlives the result by this */
    LIMIT_DELAY_DEFAULT_MS = 0,
    LIMIT_TIMEOUT_DEFAULT_MS = 600 * 1000,
};

/* Deadlines of this are found by the index of hours: another value is another QUEUE_LAYOUT. */
#define LIMIT_EXPIRES_DEFAULT_MS (24LL * 3600 * 1000)
#define LIMIT_EXPIRES_MAX_MS (30LL * 24 * 3600 * 1000)
#define LIMIT_DELAY_MAX_MS (30LL * 24 * 3600 * 1000)
#define LIMIT_TIMEOUT_MAX_MS (24LL * 3600 * 1000)
#define LIMIT_RESULT_TTL_MAX_S (365LL * 24 * 3600)

static_assert(LIMIT_ATTEMPTS_DEFAULT <= LIMIT_ATTEMPTS, "the default is allowed");
static_assert((int)LIMIT_ATTEMPTS <= 255 && (int)LIMIT_CRASHES <= 255, "one byte in the header");
static_assert(LIMIT_INLINE_BYTES <= LIMIT_PIECE_BYTES, "what is not inline fills a piece");

#endif
