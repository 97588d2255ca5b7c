/* Strict parsing of small texts, in one place: numbers, durations, sizes, UTF-8, percent coding.
 * All take a pointer and a length; nothing needs a terminator. Nothing accepts spaces or signs that
 * were not asked for. */
#ifndef PENSTOCK_BASE_TEXT_H
#define PENSTOCK_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

/* Decimal digits, with '-' only where min < 0. ERR_INVALID when it is not such a number or lies
 * outside min..max; *out untouched then. */
MUST_CHECK int text_parse_i64(const char *text, size_t size, int64_t min, int64_t max,
                              int64_t *out);
MUST_CHECK int text_parse_double(const char *text, size_t size, double *out);
/* "250ms", "30s", "5m", "2h", "7d", or bare digits = seconds. */
MUST_CHECK int text_parse_duration_ms(const char *text, size_t size, int64_t max_ms,
                                      int64_t *out_ms);
/* "4096", "64k", "16M", "2G" (powers of 1024). */
MUST_CHECK int text_parse_size(const char *text, size_t size, int64_t max, int64_t *out_bytes);
bool text_is_utf8(const char *bytes, size_t size);
/* Size (1..4) of the well-formed UTF-8 sequence at the start, 0 when there is none. */
size_t text_utf8_sequence(const char *bytes, size_t size);
bool text_equal(const char *a, size_t a_size, const char *b); /* exact, b terminated */
bool text_equal_nocase(const char *a, size_t a_size, const char *b);
bool text_starts_with(const char *text, const char *prefix);
/* '*' any run, '?' any one byte, everything else itself. Iterative, O(n*m) worst. */
bool text_glob_match(const char *pattern, const char *text, size_t text_size);
/* Decodes %XX into out (size_max bytes incl. terminator). ERR_INVALID on a bad escape or %00,
 * ERR_TOO_BIG. Returns the decoded length. */
MUST_CHECK int text_percent_decode(const char *text, size_t size, char *out, size_t size_max);
/* Encodes everything but unreserved characters (RFC 3986). Returns the length. */
MUST_CHECK int text_percent_encode(const char *text, size_t size, char *out, size_t size_max);
/* HTTP date (RFC 9110 IMF-fixdate) to wall ms. */
MUST_CHECK int text_parse_http_date(const char *text, size_t size, int64_t *out_ms);
void text_format_http_date(int64_t wall_ms, char out[30]);

#endif
