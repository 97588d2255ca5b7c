#include "common/job/job_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/digest.h"
#include "common/job/job_meta.h"

static struct job sample(void)
{
    uint8_t random[15];
    struct job job = {
        .state = JOB_RUNNING,
        .flags = JOB_FLAG_FOLLOWED,
        .claim = 513,
        .attempt = 2,
        .crashes = 1,
        .max_attempts = 5,
        .sequence = 70000,
        .priority = JOB_LOW,
        .endpoint = ENDPOINT_EMBEDDINGS,
        .created_at_ms = 1790000000123,
        .started_at_ms = 1790000001123,
        .finished_at_ms = 1790000002123,
        .due_at_ms = 1790000003123,
        .expires_at_ms = 1790086400123,
        .result_ttl_s = 86400,
        .timeout_ms = 600000,
        .route = slice_of("bge-large"),
        .tenant_name = slice_of("acme"),
        .metadata = slice_of("{\"k\":\"v\"}"),
        .request_id = slice_of("req_1"),
        .http_status = 200,
        .content_type = slice_of("application/json"),
        .upstream = slice_of("gpu0"),
        .error_code = slice_of("upstream_error"),
        .error_message = slice_of("bad gateway"),
        .usage = {true, 7, 11, 18},
        .attempts = {{1, 2, 502, {"gpu0", 4}, {"upstream_error", 14}, {"bad gateway", 11}},
                     {3, 4, 0, {"gpu1", 4}, {"upstream_timeout", 16}, {"", 0}}},
        .attempts_count = 2,
        .payload = slice_of("{\"model\":\"bge-large\",\"input\":\"x\"}"),
    };

    digest_random(random, sizeof(random));
    job.id = job_id_make(9, 1790000000123, random);
    digest_random(job.token, sizeof(job.token));
    memcpy(job.home, "abcdefgh", JOB_HOME_SIZE);
    job_tenant_hash(job.tenant_name, job.tenant);
    return job;
}

static void assert_slice(struct slice got, struct slice want)
{
    assert_int_equal(got.size, want.size);
    if (want.size > 0)
        assert_memory_equal(got.bytes, want.bytes, want.size);
}

static void test_all_fields_come_back(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again;
    struct error_text why;
    struct buf record;

    buf_init(&record, 1 << 20);
    assert_int_equal(job_encode(&job, &record), 0);
    assert_int_equal(job_decode(&job.id, record.data, record.size, &again, &why), 0);
    assert_int_equal(again.state, job.state);
    assert_int_equal(again.flags, job.flags);
    assert_int_equal(again.claim, job.claim);
    assert_int_equal(again.attempt, job.attempt);
    assert_int_equal(again.crashes, job.crashes);
    assert_int_equal(again.sequence, job.sequence);
    assert_int_equal(again.max_attempts, job.max_attempts);
    assert_int_equal(again.priority, job.priority);
    assert_int_equal(again.endpoint, job.endpoint);
    assert_memory_equal(again.token, job.token, JOB_TOKEN_SIZE);
    assert_memory_equal(again.tenant, job.tenant, JOB_TENANT_SIZE);
    assert_memory_equal(again.home, job.home, JOB_HOME_SIZE);
    assert_int_equal(again.created_at_ms, job.created_at_ms);
    assert_int_equal(again.started_at_ms, job.started_at_ms);
    assert_int_equal(again.due_at_ms, job.due_at_ms);
    assert_int_equal(again.finished_at_ms, 0);
    assert_int_equal(again.expires_at_ms, job.expires_at_ms);
    assert_slice(again.route, job.route);
    assert_slice(again.tenant_name, job.tenant_name);
    assert_slice(again.metadata, job.metadata);
    assert_slice(again.error_message, job.error_message);
    assert_slice(again.payload, job.payload);
    assert_int_equal(again.usage.output_tokens, 11);
    assert_int_equal(again.attempts_count, 2);
    assert_slice(again.attempts[1].error_code, slice_of("upstream_timeout"));
    /* What has ended is due no more: the time says when it did. */
    job.state = JOB_SUCCEEDED; /* lint: own state */
    buf_clear(&record);
    assert_int_equal(job_encode(&job, &record), 0);
    assert_int_equal(job_decode(&job.id, record.data, record.size, &again, &why), 0);
    assert_int_equal(again.finished_at_ms, job.finished_at_ms);
    assert_int_equal(again.due_at_ms, 0);
    buf_deinit(&record);
}

static void test_head_alone_is_enough_for_a_poll(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again;
    struct buf record;

    buf_init(&record, 1 << 20);
    assert_int_equal(job_encode(&job, &record), 0);
    size_t head = job_head_size(record.data, record.size);
    assert_int_equal(head, record.size - job.payload.size);
    assert_int_equal(job_decode(&job.id, record.data, head, &again, NULL), 0);
    assert_null(again.payload.bytes);
    assert_int_equal(again.payload_size, job.payload.size);
    for (size_t size = JOB_HEADER_SIZE; size < head; size++)
        assert_int_equal(job_decode(&job.id, record.data, size, &again, NULL), ERR_TOO_BIG);
    for (size_t size = 0; size < JOB_HEADER_SIZE; size++)
        assert_int_equal(job_decode(&job.id, record.data, size, &again, NULL), ERR_CORRUPT);
    buf_deinit(&record);
}

static void test_a_flipped_bit_behind_the_header_is_found(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again;
    struct buf record;

    buf_init(&record, 1 << 20);
    assert_int_equal(job_encode(&job, &record), 0);
    for (size_t at = JOB_HEADER_SIZE + JOB_HOME_SIZE; at < record.size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            record.data[at] = (char)(record.data[at] ^ (1 << bit));
            assert_int_equal(job_decode(&job.id, record.data, record.size, &again, NULL),
                             ERR_CORRUPT);
            record.data[at] = (char)(record.data[at] ^ (1 << bit));
        }
    }
    buf_deinit(&record);
}

static void test_a_newer_schema_is_left_alone(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again;
    struct buf record;
    char ticket[JOB_TICKET_SIZE];

    buf_init(&record, 1 << 20);
    assert_int_equal(job_encode(&job, &record), 0);
    record.data[1] = JOB_SCHEMA + 1;
    assert_int_equal(job_decode(&job.id, record.data, record.size, &again, NULL), ERR_NEWER);
    job_ticket_make(&job, ticket);
    ticket[0] = JOB_TICKET_SCHEMA + 1;
    assert_int_equal(job_ticket_parse(ticket, sizeof(ticket), &again), ERR_NEWER);
    buf_deinit(&record);
}

static void test_ticket_round_trip_and_damage(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again = {0};
    char ticket[JOB_TICKET_SIZE];

    job_ticket_make(&job, ticket);
    assert_int_equal(job_ticket_parse(ticket, sizeof(ticket), &again), 0);
    assert_string_equal(again.id.core, job.id.core);
    assert_int_equal(again.claim, 513);
    assert_int_equal(again.priority, JOB_LOW);
    assert_memory_equal(again.tenant, job.tenant, JOB_TENANT_SIZE);
    for (unsigned at = 1; at < 46; at++) {
        ticket[at] ^= 4;
        assert_int_equal(job_ticket_parse(ticket, sizeof(ticket), &again), ERR_CORRUPT);
        ticket[at] ^= 4;
    }
}

static void test_payload_in_pieces_is_checked_apart(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again;
    struct buf record;

    buf_init(&record, 1 << 20);
    job.flags |= JOB_FLAG_PIECES;
    job.payload_size = (uint32_t)job.payload.size;
    job.pieces = 3;
    assert_int_equal(job_encode(&job, &record), 0);
    assert_int_equal(job_decode(&job.id, record.data, record.size, &again, NULL), 0);
    assert_null(again.payload.bytes);
    assert_int_equal(again.pieces, 3);
    assert_int_equal(
        job_check_payload(record.data, record.size, job.payload.bytes, job.payload.size), 0);
    assert_int_equal(
        job_check_payload(record.data, record.size, job.payload.bytes, job.payload.size - 1),
        ERR_CORRUPT);
    buf_deinit(&record);
}

static void test_hostile_meta_costs_no_memory(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "\xdd\xff\xff\xff\xff",
        "\xdf\xff\xff\xff\xff",
        "\xdc\xff\xff\x01",
        "\x81\x02\xc6\xff\xff\xff\xff",
        "\x81\x01",
        "\x81",
        "",
        "\x91\x91\x91\x91\x91\x91\x01",
        "\x81\x02\xc4\x05"
        "abc",
    };
    struct job job = {0};

    for (unsigned i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
        assert_int_equal(job_meta_decode(hostile[i], strlen(hostile[i]), &job, NULL), ERR_CORRUPT);
}

static void test_verdicts_of_functions_become_words(void **state)
{
    (void)state;
    struct job job = sample();
    struct job again;
    struct buf record;

    buf_init(&record, 1 << 20);
    assert_int_equal(job_encode(&job, &record), 0);
    record.data[40] = JOB_VERDICT_POISON;
    assert_int_equal(job_decode(&job.id, record.data, record.size, &again, NULL), 0);
    assert_slice(again.error_code, slice_of("poison"));
    buf_deinit(&record);
}

static void test_attempt_round_trip(void **state)
{
    (void)state;
    struct job_attempt attempt = {5, 9, 429, {"gpu0", 4}, {"rate_limited", 12}, {"slow down", 9}};
    struct job_attempt again;
    struct buf bytes;

    buf_init(&bytes, 4096);
    assert_int_equal(job_attempt_encode(&attempt, &bytes), 0);
    assert_int_equal(job_attempt_decode(bytes.data, bytes.size, &again), 0);
    assert_int_equal(again.http_status, 429);
    assert_slice(again.error_message, slice_of("slow down"));
    assert_int_equal(job_attempt_decode(bytes.data, bytes.size - 1, &again), ERR_CORRUPT);
    buf_deinit(&bytes);
}

/* The tenant of those without keys is told by its hash alone. */
static void test_the_default_tenant_costs_no_name(void **state)
{
    (void)state;
    struct job job = sample(), again;
    struct error_text why;
    struct buf named, unnamed;
    char hash[JOB_TENANT_SIZE];

    job_tenant_hash(slice_of(JOB_DEFAULT_TENANT), hash);
    assert_memory_equal(hash, JOB_DEFAULT_TENANT_HASH, JOB_TENANT_SIZE);
    buf_init(&named, 4096);
    buf_init(&unnamed, 4096);
    job.tenant_name = slice_of("Default");
    job_tenant_hash(job.tenant_name, job.tenant);
    assert_int_equal(job_encode(&job, &named), 0);
    job.tenant_name = slice_of(JOB_DEFAULT_TENANT);
    job_tenant_hash(job.tenant_name, job.tenant);
    assert_int_equal(job_encode(&job, &unnamed), 0);
    assert_true(unnamed.size < named.size);
    assert_int_equal(job_decode(&job.id, unnamed.data, unnamed.size, &again, &why), 0);
    assert_slice(again.tenant_name, slice_of(JOB_DEFAULT_TENANT));
    assert_int_equal(job_decode(&job.id, named.data, named.size, &again, &why), 0);
    assert_slice(again.tenant_name, slice_of("Default"));
    /* A name that is written and is none: {1: 0, 2: 0}. */
    again.tenant_name = slice_of("");
    memcpy(again.tenant, JOB_DEFAULT_TENANT_HASH, JOB_TENANT_SIZE);
    assert_int_equal(job_meta_decode("\x82\x01\x00\x02\x00", 5, &again, &why), 0);
    assert_slice(again.tenant_name, slice_of(JOB_DEFAULT_TENANT));
    buf_deinit(&named);
    buf_deinit(&unnamed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_fields_come_back),
        cmocka_unit_test(test_head_alone_is_enough_for_a_poll),
        cmocka_unit_test(test_a_flipped_bit_behind_the_header_is_found),
        cmocka_unit_test(test_a_newer_schema_is_left_alone),
        cmocka_unit_test(test_ticket_round_trip_and_damage),
        cmocka_unit_test(test_payload_in_pieces_is_checked_apart),
        cmocka_unit_test(test_hostile_meta_costs_no_memory),
        cmocka_unit_test(test_verdicts_of_functions_become_words),
        cmocka_unit_test(test_attempt_round_trip),
        cmocka_unit_test(test_the_default_tenant_costs_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
