/* Every class, attempt, Retry-After, deadline and random extreme of the retry policy; and the
 * budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/run/retry.h"

static const int64_t NOW = 1790000000000;

static struct retry_question question_of(enum outcome_class class_)
{
    return (struct retry_question){.class_ = class_,
                                   .attempt = 1,
                                   .max_attempts = 5,
                                   .retry_after_ms = -1,
                                   .should_retry = -1,
                                   .now_ms = NOW,
                                   .expires_at_ms = NOW + 24LL * 3600 * 1000};
}

static void test_classes(void **state)
{
    (void)state;
    for (int class_ = OUTCOME_OK + 1; class_ < OUTCOME_COUNT; class_++) {
        if (class_ == OUTCOME_ABORTED)
            continue;
        struct retry_question question = question_of((enum outcome_class)class_);
        enum retry_action expected = RETRY_FAIL;
        if (outcome_may_retry((enum outcome_class)class_))
            expected = RETRY_LATER;
        if (class_ == OUTCOME_DEADLINE)
            expected = RETRY_EXPIRE;
        assert_int_equal(retry_decide(&question).action, expected);
        assert_false(retry_decide(&question).is_past_deadline);
    }
}

static void test_attempts_are_limited(void **state)
{
    (void)state;
    for (unsigned max = 1; max <= LIMIT_ATTEMPTS; max++) {
        for (unsigned attempt = 1; attempt <= LIMIT_ATTEMPTS + 2; attempt++) {
            struct retry_question question = question_of(OUTCOME_OVERLOADED);
            question.attempt = attempt;
            question.max_attempts = max;
            assert_int_equal(retry_decide(&question).action,
                             attempt < max ? RETRY_LATER : RETRY_FAIL);
        }
    }
}

static void test_full_jitter_doubles_up_to_the_cap(void **state)
{
    (void)state;
    static const int64_t windows[] = {500,   1000,  2000,  4000,  8000,
                                      16000, 32000, 60000, 60000, 60000};
    struct retry_question question = question_of(OUTCOME_TIMEOUT);
    question.max_attempts = LIMIT_ATTEMPTS;

    for (unsigned attempt = 1; attempt <= sizeof windows / sizeof windows[0]; attempt++) {
        int64_t window = windows[attempt - 1];
        question.attempt = attempt;
        question.random = 0;
        assert_int_equal(retry_decide(&question).due_at_ms, NOW);
        question.random = (uint64_t)window;
        assert_int_equal(retry_decide(&question).due_at_ms, NOW + window);
        question.random = (uint64_t)window + 1;
        assert_int_equal(retry_decide(&question).due_at_ms, NOW);
        question.random = UINT64_MAX;
        assert_in_range(retry_decide(&question).due_at_ms, NOW, NOW + window);
    }
}

static void test_retry_after_is_honoured_and_clamped(void **state)
{
    (void)state;
    struct retry_question question = question_of(OUTCOME_RATE_LIMITED);
    static const int64_t asked[] = {
        0, 1, 1000, 30000, RETRY_AFTER_MAX_MS, RETRY_AFTER_MAX_MS + 1, INT64_MAX};

    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        int64_t floor_ms = asked[i] > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : asked[i];
        question.retry_after_ms = asked[i];
        question.random = 0;
        assert_int_equal(retry_decide(&question).due_at_ms, NOW + floor_ms);
        question.random = UINT64_MAX;
        assert_in_range(retry_decide(&question).due_at_ms, NOW + floor_ms,
                        NOW + floor_ms + floor_ms / 10 + 100);
    }
}

/* One upstream asks for an hour, another one is free: nobody waits an hour. */
static void test_retry_after_binds_only_who_asked(void **state)
{
    (void)state;
    struct retry_question question = question_of(OUTCOME_RATE_LIMITED);

    question.retry_after_ms = 3600 * 1000;
    question.has_alternative = true;
    question.random = UINT64_MAX;
    assert_int_equal(retry_decide(&question).action, RETRY_LATER);
    assert_in_range(retry_decide(&question).due_at_ms, NOW, NOW + RETRY_BASE_MS);
}

static void test_deadline(void **state)
{
    (void)state;
    struct retry_question question = question_of(OUTCOME_RATE_LIMITED);

    question.retry_after_ms = 5000;
    question.expires_at_ms = NOW + 5000;
    assert_int_equal(retry_decide(&question).action, RETRY_FAIL);
    assert_true(retry_decide(&question).is_past_deadline);
    question.expires_at_ms = NOW + 5001;
    assert_int_equal(retry_decide(&question).action, RETRY_LATER);

    /* The deadline has come: expired, whatever happened last. */
    for (int class_ = OUTCOME_OK + 1; class_ < OUTCOME_COUNT; class_++) {
        if (class_ == OUTCOME_ABORTED)
            continue;
        question = question_of((enum outcome_class)class_);
        question.expires_at_ms = NOW;
        assert_int_equal(retry_decide(&question).action, RETRY_EXPIRE);
        question.attempt = question.max_attempts;
        assert_int_equal(retry_decide(&question).action, RETRY_EXPIRE);
    }

    question = question_of(OUTCOME_OVERLOADED);
    question.expires_at_ms = 0;
    assert_int_equal(retry_decide(&question).action, RETRY_LATER);
}

static void test_upstream_says_whether_to_retry(void **state)
{
    (void)state;
    struct retry_question question = question_of(OUTCOME_OVERLOADED);
    question.should_retry = 0;
    assert_int_equal(retry_decide(&question).action, RETRY_FAIL);

    question = question_of(OUTCOME_REJECTED);
    question.should_retry = 1;
    assert_int_equal(retry_decide(&question).action, RETRY_LATER);

    question = question_of(OUTCOME_TOO_LARGE);
    question.should_retry = 1;
    assert_int_equal(retry_decide(&question).action, RETRY_FAIL);
}

static void test_unreached_upstream_prefers_another(void **state)
{
    (void)state;
    struct retry_question question = question_of(OUTCOME_CONNECTION);
    question.has_alternative = true;
    assert_int_equal(retry_decide(&question).action, RETRY_ELSEWHERE);
    /* Nothing reached the first one, so this is no further attempt. */
    question.attempt = question.max_attempts;
    assert_int_equal(retry_decide(&question).action, RETRY_ELSEWHERE);
    question.has_alternative = false;
    assert_int_equal(retry_decide(&question).action, RETRY_FAIL);
    question.has_alternative = true;

    /* What reached the upstream may have cost something: it waits its turn. */
    question = question_of(OUTCOME_TRUNCATED);
    question.has_alternative = true;
    assert_int_equal(retry_decide(&question).action, RETRY_LATER);
}

static void test_over_budget_waits_longer_and_never_fails_for_it(void **state)
{
    (void)state;
    struct retry_question question = question_of(OUTCOME_OVERLOADED);
    question.is_over_budget = true;
    question.random = 0;
    assert_int_equal(retry_decide(&question).action, RETRY_LATER);
    assert_int_equal(retry_decide(&question).due_at_ms, NOW + 2000);
    question.random = 2000;
    assert_int_equal(retry_decide(&question).due_at_ms, NOW + 4000);
    question.retry_after_ms = 1000;
    question.random = 0;
    assert_int_equal(retry_decide(&question).due_at_ms, NOW + 3000);
}

static void test_budget(void **state)
{
    (void)state;
    struct retry_budget budget = {0};
    int64_t now = 1000000;

    for (int i = 0; i < 1200; i++) {
        assert_false(retry_budget_is_spent(&budget, now));
        retry_budget_note(&budget, now, true);
    }
    /* 1,200 of grace and a tenth of what was sent: 120 more. */
    for (int i = 0; i < 133; i++) {
        assert_false(retry_budget_is_spent(&budget, now));
        retry_budget_note(&budget, now, true);
    }
    assert_true(retry_budget_is_spent(&budget, now));
    for (int i = 0; i < 1000; i++)
        retry_budget_note(&budget, now, false);
    assert_false(retry_budget_is_spent(&budget, now));

    /* Two minutes later nothing of it counts. */
    now += RETRY_BUDGET_SLOTS * RETRY_BUDGET_SLOT_MS;
    retry_budget_note(&budget, now, false);
    assert_int_equal(budget.requests_sum, 1);
    assert_int_equal(budget.retries_sum, 0);
    now += 10LL * 365 * 24 * 3600 * 1000;
    assert_false(retry_budget_is_spent(&budget, now));
    assert_int_equal(budget.requests_sum, 0);
}

static void test_budget_slides(void **state)
{
    (void)state;
    struct retry_budget budget = {0};
    for (int64_t slot = 0; slot < 100; slot++) {
        retry_budget_note(&budget, slot * RETRY_BUDGET_SLOT_MS, slot % 2 == 0);
        int64_t kept = slot + 1 < RETRY_BUDGET_SLOTS ? slot + 1 : RETRY_BUDGET_SLOTS;
        assert_int_equal(budget.requests_sum, kept);
        assert_int_equal(budget.retries_sum, (kept + (slot % 2 == 0)) / 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_attempts_are_limited),
        cmocka_unit_test(test_full_jitter_doubles_up_to_the_cap),
        cmocka_unit_test(test_retry_after_is_honoured_and_clamped),
        cmocka_unit_test(test_retry_after_binds_only_who_asked),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_upstream_says_whether_to_retry),
        cmocka_unit_test(test_unreached_upstream_prefers_another),
        cmocka_unit_test(test_over_budget_waits_longer_and_never_fails_for_it),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_slides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
