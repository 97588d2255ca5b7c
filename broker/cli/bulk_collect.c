/* Which jobs have ended: up to 1,000 states in one question. Jobs run roughly in the order of their
 * lines, so the oldest are asked for first, and further ones as long as many of those have ended;
 * a second look sweeps over the rest, so that what is quick overtakes what is slow. */
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bulk.h"
#include "common/base/clock.h"

enum { QUERY_IDS = 1000, ROUNDS_MAX = 8, MISSES_MAX = 2, HOLD_MIN_MS = 50, HOLD_MAX_MS = 1000 };

struct question {
    struct bulk_item *asked[QUERY_IDS]; /* by id once it is asked */
    struct bulk_item *ended[QUERY_IDS];
    unsigned asked_count, ended_count;
};

static int compare_ids(const void *a, const void *b)
{
    const struct bulk_item *const *x = a, *const *y = b;
    int order = strcmp((*x)->id, (*y)->id);

    return order != 0 ? order : (*x)->line < (*y)->line ? -1 : (*x)->line > (*y)->line;
}

/* The first of the rows with this id: several lines with one idempotency key are one job. */
static unsigned find_id(const struct question *question, const char *id)
{
    unsigned low = 0, high = question->asked_count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (strcmp(question->asked[middle]->id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void end_item(struct question *question, struct bulk_item *item, const char *status)
{
    snprintf(item->status, sizeof(item->status), "%s", status);
    item->phase = BULK_ENDED;
    question->ended[question->ended_count++] = item;
}

static void take_job(struct bulk *bulk, struct question *question, const struct jval *job)
{
    const char *id = terminal_text(job, "id");
    const struct jval *usage = jval_get(job, "usage");
    double started = terminal_number(job, "started_at");
    double run_s = started > 0 ? terminal_number(job, "finished_at") - started : 0;
    bool has_ended = terminal_has(job, "finished_at"), is_first = true;

    for (unsigned i = find_id(question, id);
         i < question->asked_count && strcmp(question->asked[i]->id, id) == 0; i++) {
        struct bulk_item *item = question->asked[i];
        item->misses = 0;
        if (!has_ended || item->phase != BULK_PENDING)
            continue;
        end_item(question, item, terminal_text(job, "status"));
        if (!is_first)
            continue;
        is_first = false;
        bulk_stats_add_run(&bulk->stats, run_s);
        bulk->stats.input_tokens += terminal_number(usage, "input_tokens");
        bulk->stats.output_tokens += terminal_number(usage, "output_tokens");
    }
}

/* Unknown ids are left out of the answer: such a job was deleted, or its record has expired. */
static void take_missing(struct question *question)
{
    for (unsigned i = 0; i < question->asked_count; i++) {
        struct bulk_item *item = question->asked[i];
        if (item->phase == BULK_PENDING && item->misses >= MISSES_MAX)
            end_item(question, item, "gone");
    }
}

static int put_question(const struct question *question, struct buf *body)
{
    int status = buf_append_text(body, "{\"ids\":[");

    for (unsigned i = 0; i < question->asked_count && status == 0; i++)
        status = buf_printf(body, "%s\"%s\"", i > 0 ? "," : "", question->asked[i]->id);
    return status == 0 ? buf_append_text(body, "]}") : status;
}

static int ask(struct bulk *bulk, struct question *question)
{
    struct client_answer answer = {0};
    struct jdoc *doc = NULL;
    struct buf body = {.size_max = 1 << 20};

    question->ended_count = 0;
    if (question->asked_count == 0)
        return CLI_DONE;
    qsort(question->asked, question->asked_count, sizeof(question->asked[0]), compare_ids);
    if (put_question(question, &body) < 0) {
        buf_deinit(&body);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    struct client_request request = {.method = "POST",
                                     .path = "/v1/jobs/query",
                                     .content_type = "application/json",
                                     .body = {body.data, body.size},
                                     .offline_ms = BULK_OFFLINE_MS};
    int status = client_json(bulk->cli, &request, BULK_OFFLINE_MS, &answer, &doc);
    const struct jval *data = doc ? jval_get(jdoc_root(doc), "data") : NULL;
    if (status == CLI_DONE && jval_type(data) != JTYPE_ARRAY)
        status = cli_fail(CLI_FAILED, "the server's answer is not what was asked for");
    if (status == CLI_DONE) {
        for (unsigned i = 0; i < question->asked_count; i++)
            question->asked[i]->misses++;
        for (size_t i = 0; i < jval_count(data); i++)
            take_job(bulk, question, jval_at(data, i));
        take_missing(question);
    }
    jdoc_destroy(doc);
    client_answer_deinit(&answer);
    buf_deinit(&body);
    return status;
}

/* Fills the question with pending rows from *at on, and moves *at behind them. What lay at *at may
 * be written and gone: a sweep was there before. */
static void gather(const struct bulk *bulk, int64_t *at, struct question *question)
{
    question->asked_count = 0;
    if (*at < bulk->first)
        *at = bulk->first;
    for (; *at < bulk->next && question->asked_count < QUERY_IDS; ++*at) {
        struct bulk_item *item = bulk_item_at(bulk, *at);
        if (item->phase == BULK_PENDING)
            question->asked[question->asked_count++] = item;
    }
}

static int ask_and_write(struct bulk *bulk, struct question *question, bool *moved)
{
    int status = ask(bulk, question);

    if (status == CLI_DONE && question->ended_count > 0) {
        *moved = true;
        bulk->progress_mono_ms = clock_mono_ms();
        status = bulk_write_rows(bulk, question->ended, question->ended_count);
    }
    return status;
}

int bulk_collect_step(struct bulk *bulk, bool *moved)
{
    struct question *question = calloc(1, sizeof(*question));
    int64_t at;
    int status = question ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");

    while (bulk->first_pending < bulk->next &&
           (bulk->first_pending < bulk->first ||
            bulk_item_at(bulk, bulk->first_pending)->phase > BULK_PENDING))
        bulk->first_pending++;
    at = bulk->first_pending;
    for (int round = 0; status == CLI_DONE && round < ROUNDS_MAX; round++) {
        gather(bulk, &at, question);
        status = ask_and_write(bulk, question, moved);
        if (question->ended_count < QUERY_IDS / 4)
            break;
    }
    if (status == CLI_DONE && at < bulk->next) {
        if (bulk->sweep < at || bulk->sweep >= bulk->next)
            bulk->sweep = at;
        gather(bulk, &bulk->sweep, question);
        status = ask_and_write(bulk, question, moved);
    }
    free(question);
    return status;
}

/* One request held open at the server, instead of asking in a circle: it ends when the oldest job
 * does. */
int bulk_collect_hold(struct bulk *bulk)
{
    int64_t hold_ms = (clock_mono_ms() - bulk->progress_mono_ms) / 8;
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char path[128];
    int64_t at = bulk->first_pending > bulk->first ? bulk->first_pending : bulk->first;

    while (at < bulk->next && bulk_item_at(bulk, at)->phase != BULK_PENDING)
        at++;
    if (at == bulk->next)
        return CLI_DONE;
    hold_ms = hold_ms < HOLD_MIN_MS ? HOLD_MIN_MS : hold_ms > HOLD_MAX_MS ? HOLD_MAX_MS : hold_ms;
    snprintf(path, sizeof(path), "/v1/jobs/%s?wait=%lldms", bulk_item_at(bulk, at)->id,
             (long long)hold_ms);
    struct client_request request = {.method = "GET", .path = path, .offline_ms = BULK_OFFLINE_MS};
    int code =
        client_call_patiently(cli_client(bulk->cli), &request, BULK_OFFLINE_MS, &answer, &why);
    /* A refusal says itself: the next question gets the same and tells. */
    if (code == 0 && answer.status >= 400)
        client_pause(cli_client(bulk->cli), hold_ms);
    client_answer_deinit(&answer);
    return code < 0 ? client_fail(code, &why) : CLI_DONE;
}
