/* A growing byte buffer that cannot exist without its maximum. The only place that may realloc.
 *
 * Zeroed memory plus size_max is a valid empty buffer. Failure leaves the content as it was. The
 * byte after `size` is always '\0' once anything was appended, so text can be used as a string. */
#ifndef PENSTOCK_BASE_BUF_H
#define PENSTOCK_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

struct buf {
    char *data;
    size_t size;
    size_t capacity;
    size_t size_max; /* bytes; set by the owner before the first append */
};

void buf_init(struct buf *buf, size_t size_max);
void buf_deinit(struct buf *buf); /* frees; legal on a zeroed struct; keeps size_max */
void buf_clear(struct buf *buf);  /* size = 0, memory kept */
/* Makes room for `more` further bytes. ERR_TOO_BIG above size_max, ERR_NOMEM. */
MUST_CHECK int buf_reserve(struct buf *buf, size_t more);
MUST_CHECK int buf_append(struct buf *buf, const void *bytes, size_t size);
MUST_CHECK int buf_append_text(struct buf *buf, const char *text);
MUST_CHECK int buf_append_char(struct buf *buf, char c);
PRINTF_LIKE(2, 3) MUST_CHECK int buf_printf(struct buf *buf, const char *format, ...);
PRINTF_LIKE(2, 0) MUST_CHECK int buf_vprintf(struct buf *buf, const char *format, va_list args);
/* Drops the first `size` bytes, moving the rest down. */
void buf_consume(struct buf *buf, size_t size);
/* Ownership of the bytes moves to the caller (free() them); the buffer is empty afterwards.
 * NULL when it held nothing. */
char *buf_take(struct buf *buf, size_t *out_size);

#endif
