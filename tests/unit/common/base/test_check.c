/* A broken invariant aborts the process and says where, after what the log still held. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/log.h"

static void fail_in_child(int fd)
{
    const struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(SIGABRT, SIG_DFL); /* cmocka and the sanitizers may have theirs */
    (void)dup2(fd, STDERR_FILENO);
    log_init("child", LOG_INFO, LOG_TEXT);
    log_event(LOG_INFO, "before", LOG_I("n", 1));
    int answer = 41;
    CHECK(answer == 42);
    _exit(0);
}

static void test_check_aborts_with_place(void **state)
{
    char text[1024] = "";
    size_t size = 0;
    int ends[2];
    int status = 0;
    (void)state;

    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0)
        fail_in_child(ends[1]);
    assert_true(pid > 0);
    (void)close(ends[1]);
    for (ssize_t count = 1; count > 0 && size < sizeof text - 1; size += (size_t)count) {
        count = read(ends[0], text + size, sizeof text - 1 - size);
        assert_true(count >= 0);
    }
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    text[size] = '\0';
    const char *line = strstr(text, "before n=1\n");
    assert_non_null(line);
    assert_non_null(strstr(line, "test_check.c:"));
    assert_non_null(strstr(line, "check failed: answer == 42\n"));
}

static void test_check_is_silent_when_true(void **state)
{
    int calls = 0;
    (void)state;
    CHECK(++calls == 1);
    assert_int_equal(calls, 1);
}

static void test_error_texts(void **state)
{
    struct error_text why;
    char longer[2 * ERROR_TEXT_SIZE];
    (void)state;

    assert_string_equal(error_text_of(ERR_FULL), "full");
    assert_string_equal(error_name_of(ERR_FULL), "ERR_FULL");
    assert_string_equal(error_name_of(ERR_FENCED), "ERR_FENCED");
    assert_string_equal(error_text_of(-999), "unknown error");
    assert_string_equal(error_text_of(0), "no error");
    assert_string_equal(error_name_of(3), "OK");
    assert_string_equal(error_name_of(-999), "ERR_UNKNOWN_CODE");
    assert_int_equal(error_set(&why, ERR_INVALID, "%s %d", "line", 7), ERR_INVALID);
    assert_string_equal(why.text, "line 7");
    assert_int_equal(error_set(NULL, ERR_NOMEM, "unheard"), ERR_NOMEM);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(error_set(&why, ERR_IO, "%s", longer), ERR_IO);
    assert_int_equal(strlen(why.text), ERROR_TEXT_SIZE - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_aborts_with_place),
        cmocka_unit_test(test_check_is_silent_when_true),
        cmocka_unit_test(test_error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
