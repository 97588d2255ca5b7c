/* Which handler answers which method and path, and what has to hold before it is asked. Pure. */
#ifndef PENSTOCK_API_ROUTES_H
#define PENSTOCK_API_ROUTES_H

#include <stdbool.h>

#include "broker/api/errors.h"
#include "common/base/slice.h"

struct context;

enum route_access { ACCESS_PUBLIC, ACCESS_TENANT, ACCESS_ADMIN };
/* none: a body is at most "{}"; json: collected; lines: streamed to on_bytes */
enum route_body { BODY_NONE, BODY_JSON, BODY_LINES };

struct route {
    const char *method;
    const char *path; /* "/v1/jobs/{}/result": {} stands for one segment */
    enum route_access access;
    enum route_body body;
    enum api_dialect dialect;
    void (*run)(struct context *context);   /* once the whole body is there */
    void (*begin)(struct context *context); /* streamed bodies: before the first byte */
};

enum route_match { ROUTE_FOUND, ROUTE_OTHER_METHOD, ROUTE_UNKNOWN, ROUTE_NOT_BUILT };

struct route_result {
    enum route_match match;
    const struct route *route; /* when found */
    struct slice param;        /* the segment for {}, still percent-encoded */
    enum api_dialect dialect;  /* of the errors for this path */
    char allow[64];            /* methods of this path, when the method is another */
};

void route_find(struct slice method, struct slice path, struct route_result *out);
/* For the test that compares the table with the documents. */
const struct route *route_at(unsigned index); /* NULL past the end */

#endif
