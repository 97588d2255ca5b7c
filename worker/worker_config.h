/* From the settings to what this program does: how many children, with which GPUs, how it logs, and
 * what a reload cannot change. */
#ifndef PENSTOCK_WORKER_CONFIG_H
#define PENSTOCK_WORKER_CONFIG_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/settings.h"
#include "worker/supervise/supervisor.h"

enum { WORKER_STOP_GRACE_MS = 5000 }; /* what is killed was given drain_timeout_ms and this */

struct worker_layout {
    unsigned children_count;
    bool has_gpus; /* child i sees only gpu_ids[i] */
    int gpu_ids[SUPERVISOR_CHILDREN_MAX];
};

/* cores: usable by this process; gpus: found on this machine, for `gpus: auto`. ERR_INVALID: more
 * than this program can run. */
MUST_CHECK int worker_config_layout(const struct settings *settings, unsigned cores, unsigned gpus,
                                    struct worker_layout *out, struct error_text *why);
unsigned worker_config_count_cores(void);
unsigned worker_config_count_gpus(void);

/* Loads the configuration, and keeps its text in a new descriptor (a memfd) from which children
 * load the very same. ERR_INVALID. */
MUST_CHECK int worker_config_open(const char *path, struct settings **out, int *out_fd,
                                  struct error_text *why);
/* Loads what worker_config_open kept. */
MUST_CHECK int worker_config_load_fd(int fd, struct settings **out, struct error_text *why);

enum log_level worker_config_log_level(const struct settings *settings);
enum log_format worker_config_log_format(const struct settings *settings);
/* The first key whose change takes a restart of the whole program; NULL: none changed. */
const char *worker_config_fixed_change(const struct settings *before, const struct settings *after);

#endif
