#include "broker/api/why.h"

#include <stdio.h>
#include <string.h>

/* ---- where it stands ------------------------------------------------------------------------- */

const struct queue_route *why_find_route(const struct queue_census *census, struct slice name)
{
    for (unsigned i = 0; census && i < census->routes_count; i++)
        if (slice_equal(census->routes[i].name, name))
            return &census->routes[i];
    return NULL;
}

/* Tickets of a lane that are older than at_ms, if they came at an even pace. */
static double older_in(const struct queue_lane *lane, int64_t at_ms)
{
    if (lane->depth == 0 || at_ms <= lane->head_at_ms)
        return 0;
    if (at_ms > lane->tail_at_ms)
        return (double)lane->depth;
    return (double)lane->depth * (double)(at_ms - lane->head_at_ms) /
           (double)(lane->tail_at_ms - lane->head_at_ms + 1);
}

static bool is_own(const struct queue_lane *lane, const struct job *job)
{
    return memcmp(lane->tenant, job->tenant, JOB_TENANT_SIZE) == 0;
}

/* Lanes of one tenant in one band are one lane per shard: shared over the lanes of the others by
 * their depth. */
int64_t why_position(const struct job *job, const struct queue_route *route)
{
    double ahead = 0;
    double own = 0;
    int64_t own_depth = 0;
    int64_t other_depth = 0;

    for (unsigned i = 0; i < route->lanes_count; i++) {
        const struct queue_lane *lane = &route->lanes[i];
        if (lane->priority < job->priority)
            ahead += (double)lane->depth;
        if (lane->priority != job->priority)
            continue;
        if (is_own(lane, job)) {
            own += older_in(lane, job->created_at_ms);
            own_depth += lane->depth;
        } else {
            other_depth += lane->depth;
        }
    }
    if (own > (double)own_depth)
        own = (double)own_depth;
    /* Others take turns with us: they pass us as often as we move, until they run dry. */
    double others = own + 1 < (double)other_depth ? own : (double)other_depth;
    return (int64_t)(ahead + own + others) + 1;
}

/* ---- why it waits ---------------------------------------------------------------------------- */

struct pool { /* the upstreams that serve a route */
    unsigned count, paused, down, full;
    const struct fleet_upstream *first_full, *first_paused, *first_down;
};

static void look_at_pool(const struct fleet *fleet, struct slice route, struct pool *out)
{
    *out = (struct pool){.count = 0};
    for (unsigned i = 0; i < fleet->upstreams_count; i++) {
        const struct fleet_upstream *upstream = &fleet->upstreams[i];
        if (!fleet_serves(upstream, route))
            continue;
        const char *state = fleet_state(upstream);
        out->count++;
        if (strcmp(state, "paused") == 0) {
            out->paused++;
            out->first_paused = out->first_paused ? out->first_paused : upstream;
        } else if (strcmp(state, "down") == 0) {
            out->down++;
            out->first_down = out->first_down ? out->first_down : upstream;
        } else if (upstream->concurrency > 0 && upstream->in_flight >= upstream->concurrency) {
            out->full++;
            out->first_full = out->first_full ? out->first_full : upstream;
        }
    }
}

static void say_pool(const struct fleet *fleet, const struct pool *pool, char why[RENDER_WHY_SIZE])
{
    if (pool->count == 0) {
        bool is_sure = fleet->is_complete && fleet->workers > 0;
        snprintf(why, RENDER_WHY_SIZE, "%s",
                 is_sure ? "no worker serves this model" : "waiting its turn");
        return;
    }
    if (pool->paused + pool->down + pool->full < pool->count) {
        snprintf(why, RENDER_WHY_SIZE, "waiting its turn");
        return;
    }
    const char *more = pool->count > 1 ? " (and of all others that serve this model)" : "";
    if (pool->first_full)
        snprintf(why, RENDER_WHY_SIZE, "waiting for upstream %s: %lld of %lld calls in flight%s",
                 pool->first_full->name, (long long)pool->first_full->in_flight,
                 (long long)pool->first_full->concurrency, pool->full == pool->count ? more : "");
    else if (pool->first_down)
        snprintf(why, RENDER_WHY_SIZE, "waiting for upstream %s: it is down",
                 pool->first_down->name);
    else
        snprintf(why, RENDER_WHY_SIZE, "waiting for upstream %s: it is paused",
                 pool->first_paused->name);
}

static void say_queued(const struct job *job, const struct queue_census *census,
                       const struct fleet *fleet, struct job_view *out)
{
    const struct queue_route *route = why_find_route(census, job->route);
    struct pool pool;

    if (route) {
        out->position = why_position(job, route);
        if (route->is_paused) {
            snprintf(out->why, sizeof(out->why), "paused");
            return;
        }
    } else if (census) {
        out->position = 1; /* nobody waits there */
    }
    if (!fleet) {
        snprintf(out->why, sizeof(out->why), "waiting its turn");
    } else if (fleet->workers == 0) {
        snprintf(out->why, sizeof(out->why), "no worker is running");
    } else {
        look_at_pool(fleet, job->route, &pool);
        say_pool(fleet, &pool, out->why);
    }
}

static void say_scheduled(const struct job *job, int64_t now_ms, struct job_view *out)
{
    double seconds = job->due_at_ms > now_ms ? (double)(job->due_at_ms - now_ms) / 1000 : 0;
    const struct job_attempt *last =
        job->attempts_count > 0 ? &job->attempts[job->attempts_count - 1] : NULL;

    if (job->attempt == 0 && !last)
        snprintf(out->why, sizeof(out->why), "waiting for its due time, in %.1f s", seconds);
    else if (!last || last->error_code.size == 0)
        snprintf(out->why, sizeof(out->why), "retrying in %.1f s", seconds);
    else if (last->http_status > 0)
        snprintf(out->why, sizeof(out->why), "retrying in %.1f s after %.*s (%d)", seconds,
                 (int)last->error_code.size, last->error_code.bytes, last->http_status);
    else
        snprintf(out->why, sizeof(out->why), "retrying in %.1f s after %.*s", seconds,
                 (int)last->error_code.size, last->error_code.bytes);
}

void why_explain(const struct job *job, const struct queue_census *census,
                 const struct fleet *fleet, int64_t now_ms, struct job_view *out)
{
    out->why[0] = '\0';
    out->position = 0;
    switch (job->state) {
    case JOB_QUEUED:
        say_queued(job, census, fleet, out);
        break;
    case JOB_SCHEDULED:
        say_scheduled(job, now_ms, out);
        break;
    case JOB_RUNNING:
        if (job->upstream.size > 0)
            snprintf(out->why, sizeof(out->why), "running at upstream %.*s",
                     (int)(job->upstream.size < 128 ? job->upstream.size : 128),
                     job->upstream.bytes);
        else
            snprintf(out->why, sizeof(out->why), "running");
        break;
    case JOB_BLOCKED:
        snprintf(out->why, sizeof(out->why), "waiting for other jobs");
        break;
    case JOB_SUCCEEDED:
    case JOB_FAILED:
    case JOB_CANCELLED:
    case JOB_EXPIRED:
    case JOB_STATE_COUNT:
        break;
    }
}
