#include "worker/providers/json_member.h"

#include "common/base/error.h"
#include "common/base/jdoc.h"

static size_t skip_space(struct slice text, size_t at)
{
    while (at < text.size && (text.bytes[at] == ' ' || text.bytes[at] == '\n' ||
                              text.bytes[at] == '\r' || text.bytes[at] == '\t'))
        at++;
    return at;
}

/* Behind the closing quote of the string that starts at `at`; text.size + 1 when it has none. */
static size_t skip_string(struct slice text, size_t at)
{
    for (at++; at < text.size; at++) {
        if (text.bytes[at] == '\\')
            at++;
        else if (text.bytes[at] == '"')
            return at + 1;
    }
    return text.size + 1;
}

/* Behind the value that starts at `at`; beyond text.size when it is cut off. */
static size_t skip_value(struct slice text, size_t at)
{
    size_t depth = 0;

    while (at < text.size) {
        char c = text.bytes[at];
        if (c == '"') {
            at = skip_string(text, at);
        } else if (c == '{' || c == '[') {
            depth++;
            at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0)
                return at;
            depth--;
            at++;
        } else if (depth == 0 && (c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t')) {
            return at;
        } else {
            at++;
            continue;
        }
        if (depth == 0)
            return at;
    }
    return text.size + 1;
}

/* A key with escapes may be any key: only a parser can tell. */
static int find_by_parsing(struct slice text, const char *key, struct slice *out_value)
{
    struct jdoc *doc = NULL;
    int status = jdoc_parse(text.bytes, text.size, &doc, NULL);
    if (status == 0)
        status = jdoc_slice(doc, key, &out_value->bytes, &out_value->size);
    jdoc_destroy(doc);
    return status;
}

int json_member_find(struct slice text, const char *key, struct slice *out_value)
{
    size_t at = skip_space(text, 0);
    if (at >= text.size || text.bytes[at] != '{')
        return ERR_INVALID;
    at = skip_space(text, at + 1);
    while (at < text.size && text.bytes[at] == '"') {
        size_t key_end = skip_string(text, at);
        if (key_end > text.size)
            return ERR_INVALID;
        struct slice name = {text.bytes + at + 1, key_end - at - 2};
        if (name.size > 0 && memchr(name.bytes, '\\', name.size))
            return find_by_parsing(text, key, out_value);
        at = skip_space(text, key_end);
        if (at >= text.size || text.bytes[at] != ':')
            return ERR_INVALID;
        at = skip_space(text, at + 1);
        size_t value_end = skip_value(text, at);
        if (value_end > text.size || value_end == at)
            return ERR_INVALID;
        if (slice_is(name, key)) {
            *out_value = (struct slice){text.bytes + at, value_end - at};
            return 0;
        }
        at = skip_space(text, value_end);
        if (at < text.size && text.bytes[at] == ',')
            at = skip_space(text, at + 1);
    }
    return at < text.size && text.bytes[at] == '}' ? ERR_NOT_FOUND : ERR_INVALID;
}

bool json_value_is_string(struct slice value, struct slice string)
{
    if (value.size != string.size + 2 || value.bytes[0] != '"' ||
        value.bytes[value.size - 1] != '"')
        return false;
    struct slice inside = {value.bytes + 1, string.size};
    return slice_equal(inside, string) &&
           (string.size == 0 || !memchr(inside.bytes, '\\', inside.size));
}
