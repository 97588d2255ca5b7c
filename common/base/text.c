/* Strict parsing of numbers, durations, sizes, UTF-8, percent coding and globs. Pure. */
#include "common/base/text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/error.h"

enum { NUMBER_SIZE_MAX = 400 }; /* bytes of a decimal fraction; 1e308 written out has 309 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int text_parse_i64(const char *text, size_t size, int64_t min, int64_t max, int64_t *out)
{
    size_t at = 0;
    bool negative = false;
    uint64_t value = 0;

    CHECK(min <= max);
    if (min < 0 && size > 0 && text[0] == '-') {
        negative = true;
        at = 1;
    }
    if (at == size)
        return ERR_INVALID;
    for (; at < size; at++) {
        if (!is_digit(text[at]))
            return ERR_INVALID;
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[at] - '0'), &value))
            return ERR_INVALID;
    }
    if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return ERR_INVALID;
    int64_t result = negative ? (int64_t)(0 - value) : (int64_t)value;
    if (result < min || result > max)
        return ERR_INVALID;
    *out = result;
    return 0;
}

/* [-] digits [. digits] [e [+-] digits], as in JSON but with leading zeros. */
static bool is_decimal(const char *text, size_t size)
{
    size_t at = 0;
    size_t start;

    if (at < size && text[at] == '-')
        at++;
    for (start = at; at < size && is_digit(text[at]);)
        at++;
    if (at == start)
        return false;
    if (at < size && text[at] == '.') {
        for (start = ++at; at < size && is_digit(text[at]);)
            at++;
        if (at == start)
            return false;
    }
    if (at < size && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < size && (text[at] == '+' || text[at] == '-'))
            at++;
        for (start = at; at < size && is_digit(text[at]);)
            at++;
        if (at == start)
            return false;
    }
    return at == size;
}

int text_parse_double(const char *text, size_t size, double *out)
{
    char number[NUMBER_SIZE_MAX + 1];

    if (size > NUMBER_SIZE_MAX || !is_decimal(text, size))
        return ERR_INVALID;
    memcpy(number, text, size);
    number[size] = '\0';
    double value = strtod(number, NULL); /* no program of ours leaves the C locale */
    if (!isfinite(value))
        return ERR_INVALID;
    *out = value;
    return 0;
}

/* Splits "123abc" into the number and the unit's letters. */
static int parse_with_unit(const char *text, size_t size, int64_t *out, size_t *out_digits)
{
    size_t digits = 0;
    while (digits < size && is_digit(text[digits]))
        digits++;
    *out_digits = digits;
    return text_parse_i64(text, digits, 0, INT64_MAX, out);
}

int text_parse_duration_ms(const char *text, size_t size, int64_t max_ms, int64_t *out_ms)
{
    static const struct {
        char name[4];
        int64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    size_t digits;
    int64_t value;

    if (parse_with_unit(text, size, &value, &digits) < 0)
        return ERR_INVALID;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!text_equal(text + digits, size - digits, units[i].name))
            continue;
        if (__builtin_mul_overflow(value, units[i].ms, &value) || value > max_ms)
            return ERR_INVALID;
        *out_ms = value;
        return 0;
    }
    return ERR_INVALID;
}

int text_parse_size(const char *text, size_t size, int64_t max, int64_t *out_bytes)
{
    size_t digits;
    int64_t value;
    int64_t unit = 1;

    if (parse_with_unit(text, size, &value, &digits) < 0 || size - digits > 1)
        return ERR_INVALID;
    if (size > digits) {
        switch (text[digits]) {
        case 'k':
            unit = 1024;
            break;
        case 'M':
            unit = INT64_C(1024) * 1024;
            break;
        case 'G':
            unit = INT64_C(1024) * 1024 * 1024;
            break;
        default:
            return ERR_INVALID;
        }
    }
    if (__builtin_mul_overflow(value, unit, &value) || value > max)
        return ERR_INVALID;
    *out_bytes = value;
    return 0;
}

size_t text_utf8_sequence(const char *bytes, size_t size)
{
    const unsigned char *at = (const unsigned char *)bytes;
    unsigned char low = 0x80;  /* bounds of the second byte, which exclude overlong forms, */
    unsigned char high = 0xbf; /* surrogates and what lies beyond U+10FFFF */
    size_t count;

    if (size == 0)
        return 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        count = 2;
    } else if ((at[0] & 0xf0) == 0xe0) {
        count = 3;
        low = at[0] == 0xe0 ? 0xa0 : low;
        high = at[0] == 0xed ? 0x9f : high;
    } else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
        count = 4;
        low = at[0] == 0xf0 ? 0x90 : low;
        high = at[0] == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (size < count || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return count;
}

bool text_is_utf8(const char *bytes, size_t size)
{
    size_t at = 0;

    while (at < size) {
        uint64_t word;
        if (size - at >= sizeof word) {
            memcpy(&word, bytes + at, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof word;
                continue;
            }
        }
        size_t count = text_utf8_sequence(bytes + at, size - at);
        if (count == 0)
            return false;
        at += count;
    }
    return true;
}

bool text_equal(const char *a, size_t a_size, const char *b)
{
    return strlen(b) == a_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

bool text_equal_nocase(const char *a, size_t a_size, const char *b)
{
    return strlen(b) == a_size && (a_size == 0 || strncasecmp(a, b, a_size) == 0);
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_glob_match(const char *pattern, const char *text, size_t text_size)
{
    size_t at = 0;
    const char *star = NULL; /* the last '*', and where in the text it stops matching for now */
    size_t star_at = 0;

    while (at < text_size) {
        if (*pattern == '*') {
            star = pattern++;
            star_at = at;
        } else if (*pattern != '\0' && (*pattern == '?' || *pattern == text[at])) {
            pattern++;
            at++;
        } else if (star) {
            pattern = star + 1;
            at = ++star_at;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int text_percent_decode(const char *text, size_t size, char *out, size_t size_max)
{
    size_t used = 0;

    CHECK(size_max > 0);
    CHECK(size_max <= INT32_MAX);
    for (size_t at = 0; at < size; at++) {
        char c = text[at];
        if (c == '%') {
            int high = size - at > 2 ? hex_value(text[at + 1]) : -1;
            int low = size - at > 2 ? hex_value(text[at + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return ERR_INVALID;
            c = (char)(high * 16 + low);
            at += 2;
        }
        if (used + 1 >= size_max)
            return ERR_TOO_BIG;
        out[used++] = c;
    }
    out[used] = '\0';
    return (int)used;
}

int text_percent_encode(const char *text, size_t size, char *out, size_t size_max)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t used = 0;

    CHECK(size_max > 0);
    CHECK(size_max <= INT32_MAX);
    for (size_t at = 0; at < size; at++) {
        unsigned char c = (unsigned char)text[at];
        bool plain = is_digit(text[at]) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (size_max - used <= (plain ? 1u : 3u))
            return ERR_TOO_BIG;
        if (plain) {
            out[used++] = (char)c;
        } else {
            out[used++] = '%';
            out[used++] = hex[c >> 4];
            out[used++] = hex[c & 15];
        }
    }
    out[used] = '\0';
    return (int)used;
}
