/* A census that stays: the queue's is only there during its callback. */
#ifndef PENSTOCK_API_CENSUS_COPY_H
#define PENSTOCK_API_CENSUS_COPY_H

#include "common/queue/queue_fleet.h"

struct census_copy {
    struct queue_census census;
    struct queue_route *routes;
    struct queue_lane *lanes;
    char *names;
};

struct census_copy *census_copy_create(const struct queue_census *census); /* NULL: no memory */
void census_copy_destroy(struct census_copy *copy);

#endif
