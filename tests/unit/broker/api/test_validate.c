/* What is asked: every field, every refusal with the field's path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/api/validate.h"
#include "common/base/error.h"

static int read_job(const char *text, struct draft *draft, struct problem *problem)
{
    struct jdoc *doc = NULL;
    int status = validate_document(slice_of(text), &doc, problem);

    draft_init(draft);
    if (status == 0)
        status = validate_job(doc, draft, problem);
    /* What points into the document must not be looked at after this; the tests that do copy it. */
    jdoc_destroy(doc);
    return status;
}

#define CHAT "\"endpoint\":\"/v1/chat/completions\","
#define BODY "\"body\":{\"model\":\"m\",\"messages\":[]}"

static void test_defaults(void **state)
{
    struct draft draft;
    struct problem problem;

    (void)state;
    assert_int_equal(read_job("{" CHAT BODY "}", &draft, &problem), 0);
    assert_int_equal(draft.endpoint, ENDPOINT_CHAT);
    assert_int_equal(draft.priority, JOB_NORMAL);
    assert_false(draft.has_priority);
    assert_int_equal(draft.delay_ms, 0);
    assert_int_equal(draft.expires_in_ms, LIMIT_EXPIRES_DEFAULT_MS);
    assert_int_equal(draft.timeout_ms, LIMIT_TIMEOUT_DEFAULT_MS);
    assert_int_equal(draft.max_attempts, LIMIT_ATTEMPTS_DEFAULT);
    assert_int_equal(draft.metadata.size, 0);
    assert_int_equal(draft.idempotency_key_size, 0);
    draft_deinit(&draft);
}

static void test_all_fields(void **state)
{
    static const char text[] =
        "{ \"priority\":\"low\", \"delay_ms\":1, \"expires_in_ms\":5000, \"max_attempts\":20,"
        "\"timeout_ms\":7, \"stream\":false, \"webhook\":null, \"metadata\": { \"a\" : \"b\\n\" },"
        "\"idempotency_key\":\"k 1\", \"body\" : {\"model\": \"org/m\", \"x\":[ 1, 2 ]} ,"
        "\"endpoint\":\"/v1/embeddings\"}";
    struct draft draft;
    struct problem problem;
    struct jdoc *doc = NULL;

    (void)state;
    draft_init(&draft);
    assert_int_equal(validate_document(slice_of(text), &doc, &problem), 0);
    assert_int_equal(validate_job(doc, &draft, &problem), 0);
    assert_int_equal(draft.endpoint, ENDPOINT_EMBEDDINGS);
    assert_int_equal(draft.priority, JOB_LOW);
    assert_true(draft.has_priority);
    assert_int_equal(draft.delay_ms, 1);
    assert_int_equal(draft.expires_in_ms, 5000);
    assert_int_equal(draft.max_attempts, 20);
    assert_int_equal(draft.timeout_ms, 7);
    assert_string_equal(draft.metadata.data, "{\"a\":\"b\\n\"}");
    assert_int_equal(draft.idempotency_key_size, 3);
    assert_memory_equal(draft.idempotency_key, "k 1", 3);
    assert_true(slice_is(draft.model, "org/m"));
    /* byte for byte, and out of the request's own memory */
    assert_true(slice_is(draft.body, "{\"model\": \"org/m\", \"x\":[ 1, 2 ]}"));
    assert_true(draft.body.bytes > text && draft.body.bytes < text + sizeof(text));
    draft_deinit(&draft);
    jdoc_destroy(doc);
}

static const struct {
    const char *text, *code, *param;
} refusals[] = {
    {"", "invalid_json", ""},
    {"{", "invalid_json", ""},
    {"nonsense", "invalid_json", ""},
    {"{\"a\":1,}", "invalid_json", ""},
    {"{\"a\":1,\"a\":2}", "invalid_json", ""},
    {"{\"a\":\"\xff\"}", "invalid_json", ""},
    {"{} x", "invalid_json", ""},
    {"[]", "invalid_request", ""},
    {"5", "invalid_request", ""},
    {"{}", "missing_field", "endpoint"},
    {"{" BODY "}", "missing_field", "endpoint"},
    {"{\"endpoint\":null," BODY "}", "missing_field", "endpoint"},
    {"{\"endpoint\":5," BODY "}", "invalid_request", "endpoint"},
    {"{\"endpoint\":\"/v1/nothing\"," BODY "}", "unknown_endpoint", "endpoint"},
    {"{\"endpoint\":\"\"," BODY "}", "unknown_endpoint", "endpoint"},
    {"{\"endpoint\":\"/v1/chat/completions\"}", "missing_field", "body"},
    {"{" CHAT "\"body\":[]}", "invalid_request", "body"},
    {"{" CHAT "\"body\":\"x\"}", "invalid_request", "body"},
    {"{" CHAT "\"body\":{}}", "missing_field", "body.model"},
    {"{" CHAT "\"body\":{\"model\":5}}", "invalid_request", "body.model"},
    {"{" CHAT "\"body\":{\"model\":null}}", "invalid_request", "body.model"},
    {"{" CHAT "\"body\":{\"model\":\"\"}}", "invalid_request", "body.model"},
    {"{" CHAT "\"body\":{\"model\":\"a\\nb\"}}", "invalid_request", "body.model"},
    {"{" CHAT "\"body\":{\"model\":\"a\\u0000b\"}}", "invalid_request", "body.model"},
    {"{" CHAT "\"body\":{\"model\":\"a\\u007fb\"}}", "invalid_request", "body.model"},
    {"{" CHAT "\"body\":{\"model\":\"m\",\"stream\":true}}", "not_supported", "body.stream"},
    {"{" CHAT "\"body\":{\"model\":\"m\",\"stream\":1}}", "invalid_request", "body.stream"},
    {"{" CHAT BODY ",\"stream\":true}", "not_supported", "stream"},
    {"{" CHAT BODY ",\"stream\":\"no\"}", "invalid_request", "stream"},
    {"{" CHAT BODY ",\"webhook\":{\"url\":\"https://x\"}}", "not_supported", "webhook"},
    {"{" CHAT BODY ",\"priority\":\"urgent\"}", "invalid_request", "priority"},
    {"{" CHAT BODY ",\"priority\":1}", "invalid_request", "priority"},
    {"{" CHAT BODY ",\"delay_ms\":-1}", "invalid_request", "delay_ms"},
    {"{" CHAT BODY ",\"delay_ms\":1.5}", "invalid_request", "delay_ms"},
    {"{" CHAT BODY ",\"delay_ms\":\"1\"}", "invalid_request", "delay_ms"},
    {"{" CHAT BODY ",\"delay_ms\":9007199254740993}", "invalid_request", "delay_ms"},
    {"{" CHAT BODY ",\"delay_ms\":5000,\"expires_in_ms\":5000}", "invalid_request",
     "expires_in_ms"},
    {"{" CHAT BODY ",\"expires_in_ms\":0}", "invalid_request", "expires_in_ms"},
    {"{" CHAT BODY ",\"expires_in_ms\":99999999999999}", "invalid_request", "expires_in_ms"},
    {"{" CHAT BODY ",\"max_attempts\":0}", "invalid_request", "max_attempts"},
    {"{" CHAT BODY ",\"max_attempts\":21}", "invalid_request", "max_attempts"},
    {"{" CHAT BODY ",\"max_attempts\":1e2}", "invalid_request", "max_attempts"},
    {"{" CHAT BODY ",\"timeout_ms\":0}", "invalid_request", "timeout_ms"},
    {"{" CHAT BODY ",\"timeout_ms\":true}", "invalid_request", "timeout_ms"},
    {"{" CHAT BODY ",\"metadata\":[]}", "invalid_request", "metadata"},
    {"{" CHAT BODY ",\"metadata\":{\"a\":1}}", "invalid_request", "metadata.a"},
    {"{" CHAT BODY ",\"metadata\":{\"a\":null}}", "invalid_request", "metadata.a"},
    {"{" CHAT BODY ",\"idempotency_key\":\"\"}", "invalid_request", "idempotency_key"},
    {"{" CHAT BODY ",\"idempotency_key\":7}", "invalid_request", "idempotency_key"},
    {"{" CHAT BODY ",\"idempotency_key\":\"a\\tb\"}", "invalid_request", "idempotency_key"},
    {"{" CHAT BODY ",\"colour\":\"red\"}", "unknown_field", "colour"},
    {"{" CHAT BODY ",\"colour\":null}", "unknown_field", "colour"},
    {"{" CHAT BODY ",\"Priority\":\"low\"}", "unknown_field", "Priority"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct draft draft;
        struct problem problem;
        if (read_job(refusals[i].text, &draft, &problem) != ERR_INVALID)
            fail_msg("was let through: %s", refusals[i].text);
        assert_string_equal(problem_code(&problem), refusals[i].code);
        assert_string_equal(problem.param, refusals[i].param);
        assert_int_equal(problem_status(&problem), 400);
        assert_true(problem.detail[0] != '\0');
        draft_deinit(&draft);
    }
}

static void test_byte_offset(void **state)
{
    struct draft draft;
    struct problem problem;

    (void)state;
    assert_int_equal(read_job("{\"a\": nope}", &draft, &problem), ERR_INVALID);
    assert_non_null(strstr(problem.detail, "byte 6"));
    draft_deinit(&draft);
}

static void test_nesting(void **state)
{
    char text[1024];
    struct draft draft;
    struct problem problem;

    (void)state;
    for (int depth = 62; depth <= 63; depth++) { /* two levels are around it */
        int size = snprintf(text, sizeof(text), "{" CHAT "\"body\":{\"model\":\"m\",\"x\":");
        for (int i = 0; i < depth; i++)
            text[size++] = '[';
        for (int i = 0; i < depth; i++)
            text[size++] = ']';
        memcpy(text + size, "}}", 3);
        assert_int_equal(read_job(text, &draft, &problem), depth == 62 ? 0 : ERR_INVALID);
        if (depth == 63)
            assert_string_equal(problem_code(&problem), "invalid_json");
        draft_deinit(&draft);
    }
}

static void test_model_length(void **state)
{
    char text[1024], name[300];
    struct draft draft;
    struct problem problem;

    (void)state;
    for (size_t size = LIMIT_ROUTE_BYTES; size <= LIMIT_ROUTE_BYTES + 1; size++) {
        memset(name, 'm', size);
        name[size] = '\0';
        snprintf(text, sizeof(text), "{" CHAT "\"body\":{\"model\":\"%s\"}}", name);
        assert_int_equal(read_job(text, &draft, &problem),
                         size == LIMIT_ROUTE_BYTES ? 0 : ERR_INVALID);
        draft_deinit(&draft);
    }
}

/* ---- metadata -------------------------------------------------------------------------------- */

static int read_metadata(unsigned pairs, size_t key_size, size_t value_size,
                         struct problem *problem)
{
    static char text[32768];
    int size = snprintf(text, sizeof(text), "{" CHAT BODY ",\"metadata\":{");
    struct draft draft;

    for (unsigned i = 0; i < pairs; i++) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "%s\"%0*u\":\"%0*u\"",
                         i > 0 ? "," : "", (int)key_size, i, (int)value_size, i);
        assert_true((size_t)size < sizeof(text) - 4);
    }
    memcpy(text + size, "}}", 3);
    int status = read_job(text, &draft, problem);
    draft_deinit(&draft);
    return status;
}

static void test_metadata_limits(void **state)
{
    struct problem problem;

    (void)state;
    assert_int_equal(read_metadata(16, 64, 512, &problem), 0);
    assert_int_equal(read_metadata(17, 2, 2, &problem), ERR_INVALID);
    assert_string_equal(problem.param, "metadata");
    assert_int_equal(read_metadata(1, 65, 1, &problem), ERR_INVALID);
    assert_string_equal(problem.param, "metadata");
    assert_int_equal(read_metadata(1, 1, 513, &problem), ERR_INVALID);
    assert_string_equal(problem.param, "metadata.0");
}

/* ---- dialect --------------------------------------------------------------------------------- */

static int read_call(const char *text, enum job_endpoint endpoint, struct draft *draft,
                     struct problem *problem)
{
    struct jdoc *doc = NULL;

    draft_init(draft);
    assert_int_equal(validate_document(slice_of(text), &doc, problem), 0);
    int status = validate_call(doc, slice_of(text), endpoint, draft, problem);
    jdoc_destroy(doc);
    return status;
}

static void test_calls(void **state)
{
    static const char text[] = "{\"model\":\"m\",\"input\":\"x\",\"encoding_format\":\"base64\"}";
    struct draft draft;
    struct problem problem;

    (void)state;
    assert_int_equal(read_call(text, ENDPOINT_EMBEDDINGS, &draft, &problem), 0);
    assert_ptr_equal(draft.body.bytes, text);
    assert_true(draft.wants_base64);
    draft_deinit(&draft);
    assert_int_equal(read_call(text, ENDPOINT_CHAT, &draft, &problem), 0);
    assert_false(draft.wants_base64);
    draft_deinit(&draft);
    assert_int_equal(
        read_call("{\"model\":\"m\",\"stream\":true}", ENDPOINT_CHAT, &draft, &problem),
        ERR_INVALID);
    assert_string_equal(problem.param, "stream");
    assert_string_equal(problem_code(&problem), "not_supported");
    draft_deinit(&draft);
    assert_int_equal(
        read_call("{\"model\":\"m\",\"stream\":null,\"any\":1}", ENDPOINT_CHAT, &draft, &problem),
        0);
    draft_deinit(&draft);
    assert_int_equal(read_call("{\"messages\":[]}", ENDPOINT_CHAT, &draft, &problem), ERR_INVALID);
    assert_string_equal(problem.param, "model");
    draft_deinit(&draft);
}

static void test_option_headers(void **state)
{
    struct problem problem;
    struct draft draft;
    const struct validate_headers all = {.priority = slice_of("high"),
                                         .expires_ms = slice_of("60000"),
                                         .metadata = slice_of("{\"a\":\"b\"}")};
    const struct {
        struct validate_headers headers;
        const char *param;
    } cases[] = {
        {{.priority = slice_of("HIGH")}, "Penstock-Priority"},
        {{.priority = slice_of("")}, "Penstock-Priority"},
        {{.expires_ms = slice_of("0")}, "Penstock-Expires-Ms"},
        {{.expires_ms = slice_of("1 ")}, "Penstock-Expires-Ms"},
        {{.expires_ms = slice_of("99999999999999999999")}, "Penstock-Expires-Ms"},
        {{.metadata = slice_of("{")}, "Penstock-Metadata"},
        {{.metadata = slice_of("[]")}, "Penstock-Metadata"},
        {{.metadata = slice_of("{\"a\":1}")}, "Penstock-Metadata.a"},
        {{.webhook = slice_of("https://x")}, "Penstock-Webhook"},
    };

    (void)state;
    draft_init(&draft);
    assert_int_equal(validate_option_headers(&all, &draft, &problem), 0);
    assert_int_equal(draft.priority, JOB_HIGH);
    assert_int_equal(draft.expires_in_ms, 60000);
    assert_string_equal(draft.metadata.data, "{\"a\":\"b\"}");
    draft_deinit(&draft);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        draft_init(&draft);
        assert_int_equal(validate_option_headers(&cases[i].headers, &draft, &problem), ERR_INVALID);
        assert_string_equal(problem.param, cases[i].param);
        draft_deinit(&draft);
    }
}

static void test_idempotency_key_header(void **state)
{
    static const struct {
        const char *header, *key; /* NULL: refused */
    } cases[] = {
        {"abc", "abc"},
        {"\"abc\"", "abc"},
        {"\"a\\\"b\\\\c\"", "a\"b\\c"},
        {"a\"b", "a\"b"},
        {"\"a\"b\"", NULL},
        {"\"a\\\"", NULL},
        {"\"a\\xb\"", NULL},
        {"\"\"", NULL},
        {"", NULL},
        {"\"", "\""},
        {"8e03978e-40d5", "8e03978e-40d5"},
        {"a\xff", NULL},
    };
    struct problem problem;
    char long_key[LIMIT_IDEMPOTENCY_KEY_BYTES + 2];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft draft = {.idempotency_key_size = 0};
        int status = validate_idempotency_key(slice_of(cases[i].header), &draft, &problem);
        assert_int_equal(status, cases[i].key ? 0 : ERR_INVALID);
        if (!cases[i].key)
            continue;
        assert_int_equal(draft.idempotency_key_size, strlen(cases[i].key));
        assert_memory_equal(draft.idempotency_key, cases[i].key, draft.idempotency_key_size);
    }
    memset(long_key, 'k', sizeof(long_key));
    struct draft draft = {.idempotency_key_size = 0};
    assert_int_equal(validate_idempotency_key((struct slice){long_key, LIMIT_IDEMPOTENCY_KEY_BYTES},
                                              &draft, &problem),
                     0);
    assert_int_equal(
        validate_idempotency_key((struct slice){long_key, LIMIT_IDEMPOTENCY_KEY_BYTES + 1}, &draft,
                                 &problem),
        ERR_INVALID);
    assert_int_equal(validate_idempotency_key((struct slice){NULL, 0}, &draft, &problem), 0);
}

static void test_key_in_header_and_field(void **state)
{
    struct problem problem;
    struct draft draft = {.idempotency_key = "abc", .idempotency_key_size = 3};

    (void)state;
    assert_int_equal(validate_idempotency_key(slice_of("abc"), &draft, &problem), 0);
    assert_int_equal(validate_idempotency_key(slice_of("abd"), &draft, &problem), ERR_INVALID);
    assert_string_equal(problem.param, "idempotency_key");
}

static void test_prefer(void **state)
{
    static const struct {
        const char *header;
        bool respond_async, has_wait;
        int64_t wait_ms;
    } cases[] = {
        {"respond-async", true, false, 0},
        {"respond-async, wait=10", true, true, 10000},
        {" Respond-Async ; wait=10 ", true, true, 10000},
        {"wait=100000", false, true, LIMIT_WAIT_MS},
        {"wait=-1", false, false, 0},
        {"wait=x, return=minimal", false, false, 0},
        {"wait=1, wait=2", false, true, 1000},
        {"handling=strict,,,", false, false, 0},
        {"respond-asynchronous", false, false, 0},
        {"", false, false, 0},
    };
    struct prefer prefer;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        parse_prefer(slice_of(cases[i].header), &prefer);
        assert_int_equal(prefer.respond_async, cases[i].respond_async);
        assert_int_equal(prefer.has_wait, cases[i].has_wait);
        assert_int_equal(prefer.wait_ms, cases[i].wait_ms);
    }
    parse_prefer((struct slice){NULL, 0}, &prefer);
    assert_false(prefer.respond_async);
}

static void test_wait(void **state)
{
    struct problem problem;
    int64_t ms = 5;

    (void)state;
    assert_int_equal(validate_wait((struct slice){NULL, 0}, &ms, &problem), 0);
    assert_int_equal(ms, 0);
    assert_int_equal(validate_wait(slice_of("30s"), &ms, &problem), 0);
    assert_int_equal(ms, 30000);
    assert_int_equal(validate_wait(slice_of("5"), &ms, &problem), 0);
    assert_int_equal(ms, 5000);
    assert_int_equal(validate_wait(slice_of("301s"), &ms, &problem), ERR_INVALID);
    assert_int_equal(validate_wait(slice_of("-1"), &ms, &problem), ERR_INVALID);
    assert_int_equal(validate_wait(slice_of(""), &ms, &problem), ERR_INVALID);
    assert_string_equal(problem.param, "wait");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_fields),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_byte_offset),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_model_length),
        cmocka_unit_test(test_metadata_limits),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_option_headers),
        cmocka_unit_test(test_idempotency_key_header),
        cmocka_unit_test(test_key_in_header_and_field),
        cmocka_unit_test(test_prefer),
        cmocka_unit_test(test_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
