/* Retry policy. Full jitter: a delay is drawn from zero to a window that doubles with every failed
 * try, so that jobs that failed together do not come back together. */
#include "worker/run/retry.h"

#include "common/base/check.h"

/* Beyond the budget a retry waits as if it had failed so many times more, and never less than half
 * the window. */
enum { OVER_BUDGET_TRIES = 3 };

static int64_t window_ms(unsigned tries)
{
    int64_t window = RETRY_BASE_MS;
    for (unsigned i = 1; i < tries && window < RETRY_CAP_MS; i++)
        window *= 2;
    return window < RETRY_CAP_MS ? window : RETRY_CAP_MS;
}

/* Uniform in 0..max_ms. */
static int64_t draw_ms(uint64_t random, int64_t max_ms)
{
    return (int64_t)(random % (uint64_t)(max_ms + 1));
}

static int64_t delay_ms(const struct retry_question *question)
{
    int64_t window =
        window_ms(question->attempt + (question->is_over_budget ? OVER_BUDGET_TRIES : 0));
    int64_t floor_ms = 0;

    /* The wait is that upstream's, and its limiter keeps to it: another one may be asked sooner. */
    if (question->retry_after_ms >= 0 && !question->has_alternative) {
        floor_ms = question->retry_after_ms;
        if (floor_ms > RETRY_AFTER_MAX_MS)
            floor_ms = RETRY_AFTER_MAX_MS;
        /* The upstream said when; a little spread keeps those who heard it together from coming
         * together. */
        if (!question->is_over_budget && window > floor_ms / 10 + RETRY_BASE_MS / 5)
            window = floor_ms / 10 + RETRY_BASE_MS / 5;
    }
    if (question->is_over_budget)
        return floor_ms + window / 2 + draw_ms(question->random, window / 2);
    return floor_ms + draw_ms(question->random, window);
}

static bool may_retry(const struct retry_question *question)
{
    if (question->should_retry == 0)
        return false;
    if (outcome_may_retry(question->class_))
        return true;
    /* An upstream that asks for a retry of what it refused knows better; what we refused ourselves
     * stays. */
    return question->should_retry == 1 && question->class_ == OUTCOME_REJECTED;
}

struct retry_answer retry_decide(const struct retry_question *question)
{
    CHECK(question->class_ != OUTCOME_OK);
    CHECK(question->class_ != OUTCOME_ABORTED);
    CHECK(question->attempt >= 1);

    bool has_deadline = question->expires_at_ms > 0;
    if (question->class_ == OUTCOME_DEADLINE ||
        (has_deadline && question->now_ms >= question->expires_at_ms))
        return (struct retry_answer){.action = RETRY_EXPIRE};
    if (question->class_ == OUTCOME_CONNECTION && question->has_alternative)
        return (struct retry_answer){.action = RETRY_ELSEWHERE};
    if (!may_retry(question) || question->attempt >= question->max_attempts)
        return (struct retry_answer){.action = RETRY_FAIL};

    int64_t due_at_ms = question->now_ms + delay_ms(question);
    if (has_deadline && due_at_ms >= question->expires_at_ms)
        return (struct retry_answer){.action = RETRY_FAIL, .is_past_deadline = true};
    return (struct retry_answer){.action = RETRY_LATER, .due_at_ms = due_at_ms};
}

/* ---- budget ---- */

static void budget_advance(struct retry_budget *budget, int64_t now_mono_ms)
{
    int64_t slot = now_mono_ms / RETRY_BUDGET_SLOT_MS;
    int64_t steps = slot - budget->slot;

    if (steps <= 0)
        return;
    if (steps > RETRY_BUDGET_SLOTS)
        steps = RETRY_BUDGET_SLOTS;
    for (int64_t i = 0; i < steps; i++) {
        size_t at = (size_t)((slot - i) % RETRY_BUDGET_SLOTS);
        budget->requests_sum -= budget->requests[at];
        budget->retries_sum -= budget->retries[at];
        budget->requests[at] = 0;
        budget->retries[at] = 0;
    }
    budget->slot = slot;
}

void retry_budget_note(struct retry_budget *budget, int64_t now_mono_ms, bool is_retry)
{
    CHECK(now_mono_ms >= 0);
    budget_advance(budget, now_mono_ms);

    size_t at = (size_t)(budget->slot % RETRY_BUDGET_SLOTS);
    if (budget->requests[at] == UINT32_MAX)
        return;
    budget->requests[at]++;
    budget->requests_sum++;
    if (is_retry) {
        budget->retries[at]++;
        budget->retries_sum++;
    }
}

bool retry_budget_is_spent(struct retry_budget *budget, int64_t now_mono_ms)
{
    budget_advance(budget, now_mono_ms);

    uint64_t allowed =
        budget->requests_sum * RETRY_BUDGET_PERCENT / 100 +
        (uint64_t)RETRY_BUDGET_GRACE_PER_S * RETRY_BUDGET_SLOTS * RETRY_BUDGET_SLOT_MS / 1000;
    return budget->retries_sum >= allowed;
}
