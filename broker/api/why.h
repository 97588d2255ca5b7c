/* Why a job waits and where it stands, in words and as a number. Pure: samples in, view out. */
#ifndef PENSTOCK_API_WHY_H
#define PENSTOCK_API_WHY_H

#include "broker/api/fleet_view.h"
#include "broker/api/render.h"
#include "common/queue/queue_fleet.h"

/* census and fleet: NULL when nothing is known yet. */
void why_explain(const struct job *job, const struct queue_census *census,
                 const struct fleet *fleet, int64_t now_ms, struct job_view *out);
/* 1 is next; 0: not known. Jobs of better bands come first; inside the band the own tenant's older
 * jobs, and of each other tenant as many, because tenants take turns. */
int64_t why_position(const struct job *job, const struct queue_route *route);
const struct queue_route *why_find_route(const struct queue_census *census, struct slice name);

#endif
