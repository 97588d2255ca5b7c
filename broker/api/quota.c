#include "broker/api/quota.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/queue/queue_fleet.h"

enum {
    BUCKETS = 1024,
    REFRESH_MS = 1000,    /* of active tenants */
    ACTIVE_MS = 5000,     /* asked about within this time */
    SAMPLE_OLD_MS = 3000, /* too old to admit on */
    SAMPLE_FRESH_MS = 200 /* fresh enough to refuse on */
};

struct waiter {
    auth_refreshed_fn on_refreshed;
    void *arg;
    struct waiter *next;
};

struct quota {
    char tenant[LIMIT_TENANT_BYTES + 1];
    char tenant_hash[JOB_TENANT_SIZE];
    bool is_known;
    bool is_asking;
    int64_t sampled_mono_ms;
    int64_t used_mono_ms; /* last asked about */
    /* Live jobs and bytes: as sampled, let in since that sample before the one under way was asked
     * for, and after. */
    int64_t jobs, jobs_before, jobs_after;
    int64_t bytes, bytes_before, bytes_after;
    double tokens; /* of requests per second */
    int64_t tokens_mono_ms;
    struct waiter *waiters;
    struct quota *next;
};

struct quotas {
    struct queue *queue;
    unsigned brokers;
    int64_t ticked_mono_ms;
    struct quota *buckets[BUCKETS];
};

int quotas_create(struct queue *queue, struct quotas **out)
{
    struct quotas *quotas = calloc(1, sizeof(*quotas));

    if (!quotas)
        return ERR_NOMEM;
    quotas->queue = queue;
    quotas->brokers = 1;
    *out = quotas;
    return 0;
}

void quotas_destroy(struct quotas *quotas)
{
    if (!quotas)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (quotas->buckets[i]) {
            struct quota *quota = quotas->buckets[i];
            CHECK(!quota->is_asking);
            quotas->buckets[i] = quota->next;
            free(quota);
        }
    }
    free(quotas);
}

static unsigned bucket_of(const struct access *access)
{
    unsigned value = 0;

    for (unsigned i = 0; i < JOB_TENANT_SIZE; i++)
        value = value * 33 + (unsigned char)access->tenant_hash[i];
    return value % BUCKETS;
}

/* NULL: out of memory. */
static struct quota *quota_of(struct quotas *quotas, const struct access *access)
{
    struct quota **head = &quotas->buckets[bucket_of(access)];

    for (struct quota *quota = *head; quota; quota = quota->next)
        if (strcmp(quota->tenant, access->tenant) == 0)
            return quota;
    struct quota *quota = calloc(1, sizeof(*quota));
    if (!quota)
        return NULL;
    memcpy(quota->tenant, access->tenant, sizeof(quota->tenant));
    memcpy(quota->tenant_hash, access->tenant_hash, JOB_TENANT_SIZE);
    quota->next = *head;
    *head = quota;
    return quota;
}

/* ---- live jobs and bytes --------------------------------------------------------------------- */

static void on_usage(int status, int64_t jobs, int64_t bytes, void *arg)
{
    struct quota *quota = arg;
    struct waiter *waiters = quota->waiters;

    quota->is_asking = false;
    quota->waiters = NULL;
    if (status == 0) {
        quota->is_known = true;
        quota->sampled_mono_ms = clock_mono_ms();
        quota->jobs = jobs;
        quota->bytes = bytes;
        quota->jobs_before = 0;
        quota->bytes_before = 0;
    }
    while (waiters) {
        struct waiter *waiter = waiters;
        waiters = waiter->next;
        waiter->on_refreshed(status, waiter->arg);
        free(waiter);
    }
}

static void ask(struct quotas *quotas, struct quota *quota)
{
    if (quota->is_asking)
        return;
    quota->is_asking = true;
    quota->jobs_before += quota->jobs_after;
    quota->bytes_before += quota->bytes_after;
    quota->jobs_after = 0;
    quota->bytes_after = 0;
    queue_tenant_usage(quotas->queue, quota->tenant_hash, on_usage, quota);
}

void quota_refresh(struct quotas *quotas, const struct access *access,
                   auth_refreshed_fn on_refreshed, void *arg)
{
    struct quota *quota = quota_of(quotas, access);
    struct waiter *waiter = calloc(1, sizeof(*waiter));

    /* Whoever waits for an answer has to get one: without memory for a waiter there is no way on.
     */
    CHECK(quota);
    CHECK(waiter);
    *waiter = (struct waiter){.on_refreshed = on_refreshed, .arg = arg, .next = quota->waiters};
    quota->waiters = waiter;
    ask(quotas, quota);
}

enum admission quota_admit(struct quotas *quotas, const struct access *access, int64_t bytes,
                           int64_t now_mono_ms)
{
    struct quota *quota = quota_of(quotas, access);
    const struct key_limits *limits = &access->limits;

    if (!quota)
        return REFUSE_JOBS;
    quota->used_mono_ms = now_mono_ms;
    int64_t age_ms = now_mono_ms - quota->sampled_mono_ms;
    if (!quota->is_known || age_ms > SAMPLE_OLD_MS)
        return ASK_USAGE;

    int64_t jobs = quota->jobs + quota->jobs_before + quota->jobs_after;
    int64_t used = quota->bytes + quota->bytes_before + quota->bytes_after;
    bool is_over_jobs = limits->jobs_max > 0 && jobs + 1 > limits->jobs_max;
    bool is_over_bytes = limits->bytes_max > 0 && used + bytes > limits->bytes_max;
    if (is_over_jobs || is_over_bytes) {
        if (age_ms > SAMPLE_FRESH_MS)
            return ASK_USAGE;
        return is_over_jobs ? REFUSE_JOBS : REFUSE_BYTES;
    }
    quota->jobs_after += 1;
    quota->bytes_after += bytes;
    return ADMIT;
}

static void take_from(int64_t *first, int64_t *second, int64_t amount)
{
    int64_t part = *first < amount ? *first : amount;

    *first -= part;
    amount -= part;
    *second -= *second < amount ? *second : amount;
}

void quota_give_back(struct quotas *quotas, const struct access *access, int64_t bytes)
{
    struct quota *quota = quota_of(quotas, access);

    if (!quota)
        return;
    take_from(&quota->jobs_after, &quota->jobs_before, 1);
    take_from(&quota->bytes_after, &quota->bytes_before, bytes);
}

void quotas_tick(struct quotas *quotas, int64_t now_mono_ms, unsigned brokers)
{
    quotas->brokers = brokers > 0 ? brokers : 1;
    if (now_mono_ms - quotas->ticked_mono_ms < REFRESH_MS)
        return;
    quotas->ticked_mono_ms = now_mono_ms;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct quota *quota = quotas->buckets[i]; quota; quota = quota->next)
            if (quota->is_known && now_mono_ms - quota->used_mono_ms < ACTIVE_MS)
                ask(quotas, quota);
}

/* ---- requests per second --------------------------------------------------------------------- */

bool quota_take_request(struct quotas *quotas, const struct access *access, int64_t now_mono_ms,
                        int *out_retry_s)
{
    struct quota *quota = quota_of(quotas, access);
    double rate = (double)access->limits.requests_per_second / quotas->brokers;
    double burst = rate > 1 ? rate : 1;

    if (!quota)
        return true;
    if (quota->tokens_mono_ms == 0)
        quota->tokens = burst;
    else
        quota->tokens += rate * (double)(now_mono_ms - quota->tokens_mono_ms) / 1000;
    quota->tokens_mono_ms = now_mono_ms;
    if (quota->tokens > burst)
        quota->tokens = burst;
    if (quota->tokens >= 1) {
        quota->tokens -= 1;
        return true;
    }
    double wait_s = (1 - quota->tokens) / rate;
    *out_retry_s = wait_s > 59 ? 60 : (int)wait_s + 1;
    return false;
}
