/* Lines of input files become jobs, and prompts become bodies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/cli/job_line.h"
#include "common/base/jdoc.h"

struct line_case {
    const char *line;
    const char *priority, *key;
    const char *job; /* NULL: refused */
    const char *custom_id;
    const char *why; /* part of the reason */
};

static void check_line(const struct line_case *test)
{
    struct job_line_defaults defaults = {.priority = test->priority, .idempotency_key = test->key};
    struct buf out = {.size_max = 4096};
    struct error_text why = {{0}};
    char *custom_id = NULL;

    assert_int_equal(buf_append_text(&out, "before"), 0);
    int status = job_line_convert(slice_of(test->line), &defaults, &out, &custom_id, &why);
    if (!test->job) {
        assert_int_equal(status, ERR_INVALID);
        assert_int_equal(out.size, 6);
        assert_non_null(strstr(why.text, test->why));
        assert_null(custom_id);
    } else {
        struct jdoc *doc = NULL;
        assert_int_equal(status, 0);
        assert_int_equal(out.size, 6 + strlen(test->job));
        assert_memory_equal(out.data, "before", 6);
        assert_memory_equal(out.data + 6, test->job, out.size - 6);
        assert_int_equal(jdoc_parse(out.data + 6, out.size - 6, &doc, NULL), 0);
        jdoc_destroy(doc);
        if (test->custom_id)
            assert_string_equal(custom_id, test->custom_id);
        else
            assert_null(custom_id);
    }
    free(custom_id);
    buf_deinit(&out);
}

static void converts_lines(void **state)
{
    static const struct line_case tests[] = {
        {.line = "{\"endpoint\": \"/v1/x\", \"body\": {\"a\":  1}}",
         .job = "{\"endpoint\": \"/v1/x\", \"body\": {\"a\":  1}}"},
        {.line = "{\"endpoint\":\"/v1/x\",\"body\":{}}  \t",
         .priority = "low",
         .key = "k\"1#7",
         .job = "{\"endpoint\":\"/v1/x\",\"body\":{},\"priority\":\"low\",\"idempotency_key\":"
                "\"k\\\"1#7\"}"},
        {.line = "{\"endpoint\":\"e\",\"priority\":\"high\",\"idempotency_key\":\"mine\"}",
         .priority = "low",
         .key = "k",
         .job = "{\"endpoint\":\"e\",\"priority\":\"high\",\"idempotency_key\":\"mine\"}"},
        {.line = "{\"custom_id\": \"c\\n1\", \"method\": \"POST\", \"url\": \"/v1/e\", \"body\": "
                 "{\"x\": [1, 2]}}",
         .priority = "low",
         .job = "{\"endpoint\":\"/v1/e\",\"body\":{\"x\": [1, "
                "2]},\"metadata\":{\"custom_id\":\"c\\n1\"},\"priority\":\"low\"}",
         .custom_id = "\"c\\n1\""},
        {.line = "{\"body\":{},\"url\":\"/v1/e\"}",
         .key = "k#1",
         .job = "{\"endpoint\":\"/v1/e\",\"body\":{},\"idempotency_key\":\"k#1\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        check_line(&tests[i]);
}

static void refuses_lines(void **state)
{
    static const struct line_case tests[] = {
        {.line = "{\"endpoint\": ", .why = "byte"},
        {.line = "[]", .why = "JSON object"},
        {.line = "{}", .why = "neither endpoint nor url"},
        {.line = "{\"url\":\"/v1/e\"}", .why = "body is missing"},
        {.line = "{\"url\":7,\"body\":{}}", .why = "url must be a string"},
        {.line = "{\"url\":\"/v1/e\",\"body\":\"x\"}", .why = "body must be an object"},
        {.line = "{\"url\":\"/v1/e\",\"method\":\"GET\",\"body\":{}}", .why = "POST"},
        {.line = "{\"url\":\"/v1/e\",\"custom_id\":7,\"body\":{}}", .why = "custom_id"},
        {.line = "{\"url\":\"/v1/e\",\"body\":{},\"priority\":\"low\"}", .why = "priority"},
        {.line = "{\"url\":\"/v1/e\",\"body\":{}} {}", .why = "byte"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
        check_line(&tests[i]);
}

static void refuses_long_custom_ids(void **state)
{
    char line[1024];
    struct job_line_defaults defaults = {.priority = NULL};
    struct buf out = {.size_max = 4096};
    struct error_text why;
    char *custom_id = NULL;

    (void)state;
    snprintf(line, sizeof(line), "{\"url\":\"/e\",\"body\":{},\"custom_id\":\"%0512d\"}", 1);
    assert_int_equal(job_line_convert(slice_of(line), &defaults, &out, &custom_id, &why), 0);
    assert_int_equal(strlen(custom_id), 514);
    free(custom_id);
    custom_id = NULL;
    snprintf(line, sizeof(line), "{\"url\":\"/e\",\"body\":{},\"custom_id\":\"%0513d\"}", 1);
    assert_int_equal(job_line_convert(slice_of(line), &defaults, &out, &custom_id, &why),
                     ERR_INVALID);
    buf_deinit(&out);
}

static void says_when_there_is_no_room(void **state)
{
    struct job_line_defaults defaults = {.idempotency_key = "0123456789"};
    const char *line = "{\"endpoint\":\"e\"}";
    struct error_text why;
    char *custom_id = NULL;

    (void)state;
    struct buf whole = {.size_max = 4096};
    assert_int_equal(job_line_convert(slice_of(line), &defaults, &whole, &custom_id, &why), 0);
    for (size_t size = 0; size < whole.size; size++) {
        struct buf out = {.size_max = size};
        assert_int_equal(job_line_convert(slice_of(line), &defaults, &out, &custom_id, &why),
                         ERR_TOO_BIG);
        assert_int_equal(out.size, 0);
        buf_deinit(&out);
    }
    buf_deinit(&whole);
}

static void makes_bodies(void **state)
{
    static const char *const tests[][2] = {
        {"chat",
         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"say \\\"hi\\\"\"}]}"},
        {"completions", "{\"model\":\"m\",\"prompt\":\"say \\\"hi\\\"\"}"},
        {"embeddings", "{\"model\":\"m\",\"input\":\"say \\\"hi\\\"\"}"},
        {"/v1/other", "{\"model\":\"m\",\"prompt\":\"say \\\"hi\\\"\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        struct buf out = {.size_max = 4096};
        assert_int_equal(
            job_line_body(job_line_endpoint(tests[i][0]), "m", slice_of("say \"hi\""), &out), 0);
        assert_string_equal(out.data, tests[i][1]);
        buf_deinit(&out);
    }
    assert_string_equal(job_line_endpoint("embeddings"), "/v1/embeddings");
    assert_string_equal(job_line_endpoint("/v1/other"), "/v1/other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converts_lines),
        cmocka_unit_test(refuses_lines),
        cmocka_unit_test(refuses_long_custom_ids),
        cmocka_unit_test(says_when_there_is_no_room),
        cmocka_unit_test(makes_bodies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
