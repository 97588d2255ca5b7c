/* Strict JSON scanning without building a tree: values are pieces of the request's own bytes.
 *
 * Everything stepped over is validated (grammar, UTF-8, depth), so echoing a piece is safe.
 */
#ifndef SIM_SCAN_H
#define SIM_SCAN_H

#include "sim_base.h"

#include <stdbool.h>

enum { SCAN_DEPTH_MAX = 512 };

enum scan_kind {
    SCAN_NONE, /* absent */
    SCAN_STRING,
    SCAN_NUMBER,
    SCAN_TRUE,
    SCAN_FALSE,
    SCAN_NULL,
    SCAN_OBJECT,
    SCAN_ARRAY
};

/* For a string `text` is what stands between the quotes, escapes and all; else the whole value. */
struct scan_value {
    enum scan_kind kind;
    struct slice text;
};

/* Walks the members of one object or the elements of one array. */
struct scan_cursor {
    const char *at;
    const char *end;
    bool is_first;
};

/* Open `text`, which must start (after white space) with '{' or '['; false when it does not. */
MUST_CHECK bool scan_open(struct slice text, char bracket, struct scan_cursor *out_cursor);

/* 1 and the next member or element, 0 after the last one, -1 when the text is not JSON. */
MUST_CHECK int scan_member(struct scan_cursor *cursor, struct slice *out_key,
                           struct scan_value *out_value);
MUST_CHECK int scan_element(struct scan_cursor *cursor, struct scan_value *out_value);

/* Whether the first element of a validated array starts with this byte, without scanning it. */
MUST_CHECK bool scan_starts_with(const struct scan_value *array, char letter);

/* After the last member of a document: nothing but white space may follow. */
MUST_CHECK bool scan_is_end(const struct scan_cursor *cursor);

/* Undo the escapes of a string. The result is `raw` itself when there are none, else it lies in
 * `room`; false when it does not fit. Lone surrogates become U+FFFD. */
MUST_CHECK bool scan_decode(struct slice raw, char *room, size_t room_size, struct slice *out_text);

#endif
