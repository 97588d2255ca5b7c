/* doctor: Redis and what it promises, who publishes there, and the queue's invariants (no lease
 * without a job, no job without an index, …), on a loop of its own with an end to every step. */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "broker/cli/doctor.h"
#include "broker/cli/terminal.h"
#include "common/base/version.h"
#include "common/queue/queue.h"
#include "common/queue/queue_fleet.h"

enum { READY_MS = 5000, INSPECT_MS = 300000, TICK_MS = 20, NAME_SIZE = 64 };

struct seen_upstream {
    char name[NAME_SIZE];
    unsigned up, down, others;
};

struct look {
    struct doctor *doctor;
    uv_loop_t loop;
    uv_timer_t timer;
    struct queue *queue;
    int64_t end_ms; /* of the step under way, loop time */
    bool has_begun, is_closing;
    struct seen_upstream upstreams[SETTINGS_UPSTREAMS_MAX];
    unsigned upstreams_count;
};

/* ---- the fleet ----------------------------------------------------------------------------------
 */

static void count_upstream(struct look *look, const struct jval *upstream)
{
    const char *name = terminal_text(upstream, "name"), *state = terminal_text(upstream, "state");
    struct seen_upstream *seen = NULL;

    for (unsigned i = 0; i < look->upstreams_count && !seen; i++) {
        if (strncmp(look->upstreams[i].name, name, NAME_SIZE - 1) == 0)
            seen = &look->upstreams[i];
    }
    if (!seen && look->upstreams_count == SETTINGS_UPSTREAMS_MAX)
        return;
    if (!seen) {
        seen = &look->upstreams[look->upstreams_count++];
        snprintf(seen->name, sizeof(seen->name), "%s", name);
    }
    seen->up += strcmp(state, "up") == 0;
    seen->down += strcmp(state, "down") == 0;
    seen->others += strcmp(state, "up") != 0 && strcmp(state, "down") != 0;
}

static void tell_upstreams(struct look *look)
{
    for (unsigned i = 0; i < look->upstreams_count; i++) {
        const struct seen_upstream *seen = &look->upstreams[i];
        enum doctor_state state = seen->down == 0 ? DOCTOR_OK
                                  : seen->up > 0  ? DOCTOR_WARNING
                                                  : DOCTOR_PROBLEM;
        doctor_say(look->doctor, state, "upstream",
                   "%s: up for %u worker processes, down for %u, paused or not known yet for %u",
                   seen->name, seen->up, seen->down, seen->others);
    }
}

static void take_document(struct look *look, struct slice text, unsigned *other_versions)
{
    struct jdoc *doc = NULL;

    if (jdoc_parse(text.bytes, text.size, &doc, NULL) < 0)
        return;
    const struct jval *upstreams = jval_get(jdoc_root(doc), "upstreams");
    const char *version = terminal_text(jdoc_root(doc), "version");
    for (size_t i = 0; i < jval_count(upstreams); i++)
        count_upstream(look, jval_at(upstreams, i));
    *other_versions += version[0] != '\0' && strcmp(version, PENSTOCK_VERSION) != 0;
    jdoc_destroy(doc);
}

static void tell_fleet(struct look *look, const struct slice *documents, unsigned count)
{
    unsigned others = 0;

    for (unsigned i = 0; i < count; i++)
        take_document(look, documents[i], &others);
    if (count == 0)
        doctor_say(look->doctor, DOCTOR_WARNING, "workers", "none is running: jobs wait");
    else if (others > 0)
        doctor_say(look->doctor, DOCTOR_WARNING, "workers",
                   "%u processes, %u of them not of version %s", count, others, PENSTOCK_VERSION);
    else
        doctor_say(look->doctor, DOCTOR_OK, "workers", "%u processes", count);
    tell_upstreams(look);
}

/* ---- steps --------------------------------------------------------------------------------------
 */

static void on_queue_closed(void *arg)
{
    struct look *look = arg;

    look->queue = NULL;
}

static void finish(struct look *look)
{
    if (look->is_closing)
        return;
    look->is_closing = true;
    uv_timer_stop(&look->timer);
    uv_close((uv_handle_t *)&look->timer, NULL);
    queue_close(look->queue, on_queue_closed, look);
}

static void on_findings(int status, const struct queue_finding *findings, unsigned count, void *arg)
{
    struct look *look = arg;

    if (status < 0 && !look->is_closing)
        doctor_say(look->doctor, DOCTOR_PROBLEM, "invariants", "%s", error_text_of(status));
    bool is_sound = status == 0;
    for (unsigned i = 0; status == 0 && i < count; i++) {
        bool is_bad = findings[i].count > 0;
        doctor_say(look->doctor, is_bad ? DOCTOR_PROBLEM : DOCTOR_OK, findings[i].name, "%lld%s%s",
                   (long long)findings[i].count, is_bad ? ", such as " : "",
                   is_bad ? findings[i].example : "");
        is_sound = is_sound && !is_bad;
    }
    if (is_sound)
        doctor_say(look->doctor, DOCTOR_OK, "invariants", "all hold");
    finish(look);
}

static void on_workers(int status, const struct slice *documents, unsigned count, void *arg)
{
    struct look *look = arg;

    if (look->is_closing)
        return;
    if (status < 0)
        doctor_say(look->doctor, DOCTOR_PROBLEM, "workers", "%s", error_text_of(status));
    else
        tell_fleet(look, documents, count);
    queue_inspect(look->queue, on_findings, look);
}

static void begin(struct look *look, const struct queue_health *health)
{
    doctor_say(look->doctor, DOCTOR_OK, "redis",
               "version %s, store %s, %.1f MiB used, round trip %.2f ms", health->redis_version,
               health->store_id, (double)health->memory_used / 1048576.0, health->round_trip_ms);
    look->has_begun = true;
    look->end_ms = (int64_t)uv_now(&look->loop) + INSPECT_MS;
    queue_fleet(look->queue, "worker", on_workers, look);
}

static void on_tick(uv_timer_t *timer)
{
    struct look *look = timer->data;
    bool is_late = (int64_t)uv_now(&look->loop) > look->end_ms;
    struct queue_health health;

    queue_health(look->queue, &health);
    if (!look->has_begun && health.is_ready) {
        begin(look, &health);
        return;
    }
    if (!is_late)
        return;
    if (look->has_begun)
        doctor_say(look->doctor, DOCTOR_PROBLEM, "invariants", "the walk did not end in %d s",
                   INSPECT_MS / 1000);
    else
        doctor_say(look->doctor, DOCTOR_PROBLEM, "redis", "not fit for use: %s: %s", health.reason,
                   health.detail);
    finish(look);
}

void doctor_check_store(struct doctor *doctor)
{
    const struct settings *settings = doctor->settings;
    struct look look = {.doctor = doctor};
    struct queue_options options = {.loop = &look.loop,
                                    .url = settings->redis.url,
                                    .durability = settings->redis.durability,
                                    .shards = (unsigned)settings->redis.shards,
                                    .routes_max = settings->queue.routes_max,
                                    .lease_ms = settings->worker.lease_ms,
                                    .name = "doctor"};
    struct error_text why = {{0}};

    if (uv_loop_init(&look.loop) != 0)
        return;
    if (queue_create(&options, &look.queue, &why) < 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "redis", "%s", why.text);
        uv_loop_close(&look.loop);
        return;
    }
    uv_timer_init(&look.loop, &look.timer);
    look.timer.data = &look;
    look.end_ms = (int64_t)uv_now(&look.loop) + READY_MS;
    uv_timer_start(&look.timer, on_tick, TICK_MS, TICK_MS);
    uv_run(&look.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&look.loop) == 0);
}
