/* Vectors as base64: what the official SDKs ask for by default, also of upstreams that only know
 * numbers. */
#include <stdint.h>
#include <string.h>

#include "common/dialect/openai.h"

enum { ANSWER_ITEMS_MAX = 1 << 20 };

bool openai_wants_base64(const struct jval *request)
{
    size_t size = 0;
    const char *format = jval_string(jval_get(request, "encoding_format"), &size);

    return format && slice_is((struct slice){.bytes = format, .size = size}, "base64");
}

static int put_base64(struct buf *out, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int status = buf_reserve(out, (size + 2) / 3 * 4);

    for (size_t i = 0; status == 0 && i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (left > 1)
            group |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2)
            group |= bytes[i + 2];
        char text[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        left > 1 ? digits[group >> 6 & 63] : '=',
                        left > 2 ? digits[group & 63] : '='};
        status = buf_append(out, text, sizeof(text));
    }
    return status;
}

/* Twelve bytes (three floats) make sixteen characters, so pieces of that size need no padding
 * between. */
static int put_vector(struct buf *out, const struct jval *vector)
{
    uint8_t bytes[12 * 64];
    size_t used = 0;
    size_t count = jval_count(vector);
    int status = buf_append_char(out, '"');

    for (size_t i = 0; status == 0 && i < count; i++) {
        double number = 0;
        if (jval_double(jval_at(vector, i), &number) < 0)
            return ERR_INVALID;
        float narrow = (float)number;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof(bits));
        for (unsigned b = 0; b < 4; b++)
            bytes[used++] = (uint8_t)(bits >> (8 * b));
        if (used == sizeof(bytes)) {
            status = put_base64(out, bytes, used);
            used = 0;
        }
    }
    if (status == 0)
        status = put_base64(out, bytes, used);
    return status == 0 ? buf_append_char(out, '"') : status;
}

struct object_copy {
    struct buf *out;
    const char *special; /* member that is not copied but … */
    int (*put_special)(struct buf *out, const struct jval *value);
    bool has_first;
};

static int copy_member(const char *key, const struct jval *value, void *arg)
{
    struct object_copy *copy = arg;
    int status = copy->has_first ? buf_append_char(copy->out, ',') : 0;

    copy->has_first = true;
    if (status == 0)
        status = json_put_string(copy->out, key, strlen(key));
    if (status == 0)
        status = buf_append_char(copy->out, ':');
    if (status < 0)
        return status;
    if (strcmp(key, copy->special) == 0)
        return copy->put_special(copy->out, value);
    return jval_print(value, copy->out);
}

static int copy_object(struct buf *out, const struct jval *object, const char *special,
                       int (*put_special)(struct buf *, const struct jval *))
{
    struct object_copy copy = {.out = out, .special = special, .put_special = put_special};
    int status = buf_append_char(out, '{');

    if (status == 0)
        status = jval_each(object, copy_member, &copy);
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int put_items(struct buf *out, const struct jval *items)
{
    size_t count = jval_count(items);
    int status = buf_append_char(out, '[');

    for (size_t i = 0; status == 0 && i < count; i++) {
        if (i > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = copy_object(out, jval_at(items, i), "embedding", put_vector);
    }
    return status == 0 ? buf_append_char(out, ']') : status;
}

/* Every item must be an object with an array of numbers, or nothing is touched. */
static bool has_number_vectors(const struct jval *root)
{
    const struct jval *items = jval_type(root) == JTYPE_OBJECT ? jval_get(root, "data") : NULL;
    size_t count = jval_type(items) == JTYPE_ARRAY ? jval_count(items) : 0;

    if (count == 0 || count > ANSWER_ITEMS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct jval *item = jval_at(items, i);
        if (jval_type(item) != JTYPE_OBJECT ||
            jval_type(jval_get(item, "embedding")) != JTYPE_ARRAY)
            return false;
    }
    return true;
}

int openai_encode_embeddings(struct slice body, struct buf *out)
{
    struct jdoc *doc = NULL;
    size_t before = out->size;
    int status;

    if (jdoc_parse(body.bytes, body.size, &doc, NULL) < 0)
        return 0;
    if (!has_number_vectors(jdoc_root(doc))) {
        status = 0;
    } else {
        status = copy_object(out, jdoc_root(doc), "data", put_items);
        status = status == 0 ? 1 : status;
    }
    jdoc_destroy(doc);
    if (status == ERR_INVALID) {
        out->size = before; /* something else than numbers in a vector: leave the answer alone */
        status = 0;
    }
    return status;
}
