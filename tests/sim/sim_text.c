#include "sim_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

void sim_check_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "penstock-sim: %s:%d: broken promise: %s\n", file, line, condition);
    abort();
}

bool buf_reserve(struct text_buf *buf, size_t room)
{
    if (buf->is_overflowed)
        return false;
    if (room <= buf->capacity - buf->size)
        return true;
    if (room > TEXT_BUF_BYTES_MAX - buf->size) {
        buf->is_overflowed = true;
        return false;
    }
    size_t capacity = buf->capacity < 1024 ? 1024 : buf->capacity;
    while (capacity < buf->size + room)
        capacity *= 2;
    char *data = realloc(buf->data, capacity);
    if (data == NULL) {
        buf->is_overflowed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void buf_deinit(struct text_buf *buf)
{
    free(buf->data);
    *buf = (struct text_buf){0};
}

void buf_reset(struct text_buf *buf, size_t keep_bytes)
{
    buf->size = 0;
    buf->is_overflowed = false;
    if (buf->capacity > keep_bytes)
        buf_deinit(buf);
}

void buf_consume(struct text_buf *buf, size_t size)
{
    SIM_CHECK(size <= buf->size);
    buf->size -= size;
    if (buf->size > 0 && size > 0)
        memmove(buf->data, buf->data + size, buf->size);
}

void put_text(struct text_buf *buf, const char *text)
{
    put_bytes(buf, text, strlen(text));
}

void put_char(struct text_buf *buf, char letter)
{
    put_bytes(buf, &letter, 1);
}

void put_u64(struct text_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
    } while (value > 0);
    put_bytes(buf, digits + at, sizeof(digits) - at);
}

void put_i64(struct text_buf *buf, int64_t value)
{
    if (value < 0) {
        put_char(buf, '-');
        put_u64(buf, 0U - (uint64_t)value);
    } else {
        put_u64(buf, (uint64_t)value);
    }
}

void put_hex(struct text_buf *buf, uint64_t value, int digits)
{
    char text[16];

    SIM_CHECK(digits > 0 && digits <= 16);
    for (int i = digits - 1; i >= 0; i--) {
        text[i] = "0123456789abcdef"[value & 15];
        value >>= 4;
    }
    put_bytes(buf, text, (size_t)digits);
}

void put_repeat(struct text_buf *buf, char letter, size_t count)
{
    if (count == 0 || !buf_reserve(buf, count))
        return;
    memset(buf->data + buf->size, letter, count);
    buf->size += count;
}

void put_quoted(struct text_buf *buf, struct slice text)
{
    const char *end = text.data + text.size;

    put_char(buf, '"');
    for (const char *at = text.data; at < end;) {
        unsigned char letter = (unsigned char)*at;
        size_t size = letter < 0x80 ? 1 : text_utf8_size(at, end);

        if (letter == '"' || letter == '\\') {
            put_char(buf, '\\');
            put_char(buf, (char)letter);
        } else if (letter < 0x20) {
            PUT(buf, "\\u00");
            put_hex(buf, letter, 2);
        } else if (size == 0) {
            put_char(buf, '?');
        } else {
            put_bytes(buf, at, size);
        }
        at += size == 0 ? 1 : size;
    }
    put_char(buf, '"');
}

void put_base64(struct text_buf *buf, const unsigned char *data, size_t size)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    if (!buf_reserve(buf, (size + 2) / 3 * 4))
        return;
    char *out = buf->data + buf->size;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)data[i] << 16;
        if (left > 1)
            bits |= (uint32_t)data[i + 1] << 8;
        if (left > 2)
            bits |= data[i + 2];
        *out++ = alphabet[bits >> 18];
        *out++ = alphabet[bits >> 12 & 63];
        *out++ = left > 1 ? alphabet[bits >> 6 & 63] : '=';
        *out++ = left > 2 ? alphabet[bits & 63] : '=';
    }
    buf->size = (size_t)(out - buf->data);
}

bool text_parse_int(struct slice text, int64_t min, int64_t max, int64_t *out_value)
{
    size_t at = 0;
    bool is_negative = text.size > 0 && text.data[0] == '-';
    int64_t value = 0;

    if (is_negative)
        at = 1;
    if (at == text.size || text.size - at > 18)
        return false;
    for (; at < text.size; at++) {
        if (text.data[at] < '0' || text.data[at] > '9')
            return false;
        value = value * 10 + (text.data[at] - '0');
    }
    if (is_negative)
        value = -value;
    if (value < min || value > max)
        return false;
    *out_value = value;
    return true;
}

bool text_parse_decimal(struct slice text, double *out_value)
{
    double value = 0;
    double scale = 1;
    bool is_fraction = false;
    size_t digit_count = 0;

    if (text.size == 0 || text.size > 24)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char letter = text.data[i];
        if (letter == '.' && !is_fraction && digit_count > 0) {
            is_fraction = true;
            continue;
        }
        if (letter < '0' || letter > '9')
            return false;
        value = value * 10 + (letter - '0');
        if (is_fraction)
            scale *= 10;
        digit_count++;
    }
    value /= scale;
    if (text.data[text.size - 1] == '.' || value > 1e12)
        return false;
    *out_value = value;
    return true;
}

bool text_is_lower(struct slice text, const char *lower, size_t lower_size)
{
    if (text.size != lower_size)
        return false;
    for (size_t i = 0; i < lower_size; i++) {
        char letter = text.data[i];
        if (letter >= 'A' && letter <= 'Z')
            letter = (char)(letter + ('a' - 'A'));
        if (letter != lower[i])
            return false;
    }
    return true;
}

size_t text_utf8_size(const char *at, const char *end)
{
    const unsigned char *byte = (const unsigned char *)at;
    size_t left = (size_t)(end - at);
    size_t size;
    unsigned low = 0x80;
    unsigned high = 0xBF;

    if (left == 0)
        return 0;
    if (byte[0] < 0x80)
        return 1;
    if (byte[0] >= 0xC2 && byte[0] <= 0xDF)
        size = 2;
    else if (byte[0] >= 0xE0 && byte[0] <= 0xEF)
        size = 3;
    else if (byte[0] >= 0xF0 && byte[0] <= 0xF4)
        size = 4;
    else
        return 0;
    if (left < size)
        return 0;
    /* The second byte's range keeps out overlong forms, surrogates and what is past U+10FFFF. */
    if (byte[0] == 0xE0)
        low = 0xA0;
    else if (byte[0] == 0xED)
        high = 0x9F;
    else if (byte[0] == 0xF0)
        low = 0x90;
    else if (byte[0] == 0xF4)
        high = 0x8F;
    if (byte[1] < low || byte[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if (byte[i] < 0x80 || byte[i] > 0xBF)
            return 0;
    return size;
}

uint64_t text_mix(uint64_t value)
{
    value ^= value >> 32;
    value *= UINT64_C(0xD6E8FEB86659FD93);
    value ^= value >> 32;
    value *= UINT64_C(0xD6E8FEB86659FD93);
    value ^= value >> 32;
    return value;
}

uint64_t text_hash(const char *data, size_t size, uint64_t seed)
{
    uint64_t hash = seed ^ (uint64_t)size * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t word = 0;

    for (; size >= sizeof(word); data += sizeof(word), size -= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0xD6E8FEB86659FD93);
        hash ^= hash >> 29;
    }
    word = 0;
    if (size > 0)
        memcpy(&word, data, size);
    return text_mix(hash ^ word);
}

uint64_t random_next(uint64_t *state)
{
    *state += UINT64_C(0x9E3779B97F4A7C15);
    return text_mix(*state);
}

double random_share(uint64_t *state)
{
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

int64_t clock_mono_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_wall_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
