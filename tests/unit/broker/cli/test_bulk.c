/* Rows between reading and writing, the sum of a run, and which refusals are tried again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/errors.h" /* the list of codes alone; nothing of it is linked */
#include "broker/cli/bulk.h"

/* ---- rows ---------------------------------------------------------------------------------------
 */

static struct bulk_item *add(struct bulk *bulk, int64_t line)
{
    int64_t index = -1;

    assert_int_equal(bulk_add_item(bulk, line, &index), 0);
    assert_int_equal(index, bulk->next - 1);
    return bulk_item_at(bulk, index);
}

static void rows_keep_their_place_while_the_ring_grows(void **state)
{
    struct bulk *bulk = calloc(1, sizeof(*bulk));

    (void)state;
    assert_non_null(bulk);
    for (int64_t line = 1; line <= 700; line++)
        snprintf(add(bulk, line)->id, sizeof(bulk->ring->id), "job_%lld", (long long)line);
    for (int64_t at = 0; at < 500; at++)
        bulk_item_at(bulk, at)->phase = BULK_WRITTEN;
    bulk_drop_written(bulk);
    assert_int_equal(bulk->first, 500);
    for (int64_t line = 701; line <= 5000; line++)
        snprintf(add(bulk, line)->id, sizeof(bulk->ring->id), "job_%lld", (long long)line);
    for (int64_t at = bulk->first; at < bulk->next; at++) {
        char id[40];
        snprintf(id, sizeof(id), "job_%lld", (long long)at + 1);
        assert_string_equal(bulk_item_at(bulk, at)->id, id);
        assert_int_equal(bulk_item_at(bulk, at)->line, at + 1);
    }
    assert_int_equal(bulk->capacity, 8192);
    assert_int_equal(bulk->stats.lines, 5000);
    bulk_deinit(bulk);
    free(bulk);
}

static void the_window_has_an_end(void **state)
{
    struct bulk *bulk = calloc(1, sizeof(*bulk));
    int64_t index;

    (void)state;
    assert_non_null(bulk);
    for (int64_t line = 0; line < BULK_WINDOW_MAX; line++)
        add(bulk, line + 1);
    assert_false(bulk_has_room(bulk));
    assert_int_equal(bulk_add_item(bulk, 1, &index), ERR_FULL);
    /* Three million lines in the memory of half a million. */
    for (int64_t line = BULK_WINDOW_MAX; line < 3000000; line++) {
        bulk_item_at(bulk, bulk->first)->phase = BULK_WRITTEN;
        bulk_drop_written(bulk);
        add(bulk, line + 1);
    }
    assert_int_equal(bulk->capacity, BULK_WINDOW_MAX);
    assert_int_equal(bulk_item_at(bulk, bulk->first)->line, 3000000 - BULK_WINDOW_MAX + 1);
    bulk_deinit(bulk);
    free(bulk);
}

static void refused_rows_hold_the_reason(void **state)
{
    struct bulk *bulk = calloc(1, sizeof(*bulk));

    (void)state;
    assert_non_null(bulk);
    struct bulk_item *item = add(bulk, 7);
    item->custom_id = strdup("\"c\"");
    bulk_refuse(bulk, item, "invalid_json", "no \"end\"");
    assert_string_equal(item->error,
                        "{\"code\": \"invalid_json\", \"message\": \"no \\\"end\\\"\"}");
    assert_int_equal(item->phase, BULK_REFUSED);
    assert_int_equal(bulk->stats.refused, 1);
    bulk_deinit(bulk); /* frees what was never written */
    free(bulk);
}

/* ---- the sum ------------------------------------------------------------------------------------
 */

static void assert_near(double value, double expected)
{
    assert_true(fabs(value - expected) <= expected * 0.005);
}

static void quantiles_are_within_half_a_percent(void **state)
{
    struct bulk_stats *stats = calloc(1, sizeof(*stats));

    (void)state;
    assert_non_null(stats);
    assert_true(bulk_stats_quantile(stats, 0.5) == 0);
    for (int i = 1; i <= 1000; i++)
        bulk_stats_add_run(stats, i * 0.01);
    assert_near(bulk_stats_quantile(stats, 0), 0.01);
    assert_near(bulk_stats_quantile(stats, 0.5), 5.01);
    assert_near(bulk_stats_quantile(stats, 0.99), 9.91);
    assert_near(bulk_stats_quantile(stats, 1), 10.0);
    assert_near(stats->run_s, 5005);
    free(stats);
}

static void strange_times_do_no_harm(void **state)
{
    static const double times[] = {0, -5, 1e300, 1e-300, 1e6};
    struct bulk_stats *stats = calloc(1, sizeof(*stats));

    (void)state;
    assert_non_null(stats);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        bulk_stats_add_run(stats, times[i]);
    assert_int_equal(stats->runs, 5);
    assert_true(bulk_stats_quantile(stats, 1) > 1e5);
    free(stats);
}

static void the_sum_is_text_or_json(void **state)
{
    struct bulk_stats *stats = calloc(1, sizeof(*stats));
    struct buf text = {.size_max = 4096};
    struct jdoc *doc = NULL;
    double number = 0;

    (void)state;
    assert_non_null(stats);
    *stats = (struct bulk_stats){
        .lines = 10, .succeeded = 7, .failed = 2, .refused = 1, .output_tokens = 1e12};
    for (int i = 0; i < 9; i++)
        bulk_stats_add_run(stats, 60);
    assert_int_equal(bulk_stats_put(stats, 2, false, &text), 0);
    assert_non_null(strstr(text.data, "10 jobs: 7 succeeded, 2 failed, 1 refused in 2.00 s (5.0"));
    assert_non_null(strstr(text.data, "one after the other: 9m00s"));
    buf_clear(&text);
    assert_int_equal(bulk_stats_put(stats, 0, true, &text), 0);
    assert_int_equal(jdoc_parse(text.data, text.size - 1, &doc, NULL), 0);
    assert_int_equal(jval_double(jval_get(jdoc_root(doc), "output_tokens"), &number), 0);
    assert_true(number > 9e11 && number < 1.1e12);
    jdoc_destroy(doc);
    buf_deinit(&text);
    free(stats);
}

/* ---- refusals -----------------------------------------------------------------------------------
 */

/* The API says of each code whether coming back helps; the client has to think the same. */
static void retries_what_the_api_says(void **state)
{
    static const struct {
        const char *code;
        enum problem_retry retry;
    } rows[] = {
#define TEST_ROW(name, status, code, title, retry) {code, retry},
        PROBLEM_LIST(TEST_ROW)
#undef TEST_ROW
    };
    unsigned soon = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (bulk_may_send_again(rows[i].code) != (rows[i].retry == RETRY_SOON))
            fail_msg("%s", rows[i].code);
        soon += rows[i].retry == RETRY_SOON;
    }
    assert_true(soon > 5);
    assert_false(bulk_may_send_again(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_keep_their_place_while_the_ring_grows),
        cmocka_unit_test(the_window_has_an_end),
        cmocka_unit_test(refused_rows_hold_the_reason),
        cmocka_unit_test(quantiles_are_within_half_a_percent),
        cmocka_unit_test(strange_times_do_no_harm),
        cmocka_unit_test(the_sum_is_text_or_json),
        cmocka_unit_test(retries_what_the_api_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
