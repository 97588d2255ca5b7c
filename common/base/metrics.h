/* Counters, gauges and histograms of this process in one fixed table (the second writable global),
 * and their text: Prometheus exposition format 0.0.4. Names and help stand in metrics.c's rows.
 *
 * A process publishes its table through Redis (metrics_encode); the process that serves
 * `listen_metrics` adds up those of the whole fleet (metrics_merge) and renders them. Labels exist
 * only for the names of configured upstreams and fixed enums, never for outside data. */
#ifndef PENSTOCK_BASE_METRICS_H
#define PENSTOCK_BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/check.h"

#define METRIC_LIST(X)                                                                             \
    X(METRIC_HTTP_REQUESTS, COUNTER, "penstock_http_requests_total", "HTTP requests answered")     \
    X(METRIC_HTTP_ERRORS, COUNTER, "penstock_http_errors_total",                                   \
      "HTTP answers with status >= 400")                                                           \
    X(METRIC_HTTP_CONNECTIONS, GAUGE, "penstock_http_connections", "Open client connections")      \
    X(METRIC_HTTP_HELD, GAUGE, "penstock_http_held", "Requests held open (waits, streams)")        \
    X(METRIC_HTTP_SECONDS, HISTOGRAM, "penstock_http_request_seconds",                             \
      "Time to answer, held ones left out")                                                        \
    X(METRIC_JOBS_SUBMITTED, COUNTER, "penstock_jobs_submitted_total", "Jobs accepted")            \
    X(METRIC_JOBS_REFUSED, COUNTER, "penstock_jobs_refused_total", "Jobs refused at the door")     \
    X(METRIC_JOBS_CLAIMED, COUNTER, "penstock_jobs_claimed_total", "Claims")                       \
    X(METRIC_JOBS_SUCCEEDED, COUNTER, "penstock_jobs_succeeded_total", "Jobs that succeeded")      \
    X(METRIC_JOBS_FAILED, COUNTER, "penstock_jobs_failed_total", "Jobs that failed")               \
    X(METRIC_JOBS_CANCELLED, COUNTER, "penstock_jobs_cancelled_total", "Jobs cancelled")           \
    X(METRIC_JOBS_EXPIRED, COUNTER, "penstock_jobs_expired_total", "Jobs expired")                 \
    X(METRIC_JOBS_RETRIED, COUNTER, "penstock_jobs_retried_total",                                 \
      "Attempts that will be tried again")                                                         \
    X(METRIC_JOBS_RECOVERED, COUNTER, "penstock_jobs_recovered_total", "Lapsed leases recovered")  \
    X(METRIC_JOBS_FENCED, COUNTER, "penstock_jobs_fenced_total",                                   \
      "Writes refused because the lease was gone")                                                 \
    X(METRIC_JOBS_HANDED_BACK, COUNTER, "penstock_jobs_handed_back_total",                         \
      "Jobs handed back on drain")                                                                 \
    X(METRIC_UPSTREAM_CALLS, COUNTER, "penstock_upstream_calls_total", "Upstream calls started")   \
    X(METRIC_UPSTREAM_ERRORS, COUNTER, "penstock_upstream_errors_total",                           \
      "Upstream calls that failed")                                                                \
    X(METRIC_UPSTREAM_STALE, COUNTER, "penstock_upstream_stale_total",                             \
      "Calls sent again because a kept connection had been closed")                                \
    X(METRIC_UPSTREAM_IN_FLIGHT, GAUGE, "penstock_upstream_in_flight", "Upstream calls in flight") \
    X(METRIC_UPSTREAM_SECONDS, HISTOGRAM, "penstock_upstream_seconds",                             \
      "Duration of upstream calls")                                                                \
    X(METRIC_PICKUP_SECONDS, HISTOGRAM, "penstock_pickup_seconds", "Accepted to claimed")          \
    X(METRIC_TOKENS_INPUT, COUNTER, "penstock_input_tokens_total",                                 \
      "Input tokens reported upstream")                                                            \
    X(METRIC_TOKENS_OUTPUT, COUNTER, "penstock_output_tokens_total",                               \
      "Output tokens reported upstream")                                                           \
    X(METRIC_REDIS_COMMANDS, COUNTER, "penstock_redis_commands_total", "Commands sent to Redis")   \
    X(METRIC_REDIS_RECONNECTS, COUNTER, "penstock_redis_reconnects_total",                         \
      "Connections to Redis made")                                                                 \
    X(METRIC_REDIS_SECONDS, HISTOGRAM, "penstock_redis_seconds", "Round trips to Redis")           \
    X(METRIC_LOOP_LAG_SECONDS, HISTOGRAM, "penstock_loop_lag_seconds", "Duration of loop turns")   \
    X(METRIC_SCHEMA_TOO_NEW, COUNTER, "penstock_schema_too_new_total",                             \
      "Jobs of a newer version that were met and left alone")                                      \
    X(METRIC_COMMITS_REFUSED, COUNTER, "penstock_commits_refused_total",                           \
      "Commits that Redis or the record's format refused; their leases lapse")                     \
    X(METRIC_LOG_DROPPED, COUNTER, "penstock_log_lines_dropped_total", "Log lines dropped")

enum metric {
#define METRIC_ENUM(name, kind, text, help) name,
    METRIC_LIST(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

void metrics_add(enum metric metric, uint64_t amount);
void metrics_gauge_set(enum metric metric, int64_t value);
void metrics_gauge_add(enum metric metric, int64_t amount);
void metrics_observe_ms(enum metric metric, double ms); /* below 0 counts as 0 */
/* For tests and /v1/stats: a counter, a gauge (0 when below), or how many a histogram observed. */
uint64_t metrics_value(enum metric metric);

struct metrics_table;                             /* a snapshot, one process' or a sum */
struct metrics_table *metrics_table_create(void); /* all zero; NULL when out of memory */
void metrics_table_destroy(struct metrics_table *table);
/* This process' table as versioned text, <= 16 KiB. */
MUST_CHECK int metrics_encode(struct buf *out);
/* Adds an encoded table; metrics this process does not know are left out. ERR_INVALID / ERR_NEWER:
 * nothing was added. */
MUST_CHECK int metrics_merge(struct metrics_table *table, const char *text, size_t size);
MUST_CHECK int metrics_render(const struct metrics_table *table, struct buf *out);

#endif
