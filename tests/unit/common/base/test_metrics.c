/* Counting, what is published, what is added up, and the text Prometheus reads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "common/base/metrics.h"

static const char *render(const struct metrics_table *table, struct buf *out)
{
    buf_clear(out);
    assert_int_equal(metrics_render(table, out), 0);
    return out->data;
}

static int merge(struct metrics_table *table, const char *text)
{
    return metrics_merge(table, text, strlen(text));
}

static void test_counters_and_gauges(void **state)
{
    (void)state;
    uint64_t before = metrics_value(METRIC_JOBS_SUBMITTED);
    metrics_add(METRIC_JOBS_SUBMITTED, 3);
    metrics_add(METRIC_JOBS_SUBMITTED, 0);
    assert_true(metrics_value(METRIC_JOBS_SUBMITTED) == before + 3);
    metrics_gauge_set(METRIC_HTTP_CONNECTIONS, 5);
    metrics_gauge_add(METRIC_HTTP_CONNECTIONS, -2);
    assert_int_equal(metrics_value(METRIC_HTTP_CONNECTIONS), 3);
    metrics_gauge_set(METRIC_HTTP_CONNECTIONS, -4);
    assert_int_equal(metrics_value(METRIC_HTTP_CONNECTIONS), 0);
    metrics_gauge_set(METRIC_HTTP_CONNECTIONS, 0);
}

static void test_histogram_buckets(void **state)
{
    struct metrics_table *table = metrics_table_create();
    struct buf encoded = {.size_max = 16384};
    struct buf out = {.size_max = 1000000};
    (void)state;

    assert_non_null(table);
    metrics_observe_ms(METRIC_PICKUP_SECONDS, 0.5);   /* on the bound: inside */
    metrics_observe_ms(METRIC_PICKUP_SECONDS, 0.501); /* the next one */
    metrics_observe_ms(METRIC_PICKUP_SECONDS, -1);    /* clocks */
    metrics_observe_ms(METRIC_PICKUP_SECONDS, NAN);
    metrics_observe_ms(METRIC_PICKUP_SECONDS, 600000); /* the last bound */
    metrics_observe_ms(METRIC_PICKUP_SECONDS, 600001);
    assert_int_equal(metrics_value(METRIC_PICKUP_SECONDS), 6);
    assert_int_equal(metrics_encode(&encoded), 0);
    assert_int_equal(metrics_merge(table, encoded.data, encoded.size), 0);
    const char *text = render(table, &out);
    assert_non_null(strstr(text, "# TYPE penstock_pickup_seconds histogram\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_bucket{le=\"0.0005\"} 3\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_bucket{le=\"0.001\"} 4\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_bucket{le=\"300\"} 4\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_bucket{le=\"600\"} 5\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_bucket{le=\"+Inf\"} 6\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_sum 1200.002001\n"));
    assert_non_null(strstr(text, "penstock_pickup_seconds_count 6\n"));
    metrics_observe_ms(METRIC_LOOP_LAG_SECONDS, INFINITY); /* counted, not summed to nonsense */
    assert_int_equal(metrics_value(METRIC_LOOP_LAG_SECONDS), 1);
    metrics_table_destroy(table);
    buf_deinit(&encoded);
    buf_deinit(&out);
}

static void test_fleet_is_added_up(void **state)
{
    struct metrics_table *table = metrics_table_create();
    struct buf out = {.size_max = 1000000};
    (void)state;

    assert_int_equal(merge(table, "1;penstock_jobs_claimed_total=5;penstock_http_held=-2"), 0);
    assert_int_equal(merge(table, "1;penstock_http_held=7;penstock_new_total=9;"
                                  "penstock_jobs_claimed_total=6"),
                     0);
    assert_int_equal(merge(table, "1"), 0);
    const char *text = render(table, &out);
    assert_non_null(strstr(text, "# HELP penstock_jobs_claimed_total Claims\n"
                                 "# TYPE penstock_jobs_claimed_total counter\n"
                                 "penstock_jobs_claimed_total 11\n"));
    assert_non_null(strstr(text, "# TYPE penstock_http_held gauge\npenstock_http_held 5\n"));
    assert_null(strstr(text, "penstock_new_total"));
    metrics_table_destroy(table);
    metrics_table_destroy(NULL);
    buf_deinit(&out);
}

static void test_sums_do_not_wrap(void **state)
{
    struct metrics_table *table = metrics_table_create();
    struct buf out = {.size_max = 1000000};
    (void)state;

    for (int i = 0; i < 3; i++)
        assert_int_equal(merge(table, "1;penstock_jobs_claimed_total=9223372036854775807;"
                                      "penstock_http_held=9223372036854775807"),
                         0);
    const char *text = render(table, &out);
    assert_non_null(strstr(text, "\npenstock_jobs_claimed_total 18446744073709551615\n"));
    assert_non_null(strstr(text, "\npenstock_http_held 9223372036854775807\n"));
    metrics_table_destroy(table);
    buf_deinit(&out);
}

static void test_what_does_not_fit_is_refused_whole(void **state)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"", ERR_INVALID},
        {"x", ERR_INVALID},
        {"0", ERR_INVALID},
        {"2;penstock_jobs_claimed_total=1", ERR_NEWER},
        {"1;", ERR_INVALID},
        {"1;penstock_jobs_claimed_total", ERR_INVALID},
        {"1;penstock_jobs_claimed_total=", ERR_INVALID},
        {"1;penstock_jobs_claimed_total=-1", ERR_INVALID},
        {"1;penstock_jobs_claimed_total=1;penstock_jobs_claimed_total=1", ERR_INVALID},
        {"1;penstock_jobs_claimed_total=1;penstock_pickup_seconds=5", ERR_INVALID},
        {"1;penstock_jobs_claimed_total=1;penstock_pickup_seconds=5:1,2", ERR_INVALID},
        {"1;penstock_pickup_seconds=5:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0", ERR_INVALID},
        {"1;penstock_pickup_seconds=5:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,x", ERR_INVALID},
        {"1;penstock_pickup_seconds=5:0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,", ERR_INVALID},
    };
    struct metrics_table *table = metrics_table_create();
    struct buf out = {.size_max = 1000000};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(merge(table, cases[i].text), cases[i].status);
    char *longer = malloc(20000);
    assert_non_null(longer);
    memset(longer, '1', 20000);
    assert_int_equal(metrics_merge(table, longer, 20000), ERR_INVALID);
    free(longer);
    assert_non_null(strstr(render(table, &out), "\npenstock_jobs_claimed_total 0\n"));
    metrics_table_destroy(table);
    buf_deinit(&out);
}

static void test_encoded_size_is_bounded(void **state)
{
    struct buf encoded = {.size_max = 16384};
    struct buf small = {.size_max = 50};
    (void)state;

    for (int i = 0; i < 1000; i++)
        metrics_observe_ms(METRIC_REDIS_SECONDS, i * 700.0);
    assert_int_equal(metrics_encode(&encoded), 0);
    assert_int_equal(metrics_encode(&small), ERR_TOO_BIG);
    struct metrics_table *table = metrics_table_create();
    assert_int_equal(metrics_merge(table, encoded.data, encoded.size), 0);
    metrics_table_destroy(table);
    buf_deinit(&encoded);
    buf_deinit(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges),
        cmocka_unit_test(test_histogram_buckets),
        cmocka_unit_test(test_fleet_is_added_up),
        cmocka_unit_test(test_sums_do_not_wrap),
        cmocka_unit_test(test_what_does_not_fit_is_refused_whole),
        cmocka_unit_test(test_encoded_size_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
