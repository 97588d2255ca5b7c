/* The OpenAI dialect, as OpenAI, vLLM, SGLang, llama.cpp, Ollama, TEI and many gateways speak it.
 */
#include <stdio.h>
#include <string.h>

#include "common/base/jdoc.h"
#include "common/base/jdoc_scan.h"
#include "common/base/text.h"
#include "worker/providers/error_body.h"
#include "worker/providers/json_member.h"
#include "worker/providers/provider_rows.h"

enum {
    URL_BYTES_MAX = 4096,
    HEADER_BYTES_MAX = 4096,
    ANSWER_BYTES_MAX = 1 << 30, /* what json_scan takes */
    MODELS_MAX = 1024
};

/* --- build --------------------------------------------------------------- */

static int add_header(struct provider_call *call, const char *name, const char *value)
{
    CHECK(call->headers_count < PROVIDER_HEADERS_MAX);
    struct buf *header = &call->headers[call->headers_count];
    buf_init(header, HEADER_BYTES_MAX);
    int status = buf_printf(header, "%s: %s", name, value);
    if (status == 0)
        call->headers_count++;
    return status;
}

static bool is_visible(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static int put_key(const char *key, struct buf *out)
{
    if (!is_visible(key))
        return ERR_INVALID;
    buf_init(out, HEADER_BYTES_MAX);
    int status = buf_printf(out, "Authorization: Bearer %s", key);
    return status == ERR_TOO_BIG ? ERR_INVALID : status;
}

/* The job's own name at the upstream, so that both logs can be laid side by side. */
static int add_request_id(struct provider_call *call, const struct job *job)
{
    char text[LIMIT_REQUEST_ID_BYTES + JOB_ID_TEXT_SIZE + 1];

    if (job->request_id.size > 0 && job->request_id.size <= LIMIT_REQUEST_ID_BYTES) {
        memcpy(text, job->request_id.bytes, job->request_id.size);
        text[job->request_id.size] = '\0';
        if (is_visible(text))
            return add_header(call, "X-Request-Id", text);
    }
    job_id_text(&job->id, text);
    return add_header(call, "X-Request-Id", text);
}

/* The body with the upstream's name for the model; everything else stays as it is, byte for byte.
 */
static int put_body(struct provider_call *call, const struct job *job, struct slice model,
                    struct error_text *why)
{
    struct slice body = job->payload;
    struct slice value;

    int status = json_member_find(body, "model", &value);
    if (status < 0)
        return error_set(why, status == ERR_NOMEM ? ERR_NOMEM : ERR_INVALID,
                         "the body names no model");
    call->body_as_is = body;
    if (json_value_is_string(value, model))
        return 0;
    size_t head_size = (size_t)(value.bytes - body.bytes);
    const char *tail = value.bytes + value.size;
    buf_init(&call->body, body.size + 6 * model.size + 2);
    status = buf_reserve(&call->body, body.size + model.size + 2);
    if (status == 0)
        status = buf_append(&call->body, body.bytes, head_size);
    if (status == 0)
        status = json_put_string(&call->body, model.bytes, model.size);
    if (status == 0)
        status = buf_append(&call->body, tail, body.size - head_size - value.size);
    return status;
}

static int build(const struct job *job, const struct settings_upstream *upstream,
                 const char *upstream_model, const char *key, struct provider_call *out,
                 struct error_text *why)
{
    const char *path = job_endpoint_path(job->endpoint);
    CHECK(strncmp(path, "/v1/", 4) == 0);

    out->method = "POST";
    buf_init(&out->url, URL_BYTES_MAX);
    int status = buf_printf(&out->url, "%s%s", upstream->base_url, path + 3);
    if (status == ERR_TOO_BIG)
        return error_set(why, ERR_INVALID, "the URL of upstream %s is too long", upstream->name);
    if (status == 0)
        status = add_header(out, "Content-Type", "application/json");
    if (status == 0)
        status = add_header(out, "Accept", "application/json");
    if (status == 0)
        status = add_request_id(out, job);
    if (status == 0 && key[0] != '\0') {
        status = put_key(key, &out->headers[out->headers_count++]);
        if (status < 0)
            return error_set(why, status, "the API key of upstream %s is no key", upstream->name);
    }
    if (status < 0)
        return error_set(why, status, "%s", error_text_of(status));
    return put_body(out, job, slice_of(upstream_model), why);
}

/* --- judge --------------------------------------------------------------- */

/* The members of an answer that matter. */
struct answer_parts {
    const char *text;
    struct slice list; /* "choices" or "data" */
    struct slice usage;
    struct slice error;
    const char *list_name;
};

static void on_member(void *arg, const struct json_member *member)
{
    struct answer_parts *parts = arg;
    struct slice name = {parts->text + member->key_at, member->key_size};
    struct slice value = {parts->text + member->value_at, member->value_size};

    if (slice_is(name, parts->list_name))
        parts->list = value;
    else if (slice_is(name, "usage"))
        parts->usage = value;
    else if (slice_is(name, "error"))
        parts->error = value;
}

static bool is_list_with_something(struct slice value)
{
    if (value.size < 3 || value.bytes[0] != '[')
        return false;
    for (size_t i = 1; i < value.size; i++) {
        if (!strchr(" \t\r\n", value.bytes[i]))
            return value.bytes[i] != ']';
    }
    return false;
}

static bool read_count(struct slice usage, const char *name, int64_t *out)
{
    struct slice value;
    return json_member_find(usage, name, &value) == 0 &&
           text_parse_i64(value.bytes, value.size, 0, INT64_MAX / 2, out) == 0;
}

/* usage: valid JSON, or nothing. */
static void read_usage(struct slice usage, struct job_usage *out)
{
    struct job_usage read = {.is_known = false};

    bool has_input = read_count(usage, "prompt_tokens", &read.input_tokens);
    bool has_output = read_count(usage, "completion_tokens", &read.output_tokens);
    bool has_total = read_count(usage, "total_tokens", &read.total_tokens);
    if (!has_total)
        read.total_tokens = read.input_tokens + read.output_tokens;
    read.is_known = has_input || has_output || has_total;
    if (read.is_known)
        *out = read;
}

static void judge_success(const struct job *job, struct slice body, struct outcome *out)
{
    struct answer_parts parts = {
        .text = body.bytes, .list_name = job->endpoint == ENDPOINT_EMBEDDINGS ? "data" : "choices"};
    const struct json_scan_hooks hooks = {.on_top = on_member, .arg = &parts, .has_no_tree = true};
    struct json_scan scan;

    out->class_ = OUTCOME_MALFORMED;
    if (body.size == 0 || body.size > ANSWER_BYTES_MAX) {
        outcome_set_message(out, slice_of("the upstream's answer is empty"));
        return;
    }
    if (json_scan(body.bytes, body.size, &hooks, &scan) < 0) {
        (void)snprintf(out->message, sizeof out->message,
                       "the upstream's answer is not JSON: %s at byte %zu", scan.error,
                       scan.error_at);
        return;
    }
    if (parts.error.size > 0 && !slice_is(parts.error, "null")) {
        struct error_body error;
        error_body_read(body, &error);
        outcome_set_message(
            out,
            slice_of(error.message[0] ? error.message : "the upstream answered 200 with an error"));
        return;
    }
    if (!is_list_with_something(parts.list)) {
        (void)snprintf(out->message, sizeof out->message, "the upstream's answer has no %s",
                       parts.list_name);
        return;
    }
    out->class_ = OUTCOME_OK;
    read_usage(parts.usage, &out->usage);
}

static bool is_quota(const struct error_body *error)
{
    static const char *const words[] = {"insufficient_quota", "billing_hard_limit_reached"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(error->code, words[i]) == 0 || strcmp(error->type, words[i]) == 0)
            return true;
    }
    return false;
}

static enum outcome_class class_of(const struct job *job, int http_status,
                                   const struct error_body *error)
{
    switch (http_status) {
    case 429:
        return is_quota(error) ? OUTCOME_QUOTA : OUTCOME_RATE_LIMITED;
    case 503:
    case 529:
        return OUTCOME_OVERLOADED;
    case 408:
    case 409:
    case 425:
        return OUTCOME_UPSTREAM_ERROR;
    case 424: /* TEI: inference failed; once more may help, over and over does not */
        return job->attempt == 0 ? OUTCOME_UPSTREAM_ERROR : OUTCOME_REJECTED;
    case 501:
    case 505:
        return OUTCOME_REJECTED;
    default:
        break;
    }
    if (http_status >= 500)
        return OUTCOME_UPSTREAM_ERROR;
    if (http_status >= 400)
        return OUTCOME_REJECTED;
    return http_status >= 300 ? OUTCOME_REDIRECT : OUTCOME_MALFORMED;
}

static void judge(const struct job *job, int http_status, struct slice body, struct outcome *out)
{
    struct error_body error;

    *out = (struct outcome){.http_status = http_status, .retry_after_ms = -1};
    if (http_status == 200) {
        judge_success(job, body, out);
        return;
    }
    error_body_read(body, &error);
    out->class_ = class_of(job, http_status, &error);
    if (out->class_ == OUTCOME_REDIRECT)
        outcome_set_message(out, slice_of("the upstream redirects, which is not followed: "
                                          "base_url must be the place itself"));
    else if (error.message[0])
        outcome_set_message(out, slice_of(error.message));
    else
        (void)snprintf(out->message, sizeof out->message, "the upstream answered %d %s",
                       http_status, error_status_text(http_status));
}

/* --- models -------------------------------------------------------------- */

/* {"data": [{"id": "name"}]}. */
static int list_models(struct slice body, void (*on_model)(struct slice name, void *arg), void *arg)
{
    struct jdoc *doc = NULL;
    int count = 0;

    if (body.size == 0 || jdoc_parse(body.bytes, body.size, &doc, NULL) < 0)
        return ERR_INVALID;
    const struct jval *list = jval_get(jdoc_root(doc), "data");
    if (jval_type(list) != JTYPE_ARRAY) {
        jdoc_destroy(doc);
        return ERR_INVALID;
    }
    for (size_t i = 0; i < jval_count(list) && count < MODELS_MAX; i++) {
        struct slice name;
        name.bytes = jval_string(jval_get(jval_at(list, i), "id"), &name.size);
        if (!name.bytes || name.size == 0)
            continue;
        on_model(name, arg);
        count++;
    }
    jdoc_destroy(doc);
    return count;
}

const struct provider provider_openai = {.name = "openai",
                                         .kind = UPSTREAM_OPENAI,
                                         .build = build,
                                         .judge = judge,
                                         .list_models = list_models,
                                         .put_key = put_key,
                                         .models_path = "/models"};
