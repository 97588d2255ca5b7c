#include "call_helper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"

void call_fixture_open(struct call_fixture *fixture, unsigned calls_max, size_t response_bytes_max)
{
    struct error_text why;

    memset(fixture, 0, sizeof *fixture);
    script_server_start(&fixture->server);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    struct upstream_pool_options options = {
        .loop = &fixture->loop, .calls_max = calls_max, .response_bytes_max = response_bytes_max};
    assert_int_equal(upstream_pool_create(&options, &fixture->pool, &why), 0);
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

void call_fixture_close(struct call_fixture *fixture)
{
    upstream_pool_close(fixture->pool, on_closed, &fixture->is_closed);
    assert_int_equal(uv_run(&fixture->loop, UV_RUN_DEFAULT), 0);
    assert_true(fixture->is_closed);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    script_server_stop(&fixture->server);
}

struct upstream_request call_request(const char *url, const char *body)
{
    return (struct upstream_request){.method = "POST",
                                     .url = url,
                                     .body = slice_of(body),
                                     .connect_timeout_ms = 5000,
                                     .first_byte_timeout_ms = 10000,
                                     .idle_timeout_ms = 10000,
                                     .timeout_ms = 20000};
}

const char *call_url(const struct call_fixture *fixture, const char *path)
{
    static char urls[8][256];
    static unsigned turn;
    char *url = urls[turn++ % 8];

    (void)snprintf(url, sizeof urls[0], "http://127.0.0.1:%d%s", fixture->server.port, path);
    return url;
}

static void on_end(const struct upstream_answer *answer, void *arg)
{
    struct call_result *result = arg;
    size_t kept =
        answer->body.size < sizeof result->body - 1 ? answer->body.size : sizeof result->body - 1;
    result->ends++;
    result->answer = *answer;
    if (kept > 0)
        memcpy(result->body, answer->body.bytes, kept);
    result->body[kept] = '\0';
    result->body_size = answer->body.size;
    result->took_ms = clock_mono_ms() - result->started_at_ms;
    result->fixture->answers++;
    if (answer->end == UPSTREAM_ANSWERED && answer->http_status == 200)
        result->fixture->answered++;
}

static int on_chunk(const char *bytes, size_t size, void *arg)
{
    struct call_result *result = arg;
    (void)bytes;
    result->chunk_bytes += size;
    return 0;
}

void call_start(struct call_fixture *fixture, const struct upstream_request *request,
                struct call_result *result)
{
    memset(result, 0, sizeof *result);
    result->fixture = fixture;
    result->started_at_ms = clock_mono_ms();
    assert_int_equal(
        upstream_call_start(fixture->pool, request, on_chunk, on_end, result, &result->call), 0);
    assert_int_equal(result->ends, 0);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* its only use is to end the wait of the loop */
}

void call_wait(struct call_fixture *fixture, const size_t *count, size_t at_least, int ms)
{
    int64_t end_ms = clock_mono_ms() + ms;
    uv_timer_t tick;

    assert_int_equal(uv_timer_init(&fixture->loop, &tick), 0);
    assert_int_equal(uv_timer_start(&tick, on_tick, 20, 20), 0);
    while (*count < at_least && clock_mono_ms() < end_ms)
        (void)uv_run(&fixture->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    (void)uv_run(&fixture->loop, UV_RUN_NOWAIT);
    assert_true(*count >= at_least);
}

void call_run(struct call_fixture *fixture, const struct upstream_request *request,
              struct call_result *result)
{
    size_t expected = fixture->answers + 1;
    call_start(fixture, request, result);
    call_wait(fixture, &fixture->answers, expected, 30000);
    assert_int_equal(result->ends, 1);
}
