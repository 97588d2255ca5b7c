/* Upstreams that cut, lie, flood and die; and ourselves, who abort and close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "call_helper.h"
#include "common/base/clock.h"

enum { ANSWER_MAX = 256 * 1024, LOAD = 2000 };

static void raise_files(void)
{
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
}

static int open_fixture(void **state)
{
    struct call_fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    raise_files();
    call_fixture_open(fixture, LOAD, ANSWER_MAX);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state)
{
    call_fixture_close(*state);
    free(*state);
    return 0;
}

static void test_broken_answers_have_their_class(void **state)
{
    static const struct {
        const char *path;
        enum upstream_end end;
    } rows[] = {
        {"/cut", UPSTREAM_BROKEN},          {"/reset", UPSTREAM_BROKEN},
        {"/cut-head", UPSTREAM_BROKEN},     {"/cut-body", UPSTREAM_BROKEN},
        {"/cut-chunk", UPSTREAM_BROKEN},    {"/garbage", UPSTREAM_PROTOCOL},
        {"/http09", UPSTREAM_PROTOCOL},     {"/gzip", UPSTREAM_PROTOCOL},
        {"/endless", UPSTREAM_TOO_LARGE},   {"/length/300000", UPSTREAM_TOO_LARGE},
        {"/head-flood", UPSTREAM_PROTOCOL}, {"/head-line", UPSTREAM_PROTOCOL},
    };
    struct call_fixture *fixture = *state;
    struct call_result result;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct upstream_request request = call_request(call_url(fixture, rows[i].path), "{}");
        int before = atomic_load(&fixture->server.counts->requests);
        call_run(fixture, &request, &result);
        if (result.answer.end != rows[i].end)
            print_error("%s: ended as %d: %s\n", rows[i].path, result.answer.end,
                        result.answer.detail);
        assert_int_equal(result.answer.end, rows[i].end);
        assert_true(result.body_size <= ANSWER_MAX);
        assert_string_not_equal(result.answer.detail, "");
        /* Whatever went wrong: the server saw this request once. */
        assert_int_equal(atomic_load(&fixture->server.counts->requests), before + 1);
    }
}

static void test_more_than_the_length_said_is_not_part_of_it(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/longer"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_string_equal(result.body, "{}");
    /* What was left over must not be taken for the next answer. */
    request.url = call_url(fixture, "/ok");
    call_run(fixture, &request, &result);
    assert_string_equal(result.body, "{\"size\":2,\"sum\":248}");
}

/* The server reads the second request on a kept connection and closes without a word. libcurl would
 * send it again. */
static void test_no_post_is_sent_twice(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/once"), "{}");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_false(result.answer.was_stale);
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_BROKEN);
    assert_true(result.answer.was_stale);
    assert_int_equal(result.answer.http_status, 0);
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 2);

    /* One that asks for a connection of its own gets it. */
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    request.is_fresh = true;
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_ANSWERED);
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 4);

    /* A fresh connection that dies is no stale one. */
    request.url = call_url(fixture, "/cut");
    call_run(fixture, &request, &result);
    assert_int_equal(result.answer.end, UPSTREAM_BROKEN);
    assert_false(result.answer.was_stale);
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 5);
}

static void test_abort_ends_the_call_within_the_turn(void **state)
{
    static const char *const paths[] = {"/hang", "/stall", "/drip/5/100000"};
    struct call_fixture *fixture = *state;
    struct call_result result;

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        int requests = atomic_load(&fixture->server.counts->requests);
        size_t ends = fixture->answers;
        struct upstream_request request = call_request(call_url(fixture, paths[i]), "{}");
        call_start(fixture, &request, &result);
        while (atomic_load(&fixture->server.counts->requests) == requests)
            (void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
        int64_t start_ms = clock_mono_ms();
        upstream_call_abort(result.call);
        upstream_call_abort(result.call); /* twice is once */
        assert_int_equal(fixture->answers, ends);
        (void)uv_run(&fixture->loop, UV_RUN_ONCE);
        assert_int_equal(result.ends, 1);
        assert_int_equal(result.answer.end, UPSTREAM_ABORTED);
        assert_true(clock_mono_ms() - start_ms < 2000);
        /* The server is told: the connection goes. */
        int closed = (int)i + 1;
        while (atomic_load(&fixture->server.counts->closed_by_peer) < closed)
            assert_true(clock_mono_ms() - start_ms < 5000);
    }
}

static void test_abort_before_anything_went_out(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result result;

    struct upstream_request request = call_request(call_url(fixture, "/ok"), "{}");
    call_start(fixture, &request, &result);
    upstream_call_abort(result.call);
    call_wait(fixture, &fixture->answers, 1, 1000);
    assert_int_equal(result.answer.end, UPSTREAM_ABORTED);
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 0);

    request.url = "http://no-such-host.invalid/";
    call_start(fixture, &request, &result);
    upstream_call_abort(result.call);
    call_wait(fixture, &fixture->answers, 2, 1000);
    assert_int_equal(result.answer.end, UPSTREAM_ABORTED);
}

struct chunk_aborter {
    struct call_fixture *fixture;
    struct upstream_call *call;
    struct upstream_answer answer;
    bool by_return;
};

static int on_chunk_abort(const char *bytes, size_t size, void *arg)
{
    struct chunk_aborter *aborter = arg;
    (void)bytes, (void)size;
    if (aborter->by_return)
        return 1;
    upstream_call_abort(aborter->call);
    return 0;
}

static void on_aborter_end(const struct upstream_answer *answer, void *arg)
{
    struct chunk_aborter *aborter = arg;
    aborter->answer = *answer;
    aborter->fixture->answers++;
}

static void test_abort_from_inside_a_chunk(void **state)
{
    struct call_fixture *fixture = *state;

    for (int by_return = 0; by_return < 2; by_return++) {
        struct chunk_aborter aborter = {.fixture = fixture, .by_return = by_return == 1};
        size_t expected = fixture->answers + 1;
        struct upstream_request request = call_request(call_url(fixture, "/drip/10/1000"), "{}");
        assert_int_equal(upstream_call_start(fixture->pool, &request, on_chunk_abort,
                                             on_aborter_end, &aborter, &aborter.call),
                         0);
        call_wait(fixture, &fixture->answers, expected, 5000);
        assert_int_equal(aborter.answer.end, UPSTREAM_ABORTED);
    }
}

/* All at once, twice, so that the second round finds the connections of the first. */
static void test_thousands_at_once(void **state)
{
    struct call_fixture *fixture = *state;
    struct call_result *results = calloc(LOAD, sizeof *results);

    assert_non_null(results);
    struct upstream_request request = call_request(call_url(fixture, "/wait/1000"), "{\"a\":1}");
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < LOAD; i++)
            call_start(fixture, &request, &results[i]);
        assert_int_equal(upstream_pool_in_flight(fixture->pool), LOAD);
        call_wait(fixture, &fixture->answers, (size_t)round * LOAD, 30000);
        for (int i = 0; i < LOAD; i++)
            assert_int_equal(results[i].ends, 1);
        assert_int_equal(fixture->answered, (size_t)round * LOAD);
    }
    assert_int_equal(atomic_load(&fixture->server.counts->requests), 2 * LOAD);
    assert_int_equal(atomic_load(&fixture->server.counts->open_max), LOAD);
    assert_int_equal(atomic_load(&fixture->server.counts->connections), LOAD);
    free(results);
}

struct chain {
    struct call_fixture *fixture;
    struct upstream_request request;
    int left;
};

static void on_chain_end(const struct upstream_answer *answer, void *arg)
{
    struct chain *chain = arg;
    chain->fixture->answers++;
    if (answer->end == UPSTREAM_ANSWERED)
        chain->fixture->answered++;
    if (chain->left-- > 0)
        assert_int_equal(upstream_call_start(chain->fixture->pool, &chain->request, NULL,
                                             on_chain_end, chain, NULL),
                         0);
}

static void test_an_end_may_start_the_next_call(void **state)
{
    struct call_fixture *fixture = *state;
    struct chain chain = {
        .fixture = fixture, .request = call_request(call_url(fixture, "/ok"), "{}"), .left = 200};

    assert_int_equal(
        upstream_call_start(fixture->pool, &chain.request, NULL, on_chain_end, &chain, NULL), 0);
    call_wait(fixture, &fixture->answers, 201, 10000);
    assert_int_equal(fixture->answered, 201);
    assert_int_equal(atomic_load(&fixture->server.counts->connections), 1);
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void test_closing_ends_every_call(void **state)
{
    static const char *const paths[] = {"/hang", "/ok", "/stall", "/drip/10/1000"};
    struct call_result results[64];
    struct call_fixture fixture;
    (void)state;

    call_fixture_open(&fixture, 100, ANSWER_MAX);
    for (int i = 0; i < 64; i++) {
        struct upstream_request request = call_request(call_url(&fixture, paths[i % 4]), "{}");
        if (i % 8 == 7)
            request.url = "http://localhost:1/";
        call_start(&fixture, &request, &results[i]);
        if (i == 40)
            call_wait(&fixture, &fixture.answered, 8, 5000);
    }
    upstream_pool_close(fixture.pool, on_closed, &fixture.is_closed);
    struct upstream_request late = call_request(call_url(&fixture, "/ok"), "{}");
    assert_int_equal(
        upstream_call_start(fixture.pool, &late, NULL, (upstream_end_fn)abort, NULL, NULL),
        ERR_STATE);
    assert_int_equal(uv_run(&fixture.loop, UV_RUN_DEFAULT), 0);
    assert_true(fixture.is_closed);
    assert_int_equal(fixture.answers, 64);
    for (int i = 0; i < 64; i++)
        assert_int_equal(results[i].ends, 1);
    assert_int_equal(uv_loop_close(&fixture.loop), 0);
    script_server_stop(&fixture.server);
}

#define TEST(function_) cmocka_unit_test_setup_teardown(function_, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_broken_answers_have_their_class),
        TEST(test_more_than_the_length_said_is_not_part_of_it),
        TEST(test_no_post_is_sent_twice),
        TEST(test_abort_ends_the_call_within_the_turn),
        TEST(test_abort_before_anything_went_out),
        TEST(test_abort_from_inside_a_chunk),
        TEST(test_thousands_at_once),
        TEST(test_an_end_may_start_the_next_call),
        cmocka_unit_test(test_closing_ends_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
