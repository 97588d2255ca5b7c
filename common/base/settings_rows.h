/* The table of all configuration keys: from it come the schema, the environment's names, the
 * defaults, the ranges and the printed form. Only the files settings*.c and their tests need it. */
#ifndef PENSTOCK_BASE_SETTINGS_ROWS_H
#define PENSTOCK_BASE_SETTINGS_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/settings.h"
#include "common/base/yaml_doc.h"

enum { SETTINGS_ROWS_MAX = 40, SETTINGS_ALIASES_MAX = 1024, SETTINGS_LIST_MAX = 1024 };

enum settings_kind {
    SETTINGS_TEXT,      /* char *, min..max bytes */
    SETTINGS_WORD,      /* char *, one of words */
    SETTINGS_CHOICE,    /* enum: place in words */
    SETTINGS_INT,       /* int, min..max */
    SETTINGS_AUTO_INT,  /* the same, or "auto" = SETTINGS_AUTO */
    SETTINGS_INT64,     /* int64_t, min..max */
    SETTINGS_DOUBLE,    /* double, min..max */
    SETTINGS_BOOL,      /* "true" or "false" */
    SETTINGS_LIST,      /* char **, of texts of min..max bytes; count at count_at */
    SETTINGS_GPUS,      /* auto, a number, or a list of numbers */
    SETTINGS_ALIASES,   /* a mapping with free keys */
    SETTINGS_UPSTREAMS, /* a sequence of mappings of the second table */
};

struct settings_row {
    const char *path; /* "redis.url" */
    enum settings_kind kind;
    size_t at; /* offset in struct settings or struct settings_upstream */
    size_t count_at;
    const char *preset; /* the default, as it would stand in the file */
    int64_t min;
    int64_t max;
    const char *words; /* "none|keys" */
};

extern const struct settings_row settings_rows[];
extern const size_t settings_rows_count;
extern const struct settings_row settings_upstream_rows[];
extern const size_t settings_upstream_rows_count;

/* What stands in the file, still as text; NULL where nothing does. Index: row. */
struct settings_schemas;
struct settings_raw {
    char *values[SETTINGS_ROWS_MAX];
    char **lists[SETTINGS_ROWS_MAX];
    unsigned list_counts[SETTINGS_ROWS_MAX];
    struct settings_raw *upstreams;
    unsigned upstreams_count;
    struct settings_schemas *schemas; /* what the memory was laid out by */
};

/* Where values come from, for the words of a refusal. */
struct settings_source {
    const char *file; /* NULL: none */
    struct yaml_doc doc;
    bool has_environment;
    struct error_text *why;
};

/* Checks text against the schema; source holds its plain structure. *out is NULL when the text
 * holds no document. */
MUST_CHECK int settings_raw_parse(const struct settings_source *source, const char *text,
                                  size_t size, struct settings_raw **out);
void settings_raw_destroy(struct settings_raw *raw);

enum { SETTINGS_NAME_SIZE = 64 };
/* "redis.url" to "PENSTOCK_REDIS_URL". */
void settings_environment_name(const char *path, char out[SETTINGS_NAME_SIZE]);
/* ERR_INVALID with "FILE:LINE: PATH: reason" or "VARIABLE: reason" in why. */
PRINTF_LIKE(3, 4)
int settings_refuse(const struct settings_source *source, const char *path, const char *format,
                    ...);

/* Text of the key's variable; NULL when unset, or when the environment does not count. */
const char *settings_find_variable(const struct settings_source *source, const char *path);
/* All values into zeroed settings, which settings_destroy releases also after a failure. raw may be
 * NULL: environment and defaults alone. */
MUST_CHECK int settings_read(const struct settings_source *source, const struct settings_raw *raw,
                             struct settings *settings);
/* Forms and relations the table cannot say: addresses, URLs, names. */
MUST_CHECK int settings_check(const struct settings_source *source, struct settings *settings);
/* Refuses variables PENSTOCK_* that mean nothing. */
MUST_CHECK int settings_check_environment(struct error_text *why);

#endif
