/* One child of the broker: a loop with the queue, the API on the public listener, and metrics on
 * the other. Holds no job state: it may be killed at any time. */
#ifndef PENSTOCK_BROKER_BROKER_H
#define PENSTOCK_BROKER_BROKER_H

#include "broker/broker_config.h"

/* Serves on the descriptors the parent handed over, until SIGTERM or SIGINT. Returns the exit code.
 * settings must outlive the call. */
int broker_run(const struct broker_arguments *arguments, const struct settings *settings);

#endif
