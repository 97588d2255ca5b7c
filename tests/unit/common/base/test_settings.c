/* Defaults, file, environment, refusals with their place, and the printed form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/settings.h"
#include "common/base/settings_rows.h"

static struct settings *parse(const char *text)
{
    struct settings *settings = NULL;
    struct error_text why = {""};

    if (settings_parse("p.yaml", text, strlen(text), &settings, &why) != 0)
        fail_msg("%s", why.text);
    return settings;
}

static void assert_refused(const char *text, const char *reason)
{
    struct settings *settings = NULL;
    struct error_text why = {""};

    int status = settings_parse("p.yaml", text, strlen(text), &settings, &why);
    if (status != ERR_INVALID || strcmp(why.text, reason) != 0)
        fail_msg("%d for:\n%s\nwanted: %s\n   got: %s", status, text, reason, why.text);
    assert_null(settings);
}

static void assert_is_default(const struct settings *settings)
{
    assert_string_equal(settings->listen, "127.0.0.1:7368");
    assert_string_equal(settings->listen_metrics, "127.0.0.1:9464");
    assert_string_equal(settings->public_url, "");
    assert_int_equal(settings->trusted_proxies_count, 0);
    assert_string_equal(settings->data_dir, "./penstock-data");
    assert_string_equal(settings->blob.url, "");
    assert_int_equal(settings->queue.routes_max, 1024);
    assert_int_equal(settings->queue.jobs_max, 0);
    assert_string_equal(settings->redis.url, "redis://127.0.0.1:6379/0");
    assert_int_equal(settings->redis.durability, DURABILITY_FSYNC);
    assert_int_equal(settings->redis.shards, 16);
    assert_int_equal(settings->broker.processes, 1);
    assert_int_equal(settings->broker.body_bytes_max, 16777216);
    assert_int_equal(settings->broker.connections_max, 20000);
    assert_int_equal(settings->worker.processes, SETTINGS_AUTO);
    assert_int_equal(settings->worker.inflight_max, 10000);
    assert_int_equal(settings->worker.response_bytes_max, 33554432);
    assert_int_equal(settings->worker.gpus_count, 0);
    assert_int_equal(settings->worker.lease_ms, 15000);
    assert_int_equal(settings->worker.drain_timeout_ms, 30000);
    assert_int_equal(settings->retention.result_ttl_s, 86400);
    assert_int_equal(settings->retention.file_ttl_s, 2592000);
    assert_int_equal(settings->auth.mode, AUTH_KEYS);
    assert_string_equal(settings->auth.keys_file, "./keys.yaml");
    assert_string_equal(settings->log.level, "info");
    assert_string_equal(settings->log.format, "text");
}

static void assert_is_sample_upstream(const struct settings_upstream *upstream)
{
    assert_string_equal(upstream->name, "gpu0");
    assert_int_equal(upstream->kind, UPSTREAM_OPENAI);
    assert_string_equal(upstream->base_url, "http://127.0.0.1:8000/v1");
    assert_string_equal(upstream->api_key_env, "");
    assert_int_equal(upstream->tier, 0);
    assert_int_equal(upstream->weight, 1);
    assert_int_equal(upstream->concurrency, SETTINGS_AUTO);
    assert_int_equal(upstream->requests_per_minute, 0);
    assert_int_equal(upstream->tokens_per_minute, 0);
    assert_int_equal(upstream->connect_timeout_ms, 3000);
    assert_int_equal(upstream->first_byte_timeout_ms, 120000);
    assert_int_equal(upstream->idle_timeout_ms, 60000);
    assert_int_equal(upstream->timeout_ms, 600000);
    assert_string_equal(upstream->health, "/health");
    assert_false(upstream->http2);
    assert_true(upstream->price.input_per_million == 0);
    assert_string_equal(upstream->price.currency, "USD");
}

static void test_empty_texts_are_defaults(void **state)
{
    static const char *const texts[] = {"",
                                        "\n",
                                        "# nothing\n",
                                        "---\n# nothing\n",
                                        "{}",
                                        "upstreams:\naliases:\ntrusted_proxies:\n",
                                        "upstreams: []\naliases: {}\n"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct settings *settings = parse(texts[i]);
        assert_is_default(settings);
        assert_int_equal(settings->upstreams_count, 0);
        assert_int_equal(settings->aliases_count, 0);
        settings_destroy(settings);
    }
}

/* The tests run in the tree's top folder, where the sample is. */
static void test_sample_file_shows_the_defaults(void **state)
{
    struct settings *settings = NULL;
    struct error_text why = {""};
    (void)state;

    if (settings_load("deploy/penstock.yaml", &settings, &why) != 0)
        fail_msg("%s", why.text);
    assert_is_default(settings);
    assert_int_equal(settings->upstreams_count, 1);
    assert_is_sample_upstream(&settings->upstreams[0]);
    assert_int_equal(settings->upstreams[0].models_count, 2);
    assert_string_equal(settings->upstreams[0].models[1], "bge-*");
    assert_int_equal(settings->aliases_count, 1);
    assert_string_equal(settings->aliases[0].from, "default");
    assert_string_equal(settings->aliases[0].to, "llama-3.1-8b");
    settings_destroy(settings);
}

static const char full[] =
    "listen: '[::1]:0'\n"
    "listen_metrics: \"\"\n"
    "public_url: https://q.example.org/penstock///\n"
    "data_dir: /var/lib/penstock\n"
    "blob: {url: '', bytes_max: 0}\n"
    "queue: {routes_max: 5, jobs_max: 100, bytes_max: 200}\n"
    "redis:\n"
    "  url: redis://user:p@ss:w%40rd@h:6380/3\n"
    "  durability: replica\n"
    "  shards: 1\n"
    "broker: {processes: 4, body_bytes_max: 50331648, connections_max: 7}\n"
    "worker:\n"
    "  processes: 3\n"
    "  inflight_max: 64\n"
    "  response_bytes_max: 2048\n"
    "  gpus: [0, 2, 7]\n"
    "  lease_ms: 2000\n"
    "  drain_timeout_ms: 0\n"
    "retention: {result_ttl_s: 1, file_ttl_s: 60}\n"
    "auth: {mode: none, keys_file: k.yaml}\n"
    "upstreams:\n"
    "  - name: gpu-0_a\n"
    "    kind: anthropic\n"
    "    base_url: https://api.example.org/v1/\n"
    "    api_key_env: MY_KEY\n"
    "    models: [a, 'b-*', \"c:d/e\"]\n"
    "    tier: 2\n"
    "    weight: 10\n"
    "    concurrency: 64\n"
    "    requests_per_minute: 500\n"
    "    tokens_per_minute: 0\n"
    "    connect_timeout_ms: 1\n"
    "    first_byte_timeout_ms: 2\n"
    "    idle_timeout_ms: 3\n"
    "    timeout_ms: 4\n"
    "    health: \"\"\n"
    "    http2: true\n"
    "    price: {input_per_million: 0.15, output_per_million: 1e-7, currency: EUR}\n"
    "  - {name: b, base_url: http://h, models: }\n"
    "aliases: {default: a, gpt-4.1: 'b-1', \"x: y\": \"q\\\"z\"}\n"
    "log: {level: debug, format: json}\n";

static void assert_is_full(const struct settings *settings)
{
    const struct settings_upstream *upstream = &settings->upstreams[0];

    assert_string_equal(settings->listen, "[::1]:0");
    assert_string_equal(settings->listen_metrics, "");
    assert_string_equal(settings->public_url, "https://q.example.org/penstock");
    assert_int_equal(upstream->requests_per_minute, 500);
    assert_int_equal(settings->redis.durability, DURABILITY_REPLICA);
    assert_int_equal(settings->broker.body_bytes_max, 50331648);
    assert_int_equal(settings->worker.processes, 3);
    assert_int_equal(settings->worker.gpus_count, 3);
    assert_int_equal(settings->worker.gpu_ids[2], 7);
    assert_int_equal(settings->auth.mode, AUTH_NONE);
    assert_int_equal(settings->upstreams_count, 2);
    assert_int_equal(upstream->kind, UPSTREAM_ANTHROPIC);
    assert_string_equal(upstream->base_url, "https://api.example.org/v1");
    assert_int_equal(upstream->models_count, 3);
    assert_string_equal(upstream->models[2], "c:d/e");
    assert_int_equal(upstream->concurrency, 64);
    assert_int_equal(upstream->timeout_ms, 4);
    assert_string_equal(upstream->health, "");
    assert_true(upstream->http2);
    assert_true(upstream->price.input_per_million == 0.15);
    assert_true(upstream->price.output_per_million == 1e-7);
    assert_string_equal(upstream->price.currency, "EUR");
    assert_int_equal(settings->upstreams[1].models_count, 0);
    assert_int_equal(settings->upstreams[1].weight, 1);
    assert_int_equal(settings->aliases_count, 3);
    assert_string_equal(settings->aliases[1].from, "gpt-4.1");
    assert_string_equal(settings->aliases[1].to, "b-1");
    assert_string_equal(settings->aliases[2].from, "x: y");
    assert_string_equal(settings->aliases[2].to, "q\"z");
    assert_string_equal(settings->log.level, "debug");
}

static void test_every_key_is_read(void **state)
{
    struct settings *settings = parse(full);
    (void)state;
    assert_is_full(settings);
    assert_string_equal(settings->redis.url, "redis://user:p@ss:w%40rd@h:6380/3");
    settings_destroy(settings);
}

static void test_print_is_read_back(void **state)
{
    struct settings *settings = parse(full);
    struct buf once = {.size_max = 100000};
    struct buf twice = {.size_max = 100000};
    (void)state;

    assert_int_equal(settings_print(settings, &once), 0);
    settings_destroy(settings);
    assert_null(strstr(once.data, "p@ss"));
    assert_null(strstr(once.data, "rd@"));
    assert_non_null(strstr(once.data, "\"redis://user:***@h:6380/3\""));
    settings = parse(once.data);
    assert_is_full(settings);
    assert_int_equal(settings_print(settings, &twice), 0);
    assert_string_equal(once.data, twice.data);
    settings_destroy(settings);

    settings = parse("");
    buf_clear(&once);
    assert_int_equal(settings_print(settings, &once), 0);
    settings_destroy(settings);
    settings = parse(once.data);
    assert_is_default(settings);
    settings_destroy(settings);
    buf_deinit(&once);
    buf_deinit(&twice);
}

/* YAML folds three line ends that JSON lets stand. */
static void test_print_keeps_odd_line_ends(void **state)
{
    (void)state;
    static const char text[] = "redis: {url: \"redis://h\\L\\P\\Nk\"}";
    struct settings *settings, *again;
    struct error_text why = {""};
    struct buf out = {.size_max = 1 << 20};

    assert_int_equal(settings_parse("p.yaml", text, sizeof text - 1, &settings, &why), 0);
    assert_int_equal(settings_print(settings, &out), 0);
    assert_int_equal(settings_parse("again.yaml", out.data, out.size, &again, &why), 0);
    assert_string_equal(settings->redis.url, again->redis.url);
    settings_destroy(settings);
    settings_destroy(again);
    buf_deinit(&out);
}

static void test_print_masks_logins(void **state)
{
    static const char *const cases[][2] = {
        {"redis://:secret@h", "redis://:***@h"},
        {"redis://secret@h/1", "redis://***@h/1"},
        {"rediss://u:se/cr@et@h:1", "rediss://u:***@h:1"},
        {"unix://u:secret@/run/r.sock?db=2", "unix://u:***@/run/r.sock?db=2"},
        {"redis://h:6379", "redis://h:6379"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out = {.size_max = 100000};
        char text[200];
        (void)snprintf(text, sizeof text, "redis: {url: '%s'}", cases[i][0]);
        struct settings *settings = parse(text);
        assert_int_equal(settings_print(settings, &out), 0);
        (void)snprintf(text, sizeof text, "url: \"%s\"\n", cases[i][1]);
        assert_non_null(strstr(out.data, text));
        settings_destroy(settings);
        buf_deinit(&out);
    }
}

static void test_structure_is_refused_with_its_place(void **state)
{
    (void)state;
    assert_refused("listen: a:1\nredis:\n  urx: b\n", "p.yaml:3: redis: unknown key \"urx\"");
    assert_refused("\nlisten_on: x\n", "p.yaml:2: unknown key \"listen_on\"");
    assert_refused("upstreams:\n  - name: a\n    base_url: http://h\n    prise: 1\n",
                   "p.yaml:4: upstreams[0]: unknown key \"prise\"");
    assert_refused("redis: 5\n",
                   "p.yaml:1: redis: expected a section with keys, found a single value");
    assert_refused("listen: [a]\n", "p.yaml:1: listen: expected a single value, found a list");
    assert_refused("upstreams: {name: a}\n",
                   "p.yaml:1: upstreams: expected a list, found a section with keys");
    assert_refused("- a\n", "p.yaml:1: expected a section with keys, found a list");
    assert_refused("just text", "p.yaml:1: expected a section with keys, found a single value");
    assert_refused("listen: a:1\nlisten: b:1\n", "p.yaml:2: duplicate key \"listen\"");
    assert_refused("aliases: {a: b, a: c}\n", "p.yaml:1: duplicate key \"a\"");
    assert_refused("listen: a:1\n---\nlisten: b:1\n", "p.yaml:2: more than one document");
    assert_refused("listen: &x a:1\n", "p.yaml:1: anchors are not supported");
    assert_refused("listen: *x\n", "p.yaml:1: aliases (*name) are not supported");
    assert_refused("listen: !!int 5\n", "p.yaml:1: tags are not supported");
    assert_refused("listen: \"a\\0b\"\n", "p.yaml:1: control characters in a value");
    assert_refused("listen: {\n", "p.yaml:2: did not find expected node content");
    assert_refused("\tlisten: a\n", "p.yaml:1: found character that cannot start any token");
    assert_refused("aliases: [[[[[[[[[1]]]]]]]]]\n", "p.yaml:1: nested too deep");
    assert_refused("? [a]\n: b\n", "p.yaml:1: a key must be a plain text");
}

static void test_values_are_refused_with_their_place(void **state)
{
    (void)state;
    assert_refused("redis:\n  shards: 0\n",
                   "p.yaml:2: redis.shards: \"0\" is not a whole number from 1 to 1024");
    assert_refused("redis:\n  shards: 1025\n",
                   "p.yaml:2: redis.shards: \"1025\" is not a whole number from 1 to 1024");
    assert_refused("redis: {shards: 1.5}\n",
                   "p.yaml:1: redis.shards: \"1.5\" is not a whole number from 1 to 1024");
    assert_refused("redis: {shards: }\n",
                   "p.yaml:1: redis.shards: \"\" is not a whole number from 1 to 1024");
    assert_refused("redis: {durability: maybe}\n",
                   "p.yaml:1: redis.durability: \"maybe\" is not one of memory|fsync|replica");
    assert_refused("worker: {processes: many}\n",
                   "p.yaml:1: worker.processes: \"many\" is not auto or a "
                   "whole number from 1 to 1024");
    assert_refused("worker: {lease_ms: 1999}\n",
                   "p.yaml:1: worker.lease_ms: \"1999\" is not a whole number from 2000 to 600000");
    assert_refused(
        "broker: {body_bytes_max: 50331649}\n",
        "p.yaml:1: broker.body_bytes_max: \"50331649\" is not a whole number from 1024 to "
        "50331648");
    assert_refused("log: {level: loud}\n",
                   "p.yaml:1: log.level: \"loud\" is not one of error|warn|info|debug");
    assert_refused("data_dir: ''\n", "p.yaml:1: data_dir: may not be empty");
    assert_refused("worker: {gpus: 65}\n",
                   "p.yaml:1: worker.gpus: \"65\" is not auto or a whole number from 0 to 64");
    assert_refused("worker: {gpus: [0, x]}\n",
                   "p.yaml:1: worker.gpus: a GPU's id must be a number from 0 to 1023");
    assert_refused("worker: {gpus: [1, 1]}\n",
                   "p.yaml:1: worker.gpus: a GPU's id stands there twice");
    assert_refused("worker: {gpus: {a: 1}}\n",
                   "p.yaml:1: worker.gpus: must be auto, a number or a list of numbers");
    assert_refused("aliases: 5\n", "p.yaml:1: aliases: expected names and models, name: model");
    assert_refused("aliases: {a: [b]}\n",
                   "p.yaml:1: aliases: \"a\" must stand for the name of a model, "
                   "1 to 256 bytes");
    assert_refused("aliases: {a: }\n",
                   "p.yaml:1: aliases: \"a\" must stand for the name of a model, "
                   "1 to 256 bytes");
}

static void test_addresses_and_urls(void **state)
{
    static const char form[] =
        "p.yaml:1: listen: must be an address and a port, such as 127.0.0.1:7368 or [::1]:7368";
    (void)state;

    assert_refused("listen: 7368\n", form);
    assert_refused("listen: a:65536\n", form);
    assert_refused("listen: ':80'\n", form);
    assert_refused("listen: '::1:80'\n", form);
    assert_refused("listen: '[::1:80'\n", form);
    assert_refused("listen: 'a b:80'\n", form);
    assert_refused("auth: {mode: none}\nlisten: 0.0.0.0:80\n",
                   "p.yaml:1: auth.mode: none is allowed only when listening on loopback, not on "
                   "0.0.0.0:80");
    assert_refused("auth: {mode: none}\nlisten: '[::]:80'\n",
                   "p.yaml:1: auth.mode: none is allowed only when listening on loopback, not on "
                   "[::]:80");
    settings_destroy(parse("auth: {mode: none}\nlisten: 127.9.9.9:80\n"));
    settings_destroy(parse("auth: {mode: none}\nlisten: localhost:80\n"));
    settings_destroy(parse("listen: 0.0.0.0:80\n"));
    assert_refused(
        "trusted_proxies: [10.0.0.0/33]\n",
        "p.yaml:1: trusted_proxies: \"10.0.0.0/33\" is neither an address nor a network such "
        "as 10.0.0.0/8");
    assert_refused("redis: {url: 'http://h'}\n",
                   "p.yaml:1: redis.url: must start with redis://, rediss://, unix://, "
                   "redis+sentinel:// or redis+cluster://");
    assert_refused("redis: {url: 'redis://'}\n", "p.yaml:1: redis.url: names no host or socket");
    assert_refused("redis: {url: 'redis+sentinel://h1,h2/name'}\n",
                   "p.yaml:1: redis.url: redis+sentinel:// is not supported yet");
    assert_refused("redis: {url: 'redis+cluster://h1'}\n",
                   "p.yaml:1: redis.url: redis+cluster:// is not supported yet");
    assert_refused("public_url: q.example.org\n",
                   "p.yaml:1: public_url: must start with http:// or https://");
    assert_refused("public_url: http:///x\n", "p.yaml:1: public_url: names no host");
    assert_refused("public_url: http://h/?x\n",
                   "p.yaml:1: public_url: may not have a query or fragment");
    assert_refused("blob: {url: file://x}\n",
                   "p.yaml:1: blob.url: must be empty, file:///directory or s3://bucket/prefix");
}

static void assert_upstream_refused(const char *keys, const char *reason)
{
    char text[300];
    char expected[300];
    (void)snprintf(text, sizeof text, "upstreams:\n  - {%s}\n", keys);
    (void)snprintf(expected, sizeof expected, "p.yaml:2: upstreams[0].%s", reason);
    assert_refused(text, expected);
}

static void test_upstreams(void **state)
{
    (void)state;
    assert_refused("upstreams:\n  - {base_url: http://h}\n",
                   "p.yaml: upstreams[0].name: must be given");
    assert_refused("upstreams:\n  - {name: a}\n", "p.yaml: upstreams[0].base_url: must be given");
    assert_refused(
        "upstreams:\n  - {name: a, base_url: http://h}\n  - name: a\n    base_url: http://h\n",
        "p.yaml:3: upstreams[1].name: is the name of two upstreams");
    assert_upstream_refused("name: A, base_url: http://h",
                            "name: may hold only a-z, 0-9, '_' and '-'");
    assert_upstream_refused("name: a2345678901234567890123456789012x, base_url: http://h",
                            "name: 33 bytes are not within 1 to 32");
    assert_upstream_refused("name: a, base_url: ftp://h",
                            "base_url: must start with http:// or https://");
    assert_upstream_refused(
        "name: a, base_url: 'http://user:secret@h/v1'",
        "base_url: may not hold a user name or password; keys come from the variable "
        "api_key_env names");
    assert_upstream_refused("name: a, base_url: http://h, api_key_env: sk-12345",
                            "api_key_env: must be the name of an environment variable, not the key "
                            "itself");
    assert_upstream_refused("name: a, base_url: http://h, kind: cohere",
                            "kind: \"cohere\" is not one of openai|anthropic");
    assert_upstream_refused("name: a, base_url: http://h, health: x",
                            "health: must start with '/'");
    assert_upstream_refused("name: a, base_url: http://h, http2: yes",
                            "http2: is neither true nor false");
    assert_upstream_refused("name: a, base_url: http://h, price: {currency: usd}",
                            "price.currency: must be three letters such as USD");
    assert_upstream_refused("name: a, base_url: http://h, price: {input_per_million: -1}",
                            "price.input_per_million: \"-1\" is not a number from 0 to 1000000");
    assert_upstream_refused("name: a, base_url: http://h, models: ['']",
                            "models: may not be empty");
    assert_upstream_refused("name: a, base_url: http://h, concurrency: 0",
                            "concurrency: \"0\" is not auto or a whole number from 1 to 100000");
}

static void test_what_does_not_exist_yet_is_refused(void **state)
{
    (void)state;
    assert_refused("trusted_proxies: [10.0.0.0/8, \"::1\", 192.168.1.1]\n",
                   "p.yaml:1: trusted_proxies: is not supported yet");
    assert_refused("blob: {url: 's3://bucket/prefix'}\n",
                   "p.yaml:1: blob.url: is not supported yet");
    assert_refused("blob: {bytes_max: 1}\n", "p.yaml:1: blob.bytes_max: is not supported yet");
    assert_upstream_refused("name: a, base_url: http://h, tokens_per_minute: 1",
                            "tokens_per_minute: is not supported yet");
}

static void test_too_many_upstreams(void **state)
{
    struct buf text = {.size_max = 100000};
    (void)state;

    assert_int_equal(buf_append_text(&text, "upstreams:\n"), 0);
    for (int i = 0; i < SETTINGS_UPSTREAMS_MAX; i++)
        assert_int_equal(buf_printf(&text, "- {name: u%d, base_url: http://h}\n", i), 0);
    struct settings *settings = parse(text.data);
    assert_int_equal(settings->upstreams_count, SETTINGS_UPSTREAMS_MAX);
    settings_destroy(settings);
    assert_int_equal(buf_append_text(&text, "- {name: last, base_url: http://h}\n"), 0);
    struct error_text why = {""};
    assert_int_equal(settings_parse("p.yaml", text.data, text.size, &settings, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "upstreams"));
    buf_deinit(&text);
}

/* --- environment ----------------------------------------------------------------------------- */

static int load(const char *path, struct settings **out, struct error_text *why)
{
    *out = NULL;
    *why = (struct error_text){""};
    return settings_load(path, out, why);
}

static void test_environment_wins_over_the_file(void **state)
{
    struct settings *settings = NULL;
    struct error_text why;
    (void)state;

    assert_int_equal(setenv("PENSTOCK_REDIS_URL", "unix:///run/r.sock", 1), 0);
    assert_int_equal(setenv("PENSTOCK_WORKER_INFLIGHT_MAX", "5", 1), 0);
    assert_int_equal(setenv("PENSTOCK_WORKER_GPUS", "[3, 1]", 1), 0);
    assert_int_equal(setenv("PENSTOCK_LISTEN_METRICS", "", 1), 0);
    assert_int_equal(setenv("PENSTOCK_AUTH_MODE", "none", 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), 0);
    assert_string_equal(settings->redis.url, "unix:///run/r.sock");
    assert_int_equal(settings->worker.inflight_max, 5);
    assert_int_equal(settings->worker.gpus_count, 2);
    assert_int_equal(settings->worker.gpu_ids[0], 3);
    assert_string_equal(settings->listen_metrics, "");
    assert_int_equal(settings->auth.mode, AUTH_NONE);
    assert_int_equal(settings->upstreams_count, 1);
    settings_destroy(settings);

    assert_int_equal(setenv("PENSTOCK_LISTEN", "0.0.0.0:1", 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), ERR_INVALID);
    assert_string_equal(why.text,
                        "PENSTOCK_AUTH_MODE: none is allowed only when listening on loopback, "
                        "not on 0.0.0.0:1");
    assert_int_equal(unsetenv("PENSTOCK_LISTEN"), 0);
    assert_int_equal(setenv("PENSTOCK_WORKER_INFLIGHT_MAX", "none", 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), ERR_INVALID);
    assert_string_equal(why.text,
                        "PENSTOCK_WORKER_INFLIGHT_MAX: \"none\" is not a whole number from 1 to "
                        "1000000");
}

static void test_environment_gpus(void **state)
{
    static const struct {
        const char *text;
        int count; /* -2: refused */
    } cases[] = {{"auto", SETTINGS_AUTO}, {"0", 0},  {"8", 8},     {"[]", 0},     {"[5]", 1},
                 {"[ 5 , 6 ]", 2},        {"[", -2}, {"[5", -2},   {"[5 6]", -2}, {"[5]]", -2},
                 {"[5,,6]", -2},          {"", -2},  {"[5],", -2}, {"-1", -2},    {"[1,1]", -2}};
    struct settings *settings;
    struct error_text why;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(setenv("PENSTOCK_WORKER_GPUS", cases[i].text, 1), 0);
        int status = load("deploy/penstock.yaml", &settings, &why);
        assert_int_equal(status, cases[i].count == -2 ? ERR_INVALID : 0);
        assert_int_equal(strncmp(why.text, "PENSTOCK_WORKER_GPUS: ", 22) == 0, status < 0);
        if (status == 0)
            assert_int_equal(settings->worker.gpus_count, cases[i].count);
        settings_destroy(settings);
    }
}

static void test_unknown_variables(void **state)
{
    static const char *const fine[][2] = {{"PENSTOCK_TEST_THING", "1"},
                                          {"PENSTOCK_CHILD_LISTEN", "5"},
                                          {"PENSTOCK_URL", "http://h"},
                                          {"PENSTOCK_API_KEY", "x"},
                                          {"PENSTOCK_SERVICE_HOST", "10.0.0.1"},
                                          {"PENSTOCK_BROKER_SERVICE_PORT_HTTP", "7368"},
                                          {"PENSTOCK_PORT", "tcp://10.0.0.1:7368"},
                                          {"PENSTOCK_PORT_7368_TCP_ADDR", "10.0.0.1"}};
    struct settings *settings;
    struct error_text why;
    (void)state;

    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_int_equal(setenv(fine[i][0], fine[i][1], 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), 0);
    settings_destroy(settings);
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_int_equal(unsetenv(fine[i][0]), 0);

    assert_int_equal(setenv("PENSTOCK_REDIS_URI", "x", 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), ERR_INVALID);
    assert_string_equal(why.text,
                        "PENSTOCK_REDIS_URI: no such setting; a variable is named after its key, "
                        "such as PENSTOCK_REDIS_URL");
    assert_int_equal(unsetenv("PENSTOCK_REDIS_URI"), 0);
    assert_int_equal(setenv("PENSTOCK_PORT", "7368", 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), ERR_INVALID);
    assert_int_equal(unsetenv("PENSTOCK_PORT"), 0);
    assert_int_equal(setenv("PENSTOCK_UPSTREAMS", "[]", 1), 0);
    assert_int_equal(load("deploy/penstock.yaml", &settings, &why), ERR_INVALID);
    assert_string_equal(why.text,
                        "PENSTOCK_UPSTREAMS: lists and mappings can be given in the configuration "
                        "file only");
    assert_int_equal(unsetenv("PENSTOCK_UPSTREAMS"), 0);
}

static void test_which_file(void **state)
{
    char folder[] = "/tmp/penstock-test-settings-XXXXXX";
    char path[100];
    char back[4096];
    struct settings *settings;
    struct error_text why;
    (void)state;

    assert_non_null(mkdtemp(folder));
    assert_non_null(getcwd(back, sizeof back));
    assert_int_equal(chdir(folder), 0);
    (void)snprintf(path, sizeof path, "%s/other.yaml", folder);
    FILE *file = fopen("other.yaml", "w");
    assert_non_null(file);
    assert_true(fputs("data_dir: /other\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    file = fopen("penstock.yaml", "w");
    assert_non_null(file);
    assert_true(fputs("data_dir: /here\n", file) >= 0);
    assert_int_equal(fclose(file), 0);

    assert_int_equal(load(NULL, &settings, &why), 0);
    assert_string_equal(settings->data_dir, "/here");
    settings_destroy(settings);
    assert_int_equal(setenv("PENSTOCK_CONFIG", path, 1), 0);
    assert_int_equal(load(NULL, &settings, &why), 0);
    assert_string_equal(settings->data_dir, "/other");
    settings_destroy(settings);
    assert_int_equal(load("penstock.yaml", &settings, &why), 0);
    assert_string_equal(settings->data_dir, "/here");
    settings_destroy(settings);
    assert_int_equal(unlink("other.yaml"), 0);
    assert_int_equal(load(NULL, &settings, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "/other.yaml: No such file"));
    assert_int_equal(unsetenv("PENSTOCK_CONFIG"), 0);
    assert_int_equal(load(folder, &settings, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "Is a directory"));
    assert_int_equal(truncate("penstock.yaml", 2 * 1024 * 1024), 0);
    assert_int_equal(load(NULL, &settings, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "./penstock.yaml: larger than 1048576 bytes"));

    assert_int_equal(unlink("penstock.yaml"), 0);
    assert_int_equal(chdir(back), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_environment_names(void **state)
{
    char name[SETTINGS_NAME_SIZE];
    (void)state;
    settings_environment_name("redis.url", name);
    assert_string_equal(name, "PENSTOCK_REDIS_URL");
    settings_environment_name("worker.drain_timeout_ms", name);
    assert_string_equal(name, "PENSTOCK_WORKER_DRAIN_TIMEOUT_MS");
    assert_string_equal(settings_environment("PENSTOCK_TEST_NEVER_SET"), "");
}

/* Each test starts without any variable of ours. */
static int setup(void **state)
{
    (void)state;
    for (char **at = environ; *at;) {
        char name[128];
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(*at, "="), *at);
        if (strncmp(name, "PENSTOCK_", 9) == 0 && unsetenv(name) == 0)
            at = environ; /* the list has moved */
        else
            at++;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_texts_are_defaults),
        cmocka_unit_test_setup(test_sample_file_shows_the_defaults, setup),
        cmocka_unit_test(test_every_key_is_read),
        cmocka_unit_test(test_print_is_read_back),
        cmocka_unit_test(test_print_keeps_odd_line_ends),
        cmocka_unit_test(test_print_masks_logins),
        cmocka_unit_test(test_structure_is_refused_with_its_place),
        cmocka_unit_test(test_values_are_refused_with_their_place),
        cmocka_unit_test(test_addresses_and_urls),
        cmocka_unit_test(test_upstreams),
        cmocka_unit_test(test_what_does_not_exist_yet_is_refused),
        cmocka_unit_test(test_too_many_upstreams),
        cmocka_unit_test_setup(test_environment_wins_over_the_file, setup),
        cmocka_unit_test_setup(test_environment_gpus, setup),
        cmocka_unit_test_setup(test_unknown_variables, setup),
        cmocka_unit_test_setup(test_which_file, setup),
        cmocka_unit_test(test_environment_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
