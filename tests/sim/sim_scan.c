#include "sim_scan.h"

#include "sim_text.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

static int hex_value(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    if (letter >= 'a' && letter <= 'f')
        return letter - 'a' + 10;
    if (letter >= 'A' && letter <= 'F')
        return letter - 'A' + 10;
    return -1;
}

/* `at` stands behind "\u"; -1 unless four hexadecimal digits follow. */
static int hex_unit(const char *at, const char *end)
{
    int unit = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* Skip plain ASCII many bytes at a time; stops at or before the first byte that needs a look. */
static const char *skip_plain(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i slash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(' ');

    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* Compared as signed, bytes from 0x80 on are less than a space too. */
        __m128i special =
            _mm_or_si128(_mm_cmplt_epi8(bytes, space),
                         _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, slash)));
        int mask = _mm_movemask_epi8(special);
        if (mask != 0)
            return at + __builtin_ctz((unsigned)mask);
        at += 16;
    }
#else
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);

    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        uint64_t quote = word ^ ones * '"';
        uint64_t slash = word ^ ones * '\\';
        uint64_t special =
            ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | (word - ones * 0x20) | word;
        if (special & highs)
            break;
        at += 8;
    }
#endif
    return at;
}

/* `at` stands behind the opening quote; returns the closing quote or NULL. */
static const char *skip_string(const char *at, const char *end)
{
    for (;;) {
        at = skip_plain(at, end);
        if (at == end)
            return NULL;
        unsigned char letter = (unsigned char)*at;
        if (letter == '"')
            return at;
        if (letter == '\\') {
            if (end - at < 2)
                return NULL;
            if (at[1] == 'u') {
                if (hex_unit(at + 2, end) < 0)
                    return NULL;
                at += 6;
            } else if (memchr("\"\\/bfnrt", at[1], 8) != NULL) {
                at += 2;
            } else {
                return NULL;
            }
        } else if (letter < 0x20) {
            return NULL;
        } else {
            size_t size = text_utf8_size(at, end);
            if (size == 0)
                return NULL;
            at += size;
        }
    }
}

static const char *skip_digits(const char *at, const char *end)
{
    const char *start = at;

    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at == start ? NULL : at;
}

static const char *skip_number(const char *at, const char *end)
{
    if (at < end && *at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else
        at = skip_digits(at, end);
    if (at != NULL && at < end && *at == '.')
        at = skip_digits(at + 1, end);
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = skip_digits(at, end);
    }
    return at;
}

static const char *skip_word(const char *at, const char *end, const char *word, size_t size)
{
    if ((size_t)(end - at) < size || memcmp(at, word, size) != 0)
        return NULL;
    return at + size;
}

/* A value that holds no others; `at` stands on its first byte. */
static const char *skip_scalar(const char *at, const char *end, struct scan_value *out_value)
{
    const char *next;

    switch (*at) {
    case '"':
        out_value->kind = SCAN_STRING;
        next = skip_string(at + 1, end);
        if (next == NULL)
            return NULL;
        out_value->text = (struct slice){at + 1, (size_t)(next - at - 1)};
        return next + 1;
    case 't':
        out_value->kind = SCAN_TRUE;
        next = skip_word(at, end, "true", 4);
        break;
    case 'f':
        out_value->kind = SCAN_FALSE;
        next = skip_word(at, end, "false", 5);
        break;
    case 'n':
        out_value->kind = SCAN_NULL;
        next = skip_word(at, end, "null", 4);
        break;
    default:
        out_value->kind = SCAN_NUMBER;
        next = skip_number(at, end);
        break;
    }
    if (next != NULL)
        out_value->text = (struct slice){at, (size_t)(next - at)};
    return next;
}

/* The brackets that are open, one bit each: set for an object. */
struct nesting {
    uint64_t is_object[SCAN_DEPTH_MAX / 64];
    unsigned depth;
};

static bool nesting_push(struct nesting *nesting, bool is_object)
{
    if (nesting->depth == SCAN_DEPTH_MAX)
        return false;
    uint64_t bit = UINT64_C(1) << (nesting->depth % 64);
    if (is_object)
        nesting->is_object[nesting->depth / 64] |= bit;
    else
        nesting->is_object[nesting->depth / 64] &= ~bit;
    nesting->depth++;
    return true;
}

static bool nesting_in_object(const struct nesting *nesting)
{
    unsigned top = nesting->depth - 1;

    return nesting->is_object[top / 64] >> (top % 64) & 1;
}

/* A key with its colon; returns the first byte behind them. */
static const char *skip_key(const char *at, const char *end, struct slice *out_key)
{
    if (at == end || *at != '"')
        return NULL;
    const char *quote = skip_string(at + 1, end);
    if (quote == NULL)
        return NULL;
    *out_key = (struct slice){at + 1, (size_t)(quote - at - 1)};
    at = skip_space(quote + 1, end);
    return at < end && *at == ':' ? skip_space(at + 1, end) : NULL;
}

/* `at` stands on '{' or '['; returns the first byte behind the matching bracket. */
static const char *skip_container(const char *at, const char *end)
{
    struct nesting nesting = {.depth = 0};
    struct scan_value ignored;
    struct slice key;
    bool is_fresh = false; /* right behind an opening bracket */

    for (;;) {
        if (at == end)
            return NULL;
        bool is_closing = nesting.depth > 0 && *at == (nesting_in_object(&nesting) ? '}' : ']');
        if (is_closing && is_fresh) {
            nesting.depth--;
            at++;
        } else {
            if (nesting.depth > 0 && nesting_in_object(&nesting)) {
                at = skip_key(at, end, &key);
                if (at == NULL || at == end)
                    return NULL;
            }
            if (*at == '{' || *at == '[') {
                if (!nesting_push(&nesting, *at == '{'))
                    return NULL;
                is_fresh = true;
                at = skip_space(at + 1, end);
                continue;
            }
            at = skip_scalar(at, end, &ignored);
            if (at == NULL)
                return NULL;
        }
        /* A value is complete: close brackets until a comma asks for another one. */
        for (;;) {
            if (nesting.depth == 0)
                return at;
            at = skip_space(at, end);
            if (at == end)
                return NULL;
            if (*at == ',')
                break;
            if (*at != (nesting_in_object(&nesting) ? '}' : ']'))
                return NULL;
            nesting.depth--;
            at++;
        }
        is_fresh = false;
        at = skip_space(at + 1, end);
    }
}

static const char *skip_value(const char *at, const char *end, struct scan_value *out_value)
{
    if (at == end)
        return NULL;
    if (*at != '{' && *at != '[')
        return skip_scalar(at, end, out_value);
    const char *next = skip_container(at, end);
    if (next == NULL)
        return NULL;
    out_value->kind = *at == '{' ? SCAN_OBJECT : SCAN_ARRAY;
    out_value->text = (struct slice){at, (size_t)(next - at)};
    return next;
}

bool scan_open(struct slice text, char bracket, struct scan_cursor *out_cursor)
{
    const char *end = text.data + text.size;
    const char *at = skip_space(text.data, end);

    if (at == end || *at != bracket)
        return false;
    *out_cursor = (struct scan_cursor){.at = at + 1, .end = end, .is_first = true};
    return true;
}

/* Step over the comma or the closing bracket: 1 when an item follows, 0 at the end, -1 bad. */
static int cursor_step(struct scan_cursor *cursor, char closing)
{
    const char *at = skip_space(cursor->at, cursor->end);

    if (at == cursor->end)
        return -1;
    if (*at == closing) {
        cursor->at = at + 1;
        return 0;
    }
    if (!cursor->is_first) {
        if (*at != ',')
            return -1;
        at = skip_space(at + 1, cursor->end);
    }
    cursor->is_first = false;
    cursor->at = at;
    return 1;
}

int scan_member(struct scan_cursor *cursor, struct slice *out_key, struct scan_value *out_value)
{
    int step = cursor_step(cursor, '}');

    if (step != 1)
        return step;
    const char *at = skip_key(cursor->at, cursor->end, out_key);
    if (at == NULL)
        return -1;
    at = skip_value(at, cursor->end, out_value);
    if (at == NULL)
        return -1;
    cursor->at = at;
    return 1;
}

int scan_element(struct scan_cursor *cursor, struct scan_value *out_value)
{
    int step = cursor_step(cursor, ']');

    if (step != 1)
        return step;
    const char *at = skip_value(cursor->at, cursor->end, out_value);
    if (at == NULL)
        return -1;
    cursor->at = at;
    return 1;
}

bool scan_starts_with(const struct scan_value *array, char letter)
{
    const char *end = array->text.data + array->text.size;
    const char *at = skip_space(array->text.data + 1, end);

    return at < end && *at == letter;
}

bool scan_is_end(const struct scan_cursor *cursor)
{
    return skip_space(cursor->at, cursor->end) == cursor->end;
}

static size_t encode_utf8(unsigned code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 63));
        out[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 63));
    out[2] = (char)(0x80 | (code >> 6 & 63));
    out[3] = (char)(0x80 | (code & 63));
    return 4;
}

/* `*at` stands behind a backslash of a validated string; writes at most four bytes. */
static size_t decode_escape(const char **at, const char *end, char *out)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    char letter = *(*at)++;

    if (letter != 'u') {
        const char *found = strchr(letters, letter);
        SIM_CHECK(found != NULL);
        out[0] = meanings[found - letters];
        return 1;
    }
    unsigned code = (unsigned)hex_unit(*at, end);
    *at += 4;
    if (code >= 0xD800 && code < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        unsigned low = (unsigned)hex_unit(*at + 2, end);
        if (low >= 0xDC00 && low < 0xE000) {
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            *at += 6;
        }
    }
    if (code >= 0xD800 && code < 0xE000)
        code = 0xFFFD;
    return encode_utf8(code, out);
}

bool scan_decode(struct slice raw, char *room, size_t room_size, struct slice *out_text)
{
    const char *at = raw.data;
    const char *end = raw.data + raw.size;
    size_t size = 0;

    if (raw.size == 0 || memchr(raw.data, '\\', raw.size) == NULL) {
        *out_text = raw;
        return true;
    }
    while (at < end) {
        if (room_size - size < 4)
            return false;
        if (*at == '\\') {
            at++;
            size += decode_escape(&at, end, room + size);
        } else {
            room[size++] = *at++;
        }
    }
    *out_text = (struct slice){room, size};
    return true;
}
