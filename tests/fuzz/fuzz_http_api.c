/* Every HTTP handler, through the real server, API, queue and Redis, by requests that are made from
 * the input: which route, which id, which query, headers and body. An answer always comes, with a
 * status that is documented and errors in their shape; nothing is held when the client has left.
 *
 * Only what may wait for somebody else is left without an answer: a call of the OpenAI API whose
 * job nobody runs, and a stream of events. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/api/routes.h"
#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/jdoc.h"
#include "common/base/text.h"
#include "http_api_world.h"

enum {
    REQUESTS_MAX = 6,
    WORK_MS = 15,  /* without an answer: jobs are ended */
    JUMP_MS = 35,  /* then: the waits of clients are over */
    LEAVE_MS = 90, /* then: who waits for a job or a stream leaves */
    ANSWER_MS = 60 * 1000,
    ANSWER_BYTES_MAX = 16 << 20,
    JUMP_BY_MS = 3600 * 1000,
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
extern const unsigned fuzz_replay_changes; /* an input takes milliseconds: see replay.c */
const unsigned fuzz_replay_changes = 8;

static struct world world;

struct input {
    const uint8_t *bytes;
    size_t size;
};

static unsigned take(struct input *input, unsigned count)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->bytes++ % count;
}

static struct slice take_text(struct input *input)
{
    size_t size = take(input, 256);

    if (size >= 250) /* a long one: the rest */
        size = input->size;
    if (size > input->size)
        size = input->size;
    struct slice text = {.bytes = (const char *)input->bytes, .size = size};
    input->bytes += size;
    input->size -= size;
    return text;
}

/* ---- a request ------------------------------------------------------------------------------- */

struct request {
    struct buf head, body;
    const struct route *route; /* NULL: some other address */
    bool is_head;
    bool is_cut; /* the client leaves in the middle of it */
};

static void put(struct buf *out, struct slice text)
{
    CHECK(buf_append(out, text.bytes, text.size) == 0);
}

static void put_text(struct buf *out, const char *text)
{
    put(out, slice_of(text));
}

/* So that the head stays one: what may not stand in a target is written as %XX. */
static void put_target(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            CHECK(buf_printf(out, "%%%02X", c) == 0);
        else
            CHECK(buf_append_char(out, (char)c) == 0);
    }
}

static void put_header(struct buf *out, const char *name, struct slice value)
{
    put_text(out, name);
    put_text(out, ": ");
    for (size_t i = 0; i < value.size; i++) {
        char c = value.bytes[i];
        CHECK(buf_append_char(out, c == '\r' || c == '\n' || c == '\0' ? ' ' : c) == 0);
    }
    put_text(out, "\r\n");
}

static const char *some_id(struct input *input)
{
    unsigned known = world.ids_count < WORLD_IDS_MAX ? world.ids_count : WORLD_IDS_MAX;

    return known > 0 ? world.ids[take(input, known)] : "job_0";
}

static void put_param(struct buf *out, struct input *input)
{
    switch (take(input, 5)) {
    case 0:
    case 1:
        put_text(out, some_id(input));
        break;
    case 2:
        put_text(out, "m");
        break;
    case 3:
        put_text(out, "gpu0");
        break;
    default:
        put_target(out, take_text(input));
        break;
    }
}

static void put_path(struct request *request, struct input *input)
{
    static const char *const others[] = {
        "/", "/v1/responses", "/v1/files/x", "/v1/messages", "/v1/jobs/", "/metrics"};
    unsigned which = take(input, 64);

    for (unsigned i = 0; i <= which && route_at(i); i++)
        request->route = i == which ? route_at(i) : NULL;
    if (!request->route) {
        if (which % 4 == 0)
            put_target(&request->head, take_text(input));
        else
            put_text(&request->head, others[which % 6]);
        return;
    }
    const char *path = request->route->path, *gap = strstr(path, "{}");
    put(&request->head, (struct slice){path, gap ? (size_t)(gap - path) : strlen(path)});
    if (gap) {
        put_param(&request->head, input);
        put_text(&request->head, gap + 2);
    }
}

static void put_query(struct buf *out, struct input *input)
{
    static const char *const names[] = {"wait",   "limit", "after", "status",
                                        "tenant", "batch", "model", "x"};
    static const char *const values[] = {"0", "1", "30", "100", "queued", "succeeded", "default"};
    unsigned count = take(input, 8) % 4; /* mostly none or few */

    for (unsigned i = 0; i < count; i++) {
        put_text(out, i == 0 ? "?" : "&");
        put_text(out, names[take(input, 8)]);
        put_text(out, "=");
        unsigned which = take(input, 10);
        if (which < 7)
            put_text(out, values[which]);
        else if (which == 7)
            put_text(out, some_id(input));
        else
            put_target(out, take_text(input));
    }
}

static void put_line(struct request *request, struct input *input)
{
    static const char *const methods[] = {"GET", "POST",    "DELETE", "HEAD",
                                          "PUT", "OPTIONS", "PATCH",  "TRACE"};
    unsigned which = take(input, 32);
    struct buf target = {.size_max = 1 << 20};
    const char *method;

    put_path(request, input);
    target = request->head;
    request->head = (struct buf){.size_max = 1 << 20};
    method = which < 8 || !request->route ? methods[which % 8] : request->route->method;
    request->is_head = strcmp(method, "HEAD") == 0;
    put_text(&request->head, method);
    put_text(&request->head, " ");
    if (target.size == 0 || target.data[0] != '/')
        put_text(&request->head, "/");
    put(&request->head, (struct slice){target.data, target.size});
    buf_deinit(&target);
    put_query(&request->head, input);
    put_text(&request->head, " HTTP/1.1\r\nHost: a\r\n");
}

static void put_job(struct buf *out, struct input *input)
{
    static const char *const bodies[] = {
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"model\":\"n-1\",\"input\":[\"a\",\"b\"]}",
        "{\"model\":\"alias\",\"prompt\":\"x\"}",
        "{\"model\":\"unknown\",\"messages\":[]}",
    };
    static const char *const ends[] = {"chat/completions", "embeddings", "completions", "chat"};
    unsigned which = take(input, 16);

    put_text(out, "{\"endpoint\":\"/v1/");
    put_text(out, ends[which % 4]);
    put_text(out, "\",\"body\":");
    put_text(out, bodies[which / 4]);
    if (take(input, 4) == 1) {
        put_text(out, ",");
        put(out, take_text(input)); /* further members, or nonsense */
    }
    put_text(out, "}");
}

static void put_body(struct request *request, struct input *input)
{
    struct buf *out = &request->body;
    unsigned kind = take(input, 12), lines;

    switch (kind) {
    case 0:
    case 1:
    case 2:
        put_job(out, input);
        break;
    case 3:
        lines = take(input, 5);
        for (unsigned i = 0; i <= lines; i++) {
            if (take(input, 4) == 3)
                put(out, take_text(input));
            else
                put_job(out, input);
            put_text(out, "\n");
        }
        break;
    case 4:
        put_text(out, "{\"ids\":[\"");
        put_text(out, some_id(input));
        put_text(out, "\"");
        put(out, take_text(input));
        put_text(out, take(input, 2) == 1 ? "],\"results\":true}" : "]}");
        break;
    case 5:
    case 6:
        put_text(out, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]");
        put(out, take_text(input));
        put_text(out, "}");
        break;
    case 7:
        put_text(out, "{\"model\":\"n-1\",\"input\":\"x\",\"prompt\":\"x\"");
        put(out, take_text(input));
        put_text(out, "}");
        break;
    case 8:
    case 9:
        put(out, take_text(input));
        break;
    default:
        break;
    }
}

static void put_headers(struct request *request, struct input *input)
{
    static const char *const names[] = {
        "Idempotency-Key",     "Authorization",     "Prefer",
        "If-None-Match",       "Last-Event-ID",     "Penstock-Priority",
        "Penstock-Expires-Ms", "Penstock-Metadata", "Penstock-Webhook",
        "Content-Encoding",    "x-api-key",         "Accept",
        "X-Request-Id",        "Penstock-Tenant",   "X-Forwarded-For",
        "Connection"};
    static const char *const values[] = {"respond-async", "respond-async, wait=1", "a", "low",
                                         "60000",         "{\"a\":\"b\"}",         "*", "Bearer x"};
    unsigned count = take(input, 8) % 5;

    for (unsigned i = 0; i < count; i++) {
        const char *name = names[take(input, 16)];
        unsigned which = take(input, 12);
        put_header(&request->head, name, which < 8 ? slice_of(values[which]) : take_text(input));
    }
    if (take(input, 16) != 1)
        put_header(&request->head, "Content-Type",
                   slice_of(request->route && request->route->body == BODY_LINES
                                ? "application/x-ndjson"
                                : "application/json"));
}

static void make_request(struct request *request, struct input *input)
{
    *request = (struct request){.head = {.size_max = 1 << 20}, .body = {.size_max = 1 << 22}};
    put_line(request, input);
    put_headers(request, input);
    put_body(request, input);
    if (request->body.size == 0) {
        put_text(&request->head, "\r\n");
    } else if (take(input, 4) == 1) {
        put_text(&request->head, "Transfer-Encoding: chunked\r\n\r\n");
        struct buf whole = {.size_max = 1 << 22};
        CHECK(buf_printf(&whole, "%zx\r\n", request->body.size) == 0);
        put(&whole, (struct slice){request->body.data, request->body.size});
        put_text(&whole, "\r\n0\r\n\r\n");
        buf_deinit(&request->body);
        request->body = whole;
    } else {
        CHECK(buf_printf(&request->head, "Content-Length: %zu\r\n\r\n", request->body.size) == 0);
    }
    request->is_cut = take(input, 32) == 1;
}

/* ---- its answer ------------------------------------------------------------------------------ */

struct answer {
    struct buf bytes;
    size_t body_at; /* 0: the head is not there yet */
    int status;
    bool must_close, is_stream, is_json, is_chunked;
    int64_t length; /* -1: chunked */
};

static struct slice header_of(const struct answer *answer, const char *name)
{
    size_t at = 0, size = strlen(name);

    while (at < answer->body_at) {
        const char *line = answer->bytes.data + at;
        const char *end = memmem(line, answer->body_at - at, "\r\n", 2);
        CHECK(end != NULL);
        if ((size_t)(end - line) > size + 1 && line[size] == ':' &&
            text_equal_nocase(line, size, name))
            return (struct slice){line + size + 2, (size_t)(end - line) - size - 2};
        at += (size_t)(end - line) + 2;
    }
    return (struct slice){NULL, 0};
}

static void read_head(struct answer *answer)
{
    const char *end = memmem(answer->bytes.data, answer->bytes.size, "\r\n\r\n", 4);
    int64_t status = 0;

    if (!end)
        return;
    CHECK(answer->bytes.size > 12 && memcmp(answer->bytes.data, "HTTP/1.", 7) == 0);
    CHECK(text_parse_i64(answer->bytes.data + 9, 3, 100, 599, &status) == 0);
    answer->status = (int)status;
    answer->body_at = (size_t)(end - answer->bytes.data) + 4;
    if (status == 100) { /* go on: the real one follows */
        buf_consume(&answer->bytes, answer->body_at);
        answer->body_at = 0;
        read_head(answer);
        return;
    }
    struct slice type = header_of(answer, "Content-Type"), length;
    answer->is_json = type.size >= 4 && memmem(type.bytes, type.size, "json", 4) != NULL;
    answer->is_stream = slice_is(type, "text/event-stream");
    answer->must_close = slice_is(header_of(answer, "Connection"), "close");
    answer->is_chunked = slice_is(header_of(answer, "Transfer-Encoding"), "chunked");
    length = header_of(answer, "Content-Length");
    answer->length = 0;
    CHECK(length.size == 0 ||
          text_parse_i64(length.bytes, length.size, 0, ANSWER_BYTES_MAX, &answer->length) == 0);
}

/* Joins the chunks in place once all are there. */
static bool join_chunks(struct answer *answer)
{
    const char *data = answer->bytes.data;
    size_t at = answer->body_at, size = answer->bytes.size;
    struct buf joined = {.size_max = ANSWER_BYTES_MAX};

    for (;;) {
        const char *end = memmem(data + at, size - at, "\r\n", 2);
        char *stop = NULL;
        size_t chunk = end ? (size_t)strtoull(data + at, &stop, 16) : 0;

        if (!end || (size_t)(end - data) + 2 + chunk + 2 > size) {
            buf_deinit(&joined);
            return false;
        }
        CHECK(stop == end && stop > data + at);
        at = (size_t)(end - data) + 2;
        put(&joined, (struct slice){data + at, chunk});
        at += chunk;
        CHECK(memcmp(data + at, "\r\n", 2) == 0);
        at += 2;
        if (chunk == 0)
            break;
    }
    CHECK(at == size); /* and not a byte more */
    answer->bytes.size = answer->body_at;
    put(&answer->bytes, (struct slice){joined.data, joined.size});
    buf_deinit(&joined);
    return true;
}

static bool is_whole(const struct request *request, struct answer *answer)
{
    if (answer->body_at == 0 && answer->bytes.size > 0)
        read_head(answer);
    if (answer->body_at == 0)
        return false;
    size_t there = answer->bytes.size - answer->body_at;
    if (request->is_head || answer->status == 204 || answer->status == 304) {
        CHECK(there == 0);
        return true;
    }
    if (answer->is_chunked)
        return join_chunks(answer);
    CHECK(there <= (size_t)answer->length); /* not a byte more */
    return there == (size_t)answer->length;
}

static bool is_documented(int status)
{
    static const int good[] = {200, 201, 202, 204, 304, 414, 431};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (status == good[i])
            return true;
    for (int kind = 0; kind < PROBLEM_COUNT; kind++) {
        struct problem problem = {.kind = (enum problem_kind)kind};
        if (problem_status(&problem) == status)
            return true;
    }
    return false;
}

static bool is_text(const struct jval *value)
{
    return jval_type(value) == JTYPE_STRING;
}

static void check_error(const struct answer *answer)
{
    struct jdoc *doc = NULL;

    if (!answer->is_json || jdoc_parse(answer->bytes.data + answer->body_at,
                                       answer->bytes.size - answer->body_at, &doc, NULL) != 0)
        (void)fprintf(stderr, "no JSON: %.*s\n", (int)answer->bytes.size, answer->bytes.data);
    jdoc_destroy(doc);
    doc = NULL;
    CHECK(answer->is_json);
    CHECK(jdoc_parse(answer->bytes.data + answer->body_at, answer->bytes.size - answer->body_at,
                     &doc, NULL) == 0);
    const struct jval *root = jdoc_root(doc), *error = jval_get(root, "error");
    if (error && jval_type(error) == JTYPE_OBJECT) {
        CHECK(is_text(jval_get(error, "message")));
        CHECK(is_text(jval_get(error, "type")));
    } else {
        CHECK(is_text(jval_get(root, "code")));
        CHECK(is_text(jval_get(root, "detail")));
        CHECK(is_text(jval_get(root, "title")));
    }
    jdoc_destroy(doc);
}

/* The result of a job that the upstream refused is what the upstream said, byte for byte. */
static bool is_upstreams(const struct request *request, const struct answer *answer)
{
    return answer->status == 400 && request->route &&
           strcmp(request->route->path, "/v1/jobs/{}/result") == 0;
}

static void check_answer(const struct request *request, const struct answer *answer)
{
    size_t size = answer->bytes.size - answer->body_at;

    CHECK(is_documented(answer->status));
    /* What an upstream did is told as 502 and 504; nothing here is ours to break. */
    CHECK(answer->status != 500 && answer->status != 501 && answer->status != 505);
    if (answer->status >= 400 && size > 0 && !is_upstreams(request, answer))
        check_error(answer);
    if (answer->status >= 400)
        CHECK(size > 0 || request->is_head);
    /* Ids for what comes next. */
    const char *body = answer->bytes.data + answer->body_at;
    const char *id = size > 0 ? memmem(body, size, "\"job_", 5) : NULL;
    const char *end = id ? memchr(id + 1, '"', size - (size_t)(id + 1 - body)) : NULL;
    if (end)
        world_note_id(&world, id + 1, (size_t)(end - id - 1));
    struct slice named = header_of(answer, "Penstock-Job-Id");
    world_note_id(&world, named.bytes, named.size);
}

/* ---- one connection -------------------------------------------------------------------------- */

static bool send_some(int fd, const struct buf *bytes, size_t *at, size_t until)
{
    while (*at < until) {
        ssize_t count = send(fd, bytes->data + *at, until - *at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count <= 0)
            return count == 0 || errno == EAGAIN;
        *at += (size_t)count;
    }
    return true;
}

/* False when the other end closed. */
static bool receive(int fd, struct answer *answer)
{
    char bytes[16384];
    ssize_t count;

    while ((count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        put(&answer->bytes, (struct slice){bytes, (size_t)count});
    return count < 0 && errno == EAGAIN;
}

static bool may_wait_for_others(const struct request *request)
{
    return request->route && request->route->body == BODY_JSON &&
           request->route->dialect == DIALECT_OPENAI;
}

/* Sends a request and waits for its answer. False when the connection is not to be used again. */
static bool exchange(int fd, const struct request *request, struct answer *answer)
{
    size_t head_at = 0, body_at = 0;
    size_t until = request->is_cut ? request->body.size / 2 : request->body.size;
    int64_t since = clock_mono_ms(), waited = 0;
    bool is_open = true;

    for (; !is_whole(request, answer); waited = clock_mono_ms() - since) {
        CHECK(is_open); /* no connection ends without an answer */
        CHECK(waited < ANSWER_MS);
        if (send_some(fd, &request->head, &head_at, request->head.size) &&
            head_at == request->head.size)
            (void)send_some(fd, &request->body, &body_at, until);
        if (request->is_cut && waited > WORK_MS)
            return false;
        world_turn(&world);
        is_open = receive(fd, answer);
        if (waited > WORK_MS)
            world_work(&world);
        world.jump_ms = waited > JUMP_MS ? JUMP_BY_MS : 0;
        if (waited > LEAVE_MS &&
            ((answer->body_at > 0 && answer->is_stream) || may_wait_for_others(request)))
            return false;
    }
    check_answer(request, answer);
    return !answer->must_close && is_open && body_at == request->body.size;
}

static bool run_request(int fd, struct input *input)
{
    struct request request;
    struct answer answer = {.bytes = {.size_max = ANSWER_BYTES_MAX}};
    bool goes_on;

    make_request(&request, input);
    goes_on = exchange(fd, &request, &answer);
    world.jump_ms = 0;
    buf_deinit(&request.head);
    buf_deinit(&request.body);
    buf_deinit(&answer.bytes);
    return goes_on;
}

static bool is_quiet(void)
{
    return http_server_connections(world.server) == 0 && http_server_held(world.server) == 0 &&
           world.commits == 0 && !world.is_claiming;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {bytes, size};
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    char result[256];
    int ends[2];

    world_begin(&world);
    world.deed = (enum world_deed)(take(&input, 16) % DEED_COUNT);
    struct slice text = take_text(&input);
    text.size = text.size < sizeof(result) ? text.size : sizeof(result);
    memcpy(result, text.bytes, text.size);
    world.result = (struct slice){result, text.size};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    http_connection_adopt(world.server, ends[0], &address, sizeof(sa_family_t));
    for (int i = 0; i < REQUESTS_MAX && input.size > 0 && run_request(ends[1], &input); i++)
        continue;
    (void)close(ends[1]);
    for (int64_t since = clock_mono_ms(); !is_quiet();) {
        CHECK(clock_mono_ms() - since < ANSWER_MS);
        world_turn(&world);
    }
    CHECK(world.server->body_bytes == 0);
    return 0;
}
