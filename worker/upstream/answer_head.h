/* What we keep of an answer's header lines. Pure, bounded; a new status line (after a 1xx) starts
 * over. */
#ifndef PENSTOCK_UPSTREAM_ANSWER_HEAD_H
#define PENSTOCK_UPSTREAM_ANSWER_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

enum {
    ANSWER_HEAD_BYTES_MAX = 64 * 1024, /* all lines of one answer, 1xx included */
    ANSWER_HEAD_LINES_MAX = 256,
    ANSWER_RETRY_AFTER_MAX_MS = 24 * 3600 * 1000 /* longer waits are cut to this */
};

struct answer_head {
    size_t bytes;
    unsigned lines;
    bool has_status;                 /* a status line was seen */
    bool has_end;                    /* and the empty line behind its headers */
    bool is_encoded;                 /* a content coding we never asked for */
    int64_t body_size;               /* content-length; -1: not said */
    int64_t retry_after_ms;          /* -1: none */
    bool has_exact_retry;            /* retry-after-ms was there, which wins over retry-after */
    int should_retry;                /* 1, 0; -1: absent */
    int64_t rate_remaining_requests; /* -1: absent */
    int64_t rate_remaining_tokens;
    char content_type[128];
    char request_id[80];
};

void answer_head_init(struct answer_head *head);
/* One line as it came, with or without its line end. now_wall_ms turns dates into waits.
 * ERR_TOO_BIG beyond the maxima; lines of no interest and values that make no sense are skipped. */
MUST_CHECK int answer_head_line(struct answer_head *head, const char *line, size_t size,
                                int64_t now_wall_ms);

#endif
