/* The supervisor's process: starts the children, replaces the dead, hands their tickets on, passes
 * signals. No libuv, no Redis, no HTTP: plain poll() over descriptors, so that nothing from outside
 * can upset it. */
#ifndef PENSTOCK_SUPERVISE_PARENT_H
#define PENSTOCK_SUPERVISE_PARENT_H

#include "common/base/check.h"

struct parent_options {
    unsigned children_count; /* 1..SUPERVISOR_CHILDREN_MAX */
    const int *gpu_ids;      /* children_count ids: child i sees only that GPU; NULL: all see all */
    const char *config_path; /* passed on as --config; NULL: none */
    int stop_timeout_ms;     /* from the first signal until the rest is killed */
    int ready_fd;            /* gets "ready\n" once all children run, then is closed; -1: none */
    /* SIGHUP: reads and checks the configuration; 0 and the new stop_timeout_ms, or negative:
     * children keep the old. */
    int (*on_reload)(int *out_stop_timeout_ms, void *arg);
    void *arg;
};

/* Returns the exit code when all children are gone: 0 after a clean stop, 1 when some had to be
 * killed, 2 when a child found the configuration wrong. */
MUST_CHECK int parent_run(const struct parent_options *options);

#endif
