/* penstock: reads what all commands have in common, then runs one. */
#include <stdio.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "common/base/log.h"
#include "common/base/process.h"
#include "common/base/settings.h"

static const char *or_default(const char *text, const char *fallback)
{
    return text[0] != '\0' ? text : fallback;
}

int main(int argc, char **argv)
{
    struct cli cli = {
        .url = or_default(settings_environment("PENSTOCK_URL"), "http://127.0.0.1:7368"),
        .key = settings_environment("PENSTOCK_API_KEY"),
        .has_colour = isatty(STDOUT_FILENO) && settings_environment("NO_COLOR")[0] == '\0',
        .has_progress = isatty(STDERR_FILENO) != 0,
        .interrupt_fd = -1,
    };

    process_setup();
    log_init("penstock", LOG_WARN, LOG_TEXT);
    int status = cli_take_global(&cli, &argc, argv);
    if (status == CLI_DONE)
        status = cli_run(&cli, argc, argv);
    client_destroy(cli.client);
    if (cli.interrupt_fd >= 0)
        close(cli.interrupt_fd);
    (void)log_flush();
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_DONE)
        status = cli_fail(CLI_FAILED, "cannot write to the standard output");
    return status;
}
