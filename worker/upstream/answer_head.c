#include "worker/upstream/answer_head.h"

#include <string.h>

#include "common/base/error.h"
#include "common/base/slice.h"
#include "common/base/text.h"

static void head_clear(struct answer_head *head)
{
    head->is_encoded = false;
    head->body_size = -1;
    head->retry_after_ms = -1;
    head->has_exact_retry = false;
    head->should_retry = -1;
    head->rate_remaining_requests = -1;
    head->rate_remaining_tokens = -1;
    head->content_type[0] = '\0';
    head->request_id[0] = '\0';
}

void answer_head_init(struct answer_head *head)
{
    head->bytes = 0;
    head->lines = 0;
    head->has_status = false;
    head->has_end = false;
    head_clear(head);
}

/* Printable ASCII only, so that what we keep may stand in logs and records; too long: left out. */
static void keep_text(struct slice value, char *out, size_t size_max)
{
    if (value.size >= size_max)
        return;
    for (size_t i = 0; i < value.size; i++) {
        if (value.bytes[i] < 0x20 || value.bytes[i] > 0x7e)
            return;
    }
    memcpy(out, value.bytes, value.size);
    out[value.size] = '\0';
}

static int64_t clamp_wait(double ms)
{
    if (ms < 0)
        return 0;
    return ms > ANSWER_RETRY_AFTER_MAX_MS ? ANSWER_RETRY_AFTER_MAX_MS : (int64_t)ms;
}

static void on_retry_after(struct answer_head *head, struct slice value, int64_t now_wall_ms)
{
    double seconds;
    int64_t date_ms;

    if (head->has_exact_retry)
        return;
    if (text_parse_double(value.bytes, value.size, &seconds) == 0 && seconds >= 0)
        head->retry_after_ms = clamp_wait(seconds * 1000);
    else if (text_parse_http_date(value.bytes, value.size, &date_ms) == 0)
        head->retry_after_ms = clamp_wait((double)(date_ms - now_wall_ms));
}

static void on_retry_after_ms(struct answer_head *head, struct slice value)
{
    double ms;

    if (text_parse_double(value.bytes, value.size, &ms) < 0 || ms < 0)
        return;
    head->retry_after_ms = clamp_wait(ms);
    head->has_exact_retry = true;
}

static void on_count(struct slice value, int64_t *out)
{
    int64_t count;
    if (text_parse_i64(value.bytes, value.size, 0, INT64_MAX, &count) == 0)
        *out = count;
}

static bool is_name(struct slice name, const char *expected)
{
    return text_equal_nocase(name.bytes, name.size, expected);
}

static void on_field(struct answer_head *head, struct slice name, struct slice value,
                     int64_t now_wall_ms)
{
    switch (name.bytes[0] | 0x20) {
    case 'c':
        if (is_name(name, "content-type"))
            keep_text(value, head->content_type, sizeof head->content_type);
        else if (is_name(name, "content-length"))
            on_count(value, &head->body_size);
        else if (is_name(name, "content-encoding"))
            head->is_encoded = !text_equal_nocase(value.bytes, value.size, "identity");
        return;
    case 'r':
        if (is_name(name, "retry-after"))
            on_retry_after(head, value, now_wall_ms);
        else if (is_name(name, "retry-after-ms"))
            on_retry_after_ms(head, value);
        else if (is_name(name, "request-id") && head->request_id[0] == '\0')
            keep_text(value, head->request_id, sizeof head->request_id);
        return;
    case 'x':
        if (is_name(name, "x-request-id"))
            keep_text(value, head->request_id, sizeof head->request_id);
        else if (is_name(name, "x-should-retry"))
            head->should_retry = is_name(value, "true") ? 1 : is_name(value, "false") ? 0 : -1;
        else if (is_name(name, "x-ratelimit-remaining-requests"))
            on_count(value, &head->rate_remaining_requests);
        else if (is_name(name, "x-ratelimit-remaining-tokens"))
            on_count(value, &head->rate_remaining_tokens);
        return;
    default:
        return;
    }
}

static struct slice trim(const char *bytes, size_t size)
{
    while (size > 0 && (*bytes == ' ' || *bytes == '\t')) {
        bytes++;
        size--;
    }
    while (size > 0 && strchr(" \t\r\n", bytes[size - 1]) && bytes[size - 1] != '\0')
        size--;
    return (struct slice){bytes, size};
}

int answer_head_line(struct answer_head *head, const char *line, size_t size, int64_t now_wall_ms)
{
    head->bytes += size;
    head->lines++;
    if (head->bytes > ANSWER_HEAD_BYTES_MAX || head->lines > ANSWER_HEAD_LINES_MAX)
        return ERR_TOO_BIG;
    if (size == 0)
        return 0;
    if (size >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        head_clear(head);
        head->has_status = true;
        head->has_end = false;
        return 0;
    }
    if (line[0] == '\r' || line[0] == '\n') {
        head->has_end = head->has_status;
        return 0;
    }
    const char *colon = memchr(line, ':', size);
    if (!colon || colon == line)
        return 0;
    struct slice name = {line, (size_t)(colon - line)};
    on_field(head, name, trim(colon + 1, size - name.size - 1), now_wall_ms);
    return 0;
}
