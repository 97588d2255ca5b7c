/* penstock: reads what all commands have in common, then runs one. */
#include <stdio.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "common/base/log.h"
#include "common/base/process.h"
#include "common/base/settings.h"

int main(int argc, char **argv)
{
    struct cli cli = {
        .url = settings_environment("PENSTOCK_URL"),
        .key = settings_environment("PENSTOCK_API_KEY"),
        .has_colour = isatty(STDOUT_FILENO) && settings_environment("NO_COLOR")[0] == '\0',
        .has_progress = isatty(STDERR_FILENO) != 0,
        .interrupt_fd = -1,
    };

    process_setup();
    log_init("penstock", LOG_WARN, LOG_TEXT);
    int status = cli_take_global(&cli, &argc, argv);
    cli.has_url = cli.url[0] != '\0';
    if (!cli.has_url)
        cli.url = "http://127.0.0.1:7368";
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
