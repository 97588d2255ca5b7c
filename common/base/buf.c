/* Growing byte buffers with a hard maximum. The one place of this tree that reallocates. */
#include "common/base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"

enum { BUF_CAPACITY_MIN = 64 };

void buf_init(struct buf *buf, size_t size_max)
{
    *buf = (struct buf){.size_max = size_max};
}

void buf_deinit(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){.size_max = buf->size_max};
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

int buf_reserve(struct buf *buf, size_t more)
{
    CHECK(buf->size <= buf->capacity);
    if (buf->size > buf->size_max || more > buf->size_max - buf->size)
        return ERR_TOO_BIG;
    if (buf->size_max == SIZE_MAX && more == SIZE_MAX - buf->size)
        return ERR_TOO_BIG; /* no room to count the terminator */

    size_t need = buf->size + more + 1; /* the terminator */
    if (need <= buf->capacity)
        return 0;

    size_t capacity = buf->capacity > SIZE_MAX / 2 ? SIZE_MAX : buf->capacity * 2;
    if (capacity < BUF_CAPACITY_MIN)
        capacity = BUF_CAPACITY_MIN;
    if (capacity - 1 > buf->size_max)
        capacity = buf->size_max + 1;
    if (capacity < need)
        capacity = need;
    char *data = realloc(buf->data, capacity);
    if (!data)
        return ERR_NOMEM;
    buf->data = data;
    buf->capacity = capacity;
    buf->data[buf->size] = '\0';
    return 0;
}

int buf_append(struct buf *buf, const void *bytes, size_t size)
{
    int status = buf_reserve(buf, size);
    if (status < 0)
        return status;
    if (size > 0)
        memcpy(buf->data + buf->size, bytes, size);
    buf->size += size;
    buf->data[buf->size] = '\0';
    return 0;
}

int buf_append_text(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

int buf_append_char(struct buf *buf, char c)
{
    return buf_append(buf, &c, 1);
}

int buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int status = buf_vprintf(buf, format, args);
    va_end(args);
    return status;
}

int buf_vprintf(struct buf *buf, const char *format, va_list args)
{
    va_list again;
    int status = buf_reserve(buf, 0);
    if (status < 0)
        return status;

    va_copy(again, args);
    size_t room = buf->capacity - buf->size;
    int count = vsnprintf(buf->data + buf->size, room, format, args);
    if (count < 0) {
        status = ERR_INVALID;
    } else if ((size_t)count >= room) {
        buf->data[buf->size] = '\0'; /* take the cut text back, in case there is no more room */
        status = buf_reserve(buf, (size_t)count);
        if (status == 0)
            (void)vsnprintf(buf->data + buf->size, (size_t)count + 1, format, again);
    } else if ((size_t)count > buf->size_max - buf->size) {
        buf->data[buf->size] = '\0'; /* fits the memory, yet not the maximum, which was lowered */
        status = ERR_TOO_BIG;
    }
    va_end(again);
    if (status == 0)
        buf->size += (size_t)count;
    return status;
}

void buf_consume(struct buf *buf, size_t size)
{
    CHECK(size <= buf->size);
    if (size == 0)
        return;
    memmove(buf->data, buf->data + size, buf->size - size);
    buf->size -= size;
    buf->data[buf->size] = '\0';
}

char *buf_take(struct buf *buf, size_t *out_size)
{
    char *data = buf->data;

    if (buf->size == 0) {
        free(data);
        data = NULL;
    }
    if (out_size)
        *out_size = buf->size;
    *buf = (struct buf){.size_max = buf->size_max};
    return data;
}
