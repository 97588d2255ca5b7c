/* The OpenAI wire shapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "common/dialect/openai.h"

static void assert_upstream_error(int status, const char *body, const char *wanted)
{
    struct buf out = {.size_max = 65536};

    assert_int_equal(openai_put_upstream_error(&out, status, slice_of(body)), 0);
    assert_string_equal(out.data, wanted);
    buf_deinit(&out);
}

static void test_error_shape(void **state)
{
    struct buf out = {.size_max = 4096};
    const struct openai_error error = {.message = slice_of("a \"b\""), .type = slice_of("t")};

    (void)state;
    assert_int_equal(openai_put_error(&out, &error), 0);
    assert_string_equal(out.data, "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"t\","
                                  "\"param\":null,\"code\":null}}");
    buf_deinit(&out);
}

static void test_types(void **state)
{
    (void)state;
    assert_string_equal(openai_error_type(400), "invalid_request_error");
    assert_string_equal(openai_error_type(404), "invalid_request_error");
    assert_string_equal(openai_error_type(429), "rate_limit_exceeded");
    assert_string_equal(openai_error_type(500), "server_error");
    assert_string_equal(openai_error_type(503), "server_error");
}

static void test_upstream_errors(void **state)
{
    (void)state;
    /* OpenAI */
    assert_upstream_error(
        404, "{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":\"p\",\"code\":\"c\"}}",
        "{\"error\":{\"message\":\"m\",\"type\":\"t\",\"param\":\"p\",\"code\":\"c\"}}");
    /* vLLM, llama.cpp: a number as code */
    assert_upstream_error(
        400, "{\"error\":{\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}}",
        "{\"error\":{\"message\":\"m\",\"type\":\"BadRequestError\",\"param\":null,\"code\":null}"
        "}");
    /* Ollama; TEI */
    assert_upstream_error(401, "{\"error\":\"Unauthorized\"}",
                          "{\"error\":{\"message\":\"Unauthorized\",\"type\":"
                          "\"invalid_request_error\",\"param\":null,\"code\":null}}");
    assert_upstream_error(424, "{\"error\":\"no\",\"error_type\":\"backend\"}",
                          "{\"error\":{\"message\":\"no\",\"type\":\"backend\",\"param\":null,"
                          "\"code\":null}}");
    /* older vLLM; TEI's OpenAI route */
    assert_upstream_error(400, "{\"object\":\"error\",\"message\":\"m\",\"type\":\"x\",\"code\":1}",
                          "{\"error\":{\"message\":\"m\",\"type\":\"x\",\"param\":null,"
                          "\"code\":null}}");
    /* FastAPI */
    assert_upstream_error(404, "{\"detail\":\"Not Found\"}",
                          "{\"error\":{\"message\":\"Not Found\",\"type\":"
                          "\"invalid_request_error\",\"param\":null,\"code\":null}}");
    assert_upstream_error(422, "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"field required\"}]}",
                          "{\"error\":{\"message\":\"field required\",\"type\":"
                          "\"invalid_request_error\",\"param\":null,\"code\":null}}");
    /* Anthropic */
    assert_upstream_error(529,
                          "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
                          "\"message\":\"Overloaded\"},\"request_id\":\"r\"}",
                          "{\"error\":{\"message\":\"Overloaded\",\"type\":\"overloaded_error\","
                          "\"param\":null,\"code\":null}}");
}

static void test_upstream_answers_that_are_no_errors(void **state)
{
    static const char *const bodies[] = {"",
                                         "<html>502 Bad Gateway</html>",
                                         "[]",
                                         "5",
                                         "{}",
                                         "{\"error\":7}",
                                         "{\"error\":{\"message\":\"\"}}",
                                         "{\"detail\":[]}"};

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        assert_upstream_error(502, bodies[i],
                              "{\"error\":{\"message\":\"The upstream answered with status 502.\","
                              "\"type\":\"server_error\",\"param\":null,\"code\":null}}");
}

static void test_long_message_is_cut(void **state)
{
    struct buf body = {.size_max = 1 << 20}, out = {.size_max = 1 << 20};

    (void)state;
    assert_int_equal(buf_append_text(&body, "{\"error\":\""), 0);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(buf_append_text(&body, "\xc3\xa4"), 0);
    assert_int_equal(buf_append_text(&body, "\"}"), 0);
    assert_int_equal(
        openai_put_upstream_error(&out, 500, (struct slice){.bytes = body.data, .size = body.size}),
        0);
    assert_true(out.size < 5000);
    buf_deinit(&body);
    buf_deinit(&out);
}

static void test_model(void **state)
{
    struct buf out = {.size_max = 4096};

    (void)state;
    assert_int_equal(openai_put_model(&out, slice_of("org/m"), 7, slice_of("us")), 0);
    assert_string_equal(
        out.data, "{\"id\":\"org/m\",\"object\":\"model\",\"created\":7,\"owned_by\":\"us\"}");
    buf_deinit(&out);
}

/* ---- embeddings ------------------------------------------------------------------------------ */

static void test_wants_base64(void **state)
{
    static const struct {
        const char *text;
        bool wants;
    } cases[] = {
        {"{\"encoding_format\":\"base64\"}", true},
        {"{\"encoding_format\":\"float\"}", false},
        {"{}", false},
        {"{\"encoding_format\":5}", false},
        {"{\"encoding_format\":null}", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct jdoc *doc = NULL;
        assert_int_equal(jdoc_parse(cases[i].text, strlen(cases[i].text), &doc, NULL), 0);
        assert_int_equal(openai_wants_base64(jdoc_root(doc)), cases[i].wants);
        jdoc_destroy(doc);
    }
}

static void assert_encoded(const char *body, const char *wanted)
{
    struct buf out = {.size_max = 1 << 20};
    int status = openai_encode_embeddings(slice_of(body), &out);

    if (wanted) {
        assert_int_equal(status, 1);
        assert_string_equal(out.data, wanted);
    } else {
        assert_int_equal(status, 0);
        assert_int_equal(out.size, 0);
    }
    buf_deinit(&out);
}

static void test_encode_embeddings(void **state)
{
    (void)state;
    /* 1.0f is 00 00 80 3f, -2.5f is 00 00 20 c0, 0 is 00 00 00 00 */
    assert_encoded("{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                   "\"embedding\":[1,-2.5]}],\"model\":\"m\",\"usage\":{\"prompt_tokens\":1}}",
                   "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                   "\"embedding\":\"AACAPwAAIMA=\"}],\"model\":\"m\",\"usage\":"
                   "{\"prompt_tokens\":1}}");
    assert_encoded("{\"data\":[{\"embedding\":[1]},{\"embedding\":[1,-2.5,0]},{\"embedding\":[]}]}",
                   "{\"data\":[{\"embedding\":\"AACAPw==\"},{\"embedding\":\"AACAPwAAIMAAAAAA\"},"
                   "{\"embedding\":\"\"}]}");
}

static void test_embeddings_that_stay(void **state)
{
    (void)state;
    assert_encoded("{\"data\":[{\"embedding\":\"AACAPw==\"}]}", NULL);
    assert_encoded("{\"data\":[{\"embedding\":[1,\"x\"]}]}", NULL);
    assert_encoded("{\"data\":[{\"embedding\":[1]},{\"other\":1}]}", NULL);
    assert_encoded("{\"data\":[]}", NULL);
    assert_encoded("{\"data\":{}}", NULL);
    assert_encoded("{}", NULL);
    assert_encoded("[1]", NULL);
    assert_encoded("not json", NULL);
    assert_encoded("", NULL);
}

/* A vector longer than the encoder's piece, against the length base64 must have. */
static void test_long_vector(void **state)
{
    struct buf body = {.size_max = 1 << 20}, out = {.size_max = 1 << 20};
    const unsigned count = 1536;

    (void)state;
    assert_int_equal(buf_append_text(&body, "{\"data\":[{\"embedding\":[1"), 0);
    for (unsigned i = 1; i < count; i++)
        assert_int_equal(buf_append_text(&body, ",1"), 0);
    assert_int_equal(buf_append_text(&body, "]}]}"), 0);
    assert_int_equal(
        openai_encode_embeddings((struct slice){.bytes = body.data, .size = body.size}, &out), 1);
    size_t frame = strlen("{\"data\":[{\"embedding\":\"\"}]}");
    assert_int_equal(out.size, frame + (size_t)count * 4 / 3 * 4);
    for (size_t i = 0; i + 16 <= (size_t)count * 4 / 3 * 4; i += 16)
        assert_memory_equal(out.data + strlen("{\"data\":[{\"embedding\":\"") + i,
                            "AACAPwAAgD8AAIA/", 16);
    buf_deinit(&body);
    buf_deinit(&out);
}

static void test_no_room(void **state)
{
    struct buf out = {.size_max = 16};

    (void)state;
    assert_int_equal(
        openai_encode_embeddings(slice_of("{\"data\":[{\"embedding\":[1,2,3]}]}"), &out),
        ERR_TOO_BIG);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_shape),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_upstream_errors),
        cmocka_unit_test(test_upstream_answers_that_are_no_errors),
        cmocka_unit_test(test_long_message_is_cut),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_wants_base64),
        cmocka_unit_test(test_encode_embeddings),
        cmocka_unit_test(test_embeddings_that_stay),
        cmocka_unit_test(test_long_vector),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
