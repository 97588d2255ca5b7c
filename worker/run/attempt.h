/* One claim of one job in this child: from the claimed record over the upstream call to the commit.
 * This is where queue, providers and upstreams meet. */
#ifndef PENSTOCK_RUN_ATTEMPT_H
#define PENSTOCK_RUN_ATTEMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/job/job.h"
#include "worker/providers/provider.h"

struct runner;
struct upstream_answer;
struct upstream_call;
struct upstream_set;

enum attempt_state {
    ATTEMPT_FREE,
    ATTEMPT_NEW,     /* claimed, not started */
    ATTEMPT_CALLING, /* an upstream works on it */
    ATTEMPT_HELD,    /* ended; the commit waits in our memory until the lease is known to be ours */
    ATTEMPT_COMMITTING, /* the queue has it */
};

/* Why a running transfer was aborted, and so what becomes of the job. */
enum attempt_abort {
    ATTEMPT_NOT_ABORTED,
    ATTEMPT_CANCELLED, /* recorded already: nothing to write */
    ATTEMPT_LOST,      /* the lease is somebody else's: nothing may be written */
    ATTEMPT_DRAINED,   /* handed back, nothing counted */
};

enum attempt_verdict { VERDICT_FINISH, VERDICT_FAIL, VERDICT_RETRY, VERDICT_RELEASE };

struct attempt {
    struct runner *runner;
    struct attempt *next; /* free list, or list of the held */
    unsigned slot;
    enum attempt_state state;
    enum attempt_abort abort;
    enum attempt_verdict verdict; /* while held or committing */
    bool went_elsewhere;          /* the one immediate try on another upstream was used */
    bool went_again;              /* the one repetition after a stale connection was used */
    bool is_suspect;
    unsigned upstream;               /* index in the set, of the current or last call */
    uint64_t tried;                  /* bits of the upstreams tried within this claim */
    struct upstream_set *set;        /* of its calls; a reference of ours. NULL: none was started */
    int64_t due_at_ms;               /* with VERDICT_RETRY */
    int64_t started_at_ms;           /* of the current call, Redis' wall clock */
    const struct provider *provider; /* of the current call */
    struct upstream_call *transfer;  /* while calling */
    struct provider_call call;
    size_t held_bytes; /* while held */
    size_t body_bytes; /* of the request, counted by the table */
    char *first_error; /* words of the first try when there was a second within this claim */
    char *memory;      /* behind job's slices */
    struct job job;
};

/* The one place that writes an attempt's state; refuses (CHECK) arrows that do not exist. */
void attempt_set_state(struct attempt *attempt, enum attempt_state next);
/* Starts the call of a new attempt, or commits at once when it cannot be started. */
void attempt_start(struct attempt *attempt);
/* Aborts the transfer within the turn; what follows depends on why. Attempts that are being
 * committed are left. */
void attempt_abort(struct attempt *attempt, enum attempt_abort why);
/* Frees it. Not while a transfer runs. */
void attempt_end(struct attempt *attempt);

#endif
