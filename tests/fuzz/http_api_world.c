#include "http_api_world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/api/api.h"
#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/queue/queue_worker.h"

enum {
    WORLD_INPUTS_MAX = 1000, /* then it is made anew */
    WAIT_MS = 60 * 1000,     /* for what takes milliseconds: sanitizers on a busy machine */
    TURN_MS = 5,
    TEXT_SIZE = 1024,
};

static const char settings_format[] =
    "listen: 127.0.0.1:7368\n"
    "data_dir: %s\n"
    "redis: {url: \"unix://%s\", durability: memory, shards: 2}\n"
    "queue: {routes_max: 64}\n"
    "broker: {body_bytes_max: 65536}\n"
    "auth: {mode: none}\n"
    "upstreams: [{name: gpu0, kind: openai, base_url: \"http://127.0.0.1:1/v1\","
    " models: [m, \"n-*\"]}]\n"
    "aliases: {alias: m}\n";

/* ---- Redis ----------------------------------------------------------------------------------- */

static void start_redis(struct world *world)
{
    const char *temp = getenv("TMPDIR");

    (void)snprintf(world->dir, sizeof(world->dir), "%s/penstock-fuzz.XXXXXX", temp ? temp : "/tmp");
    CHECK(mkdtemp(world->dir) != NULL);
    (void)snprintf(world->socket, sizeof(world->socket), "%s/s", world->dir);
    const char *const argv[] = {"redis-server",
                                "--port",
                                "0",
                                "--unixsocket",
                                world->socket,
                                "--dir",
                                world->dir,
                                "--save",
                                "",
                                "--appendonly",
                                "no",
                                "--loglevel",
                                "warning",
                                "--logfile",
                                "redis.log",
                                "--maxmemory",
                                "256mb",
                                "--hz",
                                "1",
                                "--maxmemory-policy",
                                "noeviction",
                                NULL};
    world->redis = fork();
    CHECK(world->redis >= 0);
    if (world->redis == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a target that crashes leaves nothing behind */
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

static void stop_redis(struct world *world)
{
    char path[192];

    CHECK(kill(world->redis, SIGKILL) == 0);
    CHECK(waitpid(world->redis, NULL, 0) == world->redis);
    (void)unlink(world->socket);
    (void)snprintf(path, sizeof(path), "%s/redis.log", world->dir);
    (void)unlink(path);
    (void)rmdir(world->dir);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
}

static void on_true(void *arg)
{
    *(bool *)arg = true;
}

static void wait_ready(struct world *world)
{
    struct queue_health health = {.is_ready = false};

    for (int64_t until = clock_mono_ms() + WAIT_MS; !health.is_ready && clock_mono_ms() < until;) {
        world_turn(world);
        queue_health(world->queue, &health);
    }
    CHECK(health.is_ready);
}

static void start(struct world *world)
{
    struct error_text why = {""};
    char text[TEXT_SIZE];

    memset(world, 0, sizeof(*world));
    log_set_level(LOG_ERROR);
    start_redis(world);
    int size = snprintf(text, sizeof(text), settings_format, world->dir, world->socket);
    CHECK(size > 0 && size < TEXT_SIZE);
    if (settings_parse("fuzz.yaml", text, (size_t)size, &world->settings, &why) != 0)
        (void)fprintf(stderr, "%s\n", why.text);
    CHECK(world->settings != NULL);
    CHECK(uv_loop_init(&world->loop) == 0);
    CHECK(uv_timer_init(&world->loop, &world->timer) == 0);
    CHECK(uv_timer_start(&world->timer, on_timer, TURN_MS, TURN_MS) == 0);

    const struct queue_options queue = {.loop = &world->loop,
                                        .url = world->settings->redis.url,
                                        .durability = DURABILITY_MEMORY,
                                        .shards = 2,
                                        .routes_max = 64,
                                        .lease_ms = 15000,
                                        .name = "broker",
                                        .must_subscribe = true};
    CHECK(queue_create(&queue, &world->queue, &why) == 0);
    const struct api_options api = {
        .settings = world->settings, .queue = world->queue, .version = "0"};
    CHECK(api_create(&api, &world->api, &why) == 0);
    int fd = http_listen("127.0.0.1:0", &why);
    CHECK(fd >= 0);
    const struct http_server_options server = {.loop = &world->loop,
                                               .listen_fd = fd,
                                               .connections_max = 10,
                                               .body_bytes_budget = 8 << 20,
                                               .handler = *api_handler(world->api)};
    CHECK(http_server_create(&server, &world->server, &why) == 0);
    wait_ready(world);
}

static void wait_for(struct world *world, const bool *flag)
{
    for (int64_t until = clock_mono_ms() + WAIT_MS; !*flag && clock_mono_ms() < until;)
        (void)uv_run(&world->loop, UV_RUN_ONCE);
    CHECK(*flag);
}

static void stop(struct world *world)
{
    bool is_stopped = false, is_closed = false;
    int fd = world->server->options.listen_fd;

    api_shutdown(world->api);
    http_server_stop(world->server, 0, on_true, &is_stopped);
    wait_for(world, &is_stopped);
    queue_close(world->queue, on_true, &is_closed);
    wait_for(world, &is_closed);
    api_destroy(world->api);
    uv_close((uv_handle_t *)&world->timer, NULL);
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&world->loop) == 0); /* nothing was forgotten */
    (void)close(fd);
    settings_destroy(world->settings);
    stop_redis(world);
}

void world_begin(struct world *world)
{
    if (world->api && world->inputs >= WORLD_INPUTS_MAX) {
        stop(world);
        world->api = NULL;
    }
    if (!world->api)
        start(world);
    world->inputs++;
}

void world_turn(struct world *world)
{
    (void)uv_run(&world->loop, UV_RUN_ONCE);
    if (world->api)
        api_tick(world->api, clock_mono_ms() + world->jump_ms);
}

/* ---- the worker ------------------------------------------------------------------------------ */

static void on_committed(int status, void *arg)
{
    struct world *world = arg;

    (void)status;
    world->commits--;
}

static void end(struct world *world, const struct job *claimed)
{
    struct job job = *claimed;
    int64_t now_ms = queue_now_ms(world->queue);

    world->commits++;
    if (world->deed == DEED_RELEASE) {
        queue_release(world->queue, &job, on_committed, world);
        return;
    }
    if (world->deed == DEED_RETRY && job.attempt + 1 < job.max_attempts) {
        const struct job_attempt attempt = {.started_at_ms = now_ms,
                                            .finished_at_ms = now_ms,
                                            .http_status = 503,
                                            .upstream = slice_of("gpu0"),
                                            .error_code = slice_of("upstream_overloaded"),
                                            .error_message = world->result};
        queue_retry(world->queue, &job, &attempt, now_ms + 1, on_committed, world);
        return;
    }
    bool is_good = world->deed == DEED_FINISH;
    CHECK(job_set_state(&job, is_good ? JOB_SUCCEEDED : JOB_FAILED) == 0);
    job.finished_at_ms = now_ms;
    job.http_status = is_good ? 200 : world->deed == DEED_REJECT ? 400 : 0;
    job.content_type = slice_of("application/json");
    job.upstream = slice_of("gpu0");
    job.payload = world->result;
    if (is_good) {
        queue_finish(world->queue, &job, on_committed, world);
    } else {
        job.error_code = slice_of(world->deed == DEED_REJECT ? "upstream_rejected" : "upstream_x");
        job.error_message = slice_of("as told");
        queue_fail(world->queue, &job, on_committed, world);
    }
}

static void on_claimed(const struct queue_claim_result *result, void *arg)
{
    struct world *world = arg;

    world->is_claiming = false;
    for (unsigned i = 0; result->status == 0 && i < result->jobs_count; i++)
        end(world, &result->jobs[i]);
}

void world_work(struct world *world)
{
    const struct queue_room rooms[] = {{slice_of("m"), 16}, {slice_of("n-1"), 16}};
    const struct queue_claim_request request = {
        .rooms = rooms, .rooms_count = 2, .count_max = 16, .takes_suspect = true};

    if (world->is_claiming)
        return;
    world->is_claiming = true;
    queue_claim(world->queue, &request, on_claimed, world);
}

void world_note_id(struct world *world, const char *id, size_t size)
{
    if (size == 0 || size >= WORLD_ID_SIZE)
        return;
    char *to = world->ids[world->ids_count++ % WORLD_IDS_MAX];
    memcpy(to, id, size);
    to[size] = '\0';
}
