/* Finds out which upstreams are there and what they serve, and writes it into the router. Knows no
 * providers: what to ask and how to read the answer comes with the targets.
 *
 * An upstream is probed with GET origin + health every HEALTH_MS, every HEALTH_DOWN_MS while it is
 * down; any answer below 500 means that it lives (many have no such path). It is down after the
 * first failure when nothing was known of it, and after the second in a row when it was up. Without
 * `models:` it is asked for its list every HEALTH_MODELS_MS. All waits vary by a tenth. */
#ifndef PENSTOCK_UPSTREAM_HEALTH_H
#define PENSTOCK_UPSTREAM_HEALTH_H

#include "common/base/check.h"
#include "common/base/slice.h"

struct uv_loop_s;
struct upstream_pool;
struct router;
struct health;

enum {
    HEALTH_MS = 10 * 1000,
    HEALTH_DOWN_MS = 1000,
    HEALTH_MODELS_MS = 60 * 1000,
    HEALTH_MODELS_AGAIN_MS = 5 * 1000, /* after a list that could not be read */
    HEALTH_TIMEOUT_MS = 5 * 1000
};

struct health_target {
    const char *models_path; /* appended to base_url; kept */
    /* As provider.h says. */
    int (*list_models)(struct slice body, void (*on_model)(struct slice name, void *arg),
                       void *arg);
    struct slice header; /* one line for both requests, with the key; empty: none; kept */
};

struct health_options {
    struct uv_loop_s *loop;
    struct upstream_pool *pool;          /* kept, must outlive the health's closing */
    struct router *router;               /* kept, likewise */
    const struct health_target *targets; /* one per upstream of the router; kept */
    /* Something in the router changed. May be NULL. */
    void (*on_change)(unsigned upstream, void *arg);
    void *arg;
};
/* The first questions go out in the next loop turn. ERR_NOMEM. */
MUST_CHECK int health_start(const struct health_options *options, struct health **out);
/* No on_change comes any more; on_closed comes once, later. */
void health_stop(struct health *health, void (*on_closed)(void *arg), void *arg);

#endif
