#include "sim_stats.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const char *const paths[ENDPOINT_COUNT] = {
    [ENDPOINT_CHAT] = "/v1/chat/completions",
    [ENDPOINT_COMPLETIONS] = "/v1/completions",
    [ENDPOINT_EMBEDDINGS] = "/v1/embeddings",
    [ENDPOINT_MESSAGES] = "/v1/messages",
    [ENDPOINT_COUNT_TOKENS] = "/v1/messages/count_tokens",
    [ENDPOINT_MODELS] = "/v1/models",
    [ENDPOINT_HEALTH] = "/health",
    [ENDPOINT_METRICS] = "/metrics",
    [ENDPOINT_STATS] = "/stats",
    [ENDPOINT_STATS_RESET] = "/stats/reset",
    [ENDPOINT_CONTROL] = "/control",
    [ENDPOINT_OTHER] = "other",
};

const char *endpoint_path(enum endpoint endpoint)
{
    SIM_CHECK(endpoint < ENDPOINT_COUNT);
    return paths[endpoint];
}

void stats_reset(struct stats *stats)
{
    struct stats fresh = {
        .in_flight = stats->in_flight,
        .in_flight_max = stats->in_flight,
        .waiting = stats->waiting,
        .connections_open = stats->connections_open,
    };

    table_reset(&stats->nonces);
    *stats = fresh;
}

static void put_count(struct text_buf *buf, const char *name, int64_t count)
{
    PUT(buf, "\"");
    put_text(buf, name);
    PUT(buf, "\":");
    put_i64(buf, count);
    PUT(buf, ",");
}

void put_stats(struct text_buf *buf, const struct stats *stats)
{
    bool is_first = true;

    PUT(buf, "{");
    put_count(buf, "requests", stats->requests);
    put_count(buf, "executions", stats->executions);
    put_count(buf, "in_flight", stats->in_flight);
    put_count(buf, "in_flight_max", stats->in_flight_max);
    put_count(buf, "waiting", stats->waiting);
    put_count(buf, "cancelled", stats->cancelled);
    put_count(buf, "dropped", stats->dropped);
    put_count(buf, "connections_open", stats->connections_open);
    put_count(buf, "connections_total", stats->connections_total);
    put_count(buf, "bytes_in", stats->bytes_in);
    put_count(buf, "bytes_out", stats->bytes_out);
    put_count(buf, "last_request_at_ms", stats->last_request_at_ms);
    put_count(buf, "first_byte_at_ms", stats->first_byte_at_ms);
    put_count(buf, "prompt_tokens", stats->prompt_tokens);
    put_count(buf, "completion_tokens", stats->completion_tokens);
    PUT(buf, "\"by_status\":{");
    for (int status = 0; status < STATUS_COUNT; status++) {
        if (stats->by_status[status] == 0)
            continue;
        put_text(buf, is_first ? "\"" : ",\"");
        put_i64(buf, status);
        PUT(buf, "\":");
        put_i64(buf, stats->by_status[status]);
        is_first = false;
    }
    PUT(buf, "},\"by_path\":{");
    for (int i = 0; i < ENDPOINT_COUNT; i++) {
        put_text(buf, i == 0 ? "\"" : ",\"");
        put_text(buf, paths[i]);
        PUT(buf, "\":");
        put_i64(buf, stats->by_path[i]);
    }
    PUT(buf, "}}");
}

void put_nonces(struct text_buf *buf, const struct stats *stats)
{
    bool is_first = true;

    PUT(buf, "{\"nonces\":{");
    for (size_t i = 0; stats->nonces.slots != NULL && i < TABLE_SLOT_COUNT; i++) {
        const struct table_entry *entry = &stats->nonces.slots[i];
        if (entry->key == NULL)
            continue;
        if (!is_first)
            PUT(buf, ",");
        put_quoted(buf, (struct slice){entry->key, entry->key_size});
        PUT(buf, ":");
        put_i64(buf, entry->count);
        is_first = false;
    }
    PUT(buf, "},\"dropped\":");
    put_i64(buf, stats->nonces.dropped);
    PUT(buf, "}");
}

static void put_metric(struct text_buf *buf, const char *name, const char *type, struct slice model,
                       int64_t value)
{
    PUT(buf, "# TYPE ");
    put_text(buf, name);
    PUT(buf, " ");
    put_text(buf, type);
    PUT(buf, "\n");
    put_text(buf, name);
    PUT(buf, "{engine=\"0\",model_name=");
    put_quoted(buf, model);
    PUT(buf, "} ");
    put_i64(buf, value);
    PUT(buf, "\n");
}

void put_metrics(struct text_buf *buf, const struct stats *stats, struct slice model)
{
    put_metric(buf, "vllm:num_requests_running", "gauge", model, stats->in_flight - stats->waiting);
    put_metric(buf, "vllm:num_requests_waiting", "gauge", model, stats->waiting);
    put_metric(buf, "vllm:prompt_tokens_total", "counter", model, stats->prompt_tokens);
    put_metric(buf, "vllm:generation_tokens_total", "counter", model, stats->completion_tokens);
}

bool ledger_open(struct ledger *ledger, const char *path)
{
    ledger->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return ledger->fd >= 0;
}

static void put_field(struct text_buf *buf, struct slice text)
{
    if (text.size == 0)
        PUT(buf, "-");
    for (size_t i = 0; i < text.size; i++) {
        unsigned char letter = (unsigned char)text.data[i];
        if (letter <= 0x20 || letter == 0x7F || letter == '%') {
            PUT(buf, "%");
            put_hex(buf, letter, 2);
        } else {
            put_char(buf, (char)letter);
        }
    }
    PUT(buf, " ");
}

void ledger_add(struct ledger *ledger, int64_t time_ms, struct slice nonce, enum endpoint endpoint,
                struct slice model, int status, enum ending ending)
{
    static const char *const endings[] = {
        [ENDING_COMPLETE] = " complete\n",
        [ENDING_CUT] = " cut\n",
        [ENDING_CANCELLED] = " cancelled\n",
        [ENDING_STOPPED] = " stopped\n",
    };
    struct text_buf *lines = &ledger->lines;

    if (ledger->fd < 0)
        return;
    put_i64(lines, time_ms);
    PUT(lines, " ");
    put_field(lines, nonce);
    put_text(lines, endpoint_path(endpoint));
    PUT(lines, " ");
    put_field(lines, model);
    put_i64(lines, status);
    put_text(lines, endings[ending]);
}

bool ledger_flush(struct ledger *ledger)
{
    size_t done = 0;

    while (done < ledger->lines.size) {
        ssize_t size = write(ledger->fd, ledger->lines.data + done, ledger->lines.size - done);
        if (size < 0 && errno != EINTR)
            return false;
        if (size > 0)
            done += (size_t)size;
    }
    ledger->lines.size = 0;
    return !ledger->lines.is_overflowed;
}
