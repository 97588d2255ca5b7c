/* Child processes: fork, exec, descriptors, end. Between fork and exec only async-signal-safe calls
 * are made. */
#include "common/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/settings.h"
#include "common/base/text.h"

#define CHILD_PREFIX "PENSTOCK_CHILD_"

enum {
    CHILD_NAME_SIZE = 64,
    CHILD_ENTRY_SIZE = CHILD_NAME_SIZE + 16,
    FD_NUMBER_MAX = 1 << 20,
    EXIT_NO_EXEC = 127
};

/* What the child needs, made before the fork because nothing may be allocated after it. */
struct launch {
    const char *path;
    char *const *argv;
    char **env;
    char entries[PROCESS_FDS_MAX + 1][CHILD_ENTRY_SIZE];
    unsigned entries_count;
    int fds[PROCESS_FDS_MAX + 1];
    int death_signal;
    pid_t parent;
    bool own_session;
    int stdout_fd; /* 0: inherited */
};

static void launch_add_fd(struct launch *launch, const char *name, int fd)
{
    CHECK(launch->entries_count <= PROCESS_FDS_MAX);
    CHECK(strlen(name) < CHILD_NAME_SIZE - sizeof CHILD_PREFIX);
    (void)snprintf(launch->entries[launch->entries_count], CHILD_ENTRY_SIZE, CHILD_PREFIX "%s=%d",
                   name, fd);
    launch->fds[launch->entries_count] = fd;
    launch->entries_count++;
}

static bool has_name(const char *entry, const char *other)
{
    const char *equals = strchr(entry, '=');
    size_t size = equals ? (size_t)(equals - entry) + 1 : strlen(entry);
    return strncmp(entry, other, size) == 0;
}

/* Ours without what a parent of ours told us, then what the caller adds, then the descriptors. */
static int launch_make_env(struct launch *launch, const char *const *extra)
{
    size_t count = 0;
    unsigned extra_count = 0;
    size_t at = 0;

    while (environ[count])
        count++;
    while (extra && extra[extra_count])
        extra_count++;
    CHECK(extra_count <= PROCESS_ENV_MAX);
    launch->env = calloc(count + extra_count + launch->entries_count + 1, sizeof *launch->env);
    if (!launch->env)
        return ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        bool is_replaced = text_starts_with(environ[i], CHILD_PREFIX);
        for (unsigned j = 0; j < extra_count && !is_replaced; j++)
            is_replaced = has_name(extra[j], environ[i]);
        if (!is_replaced)
            launch->env[at++] = environ[i];
    }
    for (unsigned i = 0; i < extra_count; i++) {
        union { /* execve takes its strings without const and does not write to them */
            const char *in;
            char *out;
        } text = {.in = extra[i]};
        launch->env[at++] = text.out;
    }
    for (unsigned i = 0; i < launch->entries_count; i++)
        launch->env[at++] = launch->entries[i];
    return 0;
}

/* In the child: undo what must not be inherited, keep what must, become the program. */
NORETURN static void launch_run(const struct launch *launch)
{
    sigset_t none;

    if (launch->death_signal != 0) {
        (void)prctl(PR_SET_PDEATHSIG, launch->death_signal);
        if (getppid() != launch->parent) /* it died before that took hold */
            _exit(PROCESS_EXIT_FAILED);
    }
    if (launch->own_session)
        (void)setsid();
    if (launch->stdout_fd > 0 && dup2(launch->stdout_fd, STDOUT_FILENO) < 0)
        _exit(EXIT_NO_EXEC);
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    /* Everything here is close-on-exec already; this catches what a library opened without it. */
    (void)close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    for (unsigned i = 0; i < launch->entries_count; i++) {
        if (fcntl(launch->fds[i], F_SETFD, 0) != 0)
            _exit(EXIT_NO_EXEC);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execve(launch->path, launch->argv, launch->env);
    _exit(EXIT_NO_EXEC);
}

/* Forks with all signals blocked, so that the child never runs a handler of the parent. */
static pid_t launch_fork(const struct launch *launch)
{
    sigset_t all;
    sigset_t before;

    (void)fflush(NULL);
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        launch_run(launch);
    int saved = errno;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return pid;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static int start(const struct launch *launch, struct process *out, struct error_text *why)
{
    pid_t pid = launch_fork(launch);
    if (pid < 0)
        return error_set(why, ERR_IO, "fork: %s", strerror(errno));
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) { /* without it we could neither wait for it nor stop it safely */
        int saved = errno;
        (void)kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
        return error_set(why, ERR_IO, "pidfd_open: %s", strerror(saved));
    }
    out->pid = pid;
    out->pidfd = pidfd;
    return 0;
}

int process_find_beside(const char *name, char out[PROCESS_PATH_SIZE], struct error_text *why)
{
    ssize_t size = readlink("/proc/self/exe", out, PROCESS_PATH_SIZE);

    if (size < 0 || size == PROCESS_PATH_SIZE)
        return error_set(why, ERR_NOT_FOUND, "/proc/self/exe: %s",
                         size < 0 ? strerror(errno) : "too long");
    while (size > 0 && out[size - 1] != '/')
        size--;
    if ((size_t)size + strlen(name) >= PROCESS_PATH_SIZE)
        return error_set(why, ERR_NOT_FOUND, "the path of %s is too long", name);
    memcpy(out + size, name, strlen(name) + 1);
    /* Never closed: children are started from it until we end. */
    int fd = open(out, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return error_set(why, ERR_NOT_FOUND, "%s: %s", out, strerror(errno));
    (void)snprintf(out, PROCESS_PATH_SIZE, "/proc/self/fd/%d", fd);
    return 0;
}

int process_spawn(const struct process_options *options, struct process *out,
                  struct error_text *why)
{
    struct launch launch = {.path = options->path ? options->path : "/proc/self/exe",
                            .death_signal = options->death_signal,
                            .parent = getpid(),
                            .own_session = options->own_session,
                            .stdout_fd = options->stdout_fd};
    struct process started = {.pidfd = -1, .ready_fd = -1};
    int ready[2] = {-1, -1};
    union { /* as above */
        const char *const *in;
        char *const *out;
    } argv = {.in = options->argv};
    int status;

    CHECK(options->argv && options->argv[0]);
    CHECK(options->fds_count <= PROCESS_FDS_MAX);
    launch.argv = argv.out;
    for (unsigned i = 0; i < options->fds_count; i++) {
        if (options->fds[i].fd >= 0)
            launch_add_fd(&launch, options->fds[i].name, options->fds[i].fd);
    }
    if (options->wants_ready) {
        if (pipe2(ready, O_CLOEXEC | O_NONBLOCK) != 0)
            return error_set(why, ERR_IO, "pipe: %s", strerror(errno));
        launch_add_fd(&launch, "READY", ready[1]);
    }
    status = launch_make_env(&launch, options->env);
    if (status == 0)
        status = start(&launch, &started, why);
    else
        (void)error_set(why, status, "%s", error_text_of(status));
    close_fd(&ready[1]);
    if (status == 0) {
        started.ready_fd = ready[0];
        *out = started;
    } else {
        close_fd(&ready[0]);
    }
    free(launch.env);
    return status;
}

int process_take_ready(struct process *process)
{
    char byte;

    CHECK(process->ready_fd >= 0);
    ssize_t count = read(process->ready_fd, &byte, 1);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    close_fd(&process->ready_fd);
    return count == 1 ? 1 : ERR_STATE;
}

int process_wait(struct process *process, struct process_end *out)
{
    siginfo_t info = {0};

    CHECK(process->pid > 0);
    if (waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG) != 0) {
        CHECK(errno == EINTR); /* it is our child and nobody else reaps it */
        return 0;
    }
    if (info.si_pid == 0)
        return 0;
    out->is_signal = info.si_code != CLD_EXITED;
    out->code = info.si_status;
    close_fd(&process->pidfd);
    close_fd(&process->ready_fd);
    *process = (struct process){.pidfd = -1, .ready_fd = -1};
    return 1;
}

void process_signal(const struct process *process, int signal_number)
{
    if (process->pid > 0)
        (void)pidfd_send_signal(process->pidfd, signal_number, NULL, 0);
}

void process_setup(void)
{
    struct rlimit limit;
    int fd;

    (void)signal(SIGPIPE, SIG_IGN);
    /* Our memory holds keys and prompts: no core of it, and no reading it without being root. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){.rlim_cur = 0, .rlim_max = 0});
    do { /* a socket must never become standard error */
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        (void)close(fd);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int process_open_signals(const int *signals, unsigned count)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (unsigned i = 0; i < count; i++)
        (void)sigaddset(&set, signals[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return ERR_IO;
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? ERR_IO : fd;
}

int process_child_fd(const char *name)
{
    char key[CHILD_NAME_SIZE];
    int64_t fd;

    CHECK(strlen(name) < CHILD_NAME_SIZE - sizeof CHILD_PREFIX);
    (void)snprintf(key, sizeof key, CHILD_PREFIX "%s", name);
    const char *text = settings_environment(key);
    if (text_parse_i64(text, strlen(text), 0, FD_NUMBER_MAX, &fd) != 0)
        return ERR_NOT_FOUND;
    if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) != 0)
        return ERR_NOT_FOUND;
    return (int)fd;
}

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif

/* A filter of system calls (seccomp(2)): execve and execveat fail with EACCES, and so does what a
 * process asks in the manner of another processor, whose calls have other numbers. */
int process_child_seal(struct error_text *why)
{
#if defined(NATIVE_ARCH) && !defined(__SANITIZE_ADDRESS__) /* whose reports want a symbolizer */
    enum { OTHER_NUMBERS = 0x40000000 };                   /* of the x32 ABI */
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, OTHER_NUMBERS, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        return error_set(why, ERR_IO, "seccomp: %s", strerror(errno));
#else
    (void)why;
#endif
    return 0;
}

void process_child_name(const char *name)
{
    (void)prctl(PR_SET_NAME, name);
}

void process_child_ready(void)
{
    int fd = process_child_fd("READY");
    if (fd < 0)
        return;
    ssize_t count = write(fd, "\n", 1);
    (void)count; /* a parent that is gone needs no telling */
    (void)close(fd);
}

int64_t backoff_next_ms(struct backoff *backoff, int64_t alive_ms)
{
    CHECK(backoff->min_ms > 0);
    CHECK(backoff->max_ms >= backoff->min_ms);
    if (backoff->next_ms == 0 || alive_ms >= backoff->reset_ms)
        backoff->next_ms = backoff->min_ms;
    int64_t delay_ms = backoff->next_ms;
    backoff->next_ms = delay_ms > backoff->max_ms / 2 ? backoff->max_ms : delay_ms * 2;
    return delay_ms;
}
