/* Any bytes on a connection, through libmicrohttpd and all: nothing breaks, everything is given up
 * in the end, and whatever head reaches the handler first also pleases a second, independent and
 * very strict reader of the same bytes. */
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/http/http_internal.h"
#include "common/base/check.h"

enum { INPUT_MAX = 60000, TURNS_MAX = 20000, BODY_MAX = 1000, IDLE_TURNS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct {
    uv_loop_t loop;
    struct http_server *server;
    unsigned begun;
    unsigned gone;
    bool has_first;
    size_t first_body;
    bool first_is_complete;
    int64_t first_length;
} world;

static void on_headers(struct http_request *request, void *arg)
{
    (void)arg;
    world.begun++;
    if (world.begun == 1) {
        world.has_first = true;
        world.first_length = http_request_content_length(request);
    }
    CHECK(http_request_path(request).size > 0 ||
          slice_is(http_request_method(request), "CONNECT") ||
          memchr(request->target, '?', request->target_size) || request->path_at > 0);
    (void)http_request_query(request, "a");
    (void)http_request_header(request, "a");
    http_request_want_body(request, BODY_MAX);
}

static void on_complete(struct http_request *request, void *arg)
{
    (void)arg;
    struct slice body = http_request_body(request);
    CHECK(body.size <= BODY_MAX);
    if (world.begun == 1) {
        world.first_is_complete = true;
        world.first_body = body.size;
    }
    http_respond(request, &(struct http_reply){.status = 200, .body = body});
}

static void on_refused(struct http_request *request, enum http_refusal why, void *arg)
{
    (void)arg;
    (void)why;
    http_respond(request, &(struct http_reply){.status = 413});
}

static void on_gone(struct http_request *request, bool was_answered, void *arg)
{
    (void)request;
    (void)was_answered;
    (void)arg;
    world.gone++;
}

static void start(void)
{
    struct error_text why = {0};
    int fd = http_listen("127.0.0.1:0", &why);
    const struct http_server_options options = {
        .loop = &world.loop,
        .listen_fd = fd,
        .connections_max = 10,
        .body_bytes_budget = 1 << 20,
        .handler = {on_headers, NULL, on_complete, on_refused, on_gone, NULL}};

    CHECK(fd >= 0);
    CHECK(uv_loop_init(&world.loop) == 0);
    CHECK(http_server_create(&options, &world.server, &why) == 0);
}

/* ---- the second reader ----------------------------------------------------------------------- */

static bool is_token_byte(char c)
{
    return c != '\0' && (isalnum((unsigned char)c) || strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_field_line(const char *line, size_t size)
{
    size_t at = 0;

    while (at < size && is_token_byte(line[at]))
        at++;
    if (at == 0 || at == size || line[at] != ':')
        return false;
    for (at++; at < size; at++) {
        unsigned char c = (unsigned char)line[at];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool is_request_line(const char *line, size_t size)
{
    const char *space = memchr(line, ' ', size);

    if (!space || space == line)
        return false;
    const char *target = space + 1;
    const char *end = memchr(target, ' ', size - (size_t)(target - line));
    if (!end || end == target)
        return false;
    for (const char *c = target; c < end; c++) {
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return false;
    }
    size_t left = size - (size_t)(end + 1 - line);
    return left == 8 &&
           (memcmp(end + 1, "HTTP/1.1", 8) == 0 || memcmp(end + 1, "HTTP/1.0", 8) == 0);
}

/* Size of the head up to and with its empty line when every byte of it is in order, else 0. */
static size_t read_strictly(const char *text, size_t size)
{
    size_t at = 0;
    bool is_first = true;

    while (at < size && (text[at] == '\n' || /* empty lines before a request may be passed over */
                         (text[at] == '\r' && at + 1 < size && text[at + 1] == '\n')))
        at++;
    while (at < size) {
        const char *end = memmem(text + at, size - at, "\r\n", 2);
        if (!end)
            return 0;
        size_t length = (size_t)(end - text) - at;
        if (length == 0)
            return is_first ? 0 : at + 2;
        if (memchr(text + at, '\n', length) || memchr(text + at, '\r', length))
            return 0;
        if (is_first ? !is_request_line(text + at, length) : !is_field_line(text + at, length))
            return 0;
        is_first = false;
        at += length + 2;
    }
    return 0;
}

/* ---- one input ---------------------------------------------------------------------------------
 */

static void turn_until_quiet(int fd)
{
    char sink[4096];
    unsigned quiet = 0;

    for (int i = 0; i < TURNS_MAX && quiet < IDLE_TURNS; i++) {
        (void)uv_run(&world.loop, UV_RUN_NOWAIT);
        ssize_t count = recv(fd, sink, sizeof sink, MSG_DONTWAIT);
        if (count > 0 || world.server->is_due)
            quiet = 0;
        else
            quiet++;
    }
}

static void feed(const char *bytes, size_t size)
{
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    http_connection_adopt(world.server, ends[0], &address, sizeof(sa_family_t));
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(ends[1], bytes + sent, size - sent, MSG_NOSIGNAL);
        if (count <= 0 && errno != EAGAIN)
            break; /* it has seen enough */
        sent += count > 0 ? (size_t)count : 0;
        turn_until_quiet(ends[1]);
    }
    turn_until_quiet(ends[1]);
    (void)close(ends[1]);
    for (int i = 0; i < TURNS_MAX && http_server_connections(world.server) > 0; i++)
        (void)uv_run(&world.loop, UV_RUN_NOWAIT);
    CHECK(http_server_connections(world.server) == 0);
    CHECK(world.begun == world.gone);
    CHECK(world.server->body_bytes == 0);
    CHECK(http_server_held(world.server) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *text = (const char *)bytes;

    if (size == 0 || size > INPUT_MAX)
        return 0;
    if (!world.server)
        start();
    world.begun = 0;
    world.gone = 0;
    world.has_first = false;
    world.first_is_complete = false;
    feed(text, size);
    /* Older versions of libmicrohttpd write NUL over the ends of lines, so a NUL that came as one
     * can pass for one of those, and a line of ':' for the empty one. Nobody is fooled who does not
     * forward such bytes, which no proxy does; test_http_strict.c has those that are caught. */
    if (!world.has_first || memchr(text, '\0', size))
        return 0;
    char *copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, text, size);
    for (size_t i = 0; i + 1 < size; i++) {
        if (i > 0 && copy[i - 1] == '\n' && copy[i] == ':' && copy[i + 1] == '\n')
            copy[i] = '\r';
        if (i + 3 < size && memcmp(copy + i, "\n:\r\n", 4) == 0 && i > 0 && copy[i - 1] != '\r')
            memcpy(copy + i, "\r\n", 2);
    }
    size_t head = read_strictly(copy, size);
    free(copy);
    /* A head that was refused, and a second one that was not, would be the first the handler sees:
     * but what is refused closes the connection. */
    CHECK(head > 0);
    if (world.first_is_complete && world.first_length >= 0) {
        CHECK((int64_t)world.first_body == world.first_length);
        CHECK((int64_t)(size - head) >= world.first_length);
    }
    return 0;
}
