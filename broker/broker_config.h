/* What the command line says, and what of the settings every process of the broker applies alike.
 */
#ifndef PENSTOCK_BROKER_BROKER_CONFIG_H
#define PENSTOCK_BROKER_BROKER_CONFIG_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/settings.h"

enum broker_mode { BROKER_SERVE, BROKER_CHECK, BROKER_PRINT, BROKER_VERSION, BROKER_HELP };

struct broker_arguments {
    enum broker_mode mode;
    const char *config_path; /* NULL: the usual places */
    int ready_fd;            /* -1: none */
    int child;               /* number of this child; -1: the parent */
};

/* ERR_INVALID with the reason. Strings of out point into argv. */
MUST_CHECK int broker_arguments_parse(int argc, char **argv, struct broker_arguments *out,
                                      struct error_text *why);
extern const char broker_usage[];

/* Level and form of the log. process: "broker", or "broker.0" for a child. */
void broker_start_log(const struct settings *settings, const char *process);
/* The level alone, after a reload. */
void broker_set_log_level(const struct settings *settings);

#endif
