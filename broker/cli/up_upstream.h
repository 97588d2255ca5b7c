/* Which upstreams `penstock up` uses when none is configured: keys in the environment, else an
 * engine on the usual local ports, else the simulator, loudly. */
#ifndef PENSTOCK_CLI_UP_UPSTREAM_H
#define PENSTOCK_CLI_UP_UPSTREAM_H

#include <stdbool.h>

#include "common/base/settings.h"

/* Replaces the list of upstreams where it is empty, or where must_simulate says so. CLI_DONE or an
 * exit code. */
MUST_CHECK int up_choose_upstreams(struct settings *settings, bool must_simulate, int sim_port,
                                   bool *out_needs_sim);
/* A model to show in an example. Never NULL. */
const char *up_example_model(const struct settings *settings);

#endif
