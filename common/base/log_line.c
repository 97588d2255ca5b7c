/* Log lines as text: `2026-11-21T02:37:40.123Z info broker[1234] job_finished job=… attempt=2`,
 * and as JSON objects with the same parts. */
#include "common/base/log_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/text.h"

/* Kept free for the closing quote, the mark of truncation, the brace and the newline. */
enum { TAIL_SIZE = 32 };

size_t log_field_size(const struct log_field *field)
{
    return field->text_size == SIZE_MAX ? strlen(field->text) : field->text_size;
}

/* Whole or not at all, never into the tail. */
static bool put(struct log_line *line, const char *bytes, size_t size)
{
    if (line->size + size > sizeof line->bytes - TAIL_SIZE)
        return false;
    memcpy(line->bytes + line->size, bytes, size);
    line->size += size;
    return true;
}

/* For what the tail is kept for. */
static void put_end(struct log_line *line, const char *text)
{
    size_t size = strlen(text);
    memcpy(line->bytes + line->size, text, size);
    line->size += size;
}

/* One character as it stands inside quotes. Besides what JSON demands, DEL and the C1 controls are
 * escaped: some terminals obey them. */
static size_t escape(const char *at, size_t sequence, char out[8])
{
    unsigned char c = (unsigned char)at[0];

    if (sequence == 0) {
        memcpy(out, "\xef\xbf\xbd", 3); /* U+FFFD */
        return 3;
    }
    if (c == '"' || c == '\\') {
        out[0] = '\\';
        out[1] = (char)c;
        return 2;
    }
    if (c == '\n' || c == '\t' || c == '\r') {
        out[0] = '\\';
        out[1] = (char)(c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        return 2;
    }
    if (c < 0x20 || c == 0x7f)
        return (size_t)snprintf(out, 8, "\\u%04x", c);
    if (sequence == 2 && c == 0xc2 && (unsigned char)at[1] < 0xa0)
        return (size_t)snprintf(out, 8, "\\u%04x", (unsigned char)at[1]);
    memcpy(out, at, sequence);
    return sequence;
}

/* With quotes around; false when the value was cut. The closing quote may take a byte of the tail.
 */
static bool put_quoted(struct log_line *line, const char *text, size_t size)
{
    bool whole = true;

    if (!put(line, "\"", 1))
        return false;
    for (size_t at = 0; whole && at < size;) {
        char unit[8];
        size_t sequence = text_utf8_sequence(text + at, size - at);
        whole = put(line, unit, escape(text + at, sequence, unit));
        at += sequence > 0 ? sequence : 1;
    }
    put_end(line, "\"");
    return whole;
}

static bool needs_quotes(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=')
            return true;
    }
    return size == 0;
}

static bool put_text(struct log_line *line, bool is_json, const char *text, size_t size)
{
    if (!is_json && !needs_quotes(text, size) && put(line, text, size))
        return true;
    return put_quoted(line, text, size); /* also when too long: it is cut where the line ends */
}

/* false when the line is full; a field of which nothing fits leaves no trace. */
static bool put_field(struct log_line *line, bool is_json, const struct log_field *field)
{
    size_t start = line->size;
    size_t value_start;
    bool whole = put(line, is_json ? ",\"" : " ", is_json ? 2 : 1) &&
                 put(line, field->key, strlen(field->key)) &&
                 put(line, is_json ? "\":" : "=", is_json ? 2 : 1);

    value_start = line->size;
    if (whole && field->text) {
        whole = put_text(line, is_json, field->text, log_field_size(field));
    } else if (whole) {
        char number[32];
        int size = snprintf(number, sizeof number, "%" PRId64, field->number);
        whole = put(line, number, (size_t)size);
    }
    if (!whole && line->size == value_start)
        line->size = start;
    return whole;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARN:
        return "warn";
    case LOG_INFO:
        return "info";
    case LOG_DEBUG:
        return "debug";
    }
    return "unknown";
}

static void put_time(struct log_line *line, int64_t wall_ms)
{
    char text[48];
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts = {.tm_mday = 1};

    (void)gmtime_r(&seconds, &parts);
    int size = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                        parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                        parts.tm_min, parts.tm_sec, (int)(wall_ms % 1000));
    (void)put(line, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

void log_line_format(struct log_line *out, const struct log_line_style *style,
                     const struct log_entry *entry)
{
    const char *level = level_name(entry->level);
    const struct log_field head[] = {LOG_S("level", level), LOG_S("process", style->process),
                                     LOG_I("pid", style->pid), LOG_S("event", entry->event)};
    char text[96];
    bool whole = true;

    out->size = 0;
    if (style->is_json) {
        put_end(out, "{\"time\":\"");
        put_time(out, entry->wall_ms);
        put_end(out, "\"");
        for (size_t i = 0; i < sizeof head / sizeof head[0]; i++)
            whole = put_field(out, true, &head[i]) && whole;
    } else {
        put_time(out, entry->wall_ms);
        int size = snprintf(text, sizeof text, " %s %s[%ld] ", level, style->process, style->pid);
        (void)put(out, text, (size_t)size);
        whole = put(out, entry->event, strlen(entry->event));
    }
    for (size_t i = 0; whole && i < entry->count; i++)
        whole = put_field(out, style->is_json, &entry->fields[i]);
    if (!whole)
        put_end(out, style->is_json ? ",\"truncated\":true" : " truncated=true");
    put_end(out, style->is_json ? "}\n" : "\n");
}
