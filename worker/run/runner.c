#include "worker/run/runner.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "worker/run/commit.h"

enum { LOG_FAILURES_PER_S = 10 };

int runner_init(struct runner *runner, const struct runner_options *options, struct error_text *why)
{
    *runner = (struct runner){.queue = options->queue,
                              .pool = options->pool,
                              .set = options->set,
                              .lease_ms = options->lease_ms};
    int status = attempt_table_init(&runner->table, options->inflight_max, options->tickets_fd,
                                    queue_self_id(options->queue), why);
    if (status < 0) {
        upstream_set_release(options->set);
        return status;
    }
    claim_init(runner);
    return 0;
}

void runner_deinit(struct runner *runner)
{
    CHECK(runner_is_idle(runner));
    claim_deinit(runner);
    attempt_table_deinit(&runner->table);
    upstream_set_release(runner->set);
    runner->set = NULL;
}

void runner_use_set(struct runner *runner, struct upstream_set *set)
{
    upstream_set_release(runner->set);
    runner->set = set;
    claim_learn_routes(runner);
}

/* Leases are renewed every third of their length, so a short lease cannot ask for the whole margin.
 */
bool runner_is_fenced(const struct runner *runner)
{
    int64_t limit_ms = runner->lease_ms - RUNNER_FENCE_MS;
    if (limit_ms < runner->lease_ms * 2 / 3)
        limit_ms = runner->lease_ms * 2 / 3;
    return queue_lease_age_ms(runner->queue) > limit_ms;
}

bool runner_is_idle(const struct runner *runner)
{
    return runner->table.count == 0 && !runner->claimer.is_asking &&
           !runner->claimer.is_withdrawing && runner->returns_count == 0;
}

void runner_drain(struct runner *runner)
{
    if (!runner->is_draining)
        claim_withdraw(runner);
    runner->is_draining = true;
}

void runner_hand_back(struct runner *runner)
{
    runner_drain(runner);
    for (unsigned slot = 0; slot < runner->table.made_count; slot++) {
        struct attempt *attempt = attempt_table_at(&runner->table, slot);
        if (attempt)
            attempt_abort(attempt, ATTEMPT_DRAINED);
    }
}

void runner_abandon(struct runner *runner)
{
    runner->held_first = NULL;
    runner->held_last = NULL;
    runner->held_bytes = 0;
    for (unsigned slot = 0; slot < runner->table.made_count; slot++) {
        struct attempt *attempt = attempt_table_at(&runner->table, slot);
        if (!attempt)
            continue;
        CHECK(attempt->state == ATTEMPT_HELD);
        attempt_end(attempt);
    }
}

/* ---- jobs without an attempt ---- */

static void on_returned(int status, void *arg)
{
    struct runner *runner = arg;

    CHECK(runner->returns_count > 0);
    runner->returns_count--;
    if (status == 0) {
        runner->counts.handed_back++;
        metrics_add(METRIC_JOBS_HANDED_BACK, 1);
    }
}

void runner_return_job(struct runner *runner, const struct job *job)
{
    runner->returns_count++;
    queue_release(runner->queue, job, on_returned, runner);
}

/* ---- what the queue tells ---- */

void runner_on_cancel(struct runner *runner, const struct job_id *id, unsigned claim)
{
    struct attempt *attempt = attempt_table_find(&runner->table, id, claim);
    if (attempt)
        attempt_abort(attempt, ATTEMPT_CANCELLED);
}

void runner_on_lost(struct runner *runner, const struct job_id *id, unsigned claim)
{
    struct attempt *attempt = attempt_table_find(&runner->table, id, claim);

    runner->counts.fenced++; /* the queue counted it in the metrics */
    if (attempt)
        attempt_abort(attempt, ATTEMPT_LOST);
}

/* ---- time ---- */

void runner_tick(struct runner *runner)
{
    commit_held(runner);
    claim_tick(runner);
}

void runner_turn(struct runner *runner)
{
    claim_turn(runner);
}

bool runner_may_log(struct runner *runner)
{
    int64_t now_mono_ms = clock_mono_ms();

    if (now_mono_ms - runner->failures_logged_mono_ms >= 1000) {
        runner->failures_logged_mono_ms = now_mono_ms;
        runner->failures_logged = 0;
    }
    if (runner->failures_logged >= LOG_FAILURES_PER_S) {
        runner->failures_unlogged++;
        return false;
    }
    runner->failures_logged++;
    return true;
}

void runner_log_failure(struct runner *runner, const struct job *job)
{
    char id[JOB_ID_TEXT_SIZE + 1];

    if (!log_is_on(LOG_INFO) || !runner_may_log(runner))
        return;
    job_id_text(&job->id, id);
    log_event(LOG_INFO, job->state == JOB_EXPIRED ? "job_expired" : "job_failed", LOG_S("job", id),
              LOG_I("attempt", job->attempt), LOG_SN("route", job->route.bytes, job->route.size),
              LOG_SN("upstream", job->upstream.bytes, job->upstream.size),
              LOG_I("http_status", job->http_status),
              LOG_SN("error", job->error_code.bytes, job->error_code.size),
              LOG_I("more_unlogged", runner->failures_unlogged));
    runner->failures_unlogged = 0;
}
