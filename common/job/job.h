/* What a job is: its states with the legal arrows, and all its fields in memory. No I/O, no clock.
 */
#ifndef PENSTOCK_JOB_JOB_H
#define PENSTOCK_JOB_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/slice.h"
#include "common/job/job_id.h"
#include "common/job/limits.h"

/* name, letter in the stored header, word in the API */
#define JOB_STATE_LIST(X)              \
    X(JOB_QUEUED, 'q', "queued")       \
    X(JOB_RUNNING, 'r', "running")     \
    X(JOB_SCHEDULED, 's', "scheduled") \
    X(JOB_BLOCKED, 'b', "blocked")     \
    X(JOB_SUCCEEDED, 'S', "succeeded") \
    X(JOB_FAILED, 'F', "failed")       \
    X(JOB_CANCELLED, 'C', "cancelled") \
    X(JOB_EXPIRED, 'E', "expired")

enum job_state {
#define JOB_STATE_ENUM(name, letter, word) name,
    JOB_STATE_LIST(JOB_STATE_ENUM)
#undef JOB_STATE_ENUM
        JOB_STATE_COUNT
};

enum job_priority { JOB_HIGH, JOB_NORMAL, JOB_LOW, JOB_PRIORITY_COUNT };

/* endpoint path; index stored in records, so rows are only ever appended */
#define JOB_ENDPOINT_LIST(X)                   \
    X(ENDPOINT_CHAT, "/v1/chat/completions")   \
    X(ENDPOINT_COMPLETIONS, "/v1/completions") \
    X(ENDPOINT_EMBEDDINGS, "/v1/embeddings")

enum job_endpoint {
#define JOB_ENDPOINT_ENUM(name, path) name,
    JOB_ENDPOINT_LIST(JOB_ENDPOINT_ENUM)
#undef JOB_ENDPOINT_ENUM
        ENDPOINT_COUNT
};

enum job_flag {
    JOB_FLAG_PIECES = 1,   /* the payload stands in pieces beside the record */
    JOB_FLAG_FOLLOWED = 2, /* somebody registered to hear of changes */
    JOB_FLAG_SUSPECT = 4,  /* its process died too often: runs in the one-at-a-time lane */
    JOB_FLAG_FORGOTTEN = 8 /* body and result were deleted on request */
};

enum {
    JOB_TENANT_SIZE = 6, /* base32 of the first 30 bits of SHA-256(tenant name) */
    JOB_TOKEN_SIZE = 16, /* child id (8 random bytes) + 8 random bytes a claim call */
    JOB_HOME_SIZE = 8,   /* base32 id of the broker that holds the request open */
};

struct job_usage {
    bool is_known;
    int64_t input_tokens;
    int64_t output_tokens;
    int64_t total_tokens;
};

/* One try that reached (or tried to reach) an upstream and did not succeed, or the last one. */
struct job_attempt {
    int64_t started_at_ms;
    int64_t finished_at_ms;
    int http_status; /* 0: no answer */
    struct slice upstream;
    struct slice error_code; /* empty: succeeded */
    struct slice error_message;
};

/* All slices are borrowed from whatever the job was decoded or built from. */
struct job {
    struct job_id id;
    unsigned schema; /* its record's, kept for life, so that who could read it before still can; 0:
                        this build's */
    enum job_state state;
    unsigned flags;
    unsigned claim;   /* grows at every claim; with token it fences */
    unsigned attempt; /* tries that reached an upstream and failed */
    unsigned crashes; /* claims that ended with a dead process */
    unsigned max_attempts;
    uint32_t sequence; /* of the job's own events */
    enum job_priority priority;
    enum job_endpoint endpoint;
    uint8_t token[JOB_TOKEN_SIZE];
    char tenant[JOB_TENANT_SIZE];
    char home[JOB_HOME_SIZE]; /* zeros: nobody holds it open */
    int64_t created_at_ms;    /* times of Redis; 0 = not yet */
    int64_t started_at_ms;    /* first claim */
    int64_t finished_at_ms;
    int64_t due_at_ms; /* of a scheduled job */
    int64_t expires_at_ms;
    uint32_t result_ttl_s;
    uint32_t timeout_ms;
    struct slice route;
    struct slice tenant_name;
    struct slice metadata; /* JSON object text; empty = {} */
    struct slice webhook_url;
    struct slice request_id;
    struct slice retry_of; /* full id text or empty */
    /* known once an attempt ended */
    int http_status; /* of the recorded result; 0 = no answer from an upstream */
    struct slice content_type;
    struct slice upstream;
    struct slice worker;
    struct slice error_code; /* empty unless failed, cancelled or expired */
    struct slice error_message;
    struct job_usage usage;
    struct job_attempt attempts[LIMIT_ATTEMPTS];
    unsigned attempts_count;
    /* request body while live, result once finished */
    struct slice payload;  /* bytes NULL when not loaded or in pieces */
    uint32_t payload_size; /* whole size, wherever it is */
    unsigned pieces;
};

const char *job_state_word(enum job_state state);
char job_state_letter(enum job_state state);
MUST_CHECK int job_state_from_letter(char letter, enum job_state *out);
MUST_CHECK int job_state_from_word(struct slice word, enum job_state *out);
bool job_state_is_final(enum job_state state);
bool job_state_may_follow(enum job_state from, enum job_state to);
/* The one place that writes a job's state. ERR_STATE on an illegal arrow. */
MUST_CHECK int job_set_state(struct job *job, enum job_state next);
/* The first state of a job that is not stored yet: scheduled for due_at_ms, or queued when that is
 * 0. */
void job_enter(struct job *job, int64_t due_at_ms);

const char *job_priority_word(enum job_priority priority);
MUST_CHECK int job_priority_from_word(struct slice word, enum job_priority *out);
const char *job_endpoint_path(enum job_endpoint endpoint);
MUST_CHECK int job_endpoint_from_path(struct slice path, enum job_endpoint *out);
void job_tenant_hash(struct slice tenant_name, char out[JOB_TENANT_SIZE]);
/* Whose jobs those without keys submit. */
#define JOB_DEFAULT_TENANT "default"
#define JOB_DEFAULT_TENANT_HASH "6ymexg"

#endif
