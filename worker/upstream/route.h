/* Which upstream serves a route now. Knows names, tiers, weights and what health.c found out; how
 * many calls an upstream may take is asked of a gate (worker/limit) the owner sets. No I/O, no
 * clock.
 *
 * A route is a model as clients name it. Its upstream model is the same, or what `aliases` make of
 * it. An upstream serves a model by its exact name, or by a glob; with no `models:` it serves what
 * it lists itself. Candidates are looked at in groups: by tier, inside a tier exact names before
 * globs. The first group with a usable upstream decides: that one of it with the least calls in
 * flight by weight gets the call, or, when all of it are full, the job waits. A usable upstream is
 * not down, not paused, and its gate is open. */
#ifndef PENSTOCK_UPSTREAM_ROUTE_H
#define PENSTOCK_UPSTREAM_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/settings.h"
#include "common/base/slice.h"

enum {
    ROUTER_MODELS_MAX = 1024, /* of one upstream, as it lists them */
    ROUTER_NAME_BYTES_MAX = 256
};

enum router_health { ROUTER_UNKNOWN, ROUTER_UP, ROUTER_DOWN };
const char *router_health_word(enum router_health health);

struct router;

/* The limits, seen from here. upstream is the index in the settings. */
struct router_gate {
    bool (*is_open)(unsigned upstream,
                    void *arg); /* false: as good as down for now (breaker, Retry-After) */
    unsigned (*room)(unsigned upstream, void *arg); /* calls that may start now */
    unsigned (*in_flight)(unsigned upstream, void *arg);
    void *arg;
};

/* settings: kept. Without a gate every upstream has room for everything. */
MUST_CHECK int router_create(const struct settings *settings, struct router **out);
void router_destroy(struct router *router);
void router_set_gate(struct router *router, const struct router_gate *gate);

unsigned router_count(const struct router *router);
const struct settings_upstream *router_upstream(const struct router *router, unsigned upstream);
enum router_health router_health(const struct router *router, unsigned upstream);
bool router_is_paused(const struct router *router, unsigned upstream);
void router_set_health(struct router *router, unsigned upstream, enum router_health health);
/* All others run. Unknown names are skipped. */
void router_set_paused(struct router *router, const struct slice *names, unsigned count);
/* The models an upstream without `models:` lists; names too long or too many are left out. 1: the
 * list changed, 0: it did not (never for others); ERR_NOMEM. */
MUST_CHECK int router_set_models(struct router *router, unsigned upstream,
                                 const struct slice *names, unsigned count);
/* What it serves: from the settings, or learned. */
unsigned router_models_count(const struct router *router, unsigned upstream);
const char *router_model(const struct router *router, unsigned upstream, unsigned model);

/* The name the upstreams know the route by: borrowed, from the settings or the route itself. */
struct slice router_upstream_model(const struct router *router, struct slice route);
/* Whether any upstream serves the route, usable or not. */
bool router_knows(const struct router *router, struct slice route);
/* How many calls of the route may start now. */
unsigned router_room(const struct router *router, struct slice route);
/* The upstream for one call, leaving out those whose bit (1 << index) is set in tried.
 * ERR_NOT_FOUND: no upstream serves it; ERR_OFFLINE: none of them is usable (or all were tried);
 * ERR_BUSY: no room now. */
MUST_CHECK int router_pick(struct router *router, struct slice route, uint64_t tried,
                           unsigned *out_upstream);
/* Every route that can be named: exact models, learned models, aliases of something served. Each
 * once. */
void router_each_route(const struct router *router, void (*on_route)(struct slice route, void *arg),
                       void *arg);

#endif
