/* Metrics of the whole fleet, served by any process: this one's live table, and what the others
 * last published. */
#include "broker/broker_metrics.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/jdoc.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/text.h"
#include "common/base/version.h"
#include "common/queue/queue_fleet.h"

enum {
    SCRAPES_MAX = 8,      /* at once; more get 503 */
    CONNECTIONS_MAX = 64, /* of the metrics listener */
    PUBLISH_TTL_MS = 5000,
    DOCUMENT_SIZE_MAX = 64 * 1024,
    TEXT_SIZE_MAX = 1024 * 1024,
    HOST_SIZE = 256,
    LISTENER_GRACE_MS = 500,
};

struct scrape {
    struct broker_metrics *metrics;
    struct http_request *request; /* NULL: the client left */
    struct metrics_table *table;
};

struct broker_metrics {
    struct broker_metrics_options options;
    struct http_server *listener;
    unsigned scrapes_count;
    char host[HOST_SIZE];
    int64_t started_at_ms;
    double late_ms; /* worst since the last document */
    struct buf document;
    bool is_publishing;
    unsigned stopping_count; /* of listener and document, what is still there */
    void (*on_stopped)(void *arg);
    void *on_stopped_arg;
};

/* ---- GET /metrics -------------------------------------------------------- */

static void respond_text(struct http_request *request, int status, const char *text)
{
    http_respond(request, &(struct http_reply){.status = status,
                                               .content_type = "text/plain; charset=utf-8",
                                               .body = slice_of(text)});
}

static void finish_scrape(struct scrape *scrape)
{
    struct buf text;

    buf_init(&text, TEXT_SIZE_MAX);
    scrape->metrics->scrapes_count--;
    if (scrape->request) {
        http_request_set_data(scrape->request, NULL);
        if (metrics_render(scrape->table, &text) != 0)
            respond_text(scrape->request, 500, "out of memory\n");
        else
            http_respond(
                scrape->request,
                &(struct http_reply){.status = 200,
                                     .content_type = "text/plain; version=0.0.4; charset=utf-8",
                                     .body = {text.data, text.size}});
    }
    buf_deinit(&text);
    metrics_table_destroy(scrape->table);
    free(scrape);
}

/* What one process published of itself; what cannot be read is left out. */
static void merge_document(struct scrape *scrape, struct slice document)
{
    struct jdoc *doc = NULL;
    size_t id_size = 0;
    size_t size = 0;

    if (jdoc_parse(document.bytes, document.size, &doc, NULL) != 0)
        return;
    const char *id = jval_string(jval_get(jdoc_root(doc), "id"), &id_size);
    const char *text = jval_string(jval_get(jdoc_root(doc), "metrics"), &size);
    bool is_ours = id && text_equal(id, id_size, queue_self_id(scrape->metrics->options.queue));
    if (text && !is_ours && metrics_merge(scrape->table, text, size) != 0)
        log_event(LOG_DEBUG, "metrics_unreadable", LOG_SN("id", id ? id : "", id_size));
    jdoc_destroy(doc);
}

static void on_brokers(int status, const struct slice *documents, unsigned count, void *arg)
{
    struct scrape *scrape = arg;

    for (unsigned i = 0; status == 0 && i < count; i++)
        merge_document(scrape, documents[i]);
    finish_scrape(scrape);
}

static void on_workers(int status, const struct slice *documents, unsigned count, void *arg)
{
    struct scrape *scrape = arg;

    if (status != 0) { /* Redis is away, or we are leaving: our own figures alone */
        finish_scrape(scrape);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        merge_document(scrape, documents[i]);
    queue_fleet(scrape->metrics->options.queue, "broker", on_brokers, scrape);
}

static void start_scrape(struct broker_metrics *metrics, struct http_request *request)
{
    struct scrape *scrape = NULL;
    struct buf own;

    buf_init(&own, DOCUMENT_SIZE_MAX);
    if (metrics->scrapes_count < SCRAPES_MAX)
        scrape = calloc(1, sizeof *scrape);
    if (scrape)
        scrape->table = metrics_table_create();
    if (!scrape || !scrape->table || metrics_encode(&own) != 0 ||
        metrics_merge(scrape->table, own.data, own.size) != 0) {
        respond_text(request, 503, "too many scrapes at once\n");
        metrics_table_destroy(scrape ? scrape->table : NULL);
        free(scrape);
    } else {
        metrics->scrapes_count++;
        scrape->metrics = metrics;
        scrape->request = request;
        http_request_set_data(request, scrape);
        queue_fleet(metrics->options.queue, "worker", on_workers, scrape);
    }
    buf_deinit(&own);
}

static void on_headers(struct http_request *request, void *arg)
{
    (void)request; /* bodies mean nothing here */
    (void)arg;
}

static void on_complete(struct http_request *request, void *arg)
{
    struct broker_metrics *metrics = arg;
    struct slice method = http_request_method(request);
    struct slice path = http_request_path(request);

    if (!slice_is(path, "/metrics") && !slice_is(path, "/healthz"))
        respond_text(request, 404, "there is /metrics and /healthz\n");
    else if (!slice_is(method, "GET") && !slice_is(method, "HEAD"))
        respond_text(request, 405, "only GET\n");
    else if (slice_is(path, "/metrics"))
        start_scrape(metrics, request);
    else
        respond_text(request, 200, "ok\n");
}

static void on_refused(struct http_request *request, enum http_refusal why, void *arg)
{
    (void)arg;
    respond_text(request, why == HTTP_BODY_TOO_SLOW ? 408 : 413, "no body is wanted here\n");
}

static void on_gone(struct http_request *request, bool was_answered, void *arg)
{
    struct scrape *scrape = http_request_data(request);

    (void)was_answered;
    (void)arg;
    if (scrape)
        scrape->request = NULL;
}

/* ---- the fleet document -------------------------------------------------- */

/* Second number of /proc/self/statm, in pages. */
static int64_t read_rss_bytes(void)
{
    char text[128];
    int64_t pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    const char *second = strchr(text, ' ');
    if (!second || text_parse_i64(second + 1, strcspn(second + 1, " "), 0, INT32_MAX, &pages) != 0)
        return 0;
    return pages * sysconf(_SC_PAGESIZE);
}

static int put_document(struct broker_metrics *metrics, const struct buf *table, struct buf *out)
{
    const struct broker_metrics_options *options = &metrics->options;
    const struct http_server *server = options->server;

    int status = buf_printf(
        out, "{\"id\":\"%s\",\"kind\":\"broker\",\"host\":", queue_self_id(options->queue));
    if (status == 0)
        status = json_put_string(out, metrics->host, strlen(metrics->host));
    if (status == 0)
        status = buf_printf(
            out, ",\"pid\":%ld,\"child\":%d,\"version\":\"" PENSTOCK_VERSION "\",\"started_at\":",
            (long)getpid(), options->child);
    if (status == 0)
        status = json_put_seconds(out, metrics->started_at_ms);
    if (status == 0)
        status = buf_printf(out,
                            ",\"connections\":%u,\"held\":%u,\"rss_bytes\":%lld,"
                            "\"loop_lag_ms\":%.1f,\"metrics\":",
                            server ? http_server_connections(server) : 0,
                            server ? http_server_held(server) : 0, (long long)read_rss_bytes(),
                            metrics->late_ms);
    if (status == 0)
        status = json_put_string(out, table->data, table->size);
    if (status == 0)
        status = buf_append_char(out, '}');
    return status;
}

static void on_published(int status, void *arg)
{
    struct broker_metrics *metrics = arg;

    (void)status; /* the queue says by itself when Redis is away */
    metrics->is_publishing = false;
}

void broker_metrics_publish(struct broker_metrics *metrics)
{
    struct buf table;

    if (metrics->is_publishing)
        return; /* the last one is still unanswered */
    buf_init(&table, DOCUMENT_SIZE_MAX);
    buf_clear(&metrics->document);
    if (metrics_encode(&table) == 0 && put_document(metrics, &table, &metrics->document) == 0) {
        metrics->is_publishing = true;
        queue_publish(metrics->options.queue, "broker",
                      (struct slice){metrics->document.data, metrics->document.size},
                      PUBLISH_TTL_MS, on_published, metrics);
    }
    metrics->late_ms = 0;
    buf_deinit(&table);
}

void broker_metrics_tick(struct broker_metrics *metrics, double late_ms)
{
    const struct http_server *server = metrics->options.server;

    if (late_ms > metrics->late_ms)
        metrics->late_ms = late_ms;
    metrics_observe_ms(METRIC_LOOP_LAG_SECONDS, late_ms);
    metrics_gauge_set(METRIC_HTTP_CONNECTIONS, server ? http_server_connections(server) : 0);
    metrics_gauge_set(METRIC_HTTP_HELD, server ? http_server_held(server) : 0);
}

/* ---- life ---------------------------------------------------------------- */

int broker_metrics_create(const struct broker_metrics_options *options, struct broker_metrics **out,
                          struct error_text *why)
{
    struct broker_metrics *metrics = calloc(1, sizeof *metrics);

    if (!metrics)
        return error_set(why, ERR_NOMEM, "out of memory");
    metrics->options = *options;
    metrics->started_at_ms = clock_wall_ms();
    buf_init(&metrics->document, DOCUMENT_SIZE_MAX);
    if (gethostname(metrics->host, sizeof metrics->host - 1) != 0)
        metrics->host[0] = '\0';
    if (options->listen_fd >= 0) {
        const struct http_server_options server_options = {
            .loop = options->loop,
            .listen_fd = options->listen_fd,
            .connections_max = CONNECTIONS_MAX,
            .body_bytes_budget = 0,
            .handler = {on_headers, NULL, on_complete, on_refused, on_gone, metrics}};
        int status = http_server_create(&server_options, &metrics->listener, why);
        if (status != 0) {
            broker_metrics_destroy(metrics);
            return status;
        }
    }
    *out = metrics;
    return 0;
}

static void on_part_stopped(void *arg)
{
    struct broker_metrics *metrics = arg;

    CHECK(metrics->stopping_count > 0);
    if (--metrics->stopping_count == 0)
        metrics->on_stopped(metrics->on_stopped_arg);
}

static void on_unpublished(int status, void *arg)
{
    (void)status; /* it lapses by itself */
    on_part_stopped(arg);
}

void broker_metrics_stop(struct broker_metrics *metrics, void (*on_stopped)(void *arg), void *arg)
{
    struct http_server *listener = metrics->listener;

    metrics->is_publishing = true; /* no more of them */
    metrics->listener = NULL;
    metrics->on_stopped = on_stopped;
    metrics->on_stopped_arg = arg;
    metrics->stopping_count = listener ? 2 : 1;
    queue_unpublish(metrics->options.queue, "broker", on_unpublished, metrics);
    if (listener)
        http_server_stop(listener, LISTENER_GRACE_MS, on_part_stopped, metrics);
}

void broker_metrics_forget_server(struct broker_metrics *metrics)
{
    metrics->options.server = NULL;
}

void broker_metrics_destroy(struct broker_metrics *metrics)
{
    if (!metrics)
        return;
    CHECK(metrics->scrapes_count == 0);
    buf_deinit(&metrics->document);
    free(metrics);
}
