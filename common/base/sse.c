/* Event-stream lines, written and read. */
#include "common/base/sse.h"

#include <string.h>

#include "common/base/error.h"
#include "common/base/text.h"

/* --- writing -------------------------------------------------------------------------------- */

static int put_line(struct buf *out, const char *field, const char *text, size_t size)
{
    int status = buf_append_text(out, field);

    if (status == 0)
        status = buf_append(out, text, size);
    return status < 0 ? status : buf_append_char(out, '\n');
}

static int put_word(struct buf *out, const char *field, const char *text)
{
    if (!text)
        return 0;
    if (strpbrk(text, "\r\n"))
        return ERR_INVALID;
    return put_line(out, field, text, strlen(text));
}

/* Size of the line at the start, without its end. */
static size_t line_size(const char *text, size_t size)
{
    size_t count = 0;
    while (count < size && text[count] != '\n' && text[count] != '\r')
        count++;
    return count;
}

static int put_data(struct buf *out, const char *data, size_t size)
{
    for (;;) {
        size_t count = size > 0 ? line_size(data, size) : 0;
        int status = put_line(out, "data: ", data, count);
        if (status < 0 || count == size)
            return status;
        count += data[count] == '\r' && count + 1 < size && data[count + 1] == '\n' ? 2 : 1;
        data += count;
        size -= count;
    }
}

static int settle(struct buf *out, size_t start, int status)
{
    if (status < 0 && out->data) {
        out->size = start;
        out->data[start] = '\0';
    }
    return status;
}

int sse_put_event(struct buf *out, const char *id, const char *event, const char *data,
                  size_t data_size)
{
    size_t start = out->size;
    int status = put_word(out, "id: ", id);

    if (status == 0)
        status = put_word(out, "event: ", event);
    if (status == 0)
        status = put_data(out, data, data_size);
    if (status == 0)
        status = buf_append_char(out, '\n');
    return settle(out, start, status);
}

int sse_put_comment(struct buf *out, const char *text)
{
    size_t start = out->size;
    int status = put_word(out, ": ", text);

    if (status == 0)
        status = buf_append_char(out, '\n');
    return settle(out, start, status);
}

/* --- reading -------------------------------------------------------------------------------- */

void sse_init(struct sse_parser *parser, size_t line_max, size_t event_max)
{
    *parser = (struct sse_parser){.failure = 0};
    buf_init(&parser->line, line_max);
    buf_init(&parser->data, event_max);
    buf_init(&parser->name, line_max);
    buf_init(&parser->id, line_max);
}

void sse_deinit(struct sse_parser *parser)
{
    buf_deinit(&parser->line);
    buf_deinit(&parser->data);
    buf_deinit(&parser->name);
    buf_deinit(&parser->id);
}

static const char *text_of(const struct buf *buf)
{
    return buf->size > 0 ? buf->data : "";
}

/* An empty line: the event is complete. Without any data line there was none. */
static int finish_event(struct sse_parser *parser, sse_event_fn on_event, void *arg)
{
    int status = 0;

    if (parser->has_data) {
        const struct sse_event event = {
            .name = parser->name.size > 0 ? parser->name.data : "message",
            .id = text_of(&parser->id),
            .data = text_of(&parser->data),
            .data_size = parser->data.size,
        };
        status = on_event(&event, arg);
    }
    parser->has_data = false;
    buf_clear(&parser->data);
    buf_clear(&parser->name);
    return status;
}

static int replace(struct buf *buf, const char *value, size_t size)
{
    buf_clear(buf);
    return buf_append(buf, value, size);
}

static int on_field(struct sse_parser *parser, const char *name, size_t name_size,
                    const char *value, size_t size)
{
    if (text_equal(name, name_size, "data")) {
        int status = parser->has_data ? buf_append_char(&parser->data, '\n') : 0;
        parser->has_data = true;
        return status < 0 ? status : buf_append(&parser->data, value, size);
    }
    if (text_equal(name, name_size, "event"))
        return replace(&parser->name, value, size);
    if (text_equal(name, name_size, "id") && !memchr(value, '\0', size))
        return replace(&parser->id, value, size);
    return 0; /* "retry" is for clients that reconnect, which we do not; others mean nothing */
}

static int on_line(struct sse_parser *parser, const char *line, size_t size, sse_event_fn on_event,
                   void *arg)
{
    if (!parser->is_past_start && size >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3; /* a byte order mark may stand before everything */
        size -= 3;
    }
    parser->is_past_start = true;
    if (size == 0)
        return finish_event(parser, on_event, arg);
    if (line[0] == ':')
        return 0;
    const char *colon = memchr(line, ':', size);
    size_t name_size = colon ? (size_t)(colon - line) : size;
    size_t value_at = colon ? name_size + 1 : size;
    if (value_at < size && line[value_at] == ' ')
        value_at++;
    return on_field(parser, line, name_size, line + value_at, size - value_at);
}

/* A line that is whole in the bytes given is read where it stands. */
static int end_line(struct sse_parser *parser, const char *bytes, size_t size,
                    sse_event_fn on_event, void *arg)
{
    if (parser->line.size == 0 && size <= parser->line.size_max)
        return on_line(parser, bytes, size, on_event, arg);
    int status = buf_append(&parser->line, bytes, size);
    if (status < 0)
        return status;
    status = on_line(parser, parser->line.data, parser->line.size, on_event, arg);
    buf_clear(&parser->line);
    return status;
}

int sse_feed(struct sse_parser *parser, const char *bytes, size_t size, sse_event_fn on_event,
             void *arg)
{
    while (size > 0 && parser->failure == 0) {
        if (parser->skips_lf) {
            parser->skips_lf = false;
            if (*bytes == '\n') {
                bytes++;
                size--;
                continue;
            }
        }
        size_t count = line_size(bytes, size);
        if (count == size) {
            parser->failure = buf_append(&parser->line, bytes, size);
            break;
        }
        parser->failure = end_line(parser, bytes, count, on_event, arg);
        parser->skips_lf = bytes[count] == '\r';
        bytes += count + 1;
        size -= count + 1;
    }
    return parser->failure;
}

bool sse_is_between_events(const struct sse_parser *parser)
{
    return parser->failure == 0 && parser->line.size == 0 && !parser->has_data &&
           parser->name.size == 0;
}
