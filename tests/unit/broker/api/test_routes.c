/* Which handler answers which method and path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/handlers.h"

static struct route_result find(const char *method, const char *path)
{
    struct route_result result;

    route_find(slice_of(method), slice_of(path), &result);
    return result;
}

static void test_found(void **state)
{
    static const struct {
        const char *method, *path;
        void (*run)(struct context *context);
        const char *param;
    } cases[] = {
        {"POST", "/v1/jobs", handle_job_submit, NULL},
        {"GET", "/v1/jobs", handle_jobs_list, NULL},
        {"POST", "/v1/jobs/bulk", handle_jobs_bulk, NULL},
        {"POST", "/v1/jobs/query", handle_jobs_query, NULL},
        {"GET", "/v1/jobs/job_1", handle_job_get, "job_1"},
        {"DELETE", "/v1/jobs/job_1", handle_job_forget, "job_1"},
        {"GET", "/v1/jobs/job_1/result", handle_job_result, "job_1"},
        {"GET", "/v1/jobs/job_1/events", handle_job_events, "job_1"},
        {"POST", "/v1/jobs/job_1/cancel", handle_job_cancel, "job_1"},
        {"POST", "/v1/jobs/job_1/retry", handle_job_retry, "job_1"},
        {"GET", "/v1/queues", handle_queues, NULL},
        {"GET", "/v1/queues/org%2Fm", handle_queue, "org%2Fm"},
        {"POST", "/v1/queues/m/pause", handle_queue_pause, "m"},
        {"POST", "/v1/queues/m/resume", handle_queue_resume, "m"},
        {"GET", "/v1/upstreams", handle_upstreams, NULL},
        {"POST", "/v1/upstreams/gpu0/pause", handle_upstream_pause, "gpu0"},
        {"POST", "/v1/upstreams/gpu0/resume", handle_upstream_resume, "gpu0"},
        {"GET", "/v1/workers", handle_workers, NULL},
        {"GET", "/v1/stats", handle_stats, NULL},
        {"GET", "/v1/models", handle_models, NULL},
        {"GET", "/v1/models/org%2Fm:tag", handle_model, "org%2Fm:tag"},
        {"POST", "/v1/chat/completions", handle_chat, NULL},
        {"POST", "/v1/completions", handle_completions, NULL},
        {"POST", "/v1/embeddings", handle_embeddings, NULL},
        {"GET", "/healthz", handle_alive, NULL},
        {"HEAD", "/readyz", handle_ready, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct route_result result = find(cases[i].method, cases[i].path);
        assert_int_equal(result.match, ROUTE_FOUND);
        assert_ptr_equal(result.route->run, cases[i].run);
        if (cases[i].param)
            assert_true(slice_is(result.param, cases[i].param));
        else
            assert_null(result.param.bytes);
    }
}

static void test_other_method(void **state)
{
    static const struct {
        const char *method, *path, *allow;
        enum api_dialect dialect;
    } cases[] = {
        {"PUT", "/v1/jobs", "POST, GET", DIALECT_NATIVE},
        {"GET", "/v1/jobs/bulk", "POST", DIALECT_NATIVE},
        {"PATCH", "/v1/jobs/job_1", "GET, DELETE", DIALECT_NATIVE},
        {"GET", "/v1/jobs/job_1/cancel", "POST", DIALECT_NATIVE},
        {"GET", "/v1/chat/completions", "POST", DIALECT_OPENAI},
        {"DELETE", "/v1/models/m", "GET", DIALECT_OPENAI},
        {"POST", "/healthz", "GET, HEAD", DIALECT_NATIVE},
        {"get", "/v1/jobs", "POST, GET", DIALECT_NATIVE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct route_result result = find(cases[i].method, cases[i].path);
        assert_int_equal(result.match, ROUTE_OTHER_METHOD);
        assert_string_equal(result.allow, cases[i].allow);
        assert_int_equal(result.dialect, cases[i].dialect);
        assert_null(result.route);
    }
}

static void test_unknown(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        "/v1",
        "/v1/",
        "/v1/jobs/",
        "/v1/jobs//result",
        "/v1/job",
        "/v1/jobsx",
        "/v1/jobs/a/b",
        "/v1/jobs/a/result/",
        "/metrics",
        "//v1/jobs",
        "/v1/queues/a/b",
        "/V1/jobs",
        "/v1/filesystem",
        "/v1/batchesx",
    };

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        assert_int_equal(find("GET", paths[i]).match, ROUTE_UNKNOWN);
}

static void test_not_built(void **state)
{
    static const struct {
        const char *path;
        enum api_dialect dialect;
    } cases[] = {
        {"/v1/responses", DIALECT_OPENAI},
        {"/v1/responses/resp_1/cancel", DIALECT_OPENAI},
        {"/v1/files", DIALECT_OPENAI},
        {"/v1/files/file-1/content", DIALECT_OPENAI},
        {"/v1/uploads", DIALECT_OPENAI},
        {"/v1/batches", DIALECT_OPENAI},
        {"/v1/messages", DIALECT_ANTHROPIC},
        {"/v1/messages/batches", DIALECT_ANTHROPIC},
        {"/v1/images/generations", DIALECT_OPENAI},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct route_result result = find("POST", cases[i].path);
        assert_int_equal(result.match, ROUTE_NOT_BUILT);
        assert_int_equal(result.dialect, cases[i].dialect);
    }
}

/* Only health is for strangers; what changes or shows the fleet is for admins. */
static void test_access(void **state)
{
    unsigned count = 0;

    (void)state;
    for (const struct route *route = route_at(0); route; route = route_at(++count)) {
        bool is_health =
            strcmp(route->path, "/healthz") == 0 || strcmp(route->path, "/readyz") == 0;
        bool is_fleet = strncmp(route->path, "/v1/upstreams", 13) == 0 ||
                        strcmp(route->path, "/v1/workers") == 0 ||
                        strcmp(route->path, "/v1/stats") == 0 || strstr(route->path, "/pause") ||
                        strstr(route->path, "/resume");
        assert_int_equal(route->access == ACCESS_PUBLIC, is_health);
        assert_int_equal(route->access == ACCESS_ADMIN, is_fleet);
        assert_non_null(route->run);
        assert_int_equal(route->begin != NULL, route->body == BODY_LINES);
    }
    assert_true(count > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),   cmocka_unit_test(test_other_method),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_not_built),
        cmocka_unit_test(test_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
