#include "broker/cli/job_print.h"

#include <stdio.h>
#include <string.h>

#include "broker/cli/terminal.h"
#include "common/base/text.h"

int cli_job_path(char path[CLI_PATH_SIZE], const char *id, const char *rest)
{
    char encoded[512];

    if (text_percent_encode(id, strlen(id), encoded, sizeof(encoded)) < 0)
        return cli_fail(CLI_USAGE, "%.40s… is no job id", id);
    snprintf(path, CLI_PATH_SIZE, "/v1/jobs/%s%s", encoded, rest);
    return CLI_DONE;
}

void cli_print_job(const struct cli *cli, const struct jval *job)
{
    const struct jval *error = jval_get(job, "error");
    const struct jval *usage = jval_get(job, "usage");
    char took[32];

    terminal_put_member(job, "id", 0);
    fputs("  ", stdout);
    terminal_state(cli, terminal_text(job, "status"), 10);
    putchar(' ');
    terminal_put_member(job, "priority", 7);
    putchar(' ');
    terminal_put_member(job, "endpoint", 0);
    putchar(' ');
    terminal_put_member(job, "model", 0);
    if (terminal_has(job, "finished_at")) {
        terminal_duration(terminal_number(job, "finished_at") - terminal_number(job, "created_at"),
                          took);
        printf("  %s", took);
    }
    if (jval_type(usage) == JTYPE_OBJECT)
        printf("  %.0f tokens", terminal_number(usage, "total_tokens"));
    putchar('\n');
    if (terminal_text(job, "why")[0]) {
        fputs("    ", stdout);
        terminal_put_member(job, "why", 0);
        putchar('\n');
    }
    if (jval_type(error) == JTYPE_OBJECT) {
        fputs("    ", stdout);
        terminal_put_member(error, "code", 0);
        fputs(": ", stdout);
        terminal_put_member(error, "message", 0);
        putchar('\n');
    }
}

int cli_status_of(const struct jval *job)
{
    const char *state = terminal_text(job, "status");
    bool is_bad = strcmp(state, "failed") == 0 || strcmp(state, "expired") == 0 ||
                  strcmp(state, "cancelled") == 0;

    return is_bad ? CLI_FAILED : CLI_DONE;
}
