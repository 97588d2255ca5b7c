/* The strict pass: grammar, UTF-8, depth, counts and places. No recursion: one bit a level says
 * whether it is an object. */
#include "common/base/jdoc_scan.h"

#include <string.h>

#include "common/base/error.h"
#include "common/base/jdoc.h"
#include "common/base/text.h"

/* Integers of so many digits may exceed what a double can hold. */
enum { DIGITS_SAFE = 300 };

enum expected {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* after '{' */
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING
};

struct cursor {
    const char *text;
    size_t size;
    size_t at;
    unsigned depth;
    uint64_t object_bits; /* bit of level n (from 0): it is an object */
    uint32_t object_count;
    uint32_t object_of[JDOC_DEPTH_MAX];
    struct json_member top; /* the member of the top-level object that is being read */
    const struct json_scan_hooks *hooks;
    struct json_scan *out;
};

static int fail(struct cursor *cursor, size_t at, const char *error)
{
    cursor->out->error = error;
    cursor->out->error_at = at;
    return ERR_INVALID;
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->size) {
        char c = cursor->text[cursor->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        cursor->at++;
    }
}

static bool is_over(const struct cursor *cursor, size_t count, size_t count_max)
{
    return count > count_max && !(cursor->hooks && cursor->hooks->has_no_tree);
}

static bool in_object(const struct cursor *cursor)
{
    return cursor->depth > 0 && (cursor->object_bits >> (cursor->depth - 1) & 1) != 0;
}

/* Whether one of eight bytes is a quote, a backslash, a control character or not ASCII. */
static bool has_special(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t quotes = word ^ ones * '"';
    uint64_t slashes = word ^ ones * '\\';

    return (((word - ones * 0x20) | (quotes - ones) | (slashes - ones) | word) & tops) != 0;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \uD8xx to \uDBxx, or with `low` \uDCxx to \uDFxx. */
static bool is_surrogate(const char *at, bool low)
{
    char c = (char)(at[3] | 0x20);

    if ((at[2] | 0x20) != 'd')
        return false;
    return low ? c >= 'c' && c <= 'f' : at[3] == '8' || at[3] == '9' || c == 'a' || c == 'b';
}

/* Of a key, \u and four digits stand at the cursor. NUL would cut the key, and half a surrogate
 * pair would become another key in the next parser. */
static int scan_key_escape(struct cursor *cursor)
{
    const char *at = cursor->text + cursor->at;
    size_t left = cursor->size - cursor->at;

    if (memcmp(at + 2, "0000", 4) == 0)
        return fail(cursor, cursor->at, "NUL in a key");
    if (is_surrogate(at, true))
        return fail(cursor, cursor->at, "half a surrogate pair in a key");
    if (!is_surrogate(at, false)) {
        cursor->at += 6;
        return 0;
    }
    if (left < 12 || at[6] != '\\' || at[7] != 'u' || !is_surrogate(at + 6, true) ||
        !is_hex(at[10]) || !is_hex(at[11]))
        return fail(cursor, cursor->at, "half a surrogate pair in a key");
    cursor->at += 12;
    return 0;
}

static int scan_escape(struct cursor *cursor, bool is_key)
{
    const char *at = cursor->text + cursor->at;
    size_t left = cursor->size - cursor->at;

    if (left < 2)
        return fail(cursor, cursor->size, "text ends inside a string");
    if (at[1] != 'u') {
        if (!memchr("\"\\/bfnrt", at[1], 8))
            return fail(cursor, cursor->at, "unknown escape in a string");
        cursor->at += 2;
        return 0;
    }
    for (size_t i = 2; i < 6; i++) {
        if (i >= left)
            return fail(cursor, cursor->size, "text ends inside a string");
        if (!is_hex(at[i]))
            return fail(cursor, cursor->at, "\\u needs four hexadecimal digits");
    }
    if (is_key)
        return scan_key_escape(cursor);
    cursor->at += 6;
    return 0;
}

/* From the opening quote to behind the closing one. */
static int scan_string(struct cursor *cursor, bool is_key)
{
    cursor->at++;
    while (cursor->at < cursor->size) {
        uint64_t word;
        if (cursor->size - cursor->at >= sizeof word) {
            memcpy(&word, cursor->text + cursor->at, sizeof word);
            if (!has_special(word)) {
                cursor->at += sizeof word;
                continue;
            }
        }
        unsigned char c = (unsigned char)cursor->text[cursor->at];
        if (c == '"') {
            cursor->at++;
            return 0;
        }
        if (c == '\\') {
            int status = scan_escape(cursor, is_key);
            if (status < 0)
                return status;
        } else if (c < 0x20) {
            return fail(cursor, cursor->at, "control character in a string");
        } else {
            size_t count = text_utf8_sequence(cursor->text + cursor->at, cursor->size - cursor->at);
            if (count == 0)
                return fail(cursor, cursor->at, "invalid UTF-8");
            cursor->at += count;
        }
    }
    return fail(cursor, cursor->size, "text ends inside a string");
}

/* Number of digits from here on. */
static size_t skip_digits(struct cursor *cursor)
{
    size_t start = cursor->at;
    while (cursor->at < cursor->size && cursor->text[cursor->at] >= '0' &&
           cursor->text[cursor->at] <= '9')
        cursor->at++;
    return cursor->at - start;
}

static bool is_next(const struct cursor *cursor, char c)
{
    return cursor->at < cursor->size && cursor->text[cursor->at] == c;
}

static int scan_number(struct cursor *cursor)
{
    size_t start = cursor->at;
    bool has_exponent = false;
    bool is_integer = true;

    if (is_next(cursor, '-'))
        cursor->at++;
    bool has_zero = is_next(cursor, '0');
    size_t digits = skip_digits(cursor);
    if (digits == 0)
        return fail(cursor, start, "a number needs digits");
    if (has_zero && digits > 1)
        return fail(cursor, start, "a number may not start with 0");
    if (is_next(cursor, '.')) {
        is_integer = false;
        cursor->at++;
        if (skip_digits(cursor) == 0)
            return fail(cursor, start, "a number needs digits after its point");
    }
    if (is_next(cursor, 'e') || is_next(cursor, 'E')) {
        is_integer = false;
        has_exponent = true;
        cursor->at++;
        if (is_next(cursor, '+') || is_next(cursor, '-'))
            cursor->at++;
        if (skip_digits(cursor) == 0)
            return fail(cursor, start, "a number needs digits in its exponent");
    }
    double value;
    if ((has_exponent || digits > DIGITS_SAFE) &&
        text_parse_double(cursor->text + start, cursor->at - start, &value) < 0)
        return fail(cursor, start, "number out of range");
    if (is_integer && json_scan_is_wide_integer(cursor->text + start, cursor->at - start))
        cursor->out->has_wide_integer = true;
    return 0;
}

bool json_scan_is_wide_integer(const char *number, size_t size)
{
    int64_t value;

    if (size <= 18) /* fits with or without sign */
        return false;
    for (size_t i = 0; i < size; i++) {
        if (number[i] == '.' || number[i] == 'e' || number[i] == 'E')
            return false;
    }
    return text_parse_i64(number, size, INT64_MIN, INT64_MAX, &value) < 0;
}

static int scan_word(struct cursor *cursor)
{
    static const char words[3][6] = {"true", "false", "null"};

    for (size_t i = 0; i < 3; i++) {
        size_t size = strlen(words[i]);
        if (cursor->size - cursor->at >= size &&
            memcmp(cursor->text + cursor->at, words[i], size) == 0) {
            cursor->at += size;
            return 0;
        }
    }
    return fail(cursor, cursor->at, "a value was expected");
}

/* A whole value was read: of the top-level object's members the place is noted. */
static enum expected after_value(struct cursor *cursor)
{
    struct json_scan *out = cursor->out;

    if (cursor->depth == 0)
        return EXPECT_NOTHING;
    if (cursor->depth == 1 && in_object(cursor)) {
        cursor->top.value_size = (uint32_t)(cursor->at - cursor->top.value_at);
        if (out->top_count < JSON_SCAN_TOP_MAX)
            out->top[out->top_count] = cursor->top;
        out->top_count++;
        if (cursor->hooks && cursor->hooks->on_top)
            cursor->hooks->on_top(cursor->hooks->arg, &cursor->top);
    }
    return EXPECT_COMMA_OR_END;
}

static int open_container(struct cursor *cursor, bool is_object, enum expected *out_next)
{
    if (cursor->depth == JDOC_DEPTH_MAX)
        return fail(cursor, cursor->at, "nested too deep");
    if (is_over(cursor, ++cursor->out->container_count, JSON_SCAN_CONTAINERS_MAX))
        return fail(cursor, cursor->at, "too many arrays and objects");
    uint64_t bit = UINT64_C(1) << cursor->depth;
    cursor->object_bits = is_object ? cursor->object_bits | bit : cursor->object_bits & ~bit;
    if (is_object)
        cursor->object_of[cursor->depth] = cursor->object_count++;
    cursor->depth++;
    cursor->at++;
    *out_next = is_object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return 0;
}

static int scan_value(struct cursor *cursor, enum expected *out_next)
{
    char c = cursor->text[cursor->at];
    int status;

    if (is_over(cursor, ++cursor->out->value_count, JSON_SCAN_VALUES_MAX))
        return fail(cursor, cursor->at, "too many values");
    if (cursor->depth == 1)
        cursor->top.value_at = (uint32_t)cursor->at;
    if (c == '{' || c == '[')
        return open_container(cursor, c == '{', out_next);
    if (c == '"')
        status = scan_string(cursor, false);
    else if (c == '-' || (c >= '0' && c <= '9'))
        status = scan_number(cursor);
    else
        status = scan_word(cursor);
    if (status == 0)
        *out_next = after_value(cursor);
    return status;
}

static int scan_key(struct cursor *cursor)
{
    size_t start = cursor->at + 1;
    int status;

    if (!is_next(cursor, '"'))
        return fail(cursor, cursor->at, "a key in quotes was expected");
    status = scan_string(cursor, true);
    if (status < 0)
        return status;
    if (is_over(cursor, ++cursor->out->member_count, JSON_SCAN_MEMBERS_MAX))
        return fail(cursor, start - 1, "too many members");
    uint32_t size = (uint32_t)(cursor->at - 1 - start);
    if (cursor->depth == 1) {
        cursor->top.key_at = (uint32_t)start;
        cursor->top.key_size = size;
    }
    if (cursor->hooks && cursor->hooks->on_key)
        cursor->hooks->on_key(cursor->hooks->arg, cursor->object_of[cursor->depth - 1],
                              (uint32_t)start, size);
    skip_space(cursor);
    if (!is_next(cursor, ':'))
        return fail(cursor, cursor->at, "':' was expected");
    cursor->at++;
    return 0;
}

static enum expected close_container(struct cursor *cursor)
{
    cursor->depth--;
    cursor->at++;
    return after_value(cursor);
}

static int step(struct cursor *cursor, enum expected *expected)
{
    char close = in_object(cursor) ? '}' : ']';
    int status;

    switch (*expected) {
    case EXPECT_VALUE_OR_END:
    case EXPECT_KEY_OR_END:
        if (is_next(cursor, close)) {
            *expected = close_container(cursor);
            return 0;
        }
        *expected = *expected == EXPECT_KEY_OR_END ? EXPECT_KEY : EXPECT_VALUE;
        return 0;
    case EXPECT_VALUE:
        return scan_value(cursor, expected);
    case EXPECT_KEY:
        status = scan_key(cursor);
        *expected = EXPECT_VALUE;
        return status;
    case EXPECT_COMMA_OR_END:
        if (is_next(cursor, close)) {
            *expected = close_container(cursor);
            return 0;
        }
        if (!is_next(cursor, ','))
            return fail(cursor, cursor->at,
                        in_object(cursor) ? "',' or '}' was expected" : "',' or ']' was expected");
        cursor->at++;
        *expected = in_object(cursor) ? EXPECT_KEY : EXPECT_VALUE;
        return 0;
    case EXPECT_NOTHING:
        break;
    }
    return fail(cursor, cursor->at, "more text after the value");
}

int json_scan(const char *text, size_t size, const struct json_scan_hooks *hooks,
              struct json_scan *out)
{
    struct cursor cursor = {.text = text, .size = size, .hooks = hooks, .out = out};
    enum expected expected = EXPECT_VALUE;

    CHECK(size <= (size_t)1 << 30);
    memset(out, 0, offsetof(struct json_scan, top));
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return fail(&cursor, 0, "byte order mark");
    skip_space(&cursor);
    if (cursor.at == size)
        return fail(&cursor, cursor.at, "empty text");
    out->root_at = cursor.at;
    while (cursor.at < size) {
        int status = step(&cursor, &expected);
        if (status < 0)
            return status;
        if (expected == EXPECT_NOTHING && out->root_size == 0)
            out->root_size = cursor.at - out->root_at;
        skip_space(&cursor);
    }
    if (expected != EXPECT_NOTHING)
        return fail(&cursor, size, "text ends too early");
    return 0;
}
