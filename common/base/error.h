/* Result codes: 0 or a count on success, one of these on failure; and the text a person reads.
 *
 * Code, name and text stand in one row, so they cannot part. */
#ifndef PENSTOCK_BASE_ERROR_H
#define PENSTOCK_BASE_ERROR_H

#include "common/base/check.h"

#define ERROR_LIST(X)                                         \
    X(ERR_NOMEM, -1, "out of memory")                         \
    X(ERR_INVALID, -2, "invalid")                             \
    X(ERR_TOO_BIG, -3, "too large")                           \
    X(ERR_OFFLINE, -4, "not connected, nothing was sent")     \
    X(ERR_BUSY, -5, "too many requests in flight")            \
    X(ERR_TIMEOUT, -6, "timed out")                           \
    X(ERR_NOT_FOUND, -7, "not found")                         \
    X(ERR_STATE, -8, "not possible in this state")            \
    X(ERR_FULL, -9, "full")                                   \
    X(ERR_IO, -10, "input or output failed")                  \
    X(ERR_CORRUPT, -11, "checksum or form does not fit")      \
    X(ERR_NEWER, -12, "written by a newer version")           \
    X(ERR_CONFLICT, -13, "conflicts with an earlier request") \
    X(ERR_UNKNOWN, -14, "sent, outcome unknown")              \
    X(ERR_PROTOCOL, -15, "unexpected answer")                 \
    X(ERR_DENIED, -16, "denied")                              \
    X(ERR_UNFIT, -17, "the store is not fit for use")         \
    X(ERR_FENCED, -18, "the lease is no longer held")

enum error_code {
#define ERROR_ENUM(name, number, text) name = number,
    ERROR_LIST(ERROR_ENUM)
#undef ERROR_ENUM
};

enum { ERROR_TEXT_SIZE = 512 };

struct error_text {
    char text[ERROR_TEXT_SIZE]; /* always terminated; "" when nothing was said */
};

/* The fixed English text of a code; "unknown error" for others. Never NULL. */
const char *error_text_of(int code);
/* Name such as "ERR_FULL". Never NULL. */
const char *error_name_of(int code);
/* Formats into out (may be NULL), truncating, and returns code, so that callers can write
 * `return error_set(why, ERR_INVALID, "...")`. */
PRINTF_LIKE(3, 4) int error_set(struct error_text *out, int code, const char *format, ...);

#endif
