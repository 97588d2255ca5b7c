/* Waits for the jobs of a bulk run: up to 1,000 states in one poll, results written as they come,
 * or in input order. Nothing is held in memory but a small row a job: with --ordered a result is
 * fetched when its turn has come. */
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bulk.h"
#include "common/base/clock.h"

enum { QUERY_IDS = 1000 };

void bulk_deinit(struct bulk *bulk)
{
    for (size_t i = 0; i < bulk->items_count; i++) {
        free(bulk->items[i].custom_id);
        free(bulk->items[i].error);
    }
    free(bulk->items);
}

int bulk_add_item(struct bulk *bulk, struct bulk_item **out)
{
    if (bulk->items_count == bulk->items_capacity) {
        size_t capacity = bulk->items_capacity ? bulk->items_capacity * 2 : 1024;
        struct bulk_item *items = calloc(capacity, sizeof(*items));
        if (!items)
            return ERR_NOMEM;
        if (bulk->items_count > 0)
            memcpy(items, bulk->items, bulk->items_count * sizeof(*items));
        free(bulk->items);
        bulk->items = items;
        bulk->items_capacity = capacity;
    }
    *out = &bulk->items[bulk->items_count++];
    memset(*out, 0, sizeof(**out));
    (*out)->state = BULK_PENDING;
    return 0;
}

/* Line ends between tokens become spaces: one result, one line. Bytes of valid JSON hold them
 * nowhere else. */
static void write_json(FILE *out, const char *bytes, size_t size)
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

static void write_body(FILE *out, const struct client_answer *answer)
{
    struct buf text;

    if (strstr(answer->content_type, "json")) {
        write_json(out, answer->body.data ? answer->body.data : "null",
                   answer->body.data ? answer->body.size : 4);
        return;
    }
    buf_init(&text, answer->body.size * 6 + 16);
    if (json_put_string(&text, answer->body.data ? answer->body.data : "", answer->body.size) == 0)
        fwrite(text.data, 1, text.size, out);
    else
        fputs("null", out);
    buf_deinit(&text);
}

static void write_head(struct bulk *bulk, const struct bulk_item *item)
{
    fprintf(bulk->out, "{\"line\": %zu, ", (size_t)(item - bulk->items) + 1);
    if (item->custom_id) {
        fputs("\"custom_id\": ", bulk->out);
        write_json(bulk->out, item->custom_id, strlen(item->custom_id));
        fputs(", ", bulk->out);
    }
    if (item->id[0])
        fprintf(bulk->out, "\"id\": \"%s\", ", item->id);
    fprintf(bulk->out, "\"status\": \"%s\", ", item->id[0] ? item->status : "refused");
}

/* Fetches and writes the result of one ended job. */
static int write_result(struct bulk *bulk, struct bulk_item *item)
{
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char path[128];
    int status = 0;

    item->state = BULK_WRITTEN;
    if (!item->id[0]) {
        write_head(bulk, item);
        fprintf(bulk->out, "\"response\": null, \"error\": %s}\n",
                item->error ? item->error : "null");
        return CLI_DONE;
    }
    snprintf(path, sizeof(path), "/v1/jobs/%s/result", item->id);
    struct client_request request = {.method = "GET", .path = path};
    for (int tries = 0; tries < 5; tries++) {
        status = client_call_patiently(cli_client(bulk->cli), &request, 60000, &answer, &why);
        if (status != ERR_UNKNOWN)
            break;
    }
    if (status < 0) {
        client_answer_deinit(&answer);
        return cli_fail(CLI_UNREACHABLE, "%s", why.text);
    }
    write_head(bulk, item);
    if (strcmp(item->status, "succeeded") == 0) {
        fprintf(bulk->out, "\"response\": {\"status_code\": %d, \"body\": ", answer.status);
        write_body(bulk->out, &answer);
        fputs("}, \"error\": null}\n", bulk->out);
    } else {
        fputs("\"response\": null, \"error\": ", bulk->out);
        write_body(bulk->out, &answer);
        fputs("}\n", bulk->out);
    }
    client_answer_deinit(&answer);
    return CLI_DONE;
}

static void take_end(struct bulk *bulk, struct bulk_item *item, const struct jval *job)
{
    const struct jval *usage = jval_get(job, "usage");
    double created = terminal_number(job, "created_at");
    double started = terminal_number(job, "started_at");
    double finished = terminal_number(job, "finished_at");

    snprintf(item->status, sizeof(item->status), "%s", terminal_text(job, "status"));
    item->state = BULK_ENDED;
    item->whole_s = (float)(finished - created);
    item->run_s = started > 0 ? (float)(finished - started) : 0;
    if (strcmp(item->status, "succeeded") == 0)
        bulk->succeeded++;
    else
        bulk->failed++;
    bulk->input_tokens += terminal_number(usage, "input_tokens");
    bulk->output_tokens += terminal_number(usage, "output_tokens");
    if (bulk->started_s <= 0 || created < bulk->started_s)
        bulk->started_s = created;
    if (finished > bulk->ended_s)
        bulk->ended_s = finished;
}

static struct bulk_item *find_item(struct bulk *bulk, const size_t *asked, unsigned count,
                                   unsigned *at, const char *id)
{
    /* Answers come in the order of the question, with unknown ids left out. */
    for (; *at < count; ++*at) {
        if (strcmp(bulk->items[asked[*at]].id, id) == 0)
            return &bulk->items[asked[*at]];
    }
    return NULL;
}

/* Asks for the states of the given items. Returns how many of them have ended, or a cli_exit code
 * negated. */
static int ask(struct bulk *bulk, const size_t *asked, unsigned count)
{
    struct client_answer answer = {0};
    struct jdoc *doc = NULL;
    struct buf body;
    unsigned at = 0;
    int ended = 0, status = CLI_DONE;

    buf_init(&body, 1 << 20);
    int bad = buf_append_text(&body, "{\"ids\":[");
    for (unsigned i = 0; i < count; i++)
        bad |= buf_printf(&body, "%s\"%s\"", i ? "," : "", bulk->items[asked[i]].id);
    bad |= buf_append_text(&body, "]}");
    CHECK(bad == 0);
    struct client_request request = {.method = "POST",
                                     .path = "/v1/jobs/query",
                                     .content_type = "application/json",
                                     .body = {body.data, body.size}};
    struct error_text why = {{0}};
    int code = client_call_patiently(cli_client(bulk->cli), &request, 60000, &answer, &why);
    buf_deinit(&body);
    if (code == ERR_UNKNOWN)
        code = 0, answer.status = 200, buf_clear(&answer.body); /* cut: ask again */
    else if (code < 0)
        status = cli_fail(CLI_UNREACHABLE, "%s", why.text);
    if (status == CLI_DONE && answer.status != 200) {
        client_explain(&answer, &why);
        status = cli_fail(CLI_FAILED, "%s", why.text);
    }
    if (status == CLI_DONE && answer.body.size > 0 &&
        jdoc_parse(answer.body.data, answer.body.size, &doc, &why) < 0)
        status = cli_fail(CLI_FAILED, "the server's answer is not JSON: %s", why.text);
    const struct jval *data = doc ? jval_get(jdoc_root(doc), "data") : NULL;
    for (size_t i = 0; i < jval_count(data); i++) {
        const struct jval *job = jval_at(data, i);
        struct bulk_item *item = find_item(bulk, asked, count, &at, terminal_text(job, "id"));
        if (item && jval_type(jval_get(job, "finished_at")) != JTYPE_NULL) {
            take_end(bulk, item, job);
            ended++;
        }
    }
    jdoc_destroy(doc);
    client_answer_deinit(&answer);
    return status == CLI_DONE ? ended : -status;
}

static int write_what_ended(struct bulk *bulk, const size_t *asked, unsigned count)
{
    int status = CLI_DONE;

    for (unsigned i = 0; i < count && status == CLI_DONE && !bulk->is_ordered; i++) {
        if (bulk->items[asked[i]].state == BULK_ENDED)
            status = write_result(bulk, &bulk->items[asked[i]]);
    }
    while (status == CLI_DONE && bulk->is_ordered && bulk->next_ordered < bulk->items_count &&
           bulk->items[bulk->next_ordered].state != BULK_PENDING)
        status = write_result(bulk, &bulk->items[bulk->next_ordered++]);
    progress_update(&bulk->progress, bulk->succeeded + bulk->failed + bulk->refused,
                    bulk->failed + bulk->refused);
    return status;
}

/* One round over everything that is still awaited. */
static int collect_round(struct bulk *bulk, int *out_ended)
{
    size_t asked[QUERY_IDS];
    size_t at = bulk->first_pending;
    int status = CLI_DONE;

    *out_ended = 0;
    while (status == CLI_DONE && at < bulk->items_count) {
        unsigned count = 0;
        for (; at < bulk->items_count && count < QUERY_IDS; at++) {
            if (bulk->items[at].state == BULK_PENDING)
                asked[count++] = at;
        }
        int ended = count > 0 ? ask(bulk, asked, count) : 0;
        if (ended < 0)
            return -ended;
        *out_ended += ended;
        status = write_what_ended(bulk, asked, count);
    }
    while (bulk->first_pending < bulk->items_count &&
           bulk->items[bulk->first_pending].state != BULK_PENDING)
        bulk->first_pending++;
    return status;
}

/* Nothing ended in a round: hold one request open on the oldest job instead of asking in a circle.
 */
static int hold(struct bulk *bulk)
{
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char path[128];

    snprintf(path, sizeof(path), "/v1/jobs/%s?wait=250ms", bulk->items[bulk->first_pending].id);
    struct client_request request = {.method = "GET", .path = path};
    int code = client_call_patiently(cli_client(bulk->cli), &request, 60000, &answer, &why);
    client_answer_deinit(&answer);
    return code < 0 && code != ERR_UNKNOWN ? cli_fail(CLI_UNREACHABLE, "%s", why.text) : CLI_DONE;
}

int bulk_collect(struct bulk *bulk)
{
    int status = CLI_DONE, ended;

    bulk->progress.total = (int64_t)bulk->items_count;
    for (size_t i = 0; i < bulk->items_count && !bulk->is_ordered && status == CLI_DONE; i++) {
        if (bulk->items[i].state == BULK_REFUSED)
            status = write_result(bulk, &bulk->items[i]);
    }
    while (status == CLI_DONE) {
        status = collect_round(bulk, &ended);
        if (status != CLI_DONE || bulk->first_pending >= bulk->items_count)
            break;
        if (ended == 0)
            status = hold(bulk);
    }
    return status == CLI_DONE ? write_what_ended(bulk, NULL, 0) : status;
}

static int compare_floats(const void *a, const void *b)
{
    float x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

void bulk_summary(struct bulk *bulk)
{
    float *times = calloc(bulk->items_count + 1, sizeof(*times));
    double seconds = (double)(clock_mono_ms() - bulk->begin_mono_ms) / 1000.0;
    double one_by_one = 0;
    size_t count = 0;
    char sum[32];

    if (!times)
        return;
    for (size_t i = 0; i < bulk->items_count; i++) {
        if (bulk->items[i].id[0])
            times[count++] = bulk->items[i].run_s;
        one_by_one += (double)bulk->items[i].run_s;
    }
    qsort(times, count, sizeof(*times), compare_floats);
    double p50 = count ? (double)times[count / 2] : 0,
           p99 = count ? (double)times[count * 99 / 100] : 0;
    double rate = seconds > 0 ? (double)bulk->items_count / seconds : 0;
    terminal_duration(one_by_one, sum);
    if (bulk->cli->is_json)
        fprintf(
            stderr,
            "{\"jobs\": %zu, \"succeeded\": %lld, \"failed\": %lld, \"refused\": %lld, "
            "\"seconds\": %.3f, "
            "\"jobs_per_second\": %.1f, \"p50_s\": %.3f, \"p99_s\": %.3f, \"input_tokens\": %.0f, "
            "\"output_tokens\": %.0f, \"one_after_the_other_s\": %.3f}\n",
            bulk->items_count, (long long)bulk->succeeded, (long long)bulk->failed,
            (long long)bulk->refused, seconds, rate, p50, p99, bulk->input_tokens,
            bulk->output_tokens, one_by_one);
    else if (!bulk->cli->is_quiet)
        fprintf(
            stderr,
            "%zu jobs: %lld succeeded, %lld failed, %lld refused in %.2f s (%.1f jobs/s)\n"
            "run time p50 %.3f s, p99 %.3f s; tokens %.0f in, %.0f out; one after the other: %s\n",
            bulk->items_count, (long long)bulk->succeeded, (long long)bulk->failed,
            (long long)bulk->refused, seconds, rate, p50, p99, bulk->input_tokens,
            bulk->output_tokens, sum);
    free(times);
}
