#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "worker/providers/provider.h"

static struct job make_job(enum job_endpoint endpoint, const char *body)
{
    static const uint8_t random[15] = {1, 2, 3};
    struct job job = {.endpoint = endpoint};
    job.id = job_id_make(0, INT64_C(1790000000000), random);
    job.payload = slice_of(body);
    return job;
}

static const struct provider *openai(void)
{
    const struct provider *provider = provider_find(UPSTREAM_OPENAI);
    assert_non_null(provider);
    return provider;
}

/* --- build --------------------------------------------------------------- */

static int build(const struct job *job, const char *model, const char *key,
                 struct provider_call *call, struct error_text *why)
{
    static char name[] = "gpu0", url[] = "http://gpu0:8000/v1";
    struct settings_upstream upstream = {.name = name, .base_url = url};
    memset(call, 0, sizeof *call);
    return openai()->build(job, &upstream, model, key, call, why);
}

static const char *header(const struct provider_call *call, const char *name)
{
    for (unsigned i = 0; i < call->headers_count; i++) {
        if (strncmp(call->headers[i].data, name, strlen(name)) == 0)
            return call->headers[i].data + strlen(name);
    }
    return NULL;
}

static void test_bodies_go_as_they_are(void **state)
{
    static const struct {
        enum job_endpoint endpoint;
        const char *url;
    } rows[] = {{ENDPOINT_CHAT, "http://gpu0:8000/v1/chat/completions"},
                {ENDPOINT_COMPLETIONS, "http://gpu0:8000/v1/completions"},
                {ENDPOINT_EMBEDDINGS, "http://gpu0:8000/v1/embeddings"}};
    struct provider_call call;
    char id[JOB_ID_TEXT_SIZE + 1];
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct job job = make_job(rows[i].endpoint, "{ \"model\" : \"m\",\"x\":1.50 }");
        assert_int_equal(build(&job, "m", "", &call, NULL), 0);
        assert_string_equal(call.method, "POST");
        assert_string_equal(call.url.data, rows[i].url);
        assert_ptr_equal(call.body_as_is.bytes, job.payload.bytes);
        assert_int_equal(call.body_as_is.size, job.payload.size);
        assert_int_equal(call.body.size, 0);
        assert_string_equal(header(&call, "Content-Type: "), "application/json");
        assert_null(header(&call, "Authorization: "));
        job_id_text(&job.id, id);
        assert_string_equal(header(&call, "X-Request-Id: "), id);
        provider_call_deinit(&call);
    }
}

static void test_the_model_alone_is_rewritten(void **state)
{
    static const struct {
        const char *body;
        const char *rewritten;
    } rows[] = {
        {"{\"model\":\"default\",\"n\":1.0}", "{\"model\":\"org/m \\\"1\\\"\",\"n\":1.0}"},
        {"{\"n\": 1e2, \"model\" :\t\"x\" , \"a\":{\"model\":\"x\"}}",
         "{\"n\": 1e2, \"model\" :\t\"org/m \\\"1\\\"\" , \"a\":{\"model\":\"x\"}}"},
        {"{\"mod\\u0065l\":\"x\"}", "{\"mod\\u0065l\":\"org/m \\\"1\\\"\"}"},
    };
    struct provider_call call;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct job job = make_job(ENDPOINT_CHAT, rows[i].body);
        assert_int_equal(build(&job, "org/m \"1\"", "", &call, NULL), 0);
        assert_string_equal(call.body.data, rows[i].rewritten);
        provider_call_deinit(&call);
    }
}

static void test_keys_and_request_ids(void **state)
{
    struct job job = make_job(ENDPOINT_CHAT, "{\"model\":\"m\"}");
    struct provider_call call;
    struct error_text why = {""};
    struct buf line;
    (void)state;

    job.request_id = slice_of("req-1");
    assert_int_equal(build(&job, "m", "sk-123", &call, &why), 0);
    assert_string_equal(header(&call, "Authorization: "), "Bearer sk-123");
    assert_string_equal(header(&call, "X-Request-Id: "), "req-1");
    provider_call_deinit(&call);

    job.request_id = slice_of("two\r\nlines");
    assert_int_equal(build(&job, "m", "", &call, &why), 0);
    assert_memory_equal(header(&call, "X-Request-Id: "), "job_", 4);
    provider_call_deinit(&call);

    assert_int_equal(build(&job, "m", "sk\r\nX: y", &call, &why), ERR_INVALID);
    assert_null(strstr(why.text, "sk"));
    assert_non_null(strstr(why.text, "gpu0"));
    provider_call_deinit(&call);
    assert_int_equal(openai()->put_key("sk-123", &line), 0);
    assert_string_equal(line.data, "Authorization: Bearer sk-123");
    buf_deinit(&line);
}

static void test_bodies_without_a_model(void **state)
{
    static const char *const bodies[] = {"{}", "[]", "", "{\"model\"", "{\"a\":1}"};
    struct provider_call call;
    struct error_text why;
    (void)state;

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct job job = make_job(ENDPOINT_CHAT, bodies[i]);
        assert_int_equal(build(&job, "m", "", &call, &why), ERR_INVALID);
        provider_call_deinit(&call);
    }
}

/* --- judge --------------------------------------------------------------- */

static struct outcome judge(enum job_endpoint endpoint, int status, const char *body)
{
    struct job job = make_job(endpoint, "{\"model\":\"m\"}");
    struct outcome outcome;
    openai()->judge(&job, status, slice_of(body), &outcome);
    assert_int_equal(outcome.http_status, status);
    assert_int_equal(outcome.retry_after_ms, -1);
    if (outcome.class_ != OUTCOME_OK)
        assert_string_not_equal(outcome.message, "");
    return outcome;
}

static void test_good_answers_with_usage(void **state)
{
    (void)state;
    struct outcome chat = judge(ENDPOINT_CHAT, 200,
                                "{\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":12,"
                                "\"completion_tokens\":30,\"total_tokens\":42,"
                                "\"prompt_tokens_details\":{\"cached_tokens\":4}}}");
    assert_int_equal(chat.class_, OUTCOME_OK);
    assert_true(chat.usage.is_known);
    assert_int_equal(chat.usage.input_tokens, 12);
    assert_int_equal(chat.usage.output_tokens, 30);
    assert_int_equal(chat.usage.total_tokens, 42);

    struct outcome embedding =
        judge(ENDPOINT_EMBEDDINGS, 200,
              "{\"data\":[{\"index\":0,\"embedding\":[0.5]}],\"usage\":{\"prompt_tokens\":7}}");
    assert_int_equal(embedding.class_, OUTCOME_OK);
    assert_int_equal(embedding.usage.total_tokens, 7);

    static const char *const without[] = {"{\"choices\":[{}]}", "{\"choices\":[{}],\"usage\":null}",
                                          "{\"choices\":[{}],\"usage\":{\"prompt_tokens\":-3}}",
                                          "{\"error\":null,\"choices\":[ 1 ]}"};
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        struct outcome outcome = judge(ENDPOINT_COMPLETIONS, 200, without[i]);
        assert_int_equal(outcome.class_, OUTCOME_OK);
        assert_false(outcome.usage.is_known);
    }
}

static void test_answers_that_are_none(void **state)
{
    static const char *const bodies[] = {"",
                                         "{",
                                         "[]",
                                         "null",
                                         "<html>",
                                         "{\"choices\":[]}",
                                         "{\"choices\":[ ]}",
                                         "{\"choices\":null}",
                                         "{\"choices\":{}}",
                                         "{\"data\":[1]}",
                                         "{\"choices\":[{}]} trailing",
                                         "{\"choices\":[{\"a\":\"\xff\"}]}",
                                         "{\"choices\":[{\"a\":01}]}",
                                         "{\"error\":{\"message\":\"boom\"}}",
                                         "{\"error\":\"boom\",\"choices\":[{}]}",
                                         "data: {\"choices\":[]}\n\ndata: [DONE]\n"};
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        assert_int_equal(judge(ENDPOINT_CHAT, 200, bodies[i]).class_, OUTCOME_MALFORMED);
    assert_string_equal(judge(ENDPOINT_CHAT, 200, bodies[13]).message, "boom");
    assert_int_equal(judge(ENDPOINT_EMBEDDINGS, 200, "{\"choices\":[1]}").class_,
                     OUTCOME_MALFORMED);
    assert_int_equal(judge(ENDPOINT_CHAT, 204, "").class_, OUTCOME_MALFORMED);
    assert_int_equal(judge(ENDPOINT_CHAT, 202, "{\"choices\":[1]}").class_, OUTCOME_MALFORMED);
}

/* Two thousand embeddings in one answer are more values than any tree of ours may have. */
static void test_large_answers_are_judged(void **state)
{
    enum { VALUES = 1500000 };
    struct job job = make_job(ENDPOINT_EMBEDDINGS, "{\"model\":\"m\"}");
    struct outcome outcome;
    struct buf body;
    (void)state;

    buf_init(&body, 64 << 20);
    assert_int_equal(buf_append_text(&body, "{\"data\":[{\"embedding\":[0"), 0);
    for (int i = 0; i < VALUES; i++)
        assert_int_equal(buf_append_text(&body, ",0.5"), 0);
    assert_int_equal(buf_append_text(&body, "]}],\"usage\":{\"total_tokens\":9}}"), 0);
    openai()->judge(&job, 200, (struct slice){body.data, body.size}, &outcome);
    assert_int_equal(outcome.class_, OUTCOME_OK);
    assert_int_equal(outcome.usage.total_tokens, 9);
    buf_deinit(&body);
}

static void test_statuses_have_their_class(void **state)
{
    static const struct {
        int status;
        enum outcome_class class_;
    } rows[] = {
        {301, OUTCOME_REDIRECT},       {302, OUTCOME_REDIRECT},       {400, OUTCOME_REJECTED},
        {401, OUTCOME_REJECTED},       {403, OUTCOME_REJECTED},       {404, OUTCOME_REJECTED},
        {408, OUTCOME_UPSTREAM_ERROR}, {409, OUTCOME_UPSTREAM_ERROR}, {413, OUTCOME_REJECTED},
        {422, OUTCOME_REJECTED},       {424, OUTCOME_UPSTREAM_ERROR}, {425, OUTCOME_UPSTREAM_ERROR},
        {429, OUTCOME_RATE_LIMITED},   {500, OUTCOME_UPSTREAM_ERROR}, {501, OUTCOME_REJECTED},
        {502, OUTCOME_UPSTREAM_ERROR}, {503, OUTCOME_OVERLOADED},     {504, OUTCOME_UPSTREAM_ERROR},
        {529, OUTCOME_OVERLOADED},     {599, OUTCOME_UPSTREAM_ERROR}};
    struct job job = make_job(ENDPOINT_EMBEDDINGS, "{}");
    struct outcome outcome;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(judge(ENDPOINT_CHAT, rows[i].status, "").class_, rows[i].class_);
    job.attempt = 1; /* inference failed a second time: not again */
    openai()->judge(&job, 424, slice_of(""), &outcome);
    assert_int_equal(outcome.class_, OUTCOME_REJECTED);
}

static void test_a_spent_quota_is_no_rate_limit(void **state)
{
    (void)state;
    assert_int_equal(judge(ENDPOINT_CHAT, 429,
                           "{\"error\":{\"message\":\"You exceeded your current quota\",\"type\":"
                           "\"insufficient_quota\",\"code\":\"insufficient_quota\"}}")
                         .class_,
                     OUTCOME_QUOTA);
    assert_int_equal(judge(ENDPOINT_CHAT, 429,
                           "{\"error\":{\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}")
                         .class_,
                     OUTCOME_RATE_LIMITED);
}

static void test_words_for_people(void **state)
{
    (void)state;
    assert_string_equal(judge(ENDPOINT_CHAT, 400, "{\"error\":{\"message\":\"too long\"}}").message,
                        "too long");
    assert_string_equal(judge(ENDPOINT_CHAT, 502, "<html>").message,
                        "the upstream answered 502 Bad Gateway");
    assert_string_equal(
        judge(ENDPOINT_CHAT, 200, "{]").message,
        "the upstream's answer is not JSON: a key in quotes was expected at byte 1");
}

/* --- models -------------------------------------------------------------- */

static void on_model(struct slice name, void *arg)
{
    assert_int_equal(buf_printf(arg, "%.*s ", (int)name.size, name.bytes), 0);
}

static void test_model_lists(void **state)
{
    struct buf names;
    (void)state;

    buf_init(&names, 1024);
    assert_int_equal(
        openai()->list_models(slice_of("{\"object\":\"list\",\"data\":[{\"id\":\"a\"},"
                                       "{\"id\":\"org/b:c\",\"meta\":null},{\"id\":7},{},"
                                       "3,{\"id\":\"\"}]}"),
                              on_model, &names),
        2);
    assert_string_equal(names.data, "a org/b:c ");
    assert_int_equal(openai()->list_models(slice_of("{\"data\":[]}"), on_model, &names), 0);
    static const char *const bad[] = {"", "[]", "{}", "{\"data\":{}}", "<html>", "{\"data\":["};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(openai()->list_models(slice_of(bad[i]), on_model, &names), ERR_INVALID);
    buf_deinit(&names);
}

static void test_the_table(void **state)
{
    (void)state;
    assert_string_equal(openai()->name, "openai");
    assert_string_equal(openai()->models_path, "/models");
    assert_null(provider_find(UPSTREAM_ANTHROPIC));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_go_as_they_are),
        cmocka_unit_test(test_the_model_alone_is_rewritten),
        cmocka_unit_test(test_keys_and_request_ids),
        cmocka_unit_test(test_bodies_without_a_model),
        cmocka_unit_test(test_good_answers_with_usage),
        cmocka_unit_test(test_answers_that_are_none),
        cmocka_unit_test(test_large_answers_are_judged),
        cmocka_unit_test(test_statuses_have_their_class),
        cmocka_unit_test(test_a_spent_quota_is_no_rate_limit),
        cmocka_unit_test(test_words_for_people),
        cmocka_unit_test(test_model_lists),
        cmocka_unit_test(test_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
