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

static void draw(const struct progress *progress, int64_t now_ms)
{
    double seconds = (double)(now_ms - progress->started_mono_ms) / 1000.0;
    double rate = seconds > 0 ? (double)progress->done / seconds : 0;
    char bar[BAR_WIDTH + 1], left[32] = "";
    int64_t full = progress->total > 0 ? progress->done * BAR_WIDTH / progress->total : 0;

    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    if (rate > 0 && progress->total > progress->done)
        terminal_duration((double)(progress->total - progress->done) / rate, left);
    fprintf(stderr, "\r%s [%s] %lld/%lld  failed %lld  %.0f/s  %s%s\x1b[K", progress->label, bar,
            (long long)progress->done, (long long)progress->total, (long long)progress->failed,
            rate, left, left[0] ? " left" : "");
    fflush(stderr);
}

void progress_update(struct progress *progress, int64_t done, int64_t failed)
{
    int64_t now_ms = clock_mono_ms();

    progress->done = done;
    progress->failed = failed;
    if (!progress->is_on || now_ms - progress->drawn_mono_ms < DRAW_MS)
        return;
    progress->drawn_mono_ms = now_ms;
    draw(progress, now_ms);
}

void progress_end(struct progress *progress)
{
    if (progress->is_on && progress->drawn_mono_ms > 0)
        fprintf(stderr, "\r\x1b[K");
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
    if (cli->has_colour)
        printf("%s%-*s\x1b[0m", colour, width, state);
    else
        printf("%-*s", width, state);
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
    if (seconds < 60)
        snprintf(out, 32, "%.1fs", seconds);
    else if (seconds < 3600)
        snprintf(out, 32, "%.0fm%02.0fs", (double)(int64_t)(seconds / 60),
                 (double)((int64_t)seconds % 60));
    else
        snprintf(out, 32, "%.1fh", seconds / 3600);
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
