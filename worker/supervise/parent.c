#include "worker/supervise/parent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "worker/supervise/child_process.h"
#include "worker/supervise/orphans.h"
#include "worker/supervise/supervisor.h"

enum {
    POLL_MS_MAX = 1000,      /* silence is looked for so often */
    ABSENT_MS = 3000,        /* later than that out of poll(): we were stopped ourselves */
    HURRY_TIMEOUT_MS = 5000, /* after the second signal */
    FDS_PER_CHILD = 3,
};

struct parent {
    const struct parent_options *options;
    struct supervisor policy;
    struct child_process children[SUPERVISOR_CHILDREN_MAX];
    bool has_said_ready[SUPERVISOR_CHILDREN_MAX]; /* each child since it was started */
    struct orphans orphans;
    int signals_fd;
    int ready_fd;
    struct parent_plan plan;
    bool must_stop; /* a child found the configuration wrong */
    bool is_stopping;
    int64_t stop_mono_ms; /* then the rest is killed; while stopping */
    int64_t turn_mono_ms; /* when poll() returned last */
    int exit_code;
};

/* ---- actions ---- */

static int spawn(struct parent *parent, unsigned index, struct error_text *why)
{
    const struct parent_options *options = parent->options;
    char index_text[16];
    char gpu_text[48];
    const char *argv[] = {"penstock-worker", "--child", index_text, NULL};
    const char *env[] = {NULL, NULL};

    (void)snprintf(index_text, sizeof index_text, "%u/%u", index, parent->policy.count);
    if (options->gpu_ids) {
        (void)snprintf(gpu_text, sizeof gpu_text, "CUDA_VISIBLE_DEVICES=%d",
                       options->gpu_ids[index]);
        env[0] = gpu_text;
    }
    struct child_process_options child = {
        .path = options->child_path, .argv = argv, .env = env, .config_fd = parent->plan.config_fd};
    return child_process_spawn(&child, &parent->children[index], why);
}

static void start_child(struct parent *parent, unsigned index)
{
    struct error_text why = {""};

    parent->has_said_ready[index] = false;
    if (spawn(parent, index, &why) < 0) {
        log_event(LOG_ERROR, "child_not_started", LOG_I("child", index), LOG_S("reason", why.text));
        (void)supervisor_step(&parent->policy, index, CHILD_NOT_SPAWNED, clock_mono_ms());
        return;
    }
    log_event(LOG_INFO, "child_started", LOG_I("child", index),
              LOG_I("pid", parent->children[index].process.pid));
}

static void kill_child(struct parent *parent, unsigned index)
{
    log_event(parent->is_stopping ? LOG_WARN : LOG_ERROR, "child_killed", LOG_I("child", index),
              LOG_I("pid", parent->children[index].process.pid),
              LOG_S("reason", parent->is_stopping ? "stop took too long" : "no sign of life"));
    process_signal(&parent->children[index].process, SIGKILL);
}

static void step(struct parent *parent, unsigned index, enum child_event event)
{
    switch (supervisor_step(&parent->policy, index, event, clock_mono_ms())) {
    case CHILD_DO_SPAWN:
        start_child(parent, index);
        break;
    case CHILD_DO_TERM:
        process_signal(&parent->children[index].process, SIGTERM);
        break;
    case CHILD_DO_KILL:
        kill_child(parent, index);
        break;
    case CHILD_DO_GIVE_UP:
        log_event(LOG_ERROR, "gave_up", LOG_I("child", index),
                  LOG_S("reason", "wrong configuration"));
        parent->exit_code = PROCESS_EXIT_SETUP;
        parent->must_stop = true;
        break;
    case CHILD_DO_DELAY:
    case CHILD_DO_NOTHING:
        break;
    }
}

static void begin_stop(struct parent *parent, int timeout_ms)
{
    parent->is_stopping = true;
    parent->stop_mono_ms = clock_mono_ms() + timeout_ms;
    for (unsigned i = 0; i < parent->policy.count; i++)
        step(parent, i, CHILD_STOP);
}

/* ---- events ---- */

static void say_ready(struct parent *parent)
{
    if (parent->ready_fd < 0 || !supervisor_all_running(&parent->policy))
        return;
    ssize_t written = write(parent->ready_fd, "ready\n", 6);
    (void)written; /* whoever asked may be gone */
    (void)close(parent->ready_fd);
    parent->ready_fd = -1;
    log_event(LOG_INFO, "ready", LOG_I("children", parent->policy.count));
}

static void on_ready(struct parent *parent, unsigned index)
{
    if (process_take_ready(&parent->children[index].process) != 1)
        return; /* closed without a word: it is about to end */
    parent->has_said_ready[index] = true;
    supervisor_note_sign(&parent->policy, index, clock_mono_ms());
    step(parent, index, CHILD_READY);
    say_ready(parent);
}

static void on_messages(struct parent *parent, unsigned index)
{
    struct child_process *child = &parent->children[index];
    struct child_message message;
    int fd;
    int status;

    while ((status = child_message_receive(child->status_fd, &message, &fd)) == 1) {
        if (fd >= 0)
            (void)close(fd);
        supervisor_note_sign(&parent->policy, index, clock_mono_ms());
        if (message.type == CHILD_SAYS_RECOVERED)
            orphans_done(&parent->orphans, message.number, (int)index);
    }
    if (status < 0) { /* its end comes by the pidfd */
        (void)close(child->status_fd);
        child->status_fd = -1;
    }
}

static void on_end(struct parent *parent, unsigned index)
{
    struct child_process *child = &parent->children[index];
    struct process_end end;
    pid_t pid = child->process.pid;

    if (process_wait(&child->process, &end) == 0)
        return;
    orphans_return(&parent->orphans, (int)index);
    int tickets = child_process_bury(child);
    if (tickets >= 0 && !parent->is_stopping)
        orphans_add(&parent->orphans, tickets);
    else if (tickets >= 0)
        (void)close(tickets);

    /* One that was started a moment ago may not have listened to signals yet. */
    bool is_stopped_early = parent->is_stopping && end.is_signal && end.code == SIGTERM &&
                            !parent->has_said_ready[index];
    bool is_clean = is_stopped_early || (!end.is_signal && end.code == PROCESS_EXIT_DONE);
    log_event(is_clean ? LOG_INFO : LOG_WARN, "child_ended", LOG_I("child", index),
              LOG_I("pid", pid), LOG_S("how", end.is_signal ? "signal" : "exit"),
              LOG_I("code", end.code));
    if (parent->is_stopping && !is_clean && parent->exit_code == PROCESS_EXIT_DONE)
        parent->exit_code = PROCESS_EXIT_FAILED;
    bool is_setup = !end.is_signal && end.code == PROCESS_EXIT_SETUP;
    step(parent, index, is_setup ? CHILD_MISCONFIGURED : CHILD_DIED);
}

/* Tells running children of the tickets that nobody has recovered yet. */
static void hand_out(struct parent *parent)
{
    struct orphan *orphan;
    unsigned index = 0;

    while (!parent->is_stopping && (orphan = orphans_next(&parent->orphans)) != NULL) {
        FAILPOINT("supervisor-before-handover");
        struct child_message message = {.type = CHILD_SAYS_ORPHANS, .number = orphan->number};
        for (; index < parent->policy.count; index++) {
            if (parent->policy.children[index].state == CHILD_RUNNING &&
                parent->children[index].status_fd >= 0 &&
                child_message_send(parent->children[index].status_fd, &message, orphan->fd) == 0)
                break;
        }
        if (index == parent->policy.count)
            return; /* nobody can take it now: on the next turn */
        orphan->holder = (int)index;
    }
}

static void on_reload(struct parent *parent)
{
    const struct child_message message = {.type = CHILD_SAYS_CONFIG};
    struct parent_plan plan;

    if (parent->is_stopping || parent->options->on_reload(&plan, parent->options->arg) < 0)
        return;
    (void)close(parent->plan.config_fd);
    parent->plan = plan;
    for (unsigned i = 0; i < parent->policy.count; i++) {
        struct child_process *child = &parent->children[i];
        if (child->status_fd < 0 ||
            child_message_send(child->status_fd, &message, plan.config_fd) == 0)
            continue;
        /* It does not read its messages: a new one will know the new configuration. */
        log_event(LOG_WARN, "child_not_told", LOG_I("child", i), LOG_S("of", "configuration"));
        process_signal(&child->process, SIGTERM);
    }
    log_event(LOG_INFO, "reloaded", LOG_I("children", parent->policy.count));
}

static void on_stop(struct parent *parent, unsigned signal_number)
{
    if (!parent->is_stopping) {
        log_event(LOG_INFO, "stopping", LOG_I("signal", signal_number));
        begin_stop(parent, parent->plan.stop_timeout_ms);
        return;
    }
    log_event(LOG_INFO, "hurrying", LOG_I("signal", signal_number));
    int64_t end_mono_ms = clock_mono_ms() + HURRY_TIMEOUT_MS;
    if (parent->stop_mono_ms > end_mono_ms)
        parent->stop_mono_ms = end_mono_ms;
    for (unsigned i = 0; i < parent->policy.count; i++)
        step(parent, i, CHILD_HURRY);
}

static void on_signals(struct parent *parent)
{
    struct signalfd_siginfo info;

    while (read(parent->signals_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            on_reload(parent);
        else
            on_stop(parent, info.ssi_signo);
    }
}

static void on_time(struct parent *parent)
{
    int64_t now_mono_ms = clock_mono_ms();

    if (now_mono_ms - parent->turn_mono_ms > ABSENT_MS)
        supervisor_forgive(&parent->policy, now_mono_ms);
    parent->turn_mono_ms = now_mono_ms;
    for (unsigned i = 0; i < parent->policy.count; i++) {
        enum child_event event = supervisor_timed_event(&parent->policy, i, now_mono_ms);
        if (event != CHILD_EVENT_COUNT)
            step(parent, i, event);
        if (parent->is_stopping && now_mono_ms >= parent->stop_mono_ms)
            step(parent, i, CHILD_OVERDUE);
    }
}

/* ---- the loop ---- */

static int poll_timeout_ms(const struct parent *parent)
{
    int64_t now_mono_ms = clock_mono_ms();
    int64_t wait_ms = POLL_MS_MAX;

    for (unsigned i = 0; i < parent->policy.count; i++) {
        const struct child_record *record = &parent->policy.children[i];
        if (record->state == CHILD_WAITING && record->due_mono_ms - now_mono_ms < wait_ms)
            wait_ms = record->due_mono_ms - now_mono_ms;
    }
    if (parent->is_stopping && parent->stop_mono_ms - now_mono_ms < wait_ms)
        wait_ms = parent->stop_mono_ms - now_mono_ms;
    return wait_ms > 0 ? (int)wait_ms : 0;
}

/* poll() ignores negative descriptors, so every child always has its three rows. */
static void turn(struct parent *parent)
{
    struct pollfd fds[1 + SUPERVISOR_CHILDREN_MAX * FDS_PER_CHILD];
    nfds_t count = 0;

    fds[count++] = (struct pollfd){.fd = parent->signals_fd, .events = POLLIN};
    for (unsigned i = 0; i < parent->policy.count; i++) {
        const struct child_process *child = &parent->children[i];
        bool is_alive = child->process.pid > 0;
        fds[count++] = (struct pollfd){.fd = child->status_fd, .events = POLLIN};
        fds[count++] =
            (struct pollfd){.fd = is_alive ? child->process.ready_fd : -1, .events = POLLIN};
        fds[count++] =
            (struct pollfd){.fd = is_alive ? child->process.pidfd : -1, .events = POLLIN};
    }
    if (poll(fds, count, poll_timeout_ms(parent)) < 0)
        CHECK(errno == EINTR || errno == EAGAIN || errno == ENOMEM);

    on_time(parent);
    if (fds[0].revents)
        on_signals(parent);
    for (unsigned i = 0; i < parent->policy.count; i++) {
        const struct pollfd *row = &fds[1 + i * FDS_PER_CHILD];
        if (row[0].fd >= 0 && row[0].revents && parent->children[i].status_fd == row[0].fd)
            on_messages(parent, i);
        if (row[1].fd >= 0 && row[1].revents && parent->children[i].process.ready_fd == row[1].fd)
            on_ready(parent, i);
        if (row[2].fd >= 0 && row[2].revents && parent->children[i].process.pid > 0)
            on_end(parent, i);
    }
    if (parent->must_stop && !parent->is_stopping)
        begin_stop(parent, parent->plan.stop_timeout_ms);
    hand_out(parent);
    (void)log_flush();
}

int parent_run(const struct parent_options *options)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct parent parent = {.options = options,
                            .ready_fd = options->ready_fd,
                            .plan = options->plan,
                            .turn_mono_ms = clock_mono_ms()};

    parent.signals_fd = process_open_signals(signals, sizeof signals / sizeof signals[0]);
    if (parent.signals_fd < 0) {
        log_event(LOG_ERROR, "start_failed", LOG_S("reason", strerror(errno)));
        return PROCESS_EXIT_FAILED;
    }
    for (unsigned i = 0; i < SUPERVISOR_CHILDREN_MAX; i++)
        parent.children[i] = (struct child_process){
            .process = {.pidfd = -1, .ready_fd = -1}, .status_fd = -1, .tickets_fd = -1};
    supervisor_init(&parent.policy, options->children_count, parent.turn_mono_ms);

    while (!supervisor_is_over(&parent.policy))
        turn(&parent);

    orphans_deinit(&parent.orphans);
    (void)close(parent.signals_fd);
    (void)close(parent.plan.config_fd);
    if (parent.ready_fd >= 0)
        (void)close(parent.ready_fd);
    log_event(LOG_INFO, "stopped", LOG_I("exit_code", parent.exit_code));
    (void)log_flush();
    return parent.exit_code;
}
