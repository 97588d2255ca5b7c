/* `penstock up`: Redis, broker, worker pool and, where nothing else is there, the simulator, as
 * children of one process. up.c is the command, up_dir.c has the data directory, up_plan.c decides
 * what runs, up_stack.c starts it, keeps it running and ends it in order, up_upstream.c finds
 * upstreams. Everything that is written lies under the data directory. */
#ifndef PENSTOCK_CLI_UP_H
#define PENSTOCK_CLI_UP_H

#include <stdint.h>

#include "broker/cli/cli.h"
#include "common/base/process.h"
#include "common/base/settings.h"

/* In the order of starting; stopped in reverse, but Redis last. */
enum up_part { UP_REDIS, UP_SIM, UP_BROKER, UP_WORKER, UP_PARTS };

enum {
    UP_DIR_SIZE = 96, /* a unix socket's name has 107 bytes */
    UP_PATH_SIZE = UP_DIR_SIZE + 32,
    UP_PROGRAM_SIZE = 4096,
    UP_ARG_SIZE = 160,
    UP_ARGS_MAX = 40,
    UP_HOST_SIZE = 256
};

struct up_child {
    const char *name;
    bool is_wanted;
    char args_text[UP_ARGS_MAX][UP_ARG_SIZE];
    const char *argv[UP_ARGS_MAX + 1];
    unsigned argc;
    char path[UP_PROGRAM_SIZE];
    const char *shell; /* starts path in its turn; NULL: none does */
    int ready_pipe[2]; /* its first line comes here; -1: it says nothing */
    bool speaks_on_stdout;
    int64_t stop_ms; /* how long ending may take */
    struct process process;
    struct backoff backoff;
    int64_t started_mono_ms;
    int64_t restart_mono_ms; /* 0: none is planned */
};

struct up_wish {
    const char *data_dir; /* NULL: as configured */
    int64_t port;         /* -1: as configured */
    bool must_simulate;
    int64_t sim_delay_ms;
    bool is_verbose;
};

struct up {
    struct cli *cli;
    struct up_wish wish;
    struct settings *settings;
    char data_dir[UP_DIR_SIZE]; /* absolute */
    char redis_socket[UP_PATH_SIZE];
    char config_path[UP_PATH_SIZE];
    char api_key[128];
    char host[UP_HOST_SIZE]; /* of listen, as it is written there */
    int port;                /* of the broker once it is ready */
    int metrics_port;        /* 0: none */
    int signals_fd;
    int lock_fd;     /* inherited by all children: it is free when the last of them has ended */
    bool is_hurried; /* Ctrl-C again: nothing is waited for any longer */
    struct up_child children[UP_PARTS];
};

/* Where we listen, as clients on this machine write it. */
void up_url(const struct up *up, char *out, size_t out_size);
/* ---- up_dir.c: CLI_DONE or an exit code, having said why */
/* Made if need be, ours alone while we run; no other Redis has it. */
MUST_CHECK int up_open_data_dir(struct up *up);
/* The API key that is printed: the same one at every start. */
MUST_CHECK int up_find_api_key(struct up *up);
/* A file only we can read, replaced in one step. */
MUST_CHECK int up_write_private(const char *path, const char *bytes, size_t size);

/* ---- up_plan.c: CLI_DONE or an exit code, having said why */
/* The data directory is ours, the keys are there, what shall run is known. */
MUST_CHECK int up_plan(struct up *up);
/* Writes the configuration of broker and worker; again when ports are known, so that what is
 * restarted comes back where its clients look for it. */
MUST_CHECK int up_write_config(struct up *up);
/* The simulator listens there; it is the only upstream. */
MUST_CHECK int up_set_sim_port(struct up *up, int port);
/* Makes a text of the settings. */
MUST_CHECK int up_set_text(char **field, const char *format, ...) PRINTF_LIKE(2, 3);
void up_child_arg(struct up_child *child, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- up_stack.c */
/* Waits; true, at once, when we shall end. Takes the signal. */
bool up_pause(struct up *up, int64_t ms);
/* Redis' socket has answered a PING; false after a moment without. */
bool up_redis_answers(const char *socket_path);
/* Starts everything and waits until jobs can be taken in: CLI_DONE or an exit code. */
MUST_CHECK int up_stack_start(struct up *up);
/* Runs until SIGINT, SIGTERM or SIGHUP, restarting what dies: an exit code. */
MUST_CHECK int up_stack_run(struct up *up);
/* Ends all children in order; none is left. */
void up_stack_stop(struct up *up);

#endif
