/* HTTP dates (RFC 9110, IMF-fixdate): "Sun, 06 Nov 1994 08:49:37 GMT". Part of text.h. */
#include <string.h>
#include <time.h>

#include "common/base/error.h"
#include "common/base/text.h"

enum { HTTP_DATE_SIZE = 29 };

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static int find_name(const char *text, const char names[][4], int count)
{
    for (int i = 0; i < count; i++) {
        if (memcmp(text, names[i], 3) == 0)
            return i;
    }
    return -1;
}

static int days_in_month(int year, int month)
{
    static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month] + (month == 1 && leap ? 1 : 0);
}

/* Everything that does not change from date to date stands where it must. */
static bool has_frame(const char *text)
{
    return memcmp(text + 3, ", ", 2) == 0 && text[7] == ' ' && text[11] == ' ' && text[16] == ' ' &&
           text[19] == ':' && text[22] == ':' && memcmp(text + 25, " GMT", 4) == 0 &&
           find_name(text, day_names, 7) >= 0;
}

int text_parse_http_date(const char *text, size_t size, int64_t *out_ms)
{
    int64_t day;
    int64_t year;
    int64_t hour;
    int64_t minute;
    int64_t second;

    if (size != HTTP_DATE_SIZE || !has_frame(text))
        return ERR_INVALID;
    int month = find_name(text + 8, month_names, 12);
    if (month < 0 || text_parse_i64(text + 12, 4, 1970, 9999, &year) < 0)
        return ERR_INVALID;
    if (text_parse_i64(text + 5, 2, 1, days_in_month((int)year, month), &day) < 0 ||
        text_parse_i64(text + 17, 2, 0, 23, &hour) < 0 ||
        text_parse_i64(text + 20, 2, 0, 59, &minute) < 0 ||
        text_parse_i64(text + 23, 2, 0, 60, &second) < 0) /* 60: a leap second */
        return ERR_INVALID;

    struct tm parts = {.tm_year = (int)year - 1900,
                       .tm_mon = month,
                       .tm_mday = (int)day,
                       .tm_hour = (int)hour,
                       .tm_min = (int)minute,
                       .tm_sec = (int)second};
    *out_ms = (int64_t)timegm(&parts) * 1000;
    return 0;
}

void text_format_http_date(int64_t wall_ms, char out[30])
{
    const int64_t latest_s = INT64_C(253402300799); /* the last second of the year 9999 */
    int64_t seconds = wall_ms < 0 ? 0 : wall_ms / 1000;
    time_t moment = (time_t)(seconds > latest_s ? latest_s : seconds);
    struct tm parts;

    CHECK(gmtime_r(&moment, &parts) != NULL);
    (void)strftime(out, 30, "%a, %d %b %Y %H:%M:%S GMT", &parts); /* names of the C locale */
}
