/* penstock, the command line client: one file per family of commands, one row per command in
 * main.c.
 *
 * Results go to stdout, everything else to stderr. Colours and progress bars only on a terminal. */
#ifndef PENSTOCK_CLI_CLI_H
#define PENSTOCK_CLI_CLI_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/slice.h"

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,      /* a job failed, the server refused, something here went wrong */
    CLI_USAGE = 2,       /* wrong arguments, wrong configuration */
    CLI_UNREACHABLE = 3, /* no answer from the server */
    CLI_NOT_FOUND = 4,
    CLI_TIMEOUT = 5, /* the time given with --timeout is over */
    CLI_INTERRUPTED = 130
};

struct client;

struct cli {
    const char *config_path; /* --config or NULL */
    const char *url;         /* --url, $PENSTOCK_URL, or http://127.0.0.1:7368 */
    bool has_url;            /* it was given */
    const char *key;         /* --key, $PENSTOCK_API_KEY, or "" */
    bool is_json;
    bool is_quiet;
    bool has_colour;       /* of stdout */
    bool has_progress;     /* stderr is a terminal */
    int interrupt_fd;      /* of cli_catch_interrupt, else -1 */
    struct client *client; /* made on first use */
};

/* Every command's row stands in commands.c, with its help. argv[0] is the command's name. */
int cli_submit(struct cli *cli, int argc, char **argv);
int cli_bulk(struct cli *cli, int argc, char **argv);
int cli_get(struct cli *cli, int argc, char **argv);
int cli_result(struct cli *cli, int argc, char **argv);
int cli_watch(struct cli *cli, int argc, char **argv);
int cli_wait(struct cli *cli, int argc, char **argv);
int cli_cancel(struct cli *cli, int argc, char **argv);
int cli_retry(struct cli *cli, int argc, char **argv);
int cli_list(struct cli *cli, int argc, char **argv);
int cli_queues(struct cli *cli, int argc, char **argv);
int cli_workers(struct cli *cli, int argc, char **argv);
int cli_top(struct cli *cli, int argc, char **argv);
int cli_keys(struct cli *cli, int argc, char **argv);
int cli_doctor(struct cli *cli, int argc, char **argv);
int cli_up(struct cli *cli, int argc, char **argv);
int cli_version(struct cli *cli, int argc, char **argv);
int cli_help(struct cli *cli, int argc, char **argv);

/* Finds and runs argv[1]; global options have been taken out. Returns the exit code. */
int cli_run(struct cli *cli, int argc, char **argv);
/* --json, --url and the like, which may stand before or behind the command's name, taken out of
 * argv; what follows "--" is left alone. CLI_USAGE when a value is missing. */
int cli_take_global(struct cli *cli, int *argc, char **argv);
/* Waits for the end of one job; says why on stderr when it did not succeed. */
int cli_wait_quietly(struct cli *cli, const char *id);
/* Whether a `penstock up` runs with this data directory. */
bool cli_is_up(const char *data_dir);
/* Prints "penstock: …" to stderr, without control characters, and returns code. */
PRINTF_LIKE(2, 3) int cli_fail(int code, const char *format, ...);
/* After getopt has complained about an option. */
int cli_bad_option(const char *command);
/* The client of this run; ends the program with CLI_USAGE when it cannot be made. */
struct client *cli_client(struct cli *cli);
/* From now on SIGINT and SIGTERM do not kill: they make interrupt_fd readable, and calls end with
 * ERR_STATE. */
void cli_catch_interrupt(struct cli *cli);

#endif
