/* Lines of a file, a pipe or a terminal, one after the other, in bounded memory. Line ends are \n
 * or \r\n; blank lines count but are passed over; a byte order mark at the start is left out. */
#ifndef PENSTOCK_CLI_LINE_READER_H
#define PENSTOCK_CLI_LINE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

enum line_kind {
    LINE_NONE_YET, /* nothing has come within wait_ms */
    LINE_TEXT,
    LINE_TOO_LONG, /* a line beyond the maximum; it has been passed over */
    LINE_END       /* of the input; from now on always */
};

struct line_reader {
    int fd;
    struct buf text;
    size_t at;      /* start of what has not been given out */
    size_t scanned; /* no line ends between at and here */
    size_t line_max;
    int64_t number; /* of the line given out last, from 1 */
    bool is_skipping;
    bool has_ended;
};

/* fd is borrowed. */
void line_reader_init(struct line_reader *reader, int fd, size_t line_max);
void line_reader_deinit(struct line_reader *reader);
/* An enum line_kind, or ERR_IO, ERR_NOMEM. out is borrowed until the next call. */
MUST_CHECK int line_reader_next(struct line_reader *reader, int64_t wait_ms, struct slice *out);

#endif
