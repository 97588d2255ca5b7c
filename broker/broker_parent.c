#include "broker/broker_parent.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "broker/http/http_server.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/process.h"

enum {
    READY_MS = 30 * 1000, /* a child that is not ready by then is stuck */
    LIFE_MS = 10 * 1000,  /* a child whose loop gave no sign of life for so long is replaced */
    LOOK_MS = 1000,       /* how often that is looked at */
    STOOD_MS = 3 * 1000,  /* looked at later than that: it was we who stood still */
    KILL_MS = 3 * 1000,   /* after its grace, or after the second signal */
    RESTART_MIN_MS = 50,
    RESTART_MAX_MS = 5 * 1000,
    RESTART_RESET_MS = 10 * 1000,
    LOG_WAIT_MS = 50, /* between attempts to write lines that a full pipe did not take */
    NUMBER_SIZE = 12,
    POLLS = 3, /* descriptors of a child that are waited for */
};

struct child {
    struct process process;
    struct backoff backoff;
    int64_t started_mono_ms;
    int64_t start_mono_ms; /* when to start it again, while process.pid is 0 */
    int64_t heard_mono_ms; /* last sign of life, once it is ready */
    int life_fd;           /* where they come in; -1: none */
    bool is_ready;         /* has been, since it was started */
};

struct parent {
    const struct broker_arguments *arguments;
    const struct settings *settings;
    const char *child_path;
    int listen_fd;
    int metrics_fd;
    int signal_fd;
    int ready_fd; /* -1: said, or not asked for */
    struct child *children;
    unsigned children_count;
    struct pollfd *polls;
    int signals_count;    /* of SIGTERM and SIGINT */
    int64_t kill_mono_ms; /* while stopping */
    int64_t looked_mono_ms;
    int exit_code;
    bool was_ready;
};

static bool is_stopping(const struct parent *parent)
{
    return parent->signals_count > 0;
}

static void close_life(struct child *child)
{
    if (child->life_fd >= 0)
        (void)close(child->life_fd);
    child->life_fd = -1;
}

static void start_child(struct parent *parent, unsigned number, int64_t now_ms)
{
    struct child *child = &parent->children[number];
    char text[NUMBER_SIZE];
    struct error_text why = {0};
    const char *argv[] = {"penstock-broker", "--child", text, NULL, NULL, NULL};
    int life[2] = {-1, -1}; /* without it, of all things, the child does its work unwatched */
    int status = pipe2(life, O_CLOEXEC | O_NONBLOCK);
    const struct process_fd fds[] = {
        {"LISTEN", parent->listen_fd}, {"METRICS", parent->metrics_fd}, {"LIFE", life[1]}};
    const struct process_options options = {.path = parent->child_path,
                                            .argv = argv,
                                            .fds = fds,
                                            .fds_count = 3,
                                            .death_signal = SIGTERM,
                                            .wants_ready = true};

    (void)snprintf(text, sizeof text, "%u", number);
    if (parent->arguments->config_path) {
        argv[3] = "--config";
        argv[4] = parent->arguments->config_path;
    }
    child->is_ready = false;
    child->started_mono_ms = now_ms;
    child->life_fd = life[0];
    status = process_spawn(&options, &child->process, &why);
    if (life[1] >= 0)
        (void)close(life[1]);
    if (status == 0)
        return;
    close_life(child);
    child->process = (struct process){.pidfd = -1, .ready_fd = -1};
    child->start_mono_ms = now_ms + backoff_next_ms(&child->backoff, 0);
    log_event(LOG_ERROR, "child_start", LOG_I("child", number), LOG_S("error", why.text));
}

static void signal_children(const struct parent *parent, int number)
{
    for (unsigned i = 0; i < parent->children_count; i++)
        process_signal(&parent->children[i].process, number);
}

static void stop(struct parent *parent, int64_t now_ms)
{
    parent->signals_count++;
    parent->kill_mono_ms =
        now_ms + KILL_MS + (parent->signals_count == 1 ? (int)BROKER_GRACE_MS : 0);
    log_event(LOG_INFO, "stopping", LOG_S("how", parent->signals_count == 1 ? "drain" : "now"));
    signal_children(parent, SIGTERM);
}

/* The address as a client would write it, with the port that was really bound. */
static void format_url(const char *address, int fd, char *out, size_t size)
{
    const char *colon = strrchr(address, ':');

    if (strncmp(address, "unix:", 5) == 0 || !colon)
        (void)snprintf(out, size, "%s", address);
    else
        (void)snprintf(out, size, "http://%.*s:%d", (int)(colon - address), address,
                       http_listen_port(fd));
}

static void say_ready(struct parent *parent)
{
    char line[64];
    char url[512];

    if (parent->was_ready)
        return;
    for (unsigned i = 0; i < parent->children_count; i++) {
        if (!parent->children[i].is_ready)
            return;
    }
    parent->was_ready = true;
    format_url(parent->settings->listen, parent->listen_fd, url, sizeof url);
    log_event(LOG_INFO, "listening", LOG_S("on", url), LOG_I("processes", parent->children_count),
              LOG_I("metrics_port", http_listen_port(parent->metrics_fd)));
    if (parent->ready_fd < 0)
        return;
    int size = snprintf(line, sizeof line, "ready %d %d\n", http_listen_port(parent->listen_fd),
                        http_listen_port(parent->metrics_fd));
    ssize_t count = write(parent->ready_fd, line, (size_t)size);
    if (count != size)
        log_event(LOG_WARN, "ready_fd", LOG_S("error", strerror(errno)));
    (void)close(parent->ready_fd);
    parent->ready_fd = -1;
}

static void on_ready(struct parent *parent, unsigned number)
{
    struct child *child = &parent->children[number];

    if (process_take_ready(&child->process) != 1)
        return; /* its end will say why */
    child->is_ready = true;
    child->heard_mono_ms = clock_mono_ms();
    log_event(LOG_DEBUG, "child_ready", LOG_I("child", number), LOG_I("pid", child->process.pid));
    say_ready(parent);
}

static void on_life(struct child *child, int64_t now_ms)
{
    char bytes[64];
    ssize_t count;

    while ((count = read(child->life_fd, bytes, sizeof bytes)) > 0)
        child->heard_mono_ms = now_ms;
    if (count == 0)
        close_life(child); /* it ended, or is about to */
}

static void on_end(struct parent *parent, unsigned number, int64_t now_ms)
{
    struct child *child = &parent->children[number];
    struct process_end end;
    long pid = (long)child->process.pid;

    if (process_wait(&child->process, &end) != 1)
        return;
    close_life(child);
    bool is_setup = !end.is_signal && end.code == PROCESS_EXIT_SETUP;
    if (is_stopping(parent)) {
        /* One that was started a moment ago may not have listened to signals yet. */
        bool is_stopped_early = end.is_signal && end.code == SIGTERM && !child->is_ready;
        if (!is_stopped_early && (end.is_signal || end.code != 0))
            parent->exit_code = parent->exit_code ? parent->exit_code : PROCESS_EXIT_FAILED;
        return;
    }
    if (is_setup) {
        log_event(LOG_ERROR, "giving_up", LOG_S("reason", "a child finds the configuration wrong"));
        parent->exit_code = PROCESS_EXIT_SETUP;
        stop(parent, now_ms);
        return;
    }
    int64_t delay_ms = backoff_next_ms(&child->backoff, now_ms - child->started_mono_ms);
    child->start_mono_ms = now_ms + delay_ms;
    log_event(LOG_ERROR, "child_died", LOG_I("child", number), LOG_I("pid", pid),
              LOG_S("how", end.is_signal ? "signal" : "exit"), LOG_I("code", end.code),
              LOG_I("restart_in_ms", delay_ms));
}

static void reload(const struct parent *parent)
{
    struct settings *settings = NULL;
    struct error_text why = {0};

    if (settings_load(parent->arguments->config_path, &settings, &why) != 0) {
        log_event(LOG_ERROR, "reload_refused", LOG_S("error", why.text));
        return;
    }
    broker_set_log_level(settings);
    settings_destroy(settings);
    signal_children(parent, SIGHUP);
}

static void on_signals(struct parent *parent, int64_t now_ms)
{
    struct signalfd_siginfo info;

    while (read(parent->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload(parent);
        else
            stop(parent, now_ms);
    }
}

/* When we were stopped or starved ourselves, so were they. */
static void forgive_silence(struct parent *parent, int64_t now_ms)
{
    if (now_ms - parent->looked_mono_ms > STOOD_MS)
        for (unsigned i = 0; i < parent->children_count; i++)
            parent->children[i].heard_mono_ms = now_ms;
    parent->looked_mono_ms = now_ms;
}

/* When a child that is there has to be ended. */
static int64_t child_limit_ms(const struct parent *parent, const struct child *child)
{
    if (is_stopping(parent))
        return parent->kill_mono_ms;
    if (!child->is_ready)
        return child->started_mono_ms + READY_MS;
    return child->life_fd >= 0 ? child->heard_mono_ms + LIFE_MS : INT64_MAX;
}

/* What is due by the clock. Returns how long to sleep at most. */
static int64_t on_time(struct parent *parent, int64_t now_ms)
{
    int64_t next_ms = INT64_MAX;

    forgive_silence(parent, now_ms);
    for (unsigned i = 0; i < parent->children_count; i++) {
        struct child *child = &parent->children[i];
        int64_t due_ms = INT64_MAX;

        if (child->process.pid > 0)
            due_ms = child_limit_ms(parent, child);
        else if (!is_stopping(parent))
            due_ms = child->start_mono_ms;
        if (due_ms <= now_ms) {
            if (child->process.pid == 0) {
                start_child(parent, i, now_ms);
                due_ms = child->process.pid > 0 ? now_ms + READY_MS : child->start_mono_ms;
            } else {
                log_event(LOG_ERROR, "child_stuck", LOG_I("child", i),
                          LOG_I("pid", child->process.pid));
                process_signal(&child->process, SIGKILL);
                child->heard_mono_ms = now_ms;
                due_ms = now_ms + KILL_MS;
            }
        }
        if (due_ms < next_ms)
            next_ms = due_ms;
    }
    if (next_ms > now_ms + LOOK_MS)
        return LOOK_MS;
    return next_ms > now_ms ? next_ms - now_ms : 0;
}

static bool has_children(const struct parent *parent)
{
    for (unsigned i = 0; i < parent->children_count; i++) {
        if (parent->children[i].process.pid > 0)
            return true;
    }
    return false;
}

static void wait_for_events(struct parent *parent, int64_t wait_ms)
{
    nfds_t count = 0;

    parent->polls[count++] = (struct pollfd){.fd = parent->signal_fd, .events = POLLIN};
    for (unsigned i = 0; i < parent->children_count; i++) { /* poll() passes over -1 */
        const struct process *process = &parent->children[i].process;
        int pidfd = process->pid > 0 ? process->pidfd : -1;
        int ready_fd = process->pid > 0 ? process->ready_fd : -1;
        int life_fd = parent->children[i].life_fd;
        parent->polls[count++] = (struct pollfd){.fd = pidfd, .events = POLLIN};
        parent->polls[count++] = (struct pollfd){.fd = ready_fd, .events = POLLIN};
        parent->polls[count++] = (struct pollfd){.fd = life_fd, .events = POLLIN};
    }
    if (poll(parent->polls, count, (int)wait_ms) <= 0)
        return;
    int64_t now_ms = clock_mono_ms();
    for (unsigned i = 0; i < parent->children_count; i++) {
        const struct pollfd *polls = &parent->polls[1 + POLLS * i];
        if (polls[2].revents != 0)
            on_life(&parent->children[i], now_ms);
        if (polls[1].revents != 0)
            on_ready(parent, i);
        if (polls[0].revents != 0)
            on_end(parent, i, now_ms);
    }
    if (parent->polls[0].revents != 0)
        on_signals(parent, now_ms);
}

static void serve(struct parent *parent)
{
    for (;;) {
        int64_t wait_ms = on_time(parent, clock_mono_ms());
        if (is_stopping(parent) && !has_children(parent))
            return;
        if (!log_flush() && wait_ms > LOG_WAIT_MS)
            wait_ms = LOG_WAIT_MS;
        wait_for_events(parent, wait_ms);
    }
}

static int listen_on(const char *address, int *out_fd)
{
    struct error_text why = {0};
    int fd = http_listen(address, &why);

    if (fd >= 0) {
        *out_fd = fd;
        return 0;
    }
    log_event(LOG_ERROR, "listen", LOG_S("error", why.text));
    return fd == ERR_INVALID ? PROCESS_EXIT_SETUP : PROCESS_EXIT_FAILED;
}

static int open_all(struct parent *parent)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

    int code = listen_on(parent->settings->listen, &parent->listen_fd);
    if (code == 0 && parent->settings->listen_metrics[0] != '\0')
        code = listen_on(parent->settings->listen_metrics, &parent->metrics_fd);
    if (code != 0)
        return code;
    parent->signal_fd = process_open_signals(signals, 3);
    parent->children = calloc(parent->children_count, sizeof *parent->children);
    parent->polls = calloc(1 + POLLS * (size_t)parent->children_count, sizeof *parent->polls);
    if (parent->signal_fd < 0 || !parent->children || !parent->polls)
        return PROCESS_EXIT_FAILED;
    for (unsigned i = 0; i < parent->children_count; i++) {
        parent->children[i].life_fd = -1;
        parent->children[i].backoff = (struct backoff){
            .min_ms = RESTART_MIN_MS, .max_ms = RESTART_MAX_MS, .reset_ms = RESTART_RESET_MS};
    }
    parent->looked_mono_ms = clock_mono_ms();
    return 0;
}

int broker_parent_run(const struct broker_arguments *arguments, const struct settings *settings,
                      const char *child_path)
{
    struct parent parent = {.arguments = arguments,
                            .child_path = child_path,
                            .settings = settings,
                            .listen_fd = -1,
                            .metrics_fd = -1,
                            .signal_fd = -1,
                            .ready_fd = arguments->ready_fd,
                            .children_count = (unsigned)settings->broker.processes};

    broker_start_log(settings, "broker");
    if (parent.ready_fd >= 0 && fcntl(parent.ready_fd, F_SETFD, FD_CLOEXEC) != 0) {
        log_event(LOG_ERROR, "ready_fd", LOG_S("error", strerror(errno)));
        (void)log_flush();
        return PROCESS_EXIT_SETUP;
    }
    parent.exit_code = open_all(&parent);
    (void)malloc_trim(0); /* reading the settings took more than keeping them */
    if (parent.exit_code == 0)
        serve(&parent);
    free(parent.children);
    free(parent.polls);
    (void)log_flush();
    return parent.exit_code;
}
