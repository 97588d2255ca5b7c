#include "worker/providers/error_body.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/jdoc.h"
#include "common/base/text.h"

const char *error_status_text(int http_status)
{
    static const struct {
        int status;
        const char *text;
    } names[] = {{400, "Bad Request"},
                 {401, "Unauthorized"},
                 {402, "Payment Required"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {413, "Content Too Large"},
                 {415, "Unsupported Media Type"},
                 {422, "Unprocessable Content"},
                 {424, "Failed Dependency"},
                 {425, "Too Early"},
                 {429, "Too Many Requests"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {502, "Bad Gateway"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"},
                 {529, "Overloaded"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].status == http_status)
            return names[i].text;
    }
    return "";
}

/* --- cleaning ------------------------------------------------------------ */

/* Validation errors of Python servers print the offending input behind these words. */
static size_t cut_input(const char *text, size_t size)
{
    static const char *const marks[] = {"'input':", "\"input\":", "input_value=", "[input="};

    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        const char *at = memmem(text, size, marks[i], strlen(marks[i]));
        if (at)
            size = (size_t)(at - text);
    }
    return size;
}

/* Size of the quotation that starts here, quotes included; 0: none, or a short one, or one without
 * spaces (a name, not a sentence). One that is never closed reaches to the end. */
static size_t quotation(const char *text, size_t size)
{
    char quote = text[0];
    bool has_space = false;

    if (quote != '"' && quote != '\'' && quote != '`')
        return 0;
    for (size_t i = 1; i < size; i++) {
        has_space = has_space || text[i] == ' ' || text[i] == '\n';
        if (text[i] == quote)
            return has_space && i > ERROR_BODY_QUOTE_MAX ? i + 1 : 0;
    }
    return has_space && size > ERROR_BODY_QUOTE_MAX && quote != '\'' ? size : 0;
}

static size_t secret(const char *text, size_t size)
{
    static const char *const starts[] = {"sk-", "Bearer "};

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        size_t start = strlen(starts[i]);
        if (size <= start || memcmp(text, starts[i], start) != 0)
            continue;
        size_t end = start;
        while (end < size && !strchr(" \t\r\n\"',;)}", text[end]))
            end++;
        return end;
    }
    return 0;
}

static bool is_word_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_';
}

/* Copies a message, leaving out what it should not carry on. */
static void put_message(struct error_body *out, const char *text, size_t size)
{
    struct buf clean;

    size = cut_input(text, size);
    buf_init(&clean, sizeof out->message - 1);
    int status = 0;
    for (size_t at = 0; at < size && status == 0;) {
        bool is_word_start = at == 0 || !is_word_byte(text[at - 1]);
        size_t quoted = is_word_start ? quotation(text + at, size - at) : 0;
        size_t hidden = is_word_start ? secret(text + at, size - at) : 0;
        if (quoted > 0) {
            status = buf_append_text(&clean, "\"...\"");
            at += quoted;
        } else if (hidden > 0) {
            status = buf_append_text(&clean, "***");
            at += hidden;
        } else {
            status = buf_append_char(&clean, text[at++]);
        }
    }
    if (clean.size > 0)
        memcpy(out->message, clean.data, clean.size);
    out->message[clean.size] = '\0';
    buf_deinit(&clean);
}

/* --- shapes -------------------------------------------------------------- */

static void put_word(char out[64], const struct jval *value)
{
    size_t size;
    const char *text = jval_string(value, &size);
    int64_t number;

    if (text && size < 64 && text_is_utf8(text, size)) {
        memcpy(out, text, size);
        out[size] = '\0';
    } else if (!text && jval_type(value) == JTYPE_INT &&
               jval_i64(value, INT64_MIN, INT64_MAX, &number) == 0) {
        (void)snprintf(out, 64, "%" PRId64, number);
    }
}

static bool put_text(struct error_body *out, const struct jval *value)
{
    size_t size;
    const char *text = jval_string(value, &size);
    if (!text)
        return false;
    put_message(out, text, size);
    return true;
}

/* {"message", "type", "code"}, on the top or inside "error". */
static void read_object(struct error_body *out, const struct jval *object)
{
    put_word(out->type, jval_get(object, "type"));
    put_word(out->code, jval_get(object, "code"));
    (void)put_text(out, jval_get(object, "message"));
}

/* FastAPI: "detail" is a text, an object, or a list of {"loc": ["body", "messages"], "msg": "…",
 * "input": the request}. */
static void read_detail(struct error_body *out, const struct jval *detail)
{
    if (put_text(out, detail))
        return;
    if (jval_type(detail) == JTYPE_OBJECT) {
        read_object(out, detail);
        return;
    }
    if (jval_type(detail) != JTYPE_ARRAY || jval_count(detail) == 0)
        return;
    const struct jval *first = jval_at(detail, 0);
    const struct jval *place = jval_get(first, "loc");
    struct buf text;

    buf_init(&text, ERROR_BODY_BYTES_MAX);
    for (size_t i = 0; i < jval_count(place) && i < 16; i++) {
        size_t size;
        int64_t index;
        const char *part = jval_string(jval_at(place, i), &size);
        int status = 0;
        if (part && size <= 64)
            status = buf_printf(&text, "%s%.*s", text.size > 0 ? "." : "", (int)size, part);
        else if (jval_i64(jval_at(place, i), 0, INT64_MAX, &index) == 0)
            status = buf_printf(&text, ".%" PRId64, index);
        if (status < 0)
            break;
    }
    size_t size;
    const char *message = jval_string(jval_get(first, "msg"), &size);
    if (message && buf_append_text(&text, text.size > 0 ? ": " : "") == 0 &&
        buf_append(&text, message, size) == 0)
        put_message(out, text.data, text.size);
    buf_deinit(&text);
}

void error_body_read(struct slice body, struct error_body *out)
{
    struct jdoc *doc = NULL;

    *out = (struct error_body){.message = ""};
    if (body.size == 0 || body.size > ERROR_BODY_BYTES_MAX ||
        jdoc_parse(body.bytes, body.size, &doc, NULL) < 0)
        return;
    const struct jval *root = jdoc_root(doc);
    const struct jval *error = jval_get(root, "error");
    if (jval_type(root) == JTYPE_OBJECT) {
        if (jval_type(error) == JTYPE_OBJECT) {
            read_object(out, error);
        } else if (put_text(out, error)) {
            put_word(out->type, jval_get(root, "error_type"));
        } else if (jval_has(root, "detail") && !jval_has(root, "message")) {
            read_detail(out, jval_get(root, "detail"));
        } else {
            read_object(out, root);
        }
    }
    jdoc_destroy(doc);
}
