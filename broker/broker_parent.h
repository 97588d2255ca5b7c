/* The parent: opens the listening sockets, starts the children on them, restarts what dies, passes
 * signals on. It speaks to nobody: no libuv, no Redis, no HTTP. The sockets stay open here, so a
 * restart of a child drops no connection. */
#ifndef PENSTOCK_BROKER_BROKER_PARENT_H
#define PENSTOCK_BROKER_BROKER_PARENT_H

#include "broker/broker_config.h"
#include "common/base/settings.h"

enum { BROKER_GRACE_MS = 10 * 1000 }; /* from SIGTERM until a child cuts what is left */

/* Serves until stopped; returns the exit code. settings is used at the start only. child_path: the
 * program that children run; NULL: our own. */
int broker_parent_run(const struct broker_arguments *arguments, const struct settings *settings,
                      const char *child_path);

#endif
