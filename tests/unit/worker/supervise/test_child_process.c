/* Messages over the status socket, with and without a descriptor, and a real child that dies. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/supervise/child_process.h"

static void open_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
                     0);
}

static void test_messages(void **state)
{
    (void)state;
    int pair[2];
    int fd = 7;
    struct child_message message = {.type = 99};
    open_pair(pair);

    assert_int_equal(child_message_receive(pair[0], &message, &fd), 0);
    assert_int_equal(message.type, 99);
    assert_int_equal(child_message_send(pair[1], &(struct child_message){CHILD_SAYS_ALIVE, 0}, -1),
                     0);
    assert_int_equal(
        child_message_send(pair[1], &(struct child_message){CHILD_SAYS_RECOVERED, 42}, -1), 0);
    assert_int_equal(child_message_receive(pair[0], &message, &fd), 1);
    assert_int_equal(message.type, CHILD_SAYS_ALIVE);
    assert_int_equal(fd, -1);
    assert_int_equal(child_message_receive(pair[0], &message, &fd), 1);
    assert_int_equal(message.type, CHILD_SAYS_RECOVERED);
    assert_int_equal(message.number, 42);

    (void)close(pair[1]);
    assert_int_equal(child_message_receive(pair[0], &message, &fd), ERR_STATE);
    assert_int_equal(child_message_send(pair[0], &message, -1), ERR_STATE);
    (void)close(pair[0]);
}

static void test_descriptor_comes_along(void **state)
{
    (void)state;
    int pair[2];
    int ends[2];
    int fd = -1;
    char byte = 0;
    struct child_message message;
    open_pair(pair);
    assert_int_equal(pipe(ends), 0);

    assert_int_equal(
        child_message_send(pair[0], &(struct child_message){CHILD_SAYS_ORPHANS, 5}, ends[1]), 0);
    assert_int_equal(child_message_receive(pair[1], &message, &fd), 1);
    assert_int_equal(message.type, CHILD_SAYS_ORPHANS);
    assert_int_equal(message.number, 5);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    (void)close(fd);
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_reader_that_sleeps_does_not_block_us(void **state)
{
    (void)state;
    int pair[2];
    int status = 0;
    open_pair(pair);
    for (int i = 0; i < 100000 && status == 0; i++)
        status = child_message_send(pair[0], &(struct child_message){CHILD_SAYS_ALIVE, 0}, -1);
    assert_int_equal(status, ERR_BUSY);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void test_wrong_size_is_refused(void **state)
{
    (void)state;
    int pair[2];
    int fd = -1;
    struct child_message message;
    open_pair(pair);
    assert_int_equal(send(pair[1], "abc", 3, 0), 3);
    assert_int_equal(child_message_receive(pair[0], &message, &fd), ERR_STATE);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* What this program does when the test below starts it as a child: fill its tickets, wait to be
 * killed. */
static int act_as_child(void)
{
    int status_fd = process_child_fd("STATUS");
    int tickets_fd = process_child_fd("TICKETS");
    if (status_fd < 0 || tickets_fd < 0 || ftruncate(tickets_fd, 128) != 0)
        return 3;
    process_child_ready();
    if (child_message_send(status_fd, &(struct child_message){CHILD_SAYS_ALIVE, 0}, -1) != 0)
        return 4;
    struct pollfd row = {.fd = status_fd, .events = POLLIN};
    (void)poll(&row, 1, 30000);
    return 5;
}

static void await(int fd)
{
    struct pollfd row = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&row, 1, 30000), 1);
}

static void test_tickets_outlive_a_killed_child(void **state)
{
    (void)state;
    static const char *const argv[] = {"test_child_process", "--child", NULL};
    struct child_process child;
    struct child_process_options options = {.argv = argv, .config_fd = -1};
    struct error_text why = {""};
    struct child_message message;
    struct process_end end;
    struct stat about;
    int fd;

    assert_int_equal(child_process_spawn(&options, &child, &why), 0);
    await(child.process.ready_fd);
    assert_int_equal(process_take_ready(&child.process), 1);
    await(child.status_fd);
    assert_int_equal(child_message_receive(child.status_fd, &message, &fd), 1);
    assert_int_equal(message.type, CHILD_SAYS_ALIVE);

    process_signal(&child.process, SIGKILL);
    await(child.process.pidfd);
    assert_int_equal(process_wait(&child.process, &end), 1);
    assert_true(end.is_signal);
    assert_int_equal(end.code, SIGKILL);
    int tickets = child_process_bury(&child);
    assert_true(tickets >= 0);
    assert_int_equal(fstat(tickets, &about), 0);
    assert_int_equal(about.st_size, 128);
    assert_int_equal(child.status_fd, -1);
    (void)close(tickets);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--child") == 0)
        return act_as_child();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_descriptor_comes_along),
        cmocka_unit_test(test_reader_that_sleeps_does_not_block_us),
        cmocka_unit_test(test_wrong_size_is_refused),
        cmocka_unit_test(test_tickets_outlive_a_killed_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
