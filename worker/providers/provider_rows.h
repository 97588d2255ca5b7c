/* The adapters, for provider_table.c. */
#ifndef PENSTOCK_PROVIDERS_PROVIDER_ROWS_H
#define PENSTOCK_PROVIDERS_PROVIDER_ROWS_H

#include "worker/providers/provider.h"

extern const struct provider provider_openai;

#endif
