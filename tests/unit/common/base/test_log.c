/* The form of lines, the level, the bounded ring before a blocked sink, and held-back repeats. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/jdoc.h"
#include "common/base/log.h"
#include "common/base/log_line.h"

static const struct log_line_style text_style = {.pid = 1234, .process = "broker"};
static const struct log_line_style json_style = {.is_json = true, .pid = 1234, .process = "broker"};

static const char *format(struct log_line *line, const struct log_line_style *style,
                          const struct log_field *fields, size_t count)
{
    const struct log_entry entry = {1795228660123, LOG_INFO, "job_finished", fields, count};
    log_line_format(line, style, &entry);
    assert_true(line->size > 0 && line->size < sizeof line->bytes);
    assert_int_equal(line->bytes[line->size - 1], '\n');
    line->bytes[line->size] = '\0';
    return line->bytes;
}

static void test_text_line(void **state)
{
    const struct log_field fields[] = {LOG_S("job", "job_1"), LOG_I("attempt", -2),
                                       LOG_S("why", "two words"), LOG_S("none", ""),
                                       LOG_SN("cut", "abcdef", 3)};
    struct log_line line;
    (void)state;
    assert_string_equal(format(&line, &text_style, fields, 5),
                        "2026-11-21T02:37:40.123Z info broker[1234] job_finished job=job_1 "
                        "attempt=-2 why=\"two words\" none=\"\" cut=abc\n");
}

static void test_json_line(void **state)
{
    const struct log_field fields[] = {LOG_S("job", "job_1"), LOG_I("attempt", 2)};
    struct log_line line;
    (void)state;
    assert_string_equal(
        format(&line, &json_style, fields, 2),
        "{\"time\":\"2026-11-21T02:37:40.123Z\",\"level\":\"info\",\"process\":\"broker\","
        "\"pid\":1234,\"event\":\"job_finished\",\"job\":\"job_1\",\"attempt\":2}\n");
}

static void test_hostile_values_stay_on_their_line(void **state)
{
    static const char hostile[] = "a\nb\r\x1b[31m\x7f\"\\\xc2\x9b\xff\xc3\xa9=\0z";
    const struct log_field fields[] = {LOG_SN("v", hostile, sizeof hostile - 1)};
    struct log_line line;
    struct jdoc *doc = NULL;
    (void)state;

    const char *text = format(&line, &text_style, fields, 1);
    assert_non_null(strstr(text,
                           " v=\"a\\nb\\r\\u001b[31m\\u007f\\\"\\\\\\u009b\xef\xbf\xbd\xc3\xa9"
                           "=\\u0000z\"\n"));
    text = format(&line, &json_style, fields, 1);
    assert_int_equal(jdoc_parse(text, line.size, &doc, NULL), 0);
    jdoc_destroy(doc);
}

static void test_long_values_are_cut(void **state)
{
    static char longer[2 * LOG_LINE_SIZE_MAX];
    (void)state;

    for (size_t size = LOG_LINE_SIZE_MAX - 250; size < LOG_LINE_SIZE_MAX + 10; size++) {
        struct log_line line;
        struct jdoc *doc = NULL;
        struct error_text why = {""};
        memset(longer, size % 2 == 0 ? 'x' : '\n', size);
        const struct log_field fields[] = {LOG_SN("v", longer, size), LOG_S("key", "value"),
                                           LOG_I("number", 123456789), LOG_S("last", "\n\n")};
        format(&line, &text_style, fields, 4);
        assert_int_equal(strstr(line.bytes, " last=\"\\n\\n\"\n") == NULL,
                         strstr(line.bytes, " truncated=true\n") != NULL);
        format(&line, &json_style, fields, 4);
        if (jdoc_parse(line.bytes, line.size, &doc, &why) != 0)
            fail_msg("%zu: %s", size, why.text);
        assert_int_equal(jval_has(jdoc_root(doc), "last") &&
                             strstr(line.bytes, "\"last\":\"\\n\\n\"}") != NULL,
                         !jval_has(jdoc_root(doc), "truncated"));
        jdoc_destroy(doc);
    }
}

/* --- the sink: standard error is replaced while a test runs ---------------------------------- */

static int saved_stderr;

static int setup(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* as all our programs do */
    saved_stderr = dup(STDERR_FILENO);
    return saved_stderr < 0;
}

static int teardown(void **state)
{
    (void)state;
    int status = dup2(saved_stderr, STDERR_FILENO) < 0;
    (void)close(saved_stderr);
    log_init("test", LOG_INFO, LOG_TEXT);
    return status;
}

static void pipe_stderr(int *out_read_end)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    (void)close(ends[1]);
    *out_read_end = ends[0];
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
}

/* Everything the pipe holds now, as text. */
static const char *drain(int fd)
{
    static char text[2 * 1024 * 1024];
    size_t size = 0;
    ssize_t count;

    while (size < sizeof text - 1 && (count = read(fd, text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)count;
    text[size] = '\0';
    return text;
}

static unsigned count_of(const char *text, const char *needle)
{
    unsigned count = 0;
    for (const char *at = strstr(text, needle); at; at = strstr(at + 1, needle))
        count++;
    return count;
}

static void test_levels(void **state)
{
    int fd;
    (void)state;

    pipe_stderr(&fd);
    log_init("worker", LOG_WARN, LOG_TEXT);
    assert_true(log_is_on(LOG_ERROR));
    assert_false(log_is_on(LOG_INFO));
    log_event(LOG_INFO, "hidden", LOG_I("n", 1));
    log_event(LOG_ERROR, "shown", LOG_I("n", 1));
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "also_shown", LOG_I("n", 1));
    log_write(LOG_INFO, "bare", NULL, 0);
    assert_true(log_flush());
    const char *text = drain(fd);
    assert_null(strstr(text, "hidden"));
    assert_non_null(strstr(text, " error worker["));
    assert_non_null(strstr(text, "] shown n=1\n"));
    assert_non_null(strstr(text, "] also_shown n=1\n"));
    assert_non_null(strstr(text, "] bare\n"));
    (void)close(fd);
}

static void test_blocked_sink_never_blocks(void **state)
{
    enum { LINES = 20000 };
    uint64_t dropped = log_dropped_count();
    int fd;
    (void)state;

    pipe_stderr(&fd);
    log_init("worker", LOG_INFO, LOG_TEXT);
    for (int i = 0; i < LINES; i++)
        log_event(LOG_INFO, "flood", LOG_I("n", i));
    assert_false(log_flush());
    assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0); /* ours to others: as it was */
    dropped = log_dropped_count() - dropped;
    assert_true(dropped > 0);

    unsigned arrived = 0;
    bool is_empty = false;
    for (int i = 0; i < 1000 && !is_empty; i++) {
        arrived += count_of(drain(fd), "\n");
        is_empty = log_flush();
    }
    arrived += count_of(drain(fd), "\n");
    assert_true(is_empty);
    assert_int_equal(arrived + dropped, LINES);
    assert_true(arrived >= 8192);
    (void)close(fd);
}

static void test_broken_pipe_is_survived(void **state)
{
    int fd;
    (void)state;

    pipe_stderr(&fd);
    log_init("worker", LOG_INFO, LOG_TEXT);
    (void)close(fd);
    uint64_t dropped = log_dropped_count();
    log_event(LOG_INFO, "unheard", LOG_I("n", 1));
    assert_true(log_flush());
    assert_true(log_dropped_count() == dropped + 1);
}

static void test_socket_sink(void **state)
{
    int ends[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    (void)close(ends[1]);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    log_init("worker", LOG_INFO, LOG_JSON);
    bool is_blocked = false;
    for (int i = 0; i < 10000 && !is_blocked; i++) {
        log_event(LOG_INFO, "flood", LOG_I("n", i));
        is_blocked = !log_flush();
    }
    assert_true(is_blocked);
    assert_non_null(strstr(drain(ends[0]), "\"event\":\"flood\",\"n\":0}\n"));
    (void)close(ends[0]);
    (void)log_flush(); /* the peer is gone: what is left is dropped */
}

static void test_file_sink(void **state)
{
    char path[] = "/tmp/penstock-test-log-XXXXXX";
    int fd = mkstemp(path);
    (void)state;

    assert_true(fd >= 0);
    (void)unlink(path);
    assert_int_equal(write(fd, "before\n", 7), 7);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    log_init("worker", LOG_INFO, LOG_TEXT);
    log_event(LOG_INFO, "in_file", LOG_I("n", 1));
    assert_true(log_flush());
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    const char *text = drain(fd);
    assert_int_equal(strncmp(text, "before\n", 7), 0); /* shared position: nothing overwritten */
    assert_non_null(strstr(text, "] in_file n=1\n"));
    (void)close(fd);
}

static void test_repeats_are_held_back(void **state)
{
    const char *text;
    int64_t start_ms;
    int fd;
    (void)state;

    pipe_stderr(&fd);
    log_init("worker", LOG_INFO, LOG_TEXT);
    do { /* again if the machine stopped for a second in between */
        start_ms = clock_mono_ms();
        for (int i = 0; i < 100; i++) {
            log_event(LOG_WARN, "upstream_failed", LOG_S("upstream", "gpu0"), LOG_I("n", i));
            log_event(LOG_INFO, "not_limited", LOG_I("n", i));
        }
        log_event(LOG_WARN, "upstream_failed", LOG_S("upstream", "gpu1"), LOG_I("n", 0));
        assert_true(log_flush());
        text = drain(fd);
    } while (clock_mono_ms() - start_ms > 900);
    assert_int_equal(count_of(text, "upstream=gpu0"), 10);
    assert_int_equal(count_of(text, "upstream=gpu1"), 1);
    assert_int_equal(count_of(text, "not_limited"), 100);

    text = "";
    for (start_ms = clock_mono_ms(); *text == '\0' && clock_mono_ms() - start_ms < 5000;) {
        assert_true(log_flush()); /* once the second is over, the count comes by itself */
        text = drain(fd);
    }
    assert_non_null(strstr(text, " warn "));
    assert_non_null(strstr(text, "log_repeats_held_back of=upstream_failed first=gpu0 count=90\n"));
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_line),
        cmocka_unit_test(test_json_line),
        cmocka_unit_test(test_hostile_values_stay_on_their_line),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocked_sink_never_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_pipe_is_survived, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket_sink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_sink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeats_are_held_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
