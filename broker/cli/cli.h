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
    CLI_FAILED = 1,      /* a job failed, or the server refused the request */
    CLI_USAGE = 2,       /* wrong arguments, wrong configuration */
    CLI_UNREACHABLE = 3, /* no answer from the server */
    CLI_NOT_FOUND = 4,
    CLI_TIMEOUT = 5, /* the time given with --timeout is over */
    CLI_INTERRUPTED = 130
};

struct client;

struct cli {
    const char *program;     /* path we were started by */
    const char *config_path; /* --config or NULL */
    const char *url;         /* --url, $PENSTOCK_URL, or http://127.0.0.1:7368 */
    const char *key;         /* --key, $PENSTOCK_API_KEY, or "" */
    bool is_json;
    bool is_quiet;
    bool has_colour;       /* of stdout */
    bool has_progress;     /* stderr is a terminal */
    struct client *client; /* made on first use */
};

struct cli_command {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv); /* argv[0] is the command's name */
    const char *arguments;
    const char *help; /* one line */
};

/* Every command's row stands in main.c. */
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

/* Waits for the end of one job; says why on stderr when it did not succeed. */
int cli_wait_quietly(struct cli *cli, const char *id);
/* Prints "penstock: …" to stderr and returns code. */
PRINTF_LIKE(2, 3) int cli_fail(int code, const char *format, ...);
/* The client of this run; aborts the program with CLI_FAILED when it cannot be made. */
struct client *cli_client(struct cli *cli);

#endif
