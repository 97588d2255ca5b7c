/* What Redis may do to us: be away, die in the middle, be full, be of the wrong kind, be another
 * one. */
#include "queue_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"

static const char *const durable[] = {"--appendonly", "yes", "--appendfsync", "always", NULL};

static int set_up(void **state)
{
    static struct rig rig;

    rig_start(&rig, durable);
    *state = &rig;
    return 0;
}

static void wait_reason(struct rig *rig, struct queue *queue, const char *reason)
{
    struct queue_health health;

    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; clock_mono_ms() < until;) {
        queue_health(queue, &health);
        if (!health.is_ready && strcmp(health.reason, reason) == 0) {
            assert_true(health.detail[0]);
            return;
        }
        rig_run_ms(rig, 5);
    }
    fail_msg("expected %s, is %s (%s)", reason, health.reason, health.detail);
}

struct done {
    int status;
    int is_done;
};

static void on_done(int status, void *arg)
{
    struct done *done = arg;

    done->status = status;
    done->is_done = 1;
}

static void on_got(int status, const struct job *job, void *arg)
{
    (void)job;
    on_done(status, arg);
}

/* We stood still, not Redis: its answer lies in the socket and is not late. */
static void a_process_that_stood_still_keeps_its_link(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct job job = rig_job(queue, "m");
    struct done done = {.is_done = 0};

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    queue_get(queue, &job.id, false, on_got, &done);
    uv_run(&rig->loop, UV_RUN_NOWAIT); /* sends it */
    poll(NULL, 0, 5500);               /* the standing still: longer than a command may take */
    rig_wait(rig, &done.is_done);
    assert_int_equal(done.status, 0);
    rig_close(rig, queue);
}

static void commits_wait_for_redis(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct job job = rig_job(queue, "m"), late = rig_job(queue, "m"), now;
    struct done done = {.is_done = 0};

    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    struct job running = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    rig_redis_kill(&rig->redis, SIGKILL);
    rig_wait_ready(rig, queue, false);
    wait_reason(rig, queue, "redis_unreachable");
    assert_int_equal(rig_submit(rig, queue, &late).status, ERR_OFFLINE);
    assert_int_equal(rig_get(rig, queue, &job.id, NULL), ERR_OFFLINE);
    assert_int_equal(rig_claim(rig, queue, "m", 1, false)->status, ERR_OFFLINE);

    running.state = JOB_SUCCEEDED; /* lint: own state */
    running.payload = slice_of("{\"kept\":1}");
    queue_finish(queue, &running, on_done, &done);
    rig_run_ms(rig, 300);
    assert_false(done.is_done);
    rig_redis_again(&rig->redis, durable);
    rig_wait(rig, &done.is_done);
    assert_int_equal(done.status, 0);
    rig_wait_ready(rig, queue, true);
    assert_int_equal(rig_get(rig, queue, &job.id, &now), 0);
    assert_int_equal(now.state, JOB_SUCCEEDED);
    assert_true(slice_is(now.payload, "{\"kept\":1}"));
    assert_int_equal(rig_get(rig, queue, &late.id, NULL), ERR_NOT_FOUND);
    assert_int_equal(rig_inspect(rig, queue), 0);
    rig_close(rig, queue);
}

static void a_commit_that_breaks_hurts_no_other(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "worker");
    struct done done[2] = {{.is_done = 0}, {.is_done = 0}};
    struct job jobs[2];

    for (int i = 0; i < 2; i++) {
        struct job job = rig_job(queue, "m");
        assert_int_equal(rig_submit(rig, queue, &job).status, 0);
        jobs[i] = rig_claim(rig, queue, "m", 1, false)->jobs[0];
    }
    /* Somebody put something else in the place of a shard's leases: the function breaks on it. */
    assert_int_not_equal(job_id_shard(&jobs[0].id), job_id_shard(&jobs[1].id));
    rig_ask(&rig->redis, "SET {%u}:L x", job_id_shard(&jobs[1].id));
    for (int i = 0; i < 2; i++) {
        jobs[i].state = JOB_SUCCEEDED; /* lint: own state */
        jobs[i].payload = slice_of("{}");
        queue_finish(queue, &jobs[i], on_done, &done[i]);
    }
    for (int i = 0; i < 2; i++)
        rig_wait(rig, &done[i].is_done);
    assert_int_equal(done[0].status, 0);
    assert_int_equal(done[1].status, ERR_PROTOCOL);
    assert_int_equal(rig_ask_number(&rig->redis, "HGET {%u}:n j", job_id_shard(&jobs[0].id)), 0);
    /* Nobody renews what nobody holds. */
    assert_int_equal(queue_lease_age_ms(queue), 0);
    rig_close(rig, queue);
}

struct load {
    struct rig *rig;
    struct queue *queue;
    unsigned submitted, accepted, refused, unknown, finished, fenced;
    bool is_over;
    int claims;
};

static void on_submit(const struct queue_submit_result *result, void *arg)
{
    struct load *load = arg;

    load->accepted += result->status == 0;
    load->unknown += result->status == ERR_UNKNOWN;
    load->refused += result->status == ERR_OFFLINE || result->status == ERR_UNFIT;
    assert_true(result->status == 0 || result->status == ERR_UNKNOWN ||
                result->status == ERR_OFFLINE || result->status == ERR_UNFIT);
}

static void on_finished(int status, void *arg)
{
    struct load *load = arg;

    assert_true(status == 0 || status == ERR_FENCED);
    load->finished += status == 0;
    load->fenced += status == ERR_FENCED;
}

static void on_claim(const struct queue_claim_result *result, void *arg)
{
    struct load *load = arg;

    load->claims--;
    for (unsigned i = 0; i < result->jobs_count; i++) {
        struct job job = result->jobs[i];

        assert_int_equal(job_set_state(&job, JOB_SUCCEEDED), 0);
        job.payload = slice_of("{}");
        queue_finish(load->queue, &job, on_finished, load);
    }
}

static void step(struct load *load)
{
    struct queue_room room = {slice_of("m"), 64};
    struct queue_claim_request request = {
        .rooms = &room, .rooms_count = 1, .count_max = 64, .wants_wake = true};

    for (int i = 0; i < 5 && !load->is_over; i++) {
        struct job job = rig_job(load->queue, "m");
        struct queue_submission submission = {.job = &job, .weight = 1};

        load->submitted++;
        queue_submit(load->queue, &submission, on_submit, load);
    }
    if (load->claims == 0) {
        load->claims++;
        queue_claim(load->queue, &request, on_claim, load);
    }
    rig_run_ms(load->rig, 2);
}

/* Redis is killed again and again under load: what was accepted ends exactly once. */
static void killed_in_the_middle(void **state)
{
    struct rig *rig = *state;
    struct load load = {.rig = rig};
    long long succeeded = 0;

    rig->options.lease_ms = 1500;
    load.queue = rig_queue(rig, "all");
    queue_sweep_start(load.queue);
    for (int kill_count = 0; kill_count < 4; kill_count++) {
        unsigned before = load.accepted;
        for (int i = 0; i < 60 || (load.accepted < before + 150 && i < 3000); i++)
            step(&load);
        rig_redis_kill(&rig->redis, SIGKILL);
        for (int i = 0; i < 15; i++)
            step(&load);
        rig_redis_again(&rig->redis, durable);
        rig_wait_ready(rig, load.queue, true);
    }
    load.is_over = true;
    for (int64_t until = clock_mono_ms() + 20000; clock_mono_ms() < until;) {
        step(&load);
        if (rig_ask_number(&rig->redis, "EVAL %s 0",
                           "local n = 0 for s = 0, 15 do n = n + (redis.call('HGET', "
                           "'{'..s..'}:n', 'j') or 0) "
                           "end return n") == 0 &&
            load.accepted + load.unknown + load.refused == load.submitted)
            break;
    }
    for (int shard = 0; shard < 16; shard++) {
        long long one = rig_ask_number(&rig->redis, "HGET {%d}:c:m succeeded", shard);
        succeeded += one > 0 ? one : 0;
    }
    print_message("%u submitted: %u accepted, %u unknown, %u refused; %lld succeeded, %u answers, "
                  "%u fenced\n",
                  load.submitted, load.accepted, load.unknown, load.refused, succeeded,
                  load.finished, load.fenced);
    assert_int_equal(load.accepted + load.unknown + load.refused, load.submitted);
    assert_true(load.accepted > 500);
    assert_true(succeeded >= load.accepted);
    assert_true(succeeded <= load.accepted + load.unknown);
    assert_int_equal(rig_inspect(rig, load.queue), 0);
    rig_close(rig, load.queue);
}

static void a_full_store_drains(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;
    static char body[20001], result[90001];
    unsigned accepted = 0;
    int status = 0;

    memset(body, 'x', sizeof(body) - 1);
    memset(result, 'y', sizeof(result) - 1);
    queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m"), now;
    job.payload = slice_of(body);
    long long used = rig_ask_number(
        &rig->redis, "EVAL %s 0",
        "return tonumber(string.match(redis.call('INFO','memory'), 'used_memory:(%d+)'))");
    rig_ask(&rig->redis, "CONFIG SET maxmemory %lld", used + (4 << 20));
    for (int i = 0; i < 1000 && status == 0; i++) {
        job = rig_job(queue, "m");
        job.payload = slice_of(body);
        status = rig_submit(rig, queue, &job).status;
        accepted += status == 0;
    }
    assert_int_equal(status, ERR_FULL);
    assert_true(accepted > 50);
    assert_int_equal(rig_get(rig, queue, &job.id, NULL), ERR_NOT_FOUND);
    /* Now even below what is used: nothing goes in, everything goes on. */
    rig_ask(&rig->redis, "CONFIG SET maxmemory %lld", used);
    const struct rig_claimed *claimed = rig_claim(rig, queue, "m", 4, false);
    assert_int_equal(claimed->count, 4);
    struct job running[4];
    memcpy(running, claimed->jobs, sizeof(running));
    assert_int_equal(rig_finish(rig, queue, &running[0], "{}"), 0);
    assert_int_equal(rig_finish(rig, queue, &running[1], result), 0); /* in pieces */
    assert_int_equal(rig_retry(rig, queue, &running[2], 10), 0);
    assert_int_equal(rig_release(rig, queue, &running[3]), 0);
    assert_int_equal(rig_cancel(rig, queue, &running[3].id, NULL), 0);
    assert_int_equal(rig_get(rig, queue, &running[1].id, &now), 0);
    assert_int_equal(now.payload.size, sizeof(result) - 1);
    rig_wait_ready(rig, queue, true);
    assert_int_equal(rig_submit(rig, queue, &job).status, ERR_FULL);
    rig_ask(&rig->redis, "CONFIG SET maxmemory 0");
    for (int i = 0; i < 1000 && status != 0; i++) {
        rig_run_ms(rig, 10);
        status = rig_submit(rig, queue, &job).status;
    }
    assert_int_equal(status, 0);
    rig_close(rig, queue);
}

static void unfit_with_a_reason_and_fit_again(void **state)
{
    struct rig *rig = *state;
    struct queue *queue;

    rig->options.durability = DURABILITY_FSYNC;
    queue = rig_queue(rig, "test");
    rig_ask(&rig->redis, "CONFIG SET maxmemory-policy allkeys-lru");
    wait_reason(rig, queue, "redis_may_evict");
    struct job job = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &job).status, ERR_UNFIT);
    assert_int_equal(rig_get(rig, queue, &job.id, NULL), ERR_NOT_FOUND); /* reads go on */
    rig_ask(&rig->redis, "CONFIG SET maxmemory-policy noeviction");
    rig_wait_ready(rig, queue, true);
    rig_ask(&rig->redis, "CONFIG SET appendfsync everysec");
    wait_reason(rig, queue, "redis_not_durable");
    rig_ask(&rig->redis, "CONFIG SET appendfsync always");
    rig_wait_ready(rig, queue, true);
    rig_ask(&rig->redis, "REPLICAOF 127.0.0.1 1");
    wait_reason(rig, queue, "redis_read_only");
    rig_ask(&rig->redis, "REPLICAOF NO ONE");
    rig_wait_ready(rig, queue, true);
    rig_ask(&rig->redis, "CONFIG SET requirepass secret");
    rig->redis.password = "secret";
    rig_ask(&rig->redis, "CLIENT KILL TYPE normal SKIPME no");
    wait_reason(rig, queue, "redis_auth");
    rig_close(rig, queue);

    rig->options.durability = DURABILITY_REPLICA;
    char url[256];
    snprintf(url, sizeof(url), "unix://:secret@%s", rig->redis.socket);
    rig->options.url = url;
    queue = rig_queue_unready(rig, "test");
    wait_reason(rig, queue, "redis_not_durable");
    rig_close(rig, queue);
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void a_replica_must_have_it(void **state)
{
    struct rig *rig = *state;
    struct rig_redis replica = {.pid = 0};
    char port[16];
    const char *const following[] = {"--replicaof", "127.0.0.1", port, NULL};
    struct queue *queue;

    snprintf(port, sizeof(port), "%d", free_port());
    rig_ask(&rig->redis, "CONFIG SET port %s", port);
    rig_ask(&rig->redis, "CONFIG SET repl-diskless-sync-delay 0");
    rig_redis_start(&replica, following);
    rig->options.durability = DURABILITY_REPLICA;
    queue = rig_queue(rig, "test");
    struct job job;
    int status = ERR_UNKNOWN;
    for (int i = 0; i < 20 && status == ERR_UNKNOWN; i++) { /* online, it may still be loading */
        job = rig_job(queue, "m");
        status = rig_submit(rig, queue, &job).status;
    }
    assert_int_equal(status, 0);
    /* It is written here, but nobody else has it: that is no promise kept. */
    assert_int_equal(kill(replica.pid, SIGSTOP), 0);
    struct job lonely = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &lonely).status, ERR_UNKNOWN);
    assert_int_equal(rig_get(rig, queue, &lonely.id, NULL), 0);
    assert_int_equal(kill(replica.pid, SIGCONT), 0);
    job = rig_job(queue, "m");
    assert_int_equal(rig_submit(rig, queue, &job).status, 0);
    rig_redis_stop(&replica);
    wait_reason(rig, queue, "redis_not_durable");
    rig_close(rig, queue);
}

static void another_store_is_noticed(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test"), *other;
    struct job job = rig_job(queue, "m");

    rig_ask(&rig->redis, "FLUSHALL");
    wait_reason(rig, queue, "store_identity");
    assert_int_equal(rig_submit(rig, queue, &job).status, ERR_UNFIT);
    assert_int_equal(rig_get(rig, queue, &job.id, NULL), ERR_UNFIT);
    /* A process that starts now takes it as new. */
    other = rig_queue(rig, "other");
    wait_reason(rig, queue, "store_identity");
    rig_close(rig, other);
    rig->options.shards = 4;
    other = rig_queue_unready(rig, "other");
    wait_reason(rig, other, "shards_differ");
    rig_close(rig, other);
    for (int i = 0; i < 2; i++) {
        rig_ask(&rig->redis, "HINCRBY {0}:cfg layout %d", i == 0 ? 1 : -2);
        other = rig_queue_unready(rig, "other");
        wait_reason(rig, other, i == 0 ? "layout_too_new" : "layout_too_old");
        rig_close(rig, other);
    }
    rig_close(rig, queue);
}

static void a_stopped_redis_is_noticed(void **state)
{
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "test");
    struct job job = rig_job(queue, "m");
    int64_t began = clock_mono_ms();

    assert_int_equal(kill(rig->redis.pid, SIGSTOP), 0);
    assert_int_equal(rig_submit(rig, queue, &job).status, ERR_UNKNOWN);
    assert_true(clock_mono_ms() - began < 6500);
    rig_wait_ready(rig, queue, false);
    assert_int_equal(kill(rig->redis.pid, SIGCONT), 0);
    rig_wait_ready(rig, queue, true);
    rig_close(rig, queue);
}

/* ---- what is no Redis --------------------------------------------------------------- */

struct impostor {
    uv_pipe_t server;
    uv_pipe_t clients[64];
    int clients_count;
    const char *says;
};

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    static char bytes[65536];

    (void)handle;
    (void)size;
    *out = uv_buf_init(bytes, sizeof(bytes));
}

static void on_said(uv_write_t *write, int status)
{
    (void)status;
    free(write);
}

static void on_heard(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    const struct impostor *impostor = stream->data;

    (void)buf;
    if (size > 0 && impostor->says) {
        uv_write_t *write = calloc(1, sizeof(*write));
        uv_buf_t out =
            uv_buf_init((char *)(uintptr_t)impostor->says, (unsigned)strlen(impostor->says));
        uv_write(write, stream, &out, 1, on_said);
    } else if (size < 0 && !uv_is_closing((uv_handle_t *)stream)) {
        uv_close((uv_handle_t *)stream, NULL);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    struct impostor *impostor = server->data;
    uv_pipe_t *client = &impostor->clients[impostor->clients_count];

    assert_int_equal(status, 0);
    assert_true(++impostor->clients_count < 64);
    uv_pipe_init(server->loop, client, 0);
    client->data = impostor;
    assert_int_equal(uv_accept(server, (uv_stream_t *)client), 0);
    uv_read_start((uv_stream_t *)client, on_alloc, on_heard);
}

static void impostors_do_no_harm(void **state)
{
    static const char *const sayings[] = {NULL,
                                          "HTTP/1.1 400 Bad Request\r\n\r\n",
                                          "+OK\r\n+OK\r\n+OK\r\n$5\r\nhello\r\n",
                                          "*1000000000\r\n",
                                          "-ERR max number of clients reached\r\n",
                                          "$-1\r\n",
                                          "*-1\r\n",
                                          "+PONG\r\n"};
    struct rig *rig = *state;
    char path[200], url[256];

    for (size_t i = 0; i < sizeof(sayings) / sizeof(sayings[0]); i++) {
        struct impostor impostor = {.says = sayings[i]};
        struct queue_health health;
        struct queue *queue;

        snprintf(path, sizeof(path), "%s/i%zu", rig->redis.dir, i);
        snprintf(url, sizeof(url), "unix://%s", path);
        uv_pipe_init(&rig->loop, &impostor.server, 0);
        impostor.server.data = &impostor;
        assert_int_equal(uv_pipe_bind(&impostor.server, path), 0);
        assert_int_equal(uv_listen((uv_stream_t *)&impostor.server, 16, on_connection), 0);
        rig->options.url = url;
        queue = rig_queue_unready(rig, "test");
        rig_run_ms(rig, i == 0 ? 3400 : 300);
        queue_health(queue, &health);
        assert_false(health.is_ready);
        assert_true(impostor.clients_count > 0);
        struct job job = rig_job(queue, "m");
        assert_true(rig_submit(rig, queue, &job).status < 0);
        rig_close(rig, queue);
        uv_close((uv_handle_t *)&impostor.server, NULL);
        for (int n = 0; n < impostor.clients_count; n++)
            if (!uv_is_closing((uv_handle_t *)&impostor.clients[n]))
                uv_close((uv_handle_t *)&impostor.clients[n], NULL);
        rig_run_ms(rig, 5);
    }
}

static void nobody_there(void **state)
{
    static const char *const urls[] = {
        "unix:///nonexistent/redis.sock", "redis://127.0.0.1:1",
        /* no name server is asked for a label of 64 letters */
        "redis://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaa.invalid:6379"};
    struct rig *rig = *state;

    for (int i = 0; i < 3; i++) {
        struct queue *queue;

        rig->options.url = urls[i];
        queue = rig_queue_unready(rig, "test");
        wait_reason(rig, queue, "redis_unreachable");
        rig_run_ms(rig, 200);
        /* Closing in any state of the connection is safe. */
        rig_close(rig, queue);
    }
}

struct flood {
    int sent, answered, accepted, busy;
};

static void on_flooded(const struct queue_submit_result *result, void *arg)
{
    struct flood *flood = arg;

    flood->answered++;
    flood->accepted += result->status == 0;
    flood->busy += result->status == ERR_BUSY;
    assert_true(result->status == 0 || result->status == ERR_BUSY);
}

/* More than fits between us and a Redis that now and then stands still: refused, and no harm done.
 */
static void a_slow_store_is_not_flooded(void **state)
{
    enum { BODY = 1 << 20, ROUNDS = 60, EACH = 40 };
    struct rig *rig = *state;
    struct queue *queue = rig_queue(rig, "broker");
    struct flood flood = {.sent = 0};
    char *body = malloc(BODY);

    assert_non_null(body);
    memset(body, 'x', BODY);
    for (int round = 0; round < ROUNDS; round++) {
        kill(rig->redis.pid, SIGSTOP);
        for (int i = 0; i < EACH; i++) {
            struct job job = rig_job(queue, "m");
            struct queue_submission submission = {.job = &job, .weight = 1};

            job.payload = (struct slice){body, BODY};
            queue_submit(queue, &submission, on_flooded, &flood);
            flood.sent++;
            if (i % 8 == 7)
                rig_run_ms(rig, 1);
        }
        kill(rig->redis.pid, SIGCONT);
        rig_run_ms(rig, 10);
    }
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS;
         flood.answered < flood.sent && clock_mono_ms() < until;)
        rig_run_ms(rig, 5);
    assert_int_equal(flood.answered, flood.sent);
    assert_true(flood.busy > 0);
    assert_true(flood.accepted > 0);
    free(body);
    rig_close(rig, queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_process_that_stood_still_keeps_its_link, set_up,
                                        rig_tear_down),
        cmocka_unit_test_setup_teardown(commits_wait_for_redis, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_commit_that_breaks_hurts_no_other, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(killed_in_the_middle, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_full_store_drains, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(unfit_with_a_reason_and_fit_again, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_replica_must_have_it, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(another_store_is_noticed, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_stopped_redis_is_noticed, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(impostors_do_no_harm, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(nobody_there, set_up, rig_tear_down),
        cmocka_unit_test_setup_teardown(a_slow_store_is_not_flooded, set_up, rig_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
