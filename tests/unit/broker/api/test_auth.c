/* Keys, their changes, and the limits of tenants, against a store that answers when told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/api/auth.h"
#include "common/base/clock.h"
#include "common/base/settings.h"
#include "common/queue/queue_fleet.h"

/* ---- the store's usage, in place of the queue's -----------------------------------------------
 */

struct question {
    queue_tenant_fn on_usage;
    void *arg;
    char tenant[JOB_TENANT_SIZE];
};

struct queue {
    struct question questions[8];
    unsigned count;
};

void queue_tenant_usage(struct queue *queue, const char tenant[JOB_TENANT_SIZE],
                        queue_tenant_fn on_usage, void *arg)
{
    assert_true(queue->count < 8);
    struct question *question = &queue->questions[queue->count++];
    question->on_usage = on_usage;
    question->arg = arg;
    memcpy(question->tenant, tenant, JOB_TENANT_SIZE);
}

static void answer_all(struct queue *queue, int status, int64_t jobs, int64_t bytes)
{
    struct queue asked = *queue;

    queue->count = 0;
    for (unsigned i = 0; i < asked.count; i++)
        asked.questions[i].on_usage(status, jobs, bytes, asked.questions[i].arg);
}

/* ---- a keys file ------------------------------------------------------------------------------
 */

struct world {
    char folder[64];
    char file[96];
    struct settings settings;
    struct queue queue;
    struct auth *auth;
    struct keys *keys;
    char key[KEYS_TEXT_SIZE + 1];
};

static void save(struct world *world)
{
    struct error_text why;

    assert_int_equal(keys_save(world->keys, world->file, &why), 0);
}

static void add_key(struct world *world, const char *tenant, struct key_limits limits, char *out)
{
    const struct key_wish wish = {.tenant = tenant, .limits = limits, .weight = 2};
    struct error_text why;

    assert_int_equal(keys_generate(world->keys, &wish, out, &why), 0);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    struct error_text why;

    assert_non_null(world);
    snprintf(world->folder, sizeof(world->folder), "/tmp/penstock-auth-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->file, sizeof(world->file), "%s/keys.yaml", world->folder);
    world->settings.auth.mode = AUTH_KEYS;
    world->settings.auth.keys_file = world->file;
    world->keys = keys_create();
    add_key(world, "acme", (struct key_limits){3, 1000, 2}, world->key);
    save(world);
    assert_int_equal(auth_create(&world->settings, &world->queue, &world->auth, &why), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    answer_all(&world->queue, ERR_UNKNOWN, 0, 0);
    auth_destroy(world->auth);
    keys_destroy(world->keys);
    unlink(world->file);
    rmdir(world->folder);
    free(world);
    return 0;
}

static struct access check(struct world *world, const char *key)
{
    struct access access = {.tenant_size = 0};

    assert_int_equal(auth_check(world->auth, slice_of(key), 1000, &access), 0);
    return access;
}

static void test_check(void **state)
{
    struct world *world = *state;
    struct access access = check(world, world->key);
    char hash[JOB_TENANT_SIZE];

    job_tenant_hash(slice_of("acme"), hash);
    assert_string_equal(access.tenant, "acme");
    assert_int_equal(access.tenant_size, 4);
    assert_memory_equal(access.tenant_hash, hash, JOB_TENANT_SIZE);
    assert_int_equal(access.role, KEY_TENANT);
    assert_int_equal(access.weight, 2);
    assert_int_equal(access.limits.jobs_max, 3);
    assert_int_equal(auth_check(world->auth, (struct slice){NULL, 0}, 0, &access), ERR_DENIED);
    assert_int_equal(auth_check(world->auth, slice_of(""), 0, &access), ERR_DENIED);
    assert_int_equal(auth_check(world->auth, slice_of("pk_x"), 0, &access), ERR_DENIED);
}

static void test_acting_for_a_tenant(void **state)
{
    struct world *world = *state;
    struct access known = check(world, world->key);
    struct job job = {.tenant_name = slice_of("acme")};
    struct access access;

    memcpy(job.tenant, known.tenant_hash, JOB_TENANT_SIZE);
    auth_act_for(world->auth, &job, &access);
    assert_string_equal(access.tenant, "acme");
    assert_memory_equal(access.tenant_hash, known.tenant_hash, JOB_TENANT_SIZE);
    assert_int_equal(access.weight, 2);
    assert_int_equal(access.limits.jobs_max, 0);
    job.tenant_name = slice_of("nobody");
    auth_act_for(world->auth, &job, &access);
    assert_string_equal(access.tenant, "nobody");
    assert_int_equal(access.weight, 1);
}

static void test_file_changes(void **state)
{
    struct world *world = *state;
    char second[KEYS_TEXT_SIZE + 1];
    struct access access;
    int64_t now = 10000;

    add_key(world, "new", (struct key_limits){0, 0, 0}, second);
    assert_int_equal(auth_check(world->auth, slice_of(second), 0, &access), ERR_DENIED);
    save(world);
    auth_tick(world->auth, now += 1000, 1);
    assert_int_equal(auth_check(world->auth, slice_of(second), 0, &access), 0);
    assert_int_equal(auth_check(world->auth, slice_of(world->key), 0, &access), 0);

    const struct key *key = keys_find(world->keys, slice_of(second));
    assert_int_equal(keys_set_disabled(world->keys, slice_of(key->id), true), 0);
    save(world);
    auth_tick(world->auth, now += 1000, 1);
    assert_int_equal(auth_check(world->auth, slice_of(second), 0, &access), ERR_DENIED);

    /* A broken file changes nothing, and one that is gone closes all doors. */
    FILE *file = fopen(world->file, "w");
    assert_non_null(file);
    assert_true(fputs("keys: [", file) >= 0);
    fclose(file);
    auth_tick(world->auth, now += 1000, 1);
    assert_int_equal(auth_check(world->auth, slice_of(world->key), 0, &access), 0);
    unlink(world->file);
    auth_tick(world->auth, now += 1000, 1);
    assert_int_equal(auth_check(world->auth, slice_of(world->key), 0, &access), ERR_DENIED);
}

static void test_mode_none(void **state)
{
    struct settings settings = {.auth = {.mode = AUTH_NONE}};
    struct queue queue = {.count = 0};
    struct auth *auth = NULL;
    struct access access;
    struct error_text why;

    (void)state;
    assert_int_equal(auth_create(&settings, &queue, &auth, &why), 0);
    assert_int_equal(auth_check(auth, (struct slice){NULL, 0}, 0, &access), 0);
    assert_string_equal(access.tenant, "default");
    assert_int_equal(access.role, KEY_ADMIN);
    assert_int_equal(auth_admit(auth, &access, 1 << 30, 0), ADMIT);
    auth_destroy(auth);
}

/* ---- jobs and bytes ---------------------------------------------------------------------------
 */

struct answer {
    unsigned count;
    int status;
};

static void on_refreshed(int status, void *arg)
{
    struct answer *answer = arg;

    answer->count++;
    answer->status = status;
}

static void refresh(struct world *world, const struct access *access, int64_t jobs, int64_t bytes)
{
    struct answer answer = {.count = 0};

    auth_refresh(world->auth, access, on_refreshed, &answer);
    assert_int_equal(answer.count, 0);
    answer_all(&world->queue, 0, jobs, bytes);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.status, 0);
}

static void test_admission(void **state)
{
    struct world *world = *state;
    struct access access = check(world, world->key);
    int64_t now = clock_mono_ms();

    assert_int_equal(auth_admit(world->auth, &access, 10, now), ASK_USAGE); /* nothing known */
    refresh(world, &access, 1, 100);
    now = clock_mono_ms();
    assert_int_equal(auth_admit(world->auth, &access, 10, now), ADMIT);
    assert_int_equal(auth_admit(world->auth, &access, 10, now), ADMIT);
    assert_int_equal(auth_admit(world->auth, &access, 10, now), REFUSE_JOBS);
    auth_give_back(world->auth, &access, 10);
    assert_int_equal(auth_admit(world->auth, &access, 891, now), REFUSE_BYTES);
    assert_int_equal(auth_admit(world->auth, &access, 890, now), ADMIT);
    /* Too old to refuse on, and at last too old for anything. */
    assert_int_equal(auth_admit(world->auth, &access, 10, now + 1000), ASK_USAGE);
    refresh(world, &access, 0, 0);
    now = clock_mono_ms();
    assert_int_equal(auth_admit(world->auth, &access, 10, now + 10000), ASK_USAGE);
    assert_int_equal(auth_admit(world->auth, &access, 10, now), ADMIT);
}

/* What was let in after a sample was asked for is not in it. */
static void test_sample_under_way(void **state)
{
    struct world *world = *state;
    struct access access = check(world, world->key);
    struct answer answer = {.count = 0};

    refresh(world, &access, 0, 0);
    int64_t now = clock_mono_ms();
    assert_int_equal(auth_admit(world->auth, &access, 1, now), ADMIT);
    auth_refresh(world->auth, &access, on_refreshed, &answer);
    auth_refresh(world->auth, &access, on_refreshed, &answer); /* shares the sample */
    assert_int_equal(world->queue.count, 1);
    assert_int_equal(auth_admit(world->auth, &access, 1, now), ADMIT);
    answer_all(&world->queue, 0, 1, 1);
    assert_int_equal(answer.count, 2);
    now = clock_mono_ms();
    assert_int_equal(auth_admit(world->auth, &access, 1, now), ADMIT);
    assert_int_equal(auth_admit(world->auth, &access, 1, now), REFUSE_JOBS);
}

static void test_store_away(void **state)
{
    struct world *world = *state;
    struct access access = check(world, world->key);
    struct answer answer = {.count = 0};

    auth_refresh(world->auth, &access, on_refreshed, &answer);
    answer_all(&world->queue, ERR_OFFLINE, 0, 0);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.status, ERR_OFFLINE);
    assert_int_equal(auth_admit(world->auth, &access, 1, clock_mono_ms()), ASK_USAGE);
}

/* Active tenants are sampled each second, others are left alone. */
static void test_refresh_of_active_tenants(void **state)
{
    struct world *world = *state;
    struct access access = check(world, world->key);

    refresh(world, &access, 0, 0);
    int64_t now = clock_mono_ms();
    assert_int_equal(auth_admit(world->auth, &access, 1, now), ADMIT);
    auth_tick(world->auth, now + 1, 1);
    assert_int_equal(world->queue.count, 1);
    auth_tick(world->auth, now + 1500, 1); /* not twice at the same time */
    assert_int_equal(world->queue.count, 1);
    answer_all(&world->queue, 0, 1, 1);
    auth_tick(world->auth, now + 60000, 1);
    assert_int_equal(world->queue.count, 0);
}

/* ---- requests per second ----------------------------------------------------------------------
 */

static void test_requests_per_second(void **state)
{
    struct world *world = *state;
    struct access access = check(world, world->key);
    int64_t now = 1000000;
    unsigned passed = 0;
    int retry_s = 0;

    for (int i = 0; i < 100; i++, now += 100) /* ten a second for ten seconds, two allowed */
        passed += auth_take_request(world->auth, &access, now, &retry_s);
    assert_in_range(passed, 20, 22);
    assert_int_equal(retry_s, 1);

    passed = 0;
    auth_tick(world->auth, now, 4); /* four brokers: half a request each */
    for (int i = 0; i < 100; i++, now += 100)
        passed += auth_take_request(world->auth, &access, now, &retry_s);
    assert_in_range(passed, 5, 7);
    assert_in_range(retry_s, 1, 3);

    access.limits.requests_per_second = 0;
    for (int i = 0; i < 1000; i++)
        assert_true(auth_take_request(world->auth, &access, now, &retry_s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_check, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_acting_for_a_tenant, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_changes, set_up, tear_down),
        cmocka_unit_test(test_mode_none),
        cmocka_unit_test_setup_teardown(test_admission, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sample_under_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_store_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refresh_of_active_tenants, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_requests_per_second, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
