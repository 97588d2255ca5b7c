/* Embeddings: vectors of unit length that depend on nothing but the input's text. */
#include "sim_reply.h"

#include <math.h>

enum {
    FIXED_BITS = 16, /* components are multiples of 2^-16: exact in float32, short in decimal */
    GROUP_COUNT = 12 /* floats whose bytes are a multiple of 3: base64 pads the last group only */
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

/* A vector is never stored: the same seed gives the same components again. */
struct vector {
    uint64_t state;
    double scale; /* makes the length 1, in units of 2^-16 */
};

static struct vector open_vector(uint64_t seed, int64_t dimensions)
{
    uint64_t state = seed;
    double square_sum = 0;

    for (int64_t i = 0; i < dimensions; i++) {
        double component = random_share(&state) * 2 - 1;
        square_sum += component * component;
    }
    return (struct vector){seed, (double)(1 << FIXED_BITS) / sqrt(square_sum)};
}

static int32_t next_component(struct vector *vector)
{
    return (int32_t)lround((random_share(&vector->state) * 2 - 1) * vector->scale);
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

static void put_base64_vector(struct text_buf *body, struct vector *vector, int64_t dimensions)
{
    unsigned char bytes[GROUP_COUNT * 4];

    PUT(body, "\"");
    while (dimensions > 0) {
        size_t size = 0;
        for (; size < sizeof(bytes) && dimensions > 0; dimensions--) {
            float component = (float)next_component(vector) / (float)(1 << FIXED_BITS);
            uint32_t bits;
            memcpy(&bits, &component, sizeof(bits));
            for (int shift = 0; shift < 32; shift += 8)
                bytes[size++] = (unsigned char)(bits >> shift);
        }
        put_base64(body, bytes, size);
    }
    PUT(body, "\"");
}

static void put_embedding(const struct reply_context *context, const struct scan_value *input,
                          int64_t index, struct text_buf *body)
{
    int64_t dimensions = context->request->dimensions;
    struct vector vector = open_vector(seed_of(input, context->text), dimensions);

    put_text(body, index == 0 ? "{" : ",{");
    PUT(body, "\"object\":\"embedding\",\"index\":");
    put_i64(body, index);
    PUT(body, ",\"embedding\":");
    if (context->request->is_base64) {
        put_base64_vector(body, &vector, dimensions);
    } else {
        for (int64_t i = 0; i < dimensions; i++) {
            put_text(body, i == 0 ? "[" : ",");
            put_fixed(body, next_component(&vector));
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
