#include "common/job/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/error.h"
#include "common/job/outcome.h"

static void test_words_and_letters_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < JOB_STATE_COUNT; i++) {
        enum job_state again;
        assert_int_equal(job_state_from_letter(job_state_letter((enum job_state)i), &again), 0);
        assert_int_equal(again, i);
        assert_int_equal(job_state_from_word(slice_of(job_state_word((enum job_state)i)), &again),
                         0);
        assert_int_equal(again, i);
    }
    enum job_state none = JOB_BLOCKED;
    assert_int_equal(job_state_from_letter('x', &none), ERR_INVALID);
    assert_int_equal(job_state_from_word(slice_of("Queued"), &none), ERR_INVALID);
    assert_int_equal(none, JOB_BLOCKED);
}

static void test_final_states_never_change(void **state)
{
    (void)state;
    static const enum job_state final[] = {JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED, JOB_EXPIRED};

    for (unsigned i = 0; i < 4; i++) {
        assert_true(job_state_is_final(final[i]));
        for (unsigned next = 0; next < JOB_STATE_COUNT; next++) {
            struct job job = {.state = final[i]};
            assert_int_equal(job_set_state(&job, (enum job_state)next), ERR_STATE);
            assert_int_equal(job.state, final[i]);
        }
    }
}

static void test_a_job_ends_only_from_running_or_by_cancel_and_expiry(void **state)
{
    (void)state;
    assert_true(job_state_may_follow(JOB_RUNNING, JOB_SUCCEEDED));
    assert_false(job_state_may_follow(JOB_QUEUED, JOB_SUCCEEDED));
    assert_false(job_state_may_follow(JOB_SCHEDULED, JOB_RUNNING));
    assert_false(job_state_may_follow(JOB_QUEUED, JOB_FAILED));
    for (unsigned from = 0; from < JOB_STATE_COUNT; from++) {
        if (job_state_is_final((enum job_state)from))
            continue;
        assert_true(job_state_may_follow((enum job_state)from, JOB_CANCELLED));
        assert_true(job_state_may_follow((enum job_state)from, JOB_EXPIRED));
    }
}

static void test_endpoints_and_priorities(void **state)
{
    (void)state;
    enum job_endpoint endpoint;
    enum job_priority priority;

    assert_int_equal(job_endpoint_from_path(slice_of("/v1/embeddings"), &endpoint), 0);
    assert_int_equal(endpoint, ENDPOINT_EMBEDDINGS);
    assert_int_equal(job_endpoint_from_path(slice_of("/v1/embedding"), &endpoint), ERR_INVALID);
    assert_int_equal(job_priority_from_word(slice_of("low"), &priority), 0);
    assert_int_equal(priority, JOB_LOW);
    assert_int_equal(job_priority_from_word(slice_of(""), &priority), ERR_INVALID);
}

static void test_outcome_message_is_clean_text(void **state)
{
    (void)state;
    struct outcome outcome = {0};
    char long_text[2000];

    outcome_set_message(&outcome, slice_of("caf\xc3\xa9 \xff\n\x01!"));
    assert_string_equal(outcome.message, "caf\xc3\xa9 ?  !");
    for (size_t i = 0; i + 1 < sizeof(long_text); i += 2) {
        long_text[i] = '\xc3';
        long_text[i + 1] = '\xa9';
    }
    outcome_set_message(&outcome, (struct slice){long_text, sizeof(long_text)});
    assert_int_equal(strlen(outcome.message), 510);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_and_letters_come_back),
        cmocka_unit_test(test_final_states_never_change),
        cmocka_unit_test(test_a_job_ends_only_from_running_or_by_cancel_and_expiry),
        cmocka_unit_test(test_endpoints_and_priorities),
        cmocka_unit_test(test_outcome_message_is_clean_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
