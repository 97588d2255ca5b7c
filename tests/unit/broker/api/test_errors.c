/* Problems in every dialect's shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/errors.h"
#include "common/base/error.h"
#include "common/base/jdoc.h"

static void assert_text(const struct problem *problem, enum api_dialect dialect, const char *wanted)
{
    struct buf out = {.size_max = 8192};

    assert_int_equal(problem_put(&out, problem, dialect, slice_of("req_1")), 0);
    assert_string_equal(out.data, wanted);
    buf_deinit(&out);
}

static void test_shapes(void **state)
{
    struct problem problem;

    (void)state;
    assert_int_equal(problem_set(&problem, PROBLEM_MISSING_FIELD, "body.model",
                                 "%s is \"required\".", "body.model"),
                     ERR_INVALID);
    assert_text(
        &problem, DIALECT_NATIVE,
        "{\"type\":\"about:blank\",\"title\":\"A required field is missing\",\"status\":400,"
        "\"detail\":\"body.model is \\\"required\\\".\",\"code\":\"missing_field\","
        "\"param\":\"body.model\"}");
    assert_text(&problem, DIALECT_OPENAI,
                "{\"error\":{\"message\":\"body.model is \\\"required\\\".\",\"type\":"
                "\"invalid_request_error\",\"param\":\"body.model\",\"code\":\"missing_field\"}}");
    assert_text(&problem, DIALECT_ANTHROPIC,
                "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":"
                "\"body.model is \\\"required\\\".\"},\"request_id\":\"req_1\"}");
}

static void test_own_code_status_and_job(void **state)
{
    struct problem problem;

    (void)state;
    problem_set(&problem, PROBLEM_JOB_FAILED, NULL, "d");
    memcpy(problem.code, "poison", 7);
    assert_text(&problem, DIALECT_NATIVE,
                "{\"type\":\"about:blank\",\"title\":\"The job has no result\",\"status\":422,"
                "\"detail\":\"d\",\"code\":\"poison\"}");
    problem_set(&problem, PROBLEM_OUTCOME_UNKNOWN, NULL, "d");
    memcpy(problem.job_id, "job_1", 6);
    assert_text(&problem, DIALECT_NATIVE,
                "{\"type\":\"about:blank\",\"title\":\"The outcome is not known\",\"status\":503,"
                "\"detail\":\"d\",\"code\":\"outcome_unknown\",\"job_id\":\"job_1\"}");
    assert_text(&problem, DIALECT_OPENAI,
                "{\"error\":{\"message\":\"d (job_1)\",\"type\":\"server_error\",\"param\":null,"
                "\"code\":\"outcome_unknown\"}}");
}

static void test_line(void **state)
{
    struct buf out = {.size_max = 1024};
    struct problem problem;

    (void)state;
    problem_set(&problem, PROBLEM_UNKNOWN_FIELD, "x", "m");
    assert_int_equal(problem_put_line(&out, &problem), 0);
    assert_string_equal(out.data, "{\"code\":\"unknown_field\",\"message\":\"m\",\"param\":\"x\"}");
    buf_clear(&out);
    problem_set(&problem, PROBLEM_STORE_FULL, NULL, "m");
    assert_int_equal(problem_put_line(&out, &problem), 0);
    assert_string_equal(out.data, "{\"code\":\"store_full\",\"message\":\"m\",\"param\":null}");
    buf_deinit(&out);
}

/* SDKs retry 408, 409, 429 and all from 500 on: every one of these says what to do. */
static void test_every_row(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < PROBLEM_COUNT; kind++) {
        struct problem problem;
        problem_set(&problem, (enum problem_kind)kind, NULL, "d");
        int status = problem_status(&problem);
        assert_in_range(status, 400, 599);
        assert_true(problem_code(&problem)[0] != '\0');
        if (status == 409 || status == 429 || status >= 500)
            assert_true(problem_retry_of(&problem) != RETRY_UNSAID);
        if (status == 429 || status == 503)
            assert_int_equal(problem_retry_of(&problem), RETRY_SOON);
        problem.is_final = true;
        assert_int_equal(problem_retry_of(&problem), RETRY_NEVER);
        for (unsigned dialect = 0; dialect <= DIALECT_ANTHROPIC; dialect++) {
            struct buf out = {.size_max = 8192};
            struct jdoc *doc = NULL;
            assert_int_equal(problem_put(&out, &problem, (enum api_dialect)dialect, slice_of("r")),
                             0);
            assert_int_equal(jdoc_parse(out.data, out.size, &doc, NULL), 0);
            jdoc_destroy(doc);
            buf_deinit(&out);
        }
    }
}

static void test_statuses_of_the_queue(void **state)
{
    static const struct {
        int status;
        int http_status;
        const char *code;
    } cases[] = {
        {ERR_NOT_FOUND, 404, "not_found"},     {ERR_OFFLINE, 503, "store_unavailable"},
        {ERR_UNFIT, 503, "store_unavailable"}, {ERR_BUSY, 503, "overloaded"},
        {ERR_UNKNOWN, 503, "outcome_unknown"}, {ERR_FULL, 503, "store_full"},
        {ERR_NEWER, 503, "store_unavailable"}, {ERR_CORRUPT, 500, "corrupt_record"},
        {ERR_PROTOCOL, 500, "internal"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct problem problem;
        problem_from_status(&problem, cases[i].status);
        assert_int_equal(problem_status(&problem), cases[i].http_status);
        assert_string_equal(problem_code(&problem), cases[i].code);
    }
}

/* Text from outside may stand in detail and param: it is cut and escaped, never trusted. */
static void test_hostile_text(void **state)
{
    char long_text[4096];
    struct problem problem;
    struct buf out = {.size_max = 65536};
    struct jdoc *doc = NULL;

    (void)state;
    memset(long_text, '"', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    problem_set(&problem, PROBLEM_UNKNOWN_FIELD, long_text, "%s\r\n\x01\xff", long_text);
    assert_int_equal(problem_put(&out, &problem, DIALECT_NATIVE, slice_of("r")), 0);
    assert_int_equal(jdoc_parse(out.data, out.size, &doc, NULL), 0);
    assert_null(memchr(out.data, '\n', out.size));
    jdoc_destroy(doc);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),       cmocka_unit_test(test_own_code_status_and_job),
        cmocka_unit_test(test_line),         cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_hostile_text), cmocka_unit_test(test_statuses_of_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
