/* Starting, watching and ending the children of `penstock up`. They die with us even when we are
 * killed. */
#include "broker/cli/up.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/text.h"

enum { START_MS = 20000, STOP_MS = 40000, KILL_MS = 5000, READY_LINE_SIZE = 128 };

void up_child_arg(struct up_child *child, const char *format, ...)
{
    va_list args;

    CHECK(child->argc < UP_ARGS_MAX);
    va_start(args, format);
    vsnprintf(child->args_text[child->argc], UP_PATH_SIZE, format, args);
    va_end(args);
    child->argv[child->argc] = child->args_text[child->argc];
    child->argc++;
    child->argv[child->argc] = NULL;
}

bool up_redis_answers(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[16] = "";
    struct pollfd poll_fd = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                             .events = POLLIN};
    bool is_there = false;

    if (poll_fd.fd < 0)
        return false;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    if (connect(poll_fd.fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(poll_fd.fd, "PING\r\n", 6, MSG_NOSIGNAL) == 6 && poll(&poll_fd, 1, 1000) == 1 &&
        recv(poll_fd.fd, answer, sizeof(answer) - 1, 0) >= 5)
        is_there = memcmp(answer, "+PONG", 5) == 0;
    close(poll_fd.fd);
    return is_there;
}

static int start_child(struct up_child *child)
{
    struct process_fd fds[] = {{"READY", child->ready_pipe[1]}};
    struct process_options options = {.path = child->path,
                                      .argv = child->argv,
                                      .fds = fds,
                                      .fds_count = child->ready_pipe[1] >= 0 ? 1 : 0,
                                      .death_signal = SIGTERM};
    struct error_text why;

    child->restart_mono_ms = 0;
    child->started_mono_ms = clock_mono_ms();
    if (process_spawn(&options, &child->process, &why) < 0)
        return cli_fail(CLI_FAILED, "cannot start %s: %s", child->name, why.text);
    return CLI_DONE;
}

/* 1 when it has ended, and says how. */
static int check_child(struct up_child *child)
{
    struct process_end end;

    if (child->process.pid == 0 || process_wait(&child->process, &end) != 1)
        return 0;
    if (!end.is_signal && end.code == 127)
        cli_fail(CLI_FAILED, "%s cannot be run", child->path);
    else
        cli_fail(CLI_FAILED, "%s ended with %s %d", child->name,
                 end.is_signal ? "signal" : "exit code", end.code);
    return end.is_signal || (end.code != PROCESS_EXIT_SETUP && end.code != 127) ? 1 : 2;
}

static bool is_interrupted(struct up *up)
{
    struct signalfd_siginfo info;

    return read(up->signals_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

/* Waits for the line a program writes to its ready descriptor. */
static int await_line(struct up *up, struct up_child *child, char line[READY_LINE_SIZE])
{
    int64_t end_ms = clock_mono_ms() + START_MS;
    size_t size = 0;

    for (;;) {
        struct pollfd fds[] = {{.fd = child->ready_pipe[0], .events = POLLIN},
                               {.fd = up->signals_fd, .events = POLLIN}};
        int64_t left_ms = end_ms - clock_mono_ms();
        if (left_ms <= 0)
            return cli_fail(CLI_FAILED, "%s was not ready within %d s", child->name,
                            START_MS / 1000);
        poll(fds, 2, left_ms < 100 ? (int)left_ms : 100);
        if (fds[1].revents && is_interrupted(up))
            return CLI_INTERRUPTED;
        if (check_child(child))
            return CLI_FAILED;
        if (!(fds[0].revents & POLLIN))
            continue;
        ssize_t got = read(child->ready_pipe[0], line + size, READY_LINE_SIZE - 1 - size);
        if (got <= 0)
            return cli_fail(CLI_FAILED, "%s said nothing", child->name);
        size += (size_t)got;
        line[size] = '\0';
        if (memchr(line, '\n', size))
            return CLI_DONE;
        if (size == READY_LINE_SIZE - 1)
            return cli_fail(CLI_FAILED, "%s said something strange", child->name);
    }
}

static int await_redis(struct up *up)
{
    int64_t end_ms = clock_mono_ms() + START_MS;

    while (!up_redis_answers(up->redis_socket)) {
        struct pollfd fd = {.fd = up->signals_fd, .events = POLLIN};
        if (check_child(&up->children[UP_REDIS]))
            return cli_fail(CLI_FAILED, "see %s/redis.log", up->data_dir);
        if (clock_mono_ms() > end_ms)
            return cli_fail(CLI_FAILED, "Redis did not answer within %d s", START_MS / 1000);
        if (poll(&fd, 1, 10) > 0 && is_interrupted(up))
            return CLI_INTERRUPTED;
    }
    return CLI_DONE;
}

static int take_broker_port(struct up *up)
{
    char line[READY_LINE_SIZE];
    int64_t port = 0;
    int status = await_line(up, &up->children[UP_BROKER], line);

    if (status != CLI_DONE)
        return status;
    size_t digits = text_starts_with(line, "ready ") ? strspn(line + 6, "0123456789") : 0;
    if (digits == 0 || text_parse_i64(line + 6, digits, 1, 65535, &port) < 0)
        return cli_fail(CLI_FAILED, "the broker said something strange");
    up->port = (int)port;
    return CLI_DONE;
}

int up_stack_start(struct up *up)
{
    char line[READY_LINE_SIZE];
    int status = CLI_DONE;

    for (unsigned part = 0; part < UP_PARTS && status == CLI_DONE; part++) {
        struct up_child *child = &up->children[part];
        if (!child->is_wanted)
            continue;
        child->backoff = (struct backoff){.min_ms = 100, .max_ms = 5000, .reset_ms = 10000};
        status = start_child(child);
        if (status == CLI_DONE && part == UP_REDIS)
            status = await_redis(up);
        else if (status == CLI_DONE && part == UP_BROKER)
            status = take_broker_port(up);
        else if (status == CLI_DONE && part == UP_WORKER)
            status = await_line(up, child, line);
    }
    return status;
}

static int watch_children(struct up *up)
{
    int64_t now_ms = clock_mono_ms();

    for (unsigned part = 0; part < UP_PARTS; part++) {
        struct up_child *child = &up->children[part];
        int ended = child->is_wanted ? check_child(child) : 0;
        if (ended == 2)
            return CLI_FAILED;
        if (ended == 1)
            child->restart_mono_ms =
                now_ms + backoff_next_ms(&child->backoff, now_ms - child->started_mono_ms);
        if (child->restart_mono_ms > 0 && child->restart_mono_ms <= now_ms &&
            start_child(child) != CLI_DONE)
            child->restart_mono_ms = now_ms + 5000;
    }
    return CLI_DONE;
}

int up_stack_run(struct up *up)
{
    for (;;) {
        struct pollfd fds[UP_PARTS + 1] = {{.fd = up->signals_fd, .events = POLLIN}};
        for (unsigned part = 0; part < UP_PARTS; part++) {
            struct up_child *child = &up->children[part];
            fds[part + 1] = (struct pollfd){.fd = child->process.pid ? child->process.pidfd : -1,
                                            .events = POLLIN};
        }
        poll(fds, UP_PARTS + 1, 200);
        if (fds[0].revents && is_interrupted(up))
            return CLI_DONE;
        int status = watch_children(up);
        if (status != CLI_DONE)
            return status;
    }
}

static void stop_child(struct up *up, struct up_child *child)
{
    int64_t end_ms = clock_mono_ms() + STOP_MS;
    struct process_end end;
    bool is_killed = false;

    process_signal(&child->process, SIGTERM);
    while (child->process.pid != 0 && process_wait(&child->process, &end) != 1) {
        struct pollfd fds[] = {{.fd = child->process.pidfd, .events = POLLIN},
                               {.fd = up->signals_fd, .events = POLLIN}};
        poll(fds, 2, 100);
        /* A second Ctrl-C means now. */
        if ((fds[1].revents && is_interrupted(up)) || clock_mono_ms() > end_ms) {
            process_signal(&child->process, is_killed ? SIGKILL : SIGTERM);
            end_ms = clock_mono_ms() + KILL_MS;
            is_killed = true;
        }
    }
}

void up_stack_stop(struct up *up)
{
    static const enum up_part order[] = {UP_WORKER, UP_BROKER, UP_SIM, UP_REDIS};

    for (unsigned i = 0; i < UP_PARTS; i++) {
        struct up_child *child = &up->children[order[i]];
        if (child->process.pid != 0)
            stop_child(up, child);
    }
}
