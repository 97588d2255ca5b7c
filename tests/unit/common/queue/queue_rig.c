#include "queue_rig.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/job/job_codec.h"
#include "common/queue/queue_fleet.h"

/* ---- Redis -------------------------------------------------------------------------- */

static void launch(struct rig_redis *redis, const char *const *extra)
{
    const char *argv[64] = {
        "redis-server", "--port", "0", "--unixsocket", redis->socket, "--dir",
        redis->dir,     "--save", "",  "--loglevel",   "warning",     "--logfile",
        "redis.log"};
    int argc = 13;

    for (int i = 0; extra && extra[i]; i++)
        argv[argc++] = extra[i];
    argv[argc] = NULL;
    redis->pid = fork();
    assert_true(redis->pid >= 0);
    if (redis->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; clock_mono_ms() < until;) {
        redisContext *context = redisConnectUnix(redis->socket);
        redisReply *reply = context->err ? NULL : redisCommand(context, "PING");
        bool is_up = reply && reply->type == REDIS_REPLY_STATUS;

        if (reply)
            freeReplyObject(reply);
        redisFree(context);
        if (is_up)
            return;
        poll(NULL, 0, 5);
    }
    fail_msg("redis-server does not start");
}

void rig_redis_start(struct rig_redis *redis, const char *const *extra)
{
    const char *temp = getenv("TMPDIR");

    snprintf(redis->dir, sizeof(redis->dir), "%s/penstock-queue.XXXXXX", temp ? temp : "/tmp");
    assert_non_null(mkdtemp(redis->dir));
    snprintf(redis->socket, sizeof(redis->socket), "%s/s", redis->dir);
    snprintf(redis->url, sizeof(redis->url), "unix://%s", redis->socket);
    launch(redis, extra);
}

void rig_redis_kill(struct rig_redis *redis, int signal_number)
{
    assert_int_equal(kill(redis->pid, signal_number), 0);
    assert_int_equal(waitpid(redis->pid, NULL, 0), redis->pid);
    redis->pid = 0;
    unlink(redis->socket);
}

void rig_redis_again(struct rig_redis *redis, const char *const *extra)
{
    launch(redis, extra);
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    char name[512];

    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        if (unlink(name) != 0)
            remove_folder(name);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

void rig_redis_stop(struct rig_redis *redis)
{
    if (redis->pid > 0)
        rig_redis_kill(redis, SIGKILL);
    remove_folder(redis->dir);
}

static redisReply *ask(const struct rig_redis *redis, const char *format, va_list args)
{
    redisContext *context = redisConnectUnix(redis->socket);
    redisReply *reply;

    assert_int_equal(context->err, 0);
    if (redis->password)
        freeReplyObject(redisCommand(context, "AUTH %s", redis->password));
    reply = redisvCommand(context, format, args);
    assert_non_null(reply);
    redisFree(context);
    return reply;
}

const char *rig_ask(const struct rig_redis *redis, const char *format, ...)
{
    static char text[65536];
    va_list args;

    va_start(args, format);
    redisReply *reply = ask(redis, format, args);
    va_end(args);
    if (reply->type == REDIS_REPLY_INTEGER)
        snprintf(text, sizeof(text), "%lld", reply->integer);
    else
        snprintf(text, sizeof(text), "%s", reply->str ? reply->str : "");
    freeReplyObject(reply);
    return text;
}

long long rig_ask_number(const struct rig_redis *redis, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    redisReply *reply = ask(redis, format, args);
    va_end(args);
    long long number =
        reply->type == REDIS_REPLY_INTEGER ? reply->integer : atoll(reply->str ? reply->str : "-1");
    freeReplyObject(reply);
    return number;
}

/* ---- loop and queues ---------------------------------------------------------------- */

void rig_start(struct rig *rig, const char *const *extra)
{
    memset(rig, 0, sizeof(*rig));
    rig_redis_start(&rig->redis, extra);
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    rig->options = (struct queue_options){.loop = &rig->loop,
                                          .url = rig->redis.url,
                                          .durability = DURABILITY_MEMORY,
                                          .shards = 16,
                                          .routes_max = 1024,
                                          .lease_ms = 15000,
                                          .must_subscribe = true};
}

void rig_stop(struct rig *rig)
{
    /* Nothing may be left on the loop: the check for leaked handles. */
    uv_run(&rig->loop, UV_RUN_NOWAIT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    rig_redis_stop(&rig->redis);
}

int rig_set_up(void **state)
{
    static struct rig rig;

    rig_start(&rig, NULL);
    *state = &rig;
    return 0;
}

int rig_tear_down(void **state)
{
    rig_stop(*state);
    return 0;
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer; /* only wakes the loop */
}

static void run_until(struct rig *rig, const volatile int *flag, int64_t until)
{
    uv_timer_t timer;

    uv_timer_init(&rig->loop, &timer);
    uv_timer_start(&timer, on_timer, 10, 10);
    while (!*flag && clock_mono_ms() < until)
        uv_run(&rig->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&rig->loop, UV_RUN_NOWAIT);
}

void rig_wait(struct rig *rig, const volatile int *flag)
{
    run_until(rig, flag, clock_mono_ms() + RIG_WAIT_MS);
    assert_true(*flag);
}

void rig_run_ms(struct rig *rig, int ms)
{
    int never = 0;

    run_until(rig, &never, clock_mono_ms() + ms);
}

struct queue *rig_queue_unready(struct rig *rig, const char *name)
{
    struct queue *queue = NULL;
    struct error_text why = {""};

    rig->options.name = name;
    if (queue_create(&rig->options, &queue, &why) != 0)
        fail_msg("queue_create: %s", why.text);
    return queue;
}

void rig_wait_ready(struct rig *rig, struct queue *queue, bool is_ready)
{
    struct queue_health health;

    for (int64_t until = clock_mono_ms() + RIG_WAIT_MS; clock_mono_ms() < until;) {
        queue_health(queue, &health);
        if (health.is_ready == is_ready)
            return;
        rig_run_ms(rig, 5);
    }
    fail_msg("ready %d: %s: %s", health.is_ready, health.reason, health.detail);
}

struct queue *rig_queue(struct rig *rig, const char *name)
{
    struct queue *queue = rig_queue_unready(rig, name);

    rig_wait_ready(rig, queue, true);
    return queue;
}

static void on_flag(void *arg)
{
    *(int *)arg = 1;
}

void rig_close(struct rig *rig, struct queue *queue)
{
    int is_closed = 0;

    queue_close(queue, on_flag, &is_closed);
    rig_wait(rig, &is_closed);
}

/* ---- jobs --------------------------------------------------------------------------- */

struct job rig_job(const struct queue *queue, const char *route)
{
    struct job job = {.priority = JOB_NORMAL,
                      .endpoint = ENDPOINT_CHAT,
                      .max_attempts = 5,
                      .sequence = 1,
                      .result_ttl_s = 3600,
                      .timeout_ms = 60000,
                      .route = slice_of(route),
                      .tenant_name = slice_of("acme"),
                      .payload = slice_of("{\"model\":\"m\",\"messages\":[]}")};
    uint8_t random[15];

    digest_random(random, sizeof(random));
    job.created_at_ms = queue_now_ms(queue);
    job.expires_at_ms = job.created_at_ms + 3600 * 1000;
    job.id = job_id_make(queue_shard_for_next(queue), job.created_at_ms, random);
    job_tenant_hash(job.tenant_name, job.tenant);
    return job;
}

struct submitted {
    struct queue_submit_result result;
    int is_done;
};

static void on_submit(const struct queue_submit_result *result, void *arg)
{
    struct submitted *submitted = arg;

    submitted->result = *result;
    submitted->is_done = 1;
}

struct queue_submit_result rig_submit_full(struct rig *rig, struct queue *queue,
                                           const struct queue_submission *submission)
{
    struct submitted submitted = {.is_done = 0};

    queue_submit(queue, submission, on_submit, &submitted);
    assert_false(submitted.is_done); /* never inside the call */
    rig_wait(rig, &submitted.is_done);
    return submitted.result;
}

struct queue_submit_result rig_submit(struct rig *rig, struct queue *queue, const struct job *job)
{
    struct queue_submission submission = {.job = job, .weight = 1};

    return rig_submit_full(rig, queue, &submission);
}

struct job rig_copy(const struct job *job, char route[LIMIT_ROUTE_BYTES])
{
    struct job copy = *job;

    memcpy(route, job->route.bytes, job->route.size);
    copy.route.bytes = route;
    copy.tenant_name = slice_of("acme");
    copy.metadata = copy.webhook_url = copy.request_id = copy.retry_of = (struct slice){NULL, 0};
    for (unsigned n = 0; n < copy.attempts_count; n++) {
        struct job_attempt *attempt = &copy.attempts[n];

        attempt->upstream = attempt->error_message = (struct slice){NULL, 0};
        attempt->error_code = slice_of("copied");
    }
    copy.content_type = copy.upstream = copy.worker = (struct slice){NULL, 0};
    copy.error_code = copy.error_message = (struct slice){NULL, 0};
    return copy;
}

struct claiming {
    struct rig_claimed *claimed;
    int is_done;
};

static void on_claim(const struct queue_claim_result *result, void *arg)
{
    struct claiming *claiming = arg;
    struct rig_claimed *claimed = claiming->claimed;

    memset(claimed, 0, sizeof(*claimed));
    claimed->status = result->status;
    claimed->count = result->jobs_count;
    claimed->has_more = result->has_more;
    for (unsigned i = 0; i < result->jobs_count; i++) {
        struct job *job = &claimed->jobs[i];

        *job = rig_copy(&result->jobs[i], claimed->routes[i]);
        /* Tests send bodies that are constants or checked by size alone. */
        assert_non_null(job->payload.bytes);
        job->payload.bytes = NULL;
        assert_int_equal(job->payload.size, job->payload_size);
        assert_int_equal(job->state, JOB_RUNNING);
    }
    claimed->waiting_count = result->waiting_count;
    for (unsigned i = 0; i < result->waiting_count; i++)
        memcpy(claimed->waiting[i], result->waiting[i].route.bytes, result->waiting[i].route.size);
    claiming->is_done = 1;
}

const struct rig_claimed *rig_claim_request(struct rig *rig, struct queue *queue,
                                            const struct queue_claim_request *request)
{
    static struct rig_claimed claimed;
    struct claiming claiming = {.claimed = &claimed};

    queue_claim(queue, request, on_claim, &claiming);
    rig_wait(rig, &claiming.is_done);
    return &claimed;
}

const struct rig_claimed *rig_claim(struct rig *rig, struct queue *queue, const char *route,
                                    unsigned room, bool takes_suspect)
{
    struct queue_room rooms = {slice_of(route), room};
    struct queue_claim_request request = {.rooms = &rooms,
                                          .rooms_count = route[0] ? 1 : 0,
                                          .count_max = LIMIT_CLAIM_COUNT,
                                          .takes_suspect = takes_suspect,
                                          .wants_wake = true};

    return rig_claim_request(rig, queue, &request);
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

int rig_finish(struct rig *rig, struct queue *queue, const struct job *job, const char *result)
{
    struct job ended = *job;
    struct done done = {.is_done = 0};

    assert_int_equal(job_set_state(&ended, JOB_SUCCEEDED), 0);
    ended.finished_at_ms = queue_now_ms(queue);
    ended.http_status = 200;
    ended.content_type = slice_of("application/json");
    ended.payload = slice_of(result);
    queue_finish(queue, &ended, on_done, &done);
    rig_wait(rig, &done.is_done);
    return done.status;
}

int rig_fail(struct rig *rig, struct queue *queue, const struct job *job, const char *code)
{
    struct job ended = *job;
    struct done done = {.is_done = 0};

    assert_int_equal(job_set_state(&ended, JOB_FAILED), 0);
    ended.finished_at_ms = queue_now_ms(queue);
    ended.error_code = slice_of(code);
    ended.payload = slice_of("");
    queue_fail(queue, &ended, on_done, &done);
    rig_wait(rig, &done.is_done);
    return done.status;
}

void rig_recover(struct rig *rig, struct queue *queue, const struct job *job,
                 enum queue_blame blame)
{
    struct done done = {.is_done = 0};
    char member[JOB_MEMBER_SIZE];

    job_ticket_make(job, member);
    memcpy(member + JOB_TICKET_SIZE, job->token, JOB_TOKEN_SIZE);
    queue_recover(queue, member, 1, blame, on_done, &done);
    rig_wait(rig, &done.is_done);
    assert_int_equal(done.status, 0);
}

int rig_retry(struct rig *rig, struct queue *queue, const struct job *job, int64_t in_ms)
{
    struct done done = {.is_done = 0};
    struct job_attempt attempt = {.started_at_ms = job->started_at_ms,
                                  .finished_at_ms = queue_now_ms(queue),
                                  .http_status = 503,
                                  .upstream = slice_of("gpu0"),
                                  .error_code = slice_of("upstream_overloaded"),
                                  .error_message = slice_of("busy")};

    queue_retry(queue, job, &attempt, queue_now_ms(queue) + in_ms, on_done, &done);
    rig_wait(rig, &done.is_done);
    return done.status;
}

int rig_release(struct rig *rig, struct queue *queue, const struct job *job)
{
    struct done done = {.is_done = 0};

    queue_release(queue, job, on_done, &done);
    rig_wait(rig, &done.is_done);
    return done.status;
}

struct got {
    struct job *out;
    int status;
    int is_done;
};

/* Slices of the last job that was got. */
static char kept[8][1 << 20];

static void keep(int which, struct slice *slice)
{
    if (!slice->bytes)
        return;
    assert_true(slice->size < sizeof(kept[which]));
    memcpy(kept[which], slice->bytes, slice->size);
    slice->bytes = kept[which];
}

static void on_job(int status, const struct job *job, void *arg)
{
    struct got *got = arg;

    got->status = status;
    if (job && got->out) {
        *got->out = *job;
        keep(0, &got->out->route);
        keep(1, &got->out->payload);
        keep(2, &got->out->error_code);
        keep(3, &got->out->content_type);
        for (unsigned i = 0; i < job->attempts_count && i < 1; i++)
            keep(4, &got->out->attempts[0].error_code);
    }
    got->is_done = 1;
}

int rig_get(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out)
{
    struct got got = {.out = out};

    queue_get(queue, id, true, on_job, &got);
    rig_wait(rig, &got.is_done);
    return got.status;
}

int rig_get_small(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out)
{
    struct got got = {.out = out};

    queue_get_small(queue, id, on_job, &got);
    rig_wait(rig, &got.is_done);
    return got.status;
}

int rig_cancel(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out)
{
    struct got got = {.out = out};

    queue_cancel(queue, id, on_job, &got);
    rig_wait(rig, &got.is_done);
    return got.status;
}

enum job_state rig_state(struct rig *rig, struct queue *queue, const struct job_id *id)
{
    struct job job;

    assert_int_equal(rig_get(rig, queue, id, &job), 0);
    return job.state;
}

struct inspected {
    unsigned count;
    int is_done;
};

static void on_findings(int status, const struct queue_finding *findings, unsigned count, void *arg)
{
    struct inspected *inspected = arg;

    assert_int_equal(status, 0);
    for (unsigned i = 0; i < count; i++)
        print_message("finding %s: %lld, e.g. %s\n", findings[i].name, (long long)findings[i].count,
                      findings[i].example);
    inspected->count = count;
    inspected->is_done = 1;
}

unsigned rig_inspect(struct rig *rig, struct queue *queue)
{
    struct inspected inspected = {.is_done = 0};

    queue_inspect(queue, on_findings, &inspected);
    rig_wait(rig, &inspected.is_done);
    return inspected.count;
}
