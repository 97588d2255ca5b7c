#include "broker/api/census_copy.h"

#include <stdlib.h>
#include <string.h>

struct census_copy *census_copy_create(const struct queue_census *census)
{
    size_t lanes_count = 0;
    size_t names_size = 0;
    struct census_copy *copy = calloc(1, sizeof(*copy));

    if (!copy)
        return NULL;
    for (unsigned i = 0; i < census->routes_count; i++) {
        lanes_count += census->routes[i].lanes_count;
        names_size += census->routes[i].name.size;
    }
    copy->census = *census;
    copy->routes = calloc(census->routes_count + 1, sizeof(*copy->routes));
    copy->lanes = calloc(lanes_count + 1, sizeof(*copy->lanes));
    copy->names = calloc(1, names_size + 1);
    if (!copy->routes || !copy->lanes || !copy->names) {
        census_copy_destroy(copy);
        return NULL;
    }

    struct queue_lane *lanes = copy->lanes;
    char *names = copy->names;
    for (unsigned i = 0; i < census->routes_count; i++) {
        const struct queue_route *from = &census->routes[i];
        struct queue_route *to = &copy->routes[i];
        *to = *from;
        if (from->name.size > 0)
            memcpy(names, from->name.bytes, from->name.size);
        to->name = (struct slice){.bytes = names, .size = from->name.size};
        names += from->name.size;
        if (from->lanes_count > 0)
            memcpy(lanes, from->lanes, from->lanes_count * sizeof(*lanes));
        to->lanes = lanes;
        lanes += from->lanes_count;
    }
    copy->census.routes = copy->routes;
    return copy;
}

void census_copy_destroy(struct census_copy *copy)
{
    if (!copy)
        return;
    free(copy->routes);
    free(copy->lanes);
    free(copy->names);
    free(copy);
}
