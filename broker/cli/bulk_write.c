/* Results: fetched a few at a time, held on disk where they are large, and written one line each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bulk.h"
#include "common/base/text.h"

enum { MEMORY_BYTES_MAX = 1 << 20, PIECE_BYTES = 64 << 10, FETCH_MS = 600000, FETCH_IDLE_S = 60 };

/* One fetched body: its start in memory, the rest in an unnamed file. */
struct body {
    struct buf memory;
    FILE *rest;
    bool has_failed; /* the disk is full, or there is no place for such files */
};

static void on_start(void *arg)
{
    struct body *body = arg;

    buf_clear(&body->memory);
    if (body->rest)
        fclose(body->rest);
    body->rest = NULL;
    body->has_failed = false;
}

static int on_bytes(const char *bytes, size_t size, void *arg)
{
    struct body *body = arg;

    if (!body->rest && buf_append(&body->memory, bytes, size) == 0)
        return 0;
    if (!body->rest)
        body->rest = tmpfile();
    if (!body->rest || fwrite(bytes, 1, size, body->rest) != size)
        body->has_failed = true;
    return body->has_failed;
}

static void body_deinit(struct body *body)
{
    on_start(body);
    buf_deinit(&body->memory);
}

/* ---- a body as JSON -----------------------------------------------------------------------------
 */

/* Line ends between tokens become spaces: one result, one line. Valid JSON has them nowhere else.
 */
static void put_json(FILE *out, const char *bytes, size_t size)
{
    size_t start = 0;

    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != '\n' && bytes[i] != '\r')
            continue;
        fwrite(bytes + start, 1, i - start, out);
        fputc(' ', out);
        start = i + 1;
    }
    fwrite(bytes + start, 1, size - start, out);
}

/* Bytes at the end that begin a UTF-8 sequence and do not end it. */
static size_t open_sequence(const char *bytes, size_t size)
{
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char byte = (unsigned char)bytes[size - back];
        if (byte < 0x80)
            return 0;
        if (byte >= 0xc0)
            return text_utf8_sequence(bytes + size - back, back) == 0 ? back : 0;
    }
    return 0;
}

/* The inside of a JSON string. */
static void put_escaped(FILE *out, const char *bytes, size_t size)
{
    struct buf text = {.size_max = size * 6 + 16};

    if (json_put_string(&text, bytes, size) == 0)
        fwrite(text.data + 1, 1, text.size - 2, out);
    buf_deinit(&text);
}

static void put_rest(FILE *out, FILE *rest, bool is_json, const char *carry, size_t carry_size)
{
    char piece[PIECE_BYTES];
    size_t kept = carry_size, got;

    memcpy(piece, carry, carry_size);
    rewind(rest);
    while ((got = fread(piece + kept, 1, sizeof(piece) - kept, rest)) > 0) {
        size_t size = kept + got;
        kept = is_json ? 0 : open_sequence(piece, size);
        if (is_json)
            put_json(out, piece, size);
        else
            put_escaped(out, piece, size - kept);
        memmove(piece, piece + size - kept, kept);
    }
    if (!is_json)
        put_escaped(out, piece, kept);
}

/* Whether a body can stand as it is. Large ones have been looked at by the worker, when they came.
 */
static bool is_json(const struct body *body, const struct client_answer *answer)
{
    struct jdoc *doc = NULL;

    if (!strstr(answer->content_type, "json") || body->memory.size == 0)
        return false;
    if (body->rest)
        return answer->status == 200;
    bool is_valid = jdoc_parse(body->memory.data, body->memory.size, &doc, NULL) == 0;
    jdoc_destroy(doc);
    return is_valid;
}

static void put_body(FILE *out, const struct body *body, const struct client_answer *answer)
{
    const char *bytes = body->memory.data ? body->memory.data : "";
    size_t size = body->memory.size;

    if (is_json(body, answer)) {
        put_json(out, bytes, size);
        if (body->rest)
            put_rest(out, body->rest, true, "", 0);
        return;
    }
    size_t kept = body->rest ? open_sequence(bytes, size) : 0;
    fputc('"', out);
    put_escaped(out, bytes, size - kept);
    if (body->rest)
        put_rest(out, body->rest, false, bytes + size - kept, kept);
    fputc('"', out);
}

/* ---- rows ---------------------------------------------------------------------------------------
 */

static void put_head(struct bulk *bulk, const struct bulk_item *item)
{
    fprintf(bulk->out, "{\"line\": %lld, ", (long long)item->line);
    if (item->custom_id)
        fprintf(bulk->out, "\"custom_id\": %s, ", item->custom_id);
    if (item->id[0])
        fprintf(bulk->out, "\"id\": \"%s\", ", item->id);
    fprintf(bulk->out, "\"status\": \"%s\", ", item->id[0] ? item->status : "refused");
}

static void end_row(struct bulk *bulk, struct bulk_item *item, bool is_good)
{
    if (item->phase == BULK_ENDED && is_good)
        bulk->stats.succeeded++;
    else if (item->phase == BULK_ENDED)
        bulk->stats.failed++;
    item->phase = BULK_WRITTEN;
    free(item->custom_id);
    free(item->error);
    item->custom_id = item->error = NULL;
}

/* Rows without a body to fetch. */
static void write_plain(struct bulk *bulk, struct bulk_item *item)
{
    const char *error = item->error ? item->error
                                    : "{\"code\": \"not_found\", \"message\": \"the job is no "
                                      "longer known to the server\"}";

    put_head(bulk, item);
    fprintf(bulk->out, "\"response\": null, \"error\": %s}\n", error);
    end_row(bulk, item, false);
}

static void write_fetched(struct bulk *bulk, struct bulk_item *item, const struct body *body,
                          const struct client_answer *answer)
{
    bool is_good = answer->status == 200 && strcmp(item->status, "succeeded") == 0;

    put_head(bulk, item);
    if (is_good)
        fputs("\"response\": {\"status_code\": 200, \"body\": ", bulk->out);
    else
        fputs("\"response\": null, \"error\": ", bulk->out);
    put_body(bulk->out, body, answer);
    fputs(is_good ? "}, \"error\": null}\n" : "}\n", bulk->out);
    end_row(bulk, item, is_good);
}

static bool needs_fetching(const struct bulk_item *item)
{
    return item->phase == BULK_ENDED && strcmp(item->status, "gone") != 0;
}

static int check_fetched(const struct client_exchange *exchange, const struct body *body)
{
    if (body->has_failed)
        return cli_fail(CLI_FAILED, "no room for a large result: %s", strerror(errno));
    if (exchange->code < 0)
        return client_fail(exchange->code, &exchange->why);
    if (exchange->answer->status == 401 || exchange->answer->status == 403)
        return cli_fail(CLI_FAILED, "the server answers %d: the API key is no longer accepted",
                        exchange->answer->status);
    return CLI_DONE;
}

/* At most CLIENT_CALLS_MAX rows, in the order given. */
static int write_some(struct bulk *bulk, struct bulk_item *const *items, unsigned count)
{
    struct client_exchange exchanges[CLIENT_CALLS_MAX] = {0};
    struct client_request requests[CLIENT_CALLS_MAX];
    struct client_answer answers[CLIENT_CALLS_MAX] = {0};
    struct body bodies[CLIENT_CALLS_MAX] = {0};
    char paths[CLIENT_CALLS_MAX][80];
    unsigned fetched = 0;
    int status = CLI_DONE;

    for (unsigned i = 0; i < count; i++) {
        if (!needs_fetching(items[i]))
            continue;
        snprintf(paths[fetched], sizeof(paths[0]), "/v1/jobs/%s/result", items[i]->id);
        buf_init(&bodies[fetched].memory, MEMORY_BYTES_MAX);
        requests[fetched] = (struct client_request){.method = "GET",
                                                    .path = paths[fetched],
                                                    .timeout_ms = FETCH_MS,
                                                    .offline_ms = BULK_OFFLINE_MS,
                                                    .idle_s = FETCH_IDLE_S,
                                                    .on_bytes = on_bytes,
                                                    .on_start = on_start,
                                                    .arg = &bodies[fetched],
                                                    .takes_all = true};
        exchanges[fetched] =
            (struct client_exchange){.request = &requests[fetched], .answer = &answers[fetched]};
        fetched++;
    }
    if (fetched > 0)
        client_call_many_patiently(cli_client(bulk->cli), exchanges, fetched, BULK_OFFLINE_MS);
    for (unsigned i = 0, at = 0; i < count && status == CLI_DONE; i++) {
        if (!needs_fetching(items[i])) {
            write_plain(bulk, items[i]);
            continue;
        }
        status = check_fetched(&exchanges[at], &bodies[at]);
        if (status == CLI_DONE)
            write_fetched(bulk, items[i], &bodies[at], &answers[at]);
        at++;
    }
    for (unsigned i = 0; i < fetched; i++) {
        body_deinit(&bodies[i]);
        client_answer_deinit(&answers[i]);
    }
    return status;
}

/* The next rows in the order of the input; 0 when the next one is not ready. */
static unsigned next_in_order(const struct bulk *bulk, struct bulk_item **out)
{
    unsigned count = 0;

    for (int64_t at = bulk->first; at < bulk->next && count < CLIENT_CALLS_MAX; at++) {
        struct bulk_item *item = bulk_item_at(bulk, at);
        if (item->phase == BULK_WRITTEN)
            continue;
        if (item->phase != BULK_ENDED && item->phase != BULK_REFUSED)
            break;
        out[count++] = item;
    }
    return count;
}

static int finish_some(struct bulk *bulk, int status)
{
    bulk_drop_written(bulk);
    progress_update(&bulk->progress,
                    bulk->stats.succeeded + bulk->stats.failed + bulk->stats.refused,
                    bulk->stats.failed + bulk->stats.refused);
    if (status == CLI_DONE && ferror(bulk->out))
        return cli_fail(CLI_FAILED, "cannot write the results: %s", strerror(errno));
    return status;
}

int bulk_write_rows(struct bulk *bulk, struct bulk_item *const *items, unsigned count)
{
    struct bulk_item *some[CLIENT_CALLS_MAX];
    int status = CLI_DONE;

    if (bulk->is_ordered) {
        unsigned ready;
        while (status == CLI_DONE && (ready = next_in_order(bulk, some)) > 0)
            status = finish_some(bulk, write_some(bulk, some, ready));
        return status;
    }
    for (unsigned at = 0; status == CLI_DONE && at < count; at += CLIENT_CALLS_MAX) {
        unsigned size = count - at < CLIENT_CALLS_MAX ? count - at : CLIENT_CALLS_MAX;
        status = finish_some(bulk, write_some(bulk, items + at, size));
    }
    return status;
}
