/* What a bulk run comes to, in memory that does not grow: counts, tokens, and run times in buckets
 * of half a percent. Pure. */
#ifndef PENSTOCK_CLI_BULK_STATS_H
#define PENSTOCK_CLI_BULK_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"

enum { BULK_BUCKETS = 4700 };

struct bulk_stats {
    int64_t lines, succeeded, failed, refused;
    double input_tokens, output_tokens;
    double run_s; /* sum: what one after the other would have taken */
    int64_t runs;
    uint32_t buckets[BULK_BUCKETS];
};

void bulk_stats_add_run(struct bulk_stats *stats, double seconds);
/* share 0 … 1; within half a percent; 0 without runs. */
double bulk_stats_quantile(const struct bulk_stats *stats, double share);
/* One JSON object, or two lines for people. */
MUST_CHECK int bulk_stats_put(const struct bulk_stats *stats, double seconds, bool is_json,
                              struct buf *out);

#endif
