/* What a child says of itself once a second: the fleet document of docs/internals.md. Pure but for
 * the process' own memory figure. */
#ifndef PENSTOCK_WORKER_REPORT_H
#define PENSTOCK_WORKER_REPORT_H

#include "common/base/buf.h"
#include "worker/run/runner.h"

enum { REPORT_SIZE_MAX = 64 * 1024 };

struct report {
    const char *id;
    const char *host;
    int pid;
    unsigned child;
    int64_t started_at_ms;
    double loop_lag_ms;
    int64_t rss_bytes;
    int64_t now_mono_ms;
    const struct runner *runner;
};

/* out->size_max is REPORT_SIZE_MAX or more. ERR_TOO_BIG, ERR_NOMEM. */
MUST_CHECK int report_write(const struct report *report, struct buf *out);
/* Resident memory of this process, 0 when unknown. */
int64_t report_rss_bytes(void);

#endif
