/* Server-sent events (the text/event-stream of the HTML standard): what the broker writes, and an
 * incremental parser for what upstreams send. Pure; the parser gives the same events however the
 * bytes are cut into pieces. */
#ifndef PENSTOCK_BASE_SSE_H
#define PENSTOCK_BASE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/check.h"

/* Appends one event. id and event may be NULL: left out. Data with line breaks (\n, \r\n or \r)
 * becomes several data lines. ERR_INVALID: a line break or NUL in id or event. On failure out is as
 * it was. */
MUST_CHECK int sse_put_event(struct buf *out, const char *id, const char *event, const char *data,
                             size_t data_size);
/* A comment, which readers skip: keeps idle connections open. ERR_INVALID: a line break in text. */
MUST_CHECK int sse_put_comment(struct buf *out, const char *text);

/* Borrowed, valid during the callback. Data may hold any byte. */
struct sse_event {
    const char *name; /* "message" when the stream gave none */
    const char *id;   /* the last id of the stream so far, "" when none */
    const char *data; /* terminated */
    size_t data_size;
};

/* Anything but 0 stops the parser and is returned by sse_feed. */
typedef int (*sse_event_fn)(const struct sse_event *event, void *arg);

struct sse_parser {
    struct buf line; /* the line so far, when it came in pieces */
    struct buf data;
    struct buf name;
    struct buf id;
    int failure; /* what sse_feed answers from now on, if not 0 */
    bool is_past_start;
    bool has_data;
    bool skips_lf; /* the last byte was '\r' */
};

/* Maxima in bytes of a line and of the data of an event; memory grows to these, not more. */
void sse_init(struct sse_parser *parser, size_t line_max, size_t event_max);
void sse_deinit(struct sse_parser *parser);
/* ERR_TOO_BIG: a line or an event beyond its maximum. ERR_NOMEM. Once it failed it keeps failing
 * alike. */
MUST_CHECK int sse_feed(struct sse_parser *parser, const char *bytes, size_t size,
                        sse_event_fn on_event, void *arg);
/* Whether nothing is half read: at the end of a whole stream it is true, after a cut it is not. */
bool sse_is_between_events(const struct sse_parser *parser);

#endif
