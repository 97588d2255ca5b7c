/* Any bytes, fed whole and in pieces as the first bytes say: the same events and the same end,
 * within the maxima; and every event written out again reads back as itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/sse.h"

enum { LINE_MAX_BYTES = 200, EVENT_MAX_BYTES = 300, OUT_MAX = 1 << 24 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int on_event(const struct sse_event *event, void *arg)
{
    struct buf *out = arg;

    CHECK(event->data_size <= EVENT_MAX_BYTES);
    CHECK(strlen(event->name) <= LINE_MAX_BYTES);
    CHECK(strlen(event->id) <= LINE_MAX_BYTES);
    CHECK(event->data[event->data_size] == '\0');
    CHECK(buf_printf(out, "%s\n%s\n%zu\n", event->name, event->id, event->data_size) == 0);
    CHECK(buf_append(out, event->data, event->data_size) == 0);
    return 0;
}

static int feed(const uint8_t *bytes, size_t size, size_t piece, struct buf *out)
{
    struct sse_parser parser;
    int status = 0;

    sse_init(&parser, LINE_MAX_BYTES, EVENT_MAX_BYTES);
    for (size_t at = 0; at < size && status == 0; at += piece) {
        size_t count = size - at < piece ? size - at : piece;
        char *copy = malloc(count);
        CHECK(copy != NULL);
        memcpy(copy, bytes + at, count);
        status = sse_feed(&parser, copy, count, on_event, out);
        free(copy);
    }
    CHECK(status == 0 || !sse_is_between_events(&parser));
    sse_deinit(&parser);
    return status;
}

/* Line breaks in data all become '\n', and nothing else changes. */
static int on_written(const struct sse_event *event, void *arg)
{
    struct buf *data = arg;
    return buf_append(data, event->data, event->data_size);
}

static void check_writing(const uint8_t *bytes, size_t size)
{
    struct buf stream = {.size_max = OUT_MAX};
    struct buf data = {.size_max = OUT_MAX};
    struct sse_parser parser;
    size_t at = 0;

    CHECK(sse_put_event(&stream, "1", "x", (const char *)bytes, size) == 0);
    sse_init(&parser, OUT_MAX, OUT_MAX);
    CHECK(buf_append(&data, "", 0) == 0);
    CHECK(sse_feed(&parser, stream.data, stream.size, on_written, &data) == 0);
    CHECK(sse_is_between_events(&parser));
    for (size_t i = 0; i < size; i++, at++) {
        CHECK(at < data.size);
        CHECK(data.data[at] == (bytes[i] == '\r' ? '\n' : (char)bytes[i]));
        i += bytes[i] == '\r' && i + 1 < size && bytes[i + 1] == '\n';
    }
    CHECK(at == data.size);
    sse_deinit(&parser);
    buf_deinit(&stream);
    buf_deinit(&data);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct buf whole = {.size_max = OUT_MAX};
    struct buf cut = {.size_max = OUT_MAX};
    size_t piece = 1;

    if (size > 0) {
        piece = (size_t)bytes[0] + 1;
        bytes++;
        size--;
    }
    CHECK(buf_append(&whole, "", 0) == 0);
    CHECK(buf_append(&cut, "", 0) == 0);
    CHECK(feed(bytes, size, size + 1, &whole) == feed(bytes, size, piece, &cut));
    CHECK(whole.size == cut.size);
    CHECK(memcmp(whole.data, cut.data, whole.size) == 0);
    check_writing(bytes, size);
    buf_deinit(&whole);
    buf_deinit(&cut);
    return 0;
}
