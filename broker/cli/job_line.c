#include "broker/cli/job_line.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/jdoc.h"

enum { CUSTOM_ID_BYTES_MAX = 512 }; /* as a value of metadata */

const char *job_line_endpoint(const char *name)
{
    static const char *const names[][2] = {{"chat", "/v1/chat/completions"},
                                           {"completions", "/v1/completions"},
                                           {"embeddings", "/v1/embeddings"}};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i][0]) == 0)
            return names[i][1];
    }
    return name;
}

int job_line_body(const char *endpoint, const char *model, struct slice text, struct buf *out)
{
    bool is_chat = strcmp(endpoint, "/v1/chat/completions") == 0;
    const char *lead = is_chat ? ",\"messages\":[{\"role\":\"user\",\"content\":"
                       : strcmp(endpoint, "/v1/embeddings") == 0 ? ",\"input\":"
                                                                 : ",\"prompt\":";
    int status = buf_append_text(out, "{\"model\":");

    if (status == 0)
        status = json_put_string(out, model, strlen(model));
    if (status == 0)
        status = buf_append_text(out, lead);
    if (status == 0)
        status = json_put_string(out, text.bytes, text.size);
    return status == 0 ? buf_append_text(out, is_chat ? "}]}" : "}") : status;
}

static int put_member(struct buf *out, const char *name, struct slice value)
{
    int status = buf_printf(out, "%s\"%s\":", out->data[out->size - 1] == '{' ? "" : ",", name);

    return status == 0 ? buf_append(out, value.bytes, value.size) : status;
}

/* ---- lines of batch files -----------------------------------------------------------------------
 */

static int check_batch_member(const char *key, const struct jval *value, void *arg)
{
    struct error_text *why = arg;
    size_t size = 0;
    const char *text = jval_string(value, &size);

    if (strcmp(key, "body") == 0)
        return jval_type(value) == JTYPE_OBJECT
                   ? 0
                   : error_set(why, ERR_INVALID, "body must be an object");
    if (strcmp(key, "custom_id") == 0)
        return text && size <= CUSTOM_ID_BYTES_MAX
                   ? 0
                   : error_set(why, ERR_INVALID, "custom_id must be a string of at most %d bytes",
                               CUSTOM_ID_BYTES_MAX);
    if (strcmp(key, "method") == 0)
        return text && strcmp(text, "POST") == 0
                   ? 0
                   : error_set(why, ERR_INVALID, "method must be POST");
    if (strcmp(key, "url") == 0)
        return text ? 0 : error_set(why, ERR_INVALID, "url must be a string");
    return error_set(why, ERR_INVALID, "%.100s is no field of a batch line", key);
}

static int convert_batch_line(const struct jdoc *doc, struct buf *out, struct slice *custom_id,
                              struct error_text *why)
{
    struct slice url, body;
    int status = jval_each(jdoc_root(doc), check_batch_member, why);

    if (status < 0)
        return status;
    if (jdoc_slice(doc, "url", &url.bytes, &url.size) < 0)
        return error_set(why, ERR_INVALID, "neither endpoint nor url is given");
    if (jdoc_slice(doc, "body", &body.bytes, &body.size) < 0)
        return error_set(why, ERR_INVALID, "body is missing");
    status = buf_append_char(out, '{');
    if (status == 0)
        status = put_member(out, "endpoint", url);
    if (status == 0)
        status = put_member(out, "body", body);
    if (status == 0 && jdoc_slice(doc, "custom_id", &custom_id->bytes, &custom_id->size) == 0) {
        status = buf_append_text(out, ",\"metadata\":{");
        if (status == 0)
            status = put_member(out, "custom_id", *custom_id);
        if (status == 0)
            status = buf_append_char(out, '}');
    }
    return status == 0 ? buf_append_char(out, '}') : status;
}

/* ---- any line -----------------------------------------------------------------------------------
 */

/* Behind the last member of the object that ends out. */
static int add_default(struct buf *out, const struct jval *root, const char *name,
                       const char *value)
{
    if (!value || jval_has(root, name))
        return 0;
    CHECK(out->data[out->size - 1] == '}');
    out->size--;
    int status = buf_printf(out, ",\"%s\":", name);
    if (status == 0)
        status = json_put_string(out, value, strlen(value));
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int convert(const struct jdoc *doc, struct slice line,
                   const struct job_line_defaults *defaults, struct buf *out,
                   struct slice *custom_id, struct error_text *why)
{
    const struct jval *root = jdoc_root(doc);
    int status;

    if (jval_type(root) != JTYPE_OBJECT)
        return error_set(why, ERR_INVALID, "a line must be a JSON object");
    if (!jval_has(root, "endpoint")) {
        status = convert_batch_line(doc, out, custom_id, why);
    } else {
        while (line.bytes[line.size - 1] != '}')
            line.size--; /* white space behind the object */
        status = buf_append(out, line.bytes, line.size);
    }
    if (status == 0)
        status = add_default(out, root, "priority", defaults->priority);
    return status == 0 ? add_default(out, root, "idempotency_key", defaults->idempotency_key)
                       : status;
}

int job_line_convert(struct slice line, const struct job_line_defaults *defaults, struct buf *out,
                     char **out_custom_id, struct error_text *why)
{
    struct slice custom_id = {0};
    struct jdoc *doc = NULL;
    size_t start = out->size;
    char *copy = NULL;
    int status = jdoc_parse(line.bytes, line.size, &doc, why);

    if (status < 0)
        return status;
    status = convert(doc, line, defaults, out, &custom_id, why);
    if (status == 0 && custom_id.size > 0) {
        copy = strndup(custom_id.bytes, custom_id.size);
        status = copy ? 0 : ERR_NOMEM;
    }
    jdoc_destroy(doc);
    if (status == ERR_TOO_BIG || status == ERR_NOMEM)
        (void)error_set(why, status, "%s", error_text_of(status));
    if (status < 0)
        out->size = start;
    else
        *out_custom_id = copy;
    return status;
}
