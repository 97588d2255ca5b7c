#include "common/job/job_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/digest.h"
#include "common/base/error.h"

static struct job_id make(unsigned shard, int64_t at_ms)
{
    uint8_t random[15];

    digest_random(random, sizeof(random));
    return job_id_make(shard, at_ms, random);
}

static void test_parts_come_back(void **state)
{
    (void)state;
    static const int64_t times[] = {0, 1, 1790000000123, ((int64_t)1 << 42) - 1};

    for (unsigned shard = 0; shard < 1024; shard += 93) {
        for (unsigned i = 0; i < 4; i++) {
            struct job_id id = make(shard, times[i]);
            assert_int_equal(job_id_shard(&id), shard);
            assert_int_equal(job_id_at_ms(&id), times[i]);
        }
    }
}

static void test_text_and_packed_round_trip(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        struct job_id id = make(i % 1024, 1790000000000 + i);
        struct job_id again;
        char text[JOB_ID_TEXT_SIZE + 1];
        char packed[JOB_ID_PACKED_SIZE];

        job_id_text(&id, text);
        assert_int_equal(strlen(text), JOB_ID_TEXT_SIZE);
        assert_int_equal(job_id_parse(slice_of(text), 1024, &again), 0);
        assert_string_equal(again.core, id.core);
        job_id_pack(&id, packed);
        assert_int_equal(job_id_unpack(packed, &again), 0);
        assert_string_equal(again.core, id.core);
    }
}

static void test_later_ids_sort_later_within_a_shard(void **state)
{
    (void)state;
    struct job_id early = make(7, 1790000000000);
    struct job_id late = make(7, 1790000000001);

    assert_true(strcmp(early.core, late.core) < 0);
}

static void test_every_random_bit_counts(void **state)
{
    (void)state;
    uint8_t zeros[15] = {0};
    struct job_id base = job_id_make(3, 5, zeros);
    unsigned different = 0;

    for (unsigned bit = 0; bit < 120; bit++) {
        uint8_t random[15] = {0};
        random[bit / 8] = (uint8_t)(1u << (bit % 8));
        struct job_id id = job_id_make(3, 5, random);
        different += strcmp(id.core, base.core) != 0;
    }
    assert_int_equal(different, 118);
}

static void test_refuses_what_is_no_id(void **state)
{
    (void)state;
    struct job_id id = make(15, 1790000000000);
    struct job_id out;
    char text[JOB_ID_TEXT_SIZE + 2];

    job_id_text(&id, text);
    assert_int_equal(job_id_parse(slice_of(text), 15, &out), ERR_INVALID);
    assert_int_equal(job_id_parse((struct slice){text, JOB_ID_TEXT_SIZE - 1}, 16, &out),
                     ERR_INVALID);
    assert_int_equal(job_id_parse((struct slice){NULL, 0}, 16, &out), ERR_INVALID);
    text[10] = 'u'; /* not in the alphabet */
    assert_int_equal(job_id_parse(slice_of(text), 16, &out), ERR_INVALID);
    text[10] = '\0';
    assert_int_equal(job_id_parse((struct slice){text, JOB_ID_TEXT_SIZE}, 16, &out), ERR_INVALID);
    job_id_text(&id, text);
    text[0] = 'J';
    assert_int_equal(job_id_parse(slice_of(text), 16, &out), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_come_back),
        cmocka_unit_test(test_text_and_packed_round_trip),
        cmocka_unit_test(test_later_ids_sort_later_within_a_shard),
        cmocka_unit_test(test_every_random_bit_counts),
        cmocka_unit_test(test_refuses_what_is_no_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
