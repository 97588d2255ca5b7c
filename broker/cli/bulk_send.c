/* Lines out of the input, into the queue. Every line carries an idempotency key of this run, so
 * what was sent may be sent again whenever an answer did not come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bulk.h"
#include "broker/cli/job_line.h"
#include "common/base/clock.h"

enum { AGAIN_MS = 1000, SEND_MS = 120000 };

/* ---- the chunk ----------------------------------------------------------------------------------
 */

static int take_line(struct bulk *bulk, struct slice line)
{
    struct bulk_chunk *chunk = &bulk->chunk;
    struct error_text why = {{0}};
    char key[128];
    struct job_line_defaults defaults = {.priority = bulk->priority, .idempotency_key = key};
    int64_t index;

    if (bulk_add_item(bulk, bulk->input.number, &index) < 0)
        return cli_fail(CLI_FAILED, "out of memory");
    struct bulk_item *item = bulk_item_at(bulk, index);
    snprintf(key, sizeof(key), "%s#%lld", bulk->run_key, (long long)item->line);
    int status = job_line_convert(line, &defaults, &chunk->body, &item->custom_id, &why);
    if (status == ERR_INVALID) {
        bulk_refuse(bulk, item, "invalid_line", why.text);
        return CLI_DONE;
    }
    if (status < 0 || buf_append_char(&chunk->body, '\n') < 0)
        return cli_fail(CLI_FAILED, "out of memory");
    chunk->items[chunk->count] = index;
    chunk->ends[chunk->count++] = chunk->body.size;
    return CLI_DONE;
}

static int take_long_line(struct bulk *bulk)
{
    char message[64];
    int64_t index;

    if (bulk_add_item(bulk, bulk->input.number, &index) < 0)
        return cli_fail(CLI_FAILED, "out of memory");
    snprintf(message, sizeof(message), "a line may have at most %d MiB", BULK_LINE_BYTES_MAX >> 20);
    bulk_refuse(bulk, bulk_item_at(bulk, index), "line_too_long", message);
    return CLI_DONE;
}

/* What is there now, up to a chunk: a slow writer at the other end of a pipe holds nothing up. */
static int read_chunk(struct bulk *bulk)
{
    struct bulk_chunk *chunk = &bulk->chunk;
    int status = CLI_DONE;

    buf_clear(&chunk->body);
    while (status == CLI_DONE && chunk->count < BULK_CHUNK_LINES &&
           chunk->body.size < BULK_CHUNK_BYTES && bulk_has_room(bulk)) {
        struct slice line;
        int kind = line_reader_next(&bulk->input, 0, &line);
        if (kind < 0)
            return cli_fail(CLI_USAGE, "cannot read the input: %s",
                            kind == ERR_IO ? strerror(errno) : error_text_of(kind));
        if (kind == LINE_END)
            bulk->has_read_all = true;
        if (kind == LINE_END || kind == LINE_NONE_YET)
            break;
        status = kind == LINE_TEXT ? take_line(bulk, line) : take_long_line(bulk);
    }
    return status;
}

/* Keeps the lines that are still to be sent. */
static void compact(struct bulk *bulk)
{
    struct bulk_chunk *chunk = &bulk->chunk;
    size_t start = 0, used = 0;
    unsigned kept = 0;

    for (unsigned i = 0; i < chunk->count; i++) {
        size_t end = chunk->ends[i];
        if (bulk_item_at(bulk, chunk->items[i])->phase == BULK_SENDING) {
            memmove(chunk->body.data + used, chunk->body.data + start, end - start);
            used += end - start;
            chunk->ends[kept] = used;
            chunk->items[kept++] = chunk->items[i];
        }
        start = end;
    }
    chunk->body.size = used;
    chunk->count = kept;
}

/* ---- answers ------------------------------------------------------------------------------------
 */

bool bulk_may_send_again(const char *code)
{
    static const char *const codes[] = {
        "rate_limit_exceeded", "jobs_quota_exceeded", "bytes_quota_exceeded", "too_many_models",
        "queue_full",          "store_unavailable",   "store_full",           "outcome_unknown",
        "overloaded",          "shutting_down"};

    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(code, codes[i]) == 0)
            return true;
    }
    return false;
}

static void take_answer(struct bulk *bulk, const struct jval *answer)
{
    const struct bulk_chunk *chunk = &bulk->chunk;
    const struct jval *error = jval_get(answer, "error");
    const char *id = terminal_text(answer, "id");
    int64_t line;

    if (jval_i64(jval_get(answer, "line"), 1, chunk->count, &line) < 0)
        return;
    struct bulk_item *item = bulk_item_at(bulk, chunk->items[line - 1]);
    if (item->phase != BULK_SENDING)
        return;
    if (jval_type(error) == JTYPE_OBJECT) {
        if (!bulk_may_send_again(terminal_text(error, "code")))
            bulk_refuse(bulk, item, terminal_text(error, "code"), terminal_text(error, "message"));
    } else if (id[0] != '\0' && strlen(id) < sizeof(item->id)) {
        snprintf(item->id, sizeof(item->id), "%s", id);
        item->phase = BULK_PENDING;
    }
}

/* The answer may have been cut anywhere: whole lines count. */
static void take_answers(struct bulk *bulk, struct slice answers)
{
    size_t at = 0;

    while (at < answers.size) {
        const char *end = memchr(answers.bytes + at, '\n', answers.size - at);
        size_t size = end ? (size_t)(end - answers.bytes) - at : answers.size - at;
        struct jdoc *doc = NULL;
        if (size > 0 && jdoc_parse(answers.bytes + at, size, &doc, NULL) == 0)
            take_answer(bulk, jdoc_root(doc));
        jdoc_destroy(doc);
        at += size + 1;
    }
}

/* Lines are left to be sent again: for how long may that go on? */
static int be_patient(struct bulk *bulk, int code, const struct client_answer *answer,
                      const struct error_text *why)
{
    int64_t now_ms = clock_mono_ms();
    int64_t quiet_ms = now_ms - bulk->progress_mono_ms;
    int64_t pause_ms = answer->retry_after_s * 1000;

    bulk->chunk.again_mono_ms = now_ms + (pause_ms > AGAIN_MS ? pause_ms : AGAIN_MS);
    if (code < 0 && quiet_ms > BULK_OFFLINE_MS)
        return client_fail(code, why);
    if (quiet_ms > BULK_STUCK_MS)
        return cli_fail(CLI_FAILED, "the server has taken nothing for %d minutes",
                        BULK_STUCK_MS / 60000);
    return CLI_DONE;
}

static int send_chunk(struct bulk *bulk, bool *moved)
{
    struct bulk_chunk *chunk = &bulk->chunk;
    unsigned before = chunk->count;
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    struct client_request request = {.method = "POST",
                                     .path = "/v1/jobs/bulk",
                                     .content_type = "application/x-ndjson",
                                     .body = {chunk->body.data, chunk->body.size},
                                     .timeout_ms = SEND_MS};
    int status = CLI_DONE;

    int code = client_call(cli_client(bulk->cli), &request, &answer, &why);
    if (code == ERR_STATE || code == ERR_INVALID || code == ERR_TOO_BIG) {
        status = client_fail(code, &why);
    } else if (answer.status == 200) {
        take_answers(bulk, (struct slice){answer.body.data, answer.body.size});
        compact(bulk);
    } else if (code == 0 && !client_is_busy(&answer)) {
        status = client_refused(&answer);
    }
    if (chunk->count < before) {
        *moved = true;
        bulk->progress_mono_ms = clock_mono_ms();
    }
    if (status == CLI_DONE && chunk->count > 0)
        status = be_patient(bulk, code, &answer, &why);
    client_answer_deinit(&answer);
    return status;
}

int bulk_send_step(struct bulk *bulk, bool *moved)
{
    int64_t had = bulk->next;
    int status = CLI_DONE;

    if (bulk->chunk.count == 0 && !bulk->has_read_all)
        status = read_chunk(bulk);
    if (bulk->next > had)
        *moved = true;
    if (status == CLI_DONE && bulk->chunk.count > 0 && clock_mono_ms() >= bulk->chunk.again_mono_ms)
        status = send_chunk(bulk, moved);
    if (bulk->chunk.count == 0)
        bulk->chunk.again_mono_ms = 0;
    return status;
}
