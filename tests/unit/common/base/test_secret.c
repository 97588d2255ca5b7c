/* Where secrets come from, what they refuse, and that nothing of them reaches a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/secret.h"

static void test_set(void **state)
{
    struct secret secret = {0};
    char longer[SECRET_SIZE_MAX + 1];
    (void)state;

    assert_true(secret_is_empty(&secret));
    assert_string_equal(secret_text(&secret), "");
    assert_int_equal(secret_set(&secret, "sk-abc", 6), 0);
    assert_string_equal(secret_text(&secret), "sk-abc");
    assert_true(secret_equal(&secret, "sk-abc", 6));
    assert_false(secret_equal(&secret, "sk-abd", 6));
    assert_false(secret_equal(&secret, "sk-ab", 5));
    assert_int_equal(secret_set(&secret, "a\r\nX-Evil: 1", 12), ERR_INVALID);
    assert_int_equal(secret_set(&secret, "a\0b", 3), ERR_INVALID);
    memset(longer, 'x', sizeof longer);
    assert_int_equal(secret_set(&secret, longer, sizeof longer), ERR_TOO_BIG);
    assert_string_equal(secret_text(&secret), "sk-abc");
    assert_int_equal(secret_set(&secret, "", 0), 0);
    assert_true(secret_is_empty(&secret));
    assert_true(secret_equal(&secret, "", 0));
    secret_deinit(&secret);
    secret_deinit(&secret);
}

static void test_environment(void **state)
{
    struct secret secret = {0};
    struct error_text why;
    (void)state;

    assert_int_equal(unsetenv("PENSTOCK_TEST_SECRET"), 0);
    assert_int_equal(secret_load_environment(&secret, "PENSTOCK_TEST_SECRET", &why), ERR_NOT_FOUND);
    assert_string_equal(why.text, "PENSTOCK_TEST_SECRET: not set");
    assert_int_equal(setenv("PENSTOCK_TEST_SECRET", "sk-1", 1), 0);
    assert_int_equal(secret_load_environment(&secret, "PENSTOCK_TEST_SECRET", &why), 0);
    assert_string_equal(secret_text(&secret), "sk-1");
    assert_int_equal(setenv("PENSTOCK_TEST_SECRET", "sk-2\n", 1), 0);
    assert_int_equal(secret_load_environment(&secret, "PENSTOCK_TEST_SECRET", &why), ERR_INVALID);
    assert_string_equal(why.text, "PENSTOCK_TEST_SECRET: holds control characters");
    assert_string_equal(secret_text(&secret), "sk-1");
    secret_deinit(&secret);
}

static int load(const char *path, const char *bytes, size_t size, struct secret *secret,
                struct error_text *why)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return secret_load_file(secret, path, why);
}

static void test_file(void **state)
{
    char path[] = "/tmp/penstock-test-secret-XXXXXX";
    char longer[SECRET_SIZE_MAX + 10];
    struct secret secret = {0};
    struct error_text why;
    (void)state;

    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(load(path, "sk-file\n", 8, &secret, &why), 0);
    assert_string_equal(secret_text(&secret), "sk-file");
    assert_int_equal(load(path, "sk-dos\r\n", 8, &secret, &why), 0);
    assert_string_equal(secret_text(&secret), "sk-dos");
    assert_int_equal(load(path, "two\nlines\n", 10, &secret, &why), ERR_INVALID);
    assert_null(strstr(why.text, "two"));
    assert_int_equal(load(path, "\n", 1, &secret, &why), 0);
    assert_true(secret_is_empty(&secret));
    memset(longer, 'x', sizeof longer);
    longer[SECRET_SIZE_MAX] = '\n';
    assert_int_equal(load(path, longer, SECRET_SIZE_MAX + 1, &secret, &why), 0);
    assert_int_equal(secret.size, SECRET_SIZE_MAX);
    longer[SECRET_SIZE_MAX] = 'x';
    assert_int_equal(load(path, longer, SECRET_SIZE_MAX + 1, &secret, &why), ERR_TOO_BIG);
    assert_int_equal(load(path, longer, sizeof longer, &secret, &why), ERR_TOO_BIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(secret_load_file(&secret, path, &why), ERR_NOT_FOUND);
    assert_int_equal(secret_load_file(&secret, "/tmp", &why), ERR_IO);
    assert_string_equal(why.text, "/tmp: Is a directory");
    secret_deinit(&secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
