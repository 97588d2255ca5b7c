/* Lines come out the same however the bytes are cut, and long ones cost no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/cli/line_reader.h"
#include "common/base/error.h"

enum { LINE_MAX_BYTES = 100 };

struct pipe_ends {
    int read_fd, write_fd;
};

static struct pipe_ends open_pipe(void)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    return (struct pipe_ends){fds[0], fds[1]};
}

static void write_bytes(int fd, const char *bytes, size_t size)
{
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
}

/* Takes what is there as "number:text;"; "number!" for lines that are too long. */
static int take_all(struct line_reader *reader, struct buf *out)
{
    struct slice line;
    int kind;

    while ((kind = line_reader_next(reader, 0, &line)) == LINE_TEXT || kind == LINE_TOO_LONG) {
        int status = kind == LINE_TEXT ? buf_printf(out, "%d:%.*s;", (int)reader->number,
                                                    (int)line.size, line.bytes)
                                       : buf_printf(out, "%d!;", (int)reader->number);
        assert_int_equal(status, 0);
    }
    return kind;
}

static void gives_the_same_lines_for_every_cut(void **state)
{
    static const char input[] = "\xef\xbb\xbfone\r\n\n  two \n\r\n\tthree";
    static const char expected[] = "1:one;3:two;5:three;";

    (void)state;
    for (size_t piece = 1; piece <= sizeof(input); piece++) {
        struct pipe_ends ends = open_pipe();
        struct line_reader reader;
        struct buf out = {.size_max = 1000};
        line_reader_init(&reader, ends.read_fd, LINE_MAX_BYTES);
        assert_int_equal(buf_append_text(&out, ""), 0);
        for (size_t at = 0; at < sizeof(input) - 1; at += piece) {
            size_t left = sizeof(input) - 1 - at;
            write_bytes(ends.write_fd, input + at, left < piece ? left : piece);
            assert_int_equal(take_all(&reader, &out), LINE_NONE_YET);
        }
        close(ends.write_fd);
        assert_int_equal(take_all(&reader, &out), LINE_END);
        assert_int_equal(take_all(&reader, &out), LINE_END);
        assert_string_equal(out.data, expected);
        buf_deinit(&out);
        line_reader_deinit(&reader);
        close(ends.read_fd);
    }
}

static void passes_over_long_lines(void **state)
{
    struct line_reader reader;
    struct buf out = {.size_max = 1000};
    FILE *file = tmpfile();
    char longest[LINE_MAX_BYTES + 1];

    (void)state;
    assert_non_null(file);
    memset(longest, 'x', sizeof(longest));
    longest[LINE_MAX_BYTES] = '\0';
    fprintf(file, "a\n%sy\n", longest); /* one byte too many */
    for (int i = 0; i < 100000; i++)
        fputs("0123456789", file); /* a megabyte */
    fprintf(file, "\nb\n%s\n%sz", longest, longest);
    rewind(file);
    line_reader_init(&reader, fileno(file), LINE_MAX_BYTES);
    assert_int_equal(take_all(&reader, &out), LINE_END);
    char expected[512];
    snprintf(expected, sizeof(expected), "1:a;2!;3!;4:b;5:%s;6!;", longest);
    assert_string_equal(out.data, expected);
    assert_true(reader.text.capacity < 300000);
    buf_deinit(&out);
    line_reader_deinit(&reader);
    fclose(file);
}

static void takes_bytes_that_are_no_text(void **state)
{
    static const char input[] = "a\0b\n\0\n";
    struct pipe_ends ends = open_pipe();
    struct line_reader reader;
    struct slice line;

    (void)state;
    write_bytes(ends.write_fd, input, sizeof(input) - 1);
    close(ends.write_fd);
    line_reader_init(&reader, ends.read_fd, LINE_MAX_BYTES);
    assert_int_equal(line_reader_next(&reader, 0, &line), LINE_TEXT);
    assert_int_equal(line.size, 3);
    assert_memory_equal(line.bytes, "a\0b", 3);
    assert_int_equal(line_reader_next(&reader, 0, &line), LINE_TEXT);
    assert_int_equal(line.size, 1);
    assert_int_equal(line_reader_next(&reader, 0, &line), LINE_END);
    line_reader_deinit(&reader);
    close(ends.read_fd);
}

static void says_when_it_cannot_read(void **state)
{
    struct line_reader reader;
    struct slice line;
    FILE *folder = fopen("/", "rb");

    (void)state;
    assert_non_null(folder);
    line_reader_init(&reader, fileno(folder), LINE_MAX_BYTES);
    assert_int_equal(line_reader_next(&reader, 0, &line), ERR_IO);
    line_reader_deinit(&reader);
    fclose(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_same_lines_for_every_cut),
        cmocka_unit_test(passes_over_long_lines),
        cmocka_unit_test(takes_bytes_that_are_no_text),
        cmocka_unit_test(says_when_it_cannot_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
