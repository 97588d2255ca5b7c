#include "broker/api/queue_view.h"

#include <string.h>

#include "common/base/jdoc.h"

struct share { /* of a route's waiting jobs */
    int64_t depth[JOB_PRIORITY_COUNT];
    int64_t oldest_at_ms; /* 0: none waits */
};

static struct share share_of(const struct queue_route *route,
                             const struct queue_view_options *options)
{
    struct share share = {.oldest_at_ms = 0};

    for (unsigned i = 0; i < route->lanes_count; i++) {
        const struct queue_lane *lane = &route->lanes[i];
        if (options->tenant_hash &&
            memcmp(lane->tenant, options->tenant_hash, JOB_TENANT_SIZE) != 0)
            continue;
        CHECK(lane->priority < JOB_PRIORITY_COUNT);
        share.depth[lane->priority] += lane->depth;
        if (lane->depth > 0 && (share.oldest_at_ms == 0 || lane->head_at_ms < share.oldest_at_ms))
            share.oldest_at_ms = lane->head_at_ms;
    }
    return share;
}

bool queue_view_is_visible(const struct queue_route *route,
                           const struct queue_view_options *options)
{
    if (!options->tenant_hash)
        return true;
    const struct share share = share_of(route, options);
    return share.depth[JOB_HIGH] + share.depth[JOB_NORMAL] + share.depth[JOB_LOW] > 0;
}

static int64_t ended_of(const struct queue_route *route)
{
    return route->succeeded + route->failed + route->cancelled + route->expired;
}

static int put_totals(struct buf *out, const struct queue_route *route)
{
    return buf_printf(out,
                      ",\"totals\":{\"submitted\":%lld,\"succeeded\":%lld,\"failed\":%lld,"
                      "\"cancelled\":%lld,\"expired\":%lld,\"retried\":%lld}",
                      (long long)route->submitted, (long long)route->succeeded,
                      (long long)route->failed, (long long)route->cancelled,
                      (long long)route->expired, (long long)route->retried);
}

static double per_second(int64_t now, int64_t before, int64_t ms)
{
    return now > before && ms > 0 ? (double)(now - before) * 1000 / (double)ms : 0;
}

/* null until there are two samples to compare */
static int put_rates(struct buf *out, const struct queue_route *now,
                     const struct queue_route *before, int64_t ms)
{
    if (!before)
        return buf_append_text(out, ",\"rates\":null");
    return buf_printf(out,
                      ",\"rates\":{\"submitted_per_second\":%.2f,\"finished_per_second\":%.2f}",
                      per_second(now->submitted, before->submitted, ms),
                      per_second(ended_of(now), ended_of(before), ms));
}

static const struct queue_route *find(const struct queue_census *census, struct slice name)
{
    for (unsigned i = 0; census && i < census->routes_count; i++)
        if (slice_equal(census->routes[i].name, name))
            return &census->routes[i];
    return NULL;
}

int queue_view_put(struct buf *out, const struct queue_route *route,
                   const struct queue_view_options *options)
{
    const struct share share = share_of(route, options);
    int64_t listed = share.depth[JOB_HIGH] + share.depth[JOB_NORMAL] + share.depth[JOB_LOW];
    int64_t depth = options->tenant_hash || route->waiting < listed ? listed : route->waiting;
    int64_t oldest_at_ms = options->tenant_hash ? share.oldest_at_ms : route->oldest_at_ms;
    int status = buf_append_text(out, "{\"object\":\"queue\",\"route\":");

    if (status == 0)
        status = json_put_string(out, route->name.bytes, route->name.size);
    if (status == 0)
        status = buf_printf(out,
                            ",\"paused\":%s,\"depth\":%lld,\"depth_by_priority\":{\"high\":%lld,"
                            "\"normal\":%lld,\"low\":%lld},\"oldest_age_ms\":",
                            route->is_paused ? "true" : "false", (long long)depth,
                            (long long)share.depth[JOB_HIGH], (long long)share.depth[JOB_NORMAL],
                            (long long)share.depth[JOB_LOW]);
    if (status == 0 && oldest_at_ms > 0)
        status = buf_printf(
            out, "%lld",
            (long long)(options->now_ms > oldest_at_ms ? options->now_ms - oldest_at_ms : 0));
    else if (status == 0)
        status = buf_append_text(out, "null");
    if (status < 0 || options->tenant_hash)
        return status < 0 ? status : buf_append_char(out, '}');

    /* Running or waiting for another try: what was submitted and neither waits nor has ended. */
    int64_t in_flight = route->submitted - ended_of(route) - route->waiting;
    status = buf_printf(out, ",\"in_flight\":%lld", (long long)(in_flight > 0 ? in_flight : 0));
    if (status == 0)
        status = put_rates(out, route, find(options->before, route->name), options->before_ms);
    if (status == 0)
        status = put_totals(out, route);
    return status == 0 ? buf_append_char(out, '}') : status;
}

static struct queue_route sum_of(const struct queue_census *census)
{
    struct queue_route sum = {.waiting = 0};

    for (unsigned i = 0; i < census->routes_count; i++) {
        const struct queue_route *route = &census->routes[i];
        sum.waiting += route->waiting;
        sum.submitted += route->submitted;
        sum.succeeded += route->succeeded;
        sum.failed += route->failed;
        sum.cancelled += route->cancelled;
        sum.expired += route->expired;
        sum.retried += route->retried;
    }
    return sum;
}

int queue_view_put_totals(struct buf *out, const struct queue_census *census,
                          const struct queue_view_options *options)
{
    const struct queue_route now = sum_of(census);
    struct queue_route before;

    int status =
        buf_printf(out,
                   ",\"jobs\":{\"live\":%lld,\"queued\":%lld,\"running\":%lld,"
                   "\"scheduled\":%lld,\"bytes\":%lld}",
                   (long long)census->live_jobs, (long long)now.waiting, (long long)census->running,
                   (long long)census->scheduled, (long long)census->live_bytes);
    if (status == 0)
        status = put_totals(out, &now);
    if (options->before)
        before = sum_of(options->before);
    if (status == 0)
        status = put_rates(out, &now, options->before ? &before : NULL, options->before_ms);
    return status;
}
