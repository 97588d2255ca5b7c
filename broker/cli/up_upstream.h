/* Which upstreams `penstock up` uses when none is configured. */
#ifndef PENSTOCK_CLI_UP_UPSTREAM_H
#define PENSTOCK_CLI_UP_UPSTREAM_H

#include <stdbool.h>

#include "common/base/check.h"
#include "common/base/settings.h"

/* Configured ones; else the services whose key is in the environment; else an engine on one of the
 * usual local ports; else the simulator. Says on stderr what was chosen. interrupt_fd: readable
 * when looking shall end. A cli_exit code. */
MUST_CHECK int up_choose_upstreams(struct settings *settings, bool must_simulate, int interrupt_fd,
                                   bool *out_needs_sim);
/* The simulator at this port as the only upstream. A cli_exit code. */
MUST_CHECK int up_use_simulator(struct settings *settings, int port);
/* A model for the example that is printed: a name that is configured, "" when there is none. */
const char *up_example_model(const struct settings *settings);

#endif
