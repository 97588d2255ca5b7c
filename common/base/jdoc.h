/* JSON documents, bounded and strict: the only door to json-c.
 *
 * Strict RFC 8259, valid UTF-8, nesting at most JDOC_DEPTH_MAX, no duplicate keys on any level, no
 * keys with NUL, nothing after the value, no BOM. A value is borrowed from its document. Values
 * that are absent are NULL, and every accessor takes NULL.
 *
 * Because bodies are forwarded byte for byte, jdoc_slice gives the bytes of a member as they
 * stand in the text. */
#ifndef PENSTOCK_BASE_JDOC_H
#define PENSTOCK_BASE_JDOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/error.h"

enum { JDOC_DEPTH_MAX = 64 };

struct jdoc;
struct jval; /* a borrowed value inside a document */

enum jtype {
    JTYPE_NULL,
    JTYPE_BOOL,
    JTYPE_INT,
    JTYPE_DOUBLE,
    JTYPE_STRING,
    JTYPE_ARRAY,
    JTYPE_OBJECT
};

/* Parses text (kept until jdoc_destroy: slices point into it). ERR_INVALID with the reason and
 * "at byte N" in why; ERR_NOMEM. */
MUST_CHECK int jdoc_parse(const char *text, size_t size, struct jdoc **out, struct error_text *why);
void jdoc_destroy(struct jdoc *doc);
const struct jval *jdoc_root(const struct jdoc *doc);
/* The bytes of member `key` of the top-level object, as they stand in the text, without the white
 * space around. ERR_NOT_FOUND. */
MUST_CHECK int jdoc_slice(const struct jdoc *doc, const char *key, const char **out_bytes,
                          size_t *out_size);

enum jtype jval_type(const struct jval *value); /* JTYPE_NULL for NULL */
const char *jval_type_name(const struct jval *value);
const struct jval *jval_get(const struct jval *object, const char *key); /* NULL: absent */
bool jval_has(const struct jval *object, const char *key);               /* true for null too */
size_t jval_count(const struct jval *array_or_object);
const struct jval *jval_at(const struct jval *array, size_t index);
/* Borrowed bytes, may hold NUL; NULL unless a string. */
const char *jval_string(const struct jval *value, size_t *out_size);
/* ERR_INVALID unless an integer in range (1.0 is not an integer, nor is 2^63). */
MUST_CHECK int jval_i64(const struct jval *value, int64_t min, int64_t max, int64_t *out);
MUST_CHECK int jval_double(const struct jval *value, double *out);
MUST_CHECK int jval_bool(const struct jval *value, bool *out);
/* Calls on_member for each member in order until it returns non-zero, and returns that. */
typedef int (*jval_member_fn)(const char *key, const struct jval *value, void *arg);
int jval_each(const struct jval *object, jval_member_fn on_member, void *arg);
/* Compact text of a value. */
MUST_CHECK int jval_print(const struct jval *value, struct buf *out);

/* Writing: appends a quoted, escaped string; invalid UTF-8 becomes U+FFFD. */
MUST_CHECK int json_put_string(struct buf *out, const char *bytes, size_t size);
/* Milliseconds as seconds with three decimals (1790000000.123); 0 as null. */
MUST_CHECK int json_put_seconds(struct buf *out, int64_t ms);

#endif
