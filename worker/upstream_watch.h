/* Keeps the health and the listed models of one upstream set up to date: where health (which knows
 * no providers) and the providers' model lists meet. */
#ifndef PENSTOCK_WORKER_UPSTREAM_WATCH_H
#define PENSTOCK_WORKER_UPSTREAM_WATCH_H

#include <uv.h>

#include "worker/run/upstream_set.h"
#include "worker/upstream/upstream.h"

struct upstream_watch;

struct upstream_watch_options {
    uv_loop_t *loop;
    struct upstream_pool *pool; /* kept until on_stopped */
    struct upstream_set *set;   /* a reference is taken */
    void (*on_change)(unsigned upstream, void *arg);
    void (*on_stopped)(void *arg); /* after stop; the memory is gone then */
    void *arg;
};

/* ERR_NOMEM. */
MUST_CHECK int upstream_watch_start(const struct upstream_watch_options *options,
                                    struct upstream_watch **out);
/* No on_change comes any more; on_stopped comes later, once. */
void upstream_watch_stop(struct upstream_watch *watch);

#endif
