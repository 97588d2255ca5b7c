#include "broker/api/samples.h"

#include <stdlib.h>
#include <string.h>

#include "broker/api/census_copy.h"
#include "broker/api/why.h"
#include "common/base/clock.h"

enum {
    CENSUS_EVERY_MS = 500, /* while somebody asks */
    FLEET_EVERY_MS = 1000, /* always: brokers share limits by how many there are */
    SHARE_OF_STORE = 20,   /* a census may take one part in this of the store's time */
    CENSUS_EVERY_MAX_MS = 10000,
    RECENT_MS = 2000,    /* older ones say nothing about now */
    RATE_SPAN_MS = 2000, /* between the two censuses that rates are made of */
};

struct asker {
    sampled_fn on_sampled;
    void *arg;
    struct asker *next;
};

struct sampling { /* one kind of sample */
    bool is_asking;
    int64_t asked_mono_ms;
    int64_t taken_mono_ms; /* 0: never */
    struct asker *askers;  /* of the sample under way */
    struct asker
        *later; /* came while it was under way: it may be older than what they did before */
};

struct samples {
    struct queue *queue;
    const struct settings *settings;
    int64_t now_mono_ms;
    struct sampling sampling[SAMPLE_COUNT];
    bool is_wanted;          /* somebody asked since the last census */
    int64_t census_every_ms; /* grows with what one costs */
    struct census_copy *census, *before;
    int64_t before_mono_ms;
    struct fleet *fleet;
    struct fleet *reading; /* under construction */
    unsigned brokers;
};

int samples_create(const struct settings *settings, struct queue *queue, struct samples **out)
{
    struct samples *samples = calloc(1, sizeof(*samples));

    if (!samples)
        return ERR_NOMEM;
    samples->queue = queue;
    samples->settings = settings;
    samples->brokers = 1;
    samples->census_every_ms = CENSUS_EVERY_MS;
    *out = samples;
    return 0;
}

void samples_destroy(struct samples *samples)
{
    if (!samples)
        return;
    for (unsigned i = 0; i < SAMPLE_COUNT; i++) {
        CHECK(!samples->sampling[i].is_asking);
        CHECK(!samples->sampling[i].askers && !samples->sampling[i].later);
    }
    census_copy_destroy(samples->census);
    census_copy_destroy(samples->before);
    fleet_destroy(samples->fleet);
    free(samples);
}

static void ask_census(struct samples *samples);
static void ask_fleet(struct samples *samples);

static void tell(struct asker *askers, int status)
{
    while (askers) {
        struct asker *asker = askers;
        askers = asker->next;
        asker->on_sampled(status, asker->arg);
        free(asker);
    }
}

/* Those who came later wait for the next sample, unless there is trouble: then nobody waits. */
static void tell_askers(struct sampling *sampling, int status)
{
    struct asker *askers = sampling->askers;
    struct asker *later = sampling->later;

    sampling->is_asking = false;
    sampling->later = NULL;
    sampling->askers = status == 0 ? later : NULL;
    if (status == 0)
        sampling->taken_mono_ms = clock_mono_ms();
    else
        tell(later, status);
    tell(askers, status);
}

/* ---- census ---------------------------------------------------------------------------------- */

/* Rates need two censuses some time apart: the older one is replaced only once it is that old. */
static void keep_census(struct samples *samples, struct census_copy *fresh, int64_t now_mono_ms)
{
    const struct sampling *sampling = &samples->sampling[SAMPLE_CENSUS];

    if (samples->census &&
        (!samples->before || now_mono_ms - samples->before_mono_ms >= 2 * RATE_SPAN_MS)) {
        census_copy_destroy(samples->before);
        samples->before = samples->census;
        samples->before_mono_ms = sampling->taken_mono_ms;
    } else {
        census_copy_destroy(samples->census);
    }
    samples->census = fresh;
}

static void on_census(const struct queue_census *census, void *arg)
{
    struct samples *samples = arg;
    int64_t now_mono_ms = clock_mono_ms();
    int64_t took_ms = now_mono_ms - samples->sampling[SAMPLE_CENSUS].asked_mono_ms;
    int status = census->status;

    if (status == 0) {
        struct census_copy *fresh = census_copy_create(census);
        if (fresh)
            keep_census(samples, fresh, now_mono_ms);
        else
            status = ERR_NOMEM;
    }
    samples->census_every_ms = took_ms * SHARE_OF_STORE;
    if (samples->census_every_ms < CENSUS_EVERY_MS)
        samples->census_every_ms = CENSUS_EVERY_MS;
    if (samples->census_every_ms > CENSUS_EVERY_MAX_MS)
        samples->census_every_ms = CENSUS_EVERY_MAX_MS;
    tell_askers(&samples->sampling[SAMPLE_CENSUS], status);
    if (samples->sampling[SAMPLE_CENSUS].askers)
        ask_census(samples);
}

/* ---- fleet: paused upstreams, then workers, then brokers ------------------------------------- */

static void finish_fleet(struct samples *samples, int status)
{
    if (status == 0) {
        fleet_destroy(samples->fleet);
        samples->fleet = samples->reading;
    } else {
        fleet_destroy(samples->reading);
    }
    samples->reading = NULL;
    tell_askers(&samples->sampling[SAMPLE_FLEET], status);
    if (samples->sampling[SAMPLE_FLEET].askers)
        ask_fleet(samples);
}

static void on_paused(int status, const struct slice *names, unsigned count, void *arg)
{
    struct samples *samples = arg;

    if (status == 0)
        fleet_finish(samples->reading, names, count);
    finish_fleet(samples, status);
}

static void on_brokers(int status, const struct slice *documents, unsigned count, void *arg)
{
    struct samples *samples = arg;

    (void)documents;
    if (status < 0) {
        finish_fleet(samples, status);
        return;
    }
    samples->brokers = count > 0 ? count : 1;
    samples->reading->brokers = count;
    queue_paused_upstreams(samples->queue, on_paused, samples);
}

static void on_workers(int status, const struct slice *documents, unsigned count, void *arg)
{
    struct samples *samples = arg;

    for (unsigned i = 0; status == 0 && i < count; i++)
        /* One that cannot be read (of a newer version, say) must not hide the others. */
        if (fleet_add_worker(samples->reading, documents[i]) < 0)
            samples->reading->is_complete = false;
    if (status < 0)
        finish_fleet(samples, status);
    else
        queue_fleet(samples->queue, "broker", on_brokers, samples);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void ask_census(struct samples *samples)
{
    struct sampling *sampling = &samples->sampling[SAMPLE_CENSUS];

    if (sampling->is_asking)
        return;
    sampling->is_asking = true;
    sampling->asked_mono_ms = clock_mono_ms();
    samples->is_wanted = false;
    queue_take_census(samples->queue, on_census, samples);
}

static void ask_fleet(struct samples *samples)
{
    struct sampling *sampling = &samples->sampling[SAMPLE_FLEET];

    if (sampling->is_asking)
        return;
    samples->reading = fleet_create();
    if (!samples->reading)
        return;
    sampling->is_asking = true;
    sampling->asked_mono_ms = clock_mono_ms();
    queue_fleet(samples->queue, "worker", on_workers, samples);
}

void samples_tick(struct samples *samples, int64_t now_mono_ms)
{
    samples->now_mono_ms = now_mono_ms;
    if (samples->is_wanted &&
        now_mono_ms - samples->sampling[SAMPLE_CENSUS].asked_mono_ms >= samples->census_every_ms)
        ask_census(samples);
    if (now_mono_ms - samples->sampling[SAMPLE_FLEET].asked_mono_ms >= FLEET_EVERY_MS)
        ask_fleet(samples);
}

void samples_await(struct samples *samples, enum sample sample, sampled_fn on_sampled, void *arg)
{
    struct asker *asker = calloc(1, sizeof(*asker));
    struct sampling *sampling = &samples->sampling[sample];

    CHECK(asker); /* whoever waits for an answer has to get one */
    struct asker **list = sampling->is_asking ? &sampling->later : &sampling->askers;
    *asker = (struct asker){.on_sampled = on_sampled, .arg = arg, .next = *list};
    *list = asker;
    if (sample == SAMPLE_CENSUS)
        ask_census(samples);
    else
        ask_fleet(samples);
}

bool samples_are_recent(const struct samples *samples)
{
    int64_t taken_mono_ms = samples->sampling[SAMPLE_CENSUS].taken_mono_ms;

    return taken_mono_ms > 0 &&
           samples->now_mono_ms - taken_mono_ms < samples->census_every_ms + RECENT_MS;
}

void samples_view(struct samples *samples, const struct job *job, struct job_view *out)
{
    bool is_recent = samples_are_recent(samples);

    if (job->state == JOB_QUEUED) {
        samples->is_wanted = true;
        if (!is_recent)
            ask_census(samples);
    }
    why_explain(job, is_recent ? samples_census(samples) : NULL, samples->fleet,
                queue_now_ms(samples->queue), out);
}

const struct queue_census *samples_census(const struct samples *samples)
{
    return samples->census ? &samples->census->census : NULL;
}

const struct queue_census *samples_census_before(const struct samples *samples, int64_t *out_ms)
{
    int64_t ms = samples->sampling[SAMPLE_CENSUS].taken_mono_ms - samples->before_mono_ms;

    if (!samples->before || ms <= 0)
        return NULL;
    *out_ms = ms;
    return &samples->before->census;
}

const struct fleet *samples_fleet(const struct samples *samples)
{
    return samples->fleet;
}

unsigned samples_brokers(const struct samples *samples)
{
    return samples->brokers;
}
