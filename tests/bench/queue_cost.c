/* What a job costs Redis, step by step: growth of its main thread's processor time over a number of
 * jobs.
 *
 *     queue_cost URL [jobs] [body bytes] [submits in a flush] [claims in a call]
 *
 * URL names an empty Redis with nobody else on it. Prints one line a step: microseconds of Redis a
 * job, and the sum. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>
#include <uv.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/text.h"
#include "common/queue/queue.h"
#include "common/queue/queue_worker.h"

struct cost {
    uv_loop_t loop;
    struct queue *queue;
    redisContext *ask;
    unsigned jobs, flush, room;
    char *body;
    unsigned submitting, claimed, finishing;
    struct job *held; /* claimed jobs of this call, to be finished */
    unsigned held_count;
    bool is_claiming;
};

static void fail(const char *what, int status)
{
    fprintf(stderr, "queue_cost: %s: %s\n", what, error_text_of(status));
    exit(1);
}

static double info_number(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    double value = 0;

    if (at) {
        at += strlen(name) + 1;
        (void)!text_parse_double(at, strcspn(at, "\r\n"), &value);
    }
    return value;
}

/* Seconds of Redis' main thread so far. */
static double redis_seconds(struct cost *cost)
{
    redisReply *reply = redisCommand(cost->ask, "INFO cpu");
    double seconds;

    if (!reply || reply->type != REDIS_REPLY_STRING)
        fail("INFO cpu", ERR_PROTOCOL);
    seconds = info_number(reply->str, "used_cpu_user_main_thread") +
              info_number(reply->str, "used_cpu_sys_main_thread");
    freeReplyObject(reply);
    return seconds;
}

static void on_submit(const struct queue_submit_result *result, void *arg)
{
    struct cost *cost = arg;

    if (result->status < 0)
        fail("submit", result->status);
    cost->submitting--;
}

static void submit_one(struct cost *cost)
{
    struct job job = {.priority = JOB_NORMAL,
                      .max_attempts = 5,
                      .sequence = 1,
                      .result_ttl_s = 86400,
                      .timeout_ms = 600000,
                      .route = slice_of("llama-3.1-8b"),
                      .tenant_name = slice_of("bench"),
                      .payload = slice_of(cost->body)};
    struct queue_submission submission = {.job = &job, .weight = 1};
    uint8_t random[15];

    digest_random(random, sizeof(random));
    job.created_at_ms = queue_now_ms(cost->queue);
    job.expires_at_ms = job.created_at_ms + LIMIT_EXPIRES_DEFAULT_MS;
    job.id = job_id_make(queue_shard_for_next(cost->queue), job.created_at_ms, random);
    job_tenant_hash(job.tenant_name, job.tenant);
    cost->submitting++;
    queue_submit(cost->queue, &submission, on_submit, cost);
}

static void submit_all(struct cost *cost)
{
    for (unsigned done = 0; done < cost->jobs; done += cost->flush) {
        for (unsigned i = 0; i < cost->flush; i++)
            submit_one(cost);
        while (cost->submitting > 0)
            uv_run(&cost->loop, UV_RUN_ONCE);
    }
}

static void on_claim(const struct queue_claim_result *result, void *arg)
{
    struct cost *cost = arg;

    if (result->status < 0)
        fail("claim", result->status);
    cost->is_claiming = false;
    cost->claimed += result->jobs_count;
    for (unsigned i = 0; i < result->jobs_count; i++) {
        struct job *job = &cost->held[cost->held_count++];

        *job = result->jobs[i];
        job->route = slice_of("llama-3.1-8b");
        job->tenant_name = slice_of("bench");
        job->payload = slice_of(cost->body);
        if (job_set_state(job, JOB_SUCCEEDED) < 0)
            fail("state", ERR_STATE);
    }
}

static void claim_all(struct cost *cost)
{
    struct queue_room room = {slice_of("llama-3.1-8b"), cost->room};
    struct queue_claim_request request = {
        .rooms = &room, .rooms_count = 1, .count_max = cost->room};

    while (cost->claimed < cost->jobs) {
        cost->is_claiming = true;
        queue_claim(cost->queue, &request, on_claim, cost);
        while (cost->is_claiming)
            uv_run(&cost->loop, UV_RUN_ONCE);
    }
}

static void on_finished(int status, void *arg)
{
    struct cost *cost = arg;

    if (status < 0)
        fail("finish", status);
    cost->finishing--;
}

static void finish_all(struct cost *cost)
{
    for (unsigned at = 0; at < cost->held_count; at += cost->room) {
        for (unsigned i = at; i < at + cost->room && i < cost->held_count; i++) {
            cost->finishing++;
            queue_finish(cost->queue, &cost->held[i], on_finished, cost);
        }
        while (cost->finishing > 0)
            uv_run(&cost->loop, UV_RUN_ONCE);
    }
}

static double step(struct cost *cost, const char *name, void (*run)(struct cost *))
{
    double before = redis_seconds(cost);
    int64_t began = clock_mono_ms();
    double us;

    run(cost);
    us = (redis_seconds(cost) - before) * 1e6 / cost->jobs;
    printf("%-8s %6.2f us of Redis a job, %8.0f jobs/s\n", name, us,
           cost->jobs * 1000.0 / (double)(clock_mono_ms() - began + 1));
    return us;
}

static unsigned argument(int argc, char **argv, int at, unsigned otherwise)
{
    int64_t value = otherwise;

    if (argc > at && text_parse_i64(argv[at], strlen(argv[at]), 1, 10000000, &value) < 0)
        fail(argv[at], ERR_INVALID);
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    static struct cost cost;
    struct queue_options options = {.loop = &cost.loop,
                                    .shards = 16,
                                    .routes_max = 1024,
                                    .lease_ms = 600000,
                                    .name = "queue_cost"};
    struct queue_health health = {.is_ready = false};
    struct error_text why;
    double sum;

    if (argc < 2 || !text_starts_with(argv[1], "unix://"))
        fail("queue_cost unix:///path [jobs] [body bytes] [flush] [room]", ERR_INVALID);
    cost.jobs = argument(argc, argv, 2, 100000);
    unsigned body_size = argument(argc, argv, 3, 1024);
    cost.flush = argument(argc, argv, 4, 64);
    cost.room = argument(argc, argv, 5, 32);
    cost.body = calloc(1, (size_t)body_size + 1);
    cost.held = calloc((size_t)cost.jobs + cost.flush, sizeof(*cost.held));
    memset(cost.body, 'x', body_size);
    uv_loop_init(&cost.loop);
    options.url = argv[1];
    cost.ask = redisConnectUnix(argv[1] + strlen("unix://"));
    if (cost.ask->err || queue_create(&options, &cost.queue, &why) < 0)
        fail(argv[1], ERR_OFFLINE);
    while (!health.is_ready) {
        uv_run(&cost.loop, UV_RUN_ONCE);
        queue_health(cost.queue, &health);
    }
    sum = step(&cost, "submit", submit_all);
    sum += step(&cost, "claim", claim_all);
    sum += step(&cost, "finish", finish_all);
    printf("%-8s %6.2f us\n", "sum", sum);
    queue_close(cost.queue, NULL, NULL);
    uv_run(&cost.loop, UV_RUN_DEFAULT);
    redisFree(cost.ask);
    free(cost.held);
    free(cost.body);
    return 0;
}
