#include "broker/cli/bulk_stats.h"

#include <math.h>

#include "broker/cli/terminal.h"

#define BUCKET_RATIO 1.005
#define BUCKET_FIRST_S 1e-4

void bulk_stats_add_run(struct bulk_stats *stats, double seconds)
{
    double place = seconds > BUCKET_FIRST_S ? log(seconds / BUCKET_FIRST_S) / log(BUCKET_RATIO) : 0;
    unsigned bucket = place < BULK_BUCKETS - 1 ? (unsigned)place : BULK_BUCKETS - 1;

    stats->runs++;
    stats->run_s += seconds > 0 ? seconds : 0;
    stats->buckets[bucket] += stats->buckets[bucket] < UINT32_MAX;
}

double bulk_stats_quantile(const struct bulk_stats *stats, double share)
{
    int64_t rank = (int64_t)((double)stats->runs * share);
    int64_t seen = 0;

    if (stats->runs == 0)
        return 0;
    if (rank >= stats->runs)
        rank = stats->runs - 1;
    for (unsigned i = 0; i < BULK_BUCKETS; i++) {
        seen += stats->buckets[i];
        if (seen > rank) /* the middle of the bucket */
            return BUCKET_FIRST_S * pow(BUCKET_RATIO, (double)i + 0.5);
    }
    return 0;
}

int bulk_stats_put(const struct bulk_stats *stats, double seconds, bool is_json, struct buf *out)
{
    double p50 = bulk_stats_quantile(stats, 0.5), p99 = bulk_stats_quantile(stats, 0.99);
    double rate = seconds > 0 ? (double)stats->lines / seconds : 0;
    char sum[32];

    if (is_json)
        return buf_printf(
            out,
            "{\"jobs\": %lld, \"succeeded\": %lld, \"failed\": %lld, \"refused\": %lld, "
            "\"seconds\": %.3f, \"jobs_per_second\": %.1f, \"p50_s\": %.3f, \"p99_s\": %.3f, "
            "\"input_tokens\": %.0f, \"output_tokens\": %.0f, \"one_after_the_other_s\": %.3f}\n",
            (long long)stats->lines, (long long)stats->succeeded, (long long)stats->failed,
            (long long)stats->refused, seconds, rate, p50, p99, stats->input_tokens,
            stats->output_tokens, stats->run_s);
    terminal_duration(stats->run_s, sum);
    return buf_printf(
        out,
        "%lld jobs: %lld succeeded, %lld failed, %lld refused in %.2f s (%.1f jobs/s)\n"
        "run time p50 %.3f s, p99 %.3f s; tokens %.0f in, %.0f out; one after the other: %s\n",
        (long long)stats->lines, (long long)stats->succeeded, (long long)stats->failed,
        (long long)stats->refused, seconds, rate, p50, p99, stats->input_tokens,
        stats->output_tokens, sum);
}
