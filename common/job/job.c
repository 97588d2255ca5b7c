#include "common/job/job.h"

#include <string.h>

#include "common/base/digest.h"
#include "common/base/error.h"

#define TO(state) (1u << (state))

/* docs/job-lifecycle.md draws the same arrows; the Redis functions are tested against this table.
 */
static const unsigned legal_next[JOB_STATE_COUNT] = {
    [JOB_QUEUED] = TO(JOB_RUNNING) | TO(JOB_CANCELLED) | TO(JOB_EXPIRED),
    [JOB_SCHEDULED] = TO(JOB_QUEUED) | TO(JOB_CANCELLED) | TO(JOB_EXPIRED),
    [JOB_BLOCKED] =
        TO(JOB_QUEUED) | TO(JOB_SCHEDULED) | TO(JOB_FAILED) | TO(JOB_CANCELLED) | TO(JOB_EXPIRED),
    [JOB_RUNNING] = TO(JOB_SUCCEEDED) | TO(JOB_FAILED) | TO(JOB_CANCELLED) | TO(JOB_EXPIRED) |
                    TO(JOB_SCHEDULED) | TO(JOB_QUEUED),
    /* SUCCEEDED, FAILED, CANCELLED and EXPIRED are final: no bits set. */
};

static const struct {
    char letter;
    const char *word;
} states[JOB_STATE_COUNT] = {
#define STATE_ROW(name, letter_, word_) [name] = {letter_, word_},
    JOB_STATE_LIST(STATE_ROW)
#undef STATE_ROW
};

static const char *const priority_words[JOB_PRIORITY_COUNT] = {"high", "normal", "low"};

static const char *const endpoint_paths[ENDPOINT_COUNT] = {
#define ENDPOINT_ROW(name, path) [name] = path,
    JOB_ENDPOINT_LIST(ENDPOINT_ROW)
#undef ENDPOINT_ROW
};

const char *job_state_word(enum job_state state)
{
    CHECK(state < JOB_STATE_COUNT);
    return states[state].word;
}

char job_state_letter(enum job_state state)
{
    CHECK(state < JOB_STATE_COUNT);
    return states[state].letter;
}

int job_state_from_letter(char letter, enum job_state *out)
{
    for (unsigned i = 0; i < JOB_STATE_COUNT; i++) {
        if (states[i].letter == letter) {
            *out = (enum job_state)i;
            return 0;
        }
    }
    return ERR_INVALID;
}

int job_state_from_word(struct slice word, enum job_state *out)
{
    for (unsigned i = 0; i < JOB_STATE_COUNT; i++) {
        if (slice_is(word, states[i].word)) {
            *out = (enum job_state)i;
            return 0;
        }
    }
    return ERR_INVALID;
}

bool job_state_is_final(enum job_state state)
{
    CHECK(state < JOB_STATE_COUNT);
    return legal_next[state] == 0;
}

bool job_state_may_follow(enum job_state from, enum job_state to)
{
    CHECK(from < JOB_STATE_COUNT);
    CHECK(to < JOB_STATE_COUNT);
    return (legal_next[from] & TO(to)) != 0;
}

int job_set_state(struct job *job, enum job_state next)
{
    if (!job_state_may_follow(job->state, next))
        return ERR_STATE;
    job->state = next;
    return 0;
}

void job_enter(struct job *job, int64_t due_at_ms)
{
    CHECK(job->started_at_ms == 0);
    job->state = due_at_ms ? JOB_SCHEDULED : JOB_QUEUED;
    job->due_at_ms = due_at_ms;
}

const char *job_priority_word(enum job_priority priority)
{
    CHECK(priority < JOB_PRIORITY_COUNT);
    return priority_words[priority];
}

int job_priority_from_word(struct slice word, enum job_priority *out)
{
    for (unsigned i = 0; i < JOB_PRIORITY_COUNT; i++) {
        if (slice_is(word, priority_words[i])) {
            *out = (enum job_priority)i;
            return 0;
        }
    }
    return ERR_INVALID;
}

const char *job_endpoint_path(enum job_endpoint endpoint)
{
    CHECK(endpoint < ENDPOINT_COUNT);
    return endpoint_paths[endpoint];
}

int job_endpoint_from_path(struct slice path, enum job_endpoint *out)
{
    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        if (slice_is(path, endpoint_paths[i])) {
            *out = (enum job_endpoint)i;
            return 0;
        }
    }
    return ERR_INVALID;
}

void job_tenant_hash(struct slice tenant_name, char out[JOB_TENANT_SIZE])
{
    uint8_t digest[DIGEST_SHA256_SIZE];

    digest_sha256(tenant_name.bytes, tenant_name.size, digest);
    digest_base32(digest, JOB_TENANT_SIZE * 5, out);
}
