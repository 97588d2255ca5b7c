/* Child processes of a supervisor: start, "ready" byte, signals, end, and how long to wait before
 * the next try. Mechanism only; who is started when is the caller's policy.
 *
 * A child is a fresh program (fork and exec), never a forked copy: it has its own memory and
 * exactly the descriptors it was given. The parent must have one thread. */
#ifndef PENSTOCK_BASE_PROCESS_H
#define PENSTOCK_BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/check.h"
#include "common/base/error.h"

enum {
    PROCESS_EXIT_DONE = 0,
    PROCESS_EXIT_FAILED = 1,
    PROCESS_EXIT_SETUP = 2, /* wrong configuration: do not start it again */
    PROCESS_FDS_MAX = 16,
    PROCESS_ENV_MAX = 16,
    PROCESS_PATH_SIZE = 4096,
};

/* A descriptor for the child. It keeps its number there; the child finds it by name. */
struct process_fd {
    const char *name; /* "LISTEN": told to the child as PENSTOCK_CHILD_LISTEN */
    int fd;           /* borrowed; -1: left out */
};

struct process_options {
    const char *path;        /* NULL: our own binary, even when its file was replaced meanwhile */
    const char *const *argv; /* NULL-terminated; argv[0] is the name shown */
    const char *const *env;  /* NULL or NULL-terminated "NAME=value" on top of our environment */
    const struct process_fd *fds;
    unsigned fds_count; /* <= PROCESS_FDS_MAX */
    int death_signal;   /* sent to the child when this parent dies; 0: none */
    bool wants_ready;   /* the child will write its ready byte */
    bool own_session;   /* out of reach of our terminal: Ctrl-C there is for us alone to pass on */
    int stdout_fd;      /* becomes the child's standard output; 0: it has ours */
};

struct process {
    pid_t pid;    /* 0: none */
    int pidfd;    /* readable once it has ended */
    int ready_fd; /* read end of the ready pipe, non-blocking; -1: not wanted, or said */
};

struct process_end {
    bool is_signal; /* killed by the signal `code`, else left with the exit code `code` */
    int code;
};

/* The program `name` beside our own binary, for process_options.path: the same one for as long as
 * we live, even when its file is replaced meanwhile. ERR_NOT_FOUND with the reason. */
MUST_CHECK int process_find_beside(const char *name, char out[PROCESS_PATH_SIZE],
                                   struct error_text *why);

/* ERR_IO with the reason. An exec that fails shows as exit code 127. */
MUST_CHECK int process_spawn(const struct process_options *options, struct process *out,
                             struct error_text *why);
/* When ready_fd is readable. 1: it is ready (said once); 0: nothing yet; ERR_STATE: it closed the
 * pipe without saying so. Closes ready_fd unless 0. */
MUST_CHECK int process_take_ready(struct process *process);
/* 1 and its end when it has ended (reaped, descriptors closed, *process zeroed); 0 while it runs.
 */
MUST_CHECK int process_wait(struct process *process, struct process_end *out);
/* Through the pidfd, so never to a stranger. Nothing happens when there is no process. */
void process_signal(const struct process *process, int signal_number);

/* ---- at the start of any of our programs --------------------------------- */

/* Ignores SIGPIPE, leaves no core when we crash, opens /dev/null on closed standard descriptors,
 * raises the descriptor limit to the hard one. */
void process_setup(void);
/* Blocks these signals and returns a non-blocking signalfd of them. ERR_IO. */
MUST_CHECK int process_open_signals(const int *signals, unsigned count);

/* ---- in the child -------------------------------------------------------- */

/* The descriptor the parent named so, close-on-exec again. ERR_NOT_FOUND. */
MUST_CHECK int process_child_fd(const char *name);
/* From here on this process starts no program, whatever becomes of it; so do those it forks. ERR_IO
 * where the kernel has no filters: the caller says so and goes on. */
MUST_CHECK int process_child_seal(struct error_text *why);
/* Shows `name` in process lists (15 bytes) instead of the name of the binary. */
void process_child_name(const char *name);
/* Writes the ready byte (nothing when the parent did not ask for one). Call once. */
void process_child_ready(void);

/* ---- how long to wait before starting again ------------------------------ */

struct backoff {
    int64_t min_ms;
    int64_t max_ms;
    int64_t reset_ms; /* one that lived this long starts at min_ms again */
    int64_t next_ms;  /* zero at the start */
};

/* Delay before the next start of something that has just ended after alive_ms. Doubles up to
 * max_ms. */
int64_t backoff_next_ms(struct backoff *backoff, int64_t alive_ms);

#endif
