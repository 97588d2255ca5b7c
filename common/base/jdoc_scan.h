/* One strict pass over a JSON text (RFC 8259), before json-c builds a tree of it: json-c is lenient
 * in places and tells neither offsets nor duplicates. Pure. Besides jdoc.c, providers look at
 * answers with it, which may be too large for trees. */
#ifndef PENSTOCK_BASE_JDOC_SCAN_H
#define PENSTOCK_BASE_JDOC_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"

enum {
    JSON_SCAN_TOP_MAX = 64, /* members of the top-level object whose place is recorded */
    /* A tree needs far more memory than its text: 48 bytes for the value "1", 700 for "{}". These
     * three bound the tree of any text to about 150 MB; no inference request comes near them. */
    JSON_SCAN_VALUES_MAX = 1000000,
    JSON_SCAN_MEMBERS_MAX = 200000,
    JSON_SCAN_CONTAINERS_MAX = 65536
};

struct json_member {
    uint32_t key_at; /* the bytes between the quotes, escapes as they stand */
    uint32_t key_size;
    uint32_t value_at;
    uint32_t value_size;
};

struct json_scan {
    const char *error; /* NULL: the text is valid */
    size_t error_at;   /* byte offset, from 0 */
    size_t root_at;    /* the value without the white space around */
    size_t root_size;
    size_t value_count;
    size_t member_count;    /* of all objects together */
    size_t container_count; /* arrays and objects */
    bool has_wide_integer;  /* one beyond 64 bits with sign */
    size_t top_count; /* members of the top-level object; above JSON_SCAN_TOP_MAX: not all stand
                         here */
    struct json_member top[JSON_SCAN_TOP_MAX];
};

/* Functions may be NULL. Called in the order of the text. */
struct json_scan_hooks {
    /* object: number of the object, in order of their opening braces. */
    void (*on_key)(void *arg, uint32_t object, uint32_t key_at, uint32_t key_size);
    void (*on_top)(void *arg, const struct json_member *member);
    void *arg;
    bool has_no_tree; /* the caller builds no tree: the three maxima above do not count */
};

/* ERR_INVALID with error and error_at set. hooks may be NULL. size <= 1 GiB. */
MUST_CHECK int json_scan(const char *text, size_t size, const struct json_scan_hooks *hooks,
                         struct json_scan *out);
/* Whether a number of valid form is an integer that does not fit into int64_t. */
bool json_scan_is_wide_integer(const char *number, size_t size);

#endif
