/* Routes as the API tells them. Pure. */
#ifndef PENSTOCK_API_QUEUE_VIEW_H
#define PENSTOCK_API_QUEUE_VIEW_H

#include "common/base/buf.h"
#include "common/queue/queue_fleet.h"

struct queue_view_options {
    const char *tenant_hash; /* JOB_TENANT_SIZE characters: only this tenant's share; NULL: all */
    int64_t now_ms;
    const struct queue_census *before; /* for rates; NULL: none */
    int64_t before_ms;                 /* how long before */
};

/* Tenants see the queues they have jobs in. */
bool queue_view_is_visible(const struct queue_route *route,
                           const struct queue_view_options *options);
MUST_CHECK int queue_view_put(struct buf *out, const struct queue_route *route,
                              const struct queue_view_options *options);
/* ,"jobs":{…},"totals":{…},"rates":{…} over all routes */
MUST_CHECK int queue_view_put_totals(struct buf *out, const struct queue_census *census,
                                     const struct queue_view_options *options);

#endif
