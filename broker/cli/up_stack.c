/* up: starting, watching and ending the children. They die with us even when we are killed. */
#include "broker/cli/client.h"
#include "broker/cli/up.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/text.h"

enum {
    START_MS = 20000,
    KILL_MS = 5000, /* after Ctrl-C was pressed again */
    READY_LINE_SIZE = 128,
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    BACKOFF_RESET_MS = 10000
};

static bool is_interrupted(struct up *up)
{
    struct signalfd_siginfo info;

    return read(up->signals_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

bool up_pause(struct up *up, int64_t ms)
{
    struct pollfd fd = {.fd = up->signals_fd, .events = POLLIN};

    return poll(&fd, 1, (int)ms) > 0 && is_interrupted(up);
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

/* A session of its own keeps Ctrl-C from the children: Redis must outlive the worker's drain. Each
 * holds the lock of the data directory, so the next start can tell when all of them have ended. */
static int start_child(struct up *up, struct up_child *child)
{
    const struct process_fd fds[] = {{"READY", child->speaks_on_stdout ? -1 : child->ready_pipe[1]},
                                     {"LOCK", up->lock_fd}};
    struct process_options options = {.path = child->shell ? child->shell : child->path,
                                      .argv = child->argv,
                                      .fds = fds,
                                      .fds_count = 2,
                                      .death_signal = SIGTERM,
                                      .own_session = true,
                                      .stdout_fd = child->speaks_on_stdout ? child->ready_pipe[1]
                                                                           : STDERR_FILENO};
    struct error_text why = {{0}};

    child->restart_mono_ms = 0;
    child->started_mono_ms = clock_mono_ms();
    if (process_spawn(&options, &child->process, &why) < 0)
        return cli_fail(CLI_FAILED, "cannot start %s: %s", child->name, why.text);
    return CLI_DONE;
}

/* 1 when it has ended, 2 when it must not be started again; says how it ended. */
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

/* ---- starting -----------------------------------------------------------------------------------
 */

/* Waits for the line a program says once it is ready. */
static int await_line(struct up *up, struct up_child *child, char line[READY_LINE_SIZE])
{
    int64_t end_ms = clock_mono_ms() + START_MS;
    size_t size = 0;

    for (;;) {
        struct pollfd fds[] = {{.fd = child->ready_pipe[0], .events = POLLIN},
                               {.fd = up->signals_fd, .events = POLLIN},
                               {.fd = child->process.pidfd, .events = POLLIN}};
        int64_t left_ms = end_ms - clock_mono_ms();
        if (left_ms <= 0)
            return cli_fail(CLI_FAILED, "%s was not ready within %d s", child->name,
                            START_MS / 1000);
        poll(fds, 3, (int)left_ms);
        if (fds[1].revents && is_interrupted(up))
            return CLI_INTERRUPTED;
        ssize_t got = fds[0].revents & POLLIN
                          ? read(child->ready_pipe[0], line + size, READY_LINE_SIZE - 1 - size)
                          : 0;
        size += got > 0 ? (size_t)got : 0;
        line[size] = '\0';
        if (memchr(line, '\n', size))
            return CLI_DONE;
        if (size == READY_LINE_SIZE - 1)
            return cli_fail(CLI_FAILED, "%s said something strange", child->name);
        if (check_child(child))
            return CLI_FAILED;
    }
}

/* The end of Redis' own log says why it does not start. */
static int tell_redis_log(const struct up *up)
{
    char path[UP_PATH_SIZE], text[2048];
    FILE *file;

    snprintf(path, sizeof(path), "%s/redis.log", up->data_dir);
    file = fopen(path, "rbe");
    if (file && fseek(file, 0, SEEK_END) == 0) {
        long size = ftell(file);
        long from = size > (long)sizeof(text) - 1 ? size - (long)sizeof(text) + 1 : 0;
        if (fseek(file, from, SEEK_SET) == 0) {
            text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
            cli_fail(CLI_FAILED, "%s ends:\n%s", path, text);
        }
    }
    if (file)
        fclose(file);
    return CLI_FAILED;
}

static int await_redis(struct up *up)
{
    int64_t end_ms = clock_mono_ms() + START_MS;

    while (!up_redis_answers(up->redis_socket)) {
        if (check_child(&up->children[UP_REDIS]))
            return tell_redis_log(up);
        if (clock_mono_ms() > end_ms) {
            cli_fail(CLI_FAILED, "Redis did not answer within %d s", START_MS / 1000);
            return tell_redis_log(up);
        }
        if (up_pause(up, 10))
            return CLI_INTERRUPTED;
    }
    return CLI_DONE;
}

/* Decimal digits at *at, moved behind them. */
static int take_port(const char **at)
{
    size_t digits = strspn(*at, "0123456789");
    int64_t port;

    if (digits == 0 || text_parse_i64(*at, digits, 0, 65535, &port) < 0)
        return 0;
    *at += digits;
    return (int)port;
}

static int await_sim(struct up *up)
{
    char line[READY_LINE_SIZE];
    int status = await_line(up, &up->children[UP_SIM], line);
    const char *at = strrchr(line, ':');
    int port = 0;

    if (status != CLI_DONE)
        return status;
    if (at && at++)
        port = take_port(&at);
    return port > 0 ? up_set_sim_port(up, port)
                    : cli_fail(CLI_FAILED, "the simulator said something strange");
}

static int await_broker(struct up *up)
{
    char line[READY_LINE_SIZE];
    const char *at = line + strlen("ready ");
    int status = await_line(up, &up->children[UP_BROKER], line);

    if (status != CLI_DONE)
        return status;
    if (text_starts_with(line, "ready "))
        up->port = take_port(&at);
    if (up->port == 0)
        return cli_fail(CLI_FAILED, "the broker said something strange");
    if (*at++ == ' ')
        up->metrics_port = take_port(&at);
    return up_write_config(up);
}

/* Until jobs can be taken in: the broker has judged Redis. */
static int await_readiness(struct up *up)
{
    struct client_request request = {.method = "GET", .path = "/readyz", .timeout_ms = 5000};
    int64_t end_ms = clock_mono_ms() + START_MS;
    struct client_answer answer = {0};
    struct client *client;
    struct error_text why = {{0}};
    char url[UP_HOST_SIZE + 32];
    int code, status = CLI_DONE;

    up_url(up, url, sizeof(url));
    if (client_create(url, "", &client, &why) < 0)
        return cli_fail(CLI_FAILED, "%s", why.text);
    client_set_interrupt(client, up->signals_fd);
    while ((code = client_call(client, &request, &answer, &why)) < 0 || answer.status != 200) {
        if (up_pause(up, 20)) {
            status = CLI_INTERRUPTED;
        } else if (check_child(&up->children[UP_BROKER]) || check_child(&up->children[UP_REDIS])) {
            status = CLI_FAILED;
        } else if (clock_mono_ms() > end_ms) {
            status = cli_fail(CLI_FAILED, "not ready within %d s: %.*s", START_MS / 1000,
                              code < 0 ? 400 : (int)answer.body.size,
                              code < 0 ? why.text : answer.body.data);
        }
        if (status != CLI_DONE)
            break;
    }
    client_answer_deinit(&answer);
    client_destroy(client);
    return status;
}

static int start_part(struct up *up, enum up_part part)
{
    struct up_child *child = &up->children[part];
    char line[READY_LINE_SIZE];
    int status = CLI_DONE;

    if (part == UP_BROKER)
        status = up_write_config(up);
    child->backoff = (struct backoff){
        .min_ms = BACKOFF_MIN_MS, .max_ms = BACKOFF_MAX_MS, .reset_ms = BACKOFF_RESET_MS};
    if (status == CLI_DONE)
        status = start_child(up, child);
    if (status != CLI_DONE)
        return status;
    switch (part) {
    case UP_REDIS:
        return await_redis(up);
    case UP_SIM:
        return await_sim(up);
    case UP_BROKER:
        return await_broker(up);
    case UP_WORKER:
    case UP_PARTS:
        break;
    }
    return await_line(up, child, line);
}

int up_stack_start(struct up *up)
{
    int status = CLI_DONE;

    for (enum up_part part = 0; part < UP_PARTS && status == CLI_DONE; part++) {
        if (up->children[part].is_wanted)
            status = start_part(up, part);
    }
    return status == CLI_DONE ? await_readiness(up) : status;
}

/* ---- running ------------------------------------------------------------------------------------
 */

/* Lines of programs that were started again, which nobody waits for. */
static void drain_ready_pipe(const struct up_child *child)
{
    char line[READY_LINE_SIZE];

    while (child->ready_pipe[0] >= 0 && read(child->ready_pipe[0], line, sizeof(line)) > 0)
        continue;
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
        if (child->restart_mono_ms > 0 && child->restart_mono_ms <= now_ms) {
            drain_ready_pipe(child);
            if (start_child(up, child) != CLI_DONE)
                child->restart_mono_ms = now_ms + BACKOFF_MAX_MS;
        }
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
        poll(fds, UP_PARTS + 1, BACKOFF_MIN_MS);
        if (fds[0].revents && is_interrupted(up))
            return CLI_DONE;
        int status = watch_children(up);
        if (status != CLI_DONE)
            return status;
    }
}

/* ---- ending -------------------------------------------------------------------------------------
 */

static void stop_child(struct up *up, struct up_child *child)
{
    int64_t end_ms = clock_mono_ms() + (up->is_hurried ? KILL_MS : child->stop_ms);
    bool is_killed = false;
    struct process_end end;

    process_signal(&child->process, SIGTERM);
    while (process_wait(&child->process, &end) != 1) {
        struct pollfd fds[] = {{.fd = child->process.pidfd, .events = POLLIN},
                               {.fd = up->signals_fd, .events = POLLIN}};
        int64_t left_ms = end_ms - clock_mono_ms();
        poll(fds, 2, left_ms > 1000 ? 1000 : left_ms > 0 ? (int)left_ms : 0);
        if (fds[1].revents && is_interrupted(up)) {
            /* Again: programs take it as "now", and what does not is killed soon. */
            if (up->is_hurried)
                end_ms = 0;
            else
                end_ms = clock_mono_ms() + KILL_MS;
            up->is_hurried = true;
            process_signal(&child->process, SIGTERM);
        }
        if (!is_killed && clock_mono_ms() >= end_ms) {
            cli_fail(CLI_FAILED, "%s does not end: killed", child->name);
            process_signal(&child->process, SIGKILL);
            is_killed = true;
            end_ms = INT64_MAX;
        }
    }
}

void up_stack_stop(struct up *up)
{
    static const enum up_part order[] = {UP_WORKER, UP_BROKER, UP_SIM, UP_REDIS};

    for (unsigned i = 0; i < UP_PARTS; i++) {
        struct up_child *child = &up->children[order[i]];
        if (child->is_wanted && child->process.pid != 0)
            stop_child(up, child);
    }
}
