/* Tickets of dead children: who gets them, what a second death does, the bound. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/supervise/orphans.h"

static int open_null(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_oldest_first_and_closed_when_recovered(void **state)
{
    (void)state;
    struct orphans orphans = {0};
    assert_null(orphans_next(&orphans));

    int first_fd = open_null();
    int second_fd = open_null();
    orphans_add(&orphans, first_fd);
    orphans_add(&orphans, second_fd);

    struct orphan *orphan = orphans_next(&orphans);
    assert_non_null(orphan);
    assert_int_equal(orphan->fd, first_fd);
    uint32_t first = orphan->number;
    orphan->holder = 3;
    orphan = orphans_next(&orphans);
    assert_non_null(orphan);
    assert_int_equal(orphan->fd, second_fd);
    orphan->holder = 4;
    assert_null(orphans_next(&orphans));

    orphans_done(&orphans, first, 4); /* not the one that was told */
    orphans_done(&orphans, 99, 3);
    orphans_done(&orphans, 0, ORPHANS_NOBODY);
    assert_true(is_open(first_fd));
    orphans_done(&orphans, first, 3);
    assert_false(is_open(first_fd));
    assert_true(is_open(second_fd));
    orphans_deinit(&orphans);
    assert_false(is_open(second_fd));
}

static void test_holder_dies_too(void **state)
{
    (void)state;
    struct orphans orphans = {0};
    orphans_add(&orphans, open_null());
    struct orphan *orphan = orphans_next(&orphans);
    assert_non_null(orphan);
    orphan->holder = 1;
    orphans_return(&orphans, 0);
    assert_null(orphans_next(&orphans));
    orphans_return(&orphans, 1);
    assert_ptr_equal(orphans_next(&orphans), orphan);
    orphans_deinit(&orphans);
    assert_null(orphans_next(&orphans));
}

static void test_full_drops_the_oldest(void **state)
{
    (void)state;
    struct orphans orphans = {0};
    int oldest_fd = open_null();
    orphans_add(&orphans, oldest_fd);
    for (int i = 1; i < ORPHANS_MAX; i++)
        orphans_add(&orphans, open_null());
    assert_true(is_open(oldest_fd));

    int fd = dup(STDERR_FILENO); /* another number than the one that is freed */
    orphans_add(&orphans, fd);
    assert_false(is_open(oldest_fd));
    struct orphan *orphan = orphans_next(&orphans);
    assert_non_null(orphan);
    assert_int_equal(orphan->number, 2);
    orphans_deinit(&orphans);
    assert_false(is_open(fd));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_first_and_closed_when_recovered),
        cmocka_unit_test(test_holder_dies_too),
        cmocka_unit_test(test_full_drops_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
