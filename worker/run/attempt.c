#include "worker/run/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/failpoint.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "worker/run/commit.h"
#include "worker/run/retry.h"
#include "worker/run/runner.h"

enum {
    HTTP_FAILURE_MIN = 400,
    STALE_MS_MAX = 2000, /* a connection that was closed while idle shows it sooner */
};

static void start_call(struct attempt *attempt);

#define TO(state) (1u << (state))

/* attempt_table_remove leads from any state back to ATTEMPT_FREE. */
static const unsigned legal_next[] = {
    [ATTEMPT_FREE] = TO(ATTEMPT_NEW),
    [ATTEMPT_NEW] = TO(ATTEMPT_CALLING) | TO(ATTEMPT_HELD) | TO(ATTEMPT_COMMITTING),
    [ATTEMPT_CALLING] = TO(ATTEMPT_CALLING) | TO(ATTEMPT_HELD) | TO(ATTEMPT_COMMITTING),
    [ATTEMPT_HELD] = TO(ATTEMPT_COMMITTING),
    [ATTEMPT_COMMITTING] = TO(ATTEMPT_HELD),
};

void attempt_set_state(struct attempt *attempt, enum attempt_state next)
{
    CHECK((size_t)attempt->state < sizeof legal_next / sizeof legal_next[0]);
    CHECK(legal_next[attempt->state] & TO(next));
    attempt->state = next; /* lint: own state */
}

/* ---- what is written down ---- */

/* Adds the try that just ended to the job's list; texts are borrowed until the commit. */
static void note_try(struct attempt *attempt, const struct outcome *outcome)
{
    struct job *job = &attempt->job;

    if (job->attempts_count == LIMIT_ATTEMPTS) {
        memmove(&job->attempts[0], &job->attempts[1],
                sizeof job->attempts[0] * (LIMIT_ATTEMPTS - 1));
        job->attempts_count--;
    }
    job->attempts[job->attempts_count++] = (struct job_attempt){
        .started_at_ms = attempt->started_at_ms,
        .finished_at_ms = queue_now_ms(attempt->runner->queue),
        .http_status = outcome->http_status,
        .upstream = job->upstream,
        .error_code = slice_of(outcome_word(outcome->class_)),
        .error_message = slice_of(outcome->message),
    };
}

static void set_final(struct job *job, enum job_state state)
{
    /* Claimed jobs are running, and from there every final state is legal. */
    int status = job_set_state(job, state);
    CHECK(status == 0);
}

/* The result's head; the body is borrowed until the commit. */
static void set_result(struct attempt *attempt, const struct outcome *outcome,
                       const struct upstream_answer *answer)
{
    struct job *job = &attempt->job;
    bool has_body = answer && answer->end == UPSTREAM_ANSWERED;

    /* A failed job whose upstream did not say that it failed has no answer to show. */
    if (outcome->class_ != OUTCOME_OK && outcome->http_status < HTTP_FAILURE_MIN)
        has_body = false;
    job->finished_at_ms = queue_now_ms(attempt->runner->queue);
    job->http_status = has_body ? outcome->http_status : 0;
    job->usage = outcome->usage;
    job->worker = slice_of(queue_self_id(attempt->runner->queue));
    job->content_type = has_body ? slice_of(answer->content_type) : (struct slice){0};
    job->payload = has_body ? answer->body : (struct slice){0};
    job->payload_size = (uint32_t)job->payload.size;
    job->flags &= ~(unsigned)JOB_FLAG_PIECES;
    job->pieces = 0;
}

static void commit_success(struct attempt *attempt, const struct outcome *outcome,
                           const struct upstream_answer *answer)
{
    note_try(attempt, outcome);
    set_result(attempt, outcome, answer);
    set_final(&attempt->job, JOB_SUCCEEDED);
    metrics_add(METRIC_TOKENS_INPUT, (uint64_t)outcome->usage.input_tokens);
    metrics_add(METRIC_TOKENS_OUTPUT, (uint64_t)outcome->usage.output_tokens);
    if (log_is_on(LOG_DEBUG)) {
        char id[JOB_ID_TEXT_SIZE + 1];
        job_id_text(&attempt->job.id, id);
        log_event(LOG_DEBUG, "job_succeeded", LOG_S("job", id),
                  LOG_I("attempt", attempt->job.attempt),
                  LOG_I("http_status", outcome->http_status));
    }
    commit_start(attempt, VERDICT_FINISH);
}

static void commit_failure(struct attempt *attempt, const struct outcome *outcome,
                           const struct upstream_answer *answer, enum job_state state)
{
    struct job *job = &attempt->job;

    set_result(attempt, outcome, answer);
    job->error_code =
        slice_of(outcome_word(state == JOB_EXPIRED ? OUTCOME_DEADLINE : outcome->class_));
    job->error_message = slice_of(outcome->message);
    set_final(job, state);
    runner_log_failure(attempt->runner, job);
    commit_start(attempt, VERDICT_FAIL);
}

/* ---- after a try that failed ---- */

/* The words of the first try must outlive the second one. */
static void keep_first_error(struct attempt *attempt)
{
    struct job_attempt *last = &attempt->job.attempts[attempt->job.attempts_count - 1];

    free(attempt->first_error);
    attempt->first_error = malloc(last->error_message.size + 1);
    if (!attempt->first_error) {
        last->error_message = (struct slice){0};
        return;
    }
    memcpy(attempt->first_error, last->error_message.bytes, last->error_message.size);
    attempt->first_error[last->error_message.size] = '\0';
    last->error_message.bytes = attempt->first_error;
}

/* Of the two tries of this attempt only the last one is kept with a job that is tried again: it
 * tells of both. */
static void join_errors(const struct attempt *attempt, struct outcome *outcome)
{
    char text[sizeof outcome->message * 2];

    (void)snprintf(text, sizeof text, "%s (before: %s)", outcome->message,
                   attempt->first_error ? attempt->first_error : "");
    outcome_set_message(outcome, slice_of(text));
}

/* Another upstream could take it now, and that was not tried yet. */
static bool has_alternative(const struct attempt *attempt)
{
    unsigned upstream;

    return !attempt->went_elsewhere && !attempt->runner->is_draining &&
           router_pick(attempt->set->router, attempt->job.route, attempt->tried, &upstream) == 0;
}

static void settle_failure(struct attempt *attempt, struct outcome *outcome,
                           const struct upstream_answer *answer)
{
    struct runner *runner = attempt->runner;
    struct job *job = &attempt->job;
    struct retry_question question = {
        .class_ = outcome->class_,
        .attempt = job->attempt + 1,
        .max_attempts = job->max_attempts,
        .retry_after_ms = outcome->retry_after_ms,
        .should_retry = answer ? answer->should_retry : -1,
        .now_ms = queue_now_ms(runner->queue),
        .expires_at_ms = job->expires_at_ms,
        .is_over_budget =
            retry_budget_is_spent(&attempt->set->budgets[attempt->upstream], clock_mono_ms()),
        .has_alternative = has_alternative(attempt),
        .random = digest_random_u64(),
    };
    struct retry_answer decision = retry_decide(&question);

    if (attempt->went_elsewhere && decision.action == RETRY_LATER)
        join_errors(attempt, outcome);
    note_try(attempt, outcome);
    switch (decision.action) {
    case RETRY_LATER:
        attempt->due_at_ms = decision.due_at_ms;
        job->payload = (struct slice){0};
        commit_start(attempt, VERDICT_RETRY);
        break;
    case RETRY_ELSEWHERE:
        attempt->went_elsewhere = true;
        keep_first_error(attempt);
        start_call(attempt);
        break;
    case RETRY_FAIL:
        job->attempt++;
        commit_failure(attempt, outcome, answer, JOB_FAILED);
        break;
    case RETRY_EXPIRE:
        job->attempt++;
        commit_failure(attempt, outcome, answer, JOB_EXPIRED);
        break;
    }
}

/* ---- the end of a call ---- */

static bool is_past_deadline(const struct attempt *attempt)
{
    int64_t expires_at_ms = attempt->job.expires_at_ms;
    return expires_at_ms > 0 && queue_now_ms(attempt->runner->queue) >= expires_at_ms;
}

static void judge(const struct attempt *attempt, const struct upstream_answer *answer,
                  struct outcome *out)
{
    const struct job *job = &attempt->job;

    switch (answer->end) {
    case UPSTREAM_ANSWERED:
        attempt->provider->judge(job, answer->http_status, answer->body, out);
        break;
    case UPSTREAM_CONNECT:
        out->class_ = OUTCOME_CONNECTION;
        break;
    case UPSTREAM_TIMEOUT_TOTAL:
        out->class_ = is_past_deadline(attempt) ? OUTCOME_DEADLINE : OUTCOME_TIMEOUT;
        break;
    case UPSTREAM_TIMEOUT_FIRST_BYTE:
    case UPSTREAM_TIMEOUT_IDLE:
        out->class_ = OUTCOME_TIMEOUT;
        break;
    case UPSTREAM_BROKEN:
        out->class_ = OUTCOME_TRUNCATED;
        break;
    case UPSTREAM_TOO_LARGE:
        out->class_ = OUTCOME_TOO_LARGE;
        break;
    case UPSTREAM_PROTOCOL:
        out->class_ = OUTCOME_MALFORMED;
        break;
    case UPSTREAM_ABORTED:
        out->class_ = OUTCOME_ABORTED;
        break;
    }
    if (out->class_ == OUTCOME_DEADLINE)
        outcome_set_message(out, slice_of("its deadline passed while the upstream worked on it"));
    else if (answer->end != UPSTREAM_ANSWERED)
        outcome_set_message(out, slice_of(answer->detail));
    out->http_status = answer->http_status;
    if (out->retry_after_ms < 0)
        out->retry_after_ms = answer->retry_after_ms;
}

static void tell_router(struct attempt *attempt, const struct outcome *outcome,
                        const struct upstream_answer *answer)
{
    bool is_error = outcome->class_ != OUTCOME_OK && outcome->class_ != OUTCOME_ABORTED;

    upstream_set_note_end(attempt->set, attempt->upstream, attempt->runner->set, outcome,
                          answer->total_ms);
    metrics_gauge_add(METRIC_UPSTREAM_IN_FLIGHT, -1);
    metrics_observe_ms(METRIC_UPSTREAM_SECONDS, answer->total_ms);
    if (is_error)
        metrics_add(METRIC_UPSTREAM_ERRORS, 1);
    claim_note_room(attempt->runner);
}

/* A kept connection that was closed while nobody used it is no failure of the upstream, nor of the
 * job. */
static bool may_go_again(const struct attempt *attempt, const struct upstream_answer *answer)
{
    return answer->was_stale && answer->total_ms < STALE_MS_MAX && !attempt->went_again &&
           attempt->abort == ATTEMPT_NOT_ABORTED && !attempt->runner->is_draining &&
           !is_past_deadline(attempt);
}

static void go_again(struct attempt *attempt)
{
    metrics_add(METRIC_UPSTREAM_STALE, 1);
    attempt->went_again = true;
    attempt->tried &= ~(UINT64_C(1) << attempt->upstream);
    start_call(attempt);
}

static void settle(struct attempt *attempt, const struct upstream_answer *answer)
{
    struct outcome outcome = {.retry_after_ms = -1};

    FAILPOINT_TEXT("worker-answer", answer->body);
    attempt->transfer = NULL;
    judge(attempt, answer, &outcome);
    bool goes_again = may_go_again(attempt, answer);
    if (goes_again)
        outcome.class_ = OUTCOME_ABORTED; /* says nothing about the upstream */
    tell_router(attempt, &outcome, answer);

    if (goes_again) {
        go_again(attempt);
    } else if (attempt->abort == ATTEMPT_CANCELLED || attempt->abort == ATTEMPT_LOST) {
        attempt_end(attempt);
    } else if (outcome.class_ == OUTCOME_ABORTED) {
        /* We are draining, or the pool is closing: either way somebody else shall do it. */
        attempt->job.payload = (struct slice){0};
        commit_start(attempt, VERDICT_RELEASE);
    } else if (outcome.class_ == OUTCOME_OK) {
        commit_success(attempt, &outcome, answer);
    } else {
        settle_failure(attempt, &outcome, answer);
    }
}

/* Whatever the answer does to us, the tickets say whose it was. */
static void on_end(const struct upstream_answer *answer, void *arg)
{
    struct attempt *attempt = arg;
    struct tickets *tickets = &attempt->runner->table.tickets;

    CHECK(attempt->state == ATTEMPT_CALLING);
    tickets_enter(tickets, attempt->slot);
    settle(attempt, answer);
    tickets_leave(tickets);
}

/* ---- the beginning of a call ---- */

static int least_ms(int64_t a, int64_t b)
{
    int64_t least = b > 0 && b < a ? b : a;
    return least > INT32_MAX ? INT32_MAX : (int)least;
}

static int send_call(struct attempt *attempt, const struct settings_upstream *settings)
{
    struct runner *runner = attempt->runner;
    const struct provider_call *call = &attempt->call;
    const struct job *job = &attempt->job;
    struct slice headers[PROVIDER_HEADERS_MAX];
    int64_t left_ms = job->expires_at_ms > 0 ? job->expires_at_ms - attempt->started_at_ms : 0;
    if (job->expires_at_ms > 0 && left_ms < 1)
        left_ms = 1; /* the clock went on since we looked; 0 would be no deadline */

    for (unsigned i = 0; i < call->headers_count; i++)
        headers[i] = (struct slice){.bytes = call->headers[i].data, .size = call->headers[i].size};
    int timeout_ms = least_ms(least_ms(settings->timeout_ms, job->timeout_ms), left_ms);
    struct upstream_request request = {
        .method = call->method,
        .url = call->url.data,
        .body = call->body.size > 0
                    ? (struct slice){.bytes = call->body.data, .size = call->body.size}
                    : call->body_as_is,
        .headers = headers,
        .headers_count = call->headers_count,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .first_byte_timeout_ms = settings->first_byte_timeout_ms,
        .idle_timeout_ms = settings->idle_timeout_ms,
        .timeout_ms = timeout_ms,
        .http2 = settings->http2,
        .is_fresh = attempt->went_again,
    };
    return upstream_call_start(runner->pool, &request, NULL, on_end, attempt, &attempt->transfer);
}

/* It cannot start here and now, through no fault of its own. */
static void give_back(struct attempt *attempt)
{
    claim_pause(attempt->runner);
    attempt->job.payload = (struct slice){0};
    if (attempt->went_elsewhere) { /* its first try counts */
        attempt->due_at_ms = queue_now_ms(attempt->runner->queue) + RETRY_BASE_MS;
        commit_start(attempt, VERDICT_RETRY);
        return;
    }
    commit_start(attempt, VERDICT_RELEASE);
}

static void fail_unsent(struct attempt *attempt, const struct error_text *why)
{
    struct outcome outcome = {.class_ = OUTCOME_INTERNAL, .retry_after_ms = -1};

    outcome_set_message(&outcome, slice_of(why->text));
    note_try(attempt, &outcome);
    commit_failure(attempt, &outcome, NULL, JOB_FAILED);
}

static void note_started(struct attempt *attempt)
{
    attempt_set_state(attempt, ATTEMPT_CALLING);
    attempt->tried |= UINT64_C(1) << attempt->upstream;
    upstream_set_note_start(attempt->set, attempt->upstream, attempt->job.attempt > 0);
    metrics_add(METRIC_UPSTREAM_CALLS, 1);
    metrics_gauge_add(METRIC_UPSTREAM_IN_FLIGHT, 1);
}

static int build_and_send(struct attempt *attempt, struct error_text *why)
{
    struct upstream_set *set = attempt->set;
    const struct settings_upstream *settings = router_upstream(set->router, attempt->upstream);
    struct slice model = router_upstream_model(set->router, attempt->job.route);
    char model_text[LIMIT_ROUTE_BYTES + 1];

    if (model.size > LIMIT_ROUTE_BYTES)
        return error_set(why, ERR_INVALID, "the upstream's model name is too long");
    memcpy(model_text, model.bytes, model.size);
    model_text[model.size] = '\0';
    attempt->job.upstream = slice_of(settings->name);
    attempt->provider = provider_find(settings->kind);
    provider_call_deinit(&attempt->call);
    attempt->call = (struct provider_call){0};
    int status = attempt->provider->build(&attempt->job, settings, model_text,
                                          set->keys[attempt->upstream], &attempt->call, why);
    if (status < 0)
        return status;
    status = send_call(attempt, settings);
    if (status == ERR_INVALID)
        return error_set(why, status, "the upstream's address or a header is not valid");
    return status;
}

static void start_call(struct attempt *attempt)
{
    struct runner *runner = attempt->runner;
    struct error_text why = {""};

    if (!attempt->set) {
        attempt->set = runner->set;
        upstream_set_retain(attempt->set);
    }
    attempt->started_at_ms = queue_now_ms(runner->queue);
    if (router_pick(attempt->set->router, attempt->job.route, attempt->tried, &attempt->upstream) <
        0) {
        give_back(attempt);
        return;
    }
    int status = build_and_send(attempt, &why);
    if (status == 0)
        note_started(attempt);
    else if (status == ERR_BUSY || status == ERR_NOMEM)
        give_back(attempt);
    else
        fail_unsent(attempt, &why);
}

static void start(struct attempt *attempt)
{
    if (is_past_deadline(attempt)) {
        struct outcome outcome = {.class_ = OUTCOME_DEADLINE, .retry_after_ms = -1};
        outcome_set_message(&outcome, slice_of("its deadline passed before it could start"));
        commit_failure(attempt, &outcome, NULL, JOB_EXPIRED);
        return;
    }
    start_call(attempt);
}

void attempt_start(struct attempt *attempt)
{
    struct tickets *tickets = &attempt->runner->table.tickets;

    CHECK(attempt->state == ATTEMPT_NEW);
    tickets_enter(tickets, attempt->slot);
    start(attempt);
    tickets_leave(tickets);
}

void attempt_abort(struct attempt *attempt, enum attempt_abort why)
{
    CHECK(why != ATTEMPT_NOT_ABORTED);
    if (attempt->state != ATTEMPT_CALLING && attempt->state != ATTEMPT_HELD)
        return; /* the commit is out: its answer says what became of it */
    bool is_running = attempt->state == ATTEMPT_CALLING && attempt->abort == ATTEMPT_NOT_ABORTED;
    /* What is recorded elsewhere outweighs our own wish to hand back. */
    if (attempt->abort == ATTEMPT_NOT_ABORTED || attempt->abort == ATTEMPT_DRAINED)
        attempt->abort = why;
    if (is_running)
        upstream_call_abort(attempt->transfer);
}

void attempt_end(struct attempt *attempt)
{
    struct runner *runner = attempt->runner;

    CHECK(!attempt->transfer);
    if (attempt->is_suspect) {
        CHECK(runner->suspects_count > 0);
        runner->suspects_count--;
        claim_note_suspect_end(runner);
    }
    upstream_set_release(attempt->set);
    attempt_table_remove(&runner->table, attempt);
    claim_note_room(runner);
}
