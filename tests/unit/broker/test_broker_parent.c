/* The parent with children that only pretend: it starts its own binary again, which here is this
 * program. How a child behaves stands in TEST_CHILD; how often one was started is counted by bytes
 * in the file TEST_STARTS. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/broker_parent.h"
#include "common/base/clock.h"
#include "common/base/process.h"
#include "common/base/text.h"

enum { WAIT_MS = 10000 };

/* ---- a child ------------------------------------------------------------- */

static int run_child(const char *how)
{
    sigset_t set;
    int number = 0;
    struct stat info;
    int starts = open(getenv("TEST_STARTS"), O_WRONLY | O_APPEND | O_CREAT, 0600);

    if (starts < 0 || fstat(starts, &info) != 0 || write(starts, "x", 1) != 1)
        return 1;
    if (process_child_fd("LISTEN") < 0 || process_child_fd("METRICS") < 0)
        return 1;
    if (strcmp(how, "setup") == 0)
        return PROCESS_EXIT_SETUP;
    if (strcmp(how, "dies_twice") == 0 && info.st_size < 2)
        abort();
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    process_child_ready();
    do {
        if (sigwait(&set, &number) != 0 || (number == SIGHUP && write(starts, "h", 1) != 1))
            return 1;
    } while (number == SIGHUP || strcmp(how, "deaf") == 0);
    return 0;
}

/* ---- the parent ---------------------------------------------------------- */

static int run_parent(void)
{
    struct settings *settings = NULL;
    struct error_text why = {0};
    const struct broker_arguments arguments = {.ready_fd = process_child_fd("LINE"), .child = -1};

    if (settings_load("/dev/null", &settings, &why) != 0) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 99;
    }
    int code = broker_parent_run(&arguments, settings, NULL);
    settings_destroy(settings);
    return code;
}

struct setup {
    struct process parent;
    int line_fd;
    char folder[64];
    char starts[96];
};

static void start(struct setup *setup, const char *how, const char *processes)
{
    char child[64];
    char starts[128];
    char count[64];
    int line[2];
    struct error_text why = {0};
    const char *argv[] = {"test", "--parent", NULL};
    const char *env[] = {child,
                         starts,
                         count,
                         "PENSTOCK_LISTEN=127.0.0.1:0",
                         "PENSTOCK_LISTEN_METRICS=127.0.0.1:0",
                         "PENSTOCK_AUTH_MODE=none",
                         NULL};

    (void)snprintf(setup->folder, sizeof setup->folder, "/tmp/penstock-parent-XXXXXX");
    assert_non_null(mkdtemp(setup->folder));
    (void)snprintf(setup->starts, sizeof setup->starts, "%s/starts", setup->folder);
    (void)snprintf(child, sizeof child, "TEST_CHILD=%s", how);
    (void)snprintf(starts, sizeof starts, "TEST_STARTS=%s", setup->starts);
    (void)snprintf(count, sizeof count, "PENSTOCK_BROKER_PROCESSES=%s", processes);
    assert_int_equal(pipe2(line, O_CLOEXEC), 0);
    const struct process_fd fds[] = {{"LINE", line[1]}};
    const struct process_options options = {
        .argv = argv, .env = env, .fds = fds, .fds_count = 1, .death_signal = SIGKILL};
    assert_int_equal(process_spawn(&options, &setup->parent, &why), 0);
    (void)close(line[1]);
    setup->line_fd = line[0];
}

static void wait_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
}

/* "ready PORT METRICS_PORT\n"; returns the first port. */
static int64_t read_line(const struct setup *setup)
{
    char text[64] = "";
    int64_t port = 0;
    int64_t metrics_port = 0;

    wait_readable(setup->line_fd);
    ssize_t size = read(setup->line_fd, text, sizeof text - 1);
    assert_true(size > 8);
    assert_true(text_starts_with(text, "ready "));
    const char *second = strchr(text + 6, ' ');
    assert_non_null(second);
    assert_int_equal(text_parse_i64(text + 6, (size_t)(second - text - 6), 1, 65535, &port), 0);
    assert_int_equal(text_parse_i64(second + 1, strcspn(second + 1, "\n"), 1, 65535, &metrics_port),
                     0);
    assert_int_equal(text[size - 1], '\n');
    return port;
}

static int end_code(struct setup *setup)
{
    struct process_end end = {0};

    wait_readable(setup->parent.pidfd);
    assert_int_equal(process_wait(&setup->parent, &end), 1);
    assert_false(end.is_signal);
    return end.code;
}

static int64_t count_starts(const struct setup *setup)
{
    struct stat info;
    return stat(setup->starts, &info) == 0 ? (int64_t)info.st_size : 0;
}

static void clean(struct setup *setup)
{
    (void)close(setup->line_fd);
    (void)unlink(setup->starts);
    assert_int_equal(rmdir(setup->folder), 0);
}

static void test_serves_until_told(void **state)
{
    struct setup setup;
    (void)state;

    start(&setup, "good", "3");
    assert_true(read_line(&setup) > 0);
    assert_int_equal(count_starts(&setup), 3);
    process_signal(&setup.parent, SIGHUP); /* reaches every child */
    int64_t end_ms = clock_mono_ms() + WAIT_MS;
    while (count_starts(&setup) < 6 && clock_mono_ms() < end_ms)
        (void)poll(NULL, 0, 1);
    assert_int_equal(count_starts(&setup), 6);
    process_signal(&setup.parent, SIGTERM);
    assert_int_equal(end_code(&setup), 0);
    clean(&setup);
}

static void test_clean_end(void **state)
{
    struct setup setup;
    char byte;
    (void)state;

    start(&setup, "good", "2");
    (void)read_line(&setup);
    assert_int_equal(read(setup.line_fd, &byte, 1), 0); /* said once, then closed */
    process_signal(&setup.parent, SIGINT);
    assert_int_equal(end_code(&setup), 0);
    assert_int_equal(count_starts(&setup), 2);
    clean(&setup);
}

static void test_restarts_what_dies(void **state)
{
    struct setup setup;
    int64_t start_ms = clock_mono_ms();
    (void)state;

    start(&setup, "dies_twice", "1");
    (void)read_line(&setup); /* not before one lives */
    assert_int_equal(count_starts(&setup), 3);
    assert_true(clock_mono_ms() - start_ms >= 150); /* 50 and 100 ms */
    process_signal(&setup.parent, SIGTERM);
    assert_int_equal(end_code(&setup), 0);
    clean(&setup);
}

static void test_gives_up_on_wrong_configuration(void **state)
{
    struct setup setup;
    char byte;
    (void)state;

    start(&setup, "setup", "1");
    assert_int_equal(end_code(&setup), PROCESS_EXIT_SETUP);
    assert_int_equal(read(setup.line_fd, &byte, 1), 0);
    assert_int_equal(count_starts(&setup), 1);
    clean(&setup);
}

static void test_second_signal_kills_the_deaf(void **state)
{
    struct setup setup;
    (void)state;

    start(&setup, "deaf", "1");
    (void)read_line(&setup);
    int64_t start_ms = clock_mono_ms();
    process_signal(&setup.parent, SIGTERM);
    struct pollfd still = {.fd = setup.parent.pidfd, .events = POLLIN};
    assert_int_equal(poll(&still, 1, 200), 0);
    process_signal(&setup.parent, SIGTERM);
    assert_int_equal(end_code(&setup), PROCESS_EXIT_FAILED);
    assert_true(clock_mono_ms() - start_ms < BROKER_GRACE_MS);
    clean(&setup);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serves_until_told),
        cmocka_unit_test(test_clean_end),
        cmocka_unit_test(test_restarts_what_dies),
        cmocka_unit_test(test_gives_up_on_wrong_configuration),
        cmocka_unit_test(test_second_signal_kills_the_deaf),
    };

    process_setup();
    if (argc > 1 && strcmp(argv[1], "--child") == 0)
        return run_child(getenv("TEST_CHILD"));
    if (argc > 1 && strcmp(argv[1], "--parent") == 0)
        return run_parent();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
