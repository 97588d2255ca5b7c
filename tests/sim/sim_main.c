#include "sim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENT_COUNT = 512,
    EXIT_SETUP = 2 /* wrong command line, do not respawn */
};

static const char usage[] =
    "usage: penstock-sim [--listen ADDRESS:PORT]... [--log FILE] [--seed N]\n"
    "                    [--idle-timeout-ms N] [--KEY VALUE]...\n"
    "An upstream that makes its answers up. Port 0 picks a free port. The keys, as flags:\n"
    "  --delay-ms --jitter-ms --status --reply-bytes --rate-limit --rate-burst --fail-rate\n"
    "  --drop-rate --max-concurrency --queue --models a,b,c --api-key K --health-status\n"
    "  --tokens --token-ms --drip --drop HOW --never --garbage --chunked --bad-json\n"
    "  --bad-utf8 --short-length --close-idle --retry-after TEXT --retry-after-ms ...\n"
    "README.md beside the source says what each does.\n";

static bool parse_address(struct slice text, struct sockaddr_storage *out_address,
                          socklen_t *out_size)
{
    char host[64];
    int64_t port;
    const char *colon = memrchr(text.data, ':', text.size);
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out_address;

    if (colon == NULL)
        return false;
    struct slice name = {text.data, (size_t)(colon - text.data)};
    if (!text_parse_int((struct slice){colon + 1, text.size - name.size - 1}, 0, 65535, &port))
        return false;
    bool is_v6 = name.size > 2 && name.data[0] == '[' && name.data[name.size - 1] == ']';
    if (is_v6)
        name = (struct slice){name.data + 1, name.size - 2};
    if (name.size >= sizeof(host))
        return false;
    memcpy(host, name.data, name.size);
    host[name.size] = '\0';
    memset(out_address, 0, sizeof(*out_address));
    *out_size = is_v6 ? sizeof(*v6) : sizeof(*v4);
    if (is_v6) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1;
}

static bool add_listener(struct sim *sim, struct slice text)
{
    struct sockaddr_storage address;
    socklen_t size;
    int on = 1;

    if (!parse_address(text, &address, &size)) {
        (void)fprintf(stderr, "penstock-sim: --listen wants ADDRESS:PORT, not '%.*s'\n",
                      (int)text.size, text.data);
        return false;
    }
    if (sim->listener_count == LISTENER_COUNT_MAX) {
        (void)fprintf(stderr, "penstock-sim: at most %d addresses\n", LISTENER_COUNT_MAX);
        return false;
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (const struct sockaddr *)&address, size) != 0 || listen(fd, 65535) != 0) {
        (void)fprintf(stderr, "penstock-sim: %.*s: %s\n", (int)text.size, text.data,
                      strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    sim->listeners[sim->listener_count++] = (struct listener){{WATCH_LISTENER}, fd};
    return true;
}

static void print_listener(const struct listener *listener)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[64] = "?";
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)&address;

    SIM_CHECK(getsockname(listener->fd, (struct sockaddr *)&address, &size) == 0);
    if (address.ss_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        (void)printf("listening on http://[%s]:%d\n", host, ntohs(v6->sin6_port));
    } else {
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        (void)printf("listening on http://%s:%d\n", host, ntohs(v4->sin_port));
    }
}

/* One option with its value; false after a message. */
static bool take_option(struct sim *sim, struct slice name, struct slice value)
{
    struct setting_error why;
    int64_t number;

    if (SLICE_IS(name, "listen"))
        return add_listener(sim, value);
    if (SLICE_IS(name, "log")) {
        if (value.size > 0 && ledger_open(&sim->ledger, value.data))
            return true;
        (void)fprintf(stderr, "penstock-sim: --log %.*s: %s\n", (int)value.size, value.data,
                      strerror(errno));
        return false;
    }
    if (SLICE_IS(name, "seed") && text_parse_int(value, 0, INT64_MAX, &number)) {
        sim->random = (uint64_t)number;
        return true;
    }
    if (SLICE_IS(name, "idle-timeout-ms") && text_parse_int(value, 1, NEVER_MS, &number)) {
        sim->idle_timeout_ms = number;
        return true;
    }
    if (settings_set(&sim->start_settings, name, value, &why))
        return true;
    (void)fprintf(stderr, "penstock-sim: --%.*s: %s\n", (int)name.size, name.data, why.text);
    return false;
}

static bool parse_options(struct sim *sim, int count, char **words)
{
    for (int i = 1; i < count; i++) {
        struct slice word = {words[i], strlen(words[i])};
        if (word.size < 3 || !SLICE_STARTS(word, "--")) {
            (void)fprintf(stderr, "penstock-sim: '%s' is no option\n%s", words[i], usage);
            return false;
        }
        struct slice name = {word.data + 2, word.size - 2};
        struct slice value = {"", 0};
        const char *equals = memchr(name.data, '=', name.size);
        if (equals != NULL) {
            value = (struct slice){equals + 1, name.size - (size_t)(equals - name.data) - 1};
            name.size = (size_t)(equals - name.data);
        } else if (settings_is_flag(name)) {
            value = SLICE("1");
        } else if (i + 1 < count) {
            i++;
            value = (struct slice){words[i], strlen(words[i])};
        } else {
            (void)fprintf(stderr, "penstock-sim: %s wants a value\n", words[i]);
            return false;
        }
        if (!take_option(sim, name, value))
            return false;
    }
    return sim->listener_count > 0 || add_listener(sim, SLICE("127.0.0.1:9999"));
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void read_clocks(struct sim *sim)
{
    sim->now_mono_us = clock_mono_us();
    sim->now_mono_ms = sim->now_mono_us / 1000;
    sim->now_wall_ms = clock_wall_ms();
}

static void watch_fd(struct sim *sim, int fd, struct watch *watch)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watch};

    SIM_CHECK(epoll_ctl(sim->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void sim_open(struct sim *sim)
{
    sigset_t signals;

    raise_descriptor_limit();
    (void)signal(SIGPIPE, SIG_IGN);
    SIM_CHECK(sigemptyset(&signals) == 0);
    SIM_CHECK(sigaddset(&signals, SIGTERM) == 0);
    SIM_CHECK(sigaddset(&signals, SIGINT) == 0);
    SIM_CHECK(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
    sim->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    sim->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    SIM_CHECK(sim->signal_fd >= 0 && sim->epoll_fd >= 0);
    sim->signal_watch.kind = WATCH_SIGNALS;
    watch_fd(sim, sim->signal_fd, &sim->signal_watch);
    for (size_t i = 0; i < sim->listener_count; i++)
        watch_fd(sim, sim->listeners[i].fd, &sim->listeners[i].watch);
    sim->scratch = malloc(SCRATCH_BYTES);
    sim->filler = malloc(FILLER_BYTES);
    SIM_CHECK(sim->scratch != NULL && sim->filler != NULL);
    memset(sim->filler, 'x', FILLER_BYTES);
    read_clocks(sim);
    sim->bucket_mono_us = sim->now_mono_us;
    sim->bucket = sim->start_settings.rate_burst > 0 ? sim->start_settings.rate_burst
                                                     : sim->start_settings.rate_limit;
    sim->id_next = (uint64_t)sim->now_wall_ms << 20;
    settings_copy(&sim->settings, &sim->start_settings);
    timer_set(&sim->timers, &sim->sweep_timer, sim->now_mono_ms + SWEEP_MS);
    if (sim->ledger.fd >= 0)
        timer_set(&sim->timers, &sim->ledger_timer, sim->now_mono_ms + TICK_MS);
}

/* A log that loses lines would make a fault harness believe in lost work. */
static void flush_ledger(struct sim *sim)
{
    if (sim->ledger.fd < 0 || ledger_flush(&sim->ledger))
        return;
    (void)fprintf(stderr, "penstock-sim: cannot write the log: %s\n", strerror(errno));
    exit(EXIT_FAILURE);
}

static void run_timers(struct sim *sim)
{
    struct timer *timer;

    while ((timer = timer_take_due(&sim->timers, sim->now_mono_ms)) != NULL) {
        if (timer == &sim->sweep_timer) {
            conn_sweep(sim);
            timer_set(&sim->timers, timer, sim->now_mono_ms + SWEEP_MS);
        } else if (timer == &sim->ledger_timer) {
            flush_ledger(sim);
            timer_set(&sim->timers, timer, sim->now_mono_ms + TICK_MS);
        } else {
            conn_on_timer(timer->owner);
        }
    }
}

static void dispatch(struct sim *sim, const struct epoll_event *event)
{
    struct watch *watch = event->data.ptr;

    switch (watch->kind) {
    case WATCH_LISTENER:
        conn_accept_all(sim, (struct listener *)(void *)watch);
        break;
    case WATCH_SIGNALS:
        sim->is_stopping = true;
        break;
    case WATCH_CONN:
        conn_on_event((struct conn *)(void *)watch, event->events);
        break;
    }
}

static void run(struct sim *sim)
{
    struct epoll_event events[EVENT_COUNT];

    while (!sim->is_stopping) {
        int wait_ms = timer_wait_ms(&sim->timers, sim->now_mono_ms);
        int count = epoll_wait(sim->epoll_fd, events, EVENT_COUNT, wait_ms);
        SIM_CHECK(count >= 0 || errno == EINTR);
        read_clocks(sim);
        for (int i = 0; i < count; i++)
            dispatch(sim, &events[i]);
        run_timers(sim);
        conn_admit_waiting(sim);
        conn_free_dead(sim);
        if (sim->ledger.lines.size > SCRATCH_BYTES)
            flush_ledger(sim);
    }
}

/* Everything goes back, so that leak checkers stay meaningful. */
static void sim_close(struct sim *sim)
{
    while (sim->open_conns != NULL)
        conn_close(sim->open_conns, ENDING_STOPPED);
    conn_free_dead(sim);
    flush_ledger(sim);
    while (sim->free_conns != NULL) {
        struct conn *conn = sim->free_conns;
        sim->free_conns = conn->next;
        buf_deinit(&conn->in);
        buf_deinit(&conn->out);
        free(conn);
    }
    for (size_t i = 0; i < sim->listener_count; i++)
        (void)close(sim->listeners[i].fd);
    (void)close(sim->epoll_fd);
    (void)close(sim->signal_fd);
    if (sim->ledger.fd >= 0)
        (void)close(sim->ledger.fd);
    buf_deinit(&sim->ledger.lines);
    buf_deinit(&sim->body);
    buf_deinit(&sim->text);
    buf_deinit(&sim->headers);
    table_reset(&sim->stats.nonces);
    table_reset(&sim->fail_keys);
    timer_heap_deinit(&sim->timers);
    free(sim->scratch);
    free(sim->filler);
    free(sim);
}

int main(int count, char **words)
{
    if (count > 1 && (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0)) {
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    struct sim *sim = calloc(1, sizeof(*sim));
    SIM_CHECK(sim != NULL);
    sim->ledger.fd = -1;
    sim->random = (uint64_t)clock_wall_ms();
    sim->idle_timeout_ms = 600000;
    if (!parse_options(sim, count, words)) {
        free(sim);
        return EXIT_SETUP;
    }
    sim_open(sim);
    for (size_t i = 0; i < sim->listener_count; i++)
        print_listener(&sim->listeners[i]);
    (void)fflush(stdout);
    run(sim);
    sim_close(sim);
    return EXIT_SUCCESS;
}
