/* The command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/broker_config.h"

static int parse(struct broker_arguments *out, struct error_text *why, const char *first,
                 const char *second, const char *third)
{
    char storage[4][64] = {"penstock-broker"};
    char *argv[5] = {storage[0]};
    const char *given[] = {first, second, third};
    int argc = 1;

    for (int i = 0; i < 3 && given[i]; i++) {
        (void)strncpy(storage[argc], given[i], sizeof storage[argc] - 1);
        argv[argc] = storage[argc];
        argc++;
    }
    why->text[0] = '\0';
    int status = broker_arguments_parse(argc, argv, out, why);
    if (status == 0 && out->config_path)
        assert_string_equal(out->config_path, "/x.yaml");
    return status;
}

static void test_what_is_understood(void **state)
{
    struct broker_arguments out;
    struct error_text why;
    (void)state;

    assert_int_equal(parse(&out, &why, NULL, NULL, NULL), 0);
    assert_int_equal(out.mode, BROKER_SERVE);
    assert_null(out.config_path);
    assert_int_equal(out.ready_fd, -1);
    assert_int_equal(out.child, -1);
    assert_int_equal(parse(&out, &why, "--config", "/x.yaml", "--check-config"), 0);
    assert_int_equal(out.mode, BROKER_CHECK);
    assert_non_null(out.config_path);
    assert_int_equal(parse(&out, &why, "--print-config", "--config=/x.yaml", NULL), 0);
    assert_int_equal(out.mode, BROKER_PRINT);
    assert_int_equal(parse(&out, &why, "--ready-fd", "7", NULL), 0);
    assert_int_equal(out.ready_fd, 7);
    assert_int_equal(parse(&out, &why, "--child", "3", NULL), 0);
    assert_int_equal(out.child, 3);
    assert_int_equal(parse(&out, &why, "--version", NULL, NULL), 0);
    assert_int_equal(out.mode, BROKER_VERSION);
    assert_int_equal(parse(&out, &why, "--help", NULL, NULL), 0);
    assert_int_equal(out.mode, BROKER_HELP);
    assert_non_null(strstr(broker_usage, "--print-config"));
}

static void test_what_is_not(void **state)
{
    struct broker_arguments out = {.child = 42};
    struct error_text why;
    (void)state;

    assert_int_equal(parse(&out, &why, "--bogus", NULL, NULL), ERR_INVALID);
    assert_non_null(strstr(why.text, "--bogus"));
    assert_int_equal(parse(&out, &why, "--config", NULL, NULL), ERR_INVALID);
    assert_int_equal(parse(&out, &why, "--ready-fd", "x", NULL), ERR_INVALID);
    assert_non_null(strstr(why.text, "ready-fd"));
    assert_int_equal(parse(&out, &why, "--child", "-1", NULL), ERR_INVALID);
    assert_int_equal(parse(&out, &why, "stray", NULL, NULL), ERR_INVALID);
    assert_non_null(strstr(why.text, "stray"));
    assert_int_equal(out.child, 42); /* untouched on failure */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_understood),
        cmocka_unit_test(test_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
