/* Routes as they stand, pauses, and what processes publish of themselves. Rules of queue.h hold. */
#ifndef PENSTOCK_QUEUE_QUEUE_FLEET_H
#define PENSTOCK_QUEUE_QUEUE_FLEET_H

#include "common/queue/queue.h"

/* One (route, priority, tenant) list in one shard, or a route's totals. */
struct queue_lane {
    unsigned shard;
    enum job_priority priority;
    char tenant[JOB_TENANT_SIZE];
    int64_t depth;
    int64_t head_at_ms; /* creation time of the first and last ticket, 0 when empty */
    int64_t tail_at_ms;
};
struct queue_route {
    struct slice name;
    bool is_paused;
    int64_t waiting;      /* tickets, over all shards */
    int64_t oldest_at_ms; /* 0 when none waits */
    /* totals since the store began */
    int64_t submitted, succeeded, failed, cancelled, expired, retried;
    const struct queue_lane *lanes;
    unsigned lanes_count; /* <= 256, the largest */
};
struct queue_census {
    int status;
    const struct queue_route *routes;
    unsigned routes_count;
    int64_t running;   /* leases */
    int64_t scheduled; /* waiting for a due time */
    int64_t live_jobs; /* queued + scheduled + running, all tenants */
    int64_t live_bytes;
};
typedef void (*queue_census_fn)(const struct queue_census *census, void *arg);
/* Every known route (<= routes_max). The caller caches: one call costs Redis about 10 us a shard
 * and route. */
void queue_take_census(struct queue *queue, queue_census_fn on_census, void *arg);
/* Live jobs and bytes of one tenant, summed over shards. */
typedef void (*queue_tenant_fn)(int status, int64_t jobs, int64_t bytes, void *arg);
void queue_tenant_usage(struct queue *queue, const char tenant[JOB_TENANT_SIZE],
                        queue_tenant_fn on_usage, void *arg);

typedef void (*queue_status_fn)(int status, void *arg);
void queue_pause_route(struct queue *queue, struct slice route, bool paused,
                       queue_status_fn on_done, void *arg);
void queue_pause_upstream(struct queue *queue, struct slice name, bool paused,
                          queue_status_fn on_done, void *arg);
/* Names of paused upstreams. */
typedef void (*queue_names_fn)(int status, const struct slice *names, unsigned count, void *arg);
void queue_paused_upstreams(struct queue *queue, queue_names_fn on_names, void *arg);

/* What a process says of itself: a JSON object (<= 64 KiB) that lives ttl_ms from the last publish.
 * kind is "worker" or "broker". */
void queue_publish(struct queue *queue, const char *kind, struct slice document, int64_t ttl_ms,
                   queue_status_fn on_done, void *arg);
void queue_unpublish(struct queue *queue, const char *kind, queue_status_fn on_done, void *arg);
/* All documents of a kind, <= 4096. */
void queue_fleet(struct queue *queue, const char *kind, queue_names_fn on_documents, void *arg);

/* Invariants for `penstock doctor`: walks all shards in bounded steps. Counts of violations by
 * name. */
struct queue_finding {
    const char *name; /* e.g. "lease_without_job" */
    int64_t count;
    char example[JOB_ID_TEXT_SIZE + 1];
};
typedef void (*queue_inspect_fn)(int status, const struct queue_finding *findings, unsigned count,
                                 void *arg);
void queue_inspect(struct queue *queue, queue_inspect_fn on_findings, void *arg);

#endif
