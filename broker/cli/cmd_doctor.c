/* doctor: is everything as it must be? Configuration, Redis and what it promises, workers,
 * upstreams, and the queue's invariants (no lease without job, no job without index, …). One line a
 * check; exit 0 only when all is well. */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"
#include "common/base/settings.h"
#include "common/queue/queue.h"
#include "common/queue/queue_fleet.h"

enum { READY_MS = 10000, INSPECT_MS = 300000, TICK_MS = 20 };

struct doctor {
    struct cli *cli;
    struct settings *settings;
    uv_loop_t loop;
    uv_timer_t timer;
    struct queue *queue;
    int64_t deadline_ms; /* of the step under way, loop time */
    bool is_inspecting, is_closing;
    unsigned problems, warnings, checks;
};

static void say(struct doctor *doctor, const char *state, const char *name, const char *detail)
{
    doctor->checks++;
    if (strcmp(state, "problem") == 0)
        doctor->problems++;
    if (strcmp(state, "warning") == 0)
        doctor->warnings++;
    if (doctor->cli->is_json) {
        struct buf line;
        buf_init(&line, 8192);
        int bad =
            buf_printf(&line, "{\"state\": \"%s\", \"check\": \"%s\", \"detail\": ", state, name);
        bad |= json_put_string(&line, detail, strlen(detail));
        if (bad == 0)
            printf("%s}\n", line.data);
        buf_deinit(&line);
        return;
    }
    const char *colour = strcmp(state, "ok") == 0        ? "\x1b[32m"
                         : strcmp(state, "problem") == 0 ? "\x1b[31m"
                                                         : "\x1b[33m";
    bool is_coloured = doctor->cli->has_colour;
    printf("%s%-8s%s %-28s %s\n", is_coloured ? colour : "", state, is_coloured ? "\x1b[0m" : "",
           name, detail);
}

static void on_queue_closed(void *arg)
{
    struct doctor *doctor = arg;

    doctor->queue = NULL;
}

static void finish(struct doctor *doctor)
{
    if (doctor->is_closing)
        return;
    doctor->is_closing = true;
    uv_timer_stop(&doctor->timer);
    uv_close((uv_handle_t *)&doctor->timer, NULL);
    queue_close(doctor->queue, on_queue_closed, doctor);
}

static void check_documents(struct doctor *doctor, const struct slice *names, unsigned count)
{
    char detail[256];

    snprintf(detail, sizeof(detail), "%u worker processes publish themselves", count);
    say(doctor, count > 0 ? "ok" : "warning", "workers",
        count > 0 ? detail : "no worker is running: jobs will wait");
    for (unsigned i = 0; i < count; i++) {
        struct jdoc *doc = NULL;
        if (jdoc_parse(names[i].bytes, names[i].size, &doc, NULL) < 0)
            continue;
        const struct jval *upstreams = jval_get(jdoc_root(doc), "upstreams");
        for (size_t u = 0; u < jval_count(upstreams); u++) {
            const struct jval *upstream = jval_at(upstreams, u);
            const char *state = terminal_text(upstream, "state");
            snprintf(detail, sizeof(detail), "%s is %s as seen by pid %.0f on %s",
                     terminal_text(upstream, "name"), state, terminal_number(jdoc_root(doc), "pid"),
                     terminal_text(jdoc_root(doc), "host"));
            say(doctor, strcmp(state, "down") == 0 ? "problem" : "ok", "upstream", detail);
        }
        jdoc_destroy(doc);
    }
}

static void on_findings(int status, const struct queue_finding *findings, unsigned count, void *arg)
{
    struct doctor *doctor = arg;
    char detail[256];

    if (status < 0)
        say(doctor, "problem", "invariants", error_text_of(status));
    for (unsigned i = 0; status == 0 && i < count; i++) {
        snprintf(detail, sizeof(detail), "%lld%s%s", (long long)findings[i].count,
                 findings[i].example[0] ? ", e.g. " : "", findings[i].example);
        say(doctor, findings[i].count > 0 ? "problem" : "ok", findings[i].name, detail);
    }
    finish(doctor);
}

static void on_workers(int status, const struct slice *names, unsigned count, void *arg)
{
    struct doctor *doctor = arg;

    if (status < 0)
        say(doctor, "problem", "workers", error_text_of(status));
    else
        check_documents(doctor, names, count);
    if (!doctor->is_closing)
        queue_inspect(doctor->queue, on_findings, doctor);
}

static void on_tick(uv_timer_t *timer)
{
    struct doctor *doctor = timer->data;
    struct queue_health health;

    if (doctor->is_inspecting) {
        if ((int64_t)uv_now(&doctor->loop) > doctor->deadline_ms) {
            say(doctor, "problem", "invariants", "the walk did not end in time");
            finish(doctor);
        }
        return;
    }
    queue_health(doctor->queue, &health);
    if (!health.is_ready && (int64_t)uv_now(&doctor->loop) < doctor->deadline_ms)
        return;
    if (!health.is_ready) {
        char detail[512];
        snprintf(detail, sizeof(detail), "%s: %s", health.reason, health.detail);
        say(doctor, "problem", "redis", detail);
        finish(doctor);
        return;
    }
    char detail[256];
    snprintf(detail, sizeof(detail), "version %s, store %s, %.1f MiB used, round trip %.2f ms",
             health.redis_version, health.store_id, (double)health.memory_used / 1048576.0,
             health.round_trip_ms);
    say(doctor, "ok", "redis", detail);
    doctor->is_inspecting = true;
    doctor->deadline_ms = (int64_t)uv_now(&doctor->loop) + INSPECT_MS;
    queue_fleet(doctor->queue, "worker", on_workers, doctor);
}

static int check_store(struct doctor *doctor)
{
    struct settings *settings = doctor->settings;
    struct queue_options options = {.loop = &doctor->loop,
                                    .url = settings->redis.url,
                                    .durability = settings->redis.durability,
                                    .shards = (unsigned)settings->redis.shards,
                                    .lease_ms = settings->worker.lease_ms,
                                    .name = "doctor"};
    struct error_text why;

    uv_loop_init(&doctor->loop);
    if (queue_create(&options, &doctor->queue, &why) < 0) {
        say(doctor, "problem", "redis", why.text);
        uv_loop_close(&doctor->loop);
        return CLI_FAILED;
    }
    uv_timer_init(&doctor->loop, &doctor->timer);
    doctor->timer.data = doctor;
    doctor->deadline_ms = (int64_t)uv_now(&doctor->loop) + READY_MS;
    uv_timer_start(&doctor->timer, on_tick, TICK_MS, TICK_MS);
    uv_run(&doctor->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&doctor->loop) == 0);
    return CLI_DONE;
}

/* The broker, when there is one at the address we were given. */
static void check_broker(struct doctor *doctor)
{
    struct client_request request = {.method = "GET", .path = "/readyz", .timeout_ms = 5000};
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char detail[ERROR_TEXT_SIZE + 256];

    if (client_call(cli_client(doctor->cli), &request, &answer, &why) < 0)
        say(doctor, "warning", "broker", why.text);
    else if (answer.status == 200) {
        snprintf(detail, sizeof(detail), "ready at %s", doctor->cli->url);
        say(doctor, "ok", "broker", detail);
    } else {
        snprintf(detail, sizeof(detail), "%s answers %d: %.*s", doctor->cli->url, answer.status,
                 answer.body.size < 200 ? (int)answer.body.size : 200,
                 answer.body.data ? answer.body.data : "");
        say(doctor, "problem", "broker", detail);
    }
    client_answer_deinit(&answer);
}

int cli_doctor(struct cli *cli, int argc, char **argv)
{
    struct doctor doctor = {.cli = cli};
    struct error_text why;

    (void)argv;
    if (argc != 1)
        return cli_fail(CLI_USAGE, "doctor takes no arguments");
    if (settings_load(cli->config_path, &doctor.settings, &why) < 0) {
        say(&doctor, "problem", "configuration", why.text);
        return CLI_USAGE;
    }
    say(&doctor, "ok", "configuration",
        doctor.settings->upstreams_count > 0 ? "valid" : "valid, names no upstream");
    check_broker(&doctor);
    (void)check_store(&doctor);
    settings_destroy(doctor.settings);
    if (!cli->is_json)
        printf("%u checks, %u problems, %u warnings\n", doctor.checks, doctor.problems,
               doctor.warnings);
    return doctor.problems > 0 ? CLI_FAILED : CLI_DONE;
}
