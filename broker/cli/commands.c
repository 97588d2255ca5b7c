/* The table of commands, help, and what they share. */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"
#include "common/base/process.h"
#include "common/base/text.h"
#include "common/base/version.h"

struct command {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv);
    const char *arguments;
    const char *summary; /* one line */
    const char *options; /* lines of the help, "": none */
};

static const struct command commands[] = {
    {"up", cli_up, "[--port N] [--data-dir DIR] [--simulate]",
     "run the whole stack on this machine until Ctrl-C",
     "  -p, --port N            listen there; 0: any free port\n"
     "  -d, --data-dir DIR      Redis, keys and files lie there (./penstock-data)\n"
     "  -s, --simulate          answers come from the simulator, whatever is configured\n"
     "  -D, --sim-delay-ms N    the simulator takes so long for a call (200)\n"
     "  -v, --verbose           log at the configured level, not only warnings\n"},
    {"submit", cli_submit, "-m MODEL [TEXT] | -f FILE", "submit one job, print its id",
     "  -m, --model NAME        with TEXT, or with the text on standard input\n"
     "  -f, --file FILE         the whole request body (JSON); -: standard input\n"
     "  -e, --endpoint NAME     chat (the default), completions, embeddings, or a path\n"
     "  -w, --wait              wait for the end and print the result\n"
     "  -p, --priority WORD     high, normal or low\n"
     "  -d, --delay TIME        not before: 250ms, 90s, 5m, 2h, 7d\n"
     "  -x, --expires TIME      not later\n"
     "  -t, --timeout TIME      of one call to an upstream\n"
     "  -a, --max-attempts N    how often it is tried\n"
     "  -M, --metadata K=V      may be repeated\n"
     "  -k, --idempotency-key K the same key again gives the same job\n"},
    {"bulk", cli_bulk, "FILE [-o FILE]", "submit a file of jobs and collect the results",
     "  FILE holds one job a line, of the native API or of an OpenAI batch file; -: standard "
     "input\n"
     "  -o, --output FILE       results, one JSON line a job (standard output)\n"
     "  -O, --ordered           results in the order of the input\n"
     "  -n, --no-wait           print the ids and leave\n"
     "  -p, --priority WORD     of lines that name none\n"
     "  -k, --idempotency-key K a run with the same key and file adds only what is missing\n"
     "  -t, --timeout TIME      wait no longer; the jobs go on\n"},
    {"get", cli_get, "ID...", "show jobs", ""},
    {"result", cli_result, "ID", "print the result of a job, byte for byte", ""},
    {"watch", cli_watch, "ID", "follow a job's events until it ends", ""},
    {"wait", cli_wait, "[--timeout TIME] ID...", "wait until jobs have ended",
     "  -t, --timeout TIME      such as 90s; exit code 5 when it is over (7d)\n"},
    {"cancel", cli_cancel, "ID...", "cancel jobs", ""},
    {"retry", cli_retry, "ID...", "run ended jobs again, as new jobs", ""},
    {"ls", cli_list, "[--status STATE] [--model NAME]", "list jobs, newest first",
     "  -s, --status STATE      queued, scheduled, blocked, running, succeeded, failed,\n"
     "                          cancelled or expired\n"
     "  -m, --model NAME\n"
     "  -t, --tenant NAME       needs an admin key\n"
     "  -n, --limit N           at most so many (20)\n"},
    {"queues", cli_queues, "[pause ROUTE | resume ROUTE]", "show queues, pause and resume them",
     ""},
    {"workers", cli_workers, "", "show workers and their upstreams", ""},
    {"top", cli_top, "[--once]", "live view of queues and workers; q ends it",
     "  -1, --once              draw once and leave\n"},
    {"keys", cli_keys, "ls | add TENANT | remove ID | disable ID | enable ID", "edit the keys file",
     "  -f, --keys-file FILE    instead of auth.keys_file of the configuration\n"
     "  -a, --admin             may see and steer everything\n"
     "  -w, --weight N          share between tenants, 1 to 1000\n"
     "  -j, --jobs-max N        unfinished jobs of the tenant\n"
     "  -b, --bytes-max SIZE    bytes of them: 64k, 16M, 2G\n"
     "  -r, --requests-per-second N\n"
     "  -x, --expires TIME      the key ends after it: 30d\n"},
    {"doctor", cli_doctor, "", "check configuration, Redis, upstreams and the queue's invariants",
     ""},
    {"version", cli_version, "", "print the version", ""},
    {"help", cli_help, "[COMMAND]", "print this, or a command's options", ""},
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const struct command *find_command(const char *name)
{
    for (unsigned i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* ---- help ---------------------------------------------------------------------------------------
 */

static void print_command(const struct command *command)
{
    printf("Usage: penstock %s %s\n\n%s.\n", command->name, command->arguments, command->summary);
    if (command->options[0] != '\0')
        printf("\n%s", command->options);
}

static void print_overview(void)
{
    puts("penstock: durable background jobs for language models\n\n"
         "Usage: penstock [OPTIONS] COMMAND ...\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    puts("\nOptions of every command, before or behind its name:\n"
         "  --url URL      the server; else $PENSTOCK_URL, else http://127.0.0.1:7368\n"
         "  --key KEY      the API key; else $PENSTOCK_API_KEY\n"
         "  --config FILE  of up, keys and doctor; else $PENSTOCK_CONFIG, ./penstock.yaml,\n"
         "                 /etc/penstock/penstock.yaml\n"
         "  --json         JSON for programs\n"
         "  --quiet        no summary, no progress\n"
         "  --help         a command's options\n\n"
         "Exit codes: 0 done; 1 a job or a request failed; 2 wrong arguments or configuration;\n"
         "3 the server cannot be reached; 4 not found; 5 out of time; 130 interrupted.\n"
         "See penstock(1).");
}

int cli_help(struct cli *cli, int argc, char **argv)
{
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;

    (void)cli;
    if (argc > 1 && !command)
        return cli_fail(CLI_USAGE, "there is no command %s; try penstock help", argv[1]);
    if (command)
        print_command(command);
    else
        print_overview();
    return CLI_DONE;
}

int cli_version(struct cli *cli, int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return cli_fail(CLI_USAGE, "version takes no arguments");
    if (cli->is_json)
        printf("{\"version\": \"%s\"}\n", PENSTOCK_VERSION);
    else
        printf("penstock %s\n", PENSTOCK_VERSION);
    return CLI_DONE;
}

/* ---- running ------------------------------------------------------------------------------------
 */

/* The value of "--name VALUE" or "--name=VALUE" at argv[*at], moved on; NULL: something else. */
static const char *option_value(const char *name, int argc, char **argv, int *at, bool *is_missing)
{
    size_t size = strlen(name);

    if (strncmp(argv[*at], name, size) != 0)
        return NULL;
    if (argv[*at][size] == '=')
        return argv[*at] + size + 1;
    if (argv[*at][size] != '\0')
        return NULL;
    if (*at + 1 == argc) {
        *is_missing = true;
        return NULL;
    }
    return argv[++*at];
}

int cli_take_global(struct cli *cli, int *argc, char **argv)
{
    const struct {
        const char *name;
        const char **value;
    } options[] = {{"--url", &cli->url}, {"--key", &cli->key}, {"--config", &cli->config_path}};
    int kept = *argc > 0 ? 1 : 0;

    for (int i = 1; i < *argc; i++) {
        bool is_missing = false, is_taken = false;
        if (strcmp(argv[i], "--") == 0) {
            while (i < *argc)
                argv[kept++] = argv[i++];
            break;
        }
        for (unsigned o = 0; o < 3 && !is_taken; o++) {
            const char *value = option_value(options[o].name, *argc, argv, &i, &is_missing);
            if (is_missing)
                return cli_fail(CLI_USAGE, "%s needs a value", options[o].name);
            if (value)
                *options[o].value = value;
            is_taken = value != NULL;
        }
        if (is_taken)
            continue;
        if (strcmp(argv[i], "--json") == 0)
            cli->is_json = true;
        else if (strcmp(argv[i], "--quiet") == 0)
            cli->is_quiet = true;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
    argv[kept] = NULL;
    return CLI_DONE;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0)
            return true;
    }
    return false;
}

int cli_run(struct cli *cli, int argc, char **argv)
{
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;

    if (argc < 2) {
        print_overview();
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return cli_help(cli, 1, argv + 1);
    if (strcmp(argv[1], "--version") == 0)
        return cli_version(cli, 1, argv + 1);
    if (!command)
        return cli_fail(CLI_USAGE, "there is no command %s; try penstock help", argv[1]);
    if (asks_for_help(argc, argv)) {
        print_command(command);
        return CLI_DONE;
    }
    optind = 1;
    return command->run(cli, argc - 1, argv + 1);
}

/* ---- shared -------------------------------------------------------------------------------------
 */

int cli_fail(int code, const char *format, ...)
{
    struct buf text = {.size_max = 16384};
    va_list args;

    va_start(args, format);
    if (buf_vprintf(&text, format, args) == 0) {
        fputs(isatty(STDERR_FILENO) ? "\r\x1b[Kpenstock: " : "penstock: ", stderr); /* over a bar */
        terminal_put(stderr, text.data ? text.data : "");
        fputc('\n', stderr);
    }
    va_end(args);
    buf_deinit(&text);
    return code;
}

int cli_bad_option(const char *command)
{
    return cli_fail(CLI_USAGE, "see penstock help %s", command);
}

struct client *cli_client(struct cli *cli)
{
    struct error_text why;

    if (!cli->client && client_create(cli->url, cli->key, &cli->client, &why) < 0) {
        cli_fail(CLI_USAGE, "%s", why.text);
        _exit(CLI_USAGE);
    }
    client_set_interrupt(cli->client, cli->interrupt_fd);
    return cli->client;
}

void cli_catch_interrupt(struct cli *cli)
{
    static const int signals[] = {SIGINT, SIGTERM};

    if (cli->interrupt_fd < 0)
        cli->interrupt_fd = process_open_signals(signals, 2);
}
