#include "broker/api/routes.h"

#include <stdio.h>
#include <string.h>

#include "broker/api/handlers.h"

#define NATIVE DIALECT_NATIVE
#define OPENAI DIALECT_OPENAI

static const struct route routes[] = {
    {"POST", "/v1/jobs", ACCESS_TENANT, BODY_JSON, NATIVE, handle_job_submit, NULL},
    {"GET", "/v1/jobs", ACCESS_TENANT, BODY_NONE, NATIVE, handle_jobs_list, NULL},
    {"POST", "/v1/jobs/bulk", ACCESS_TENANT, BODY_LINES, NATIVE, handle_jobs_bulk, begin_jobs_bulk},
    {"POST", "/v1/jobs/query", ACCESS_TENANT, BODY_JSON, NATIVE, handle_jobs_query, NULL},
    {"GET", "/v1/jobs/{}", ACCESS_TENANT, BODY_NONE, NATIVE, handle_job_get, NULL},
    {"DELETE", "/v1/jobs/{}", ACCESS_TENANT, BODY_NONE, NATIVE, handle_job_forget, NULL},
    {"GET", "/v1/jobs/{}/result", ACCESS_TENANT, BODY_NONE, NATIVE, handle_job_result, NULL},
    {"GET", "/v1/jobs/{}/events", ACCESS_TENANT, BODY_NONE, NATIVE, handle_job_events, NULL},
    {"POST", "/v1/jobs/{}/cancel", ACCESS_TENANT, BODY_NONE, NATIVE, handle_job_cancel, NULL},
    {"POST", "/v1/jobs/{}/retry", ACCESS_TENANT, BODY_NONE, NATIVE, handle_job_retry, NULL},
    {"GET", "/v1/queues", ACCESS_TENANT, BODY_NONE, NATIVE, handle_queues, NULL},
    {"GET", "/v1/queues/{}", ACCESS_TENANT, BODY_NONE, NATIVE, handle_queue, NULL},
    {"POST", "/v1/queues/{}/pause", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_queue_pause, NULL},
    {"POST", "/v1/queues/{}/resume", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_queue_resume, NULL},
    {"GET", "/v1/upstreams", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_upstreams, NULL},
    {"POST", "/v1/upstreams/{}/pause", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_upstream_pause,
     NULL},
    {"POST", "/v1/upstreams/{}/resume", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_upstream_resume,
     NULL},
    {"GET", "/v1/workers", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_workers, NULL},
    {"GET", "/v1/stats", ACCESS_ADMIN, BODY_NONE, NATIVE, handle_stats, NULL},
    {"GET", "/v1/models", ACCESS_TENANT, BODY_NONE, OPENAI, handle_models, NULL},
    {"GET", "/v1/models/{}", ACCESS_TENANT, BODY_NONE, OPENAI, handle_model, NULL},
    {"POST", "/v1/chat/completions", ACCESS_TENANT, BODY_JSON, OPENAI, handle_chat, NULL},
    {"POST", "/v1/completions", ACCESS_TENANT, BODY_JSON, OPENAI, handle_completions, NULL},
    {"POST", "/v1/embeddings", ACCESS_TENANT, BODY_JSON, OPENAI, handle_embeddings, NULL},
    {"GET", "/healthz", ACCESS_PUBLIC, BODY_NONE, NATIVE, handle_alive, NULL},
    {"HEAD", "/healthz", ACCESS_PUBLIC, BODY_NONE, NATIVE, handle_alive, NULL},
    {"GET", "/readyz", ACCESS_PUBLIC, BODY_NONE, NATIVE, handle_ready, NULL},
    {"HEAD", "/readyz", ACCESS_PUBLIC, BODY_NONE, NATIVE, handle_ready, NULL},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

/* Addresses that clients of the dialects know and that are not served: everything under them is
 * refused by name. */
static const struct {
    const char *prefix;
    enum api_dialect dialect;
} not_built[] = {
    {"/v1/responses", DIALECT_OPENAI},
    {"/v1/files", DIALECT_OPENAI},
    {"/v1/uploads", DIALECT_OPENAI},
    {"/v1/batches", DIALECT_OPENAI},
    {"/v1/images/generations", DIALECT_OPENAI},
    {"/v1/messages", DIALECT_ANTHROPIC},
};

/* Segment by segment; {} takes any non-empty one. */
static bool does_match(const char *pattern, struct slice path, struct slice *out_param)
{
    size_t at = 0;

    while (*pattern) {
        if (pattern[0] == '{') {
            size_t start = at;
            while (at < path.size && path.bytes[at] != '/')
                at++;
            if (at == start)
                return false;
            *out_param = (struct slice){.bytes = path.bytes + start, .size = at - start};
            pattern += 2;
        } else {
            if (at >= path.size || path.bytes[at] != *pattern)
                return false;
            at++;
            pattern++;
        }
    }
    return at == path.size;
}

static bool is_under(struct slice path, const char *prefix)
{
    size_t size = strlen(prefix);

    return path.size >= size && memcmp(path.bytes, prefix, size) == 0 &&
           (path.size == size || path.bytes[size] == '/');
}

/* Rows of one path stand together under one pattern; the first that matches decides which pattern
 * it is, so literal paths stand before those with {}. */
static const char *pattern_of(struct slice path, struct slice *out_param)
{
    for (size_t i = 0; i < ROUTES; i++)
        if (does_match(routes[i].path, path, out_param))
            return routes[i].path;
    return NULL;
}

static void find_method(const char *pattern, struct slice method, struct route_result *out)
{
    size_t used = 0;

    for (size_t i = 0; i < ROUTES; i++) {
        if (strcmp(routes[i].path, pattern) != 0)
            continue;
        out->dialect = routes[i].dialect;
        if (slice_is(method, routes[i].method)) {
            out->match = ROUTE_FOUND;
            out->route = &routes[i];
            return;
        }
        int added = snprintf(out->allow + used, sizeof(out->allow) - used, "%s%s",
                             used > 0 ? ", " : "", routes[i].method);
        CHECK(added > 0 && (size_t)added < sizeof(out->allow) - used);
        used += (size_t)added;
    }
    out->match = ROUTE_OTHER_METHOD;
}

void route_find(struct slice method, struct slice path, struct route_result *out)
{
    *out = (struct route_result){.match = ROUTE_UNKNOWN, .dialect = DIALECT_NATIVE};
    if (slice_is(method, "CONNECT") ||
        slice_is(method, "TRACE")) { /* of no path, whatever it says */
        out->match = ROUTE_OTHER_METHOD;
        (void)snprintf(out->allow, sizeof(out->allow), "GET, HEAD, POST, DELETE");
        return;
    }
    const char *pattern = pattern_of(path, &out->param);
    if (pattern) {
        find_method(pattern, method, out);
        return;
    }
    for (size_t i = 0; i < sizeof(not_built) / sizeof(not_built[0]); i++) {
        if (!is_under(path, not_built[i].prefix))
            continue;
        out->match = ROUTE_NOT_BUILT;
        out->dialect = not_built[i].dialect;
        return;
    }
}

const struct route *route_at(unsigned index)
{
    return index < ROUTES ? &routes[index] : NULL;
}
