/* A runner on the fakes, for tests of the life of claims and attempts. */
#ifndef PENSTOCK_TESTS_RUN_BENCH_H
#define PENSTOCK_TESTS_RUN_BENCH_H

#include "tests/unit/worker/run/fakes.h"
#include "worker/run/runner.h"

#define NOW INT64_C(1790000000000)

extern const char ANSWER[]; /* a completion */
extern const char ONE[];    /* upstreams: one, of models m and n, four at a time */

struct bench {
    struct queue queue;
    struct upstream_pool pool;
    struct runner runner;
};

struct upstream_set *open_set(const char *text, const struct upstream_set *older);
struct bench *open_bench(const char *text, unsigned inflight_max);
void close_bench(struct bench *bench); /* nothing may run any more */
struct job job_of(unsigned number);    /* running, of model m */
/* Lets the runner claim and gives it these jobs. */
void give(struct bench *bench, const struct job *jobs, unsigned count, bool has_more);

#endif
