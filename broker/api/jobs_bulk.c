/* POST /v1/jobs/bulk: one job a line, streamed in; one answer a line, in the same order.
 *
 * Lines are taken out of the body as it comes and submitted at once; at most WINDOW_LINES and
 * WINDOW_BYTES of them wait for the queue, then reading stops until some are answered. Answers are
 * spooled and sent when the body has ended, since few clients read before they have written
 * everything. When a client leaves, the lines taken by then are submitted, and no more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/api/handlers.h"
#include "broker/api/spool.h"
#include "broker/api/submit.h"
#include "common/base/metrics.h"

enum {
    WINDOW_LINES = 512,
    WINDOW_BYTES = 16 * 1024 * 1024,
    ALL_BACKLOGS = 256 * 1024 * 1024, /* of all bulk requests together; beyond: 503 */
    BACKLOG_SLACK = 4 * 1024 * 1024,  /* of what comes between asking for a pause and its effect */
    SPOOL_MEMORY = 1024 * 1024,
};

/* One line that has been taken, until its answer has been spooled. */
struct line {
    struct bulk *bulk;
    uint64_t number;
    int64_t bytes;
    bool is_done;
    struct job_id id;
    char *error; /* {"code",…}; NULL: accepted */
    struct line *next;
};

struct bulk {
    struct api *api;
    struct context *context;
    struct buf backlog; /* received, not taken */
    size_t scanned;     /* of the backlog: no line ends before this */
    bool is_skipping;   /* the rest of a line that was too long */
    bool has_ended;     /* the body is whole */
    bool is_paused;
    bool is_asking; /* for the tenant's usage */
    bool is_dead;   /* refused, or the client is gone: nothing more is taken */
    uint64_t number;
    unsigned waiting; /* lines in the list */
    int64_t waiting_bytes;
    struct line *first, *last;
    struct draft key; /* only its idempotency key, of the request */
    struct spool spool;
};

static void drop_backlog(struct bulk *bulk, size_t size)
{
    buf_consume(&bulk->backlog, size);
    bulk->scanned = bulk->scanned > size ? bulk->scanned - size : 0;
    bulk->api->bulk_bytes -= size;
}

static void free_bulk(void *work)
{
    struct bulk *bulk = work;

    CHECK(!bulk->first);
    drop_backlog(bulk, bulk->backlog.size);
    buf_deinit(&bulk->backlog);
    spool_deinit(&bulk->spool);
    free(bulk);
}

static void take_lines(struct bulk *bulk);

/* ---- answers --------------------------------------------------------------------------------- */

static int put_answer(struct buf *out, const struct line *line)
{
    char id[JOB_ID_TEXT_SIZE + 1];

    if (line->error)
        return buf_printf(out, "{\"line\":%llu,\"error\":%s}\n", (unsigned long long)line->number,
                          line->error);
    job_id_text(&line->id, id);
    return buf_printf(out, "{\"line\":%llu,\"id\":\"%s\"}\n", (unsigned long long)line->number, id);
}

static void give_up(struct bulk *bulk)
{
    bulk->is_dead = true;
    context_fail(bulk->context, PROBLEM_OVERLOADED, NULL,
                 "There is no room for the answers; lines up to about %llu were taken.",
                 (unsigned long long)bulk->number);
}

static void spool_done(struct bulk *bulk)
{
    while (bulk->first && bulk->first->is_done) {
        struct line *line = bulk->first;
        struct buf *out = context_out(bulk->context);
        bulk->first = line->next;
        if (!bulk->first)
            bulk->last = NULL;
        bulk->waiting--;
        bulk->waiting_bytes -= line->bytes;
        if (!bulk->is_dead &&
            (put_answer(out, line) < 0 || spool_append(&bulk->spool, out->data, out->size) < 0))
            give_up(bulk);
        free(line->error);
        free(line);
    }
}

static void answer_bulk(struct bulk *bulk)
{
    struct reply reply = {.status = 200, .content_type = "application/x-ndjson"};

    if (spool_finish(&bulk->spool, &reply.body, &reply.body_free) < 0)
        give_up(bulk);
    else
        context_answer(bulk->context, &reply);
    bulk->is_dead = true;
}

/* After anything that may have made room or an end. */
static void go_on(struct bulk *bulk)
{
    spool_done(bulk);
    take_lines(bulk);
    spool_done(bulk);
    if (!bulk->is_dead && bulk->has_ended && !bulk->first && bulk->backlog.size == 0 &&
        !bulk->is_asking)
        answer_bulk(bulk);
}

/* ---- one line -------------------------------------------------------------------------------- */

static struct line *add_line(struct bulk *bulk, size_t size)
{
    struct line *line = calloc(1, sizeof(*line));

    if (!line)
        return NULL;
    *line = (struct line){.bulk = bulk, .number = bulk->number, .bytes = (int64_t)size};
    if (bulk->last)
        bulk->last->next = line;
    else
        bulk->first = line;
    bulk->last = line;
    bulk->waiting++;
    bulk->waiting_bytes += line->bytes;
    return line;
}

static void set_error(struct line *line, const struct problem *problem)
{
    struct buf text = {.size_max = 8192};

    metrics_add(METRIC_JOBS_REFUSED, 1);
    line->is_done = true;
    if (problem_put_line(&text, problem) == 0)
        line->error = buf_take(&text, NULL);
    if (!line->error)
        give_up(line->bulk);
    buf_deinit(&text);
}

static void on_submit(const struct queue_submit_result *result, void *arg)
{
    struct line *line = arg;
    struct bulk *bulk = line->bulk;
    struct context *context = bulk->context;
    struct problem problem;

    if (result->status < 0 || result->is_replay)
        auth_give_back(context->api->auth, &context->access, line->bytes);
    if (result->status < 0) {
        submit_problem(result, &line->id, &problem);
        set_error(line, &problem);
    } else {
        metrics_add(METRIC_JOBS_SUBMITTED, result->is_replay ? 0 : 1);
        line->id = result->id;
        line->is_done = true;
    }
    go_on(bulk);
    context_release(context);
}

/* The request's key gives line n the key "key#n"; a line's own key wins. */
static void add_key(const struct bulk *bulk, struct draft *draft)
{
    if (bulk->key.idempotency_key_size == 0 || draft->idempotency_key_size > 0)
        return;
    int size = snprintf(draft->idempotency_key, sizeof(draft->idempotency_key), "%.*s#%llu",
                        (int)bulk->key.idempotency_key_size, bulk->key.idempotency_key,
                        (unsigned long long)bulk->number);
    CHECK(size > 0 && (size_t)size < sizeof(draft->idempotency_key));
    draft->idempotency_key_size = (size_t)size;
}

static void on_usage(int status, void *arg)
{
    struct context *context = arg;
    struct bulk *bulk = context->work;

    bulk->is_asking = false;
    if (status < 0 && !bulk->is_dead) {
        bulk->is_dead = true;
        context_fail_status(context, status == ERR_UNKNOWN ? ERR_OFFLINE : status);
    }
    go_on(bulk);
    context_release(context);
}

static int admit(struct bulk *bulk, int64_t bytes, struct problem *problem)
{
    struct api *api = bulk->context->api;
    const struct access *access = &bulk->context->access;

    switch (auth_admit(api->auth, access, bytes, api->now_mono_ms)) {
    case ADMIT:
        return 0;
    case ASK_USAGE:
        return ERR_BUSY;
    case REFUSE_JOBS:
        return problem_set(problem, PROBLEM_JOBS_QUOTA, NULL,
                           "The tenant has as many unfinished jobs as it may.");
    case REFUSE_BYTES:
        break;
    }
    return problem_set(problem, PROBLEM_BYTES_QUOTA, NULL,
                       "The tenant has as many bytes of unfinished jobs as it may.");
}

/* ERR_BUSY: the usage has to be asked for first, the line was not taken. */
static int submit_line(struct bulk *bulk, const struct draft *draft, size_t size,
                       struct problem *problem)
{
    struct context *context = bulk->context;
    const struct submit_options options = {.access = &context->access,
                                           .request_id = context_own_request_id(context)};
    struct prepared prepared;

    int status = admit(bulk, (int64_t)size, problem);
    if (status < 0)
        return status;
    struct line *line = add_line(bulk, size);
    if (!line) {
        auth_give_back(context->api->auth, &context->access, (int64_t)size);
        give_up(bulk);
        return 0;
    }
    submit_prepare(context->api, draft, &options, &prepared);
    line->id = prepared.job.id;
    context_hold(context);
    queue_submit(context->api->queue, &prepared.submission, on_submit, line);
    return 0;
}

static int take_line(struct bulk *bulk, struct slice text)
{
    struct draft draft;
    struct problem problem;
    struct jdoc *doc = NULL;

    draft_init(&draft);
    int status = validate_document(text, &doc, &problem);
    if (status == 0)
        status = validate_job(doc, &draft, &problem);
    if (status == 0) {
        add_key(bulk, &draft);
        status = submit_line(bulk, &draft, text.size, &problem);
    }
    if (status == ERR_INVALID) {
        struct line *line = add_line(bulk, 0);
        if (line)
            set_error(line, &problem);
        else
            give_up(bulk);
    }
    draft_deinit(&draft);
    jdoc_destroy(doc);
    return status == ERR_BUSY ? ERR_BUSY : 0;
}

static void refuse_long_line(struct bulk *bulk)
{
    struct problem problem;
    struct line *line = add_line(bulk, 0);

    problem_set(&problem, PROBLEM_TOO_LARGE, NULL, "A line may have at most %lld bytes.",
                (long long)bulk->context->api->settings->broker.body_bytes_max);
    if (line)
        set_error(line, &problem);
    else
        give_up(bulk);
}

/* ---- lines out of bytes ---------------------------------------------------------------------- */

static struct slice trim(struct slice text)
{
    while (text.size > 0 && memchr(" \t\r", text.bytes[text.size - 1], 3))
        text.size--;
    while (text.size > 0 && memchr(" \t\r", text.bytes[0], 3)) {
        text.bytes++;
        text.size--;
    }
    return text;
}

static bool has_room(const struct bulk *bulk)
{
    return bulk->waiting < WINDOW_LINES &&
           (bulk->waiting_bytes < WINDOW_BYTES || bulk->waiting == 0);
}

/* The next line of the backlog from `at` on: its size without the newline, SIZE_MAX when it has not
 * ended. */
static size_t find_end(struct bulk *bulk, size_t at)
{
    size_t from = bulk->scanned > at ? bulk->scanned : at;
    const char *end = from < bulk->backlog.size
                          ? memchr(bulk->backlog.data + from, '\n', bulk->backlog.size - from)
                          : NULL;

    bulk->scanned = bulk->backlog.size;
    if (end) {
        size_t size = (size_t)(end - bulk->backlog.data) - at;
        bulk->scanned = at + size + 1;
        return size;
    }
    return bulk->has_ended && at < bulk->backlog.size ? bulk->backlog.size - at : SIZE_MAX;
}

/* One line that begins at `at`; returns the bytes taken, 0 when there is none to take now. */
static size_t take_one(struct bulk *bulk, size_t at)
{
    size_t size_max = (size_t)bulk->context->api->settings->broker.body_bytes_max;
    size_t size = find_end(bulk, at);
    size_t left = bulk->backlog.size - at;

    if (size == SIZE_MAX && (left <= size_max || bulk->is_skipping)) {
        if (!bulk->is_skipping)
            return 0;
        return left; /* still inside the long line */
    }
    size_t used = size == SIZE_MAX ? left : size < left ? size + 1 : size;
    if (bulk->is_skipping) {
        bulk->is_skipping = false;
        return used;
    }
    bulk->number++;
    if (size > size_max) {
        bulk->is_skipping = size == SIZE_MAX;
        refuse_long_line(bulk);
        return used;
    }
    struct slice text = trim((struct slice){.bytes = bulk->backlog.data + at, .size = size});
    if (text.size > 0 && take_line(bulk, text) == ERR_BUSY) {
        bulk->number--;
        bulk->scanned = at;
        bulk->is_asking = true;
        context_hold(bulk->context);
        auth_refresh(bulk->context->api->auth, &bulk->context->access, on_usage, bulk->context);
        return 0;
    }
    return used;
}

static void set_paused(struct bulk *bulk, bool paused)
{
    if (bulk->is_paused == paused || bulk->has_ended || !bulk->context->request)
        return;
    bulk->is_paused = paused;
    http_request_pause_body(bulk->context->request, paused);
}

static void take_lines(struct bulk *bulk)
{
    size_t at = 0;

    bulk->is_dead = bulk->is_dead || bulk->context->is_answered;
    while (!bulk->is_dead && !bulk->is_asking && at < bulk->backlog.size && has_room(bulk)) {
        size_t used = take_one(bulk, at);
        if (used == 0)
            break;
        at += used;
        spool_done(bulk);
    }
    if (bulk->is_dead)
        at = bulk->backlog.size;
    drop_backlog(bulk, at);
    set_paused(bulk, !bulk->is_dead && (bulk->is_asking || !has_room(bulk)));
}

/* ---- the request ----------------------------------------------------------------------------- */

static void on_bytes(struct context *context, const char *bytes, size_t size)
{
    struct bulk *bulk = context->work;

    if (bulk->is_dead)
        return;
    if (bulk->api->bulk_bytes + size > ALL_BACKLOGS ||
        buf_append(&bulk->backlog, bytes, size) < 0) {
        bulk->is_dead = true;
        context_fail(context, PROBLEM_OVERLOADED, NULL,
                     "Too many bytes of bulk requests are in progress; %llu lines were taken.",
                     (unsigned long long)bulk->number);
        return;
    }
    bulk->api->bulk_bytes += size;
    go_on(bulk);
}

static void on_left(struct context *context)
{
    struct bulk *bulk = context->work;

    bulk->is_dead = true;
    drop_backlog(bulk, bulk->backlog.size);
    buf_deinit(&bulk->backlog);
}

void begin_jobs_bulk(struct context *context)
{
    struct problem problem;
    struct bulk *bulk = context_work(context, sizeof(*bulk), free_bulk);

    if (!bulk)
        return;
    bulk->api = context->api;
    bulk->context = context;
    buf_init(&bulk->backlog, (size_t)context->api->settings->broker.body_bytes_max + BACKLOG_SLACK);
    spool_init(&bulk->spool, SPOOL_MEMORY);
    context->on_bytes = on_bytes;
    context->on_left = on_left;
    if (validate_idempotency_key(http_request_header(context->request, "Idempotency-Key"),
                                 &bulk->key, &problem) < 0)
        context_refuse(context, &problem);
}

void handle_jobs_bulk(struct context *context)
{
    struct bulk *bulk = context->work;

    bulk->has_ended = true;
    go_on(bulk);
}
