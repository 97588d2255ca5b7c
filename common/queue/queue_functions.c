#include "common/queue/queue_functions.h"

#include <stdint.h>
#include <stdio.h>

#include "common/base/digest.h"
#include "common/job/job_codec.h"
#include "common/job/limits.h"

/* Made by the build from functions/: embed.sh. */
extern const char queue_functions_source[];
extern const size_t queue_functions_source_size;

enum {
    TEXT_BYTES_MAX = 1 << 20,
    HISTORY_ENTRIES = 64,
    HISTORY_MS = 180 * 1000,
    FOLLOW_MS = 60 * 1000,
    CLAIM_BYTES = 32 << 20,   /* bodies of one claim call, so that a worker's memory is bounded */
    CLAIM_INLINE_LAST = 4095, /* last byte of records that come with the answer of a claim */
    HANDED_MAX = 8,           /* jobs that a standing claim brings: a message holds them all */
    STANDING_MS = 2500, /* children ask anew each second; one that is no more is given nothing */
    HANDED_NOTE_MS = 60000, /* that it was handed something is told to its next claim */
    INSPECT_SCAN = 200,
    DEADLINE_GRACE_S = 60 * 24 * 3600, /* index lists outlast an outage of this, until walked */
    ASIDE_MS = 1000, /* how long a job of a newer version is left before it is looked at again */
};

static const char *const verb_words[VERB_COUNT] = {
#define QUEUE_VERB_WORD(name, word) [name] = word,
    QUEUE_VERB_LIST(QUEUE_VERB_WORD)
#undef QUEUE_VERB_WORD
};

/* Numbers that C and Lua share, from one place. */
static const struct {
    const char *name;
    long value;
} constants[] = {
    {"LIMIT_PUBLISH_BYTES", LIMIT_PUBLISH_BYTES},
    {"LIMIT_HEAD_READ", JOB_HEAD_READ_SIZE},
    {"LIMIT_ROUTE_BYTES", LIMIT_ROUTE_BYTES},
    {"LIMIT_RECORD_AFTER_RESULT_S", LIMIT_RECORD_AFTER_RESULT_S},
    {"LIMIT_IDEMPOTENCY_S", LIMIT_IDEMPOTENCY_S},
    {"USUAL_DEADLINE_MS", LIMIT_EXPIRES_DEFAULT_MS},
    {"DEADLINE_GRACE_S", DEADLINE_GRACE_S},
    {"LIMIT_CRASHES", LIMIT_CRASHES},
    {"LIMIT_CRASHES_SUSPECT", LIMIT_CRASHES_SUSPECT},
    {"LIMIT_SWEEP", LIMIT_SWEEP},
    {"LIMIT_HINT_ROUTES", LIMIT_HINT_ROUTES},
    {"HISTORY_ENTRIES", HISTORY_ENTRIES},
    {"HISTORY_MS", HISTORY_MS},
    {"FOLLOW_MS", FOLLOW_MS},
    {"CLAIM_BYTES", CLAIM_BYTES},
    {"CLAIM_INLINE_LAST", CLAIM_INLINE_LAST},
    {"HANDED_MAX", HANDED_MAX},
    {"STANDING_MS", STANDING_MS},
    {"HANDED_NOTE_MS", HANDED_NOTE_MS},
    {"INSPECT_SCAN", INSPECT_SCAN},
    {"JOB_SCHEMA", JOB_SCHEMA},
    {"ASIDE_MS", ASIDE_MS},
};

const char *queue_verb_word(enum queue_verb verb)
{
    CHECK(verb < VERB_COUNT);
    return verb_words[verb];
}

enum queue_script queue_verb_script(enum queue_verb verb)
{
    return verb == VERB_SUBMIT ? SCRIPT_STRICT : SCRIPT_ALLOW_OOM;
}

static int put_body(struct buf *out)
{
    int status = 0;

    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]) && status == 0; i++)
        status = buf_printf(out, "local %s = %ld\n", constants[i].name, constants[i].value);
    if (status == 0)
        status = buf_append_text(out, "local verb_names = {");
    for (int i = 0; i < VERB_COUNT && status == 0; i++)
        status = buf_printf(out, "'%s', ", verb_words[i]);
    if (status == 0)
        status = buf_append_text(out, "}\n");
    if (status == 0)
        status = buf_append(out, queue_functions_source, queue_functions_source_size);
    return status;
}

static int make_texts(struct queue_functions *functions, const struct buf *body)
{
    static const char *const first_lines[SCRIPT_COUNT] = {"#!lua", "#!lua flags=allow-oom"};
    uint8_t hash[DIGEST_SHA256_SIZE];
    char hex[2 * DIGEST_SHA256_SIZE + 1];
    int status;

    digest_sha256(body->data, body->size, hash);
    digest_hex(hash, sizeof(hash), hex);
    snprintf(functions->library_name, sizeof(functions->library_name), "penstock_1_%.8s", hex);
    for (int i = 0; i < VERB_COUNT; i++)
        snprintf(functions->names[i], sizeof(functions->names[i]), "p1%.8s_%s", hex, verb_words[i]);

    buf_init(&functions->library, TEXT_BYTES_MAX);
    status = buf_printf(&functions->library, "#!lua name=%s\nlocal function_prefix = 'p1%.8s_'\n",
                        functions->library_name, hex);
    if (status == 0)
        status = buf_append(&functions->library, body->data, body->size);
    for (int i = 0; i < SCRIPT_COUNT && status == 0; i++) {
        buf_init(&functions->scripts[i], TEXT_BYTES_MAX);
        status =
            buf_printf(&functions->scripts[i], "%s\nlocal function_prefix = nil\n", first_lines[i]);
        if (status == 0)
            status = buf_append(&functions->scripts[i], body->data, body->size);
    }
    return status;
}

int queue_functions_init(struct queue_functions *functions)
{
    struct buf body = {.size_max = TEXT_BYTES_MAX};
    int status = put_body(&body);

    *functions = (struct queue_functions){.library = {0}};
    if (status == 0)
        status = make_texts(functions, &body);
    buf_deinit(&body);
    if (status < 0)
        queue_functions_deinit(functions);
    return status;
}

void queue_functions_deinit(struct queue_functions *functions)
{
    buf_deinit(&functions->library);
    for (int i = 0; i < SCRIPT_COUNT; i++)
        buf_deinit(&functions->scripts[i]);
}
