/* What processes say of themselves, read: upstreams added up over all workers, and the documents as
 * they are. Pure. */
#ifndef PENSTOCK_API_FLEET_VIEW_H
#define PENSTOCK_API_FLEET_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/slice.h"

enum { FLEET_UPSTREAMS_MAX = 256, FLEET_MODELS_MAX = 4096, FLEET_NAME_SIZE = 129 };

struct fleet_upstream {
    char name[FLEET_NAME_SIZE];
    char kind[16];
    int64_t in_flight;
    int64_t concurrency; /* over all workers; 0: not known */
    int64_t tier, weight;
    int64_t calls, errors;
    double latency_ms; /* mean over workers, by calls */
    unsigned workers_up, workers_down, workers_paused, workers_unknown;
    bool is_paused; /* by an operator */
    char **models;  /* exact names and globs */
    unsigned models_count;
};

struct fleet {
    struct fleet_upstream *upstreams; /* sorted by name */
    unsigned upstreams_count;
    unsigned workers, brokers;
    bool is_complete; /* every worker knows the models of all its upstreams */
    struct buf
        texts; /* the workers' documents without their metrics, one after the other, '\n' between */
};

struct fleet *fleet_create(void);
void fleet_destroy(struct fleet *fleet);
/* One worker's document. ERR_INVALID: not one; nothing was added. */
MUST_CHECK int fleet_add_worker(struct fleet *fleet, struct slice document);
/* After the last document. */
void fleet_finish(struct fleet *fleet, const struct slice *paused, unsigned paused_count);
const struct fleet_upstream *fleet_find(const struct fleet *fleet, struct slice name);
/* Whether the upstream serves the model, by exact name or glob. */
bool fleet_serves(const struct fleet_upstream *upstream, struct slice model);
/* "up", "down", "paused" or "unknown" */
const char *fleet_state(const struct fleet_upstream *upstream);

#endif
