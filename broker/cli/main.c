#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "common/base/log.h"
#include "common/base/process.h"
#include "common/base/settings.h"

static int cli_version(struct cli *cli, int argc, char **argv);
static int cli_help(struct cli *cli, int argc, char **argv);

static const struct cli_command commands[] = {
    {"up", cli_up, "[--port N] [--data-dir DIR] [--simulate]",
     "run the whole stack on this machine until Ctrl-C"},
    {"submit", cli_submit, "-m MODEL [TEXT | -f FILE]",
     "submit one job (--wait prints the result)"},
    {"bulk", cli_bulk, "FILE [-o FILE] [--ordered] [--no-wait]",
     "submit a file of jobs and collect the results"},
    {"get", cli_get, "ID", "show a job"},
    {"result", cli_result, "ID", "print the result of a job, byte for byte"},
    {"watch", cli_watch, "ID", "follow a job's events until it ends"},
    {"wait", cli_wait, "[--timeout 60s] ID...", "wait until jobs have ended"},
    {"cancel", cli_cancel, "ID...", "cancel jobs"},
    {"retry", cli_retry, "ID...", "run ended jobs again, as new jobs"},
    {"ls", cli_list, "[--status S] [--model M] [--tenant T] [--limit N]",
     "list jobs, newest first"},
    {"queues", cli_queues, "[pause|resume ROUTE]", "show queues, pause and resume them"},
    {"workers", cli_workers, "", "show workers and their upstreams"},
    {"top", cli_top, "[--once]", "live view of queues and workers"},
    {"keys", cli_keys, "add|ls|remove|disable|enable …", "edit the keys file"},
    {"doctor", cli_doctor, "[--repair-nothing]",
     "check configuration, Redis, upstreams and the queue's invariants"},
    {"version", cli_version, "", "print the version"},
    {"help", cli_help, "[COMMAND]", "print this"},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

int cli_fail(int code, const char *format, ...)
{
    va_list args;

    fputs("penstock: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return code;
}

struct client *cli_client(struct cli *cli)
{
    struct error_text why;

    if (!cli->client && client_create(cli->url, cli->key, &cli->client, &why) < 0) {
        cli_fail(CLI_USAGE, "%s", why.text);
        _exit(CLI_USAGE);
    }
    return cli->client;
}

static int cli_version(struct cli *cli, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf(cli->is_json ? "{\"version\": \"%s\"}\n" : "penstock %s\n", PENSTOCK_VERSION);
    return CLI_DONE;
}

static int cli_help(struct cli *cli, int argc, char **argv)
{
    (void)cli;
    (void)argc;
    (void)argv;
    puts(
        "penstock: durable background jobs for language models\n\n"
        "Usage: penstock [--url URL] [--key KEY] [--config FILE] [--json] [--quiet] COMMAND ...\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n            %s\n", commands[i].name, commands[i].arguments,
               commands[i].help);
    puts("\nThe address comes from --url, $PENSTOCK_URL or http://127.0.0.1:7368; the key from "
         "--key or\n"
         "$PENSTOCK_API_KEY. Exit codes: 0 done, 1 a job or request failed, 2 wrong arguments or "
         "configuration,\n"
         "3 the server cannot be reached, 4 not found, 5 out of time. See penstock(1).");
    return CLI_DONE;
}

static const char *or_default(const char *text, const char *fallback)
{
    return text[0] != '\0' ? text : fallback;
}

/* --json, --url and the like may stand before or behind the command's name. */
static int take_global(struct cli *cli, int *argc, char **argv)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        const char **value = strcmp(argv[i], "--url") == 0      ? &cli->url
                             : strcmp(argv[i], "--key") == 0    ? &cli->key
                             : strcmp(argv[i], "--config") == 0 ? &cli->config_path
                                                                : NULL;
        if (strcmp(argv[i], "--json") == 0) {
            cli->is_json = true;
        } else if (strcmp(argv[i], "--quiet") == 0) {
            cli->is_quiet = true;
        } else if (strcmp(argv[i], "--") == 0) {
            while (i < *argc)
                argv[kept++] = argv[i++];
        } else if (value) {
            if (++i >= *argc)
                return cli_fail(CLI_USAGE, "%s needs a value", argv[i - 1]);
            *value = argv[i];
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    return CLI_DONE;
}

int main(int argc, char **argv)
{
    struct cli cli = {
        .program = argv[0],
        .url = or_default(settings_environment("PENSTOCK_URL"), "http://127.0.0.1:7368"),
        .key = settings_environment("PENSTOCK_API_KEY"),
        .has_colour = isatty(STDOUT_FILENO) && settings_environment("NO_COLOR")[0] == '\0',
        .has_progress = isatty(STDERR_FILENO) != 0,
    };
    int status = CLI_USAGE;

    process_setup();
    log_init("penstock", LOG_WARN, LOG_TEXT);
    if (take_global(&cli, &argc, argv) != CLI_DONE)
        return CLI_USAGE;
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return argc < 2 ? (cli_help(&cli, 0, NULL), CLI_USAGE) : cli_help(&cli, 0, NULL);
    if (strcmp(argv[1], "--version") == 0)
        return cli_version(&cli, 0, NULL);
    for (unsigned i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            status = commands[i].run(&cli, argc - 1, argv + 1);
            client_destroy(cli.client);
            log_flush();
            return fflush(stdout) == 0 ? status : CLI_FAILED;
        }
    }
    return cli_fail(CLI_USAGE, "there is no command %s; try penstock help", argv[1]);
}
