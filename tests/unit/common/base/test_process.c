/* Starting this program again as a child that does as its first argument says. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/process.h"
#include "common/base/text.h"

enum { WAIT_MS = 10000 };

/* ---- the children -------------------------------------------------------- */

/* Everything open beyond the standard three but the one it reports on and the one it reads the list
 * with. */
static int count_strangers(int known)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;

    if (!folder)
        return -1;
    while ((entry = readdir(folder)) != NULL) {
        int64_t fd;
        if (text_parse_i64(entry->d_name, strlen(entry->d_name), 0, INT32_MAX, &fd) == 0)
            count += fd > 2 && fd != known && fd != dirfd(folder);
    }
    (void)closedir(folder);
    return count;
}

static void report(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        _exit(99);
}

static int child_reports(void)
{
    char text[256];
    sigset_t mask;
    int fd = process_child_fd("REPORT");

    if (fd < 0)
        return 98;
    (void)sigprocmask(SIG_BLOCK, NULL, &mask);
    struct sigaction action;
    (void)sigaction(SIGUSR1, NULL, &action);
    (void)snprintf(text, sizeof text,
                   "strangers=%d term=%d usr1=%s cloexec=%d added=%s old=%s missing=%d\n",
                   count_strangers(fd), sigismember(&mask, SIGTERM),
                   action.sa_handler == SIG_DFL ? "default" : "other",
                   (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, getenv("TEST_ADDED"),
                   getenv("PENSTOCK_CHILD_OLD") ? "there" : "gone", process_child_fd("NONE"));
    report(fd, text);
    return 7;
}

static int child_seals(void)
{
    struct error_text why = {0};
    char name[] = "true";
    char *const argv[] = {name, NULL};

    if (process_child_seal(&why) < 0)
        return 95;
    (void)execv("/bin/true", argv);
    return errno == EACCES ? 8 : 94;
}

static int child_waits(void)
{
    process_child_ready();
    (void)pause();
    return 0;
}

/* Starts a grandchild that is to die with it, and dies. */
static int child_leaves_grandchild(void)
{
    int fd = process_child_fd("REPORT");
    struct process grandchild = {0};
    const char *argv[] = {"test", "--waits", NULL};
    const struct process_fd fds[] = {{"REPORT", fd}};
    const struct process_options options = {
        .argv = argv, .fds = fds, .fds_count = 1, .death_signal = SIGKILL, .wants_ready = true};

    if (process_spawn(&options, &grandchild, NULL) != 0)
        return 97;
    struct pollfd ready = {.fd = grandchild.ready_fd, .events = POLLIN};
    if (poll(&ready, 1, WAIT_MS) != 1 || process_take_ready(&grandchild) != 1)
        return 96;
    report(fd, "grandchild runs\n");
    return 0;
}

/* ---- the tests ----------------------------------------------------------- */

static void wait_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
}

static struct process_end wait_end(struct process *process)
{
    struct process_end end = {0};

    wait_readable(process->pidfd);
    assert_int_equal(process_wait(process, &end), 1);
    assert_int_equal(process->pid, 0);
    assert_int_equal(process->ready_fd, -1);
    return end;
}

static void start(const char *what, const struct process_options *more, struct process *out)
{
    const char *argv[] = {"test", what, NULL};
    struct process_options options = more ? *more : (struct process_options){0};
    struct error_text why = {0};

    options.argv = argv;
    assert_int_equal(process_spawn(&options, out, &why), 0);
    assert_true(out->pid > 0);
}

static void ignore(int number)
{
    (void)number;
}

static void test_child_gets_what_it_was_given_and_no_more(void **state)
{
    int report_fds[2];
    int other = open("/dev/null", O_RDONLY); /* without close-on-exec, as a library might */
    char text[256] = "";
    struct process process;
    const char *env[] = {"TEST_ADDED=yes", NULL};
    sigset_t set;
    (void)state;

    assert_int_equal(pipe2(report_fds, O_CLOEXEC), 0);
    const struct process_fd fds[] = {{"REPORT", report_fds[1]}, {"NONE", -1}};
    const struct process_options options = {.env = env, .fds = fds, .fds_count = 2};
    assert_int_equal(setenv("PENSTOCK_CHILD_OLD", "5", 1), 0);
    assert_int_equal(setenv("TEST_ADDED", "no", 1), 0);
    (void)signal(SIGUSR1, ignore);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
    start("--reports", &options, &process);
    struct process_end end = wait_end(&process);
    assert_false(end.is_signal);
    assert_int_equal(end.code, 7);
    assert_true(read(report_fds[0], text, sizeof text - 1) > 0);
    assert_string_equal(
        text, "strangers=0 term=0 usr1=default cloexec=1 added=yes old=gone missing=-7\n");
    assert_int_equal(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
    (void)close(report_fds[0]);
    (void)close(report_fds[1]);
    (void)close(other);
}

static void test_ready_and_signal(void **state)
{
    const struct process_options options = {.wants_ready = true};
    struct process process;
    struct process_end end;
    (void)state;

    start("--waits", &options, &process);
    wait_readable(process.ready_fd);
    assert_int_equal(process_take_ready(&process), 1);
    assert_int_equal(process.ready_fd, -1);
    assert_int_equal(process_wait(&process, &end), 0);
    process_signal(&process, SIGKILL);
    end = wait_end(&process);
    assert_true(end.is_signal);
    assert_int_equal(end.code, SIGKILL);
    process_signal(&process, SIGKILL); /* nobody: nothing happens */
}

static void test_child_that_never_says_ready(void **state)
{
    const struct process_options options = {.wants_ready = true};
    struct process process;
    (void)state;

    start("--ends", &options, &process);
    wait_readable(process.ready_fd);
    assert_int_equal(process_take_ready(&process), ERR_STATE);
    assert_int_equal(wait_end(&process).code, 5);
}

static void test_program_that_is_not_there(void **state)
{
    const struct process_options options = {.path = "/nowhere/at-all"};
    struct process process;
    (void)state;

    start("--ends", &options, &process);
    assert_int_equal(wait_end(&process).code, 127);
}

/* The program is the one that was found, whatever becomes of its name. */
static void test_program_beside_ours(void **state)
{
    char own[PROCESS_PATH_SIZE], path[PROCESS_PATH_SIZE], copy[PROCESS_PATH_SIZE + 8];
    struct error_text why = {0};
    struct process process;
    (void)state;

    assert_int_equal(process_find_beside("nothing-of-ours", path, &why), ERR_NOT_FOUND);
    assert_non_null(strstr(why.text, "/nothing-of-ours: "));
    ssize_t size = readlink("/proc/self/exe", own, sizeof own - 1);
    assert_true(size > 0);
    own[size] = '\0';
    (void)snprintf(copy, sizeof copy, "%s-copy", own);
    assert_int_equal(link(own, copy), 0);
    assert_int_equal(process_find_beside(strrchr(copy, '/') + 1, path, &why), 0);
    assert_int_equal(unlink(copy), 0);
    const struct process_options options = {.path = path};
    start("--ends", &options, &process);
    assert_int_equal(wait_end(&process).code, 5);
}

static void test_a_sealed_child_starts_nothing(void **state)
{
    struct process process;
    (void)state;

#if defined(__SANITIZE_ADDRESS__)
    const int code = 0; /* it is not sealed, and becomes the other program */
#else
    const int code = 8;
#endif
    start("--seals", NULL, &process);
    assert_int_equal(wait_end(&process).code, code);
}

static void test_child_dies_with_its_parent(void **state)
{
    int report_fds[2];
    char text[64] = "";
    struct process process;
    (void)state;

    assert_int_equal(pipe2(report_fds, O_CLOEXEC), 0);
    const struct process_fd fds[] = {{"REPORT", report_fds[1]}};
    const struct process_options options = {.fds = fds, .fds_count = 1};
    start("--leaves-grandchild", &options, &process);
    (void)close(report_fds[1]);
    assert_int_equal(wait_end(&process).code, 0);
    wait_readable(report_fds[0]);
    assert_true(read(report_fds[0], text, sizeof text - 1) > 0);
    assert_string_equal(text, "grandchild runs\n");
    wait_readable(report_fds[0]); /* the grandchild holds the other end */
    assert_int_equal(read(report_fds[0], text, sizeof text), 0);
    (void)close(report_fds[0]);
}

static void test_signals_by_descriptor(void **state)
{
    static const int signals[] = {SIGUSR2};
    struct signalfd_siginfo info;
    int fd = process_open_signals(signals, 1);
    (void)state;

    assert_true(fd >= 0);
    assert_int_equal(read(fd, &info, sizeof info), -1);
    assert_int_equal(raise(SIGUSR2), 0);
    assert_int_equal(read(fd, &info, sizeof info), sizeof info);
    assert_int_equal(info.ssi_signo, SIGUSR2);
    (void)close(fd);
}

static void test_backoff(void **state)
{
    struct backoff backoff = {.min_ms = 50, .max_ms = 5000, .reset_ms = 10000};
    static const int64_t expected[] = {50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    (void)state;

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(backoff_next_ms(&backoff, 9999), expected[i]);
    assert_int_equal(backoff_next_ms(&backoff, 10000), 50);
    assert_int_equal(backoff_next_ms(&backoff, 0), 100);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_gets_what_it_was_given_and_no_more),
        cmocka_unit_test(test_ready_and_signal),
        cmocka_unit_test(test_child_that_never_says_ready),
        cmocka_unit_test(test_program_that_is_not_there),
        cmocka_unit_test(test_program_beside_ours),
        cmocka_unit_test(test_a_sealed_child_starts_nothing),
        cmocka_unit_test(test_child_dies_with_its_parent),
        cmocka_unit_test(test_signals_by_descriptor),
        cmocka_unit_test(test_backoff),
    };
    const char *what = argc > 1 ? argv[1] : "";

    process_setup();
    if (strcmp(what, "--reports") == 0)
        return child_reports();
    if (strcmp(what, "--seals") == 0)
        return child_seals();
    if (strcmp(what, "--waits") == 0)
        return child_waits();
    if (strcmp(what, "--ends") == 0)
        return 5;
    if (strcmp(what, "--leaves-grandchild") == 0)
        return child_leaves_grandchild();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
