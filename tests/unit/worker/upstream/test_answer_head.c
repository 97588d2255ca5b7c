#include "worker/upstream/answer_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/error.h"

/* Sun, 06 Nov 1994 08:49:37 GMT */
static const int64_t date_ms = INT64_C(784111777000);

static struct answer_head read_lines(const char *const *lines, size_t count, int64_t now_wall_ms)
{
    struct answer_head head;

    answer_head_init(&head);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(answer_head_line(&head, lines[i], strlen(lines[i]), now_wall_ms), 0);
    return head;
}

static int64_t retry_after(const char *line)
{
    const char *const lines[] = {"HTTP/1.1 429 No\r\n", line};
    return read_lines(lines, 2, date_ms).retry_after_ms;
}

static void test_retry_after(void **state)
{
    (void)state;
    assert_int_equal(retry_after("X: y\r\n"), -1);
    assert_int_equal(retry_after("Retry-After: 0\r\n"), 0);
    assert_int_equal(retry_after("retry-after: 1\r\n"), 1000);
    assert_int_equal(retry_after("RETRY-AFTER:\t1.5 \r\n"), 1500);
    assert_int_equal(retry_after("Retry-After: 3600"), 3600 * 1000);
    assert_int_equal(retry_after("Retry-After: 99999999999999999999\r\n"),
                     ANSWER_RETRY_AFTER_MAX_MS);
    assert_int_equal(retry_after("Retry-After: -5\r\n"), -1);
    assert_int_equal(retry_after("Retry-After: soon\r\n"), -1);
    assert_int_equal(retry_after("Retry-After:\r\n"), -1);
    assert_int_equal(retry_after("Retry-After: 1 2\r\n"), -1);
    assert_int_equal(retry_after("retry-after-ms: 250\r\n"), 250);
    assert_int_equal(retry_after("retry-after-ms: nan\r\n"), -1);
    /* Dates: ahead, past, beyond the most, broken. */
    assert_int_equal(retry_after("Retry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\n"), 10000);
    assert_int_equal(retry_after("Retry-After: Sun, 06 Nov 1994 08:00:00 GMT\r\n"), 0);
    assert_int_equal(retry_after("Retry-After: Sun, 06 Nov 2094 08:00:00 GMT\r\n"),
                     ANSWER_RETRY_AFTER_MAX_MS);
    assert_int_equal(retry_after("Retry-After: Sun, 06 Nov\r\n"), -1);
}

static void test_milliseconds_win_over_seconds(void **state)
{
    static const char *const first[] = {"HTTP/1.1 429\r\n", "retry-after-ms: 20\r\n",
                                        "retry-after: 9\r\n"};
    static const char *const last[] = {"HTTP/1.1 429\r\n", "retry-after: 9\r\n",
                                       "retry-after-ms: 20\r\n"};
    (void)state;
    assert_int_equal(read_lines(first, 3, 0).retry_after_ms, 20);
    assert_int_equal(read_lines(last, 3, 0).retry_after_ms, 20);
}

static void test_other_fields(void **state)
{
    static const char *const lines[] = {"HTTP/1.1 200 OK\r\n",
                                        "content-type: application/json; charset=utf-8\r\n",
                                        "Content-Length: 12\r\n",
                                        "content-encoding: Identity\r\n",
                                        "x-should-retry: FALSE\r\n",
                                        "request-id: first\r\n",
                                        "x-ratelimit-remaining-requests: 59\r\n",
                                        "x-ratelimit-remaining-tokens: -1\r\n",
                                        ": no name\r\n",
                                        "no colon\r\n",
                                        "\r\n"};
    (void)state;
    struct answer_head head = read_lines(lines, sizeof lines / sizeof lines[0], 0);
    assert_string_equal(head.content_type, "application/json; charset=utf-8");
    assert_int_equal(head.body_size, 12);
    assert_false(head.is_encoded);
    assert_int_equal(head.should_retry, 0);
    assert_string_equal(head.request_id, "first");
    assert_int_equal(head.rate_remaining_requests, 59);
    assert_int_equal(head.rate_remaining_tokens, -1);
    assert_true(head.has_end);
}

static void test_a_new_status_line_starts_over(void **state)
{
    static const char *const lines[] = {"HTTP/1.1 103 Early Hints\r\n",
                                        "retry-after: 9\r\n",
                                        "x-request-id: early\r\n",
                                        "content-encoding: gzip\r\n",
                                        "\r\n",
                                        "HTTP/1.1 200 OK\r\n"};
    (void)state;
    struct answer_head head = read_lines(lines, 6, 0);
    assert_int_equal(head.retry_after_ms, -1);
    assert_string_equal(head.request_id, "");
    assert_false(head.is_encoded);
    assert_false(head.has_end);
}

static void test_what_does_not_fit_is_left_out(void **state)
{
    char line[300] = "x-request-id: ";
    const char *const lines[] = {"HTTP/1.1 200 OK\r\n", line, "content-type: a\x01z\r\n"};
    (void)state;

    memset(line + 14, 'r', 200);
    struct answer_head head = read_lines(lines, 3, 0);
    assert_string_equal(head.request_id, "");
    assert_string_equal(head.content_type, "");
}

static void test_heads_are_bounded(void **state)
{
    struct answer_head head;
    char line[1024];
    int status = 0;
    (void)state;

    memset(line, 'a', sizeof line);
    answer_head_init(&head);
    for (int i = 0; i < 64; i++)
        assert_int_equal(answer_head_line(&head, line, sizeof line, 0), 0);
    assert_int_equal(answer_head_line(&head, line, 1, 0), ERR_TOO_BIG);

    answer_head_init(&head);
    for (int i = 0; i < ANSWER_HEAD_LINES_MAX && status == 0; i++)
        status = answer_head_line(&head, "a: b\r\n", 6, 0);
    assert_int_equal(status, 0);
    assert_int_equal(answer_head_line(&head, "a: b\r\n", 6, 0), ERR_TOO_BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_milliseconds_win_over_seconds),
        cmocka_unit_test(test_other_fields),
        cmocka_unit_test(test_a_new_status_line_starts_over),
        cmocka_unit_test(test_what_does_not_fit_is_left_out),
        cmocka_unit_test(test_heads_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
