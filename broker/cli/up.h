/* `penstock up`: Redis, broker, worker pool and, where nothing else is there, the simulator, as
 * children of one process. up.c decides what runs; up_stack.c starts it, keeps it running and ends
 * it in order. */
#ifndef PENSTOCK_CLI_UP_H
#define PENSTOCK_CLI_UP_H

#include <stdint.h>

#include "broker/cli/cli.h"
#include "common/base/process.h"
#include "common/base/settings.h"

/* In the order of starting; stopped in reverse. */
enum up_part { UP_REDIS, UP_SIM, UP_BROKER, UP_WORKER, UP_PARTS };

enum { UP_PATH_SIZE = 1024, UP_ARGS_MAX = 32 };

struct up_child {
    const char *name;
    bool is_wanted;
    char args_text[UP_ARGS_MAX][UP_PATH_SIZE];
    const char *argv[UP_ARGS_MAX + 1];
    unsigned argc;
    char path[UP_PATH_SIZE];
    int ready_pipe[2]; /* read and write end; -1 when it does not say "ready" on a descriptor */
    struct process process;
    struct backoff backoff;
    int64_t started_mono_ms;
    int64_t restart_mono_ms; /* 0: none is planned */
};

struct up {
    struct cli *cli;
    struct settings *settings;
    char data_dir[UP_PATH_SIZE]; /* absolute */
    char redis_socket[UP_PATH_SIZE];
    char config_path[UP_PATH_SIZE];
    char api_key[128];
    int port; /* of the broker once it is ready */
    int sim_port;
    int signals_fd;
    int lock_fd;
    struct up_child children[UP_PARTS];
};

/* Redis' socket has answered a PING; false after a moment without. */
bool up_redis_answers(const char *socket_path);
void up_child_arg(struct up_child *child, const char *format, ...) PRINTF_LIKE(2, 3);
/* Starts everything and waits until the broker and the worker are ready: CLI_DONE or an exit code.
 */
MUST_CHECK int up_stack_start(struct up *up);
/* Runs until SIGINT or SIGTERM, restarting what dies: an exit code. */
MUST_CHECK int up_stack_run(struct up *up);
/* Ends all children in order; none is left. */
void up_stack_stop(struct up *up);

#endif
