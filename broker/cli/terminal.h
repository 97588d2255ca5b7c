/* What a person sees: tables, colours, progress. Nothing of it reaches a pipe or a file uninvited.
 */
#ifndef PENSTOCK_CLI_TERMINAL_H
#define PENSTOCK_CLI_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/jdoc.h"

struct cli;

struct progress {
    const char *label;
    int64_t total; /* 0: not known */
    int64_t done, failed;
    int64_t started_mono_ms;
    int64_t drawn_mono_ms;
    bool is_on;
};
void progress_start(struct progress *progress, const struct cli *cli, const char *label,
                    int64_t total);
/* Draws at most ten times a second. */
void progress_update(struct progress *progress, int64_t done, int64_t failed);
/* The line as it is drawn. Pure. */
enum { PROGRESS_SIZE = 200 };
void progress_format(const struct progress *progress, int64_t now_mono_ms, char out[PROGRESS_SIZE]);
void progress_end(struct progress *progress); /* clears the line */

/* Text from elsewhere: control characters, which could steer the terminal, become '?'. Line ends
 * stay. */
void terminal_put(FILE *file, const char *text);
/* The same of a member, in a column: cut after, or padded to, width bytes; 0: as it is. */
void terminal_put_member(const struct jval *object, const char *key, int width);
/* A state in its colour, padded to width. */
void terminal_state(const struct cli *cli, const char *state, int width);
/* Terminated text of a member, "" when absent. */
const char *terminal_text(const struct jval *object, const char *key);
double terminal_number(const struct jval *object, const char *key);
/* A member that is there and not null. */
bool terminal_has(const struct jval *object, const char *key);
/* "3.2s", "12m05s", "4.0h" into out; negative is 0. */
void terminal_duration(double seconds, char out[32]);
void terminal_bytes(double bytes, char out[32]);

#endif
