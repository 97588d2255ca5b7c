/* The configuration of all programs: one YAML file, each value overridable by an environment
 * variable named after its path (PENSTOCK_REDIS_URL, PENSTOCK_WORKER_LEASE_MS, …). Names and
 * meanings are normative (docs/configuration.md). Keys, defaults and ranges: settings_rows.c.
 *
 * Strings are owned by the settings. Values in milliseconds, seconds and bytes as the names say. */
#ifndef PENSTOCK_BASE_SETTINGS_H
#define PENSTOCK_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/error.h"

enum { SETTINGS_AUTO = -1 }; /* of processes, gpus and concurrency */
enum { SETTINGS_FILE_SIZE_MAX = 1024 * 1024 };
enum { SETTINGS_GPUS_MAX = 64, SETTINGS_UPSTREAMS_MAX = 64 };

enum settings_durability { DURABILITY_MEMORY, DURABILITY_FSYNC, DURABILITY_REPLICA };
enum settings_auth_mode { AUTH_NONE, AUTH_KEYS };
enum settings_upstream_kind { UPSTREAM_OPENAI, UPSTREAM_ANTHROPIC };

struct settings_price {
    double input_per_million;
    double output_per_million;
    char *currency;
};

struct settings_upstream {
    char *name;
    enum settings_upstream_kind kind;
    char *base_url;    /* "http://127.0.0.1:8000/v1", no trailing slash after loading */
    char *api_key_env; /* "" = none; the name of the variable, never the key */
    char **models;     /* exact names or globs; empty = what the upstream lists */
    unsigned models_count;
    int tier;
    int weight;
    int concurrency; /* calls in flight per host, or SETTINGS_AUTO */
    int64_t requests_per_minute;
    int64_t tokens_per_minute;
    int connect_timeout_ms;
    int first_byte_timeout_ms;
    int idle_timeout_ms;
    int timeout_ms;
    char *health;
    bool http2; /* asked for by this upstream; default false */
    struct settings_price price;
};

struct settings_alias {
    char *from;
    char *to;
};

struct settings {
    char *listen;
    char *listen_metrics;
    char *public_url;
    char **trusted_proxies;
    unsigned trusted_proxies_count;
    char *data_dir;
    struct {
        char *url;
        int64_t bytes_max;
    } blob;
    struct {
        int routes_max;
        int64_t jobs_max;
        int64_t bytes_max;
    } queue;
    struct {
        char *url;
        enum settings_durability durability;
        int shards;
    } redis;
    struct {
        int processes;
        int64_t body_bytes_max;
        int connections_max;
    } broker;
    struct {
        int processes; /* or SETTINGS_AUTO */
        int inflight_max;
        int64_t response_bytes_max;
        int gpus_count; /* or SETTINGS_AUTO */
        int gpu_ids[SETTINGS_GPUS_MAX];
        int lease_ms;
        int drain_timeout_ms;
    } worker;
    struct {
        int64_t result_ttl_s;
        int64_t file_ttl_s;
    } retention;
    struct {
        enum settings_auth_mode mode;
        char *keys_file;
    } auth;
    struct settings_upstream *upstreams;
    unsigned upstreams_count;
    struct settings_alias *aliases;
    unsigned aliases_count;
    struct {
        char *level;
        char *format;
    } log;
};

/* The file: path if not NULL, else $PENSTOCK_CONFIG, ./penstock.yaml, /etc/penstock/penstock.yaml;
 * none there = all defaults. Then the environment. Then checks of ranges and relations. ERR_INVALID
 * with file, line where known, key and reason in why; unknown keys are errors. */
MUST_CHECK int settings_load(const char *path, struct settings **out, struct error_text *why);
/* The text of the file settings_load would take, appended to text, whose maximum is
 * SETTINGS_FILE_SIZE_MAX; *out_path is its name, NULL when there is no file. ERR_INVALID. */
MUST_CHECK int settings_read_text(const char *path, struct buf *text, const char **out_path,
                                  struct error_text *why);
/* What settings_load does, from a text and without the environment; name stands in for the file's.
 */
MUST_CHECK int settings_parse(const char *name, const char *text, size_t size,
                              struct settings **out, struct error_text *why);
void settings_destroy(struct settings *settings);
/* The whole configuration as YAML that settings_load accepts again; URLs without passwords. */
MUST_CHECK int settings_print(const struct settings *settings, struct buf *out);
/* Value of the environment variable, "" when unset. The only getenv of this tree. */
const char *settings_environment(const char *name);

#endif
