/* Every configuration key, once. docs/configuration.md says what each is for. */
#include "common/base/settings_rows.h"

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define TOP(member) offsetof(struct settings, member)
#define UP(member) offsetof(struct settings_upstream, member)
/* One job and one result each have to fit what the queue may hold back in a process. */
#define CARRIED_MAX (INT64_C(48) << 20)
#define MANY (INT64_C(1) << 50) /* more than anybody has, and sums of it do not overflow */

enum { DAY_MS = 86400000, TEN_YEARS_S = 10 * 31536000 };

/* path, kind, place, place of a count, default, least, most, words */
const struct settings_row settings_rows[] = {
    {"listen", SETTINGS_TEXT, TOP(listen), 0, "127.0.0.1:7368", 1, 255, NULL},
    {"listen_metrics", SETTINGS_TEXT, TOP(listen_metrics), 0, "127.0.0.1:9464", 0, 255, NULL},
    {"public_url", SETTINGS_TEXT, TOP(public_url), 0, "", 0, 2000, NULL},
    {"trusted_proxies", SETTINGS_LIST, TOP(trusted_proxies), TOP(trusted_proxies_count), "", 1, 64,
     NULL},
    {"data_dir", SETTINGS_TEXT, TOP(data_dir), 0, "./penstock-data", 1, 1000, NULL},
    {"blob.url", SETTINGS_TEXT, TOP(blob.url), 0, "", 0, 2000, NULL},
    {"blob.bytes_max", SETTINGS_INT64, TOP(blob.bytes_max), 0, "0", 0, MANY, NULL},
    {"queue.routes_max", SETTINGS_INT, TOP(queue.routes_max), 0, "1024", 1, 65536, NULL},
    {"queue.jobs_max", SETTINGS_INT64, TOP(queue.jobs_max), 0, "0", 0, MANY, NULL},
    {"queue.bytes_max", SETTINGS_INT64, TOP(queue.bytes_max), 0, "0", 0, MANY, NULL},
    {"redis.url", SETTINGS_TEXT, TOP(redis.url), 0, "redis://127.0.0.1:6379/0", 1, 2000, NULL},
    {"redis.durability", SETTINGS_CHOICE, TOP(redis.durability), 0, "fsync", 0, 0,
     "memory|fsync|replica"},
    {"redis.shards", SETTINGS_INT, TOP(redis.shards), 0, "16", 1, 1024, NULL},
    {"broker.processes", SETTINGS_INT, TOP(broker.processes), 0, "1", 1, 256, NULL},
    {"broker.body_bytes_max", SETTINGS_INT64, TOP(broker.body_bytes_max), 0, "16777216", 1024,
     CARRIED_MAX, NULL},
    {"broker.connections_max", SETTINGS_INT, TOP(broker.connections_max), 0, "20000", 1, 1000000,
     NULL},
    {"worker.processes", SETTINGS_AUTO_INT, TOP(worker.processes), 0, "auto", 1, 1024, NULL},
    {"worker.inflight_max", SETTINGS_INT, TOP(worker.inflight_max), 0, "10000", 1, 1000000, NULL},
    {"worker.response_bytes_max", SETTINGS_INT64, TOP(worker.response_bytes_max), 0, "33554432",
     1024, CARRIED_MAX, NULL},
    {"worker.gpus", SETTINGS_GPUS, TOP(worker.gpus_count), 0, "0", 0, SETTINGS_GPUS_MAX, NULL},
    {"worker.lease_ms", SETTINGS_INT, TOP(worker.lease_ms), 0, "15000", 2000, 600000, NULL},
    {"worker.drain_timeout_ms", SETTINGS_INT, TOP(worker.drain_timeout_ms), 0, "30000", 0, DAY_MS,
     NULL},
    {"retention.result_ttl_s", SETTINGS_INT64, TOP(retention.result_ttl_s), 0, "86400", 1,
     TEN_YEARS_S, NULL},
    {"retention.file_ttl_s", SETTINGS_INT64, TOP(retention.file_ttl_s), 0, "2592000", 1,
     TEN_YEARS_S, NULL},
    {"auth.mode", SETTINGS_CHOICE, TOP(auth.mode), 0, "keys", 0, 0, "none|keys"},
    {"auth.keys_file", SETTINGS_TEXT, TOP(auth.keys_file), 0, "./keys.yaml", 1, 1000, NULL},
    {"upstreams", SETTINGS_UPSTREAMS, TOP(upstreams), TOP(upstreams_count), "", 0,
     SETTINGS_UPSTREAMS_MAX, NULL},
    {"aliases", SETTINGS_ALIASES, TOP(aliases), TOP(aliases_count), "", 0, SETTINGS_ALIASES_MAX,
     NULL},
    {"log.level", SETTINGS_WORD, TOP(log.level), 0, "info", 0, 0, "error|warn|info|debug"},
    {"log.format", SETTINGS_WORD, TOP(log.format), 0, "text", 0, 0, "text|json"},
};
const size_t settings_rows_count = COUNT_OF(settings_rows);

/* name and base_url have no default: they must be there. */
const struct settings_row settings_upstream_rows[] = {
    {"name", SETTINGS_TEXT, UP(name), 0, NULL, 1, 32, NULL},
    {"kind", SETTINGS_CHOICE, UP(kind), 0, "openai", 0, 0, "openai|anthropic"},
    {"base_url", SETTINGS_TEXT, UP(base_url), 0, NULL, 1, 2000, NULL},
    {"api_key_env", SETTINGS_TEXT, UP(api_key_env), 0, "", 0, 128, NULL},
    {"models", SETTINGS_LIST, UP(models), UP(models_count), "", 1, 256, NULL},
    {"tier", SETTINGS_INT, UP(tier), 0, "0", 0, 15, NULL},
    {"weight", SETTINGS_INT, UP(weight), 0, "1", 1, 1000, NULL},
    {"concurrency", SETTINGS_AUTO_INT, UP(concurrency), 0, "auto", 1, 100000, NULL},
    {"requests_per_minute", SETTINGS_INT64, UP(requests_per_minute), 0, "0", 0, MANY, NULL},
    {"tokens_per_minute", SETTINGS_INT64, UP(tokens_per_minute), 0, "0", 0, MANY, NULL},
    {"connect_timeout_ms", SETTINGS_INT, UP(connect_timeout_ms), 0, "3000", 1, 600000, NULL},
    {"first_byte_timeout_ms", SETTINGS_INT, UP(first_byte_timeout_ms), 0, "120000", 1, DAY_MS,
     NULL},
    {"idle_timeout_ms", SETTINGS_INT, UP(idle_timeout_ms), 0, "60000", 1, DAY_MS, NULL},
    {"timeout_ms", SETTINGS_INT, UP(timeout_ms), 0, "600000", 1, DAY_MS, NULL},
    {"health", SETTINGS_TEXT, UP(health), 0, "/health", 0, 1000, NULL},
    {"http2", SETTINGS_BOOL, UP(http2), 0, "false", 0, 0, NULL},
    {"price.input_per_million", SETTINGS_DOUBLE, UP(price.input_per_million), 0, "0", 0, 1000000,
     NULL},
    {"price.output_per_million", SETTINGS_DOUBLE, UP(price.output_per_million), 0, "0", 0, 1000000,
     NULL},
    {"price.currency", SETTINGS_TEXT, UP(price.currency), 0, "USD", 3, 3, NULL},
};
const size_t settings_upstream_rows_count = COUNT_OF(settings_upstream_rows);

_Static_assert(COUNT_OF(settings_rows) <= SETTINGS_ROWS_MAX, "raise SETTINGS_ROWS_MAX");
_Static_assert(COUNT_OF(settings_upstream_rows) <= SETTINGS_ROWS_MAX, "raise SETTINGS_ROWS_MAX");
