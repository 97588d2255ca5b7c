/* The Lua functions of this build: their text, names and digests. No I/O.
 *
 * The library's name carries a hash of its text, so builds coexist in one Redis and none replaces
 * another's functions. Where Redis refuses functions the same text runs as a script that takes the
 * verb as first argument: one script that is refused when memory is full, for submit, and one that
 * is not, for everything else. */
#ifndef PENSTOCK_QUEUE_QUEUE_FUNCTIONS_H
#define PENSTOCK_QUEUE_QUEUE_FUNCTIONS_H

#include "common/base/buf.h"

#define QUEUE_VERB_LIST(X)     \
    X(VERB_SUBMIT, "submit")   \
    X(VERB_CLAIM, "claim")     \
    X(VERB_RENEW, "renew")     \
    X(VERB_RECOVER, "recover") \
    X(VERB_SWEEP, "sweep")     \
    X(VERB_FINISH, "finish")   \
    X(VERB_FAIL, "fail")       \
    X(VERB_RETRY, "retry")     \
    X(VERB_RELEASE, "release") \
    X(VERB_CANCEL, "cancel")   \
    X(VERB_FORGET, "forget")   \
    X(VERB_FOLLOW, "follow")   \
    X(VERB_HISTORY, "history") \
    X(VERB_PAUSE, "pause")     \
    X(VERB_CENSUS, "census")   \
    X(VERB_LIST, "list")       \
    X(VERB_INSPECT, "inspect")

enum queue_verb {
#define QUEUE_VERB_ENUM(name, word) name,
    QUEUE_VERB_LIST(QUEUE_VERB_ENUM)
#undef QUEUE_VERB_ENUM
        VERB_COUNT
};

enum queue_script { SCRIPT_STRICT, SCRIPT_ALLOW_OOM, SCRIPT_COUNT };

struct queue_functions {
    struct buf library;                 /* for FUNCTION LOAD */
    struct buf scripts[SCRIPT_COUNT];   /* for SCRIPT LOAD */
    char script_sha1[SCRIPT_COUNT][41]; /* as Redis answered SCRIPT LOAD; "" before */
    char library_name[32];
    char names[VERB_COUNT][32]; /* for FCALL */
};

MUST_CHECK int queue_functions_init(struct queue_functions *functions);
void queue_functions_deinit(struct queue_functions *functions);
const char *queue_verb_word(enum queue_verb verb);
enum queue_script queue_verb_script(enum queue_verb verb);

#endif
