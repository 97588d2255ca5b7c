/* Borrowed bytes: a pointer and a length, never terminated, never owned. */
#ifndef PENSTOCK_BASE_SLICE_H
#define PENSTOCK_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *bytes;
    size_t size;
};

static inline struct slice slice_of(const char *text)
{
    return (struct slice){.bytes = text, .size = text ? strlen(text) : 0};
}

static inline bool slice_is(struct slice slice, const char *text)
{
    size_t size = strlen(text);
    return slice.size == size && (size == 0 || memcmp(slice.bytes, text, size) == 0);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

#endif
