#include "common/dialect/openai.h"

#include <stdio.h>
#include <string.h>

const char *openai_error_type(int http_status)
{
    if (http_status == 429)
        return "rate_limit_exceeded";
    if (http_status >= 500)
        return "server_error";
    return "invalid_request_error";
}

static int put_nullable(struct buf *out, const char *name, struct slice value)
{
    int status = buf_append_text(out, name);

    if (status == 0)
        status = value.bytes ? json_put_string(out, value.bytes, value.size)
                             : buf_append_text(out, "null");
    return status;
}

int openai_put_error(struct buf *out, const struct openai_error *error)
{
    int status = buf_append_text(out, "{\"error\":{\"message\":");

    if (status == 0)
        status = json_put_string(out, error->message.bytes, error->message.size);
    if (status == 0)
        status = put_nullable(out, ",\"type\":", error->type);
    if (status == 0)
        status = put_nullable(out, ",\"param\":", error->param);
    if (status == 0)
        status = put_nullable(out, ",\"code\":", error->code);
    return status == 0 ? buf_append_text(out, "}}") : status;
}

int openai_put_model(struct buf *out, struct slice id, int64_t created_s, struct slice owned_by)
{
    int status = buf_append_text(out, "{\"id\":");

    if (status == 0)
        status = json_put_string(out, id.bytes, id.size);
    if (status == 0)
        status = buf_printf(
            out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":", (long long)created_s);
    if (status == 0)
        status = json_put_string(out, owned_by.bytes, owned_by.size);
    return status == 0 ? buf_append_char(out, '}') : status;
}

/* ---- errors of upstreams --------------------------------------------------------------------- */

enum { MESSAGE_BYTES_MAX = 4096 };

static struct slice string_of(const struct jval *value)
{
    size_t size = 0;
    const char *bytes = jval_string(value, &size);

    return (struct slice){.bytes = bytes, .size = bytes ? size : 0};
}

static struct slice string_member(const struct jval *object, const char *key)
{
    return string_of(jval_get(object, key));
}

/* FastAPI's detail: a text, or a list of {"loc", "msg", "type"} whose first says enough. */
static struct slice detail_message(const struct jval *detail)
{
    struct slice text = string_of(detail);

    if (!text.bytes && jval_type(detail) == JTYPE_ARRAY && jval_count(detail) > 0) {
        const struct jval *first = jval_at(detail, 0);
        text = jval_type(first) == JTYPE_OBJECT ? string_member(first, "msg") : string_of(first);
    }
    return text;
}

/* Fills what the members of one object say; numbers as code (vLLM, llama.cpp) become null. */
static void take_members(const struct jval *object, struct openai_error *error)
{
    error->message = string_member(object, "message");
    error->type = string_member(object, "type");
    error->param = string_member(object, "param");
    error->code = string_member(object, "code");
}

static void read_error(const struct jval *root, struct openai_error *error)
{
    const struct jval *inner = jval_get(root, "error");

    if (jval_type(inner) == JTYPE_OBJECT) {
        take_members(inner, error);
    } else if (jval_type(inner) == JTYPE_STRING) {
        error->message = string_of(inner);
        error->type = string_member(root, "error_type");
    } else if (jval_has(root, "detail")) {
        error->message = detail_message(jval_get(root, "detail"));
    } else {
        take_members(root, error);
    }
}

int openai_put_upstream_error(struct buf *out, int http_status, struct slice body)
{
    struct openai_error error = {.message = {.bytes = NULL}};
    struct jdoc *doc = NULL;
    char fallback[64];

    if (body.size > 0 && jdoc_parse(body.bytes, body.size, &doc, NULL) == 0 &&
        jval_type(jdoc_root(doc)) == JTYPE_OBJECT)
        read_error(jdoc_root(doc), &error);
    if (!error.message.bytes || error.message.size == 0) {
        snprintf(fallback, sizeof(fallback), "The upstream answered with status %d.", http_status);
        error.message = slice_of(fallback);
    }
    if (error.message.size > MESSAGE_BYTES_MAX)
        error.message.size = MESSAGE_BYTES_MAX; /* a character cut in two is replaced on output */
    if (!error.type.bytes || error.type.size == 0)
        error.type = slice_of(openai_error_type(http_status));
    int status = openai_put_error(out, &error);
    jdoc_destroy(doc);
    return status;
}
