/* What is written reads back, and what upstreams send gives the same events for every cut of the
 * bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "common/base/sse.h"

/* Events as text: name|id|data, each closed by ';'. */
static int on_event(const struct sse_event *event, void *arg)
{
    struct buf *out = arg;
    int status = buf_printf(out, "%s|%s|", event->name, event->id);

    assert_int_equal(event->data[event->data_size], 0);
    if (status == 0)
        status = buf_append(out, event->data, event->data_size);
    return status < 0 ? status : buf_append_char(out, ';');
}

static void assert_events(const char *stream, size_t size, const char *expected, bool is_whole)
{
    for (size_t piece = 1; piece <= size + 1; piece++) {
        struct sse_parser parser;
        struct buf out = {.size_max = 10000};
        char *copy = malloc(piece);
        assert_non_null(copy);
        assert_int_equal(buf_append_text(&out, ""), 0);
        sse_init(&parser, 1000, 1000);
        for (size_t at = 0; at < size; at += piece) {
            size_t count = size - at < piece ? size - at : piece;
            memcpy(copy, stream + at, count);
            assert_int_equal(sse_feed(&parser, copy, count, on_event, &out), 0);
        }
        assert_string_equal(out.data, expected);
        assert_int_equal(sse_is_between_events(&parser), is_whole);
        sse_deinit(&parser);
        buf_deinit(&out);
        free(copy);
    }
}

static void test_streams(void **state)
{
    static const struct {
        const char *stream;
        const char *expected;
        bool is_whole;
    } cases[] = {
        {"", "", true},
        {"data: a\n\n", "message||a;", true},
        {"data: a\r\n\r\ndata: b\r\rdata: c\n\n", "message||a;message||b;message||c;", true},
        {"data: a\ndata: b\r\ndata:\r\n\n", "message||a\nb\n;", true},
        {"data:a\ndata:  b\n\n", "message||a\n b;", true},
        {"data\n\n", "message||;", true},
        {"data:\n\n", "message||;", true},
        {"\n\n\r\n\r", "", true},
        {"event: delta\nid: 7\ndata: {}\n\ndata: x\n\n", "delta|7|{};message|7|x;", true},
        {"event: delta\n\ndata: x\n\n", "message||x;", true},
        {"id: 1\nid\ndata: x\n\n", "message||x;", true},
        {": keep-alive\n\n:\ndata: x\n\n", "message||x;", true},
        {"retry: 5\nfoo: bar\ndatax: y\ndata: x\n\n", "message||x;", true},
        {"\xef\xbb\xbf"
         "data: a\n\n",
         "message||a;", true},
        {"data: a\n\n\xef\xbb\xbf"
         "data: b\n\n",
         "message||a;", true},
        {"data: [DONE]\n\n", "message||[DONE];", true},
        {"data: a\n\ndata: b", "message||a;", false},
        {"data: a\n\ndata: b\n", "message||a;", false},
        {"data: a\n\nevent: x\n", "message||a;", false},
        {"data: a\n\nda", "message||a;", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_events(cases[i].stream, strlen(cases[i].stream), cases[i].expected,
                      cases[i].is_whole);
}

static int keep_event(const struct sse_event *event, void *arg)
{
    struct buf *out = arg;
    assert_string_equal(event->id, "1");
    return buf_append(out, event->data, event->data_size);
}

static void test_bytes_pass_unchanged(void **state)
{
    static const char stream[] =
        "id: 1\nid: a\0b\ndata: x\0y\xff\n\n"; /* an id with NUL is no id */
    struct sse_parser parser;
    struct buf out = {.size_max = 100};
    (void)state;

    sse_init(&parser, 100, 100);
    assert_int_equal(sse_feed(&parser, stream, sizeof stream - 1, keep_event, &out), 0);
    assert_int_equal(out.size, 4);
    assert_memory_equal(out.data, "x\0y\xff", 4);
    sse_deinit(&parser);
    buf_deinit(&out);
}

static void test_lines_and_events_have_maxima(void **state)
{
    static const char fits[] = "data: 1234\ndata: 56789\n\n"; /* lines of 10 and 11, data of 10 */
    static const char line_too_long[] = "data: 123456\n\n";
    static const char event_too_long[] = "data: 1234\ndata: 56789\ndata:\n\n";
    (void)state;

    for (size_t piece = 1; piece < 30; piece++) {
        struct buf out = {.size_max = 1000};
        struct sse_parser parser;
        sse_init(&parser, 11, 10);
        int status = 0;
        for (size_t at = 0; at < sizeof fits - 1 && status == 0; at += piece) {
            size_t left = sizeof fits - 1 - at;
            status = sse_feed(&parser, fits + at, left < piece ? left : piece, on_event, &out);
        }
        assert_int_equal(status, 0);
        assert_string_equal(out.data, "message||1234\n56789;");
        buf_clear(&out);
        for (size_t at = 0; at < sizeof line_too_long - 1 && status == 0; at += piece) {
            size_t left = sizeof line_too_long - 1 - at;
            status =
                sse_feed(&parser, line_too_long + at, left < piece ? left : piece, on_event, &out);
        }
        assert_int_equal(status, ERR_TOO_BIG);
        assert_int_equal(out.size, 0);
        assert_int_equal(sse_feed(&parser, "\n\n", 2, on_event, &out), ERR_TOO_BIG); /* for good */
        assert_false(sse_is_between_events(&parser));
        sse_deinit(&parser);

        sse_init(&parser, 11, 10);
        assert_int_equal(
            sse_feed(&parser, event_too_long, sizeof event_too_long - 1, on_event, &out),
            ERR_TOO_BIG);
        assert_int_equal(out.size, 0);
        sse_deinit(&parser);
        buf_deinit(&out);
    }
}

static int stop_at_second(const struct sse_event *event, void *arg)
{
    int *count = arg;
    (void)event;
    return ++*count == 2 ? 77 : 0;
}

static void test_callback_stops_the_parser(void **state)
{
    struct sse_parser parser;
    int count = 0;
    (void)state;

    sse_init(&parser, 100, 100);
    assert_int_equal(
        sse_feed(&parser, "data: 1\n\ndata: 2\n\ndata: 3\n\n", 27, stop_at_second, &count), 77);
    assert_int_equal(count, 2);
    assert_int_equal(sse_feed(&parser, "data: 4\n\n", 9, stop_at_second, &count), 77);
    assert_int_equal(count, 2);
    sse_deinit(&parser);
}

static void test_many_short_lines_are_linear(void **state)
{
    enum { SIZE = 4 * 1024 * 1024 };
    char *bytes = malloc(SIZE);
    struct sse_parser parser;
    int count = 0;
    (void)state;

    assert_non_null(bytes);
    memset(bytes, '\r', SIZE);
    sse_init(&parser, 100, 100);
    assert_int_equal(sse_feed(&parser, bytes, SIZE, stop_at_second, &count), 0);
    assert_int_equal(count, 0);
    sse_deinit(&parser);
    free(bytes);
}

static void test_writing(void **state)
{
    struct buf out = {.size_max = 200};
    (void)state;

    assert_int_equal(sse_put_event(&out, "12", "chunk", "a\nb\r\nc\rd\n", 9), 0);
    assert_string_equal(out.data,
                        "id: 12\nevent: chunk\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    buf_clear(&out);
    assert_int_equal(sse_put_event(&out, NULL, NULL, NULL, 0), 0);
    assert_string_equal(out.data, "data: \n\n");
    buf_clear(&out);
    assert_int_equal(sse_put_comment(&out, "keep-alive"), 0);
    assert_string_equal(out.data, ": keep-alive\n\n");
    assert_int_equal(sse_put_event(&out, "1\n2", NULL, "x", 1), ERR_INVALID);
    assert_int_equal(sse_put_event(&out, NULL, "a\rb", "x", 1), ERR_INVALID);
    assert_int_equal(sse_put_comment(&out, "a\nb"), ERR_INVALID);
    assert_string_equal(out.data, ": keep-alive\n\n");
    buf_deinit(&out);

    struct buf small = {.size_max = 20};
    assert_int_equal(buf_append_text(&small, "before"), 0);
    assert_int_equal(sse_put_event(&small, "1", NULL, "too long for it", 15), ERR_TOO_BIG);
    assert_string_equal(small.data, "before");
    buf_deinit(&small);
}

static void test_written_is_read(void **state)
{
    struct buf stream = {.size_max = 1000};
    (void)state;

    assert_int_equal(sse_put_event(&stream, "1", "job", "{\"a\":1}", 7), 0);
    assert_int_equal(sse_put_comment(&stream, ""), 0);
    assert_int_equal(sse_put_event(&stream, "2", NULL, " two\nlines", 10), 0);
    assert_int_equal(sse_put_event(&stream, NULL, "done", "", 0), 0);
    assert_events(stream.data, stream.size, "job|1|{\"a\":1};message|2| two\nlines;done|2|;", true);
    buf_deinit(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_bytes_pass_unchanged),
        cmocka_unit_test(test_lines_and_events_have_maxima),
        cmocka_unit_test(test_callback_stops_the_parser),
        cmocka_unit_test(test_many_short_lines_are_linear),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_written_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
