/* What the supervisor does about each child: a table of state x event -> state and action. Pure: no
 * processes, no clock, no descriptors; parent.c feeds it events and carries out the actions. */
#ifndef PENSTOCK_SUPERVISE_SUPERVISOR_H
#define PENSTOCK_SUPERVISE_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/process.h"

enum {
    SUPERVISOR_CHILDREN_MAX = 256,
    SUPERVISOR_DELAY_MIN_MS = 50,     /* before the first restart of a child that died */
    SUPERVISOR_DELAY_MAX_MS = 5000,   /* doubled up to here by every further death */
    SUPERVISOR_PROVEN_MS = 10 * 1000, /* alive for so long: the delay starts over */
    SUPERVISOR_SILENT_MS = 10 * 1000, /* without a sign of life: stalled, killed and replaced */
};

#define CHILD_STATE_LIST(X)                                                          \
    X(CHILD_WAITING, "waiting")   /* for its time to be started */                   \
    X(CHILD_STARTING, "starting") /* runs, has not said ready */                     \
    X(CHILD_RUNNING, "running")                                                      \
    X(CHILD_STALLED, "stalled")   /* killed because it was silent; to be replaced */ \
    X(CHILD_STOPPING, "stopping") /* asked to drain */                               \
    X(CHILD_ENDING, "ending")     /* killed, not to be replaced */                   \
    X(CHILD_GONE, "gone")         /* not to be started again */

enum child_state {
#define CHILD_STATE_ENUM(name, word) name,
    CHILD_STATE_LIST(CHILD_STATE_ENUM)
#undef CHILD_STATE_ENUM
        CHILD_STATE_COUNT
};

enum child_event {
    CHILD_DUE,           /* the delay is over */
    CHILD_NOT_SPAWNED,   /* the system could not start it */
    CHILD_READY,         /* it said so */
    CHILD_DIED,          /* ended in whichever way but the next */
    CHILD_MISCONFIGURED, /* exit code 2 */
    CHILD_SILENT,        /* no sign of life for SUPERVISOR_SILENT_MS */
    CHILD_STOP,          /* we are asked to stop */
    CHILD_HURRY,         /* we are asked a second time */
    CHILD_OVERDUE,       /* the time for stopping is over */
    CHILD_EVENT_COUNT
};

enum child_action {
    CHILD_DO_NOTHING,
    CHILD_DO_SPAWN,
    CHILD_DO_TERM, /* SIGTERM: drain; a second one: hand back at once */
    CHILD_DO_KILL,
    CHILD_DO_DELAY,   /* wait until due_mono_ms */
    CHILD_DO_GIVE_UP, /* stop everything, exit with 2 */
};

struct child_record {
    enum child_state state;
    struct backoff backoff;
    int64_t started_mono_ms; /* last start */
    int64_t due_mono_ms;     /* while waiting */
    int64_t sign_mono_ms;    /* last sign of life; the start counts as one */
};

struct supervisor {
    unsigned count;
    struct child_record children[SUPERVISOR_CHILDREN_MAX];
};

/* All children are waiting and due at once. */
void supervisor_init(struct supervisor *supervisor, unsigned count, int64_t now_mono_ms);
/* Moves one child on and says what to do. Events that mean nothing in a state do nothing. */
enum child_action supervisor_step(struct supervisor *supervisor, unsigned child,
                                  enum child_event event, int64_t now_mono_ms);
void supervisor_note_sign(struct supervisor *supervisor, unsigned child, int64_t now_mono_ms);
/* All live children count as having just given a sign: after a time in which we did not run
 * ourselves. */
void supervisor_forgive(struct supervisor *supervisor, int64_t now_mono_ms);
/* The event that time brings for this child now, or CHILD_EVENT_COUNT. */
enum child_event supervisor_timed_event(const struct supervisor *supervisor, unsigned child,
                                        int64_t now_mono_ms);
/* Whether a process stands behind this state. */
bool supervisor_is_alive(const struct supervisor *supervisor, unsigned child);
bool supervisor_is_over(const struct supervisor *supervisor); /* all gone */
bool supervisor_all_running(const struct supervisor *supervisor);
const char *child_state_word(enum child_state state);

#endif
