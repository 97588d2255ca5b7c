#include "worker/providers/error_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_every_shape_there_is(void **state)
{
    static const struct {
        const char *body;
        const char *message;
        const char *type;
        const char *code;
    } rows[] = {
        {"{\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\",\"param\":null,"
         "\"code\":"
         "\"model_not_found\"}}",
         "no", "invalid_request_error", "model_not_found"},
        {"{\"error\":{\"message\":\"no\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}"
         "}",
         "no", "BadRequestError", "400"},
        {"{\"error\":\"Unauthorized\"}", "Unauthorized", "", ""},
        {"{\"object\":\"error\",\"message\":\"old\",\"type\":\"NotFoundError\",\"param\":null,"
         "\"code\":"
         "404}",
         "old", "NotFoundError", "404"},
        {"{\"message\":\"busy\",\"code\":429,\"type\":\"overloaded\"}", "busy", "overloaded",
         "429"},
        {"{\"error\":\"too long\",\"error_type\":\"Validation\"}", "too long", "Validation", ""},
        {"{\"detail\":\"Not Found\"}", "Not Found", "", ""},
        {"{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"messages\",0,\"role\"],\"msg\":"
         "\"Field "
         "required\",\"input\":{\"content\":\"my secret prompt\"}}]}",
         "body.messages.0.role: Field required", "", ""},
        {"{\"detail\":{\"message\":\"nested\",\"type\":\"t\"}}", "nested", "t", ""},
        {"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},"
         "\"request_id\":\"req_1\"}",
         "Overloaded", "overloaded_error", ""},
        {"{\"error\":{\"message\":null,\"code\":null}}", "", "", ""},
        {"{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}",
         "Loading model", "unavailable_error", "503"},
        {"", "", "", ""},
        {"<html><h1>502 Bad Gateway</h1></html>", "", "", ""},
        {"[]", "", "", ""},
        {"null", "", "", ""},
        {"\"text\"", "", "", ""},
        {"{\"detail\":[]}", "", "", ""},
        {"{\"detail\":[7]}", "", "", ""},
        {"{\"error\":{\"message\":\"cut", "", "", ""},
    };
    struct error_body error;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        error_body_read(slice_of(rows[i].body), &error);
        assert_string_equal(error.message, rows[i].message);
        assert_string_equal(error.type, rows[i].type);
        assert_string_equal(error.code, rows[i].code);
    }
}

static void expect_clean(const char *said, const char *kept)
{
    char body[2048];
    struct error_body error;

    (void)snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\"}}", said);
    error_body_read(slice_of(body), &error);
    assert_string_equal(error.message, kept);
}

static void test_prompts_and_keys_do_not_come_along(void **state)
{
    (void)state;
    expect_clean("The model 'llama-3.1-8b' doesn't exist; don't ask.",
                 "The model 'llama-3.1-8b' doesn't exist; don't ask.");
    expect_clean(
        "[{'type': 'missing', 'msg': 'Field required', 'input': {'content': 'my prompt'}}]",
        "[{'type': 'missing', 'msg': 'Field required', ");
    expect_clean("1 validation error: input_value='my prompt', input_type=str",
                 "1 validation error: ");
    expect_clean("cannot parse \\\"once upon a time there was a prompt\\\" as JSON",
                 "cannot parse \"...\" as JSON");
    expect_clean("bad: \\\"a quotation that never ends and goes on", "bad: \"...\"");
    expect_clean("Incorrect API key provided: sk-proj-abcdef123. Look it up.",
                 "Incorrect API key provided: *** Look it up.");
    expect_clean("Header was Bearer abcdef, which is wrong", "Header was ***, which is wrong");
    expect_clean("a task-sk-1 is no key", "a task-sk-1 is no key");
}

static void test_long_messages_are_cut_and_huge_bodies_not_read(void **state)
{
    size_t size = ERROR_BODY_BYTES_MAX + 100;
    char *body = malloc(size);
    struct error_body error;
    (void)state;

    assert_non_null(body);
    memset(body, 'x', size);
    memcpy(body, "{\"error\":\"", 10);
    memcpy(body + 5000, "\"}", 2);
    error_body_read((struct slice){body, 5002}, &error);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    memcpy(body + size - 2, "\"}", 2);
    body[5000] = 'x';
    body[5001] = 'x';
    error_body_read((struct slice){body, size}, &error);
    assert_string_equal(error.message, "");
    free(body);
}

static void test_statuses_have_names(void **state)
{
    (void)state;
    assert_string_equal(error_status_text(502), "Bad Gateway");
    assert_string_equal(error_status_text(529), "Overloaded");
    assert_string_equal(error_status_text(599), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape_there_is),
        cmocka_unit_test(test_prompts_and_keys_do_not_come_along),
        cmocka_unit_test(test_long_messages_are_cut_and_huge_bodies_not_read),
        cmocka_unit_test(test_statuses_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
