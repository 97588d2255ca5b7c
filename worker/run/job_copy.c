#include "worker/run/job_copy.h"

#include <stdlib.h>
#include <string.h>

/* Everything in struct job that points elsewhere, in one list for both passes. */
#define JOB_SLICES(X) \
    X(route)          \
    X(tenant_name)    \
    X(metadata)       \
    X(webhook_url)    \
    X(request_id)     \
    X(retry_of)       \
    X(content_type)   \
    X(upstream)       \
    X(worker)         \
    X(error_code)     \
    X(error_message)  \
    X(payload)

static size_t measure(const struct job *job)
{
    size_t size = 0;

#define ADD(field) size += job->field.size;
    JOB_SLICES(ADD)
#undef ADD
    for (unsigned i = 0; i < job->attempts_count; i++) {
        const struct job_attempt *attempt = &job->attempts[i];
        size += attempt->upstream.size + attempt->error_code.size + attempt->error_message.size;
    }
    return size;
}

static void move_slice(struct slice *slice, char **at)
{
    if (slice->size == 0)
        return; /* whether the bytes are NULL says something: it stays */
    memcpy(*at, slice->bytes, slice->size);
    slice->bytes = *at;
    *at += slice->size;
}

int job_copy(const struct job *job, struct job *out, char **out_memory)
{
    CHECK(job->attempts_count <= LIMIT_ATTEMPTS);
    size_t size = measure(job);
    char *memory = malloc(size > 0 ? size : 1);
    char *at = memory;

    if (!memory)
        return ERR_NOMEM;
    if (out != job) /* the unused tail of the attempts is most of a job */
        memcpy(out, job, sizeof *job);
#define MOVE(field) move_slice(&out->field, &at);
    JOB_SLICES(MOVE)
#undef MOVE
    for (unsigned i = 0; i < out->attempts_count; i++) {
        move_slice(&out->attempts[i].upstream, &at);
        move_slice(&out->attempts[i].error_code, &at);
        move_slice(&out->attempts[i].error_message, &at);
    }
    CHECK(at == memory + size);
    *out_memory = memory;
    return 0;
}
