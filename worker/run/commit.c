#include "worker/run/commit.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "worker/run/job_copy.h"
#include "worker/run/runner.h"

static void send_now(struct attempt *attempt);

static void log_job(struct attempt *attempt, const char *event, const char *reason)
{
    char id[JOB_ID_TEXT_SIZE + 1];

    if (!runner_may_log(attempt->runner))
        return;
    job_id_text(&attempt->job.id, id);
    log_event(LOG_WARN, event, LOG_S("job", id), LOG_S("reason", reason));
}

/* ---- held ---- */

static void held_add(struct attempt *attempt)
{
    struct runner *runner = attempt->runner;

    attempt_set_state(attempt, ATTEMPT_HELD);
    attempt->next = NULL;
    if (runner->held_last)
        runner->held_last->next = attempt;
    else
        runner->held_first = attempt;
    runner->held_last = attempt;
    runner->held_bytes += attempt->held_bytes;
}

/* Its result is given up: the job runs again, here or elsewhere, and nothing is counted against it.
 */
static void hold_release(struct attempt *attempt)
{
    attempt->verdict = VERDICT_RELEASE;
    attempt->held_bytes = 0;
    attempt->job.payload = (struct slice){0};
    held_add(attempt);
}

/* Keeps the attempt with a copy of all it points to. */
static void hold(struct attempt *attempt)
{
    struct runner *runner = attempt->runner;
    char *memory;

    if (attempt->verdict == VERDICT_RELEASE ||
        attempt->job.payload.size > COMMIT_HELD_BYTES_MAX - runner->held_bytes ||
        job_copy(&attempt->job, &attempt->job, &memory) < 0) {
        if (attempt->verdict != VERDICT_RELEASE)
            log_job(attempt, "result_given_up", "the queue is away and too many results are held");
        hold_release(attempt);
        return;
    }
    free(attempt->memory);
    attempt->memory = memory;
    attempt->held_bytes = attempt->job.payload.size;
    held_add(attempt);
}

void commit_held(struct runner *runner)
{
    if (!runner->held_first || runner_is_fenced(runner))
        return;

    /* What comes back while we send is for the next time. */
    struct attempt *attempt = runner->held_first;
    runner->held_first = NULL;
    runner->held_last = NULL;
    runner->held_bytes = 0;
    while (attempt) {
        struct attempt *next = attempt->next;
        attempt->next = NULL;
        attempt->held_bytes = 0;
        if (attempt->abort == ATTEMPT_CANCELLED || attempt->abort == ATTEMPT_LOST)
            attempt_end(attempt);
        else
            send_now(attempt);
        attempt = next;
    }
}

/* ---- answers ---- */

static void count(struct attempt *attempt)
{
    struct runner_counts *counts = &attempt->runner->counts;

    switch (attempt->verdict) {
    case VERDICT_FINISH:
        counts->succeeded++;
        metrics_add(METRIC_JOBS_SUCCEEDED, 1);
        break;
    case VERDICT_FAIL:
        if (attempt->job.state == JOB_EXPIRED) {
            counts->expired++;
            metrics_add(METRIC_JOBS_EXPIRED, 1);
        } else {
            counts->failed++;
            metrics_add(METRIC_JOBS_FAILED, 1);
        }
        break;
    case VERDICT_RETRY:
        counts->retried++;
        metrics_add(METRIC_JOBS_RETRIED, 1);
        break;
    case VERDICT_RELEASE:
        counts->handed_back++;
        metrics_add(METRIC_JOBS_HANDED_BACK, 1);
        break;
    }
}

static void on_done(int status, void *arg)
{
    struct attempt *attempt = arg;

    CHECK(attempt->state == ATTEMPT_COMMITTING);
    switch (status) {
    case 0:
        count(attempt);
        break;
    case ERR_FENCED:
        attempt->runner->counts.fenced++;
        metrics_add(METRIC_JOBS_FENCED, 1);
        break;
    case ERR_BUSY:
    case ERR_FULL:
        hold_release(attempt);
        return;
    case ERR_UNKNOWN:
    case ERR_OFFLINE: /* the queue is closing: the lease lapses and the job runs again */
        break;
    default: /* the same: handed back it would run again and again, and nobody would count */
        metrics_add(METRIC_COMMITS_REFUSED, 1);
        log_job(attempt, "commit_failed", error_name_of(status));
        break;
    }
    attempt_end(attempt);
}

/* ---- sending ---- */

static void send_now(struct attempt *attempt)
{
    struct queue *queue = attempt->runner->queue;
    struct job *job = &attempt->job;

    FAILPOINT("worker-before-commit");
    attempt_set_state(attempt, ATTEMPT_COMMITTING);
    switch (attempt->verdict) {
    case VERDICT_FINISH:
        queue_finish(queue, job, on_done, attempt);
        break;
    case VERDICT_FAIL:
        queue_fail(queue, job, on_done, attempt);
        break;
    case VERDICT_RETRY:
        CHECK(job->attempts_count > 0);
        queue_retry(queue, job, &job->attempts[job->attempts_count - 1], attempt->due_at_ms,
                    on_done, attempt);
        break;
    case VERDICT_RELEASE:
        queue_release(queue, job, on_done, attempt);
        break;
    }
    job->payload = (struct slice){0}; /* it was borrowed */
}

void commit_start(struct attempt *attempt, enum attempt_verdict verdict)
{
    CHECK(attempt->state == ATTEMPT_NEW || attempt->state == ATTEMPT_CALLING);
    CHECK(!attempt->transfer);

    attempt->verdict = verdict;
    /* What was held before goes first: order does not matter to jobs, but a full memory does. */
    if (runner_is_fenced(attempt->runner))
        hold(attempt);
    else
        send_now(attempt);
}
