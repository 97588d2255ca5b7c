/* The upstreams of one configuration: who serves what, how much each may take, its key, its retry
 * budget. A reload makes a new set; calls that run keep the old one alive until they end, and count
 * against the new one meanwhile. */
#ifndef PENSTOCK_RUN_UPSTREAM_SET_H
#define PENSTOCK_RUN_UPSTREAM_SET_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/job/outcome.h"
#include "worker/limit/limiter.h"
#include "worker/run/retry.h"
#include "worker/upstream/route.h"

struct upstream_set {
    struct settings *settings; /* owned */
    struct router *router;
    struct limiter *limiter;
    unsigned count;
    /* Of each upstream: the key, "" = none (it belongs to the environment); the header line that
     * carries it, empty without a key; why it is never used, such as "api_key_missing", or NULL;
     * calls of older sets to it that still run. */
    const char *keys[SETTINGS_UPSTREAMS_MAX];
    struct buf key_headers[SETTINGS_UPSTREAMS_MAX];
    const char *blocked[SETTINGS_UPSTREAMS_MAX];
    unsigned carried[SETTINGS_UPSTREAMS_MAX];
    struct retry_budget budgets[SETTINGS_UPSTREAMS_MAX];
    unsigned references;
};

/* Takes settings, also when it fails. older: the set it replaces, or NULL. One reference is the
 * caller's. */
MUST_CHECK int upstream_set_create(struct settings *settings, unsigned child, unsigned children,
                                   const struct upstream_set *older, struct upstream_set **out);
void upstream_set_retain(struct upstream_set *set);
void upstream_set_release(struct upstream_set *set); /* NULL is legal */

/* Whether any upstream could take a call now, of whatever route. */
bool upstream_set_has_room(const struct upstream_set *set);

void upstream_set_note_start(struct upstream_set *set, unsigned upstream, bool is_retry);
/* current: the set in use now, maybe a newer one. */
void upstream_set_note_end(struct upstream_set *set, unsigned upstream,
                           struct upstream_set *current, const struct outcome *outcome,
                           double latency_ms);

#endif
