/* The supervisor's process: starts the children, replaces the dead, hands their tickets on, passes
 * signals. No libuv, no Redis, no HTTP: plain poll() over descriptors, so that nothing from outside
 * can upset it. */
#ifndef PENSTOCK_SUPERVISE_PARENT_H
#define PENSTOCK_SUPERVISE_PARENT_H

#include "common/base/check.h"

/* What a reload may change. */
struct parent_plan {
    int config_fd; /* the checked configuration's text, handed to children as "CONFIG"; owned by the
                      parent */
    int stop_timeout_ms; /* from the first signal until the rest is killed */
};

struct parent_options {
    const char *child_path;  /* the program the children run */
    unsigned children_count; /* 1..SUPERVISOR_CHILDREN_MAX */
    const int *gpu_ids;      /* children_count ids: child i sees only that GPU; NULL: all see all */
    struct parent_plan plan;
    int ready_fd; /* gets "ready\n" once all children run, then is closed; -1: none */
    /* SIGHUP: reads and checks the configuration again; 0 and a plan, or negative: the old one
     * stays. */
    int (*on_reload)(struct parent_plan *out, void *arg);
    void *arg;
};

/* Returns the exit code when all children are gone: 0 after a clean stop, 1 when some had to be
 * killed, 2 when a child found the configuration wrong. */
MUST_CHECK int parent_run(const struct parent_options *options);

#endif
