/* The form of one log line, text or JSON. Pure; only log.c and its tests need it. */
#ifndef PENSTOCK_BASE_LOG_LINE_H
#define PENSTOCK_BASE_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/log.h"

enum { LOG_LINE_SIZE_MAX = 4096, LOG_PROCESS_SIZE = 32 };

struct log_line {
    size_t size; /* with the newline at the end */
    char bytes[LOG_LINE_SIZE_MAX];
};

struct log_line_style {
    bool is_json;
    long pid;
    char process[LOG_PROCESS_SIZE];
};

struct log_entry {
    int64_t wall_ms;
    enum log_level level;
    const char *event;
    const struct log_field *fields;
    size_t count;
};

/* Bytes of a text field. */
size_t log_field_size(const struct log_field *field);
/* Fields that do not fit are cut or left out, and the line says truncated=true. Control characters
 * are escaped and what is not UTF-8 is replaced, so a line is always one line and, as JSON, always
 * valid. */
void log_line_format(struct log_line *out, const struct log_line_style *style,
                     const struct log_entry *entry);

#endif
