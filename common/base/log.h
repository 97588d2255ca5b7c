/* One line per event, key=value or JSON, to standard error through a bounded ring so that a blocked
 * sink never blocks a loop (lines beyond the ring are dropped and counted). Prompts, answers and
 * keys are never logged. The log sink is one of the two writable globals of this tree. */
#ifndef PENSTOCK_BASE_LOG_H
#define PENSTOCK_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *key;
    const char *text; /* NULL: use number */
    size_t text_size; /* SIZE_MAX: terminated */
    int64_t number;
};

#define LOG_S(key_, text_) \
    ((struct log_field){.key = (key_), .text = (text_), .text_size = SIZE_MAX})
#define LOG_SN(key_, text_, size_) \
    ((struct log_field){.key = (key_), .text = (text_), .text_size = (size_)})
#define LOG_I(key_, number_) ((struct log_field){.key = (key_), .number = (int64_t)(number_)})

/* log_event(LOG_INFO, "job_finished", LOG_SN("job", id, size), LOG_I("attempt", n)); */
#define log_event(level, event, ...)                                     \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__}, \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

/* Names this process and opens the way to standard error. Again in the child after a fork (what the
 * parent had not written stays the parent's) and whenever standard error was replaced. A pipe
 * without readers raises SIGPIPE, which programs ignore. */
void log_init(const char *process, enum log_level level, enum log_format format);
void log_set_level(enum log_level level);
bool log_is_on(enum log_level level);
/* event and keys are words of ours ([a-z0-9_]); texts may be anything and are copied. Lines are at
 * most 4 KiB. Errors and warnings of the same event and first field: 10 lines a second, then a
 * count. */
void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t count);
/* Writes what the ring still holds; returns whether it is empty. Never blocks. Call once a loop
 * turn and at exit. */
bool log_flush(void);
/* Lines this process lost: the ring was full or its sink broken. */
uint64_t log_dropped_count(void);

#endif
