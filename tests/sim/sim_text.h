/* Text and numbers: a growing buffer with a hard maximum, strict parsing, hashing, randomness.
 *
 * Knows no protocol. The only place of the simulator that grows memory.
 */
#ifndef SIM_TEXT_H
#define SIM_TEXT_H

#include "sim_base.h"

#include <stdbool.h>

enum {
    TEXT_BUF_BYTES_MAX = 1 << 28 /* one answer or one request never takes more than 256 MiB */
};

/* Zeroed memory is an empty buffer. After a failed growth `is_overflowed` stays set and further
 * appends do nothing, so that a renderer checks once, at its end. */
struct text_buf {
    char *data;
    size_t size;
    size_t capacity;
    bool is_overflowed;
};

/* Make room for `room` more bytes; false (and is_overflowed) when that is too much. */
bool buf_reserve(struct text_buf *buf, size_t room);
void buf_deinit(struct text_buf *buf);

/* Empty the buffer; memory above keep_bytes goes back to the system. */
void buf_reset(struct text_buf *buf, size_t keep_bytes);

/* Forget the first `size` bytes. */
void buf_consume(struct text_buf *buf, size_t size);

static inline void put_bytes(struct text_buf *buf, const char *data, size_t size)
{
    if (size == 0)
        return;
    if (buf->capacity - buf->size < size && !buf_reserve(buf, size))
        return;
    memcpy(buf->data + buf->size, data, size);
    buf->size += size;
}

static inline void put_slice(struct text_buf *buf, struct slice text)
{
    put_bytes(buf, text.data, text.size);
}

#define PUT(buf, literal) put_bytes((buf), (literal), sizeof(literal) - 1)

void put_text(struct text_buf *buf, const char *text);
void put_char(struct text_buf *buf, char letter);
void put_u64(struct text_buf *buf, uint64_t value);
void put_i64(struct text_buf *buf, int64_t value);
void put_hex(struct text_buf *buf, uint64_t value, int digits);
void put_repeat(struct text_buf *buf, char letter, size_t count);

/* A JSON string with its quotes; bytes that are no text come out as '?'. */
void put_quoted(struct text_buf *buf, struct slice text);

/* Standard alphabet with padding. */
void put_base64(struct text_buf *buf, const unsigned char *data, size_t size);

/* Whole decimal integer with optional minus, within min..max; false leaves *out_value alone. */
MUST_CHECK bool text_parse_int(struct slice text, int64_t min, int64_t max, int64_t *out_value);

/* Decimal number without exponent, 0 .. 1e12. */
MUST_CHECK bool text_parse_decimal(struct slice text, double *out_value);

/* Case-insensitive comparison with a lower-case literal. */
bool text_is_lower(struct slice text, const char *lower, size_t lower_size);
#define TEXT_IS(text, lower) text_is_lower((text), (lower), sizeof(lower) - 1)

/* Length of the valid UTF-8 sequence at `at`, 0 when there is none. */
size_t text_utf8_size(const char *at, const char *end);

uint64_t text_hash(const char *data, size_t size, uint64_t seed);

/* Bijective mixing of 64 bits. */
uint64_t text_mix(uint64_t value);

/* Next number of a deterministic sequence. */
uint64_t random_next(uint64_t *state);

/* In [0, 1). */
double random_share(uint64_t *state);

int64_t clock_mono_us(void);
int64_t clock_wall_ms(void);

#endif
