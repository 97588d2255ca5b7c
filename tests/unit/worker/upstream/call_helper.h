/* A pool, a server and collected answers, for the tests of calls. */
#ifndef PENSTOCK_TESTS_CALL_HELPER_H
#define PENSTOCK_TESTS_CALL_HELPER_H

#include <stdbool.h>
#include <uv.h>

#include "script_server.h"
#include "worker/upstream/upstream.h"

struct call_fixture {
    uv_loop_t loop;
    struct upstream_pool *pool;
    struct script_server server;
    bool is_closed;
    size_t answers;  /* ends that came, of all calls */
    size_t answered; /* of these, complete answers with 200 */
};

struct call_result {
    struct call_fixture *fixture;
    struct upstream_call *call;
    int ends; /* must become 1 */
    struct upstream_answer answer;
    char body[256]; /* the start of it, terminated */
    size_t body_size;
    size_t chunk_bytes;
    int64_t started_at_ms;
    int64_t took_ms;
};

void call_fixture_open(struct call_fixture *fixture, unsigned calls_max, size_t response_bytes_max);
/* Closes everything; proves that the loop has nothing left. */
void call_fixture_close(struct call_fixture *fixture);
/* A POST with generous time limits; change the fields that matter. url must outlive the start. */
struct upstream_request call_request(const char *url, const char *body);
/* "http://127.0.0.1:port" + path, in one of a few buffers used in turn. */
const char *call_url(const struct call_fixture *fixture, const char *path);
void call_start(struct call_fixture *fixture, const struct upstream_request *request,
                struct call_result *result);
/* Runs the loop until *count reaches at_least; fails the test after ms. */
void call_wait(struct call_fixture *fixture, const size_t *count, size_t at_least, int ms);
/* Starts, waits, and checks that on_end came once. */
void call_run(struct call_fixture *fixture, const struct upstream_request *request,
              struct call_result *result);

#endif
