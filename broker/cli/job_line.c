#include "broker/cli/job_line.h"

#include <string.h>

#include "common/base/jdoc.h"

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

static int convert_batch_line(const struct jdoc *doc, struct buf *out, struct error_text *why)
{
    struct slice url, body, custom_id;
    int status = buf_append_char(out, '{');

    if (jdoc_slice(doc, "url", &url.bytes, &url.size) < 0)
        return error_set(why, ERR_INVALID, "neither endpoint nor url is given");
    if (jdoc_slice(doc, "body", &body.bytes, &body.size) < 0)
        return error_set(why, ERR_INVALID, "body is missing");
    if (status == 0)
        status = put_member(out, "endpoint", url);
    if (status == 0)
        status = put_member(out, "body", body);
    if (status == 0 && jdoc_slice(doc, "custom_id", &custom_id.bytes, &custom_id.size) == 0) {
        status = buf_append_text(out, ",\"metadata\":{");
        if (status == 0)
            status = put_member(out, "custom_id", custom_id);
        if (status == 0)
            status = buf_append_char(out, '}');
    }
    return status == 0 ? buf_append_char(out, '}') : status;
}

int job_line_convert(struct slice line, const char *priority, struct buf *out,
                     struct error_text *why)
{
    struct jdoc *doc = NULL;
    size_t start = out->size;
    int status = jdoc_parse(line.bytes, line.size, &doc, why);

    if (status < 0)
        return status;
    const struct jval *root = jdoc_root(doc);
    bool names_priority = jval_has(root, "priority");
    if (jval_type(root) != JTYPE_OBJECT)
        status = error_set(why, ERR_INVALID, "a line must be a JSON object");
    else if (jval_has(root, "endpoint"))
        status = buf_append(out, line.bytes, line.size);
    else
        status = convert_batch_line(doc, out, why);
    jdoc_destroy(doc);
    while (status == 0 && out->size > start && out->data[out->size - 1] != '}')
        out->size--; /* white space behind the object */
    if (status == 0 && priority && !names_priority) {
        out->size--;
        status = buf_append_text(out, ",\"priority\":");
        if (status == 0)
            status = json_put_string(out, priority, strlen(priority));
        if (status == 0)
            status = buf_append_char(out, '}');
    }
    if (status < 0)
        out->size = start;
    return status;
}
