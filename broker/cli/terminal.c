#include "broker/cli/terminal.h"

#include <string.h>

#include "broker/cli/cli.h"
#include "common/base/clock.h"

enum { BAR_WIDTH = 30, DRAW_MS = 100 };

void progress_start(struct progress *progress, const struct cli *cli, const char *label,
                    int64_t total)
{
    *progress = (struct progress){.label = label,
                                  .total = total,
                                  .started_mono_ms = clock_mono_ms(),
                                  .is_on = cli->has_progress && !cli->is_quiet};
}

void progress_format(const struct progress *progress, int64_t now_mono_ms, char out[PROGRESS_SIZE])
{
    double seconds = (double)(now_mono_ms - progress->started_mono_ms) / 1000.0;
    double rate = seconds > 0 ? (double)progress->done / seconds : 0;
    int64_t full = progress->total > 0 ? progress->done * BAR_WIDTH / progress->total : 0;
    char bar[BAR_WIDTH + 1], left[32] = "";

    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    if (rate > 0 && progress->total > progress->done)
        terminal_duration((double)(progress->total - progress->done) / rate, left);
    snprintf(out, PROGRESS_SIZE, "%.20s [%s] %lld/%lld  failed %lld  %.0f/s%s%s%s", progress->label,
             bar, (long long)progress->done, (long long)progress->total,
             (long long)progress->failed, rate, left[0] ? "  " : "", left, left[0] ? " left" : "");
}

void progress_update(struct progress *progress, int64_t done, int64_t failed)
{
    int64_t now_ms = clock_mono_ms();

    progress->done = done;
    progress->failed = failed;
    if (!progress->is_on || now_ms - progress->drawn_mono_ms < DRAW_MS)
        return;
    char line[PROGRESS_SIZE];
    progress->drawn_mono_ms = now_ms;
    progress_format(progress, now_ms, line);
    fprintf(stderr, "\r%s\x1b[K", line);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->is_on && progress->drawn_mono_ms > 0)
        fprintf(stderr, "\r\x1b[K");
}

/* C0, DEL, and C1 as UTF-8 writes it; 0: an ordinary byte. */
static size_t control_size(const unsigned char *at)
{
    if ((at[0] < 0x20 && at[0] != '\n' && at[0] != '\t') || at[0] == 0x7f)
        return 1;
    return at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f ? 2 : 0;
}

void terminal_put(FILE *file, const char *text)
{
    while (*text) {
        size_t size = control_size((const unsigned char *)text);
        fputc(size > 0 ? '?' : *text, file);
        text += size > 0 ? size : 1;
    }
}

void terminal_put_member(const struct jval *object, const char *key, int width)
{
    char column[256];

    if (width > 0) {
        snprintf(column, sizeof(column), "%-*.*s", width, width, terminal_text(object, key));
        terminal_put(stdout, column);
    } else {
        terminal_put(stdout, terminal_text(object, key));
    }
}

bool terminal_has(const struct jval *object, const char *key)
{
    return jval_type(jval_get(object, key)) != JTYPE_NULL;
}

void terminal_state(const struct cli *cli, const char *state, int width)
{
    const char *colour = "";

    if (strcmp(state, "succeeded") == 0 || strcmp(state, "up") == 0)
        colour = "\x1b[32m";
    else if (strcmp(state, "failed") == 0 || strcmp(state, "expired") == 0 ||
             strcmp(state, "down") == 0)
        colour = "\x1b[31m";
    else if (strcmp(state, "running") == 0)
        colour = "\x1b[36m";
    else if (strcmp(state, "cancelled") == 0 || strcmp(state, "paused") == 0)
        colour = "\x1b[33m";
    char column[64];
    snprintf(column, sizeof(column), "%-*.*s", width, 60, state);
    fputs(cli->has_colour ? colour : "", stdout);
    terminal_put(stdout, column);
    fputs(cli->has_colour && colour[0] ? "\x1b[0m" : "", stdout);
}

const char *terminal_text(const struct jval *object, const char *key)
{
    const char *text = jval_string(jval_get(object, key), NULL);

    return text ? text : "";
}

double terminal_number(const struct jval *object, const char *key)
{
    double number = 0;

    return jval_double(jval_get(object, key), &number) == 0 ? number : 0;
}

void terminal_duration(double seconds, char out[32])
{
    if (!(seconds > 0))
        seconds = 0;
    if (seconds < 59.95)
        snprintf(out, 32, "%.1fs", seconds);
    else if (seconds < 3600)
        snprintf(out, 32, "%dm%02ds", (int)seconds / 60, (int)seconds % 60);
    else if (seconds < 1e9)
        snprintf(out, 32, "%.1fh", seconds / 3600);
    else
        snprintf(out, 32, "ages");
}

void terminal_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;

    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}
