/* Writing JSON: strings and times. Part of jdoc.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/jdoc.h"
#include "common/base/text.h"

/* Escape of an ASCII character that needs one; its size, 0 when it stands for itself. */
static size_t escape(unsigned char c, char out[8])
{
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";

    if (c >= 0x20 && c != '"' && c != '\\')
        return 0;
    for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
        if ((unsigned char)letters[i] == c) {
            out[0] = '\\';
            out[1] = letters[i + 1];
            return 2;
        }
    }
    return (size_t)snprintf(out, 8, "\\u%04x", c);
}

static int put_escaped(struct buf *out, const char *bytes, size_t size)
{
    size_t done = 0; /* bytes before this one were appended */
    size_t at = 0;
    int status = 0;

    while (status == 0 && at < size) {
        char unit[8];
        size_t sequence = text_utf8_sequence(bytes + at, size - at);
        size_t unit_size = 3;

        if (sequence > 0) {
            unit_size = sequence == 1 ? escape((unsigned char)bytes[at], unit) : 0;
            if (unit_size == 0) {
                at += sequence;
                continue;
            }
        } else {
            memcpy(unit, "\xef\xbf\xbd", 3); /* U+FFFD */
        }
        status = buf_append(out, bytes + done, at - done);
        if (status == 0)
            status = buf_append(out, unit, unit_size);
        done = ++at;
    }
    return status < 0 ? status : buf_append(out, bytes + done, at - done);
}

int json_put_string(struct buf *out, const char *bytes, size_t size)
{
    size_t start = out->size;
    int status = buf_append_char(out, '"');

    if (status == 0)
        status = put_escaped(out, bytes, size);
    if (status == 0)
        status = buf_append_char(out, '"');
    if (status < 0 && out->data) { /* leave no half string behind */
        out->size = start;
        out->data[start] = '\0';
    }
    return status;
}

int json_put_seconds(struct buf *out, int64_t ms)
{
    if (ms == 0)
        return buf_append(out, "null", 4);
    uint64_t size = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    return buf_printf(out, "%s%" PRIu64 ".%03" PRIu64, ms < 0 ? "-" : "", size / 1000, size % 1000);
}
