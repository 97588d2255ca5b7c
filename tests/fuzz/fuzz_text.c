/* Any bytes as the small texts that are read in many places: numbers, durations, sizes, dates,
 * percent coding, globs, UTF-8, addresses of Redis, Retry-After; and token buckets under any calls.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/text.h"
#include "common/queue/redis_url.h"
#include "worker/limit/rate_limit.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { TEXT_MAX = 4096 };

static void check_numbers(const char *text, size_t size)
{
    int64_t number = -7, other = -7, floor = -100;
    double real = -7;

    if (text_parse_i64(text, size, INT64_MIN, INT64_MAX, &number) == 0) {
        CHECK(size > 0);
        CHECK(text_parse_double(text, size, &real) == 0);
        /* The same within bounds, and not beyond them. */
        CHECK((text_parse_i64(text, size, floor, 100, &other) == 0) ==
              (number >= floor && number <= 100));
        if (number < INT64_MAX)
            CHECK(text_parse_i64(text, size, number + 1, INT64_MAX, &other) == ERR_INVALID);
    } else {
        CHECK(number == -7); /* untouched */
    }
    if (text_parse_double(text, size, &real) == 0)
        CHECK(real - real == 0); /* neither infinite nor not a number */
    if (text_parse_duration_ms(text, size, 1000000, &number) == 0)
        CHECK(number >= 0 && number <= 1000000);
    if (text_parse_size(text, size, 1 << 30, &number) == 0)
        CHECK(number >= 0 && number <= 1 << 30);
}

static void check_date(const char *text, size_t size)
{
    int64_t at_ms = -1, again_ms = -1;
    char date[30];

    if (text_parse_http_date(text, size, &at_ms) != 0)
        return;
    text_format_http_date(at_ms, date);
    CHECK(text_parse_http_date(date, strlen(date), &again_ms) == 0);
    CHECK(again_ms == at_ms);
}

static void check_percent(const char *text, size_t size)
{
    char *encoded = malloc(3 * size + 1), *decoded = malloc(size + 1);
    char little[8];
    int status;

    CHECK(encoded && decoded);
    int length = text_percent_encode(text, size, encoded, 3 * size + 1);
    CHECK(length >= 0 && (size_t)length <= 3 * size);
    status = text_percent_decode(encoded, (size_t)length, decoded, size + 1);
    if (size > 0 && memchr(text, '\0', size)) {
        CHECK(status == ERR_INVALID);
    } else {
        CHECK(status == (int)size);
        CHECK(size == 0 || memcmp(decoded, text, size) == 0);
    }
    status = text_percent_decode(text, size, decoded, size + 1);
    CHECK(status == ERR_INVALID || (status >= 0 && (size_t)status <= size));
    status = text_percent_decode(text, size, little, sizeof(little));
    CHECK(status < (int)sizeof(little));
    free(encoded);
    free(decoded);
}

static void check_utf8(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size) {
        size_t step = text_utf8_sequence(text + at, size - at);
        if (step == 0)
            break;
        CHECK(step <= 4 && step <= size - at);
        at += step;
    }
    CHECK(text_is_utf8(text, size) == (at == size));
}

/* The two halves of the input as pattern and text, beside the plainest matcher there is. */
static void check_glob(const char *text, size_t size)
{
    char pattern[64];
    bool can[65] = {true}, next[65];
    size_t pattern_size = size < sizeof(pattern) ? size / 2 : 31;
    size_t rest = size - pattern_size;

    memcpy(pattern, text, pattern_size);
    pattern[pattern_size] = '\0';
    pattern_size = strlen(pattern);
    text += size - rest;
    for (size_t p = 0; p < pattern_size && pattern[p] == '*'; p++)
        can[p + 1] = true;
    for (size_t i = 0; i < rest; i++) {
        memset(next, 0, sizeof(next));
        for (size_t p = 0; p < pattern_size; p++) {
            if (pattern[p] == '*')
                next[p + 1] = next[p] || can[p + 1];
            else
                next[p + 1] = can[p] && (pattern[p] == '?' || pattern[p] == text[i]);
        }
        memcpy(can, next, sizeof(can));
    }
    CHECK(text_glob_match(pattern, text, rest) == can[pattern_size]);
}

static void check_url(const char *text, size_t size)
{
    struct error_text why = {""};
    struct redis_url url;
    char *copy = malloc(size + 1);

    CHECK(copy != NULL);
    memcpy(copy, text, size);
    copy[size] = '\0';
    int status = redis_url_parse(copy, &url, &why);
    if (status == 0) {
        CHECK((url.host[0] != '\0') != (url.path[0] != '\0'));
        CHECK(url.host[0] == '\0' || (url.port > 0 && url.port < 65536));
        CHECK(url.database >= 0);
        CHECK(strlen(url.host) < sizeof(url.host) && strlen(url.path) < sizeof(url.path));
        CHECK(strlen(url.password) < sizeof(url.password));
    } else {
        CHECK(status == ERR_INVALID && why.text[0] != '\0');
    }
    free(copy);
}

/* So many calls in a window are never more than the rate and one burst allow. */
static void check_bucket(const uint8_t *bytes, size_t size)
{
    struct rate_limit limit;
    int64_t now_ms = 1000000, per_minute, started = 0, since_ms = now_ms;
    unsigned children;

    if (size < 3)
        return;
    per_minute = bytes[0] * (bytes[1] % 4 == 0 ? 1 : 257);
    children = 1 + bytes[1] / 4;
    rate_limit_init(&limit, per_minute, children, now_ms);
    for (size_t i = 2; i < size; i++) {
        now_ms += bytes[i] < 250 ? bytes[i] * 8 : -(int64_t)(bytes[i] - 249) * 1000;
        uint32_t room = rate_limit_room(&limit, now_ms);
        if (per_minute == 0) {
            CHECK(room == UINT32_MAX);
            continue;
        }
        CHECK(room <= limit.burst + 1e-6);
        for (uint32_t n = 0; n < room && n < 8; n++) {
            rate_limit_take(&limit, now_ms);
            started++;
        }
        int64_t passed_ms = limit.at_mono_ms - since_ms;
        double allowed = limit.burst + (double)passed_ms * limit.per_ms + 1e-3;
        CHECK((double)started <= allowed);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0 || size > TEXT_MAX)
        return 0;
    char *text = malloc(size); /* the first byte chooses; exactly as long, for the sanitizer */
    CHECK(text != NULL);
    memcpy(text, bytes + 1, size - 1);
    switch (bytes[0] % 7) {
    case 0:
        check_numbers(text, size - 1);
        break;
    case 1:
        check_date(text, size - 1);
        break;
    case 2:
        check_percent(text, size - 1);
        break;
    case 3:
        check_utf8(text, size - 1);
        break;
    case 4:
        check_glob(text, size - 1);
        break;
    case 5:
        check_url(text, size - 1);
        break;
    default:
        check_bucket(bytes + 1, size - 1);
        break;
    }
    free(text);
    return 0;
}
