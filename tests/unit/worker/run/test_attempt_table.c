/* The table of attempts: places that move, tickets that come and go, the bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/job/job_codec.h"
#include "worker/run/attempt_table.h"

enum { COUNT_MAX = 300 };

static struct job job_of(unsigned number, unsigned claim)
{
    uint8_t random[15] = {0};
    struct job job = {.state = JOB_RUNNING,
                      .claim = claim,
                      .route = slice_of("m"),
                      .payload = slice_of("{\"model\":\"m\"}")};

    memcpy(random, &number, sizeof number);
    memcpy(random + 8, &number, sizeof number);
    job.id = job_id_make(number % 16, 1790000000000 + number, random);
    memcpy(job.tenant, "abcdef", JOB_TENANT_SIZE);
    memset(job.token, (int)(number & 0x7f), JOB_TOKEN_SIZE);
    return job;
}

static void open_table(struct attempt_table *table, int fd)
{
    struct error_text why = {""};
    assert_int_equal(attempt_table_init(table, COUNT_MAX, fd, "abcdefgh", &why), 0);
}

static void test_finds_by_id_and_claim(void **state)
{
    (void)state;
    struct attempt_table table;
    open_table(&table, -1);

    struct job first = job_of(1, 1);
    struct job again =
        job_of(1, 2); /* the same job, claimed anew before the first attempt was gone */
    struct attempt *one = attempt_table_add(&table, &first);
    struct attempt *two = attempt_table_add(&table, &again);
    assert_non_null(one);
    assert_non_null(two);
    assert_ptr_equal(attempt_table_find(&table, &first.id, 1), one);
    assert_ptr_equal(attempt_table_find(&table, &first.id, 2), two);
    assert_null(attempt_table_find(&table, &first.id, 3));
    attempt_table_remove(&table, one);
    assert_null(attempt_table_find(&table, &first.id, 1));
    assert_ptr_equal(attempt_table_find(&table, &first.id, 2), two);
    attempt_table_remove(&table, two);
    attempt_table_deinit(&table);
}

static void test_full(void **state)
{
    (void)state;
    struct attempt_table table;
    struct attempt *attempts[COUNT_MAX];
    open_table(&table, -1);

    for (unsigned i = 0; i < COUNT_MAX; i++) {
        struct job job = job_of(i, 1);
        attempts[i] = attempt_table_add(&table, &job);
        assert_non_null(attempts[i]);
    }
    struct job job = job_of(COUNT_MAX, 1);
    assert_null(attempt_table_add(&table, &job));
    assert_int_equal(table.count, COUNT_MAX);
    assert_int_equal(table.made_count, COUNT_MAX);
    attempt_table_remove(&table, attempts[17]);
    assert_non_null(attempt_table_add(&table, &job));
    for (unsigned slot = 0; slot < table.made_count; slot++)
        attempt_table_remove(&table, attempt_table_at(&table, slot));
    attempt_table_deinit(&table);
}

/* Random adds and removes against a plain array; after each step everything is found, and nothing
 * else. */
static void test_against_a_model(void **state)
{
    (void)state;
    struct attempt_table table;
    struct attempt *model[COUNT_MAX * 2] = {0};
    uint64_t random = 88172645463325252u;
    open_table(&table, -1);

    for (int round = 0; round < 20000; round++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned number = (unsigned)(random % (COUNT_MAX * 2));
        struct job job = job_of(number, number % 3);
        if (model[number]) {
            attempt_table_remove(&table, model[number]);
            model[number] = NULL;
        } else {
            model[number] = attempt_table_add(&table, &job);
            assert_true((model[number] != NULL) || table.count == COUNT_MAX);
        }
        number = (unsigned)((random >> 32) % (COUNT_MAX * 2));
        job = job_of(number, number % 3);
        assert_ptr_equal(attempt_table_find(&table, &job.id, job.claim), model[number]);
    }
    unsigned count = 0;
    for (unsigned number = 0; number < COUNT_MAX * 2; number++) {
        struct job job = job_of(number, number % 3);
        assert_ptr_equal(attempt_table_find(&table, &job.id, job.claim), model[number]);
        if (model[number]) {
            count++;
            attempt_table_remove(&table, model[number]);
        }
    }
    assert_int_equal(table.count, 0);
    assert_true(count > 0);
    attempt_table_deinit(&table);
}

static void test_copies_what_it_is_given(void **state)
{
    (void)state;
    struct attempt_table table;
    char body[] = "{\"model\":\"m\"}";
    struct job job = job_of(5, 1);
    open_table(&table, -1);
    job.payload = (struct slice){.bytes = body, .size = strlen(body)};
    job.flags = JOB_FLAG_SUSPECT;

    struct attempt *attempt = attempt_table_add(&table, &job);
    assert_non_null(attempt);
    memset(body, 'x', sizeof body - 1);
    assert_true(slice_is(attempt->job.payload, "{\"model\":\"m\"}"));
    assert_true(attempt->is_suspect);
    assert_int_equal(attempt->state, ATTEMPT_NEW);
    attempt_table_remove(&table, attempt);
    attempt_table_deinit(&table);
}

static void test_tickets(void **state)
{
    (void)state;
    struct attempt_table table;
    struct buf members = {.size_max = 1 << 20};
    char child_id[TICKETS_CHILD_SIZE] = "";
    struct job jobs[3] = {job_of(1, 7), job_of(2, 8), job_of(3, 9)};
    struct attempt *attempts[3];
    int fd = memfd_create("tickets", MFD_CLOEXEC);
    assert_true(fd >= 0);
    open_table(&table, fd);
    assert_int_equal(tickets_read(fd, &members, child_id), 0);
    assert_int_equal(members.size, 0);

    for (int i = 0; i < 3; i++)
        attempts[i] = attempt_table_add(&table, &jobs[i]);
    attempt_table_remove(&table, attempts[1]);
    assert_int_equal(tickets_read(fd, &members, child_id), 0);
    assert_int_equal(members.size, 2 * JOB_MEMBER_SIZE);
    assert_memory_equal(child_id, "abcdefgh", TICKETS_CHILD_SIZE);
    for (int i = 0; i < 2; i++) {
        const char *member = members.data + (size_t)i * JOB_MEMBER_SIZE;
        const struct job *expected = &jobs[i * 2];
        struct job parsed = {0};
        assert_int_equal(job_ticket_parse(member, JOB_TICKET_SIZE, &parsed), 0);
        assert_string_equal(parsed.id.core, expected->id.core);
        assert_int_equal(parsed.claim, expected->claim);
        assert_memory_equal(member + JOB_TICKET_SIZE, expected->token, JOB_TOKEN_SIZE);
    }

    /* The one being worked on comes first. */
    tickets_enter(&table.tickets, attempts[2]->slot);
    buf_clear(&members);
    assert_int_equal(tickets_read(fd, &members, child_id), 1);
    assert_int_equal(members.size, 2 * JOB_MEMBER_SIZE);
    struct job first = {0};
    assert_int_equal(job_ticket_parse(members.data, JOB_TICKET_SIZE, &first), 0);
    assert_string_equal(first.id.core, jobs[2].id.core);
    attempt_table_remove(&table, attempts[2]); /* ended meanwhile: nobody is to blame */
    buf_clear(&members);
    assert_int_equal(tickets_read(fd, &members, child_id), 0);
    assert_int_equal(members.size, JOB_MEMBER_SIZE);
    tickets_leave(&table.tickets);
    attempt_table_remove(&table, attempts[0]);
    buf_clear(&members);
    assert_int_equal(tickets_read(fd, &members, child_id), 0);
    assert_int_equal(members.size, 0);
    attempt_table_deinit(&table);
    buf_deinit(&members);
    (void)close(fd);
}

static void test_tickets_of_a_strange_file(void **state)
{
    (void)state;
    struct buf members = {.size_max = 1 << 20};
    char child_id[TICKETS_CHILD_SIZE];
    int fd = memfd_create("tickets", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(tickets_read(fd, &members, child_id),
                     ERR_NOT_FOUND); /* died before it opened them */
    assert_int_equal(ftruncate(fd, 2 * JOB_MEMBER_SIZE + 10), 0);
    assert_int_equal(tickets_read(fd, &members, child_id), ERR_NOT_FOUND); /* or while it did */
    assert_int_equal(pwrite(fd, "tickets2abcdefgh", 16, 0), 16);
    assert_int_equal(tickets_read(fd, &members, child_id), ERR_CORRUPT); /* of another version */
    assert_int_equal(pwrite(fd, "tickets1abcdefgh", 16, 0), 16);
    assert_int_equal(pwrite(fd, "1", 1, JOB_MEMBER_SIZE), 1);
    assert_int_equal(pwrite(fd, "1", 1, 2 * JOB_MEMBER_SIZE), 1); /* a part of a slot is none */
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff", 4, 16), 4);   /* nor is one far away */
    assert_int_equal(tickets_read(fd, &members, child_id), 0);
    assert_int_equal(members.size, JOB_MEMBER_SIZE);
    (void)close(fd);
    assert_int_equal(tickets_read(fd, &members, child_id), ERR_IO);
    buf_deinit(&members);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_by_id_and_claim),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_copies_what_it_is_given),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_tickets_of_a_strange_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
