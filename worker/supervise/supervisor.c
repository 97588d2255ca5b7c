/* Policy of the supervisor. The table is the whole of it: what is not in a row is ignored in that
 * state. */
#include "worker/supervise/supervisor.h"

#include <string.h>

struct arrow {
    bool is_legal;
    enum child_state next;
    enum child_action action;
};

#define GO(next_, action_)                                     \
    {                                                          \
        .is_legal = true, .next = (next_), .action = (action_) \
    }

static const struct arrow arrows[CHILD_STATE_COUNT][CHILD_EVENT_COUNT] =
    {
        [CHILD_WAITING] =
            {
                [CHILD_DUE] = GO(CHILD_STARTING, CHILD_DO_SPAWN),
                [CHILD_STOP] = GO(CHILD_GONE, CHILD_DO_NOTHING),
            },
        [CHILD_STARTING] =
            {
                [CHILD_NOT_SPAWNED] = GO(CHILD_WAITING, CHILD_DO_DELAY),
                [CHILD_READY] = GO(CHILD_RUNNING, CHILD_DO_NOTHING),
                [CHILD_DIED] = GO(CHILD_WAITING, CHILD_DO_DELAY),
                [CHILD_MISCONFIGURED] = GO(CHILD_GONE, CHILD_DO_GIVE_UP),
                [CHILD_SILENT] = GO(CHILD_STALLED, CHILD_DO_KILL),
                [CHILD_STOP] = GO(CHILD_STOPPING, CHILD_DO_TERM),
            },
        [CHILD_RUNNING] =
            {
                [CHILD_DIED] = GO(CHILD_WAITING, CHILD_DO_DELAY),
                [CHILD_MISCONFIGURED] = GO(CHILD_GONE, CHILD_DO_GIVE_UP),
                [CHILD_SILENT] = GO(CHILD_STALLED, CHILD_DO_KILL),
                [CHILD_STOP] = GO(CHILD_STOPPING, CHILD_DO_TERM),
            },
        [CHILD_STALLED] =
            {
                [CHILD_DIED] = GO(CHILD_WAITING, CHILD_DO_DELAY),
                [CHILD_MISCONFIGURED] = GO(CHILD_WAITING, CHILD_DO_DELAY),
                [CHILD_STOP] = GO(CHILD_ENDING, CHILD_DO_NOTHING),
            },
        [CHILD_STOPPING] =
            {
                [CHILD_DIED] = GO(CHILD_GONE, CHILD_DO_NOTHING),
                [CHILD_MISCONFIGURED] = GO(CHILD_GONE, CHILD_DO_NOTHING),
                [CHILD_SILENT] = GO(CHILD_ENDING, CHILD_DO_KILL),
                [CHILD_HURRY] = GO(CHILD_STOPPING, CHILD_DO_TERM),
                [CHILD_OVERDUE] = GO(CHILD_ENDING, CHILD_DO_KILL),
            },
        [CHILD_ENDING] =
            {
                [CHILD_DIED] = GO(CHILD_GONE, CHILD_DO_NOTHING),
                [CHILD_MISCONFIGURED] = GO(CHILD_GONE, CHILD_DO_NOTHING),
            },
};

/* What entering a state means for the record's times. */
static void enter(struct child_record *child, const struct arrow *arrow, int64_t now_mono_ms)
{
    child->state = arrow->next; /* lint: own state */
    if (arrow->action == CHILD_DO_SPAWN) {
        child->started_mono_ms = now_mono_ms;
        child->sign_mono_ms = now_mono_ms;
    }
    if (arrow->action == CHILD_DO_DELAY)
        child->due_mono_ms =
            now_mono_ms + backoff_next_ms(&child->backoff, now_mono_ms - child->started_mono_ms);
}

void supervisor_init(struct supervisor *supervisor, unsigned count, int64_t now_mono_ms)
{
    CHECK(count >= 1);
    CHECK(count <= SUPERVISOR_CHILDREN_MAX);
    memset(supervisor, 0, sizeof *supervisor);
    supervisor->count = count;
    for (unsigned i = 0; i < count; i++)
        supervisor->children[i] = (struct child_record){
            .backoff = {.min_ms = SUPERVISOR_DELAY_MIN_MS,
                        .max_ms = SUPERVISOR_DELAY_MAX_MS,
                        .reset_ms = SUPERVISOR_PROVEN_MS},
            .due_mono_ms = now_mono_ms,
        };
}

enum child_action supervisor_step(struct supervisor *supervisor, unsigned child,
                                  enum child_event event, int64_t now_mono_ms)
{
    CHECK(child < supervisor->count);
    CHECK(event < CHILD_EVENT_COUNT);

    struct child_record *record = &supervisor->children[child];
    CHECK(record->state < CHILD_STATE_COUNT);
    const struct arrow *arrow = &arrows[record->state][event];
    if (!arrow->is_legal)
        return CHILD_DO_NOTHING;
    enter(record, arrow, now_mono_ms);
    return arrow->action;
}

void supervisor_note_sign(struct supervisor *supervisor, unsigned child, int64_t now_mono_ms)
{
    CHECK(child < supervisor->count);
    supervisor->children[child].sign_mono_ms = now_mono_ms;
}

void supervisor_forgive(struct supervisor *supervisor, int64_t now_mono_ms)
{
    for (unsigned i = 0; i < supervisor->count; i++)
        supervisor->children[i].sign_mono_ms = now_mono_ms;
}

bool supervisor_is_alive(const struct supervisor *supervisor, unsigned child)
{
    CHECK(child < supervisor->count);
    switch (supervisor->children[child].state) {
    case CHILD_STARTING:
    case CHILD_RUNNING:
    case CHILD_STALLED:
    case CHILD_STOPPING:
    case CHILD_ENDING:
        return true;
    case CHILD_WAITING:
    case CHILD_GONE:
    case CHILD_STATE_COUNT:
        break;
    }
    return false;
}

enum child_event supervisor_timed_event(const struct supervisor *supervisor, unsigned child,
                                        int64_t now_mono_ms)
{
    CHECK(child < supervisor->count);
    const struct child_record *record = &supervisor->children[child];

    if (record->state == CHILD_WAITING)
        return now_mono_ms >= record->due_mono_ms ? CHILD_DUE : CHILD_EVENT_COUNT;
    if (supervisor_is_alive(supervisor, child) &&
        now_mono_ms - record->sign_mono_ms >= SUPERVISOR_SILENT_MS)
        return CHILD_SILENT;
    return CHILD_EVENT_COUNT;
}

bool supervisor_is_over(const struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->count; i++)
        if (supervisor->children[i].state != CHILD_GONE)
            return false;
    return true;
}

bool supervisor_all_running(const struct supervisor *supervisor)
{
    for (unsigned i = 0; i < supervisor->count; i++)
        if (supervisor->children[i].state != CHILD_RUNNING)
            return false;
    return true;
}

const char *child_state_word(enum child_state state)
{
    static const char *const words[CHILD_STATE_COUNT] = {
#define CHILD_STATE_WORD(name, word) [name] = word,
        CHILD_STATE_LIST(CHILD_STATE_WORD)
#undef CHILD_STATE_WORD
    };
    CHECK(state < CHILD_STATE_COUNT);
    return words[state];
}
