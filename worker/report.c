#include "worker/report.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/base/jdoc.h"
#include "common/base/metrics.h"
#include "common/base/text.h"
#include "common/base/version.h"

enum {
    METRICS_SIZE_MAX = 24 * 1024,
    MODELS_SIZE_MAX = 16 * 1024, /* of all upstreams; the rest is left out */
};

int64_t report_rss_bytes(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text);
    (void)close(fd);
    const char *at = size > 0 ? memchr(text, ' ', (size_t)size) : NULL;
    if (!at)
        return 0;
    at++;
    const char *end = memchr(at, ' ', (size_t)(text + size - at));
    int64_t pages;
    if (!end || text_parse_i64(at, (size_t)(end - at), 0, INT64_MAX / 65536, &pages) < 0)
        return 0;
    return pages * sysconf(_SC_PAGESIZE);
}

static int put_text(struct buf *out, const char *text)
{
    return json_put_string(out, text, strlen(text));
}

static const char *upstream_state(const struct upstream_set *set, unsigned upstream,
                                  const struct limiter_view *view)
{
    if (router_is_paused(set->router, upstream))
        return "paused";
    if (set->blocked[upstream] || !view->is_open)
        return "down";
    return router_health_word(router_health(set->router, upstream));
}

/* Why it is down or held; empty when there is nothing to say. */
static const char *upstream_reason(const struct upstream_set *set, unsigned upstream,
                                   const struct limiter_view *view)
{
    if (set->blocked[upstream])
        return set->blocked[upstream];
    if (view->hold_ms > 0)
        return "retry_after";
    return view->is_open ? "" : "breaker_open";
}

static int put_models(struct buf *out, const struct upstream_set *set, unsigned upstream,
                      size_t *budget)
{
    unsigned count = router_models_count(set->router, upstream);
    int status = buf_append_char(out, '[');

    for (unsigned i = 0; i < count && status == 0; i++) {
        const char *name = router_model(set->router, upstream, i);
        size_t size = strlen(name) + 4;
        if (size > *budget)
            break;
        *budget -= size;
        if (i > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = put_text(out, name);
    }
    return status == 0 ? buf_append_char(out, ']') : status;
}

static int put_upstream(struct buf *out, const struct report *report, unsigned upstream,
                        size_t *budget)
{
    const struct upstream_set *set = report->runner->set;
    const struct settings_upstream *settings = router_upstream(set->router, upstream);
    struct limiter_view view = limiter_view(set->limiter, upstream, report->now_mono_ms);

    int status = buf_append_text(out, upstream > 0 ? ",{\"name\":" : "{\"name\":");
    if (status == 0)
        status = put_text(out, settings->name);
    if (status == 0)
        status = buf_printf(out, ",\"kind\":\"%s\",\"models\":",
                            settings->kind == UPSTREAM_ANTHROPIC ? "anthropic" : "openai");
    if (status == 0)
        status = put_models(out, set, upstream, budget);
    if (status == 0)
        status = buf_printf(out,
                            ",\"in_flight\":%u,\"concurrency\":%u,\"tier\":%d,\"weight\":%d,"
                            "\"state\":\"%s\",\"reason\":\"%s\",\"hold_ms\":%" PRId64
                            ",\"calls\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"latency_ms\":%.3f}",
                            view.in_flight + set->carried[upstream], view.share, settings->tier,
                            settings->weight, upstream_state(set, upstream, &view),
                            upstream_reason(set, upstream, &view), view.hold_ms, view.calls,
                            view.errors, view.latency_ms);
    return status;
}

static int put_aliases(struct buf *out, const struct settings *settings)
{
    int status = buf_append_text(out, ",\"aliases\":{");

    for (unsigned i = 0; i < settings->aliases_count && status == 0; i++) {
        if (i > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = put_text(out, settings->aliases[i].from);
        if (status == 0)
            status = buf_append_char(out, ':');
        if (status == 0)
            status = put_text(out, settings->aliases[i].to);
    }
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int put_metrics(struct buf *out)
{
    struct buf text = {.size_max = METRICS_SIZE_MAX};

    int status = buf_append_text(out, ",\"metrics\":");
    if (status == 0)
        status = metrics_encode(&text);
    if (status == 0)
        status = json_put_string(out, text.data ? text.data : "", text.size);
    buf_deinit(&text);
    return status;
}

static int put_head(struct buf *out, const struct report *report)
{
    const struct runner *runner = report->runner;
    const struct runner_counts *counts = &runner->counts;

    int status = buf_append_text(out, "{\"id\":");
    if (status == 0)
        status = put_text(out, report->id);
    if (status == 0)
        status = buf_append_text(out, ",\"kind\":\"worker\",\"host\":");
    if (status == 0)
        status = put_text(out, report->host);
    if (status == 0)
        status = buf_printf(out, ",\"pid\":%d,\"child\":%u,\"version\":\"%s\",\"started_at\":",
                            report->pid, report->child, PENSTOCK_VERSION);
    if (status == 0)
        status = json_put_seconds(out, report->started_at_ms);
    if (status == 0)
        status = buf_printf(
            out,
            ",\"state\":\"%s\",\"in_flight\":%u,\"inflight_max\":%u,\"rss_bytes\":%" PRId64
            ",\"loop_lag_ms\":%.3f,\"claimed\":%" PRIu64 ",\"succeeded\":%" PRIu64
            ",\"failed\":%" PRIu64 ",\"retried\":%" PRIu64 ",\"handed_back\":%" PRIu64
            ",\"fenced\":%" PRIu64,
            runner->is_draining ? "draining" : "running", runner->table.count,
            runner->table.count_max, report->rss_bytes, report->loop_lag_ms, counts->claimed,
            counts->succeeded, counts->failed + counts->expired, counts->retried,
            counts->handed_back, counts->fenced);
    return status;
}

int report_write(const struct report *report, struct buf *out)
{
    const struct upstream_set *set = report->runner->set;
    size_t budget = MODELS_SIZE_MAX;

    int status = put_head(out, report);
    if (status == 0)
        status = buf_append_text(out, ",\"upstreams\":[");
    for (unsigned i = 0; i < set->count && status == 0; i++)
        status = put_upstream(out, report, i, &budget);
    if (status == 0)
        status = buf_append_char(out, ']');
    if (status == 0)
        status = put_aliases(out, set->settings);
    if (status == 0)
        status = put_metrics(out);
    return status == 0 ? buf_append_char(out, '}') : status;
}
