/* The reference model: what each verb ought to do to a job. Nothing here knows how Redis does it.
 */
#include "model.h"

#include "common/job/limits.h"

uint64_t random_next(struct random *random)
{
    uint64_t mixed = random->state += 0x9e3779b97f4a7c15U;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9U;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebU;
    return mixed ^ mixed >> 31;
}

unsigned random_below(struct random *random, unsigned count)
{
    return (unsigned)(random_next(random) % count);
}

bool random_chance(struct random *random, unsigned percent)
{
    return random_below(random, 100) < percent;
}

bool model_is_live(const struct model_job *job)
{
    return job->exists && !job_state_is_final(job->state);
}

bool model_has_usual_deadline(const struct model_job *job)
{
    return job->expires_ms == job->created_ms + LIMIT_EXPIRES_DEFAULT_MS;
}

bool model_is_overdue(const struct model_job *job, int64_t now_ms)
{
    return job->expires_ms > 0 && job->expires_ms <= now_ms;
}

bool model_is_claimable(const struct model *model, const struct model_job *job, int64_t now_ms)
{
    return job->exists && job->state == JOB_QUEUED && !model->is_paused[job->route] &&
           !model_is_overdue(job, now_ms);
}

bool model_is_same_lane(const struct model_job *a, const struct model_job *b)
{
    return a->shard == b->shard && a->route == b->route && a->priority == b->priority &&
           a->tenant == b->tenant;
}

/* The clock of leases never goes back and never more than 3 s at once. */
int64_t model_tick(struct model *model, unsigned shard, int64_t now_ms)
{
    int64_t gone = now_ms - model->clocks[shard].raw;

    if (!model->clocks[shard].is_set)
        model->clocks[shard].logical = now_ms;
    else if (gone > 0)
        model->clocks[shard].logical += gone < 3000 ? gone : 3000;
    model->clocks[shard].is_set = true;
    model->clocks[shard].raw = now_ms;
    return model->clocks[shard].logical;
}

void model_requeue(struct model *model, struct model_job *job, bool to_front)
{
    job->state = JOB_QUEUED;
    job->sequence++;
    model->positions++;
    /* Suspects wait in a line of their own, and none jumps it. */
    job->position = to_front && !job->is_suspect ? -model->positions : model->positions;
}

static enum model_total total_of(enum job_state state)
{
    if (state == JOB_SUCCEEDED)
        return TOTAL_SUCCEEDED;
    if (state == JOB_CANCELLED)
        return TOTAL_CANCELLED;
    return state == JOB_EXPIRED ? TOTAL_EXPIRED : TOTAL_FAILED;
}

void model_end(struct model *model, struct model_job *job, enum job_state state,
               enum job_verdict verdict)
{
    CHECK(model_is_live(job) && job_state_is_final(state));
    job->state = state;
    job->verdict = verdict;
    job->is_by_worker = verdict == JOB_VERDICT_NONE;
    job->sequence++;
    model->totals[job->shard][job->route][total_of(state)]++;
}

void model_recover(struct model *model, struct model_job *job, int64_t now_ms, char blame)
{
    if (blame != 'i')
        job->crashes++;
    if (blame == 'c' && job->crashes < LIMIT_CRASHES_SUSPECT)
        job->crashes = LIMIT_CRASHES_SUSPECT;
    if (model_is_overdue(job, now_ms)) {
        model_end(model, job, JOB_EXPIRED, JOB_VERDICT_EXPIRED);
    } else if (job->crashes >= LIMIT_CRASHES) {
        model_end(model, job, JOB_FAILED, JOB_VERDICT_POISON);
    } else {
        job->is_suspect = job->is_suspect || job->crashes >= LIMIT_CRASHES_SUSPECT;
        job->owner = -1;
        model_requeue(model, job, true);
    }
}
