/* Whether a request's head is what HTTP/1.1 allows, stricter than libmicrohttpd: pure, fed header
 * by header. */
#ifndef PENSTOCK_HTTP_HTTP_CHECK_H
#define PENSTOCK_HTTP_HTTP_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

enum {
    HTTP_TARGET_MAX = 8 * 1024, /* beyond: 414 */
    HTTP_HEAD_MAX = 16 * 1024,  /* beyond: 431 */
    HTTP_HEADERS_MAX = 64,      /* beyond: 431 */
};

struct http_framing {
    int status;         /* 0: fine so far, else what to answer */
    const char *detail; /* constant sentence, with status */
    unsigned headers_count;
    unsigned hosts_count;
    unsigned lengths_count;
    unsigned encodings_count;
    bool is_chunked;
    bool expects_continue;
    int64_t length; /* -1: not given */
    struct slice host;
};

void http_framing_start(struct http_framing *framing);
void http_framing_add(struct http_framing *framing, struct slice name, struct slice value);
/* Once all headers were added: relations between them, their size together, and the version. */
void http_framing_end(struct http_framing *framing, struct slice version, size_t head_size);

/* Method and target. Sets where path (and query) begin in the target: past scheme and authority of
 * an absolute one, whose authority must be the Host. */
void http_framing_line(struct http_framing *framing, struct slice method, struct slice target,
                       size_t *out_path_at);

/* No control bytes but the tab. */
bool http_is_field_value(struct slice text);

#endif
