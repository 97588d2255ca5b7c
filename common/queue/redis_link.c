#include "common/queue/redis_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <hiredis/hiredis.h>
#include <uv.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/metrics.h"
#include "common/queue/redis_wire.h"

enum {
    CONNECT_MS_MAX = 3000,
    COMMAND_MS_MAX = 5000,
    PING_AFTER_MS = 2000,
    PING_MS_MAX = 2000,
    WATCH_MS = 250, /* how often deadlines are looked at */
    WATCH_LATE_MS = 1000,
    BACKOFF_MS_MIN = 50,
    BACKOFF_MS_MAX = 2000,
    PENDING_MAX = 4096,
    PENDING_SLOTS = 2 * PENDING_MAX, /* one caller may append several commands after asking */
    UNSENT_BYTES_MAX = 64 << 20,
};

enum link_state {
    LINK_IDLE,    /* not started */
    LINK_WAITING, /* until the next attempt */
    LINK_RESOLVING,
    LINK_CONNECTING, /* up to and including the log-in */
    LINK_UP,
    LINK_CLOSING,
};

struct pending {
    redis_reply_fn on_reply;
    void *arg;
    int64_t sent_mono_ms;
};

struct redis_link {
    struct redis_link_options options;
    struct redis_url url;
    char name[32];
    enum link_state state;
    struct redis_wire *wire;
    uv_timer_t watch;
    uv_timer_t backoff;
    uv_getaddrinfo_t resolve;
    bool is_resolving;
    unsigned attempt_count; /* since the last time it stayed up */
    int64_t since_mono_ms;  /* of the state */
    int64_t watched_mono_ms;
    bool was_excused; /* by the last look; not twice in a row */
    struct pending pending[PENDING_SLOTS];
    unsigned pending_at, pending_count;
    unsigned left_arguments; /* of the command being built */
    bool is_dirty;
    bool is_ping_due; /* a ping is unanswered */
    int64_t ping_mono_ns;
    double round_trip_ms;
    int64_t last_reply_mono_ms;
    unsigned handles; /* still open while closing */
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static void attempt(struct redis_link *link);

static void set_link_state(struct redis_link *link, enum link_state next)
{
    link->state = next; /* lint: own state */
    link->since_mono_ms = clock_mono_ms();
}

/* ---- going down --------------------------------------------------------------------- */

static void fail_pending(struct redis_link *link)
{
    while (link->pending_count > 0) {
        struct pending one = link->pending[link->pending_at];

        link->pending_at = (link->pending_at + 1) % PENDING_SLOTS;
        link->pending_count--;
        if (one.on_reply)
            one.on_reply(ERR_UNKNOWN, NULL, one.arg);
    }
}

static void on_backoff(uv_timer_t *timer)
{
    attempt(timer->data);
}

static void go_down(struct redis_link *link, const char *code, const char *why)
{
    /* Up for a moment is not up: a Redis that takes connections only to close them is not stormed.
     */
    if (link->state == LINK_UP && clock_mono_ms() - link->since_mono_ms >= BACKOFF_MS_MAX)
        link->attempt_count = 0;
    unsigned shift = link->attempt_count < 6 ? link->attempt_count : 6;
    uint64_t ceiling = (uint64_t)BACKOFF_MS_MIN << shift;
    char reason[200];

    /* why may live in the wire, and callbacks may come back here. */
    snprintf(reason, sizeof(reason), "%s", why);
    if (ceiling > BACKOFF_MS_MAX)
        ceiling = BACKOFF_MS_MAX;
    if (link->wire)
        redis_wire_close(link->wire, NULL, NULL);
    link->wire = NULL;
    link->is_ping_due = false;
    link->is_dirty = false;
    link->left_arguments = 0;
    if (link->state == LINK_CLOSING)
        return;
    link->attempt_count++;
    set_link_state(link, LINK_WAITING);
    uv_timer_stop(&link->watch);
    uv_timer_start(&link->backoff, on_backoff, 1 + digest_random_u64() % ceiling, 0);
    fail_pending(link);
    link->options.on_down(code, reason, link->options.arg);
}

void redis_link_drop(struct redis_link *link, const char *code, const char *why)
{
    if (link->state == LINK_CONNECTING || link->state == LINK_UP)
        go_down(link, code, why);
}

static void on_lost(const char *why, void *arg)
{
    struct redis_link *link = arg;

    go_down(link, "redis_unreachable", why);
}

/* ---- deadlines ---------------------------------------------------------------------- */

static void on_pong(int status, const struct redisReply *reply, void *arg)
{
    struct redis_link *link = arg;

    (void)reply;
    if (status < 0)
        return;
    link->is_ping_due = false;
    link->round_trip_ms = (double)(clock_mono_ns() - link->ping_mono_ns) / 1e6;
    metrics_observe_ms(METRIC_REDIS_SECONDS, link->round_trip_ms);
}

static void ping(struct redis_link *link)
{
    link->is_ping_due = true;
    link->ping_mono_ns = clock_mono_ns();
    redis_link_begin(link, 1);
    redis_link_text(link, "PING");
    redis_link_end(link, on_pong, link);
}

static void on_watch(uv_timer_t *timer)
{
    struct redis_link *link = timer->data;
    int64_t now = clock_mono_ms();
    bool stood_still = now - link->watched_mono_ms > WATCH_LATE_MS;

    link->watched_mono_ms = now;
    if (stood_still && !link->was_excused) { /* we, not Redis: its answers may lie in the socket */
        link->was_excused = true;
        return;
    }
    link->was_excused = false;
    if (link->state == LINK_CONNECTING) {
        if (now - link->since_mono_ms > CONNECT_MS_MAX)
            go_down(link, "redis_unreachable", "no connection within 3 s");
        return;
    }
    if (link->state != LINK_UP)
        return;
    if (link->is_ping_due && now - link->ping_mono_ns / 1000000 > PING_MS_MAX)
        go_down(link, "redis_unreachable", "no answer to a ping within 2 s");
    else if (link->pending_count > 0 &&
             now - link->pending[link->pending_at].sent_mono_ms > COMMAND_MS_MAX)
        go_down(link, "redis_unreachable", "no answer to a command within 5 s");
    else if (!link->is_ping_due && link->pending_count == 0 &&
             now - link->last_reply_mono_ms > PING_AFTER_MS)
        ping(link);
}

/* ---- replies ------------------------------------------------------------------------ */

static bool is_word(const struct redisReply *reply, const char *word)
{
    return (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) &&
           strcmp(reply->str, word) == 0;
}

/* On a subscribed link everything but the answers to log-in and ping is a message. */
static bool take_message(struct redis_link *link, const struct redisReply *reply)
{
    if (!link->options.on_message || link->state != LINK_UP)
        return false;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        return false;
    if (is_word(reply->element[0], "pong"))
        return false;
    if (is_word(reply->element[0], "message"))
        link->options.on_message(reply, link->options.arg);
    else
        return is_word(reply->element[0], "unsubscribe");
    return true;
}

static void on_reply(struct redisReply *reply, void *arg)
{
    struct redis_link *link = arg;
    struct pending one;

    link->last_reply_mono_ms = clock_mono_ms();
    if (take_message(link, reply))
        return;
    if (link->pending_count == 0) {
        /* "max number of clients reached" comes unasked; anything else is not Redis. */
        go_down(link, redis_error_code(reply),
                redis_reply_is_error(reply) ? reply->str : "an answer that nobody asked for");
        return;
    }
    one = link->pending[link->pending_at];
    link->pending_at = (link->pending_at + 1) % PENDING_SLOTS;
    link->pending_count--;
    if (one.on_reply)
        one.on_reply(0, reply, one.arg);
}

/* ---- coming up ---------------------------------------------------------------------- */

static void on_login(int status, const struct redisReply *reply, void *arg)
{
    struct redis_link *link = arg;

    if (status < 0 || link->state != LINK_CONNECTING)
        return;
    if (redis_reply_is_error(reply))
        go_down(link, redis_error_code(reply), reply->str);
}

static void on_greeted(int status, const struct redisReply *reply, void *arg)
{
    struct redis_link *link = arg;

    if (status < 0 || link->state != LINK_CONNECTING)
        return;
    if (redis_reply_is_error(reply) && redis_error_of(reply) == REDIS_ERROR_AUTH) {
        go_down(link, redis_error_code(reply), reply->str);
        return;
    }
    set_link_state(link, LINK_UP);
    metrics_add(METRIC_REDIS_RECONNECTS, 1);
    link->options.on_up(link->options.arg);
}

static void on_connected(void *arg)
{
    struct redis_link *link = arg;
    const struct redis_url *url = &link->url;

    if (url->password[0]) {
        redis_link_begin(link, url->user[0] ? 3 : 2);
        redis_link_text(link, "AUTH");
        if (url->user[0])
            redis_link_text(link, url->user);
        redis_link_text(link, url->password);
        redis_link_end(link, on_login, link);
    }
    if (url->database != 0) {
        redis_link_begin(link, 2);
        redis_link_text(link, "SELECT");
        redis_link_number(link, url->database);
        redis_link_end(link, on_login, link);
    }
    redis_link_begin(link, 3);
    redis_link_text(link, "CLIENT");
    redis_link_text(link, "SETNAME");
    redis_link_text(link, link->name);
    redis_link_end(link, on_greeted, link);
    redis_link_flush(link);
}

static void connect_to(struct redis_link *link, const char *address)
{
    struct redis_wire_events events = {
        .on_connected = on_connected, .on_reply = on_reply, .on_lost = on_lost, .arg = link};
    struct error_text why = {""};

    set_link_state(link, LINK_CONNECTING);
    link->watched_mono_ms = clock_mono_ms();
    uv_timer_start(&link->watch, on_watch, WATCH_MS, WATCH_MS);
    if (redis_wire_open(link->options.loop, &link->url, address, &events, &link->wire, &why) < 0)
        go_down(link, "redis_unreachable", why.text);
}

static void close_step(struct redis_link *link);

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct redis_link *link = request->data;
    char address[INET6_ADDRSTRLEN] = "";
    unsigned count = 0;

    link->is_resolving = false;
    if (link->state == LINK_CLOSING) {
        uv_freeaddrinfo(list);
        close_step(link);
        return;
    }
    /* Each attempt takes the next address, so one dead address of several does no harm. */
    for (struct addrinfo *one = list; one; one = one->ai_next)
        count++;
    for (unsigned skip = count ? link->attempt_count % count : 0; status == 0 && list;) {
        struct addrinfo *one = list;
        while (skip-- > 0)
            one = one->ai_next;
        if (one->ai_family == AF_INET6)
            uv_ip6_name((const struct sockaddr_in6 *)(const void *)one->ai_addr, address,
                        sizeof(address));
        else
            uv_ip4_name((const struct sockaddr_in *)(const void *)one->ai_addr, address,
                        sizeof(address));
        break;
    }
    uv_freeaddrinfo(list);
    if (address[0])
        connect_to(link, address);
    else
        go_down(link, "redis_unreachable", status < 0 ? uv_strerror(status) : "no address");
}

static void attempt(struct redis_link *link)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};

    if (link->url.path[0]) {
        connect_to(link, "");
        return;
    }
    set_link_state(link, LINK_RESOLVING);
    link->resolve.data = link;
    int status = uv_getaddrinfo(link->options.loop, &link->resolve, on_resolved, link->url.host,
                                NULL, &hints);
    link->is_resolving = status == 0;
    if (status < 0)
        go_down(link, "redis_unreachable", uv_strerror(status));
}

/* ---- life --------------------------------------------------------------------------- */

int redis_link_create(const struct redis_link_options *options, struct redis_link **out)
{
    struct redis_link *link = calloc(1, sizeof(*link));

    if (!link)
        return ERR_NOMEM;
    link->options = *options;
    link->url = *options->url;
    snprintf(link->name, sizeof(link->name), "%s", options->name);
    link->options.url = &link->url;
    link->options.name = link->name;
    uv_timer_init(options->loop, &link->watch);
    uv_timer_init(options->loop, &link->backoff);
    link->watch.data = link->backoff.data = link;
    *out = link;
    return 0;
}

void redis_link_start(struct redis_link *link)
{
    CHECK(link->state == LINK_IDLE);
    set_link_state(link, LINK_WAITING);
    uv_timer_start(&link->backoff, on_backoff, 0, 0);
}

static void close_step(struct redis_link *link)
{
    if (link->handles > 0 || link->is_resolving)
        return;
    void (*on_closed)(void *) = link->on_closed;
    void *arg = link->closed_arg;
    free(link);
    on_closed(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct redis_link *link = handle->data;

    link->handles--;
    close_step(link);
}

static void on_wire_closed(void *arg)
{
    struct redis_link *link = arg;

    link->handles--;
    close_step(link);
}

void redis_link_close(struct redis_link *link, void (*on_closed)(void *arg), void *arg)
{
    CHECK(link->state != LINK_CLOSING);
    set_link_state(link, LINK_CLOSING);
    link->on_closed = on_closed;
    link->closed_arg = arg;
    link->handles = 2;
    if (link->wire) {
        link->handles++;
        redis_wire_close(link->wire, on_wire_closed, link);
        link->wire = NULL;
    }
    uv_close((uv_handle_t *)&link->watch, on_timer_closed);
    uv_close((uv_handle_t *)&link->backoff, on_timer_closed);
    if (link->is_resolving)
        uv_cancel((uv_req_t *)&link->resolve);
    fail_pending(link);
}

/* ---- commands ----------------------------------------------------------------------- */

bool redis_link_is_up(const struct redis_link *link)
{
    return link->state == LINK_UP;
}

int redis_link_can_send(const struct redis_link *link)
{
    if (link->state != LINK_UP)
        return ERR_OFFLINE;
    /* Bytes that were sent and not yet dropped count: they take up the buffer all the same. */
    if (link->pending_count >= PENDING_MAX ||
        redis_wire_output(link->wire)->size > UNSENT_BYTES_MAX)
        return ERR_BUSY;
    return 0;
}

static void put(struct redis_link *link, const void *bytes, size_t size)
{
    /* A half-written command cannot be taken back, so running out of memory here ends the process;
     * leases and the store bring everything back. */
    if (size > 0)
        CHECK(buf_append(redis_wire_output(link->wire), bytes, size) == 0);
}

static void put_count(struct redis_link *link, char kind, size_t count)
{
    char digits[24];
    size_t at = sizeof(digits);

    digits[--at] = '\n';
    digits[--at] = '\r';
    do {
        digits[--at] = (char)('0' + count % 10);
        count /= 10;
    } while (count > 0);
    digits[--at] = kind;
    put(link, digits + at, sizeof(digits) - at);
}

void redis_link_begin(struct redis_link *link, unsigned argc)
{
    CHECK(link->wire != NULL);
    CHECK(link->left_arguments == 0);
    CHECK(argc > 0);
    CHECK(link->pending_count < PENDING_SLOTS);
    link->left_arguments = argc;
    put_count(link, '*', argc);
}

void redis_link_argument(struct redis_link *link, const void *bytes, size_t size)
{
    CHECK(link->left_arguments > 0);
    link->left_arguments--;
    put_count(link, '$', size);
    put(link, bytes, size);
    put(link, "\r\n", 2);
}

void redis_link_text(struct redis_link *link, const char *text)
{
    redis_link_argument(link, text, strlen(text));
}

void redis_link_number(struct redis_link *link, int64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%lld", (long long)number);

    redis_link_argument(link, text, (size_t)size);
}

void redis_link_end(struct redis_link *link, redis_reply_fn on_reply_, void *arg)
{
    CHECK(link->left_arguments == 0);
    unsigned at = (link->pending_at + link->pending_count) % PENDING_SLOTS;

    link->pending[at] = (struct pending){on_reply_, arg, clock_mono_ms()};
    link->pending_count++;
    metrics_add(METRIC_REDIS_COMMANDS, 1);
    if (!link->is_dirty) {
        link->is_dirty = true;
        link->options.on_dirty(link->options.arg);
    }
}

void redis_link_flush(struct redis_link *link)
{
    link->is_dirty = false;
    if (link->wire)
        redis_wire_flush(link->wire);
}

double redis_link_round_trip_ms(const struct redis_link *link)
{
    return link->round_trip_ms;
}

int64_t redis_link_last_ok_mono_ms(const struct redis_link *link)
{
    return link->last_reply_mono_ms;
}

/* ---- error replies ------------------------------------------------------------------ */

static const struct {
    const char *word;
    enum redis_error error;
    const char *code;
} error_words[] = {
    {"LOADING ", REDIS_ERROR_LATER, "redis_loading"},
    {"MASTERDOWN ", REDIS_ERROR_LATER, "redis_read_only"},
    {"CLUSTERDOWN ", REDIS_ERROR_LATER, "redis_unreachable"},
    {"TRYAGAIN ", REDIS_ERROR_LATER, "redis_unreachable"},
    {"BUSY ", REDIS_ERROR_LATER, "redis_busy"},
    {"MISCONF ", REDIS_ERROR_LATER, "redis_disk"},
    {"NOREPLICAS ", REDIS_ERROR_LATER, "redis_not_durable"},
    {"ERR max number of clients", REDIS_ERROR_LATER, "redis_too_many_clients"},
    {"READONLY ", REDIS_ERROR_READONLY, "redis_read_only"},
    {"OOM ", REDIS_ERROR_FULL, "store_full"},
    {"NOAUTH ", REDIS_ERROR_AUTH, "redis_auth"},
    {"WRONGPASS ", REDIS_ERROR_AUTH, "redis_auth"},
    {"NOPERM ", REDIS_ERROR_AUTH, "redis_auth"},
    {"ERR AUTH ", REDIS_ERROR_AUTH, "redis_auth"},
    {"ERR invalid password", REDIS_ERROR_AUTH, "redis_auth"},
    {"NOSCRIPT ", REDIS_ERROR_MISSING, "functions_missing"},
    {"ERR Function not found", REDIS_ERROR_MISSING, "functions_missing"},
};

bool redis_reply_is_error(const struct redisReply *reply)
{
    return reply && reply->type == REDIS_REPLY_ERROR;
}

enum redis_error redis_error_of(const struct redisReply *reply)
{
    for (size_t i = 0; reply->str && i < sizeof(error_words) / sizeof(error_words[0]); i++)
        if (strncmp(reply->str, error_words[i].word, strlen(error_words[i].word)) == 0)
            return error_words[i].error;
    return REDIS_ERROR_OTHER;
}

const char *redis_error_code(const struct redisReply *reply)
{
    if (!redis_reply_is_error(reply))
        return "redis_protocol";
    for (size_t i = 0; i < sizeof(error_words) / sizeof(error_words[0]); i++)
        if (strncmp(reply->str, error_words[i].word, strlen(error_words[i].word)) == 0)
            return error_words[i].code;
    return "redis_protocol";
}
