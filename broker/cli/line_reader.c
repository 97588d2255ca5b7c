#include "broker/cli/line_reader.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "common/base/error.h"

enum { PIECE_BYTES = 64 << 10 };

void line_reader_init(struct line_reader *reader, int fd, size_t line_max)
{
    *reader = (struct line_reader){.fd = fd, .line_max = line_max};
    buf_init(&reader->text, line_max + 2 * PIECE_BYTES);
}

void line_reader_deinit(struct line_reader *reader)
{
    buf_deinit(&reader->text);
}

static struct slice trim(struct slice line, bool is_first)
{
    if (is_first && line.size >= 3 && memcmp(line.bytes, "\xef\xbb\xbf", 3) == 0) {
        line.bytes += 3;
        line.size -= 3;
    }
    while (line.size > 0 && memchr(" \t\r", line.bytes[line.size - 1], 3))
        line.size--;
    while (line.size > 0 && memchr(" \t\r", line.bytes[0], 3)) {
        line.bytes++;
        line.size--;
    }
    return line;
}

/* The next whole line of what is in memory; false when there is none. */
static bool take_line(struct line_reader *reader, struct slice *out)
{
    const char *data = reader->text.data;
    const char *end =
        reader->scanned < reader->text.size
            ? memchr(data + reader->scanned, '\n', reader->text.size - reader->scanned)
            : NULL;
    size_t stop = end ? (size_t)(end - data) : reader->text.size;

    reader->scanned = stop;
    if (!end && !(reader->has_ended && (stop > reader->at || reader->is_skipping)))
        return false;
    *out = (struct slice){.bytes = stop > reader->at ? data + reader->at : "",
                          .size = stop - reader->at};
    reader->at = reader->scanned = end ? stop + 1 : stop;
    reader->number++;
    return true;
}

static int fill(struct line_reader *reader, int64_t wait_ms)
{
    struct pollfd fd = {.fd = reader->fd, .events = POLLIN};
    ssize_t size;

    if (reader->is_skipping || reader->text.size - reader->at > reader->line_max) {
        reader->is_skipping = true;
        reader->at = reader->text.size;
    }
    buf_consume(&reader->text, reader->at);
    reader->scanned -= reader->at;
    reader->at = 0;
    if (poll(&fd, 1, (int)wait_ms) == 0)
        return 0;
    if (buf_reserve(&reader->text, PIECE_BYTES) < 0)
        return ERR_NOMEM;
    size = read(reader->fd, reader->text.data + reader->text.size, PIECE_BYTES);
    if (size < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : ERR_IO;
    reader->has_ended = size == 0;
    reader->text.size += (size_t)size;
    return 1;
}

int line_reader_next(struct line_reader *reader, int64_t wait_ms, struct slice *out)
{
    struct slice line;

    for (;;) {
        if (take_line(reader, &line)) {
            bool is_too_long = reader->is_skipping || line.size > reader->line_max;
            reader->is_skipping = false;
            if (is_too_long)
                return LINE_TOO_LONG;
            line = trim(line, reader->number == 1);
            if (line.size == 0)
                continue;
            *out = line;
            return LINE_TEXT;
        }
        if (reader->has_ended)
            return LINE_END;
        int got = fill(reader, wait_ms);
        if (got <= 0)
            return got < 0 ? got : LINE_NONE_YET;
    }
}
