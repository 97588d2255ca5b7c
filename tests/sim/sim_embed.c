/* Embeddings: vectors of unit length that depend on nothing but the input's text. */
#include "sim_reply.h"

#include <math.h>

enum {
    FIXED_BITS =
        16 /* components are multiples of 2^-16, so that float32 and decimal are both exact */
};

/* Equal texts, however escaped, have equal seeds. */
static uint64_t seed_of(const struct scan_value *input, struct text_buf *scratch)
{
    struct slice text = input->text;

    if (input->kind == SCAN_STRING) {
        scratch->size = 0;
        if (buf_reserve(scratch, text.size + 8) &&
            !scan_decode(input->text, scratch->data, scratch->capacity, &text))
            text = input->text;
        return text_hash(text.data, text.size, 2);
    }
    /* Token ids: white space between them means nothing. */
    uint64_t hash = 3;
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] > ' ')
            hash = text_mix(hash ^ (unsigned char)text.data[i]);
    return hash;
}

/* Components times 2^16, of a vector of length 1. */
static void make_vector(uint64_t seed, size_t dimensions, int32_t *out_fixed)
{
    uint64_t state = seed;
    double square_sum = 0;

    for (size_t i = 0; i < dimensions; i++) {
        double component = random_share(&state) * 2 - 1;
        square_sum += component * component;
    }
    double scale = (double)(1 << FIXED_BITS) / sqrt(square_sum);
    state = seed;
    for (size_t i = 0; i < dimensions; i++)
        out_fixed[i] = (int32_t)lround((random_share(&state) * 2 - 1) * scale);
}

/* value / 2^16 in decimal, exactly: 2^-16 has sixteen decimal places. */
static void put_fixed(struct text_buf *body, int32_t fixed)
{
    uint64_t parts = (uint64_t)(fixed < 0 ? -(int64_t)fixed : (int64_t)fixed);
    uint64_t whole = parts >> FIXED_BITS;
    uint64_t rest = (parts & ((1U << FIXED_BITS) - 1)) * UINT64_C(152587890625);
    char digits[16];
    size_t size = 16;

    if (fixed < 0)
        PUT(body, "-");
    put_u64(body, whole);
    if (rest == 0)
        return;
    for (size_t i = size; i > 0; i--) {
        digits[i - 1] = (char)('0' + (int)(rest % 10));
        rest /= 10;
    }
    while (digits[size - 1] == '0')
        size--;
    PUT(body, ".");
    put_bytes(body, digits, size);
}

static void put_base64_vector(struct text_buf *body, const int32_t *fixed, size_t dimensions)
{
    unsigned char bytes[REQUEST_DIMENSIONS_MAX * 4];

    for (size_t i = 0; i < dimensions; i++) {
        float component = (float)fixed[i] / (float)(1 << FIXED_BITS);
        uint32_t bits;
        memcpy(&bits, &component, sizeof(bits));
        for (size_t j = 0; j < 4; j++)
            bytes[i * 4 + j] = (unsigned char)(bits >> (8 * j));
    }
    PUT(body, "\"");
    put_base64(body, bytes, dimensions * 4);
    PUT(body, "\"");
}

static void put_embedding(const struct reply_context *context, const struct scan_value *input,
                          int64_t index, struct text_buf *body)
{
    int32_t fixed[REQUEST_DIMENSIONS_MAX];
    size_t dimensions = (size_t)context->request->dimensions;

    SIM_CHECK(dimensions > 0 && dimensions <= REQUEST_DIMENSIONS_MAX);
    make_vector(seed_of(input, context->text), dimensions, fixed);
    put_text(body, index == 0 ? "{" : ",{");
    PUT(body, "\"object\":\"embedding\",\"index\":");
    put_i64(body, index);
    PUT(body, ",\"embedding\":");
    if (context->request->is_base64) {
        put_base64_vector(body, fixed, dimensions);
    } else {
        for (size_t i = 0; i < dimensions; i++) {
            put_text(body, i == 0 ? "[" : ",");
            put_fixed(body, fixed[i]);
        }
        PUT(body, "]");
    }
    PUT(body, "}");
}

void reply_render_embeddings(const struct reply_context *context, struct text_buf *body)
{
    const struct gen_request *request = context->request;
    struct scan_cursor cursor;
    struct scan_value input = {.kind = SCAN_NONE};
    bool is_list = request->prompt.kind == SCAN_ARRAY &&
                   scan_open(request->prompt.text, '[', &cursor) &&
                   scan_element(&cursor, &input) == 1 && input.kind != SCAN_NUMBER;

    PUT(body, "{\"object\":\"list\",\"data\":[");
    if (is_list) {
        int64_t index = 0;
        do
            put_embedding(context, &input, index++, body);
        while (scan_element(&cursor, &input) == 1 && !body->is_overflowed);
    } else {
        put_embedding(context, &request->prompt, 0, body);
    }
    PUT(body, "],");
    put_model(body, request);
    PUT(body, ",\"usage\":{\"prompt_tokens\":");
    put_i64(body, request->prompt_tokens);
    PUT(body, ",\"total_tokens\":");
    put_i64(body, request->prompt_tokens);
    PUT(body, "}}");
}
