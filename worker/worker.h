/* One child: a libuv loop with the queue, the upstreams and the runner on it, from start to drain.
 */
#ifndef PENSTOCK_WORKER_WORKER_H
#define PENSTOCK_WORKER_WORKER_H

#include "common/base/check.h"

struct worker_options {
    unsigned child;    /* 0..children-1 */
    unsigned children; /* of this host, as started */
    int config_fd;     /* the configuration's text; taken */
    int status_fd;     /* to the supervisor; taken */
    int tickets_fd;    /* where the jobs we hold are noted; taken */
};

/* Runs until it was drained. Exit code: 0; 1 when something was left undone; 2 wrong configuration.
 */
MUST_CHECK int worker_run(const struct worker_options *options);

#endif
