/* How many children, which GPUs, what a reload cannot change, and the text children are given. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/worker_config.h"

static struct settings *settings_of(const char *text)
{
    struct settings *settings = NULL;
    struct error_text why = {""};
    if (settings_parse("test", text, strlen(text), &settings, &why) < 0)
        fail_msg("%s", why.text);
    return settings;
}

static struct worker_layout layout_of(const char *text, unsigned cores, unsigned gpus)
{
    struct settings *settings = settings_of(text);
    struct worker_layout layout = {0};
    struct error_text why = {""};
    if (worker_config_layout(settings, cores, gpus, &layout, &why) < 0)
        fail_msg("%s", why.text);
    settings_destroy(settings);
    return layout;
}

static void test_layout(void **state)
{
    (void)state;
    struct worker_layout layout = layout_of("{}", 6, 2);
    assert_int_equal(layout.children_count, 6);
    assert_false(layout.has_gpus);
    layout = layout_of("worker: {processes: 3}", 6, 2);
    assert_int_equal(layout.children_count, 3);
    layout = layout_of("worker: {gpus: auto}", 6, 2);
    assert_int_equal(layout.children_count, 2);
    assert_true(layout.has_gpus);
    assert_int_equal(layout.gpu_ids[1], 1);
    layout = layout_of("worker: {gpus: auto}", 6, 0); /* none here: one per core as ever */
    assert_int_equal(layout.children_count, 6);
    assert_false(layout.has_gpus);
    layout = layout_of("worker: {gpus: 3, processes: 9}", 6, 0);
    assert_int_equal(layout.children_count, 3);
    assert_int_equal(layout.gpu_ids[2], 2);
    layout = layout_of("worker: {gpus: [4, 7]}", 6, 0);
    assert_int_equal(layout.children_count, 2);
    assert_int_equal(layout.gpu_ids[0], 4);
    assert_int_equal(layout.gpu_ids[1], 7);
    layout = layout_of("{}", 5000, 0);
    assert_int_equal(layout.children_count, SUPERVISOR_CHILDREN_MAX);
}

static void test_counts_cores(void **state)
{
    (void)state;
    unsigned cores = worker_config_count_cores();
    assert_in_range(cores, 1, (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    assert_true(worker_config_count_gpus() <= SETTINGS_GPUS_MAX);
}

static void test_log(void **state)
{
    (void)state;
    struct settings *settings = settings_of("log: {level: debug, format: json}");
    assert_int_equal(worker_config_log_level(settings), LOG_DEBUG);
    assert_int_equal(worker_config_log_format(settings), LOG_JSON);
    settings_destroy(settings);
    settings = settings_of("{}");
    assert_int_equal(worker_config_log_level(settings), LOG_INFO);
    assert_int_equal(worker_config_log_format(settings), LOG_TEXT);
    settings_destroy(settings);
}

static void test_fixed_change(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *key;
    } rows[] = {
        {"worker: {drain_timeout_ms: 1000}", NULL},
        {"aliases: {a: b}", NULL},
        {"log: {level: debug}", NULL},
        {"redis: {url: 'redis://127.0.0.1:7000/0'}", "redis.url"},
        {"redis: {durability: memory}", "redis.durability"},
        {"redis: {shards: 4}", "redis.shards"},
        {"worker: {processes: 7}", "worker.processes"},
        {"worker: {gpus: 2}", "worker.gpus"},
        {"worker: {gpus: [0, 3]}", "worker.gpus"},
        {"worker: {inflight_max: 10}", "worker.inflight_max"},
        {"worker: {response_bytes_max: 1048576}", "worker.response_bytes_max"},
        {"worker: {lease_ms: 20000}", "worker.lease_ms"},
        {"log: {format: json}", "log.format"},
    };
    struct settings *before = settings_of("{}");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct settings *after = settings_of(rows[i].text);
        const char *key = worker_config_fixed_change(before, after);
        if (rows[i].key)
            assert_string_equal(key, rows[i].key);
        else
            assert_null(key);
        settings_destroy(after);
    }
    settings_destroy(before);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

/* What children load is what was checked, whatever became of the file. */
static void test_kept_text(void **state)
{
    (void)state;
    char folder[256];
    char path[300];
    struct settings *settings = NULL;
    struct settings *again = NULL;
    struct error_text why = {""};
    int fd = -1;

    const char *temp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/penstock-config-XXXXXX", temp ? temp : "/tmp");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/penstock.yaml", folder);
    write_file(path, "worker: {processes: 5}\n");
    assert_int_equal(worker_config_open(path, &settings, &fd, &why), 0);
    assert_int_equal(settings->worker.processes, 5);
    write_file(path, "worker: {processes: [\n");
    for (int round = 0; round < 2; round++) { /* each child reads it from the beginning */
        assert_int_equal(worker_config_load_fd(fd, &again, &why), 0);
        assert_int_equal(again->worker.processes, 5);
        settings_destroy(again);
    }
    settings_destroy(settings);
    (void)close(fd);

    /* The reason names the file, not the descriptor. */
    assert_true(worker_config_open(path, &settings, &fd, &why) < 0);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(unlink(path), 0);
    assert_true(worker_config_open(path, &settings, &fd, &why) < 0);
    assert_non_null(strstr(why.text, path));
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),    cmocka_unit_test(test_counts_cores),
        cmocka_unit_test(test_log),       cmocka_unit_test(test_fixed_change),
        cmocka_unit_test(test_kept_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
