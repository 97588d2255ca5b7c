/* The floor under every figure of the broker: our HTTP server with a handler that does nothing.
 *
 *   http_floor sync|held [port]    answers in on_complete, or a turn later (suspended till then)
 *
 * Prints "listening PORT" and serves until SIGTERM or SIGINT. Load it with POSTs of 1 KB on 64 kept
 * connections, the server and the load generator on a core each. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "broker/http/http_server.h"
#include "common/base/process.h"

enum { WAITING_MAX = 65536, BODY_MAX = 1024 * 1024 };

struct floor {
    uv_loop_t loop;
    uv_idle_t idle;
    uv_signal_t signals[2];
    struct http_server *server;
    bool is_held;
    struct http_request *waiting[WAITING_MAX];
    unsigned waiting_count;
};

static void answer(struct http_request *request)
{
    static const char body[] =
        "{\"id\":\"job_0000000000000000000000000000000000\",\"status\":\"queued\"}";
    const struct http_header location = {"Location", {"/v1/jobs/job_0000000000", 23}};
    const struct http_reply reply = {.status = 202,
                                     .content_type = "application/json",
                                     .headers = &location,
                                     .headers_count = 1,
                                     .body = {body, sizeof body - 1}};
    http_respond(request, &reply);
}

static void on_headers(struct http_request *request, void *arg)
{
    (void)arg;
    http_request_want_body(request, BODY_MAX);
}

static void on_idle(uv_idle_t *idle)
{
    struct floor *floor = idle->data;

    for (unsigned i = 0; i < floor->waiting_count; i++)
        answer(floor->waiting[i]);
    floor->waiting_count = 0;
    (void)uv_idle_stop(idle);
}

static void on_complete(struct http_request *request, void *arg)
{
    struct floor *floor = arg;

    if (!floor->is_held || floor->waiting_count == WAITING_MAX) {
        answer(request);
        return;
    }
    floor->waiting[floor->waiting_count++] = request;
    (void)uv_idle_start(&floor->idle, on_idle);
}

static void on_refused(struct http_request *request, enum http_refusal why, void *arg)
{
    (void)arg;
    (void)why;
    http_respond(request, &(struct http_reply){.status = 413});
}

static void on_gone(struct http_request *request, bool was_answered, void *arg)
{
    struct floor *floor = arg;

    (void)was_answered;
    for (unsigned i = 0; i < floor->waiting_count; i++) {
        if (floor->waiting[i] == request)
            floor->waiting[i] = floor->waiting[--floor->waiting_count];
    }
}

static void on_stopped(void *arg)
{
    struct floor *floor = arg;

    uv_close((uv_handle_t *)&floor->idle, NULL);
    uv_close((uv_handle_t *)&floor->signals[0], NULL);
    uv_close((uv_handle_t *)&floor->signals[1], NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct floor *floor = handle->data;

    (void)number;
    http_server_stop(floor->server, 1000, on_stopped, floor);
}

int main(int argc, char **argv)
{
    static struct floor floor;
    struct error_text why = {0};
    char address[32];

    if (argc < 2) {
        (void)fprintf(stderr, "usage: http_floor sync|held [port]\n");
        return 2;
    }
    process_setup();
    (void)snprintf(address, sizeof address, "127.0.0.1:%s", argc > 2 ? argv[2] : "0");
    int fd = http_listen(address, &why);
    if (fd < 0) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    floor.is_held = strcmp(argv[1], "held") == 0;
    CHECK(uv_loop_init(&floor.loop) == 0);
    CHECK(uv_idle_init(&floor.loop, &floor.idle) == 0);
    floor.idle.data = &floor;
    for (int i = 0; i < 2; i++) {
        CHECK(uv_signal_init(&floor.loop, &floor.signals[i]) == 0);
        floor.signals[i].data = &floor;
        CHECK(uv_signal_start(&floor.signals[i], on_signal, i == 0 ? SIGTERM : SIGINT) == 0);
    }
    const struct http_server_options options = {
        .loop = &floor.loop,
        .listen_fd = fd,
        .connections_max = 20000,
        .body_bytes_budget = 1 << 30,
        .is_counted = true,
        .handler = {on_headers, NULL, on_complete, on_refused, on_gone, &floor}};
    if (http_server_create(&options, &floor.server, &why) != 0) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 1;
    }
    (void)printf("listening %d\n", http_listen_port(fd));
    (void)fflush(stdout);
    (void)uv_run(&floor.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&floor.loop) == 0 ? 0 : 1;
}
