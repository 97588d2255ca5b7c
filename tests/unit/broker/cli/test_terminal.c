/* What people see, and the options all commands share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"

static void durations(void **state)
{
    static const struct {
        double seconds;
        const char *text;
    } tests[] = {{0, "0.0s"},      {-3, "0.0s"},     {0.26, "0.3s"},   {59.9, "59.9s"},
                 {59.96, "0m59s"}, {60, "1m00s"},    {125.7, "2m05s"}, {3599.9, "59m59s"},
                 {3600, "1.0h"},   {86400, "24.0h"}, {1e12, "ages"},   {0.0 / 1.0, "0.0s"}};
    char out[32];

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        terminal_duration(tests[i].seconds, out);
        assert_string_equal(out, tests[i].text);
    }
}

static void sizes(void **state)
{
    char out[32];

    (void)state;
    terminal_bytes(0, out);
    assert_string_equal(out, "0 B");
    terminal_bytes(1023, out);
    assert_string_equal(out, "1023 B");
    terminal_bytes(1536, out);
    assert_string_equal(out, "1.5 KiB");
    terminal_bytes(5e15, out);
    assert_string_equal(out, "4547.5 TiB");
}

static void control_characters_are_taken_out(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    (void)state;
    assert_non_null(file);
    terminal_put(file, "a\x1b[31mb\r\x07\tc\n\x7f\xc2\x9b"
                       "31m ä\xc2\xa0€\xc2");
    fclose(file);
    assert_string_equal(text, "a?[31mb??\tc\n??31m ä\xc2\xa0€\xc2");
    free(text);
}

static void the_bar(void **state)
{
    struct progress progress = {
        .label = "bulk", .total = 200, .done = 100, .failed = 3, .started_mono_ms = 1000};
    char line[PROGRESS_SIZE];

    (void)state;
    progress_format(&progress, 6000, line);
    assert_string_equal(line,
                        "bulk [###############...............] 100/200  failed 3  20/s  5.0s left");
    progress.done = 200;
    progress_format(&progress, 11000, line);
    assert_string_equal(line, "bulk [##############################] 200/200  failed 3  20/s");
    progress.done = progress.total = 0;
    progress_format(&progress, 1000, line);
    assert_non_null(strstr(line, "] 0/0 "));
}

/* ---- options ------------------------------------------------------------------------------------
 */

static int take(struct cli *cli, char **argv)
{
    int argc = 0;

    *cli = (struct cli){.url = "u", .key = "k", .interrupt_fd = -1};
    while (argv[argc])
        argc++;
    int status = cli_take_global(cli, &argc, argv);
    return status == CLI_DONE ? argc : -status;
}

static void shared_options_stand_anywhere(void **state)
{
    char *argv[] = {(char[]){"penstock"}, (char[]){"--json"},
                    (char[]){"ls"},       (char[]){"--url"},
                    (char[]){"http://x"}, (char[]){"--limit"},
                    (char[]){"3"},        (char[]){"--key=a=b"},
                    (char[]){"--quiet"},  NULL};
    struct cli cli;

    (void)state;
    assert_int_equal(take(&cli, argv), 4);
    assert_true(cli.is_json);
    assert_true(cli.is_quiet);
    assert_string_equal(cli.url, "http://x");
    assert_string_equal(cli.key, "a=b");
    assert_string_equal(argv[1], "ls");
    assert_string_equal(argv[3], "3");
    assert_null(argv[4]);
}

static void what_follows_two_dashes_is_text(void **state)
{
    char *argv[] = {(char[]){"penstock"}, (char[]){"submit"}, (char[]){"--"}, (char[]){"--json"},
                    NULL};
    struct cli cli;

    (void)state;
    assert_int_equal(take(&cli, argv), 4);
    assert_false(cli.is_json);
    assert_string_equal(argv[3], "--json");
}

static void a_missing_value_is_said(void **state)
{
    char *argv[] = {(char[]){"penstock"}, (char[]){"ls"}, (char[]){"--url"}, NULL};
    char *similar[] = {(char[]){"penstock"}, (char[]){"keys"}, (char[]){"--keys-file"},
                       (char[]){"f"}, NULL};
    struct cli cli;

    (void)state;
    assert_int_equal(take(&cli, argv), -CLI_USAGE);
    assert_int_equal(take(&cli, similar), 4);
    assert_string_equal(cli.key, "k");
}

/* ---- client -------------------------------------------------------------------------------------
 */

static void addresses_and_keys_are_checked(void **state)
{
    static const char *const wrong[][2] = {{"ftp://x", ""},     {"localhost:7368", ""},
                                           {"http://x y", ""},  {"http://x\r\nHost: y", ""},
                                           {"http://x", "a b"}, {"http://x", "a\nX: y"}};
    struct client *client = NULL;
    struct error_text why;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(client_create(wrong[i][0], wrong[i][1], &client, &why), ERR_INVALID);
        assert_true(why.text[0] != '\0');
    }
    assert_int_equal(client_create("http://127.0.0.1:1/", "pk_x", &client, &why), 0);
    client_destroy(client);
    client_destroy(NULL);
}

static void refusals_in_words(void **state)
{
    static const struct {
        const char *body;
        const char *words;
    } tests[] = {
        {"{\"detail\":\"No.\",\"code\":\"x\"}", "500: No. (x)"},
        {"{\"error\":{\"message\":\"No.\",\"code\":null}}", "500: No."},
        {"<html>", "500: the server gave no reason"},
        {"", "500: the server gave no reason"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        struct client_answer answer = {.status = 500, .body = {.size_max = 1000}};
        struct error_text why;
        assert_int_equal(buf_append_text(&answer.body, tests[i].body), 0);
        client_explain(&answer, &why);
        assert_string_equal(why.text, tests[i].words);
        client_answer_deinit(&answer);
    }
}

/* A failed job's result may be a 429 of its upstream: only the header says "come back". */
static void busy_is_said_by_a_header(void **state)
{
    struct client_answer answer = {.status = 429};

    (void)state;
    assert_false(client_is_busy(&answer));
    answer.retry_after_s = 1;
    assert_true(client_is_busy(&answer));
    answer.status = 202;
    assert_false(client_is_busy(&answer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(control_characters_are_taken_out),
        cmocka_unit_test(the_bar),
        cmocka_unit_test(shared_options_stand_anywhere),
        cmocka_unit_test(what_follows_two_dashes_is_text),
        cmocka_unit_test(a_missing_value_is_said),
        cmocka_unit_test(addresses_and_keys_are_checked),
        cmocka_unit_test(refusals_in_words),
        cmocka_unit_test(busy_is_said_by_a_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
