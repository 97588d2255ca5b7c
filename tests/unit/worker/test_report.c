/* The fleet document is valid JSON with the members the console and the API read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/jdoc.h"
#include "worker/report.h"

static const char CONFIG[] =
    "upstreams:\n"
    "  - {name: gpu0, kind: openai, base_url: 'http://127.0.0.1:1001/v1', models: [m, 'bge-*'], "
    "concurrency: 9}\n"
    "  - {name: keyless, kind: openai, base_url: 'http://127.0.0.1:1002/v1', models: [k],"
    " api_key_env: PENSTOCK_TEST_NO_SUCH_KEY, tier: 2, weight: 3}\n"
    "aliases: {default: m, 'q\"uote': k}\n";

static const char *text_of(const struct jval *object, const char *key)
{
    size_t size = 0;
    const char *text = jval_string(jval_get(object, key), &size);
    assert_non_null(text);
    return text;
}

static int64_t number_of(const struct jval *object, const char *key)
{
    int64_t number = -1;
    assert_int_equal(jval_i64(jval_get(object, key), 0, INT64_MAX, &number), 0);
    return number;
}

static void write_report(const char *config, struct buf *out)
{
    struct settings *settings = NULL;
    struct runner runner = {.counts = {.claimed = 5, .succeeded = 3, .failed = 1, .expired = 1}};
    struct error_text why = {""};

    if (settings_parse("test", config, strlen(config), &settings, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(upstream_set_create(settings, 0, 2, NULL, &runner.set), 0);
    runner.table.count = 2;
    runner.table.count_max = 10000;
    struct report report = {.id = "abcdefgh",
                            .host = "ho\"st",
                            .pid = 42,
                            .child = 1,
                            .started_at_ms = 1790000000100,
                            .loop_lag_ms = 0.25,
                            .rss_bytes = report_rss_bytes(),
                            .now_mono_ms = clock_mono_ms(),
                            .runner = &runner};
    assert_int_equal(report_write(&report, out), 0);
    upstream_set_release(runner.set);
}

static void test_members(void **state)
{
    (void)state;
    struct buf text = {.size_max = REPORT_SIZE_MAX};
    struct jdoc *doc = NULL;
    struct error_text why = {""};

    write_report(CONFIG, &text);
    if (jdoc_parse(text.data, text.size, &doc, &why) < 0)
        fail_msg("%s", why.text);
    const struct jval *root = jdoc_root(doc);
    assert_string_equal(text_of(root, "id"), "abcdefgh");
    assert_string_equal(text_of(root, "kind"), "worker");
    assert_string_equal(text_of(root, "host"), "ho\"st");
    assert_string_equal(text_of(root, "state"), "running");
    assert_int_equal(number_of(root, "pid"), 42);
    assert_int_equal(number_of(root, "child"), 1);
    assert_int_equal(number_of(root, "in_flight"), 2);
    assert_int_equal(number_of(root, "inflight_max"), 10000);
    assert_int_equal(number_of(root, "claimed"), 5);
    assert_int_equal(number_of(root, "failed"), 2);
    assert_true(number_of(root, "rss_bytes") > 100 * 1024);
    assert_true(jval_has(root, "metrics"));

    const struct jval *upstreams = jval_get(root, "upstreams");
    assert_int_equal(jval_count(upstreams), 2);
    const struct jval *first = jval_at(upstreams, 0);
    assert_string_equal(text_of(first, "name"), "gpu0");
    assert_int_equal(jval_count(jval_get(first, "models")), 2);
    assert_int_equal(number_of(first, "concurrency"), 5); /* the larger half of 9 */
    assert_string_equal(text_of(first, "state"), "unknown");
    const struct jval *second = jval_at(upstreams, 1);
    assert_string_equal(text_of(second, "state"), "down");
    assert_string_equal(text_of(second, "reason"), "api_key_missing");
    assert_int_equal(number_of(second, "tier"), 2);
    assert_int_equal(number_of(second, "weight"), 3);
    const struct jval *aliases = jval_get(root, "aliases");
    assert_string_equal(text_of(aliases, "default"), "m");
    assert_string_equal(text_of(aliases, "q\"uote"), "k");
    jdoc_destroy(doc);
    buf_deinit(&text);
}

/* As many upstreams and models as a configuration may have still fit. */
static void test_large_configuration_fits(void **state)
{
    (void)state;
    struct buf config = {.size_max = SETTINGS_FILE_SIZE_MAX};
    struct buf text = {.size_max = REPORT_SIZE_MAX};
    struct jdoc *doc = NULL;
    struct error_text why = {""};

    assert_int_equal(buf_append_text(&config, "upstreams:\n"), 0);
    for (int i = 0; i < SETTINGS_UPSTREAMS_MAX; i++) {
        assert_int_equal(buf_printf(&config,
                                    "  - name: upstream-with-a-long-name-%d\n    kind: openai\n"
                                    "    base_url: http://127.0.0.1:1/v1\n    models:\n",
                                    i),
                         0);
        for (int j = 0; j < 20; j++)
            assert_int_equal(
                buf_printf(&config, "      - model-with-a-rather-long-name-%d-%d\n", i, j), 0);
    }
    write_report(config.data, &text);
    assert_true(text.size <= REPORT_SIZE_MAX);
    if (jdoc_parse(text.data, text.size, &doc, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(jval_count(jval_get(jdoc_root(doc), "upstreams")), SETTINGS_UPSTREAMS_MAX);
    jdoc_destroy(doc);
    buf_deinit(&config);
    buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_large_configuration_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
