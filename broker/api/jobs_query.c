/* POST /v1/jobs/query: many jobs at once, with their results where those are small. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/api/handlers.h"
#include "broker/api/validate.h"
#include "common/base/jdoc_scan.h"

struct queried {
    struct job_id id;
    struct buf text; /* empty: unknown */
};

struct query {
    struct context *context;
    unsigned count, pending;
    int status; /* the first trouble with the store */
    bool wants_results;
    size_t results_size; /* of those that are in the rows */
    struct queried rows[];
};

struct query_read { /* one outstanding read */
    struct query *query;
    unsigned row;
};

static void free_query(void *work)
{
    struct query *query = work;

    for (unsigned i = 0; i < query->count; i++)
        buf_deinit(&query->rows[i].text);
    free(query);
}

static void answer_query(struct query *query)
{
    struct context *context = query->context;
    struct buf *out = context_out(context);
    bool has_first = false;
    int status = query->status;

    if (status < 0) {
        context_fail_status(context, status);
        return;
    }
    status = buf_append_text(out, "{\"object\":\"list\",\"data\":[");
    for (unsigned i = 0; status == 0 && i < query->count; i++) {
        const struct buf *text = &query->rows[i].text;
        if (text->size == 0)
            continue;
        if (has_first)
            status = buf_append_char(out, ',');
        has_first = true;
        if (status == 0)
            status = buf_append(out, text->data, text->size);
    }
    if (status == 0)
        status = buf_append_text(out, "]}");
    if (status < 0)
        context_fail(context, PROBLEM_OVERLOADED, "ids", "The answer is too large: ask for fewer.");
    else
        context_answer_json(context);
}

/* What can stand inside our answer: JSON, and there is room. Records are not ours alone, so it is
 * looked at. */
static bool is_result_fit(const struct query *query, const struct job *job)
{
    static const char json[] = "application/json";
    struct slice type = job->content_type, result = job->payload;
    struct json_scan scan;

    if (job->state != JOB_SUCCEEDED || !result.bytes ||
        query->results_size + result.size > LIMIT_QUERY_RESULTS_BYTES ||
        job_result_is_gone(query->context, job))
        return false;
    if (type.size > 0 &&
        (type.size < sizeof(json) - 1 || memcmp(type.bytes, json, sizeof(json) - 1)))
        return false;
    return json_scan(result.bytes, result.size, NULL, &scan) == 0;
}

static int put_row(struct query *query, const struct job *job, struct buf *text)
{
    struct slice result = {0};
    int status = put_job(query->context, job, text);

    if (status < 0 || !query->wants_results)
        return status;
    if (is_result_fit(query, job))
        result = job->payload;
    query->results_size += result.size;
    return render_add_result(text, result);
}

static void on_queried(int status, const struct job *job, void *arg)
{
    struct query_read *read = arg;
    struct query *query = read->query;
    struct context *context = query->context;

    if (status == 0 && context->request && context_may_see(context, job))
        status = put_row(query, job, &query->rows[read->row].text);
    /* What cannot be read is as good as unknown; trouble with the store is another matter. */
    if (status < 0 && status != ERR_NOT_FOUND && status != ERR_CORRUPT && status != ERR_NEWER)
        query->status = status;
    free(read);
    if (--query->pending == 0)
        answer_query(query);
    context_release(context);
}

static void start_query(struct query *query)
{
    struct context *context = query->context;
    char etag[ETAG_SIZE];

    query->pending = 1; /* until all reads are on their way */
    for (unsigned i = 0; i < query->count; i++) {
        struct queried *row = &query->rows[i];
        if (!query->wants_results && put_cached_job(context, &row->id, &row->text, etag))
            continue;
        struct query_read *read = malloc(sizeof(*read));
        if (!read) {
            query->status = ERR_BUSY;
            break;
        }
        *read = (struct query_read){.query = query, .row = i};
        query->pending++;
        context_hold(context);
        if (query->wants_results)
            queue_get_small(context->api->queue, &row->id, on_queried, read);
        else
            queue_get(context->api->queue, &row->id, false, on_queried, read);
    }
    if (--query->pending == 0)
        answer_query(query);
}

/* The ids of a request into query; those that are no ids of ours are unknown and left out. */
static int take_ids(struct context *context, const struct jval *ids, struct query *query,
                    struct problem *problem)
{
    size_t count = jval_count(ids);

    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        const char *bytes = jval_string(jval_at(ids, i), &size);
        if (!bytes) {
            char param[PROBLEM_PARAM_SIZE];
            snprintf(param, sizeof(param), "ids[%zu]", i);
            return problem_set(problem, PROBLEM_INVALID_REQUEST, param, "%s must be a string.",
                               param);
        }
        struct queried *row = &query->rows[query->count];
        buf_init(&row->text, 1024 * 1024);
        if (job_id_parse((struct slice){.bytes = bytes, .size = size}, context->api->shards,
                         &row->id) == 0)
            query->count++;
    }
    return 0;
}

static int on_query_field(const char *key, const struct jval *value, void *arg)
{
    (void)value;
    if (strcmp(key, "ids") == 0 || strcmp(key, "results") == 0)
        return 0;
    return problem_set(arg, PROBLEM_UNKNOWN_FIELD, key, "The field %s is not known.", key);
}

static int read_query(struct context *context, const struct jdoc *doc, struct query **out,
                      struct problem *problem)
{
    const struct jval *ids = jval_get(jdoc_root(doc), "ids");

    if (jval_each(jdoc_root(doc), on_query_field, problem) != 0)
        return ERR_INVALID;
    if (jval_type(ids) != JTYPE_ARRAY)
        return problem_set(problem,
                           jval_has(jdoc_root(doc), "ids") ? PROBLEM_INVALID_REQUEST
                                                           : PROBLEM_MISSING_FIELD,
                           "ids", "ids must be an array of job ids.");
    if (jval_count(ids) > LIMIT_QUERY_IDS)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "ids",
                           "ids must have at most %d members.", LIMIT_QUERY_IDS);
    struct query *query = context_work(
        context, sizeof(*query) + jval_count(ids) * sizeof(struct queried), free_query);
    if (!query)
        return problem_set(problem, PROBLEM_OVERLOADED, NULL, "There is no memory for this.");
    query->context = context;
    if (jval_has(jdoc_root(doc), "results") &&
        jval_bool(jval_get(jdoc_root(doc), "results"), &query->wants_results) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "results",
                           "results must be true or false.");
    *out = query;
    return take_ids(context, ids, query, problem);
}

void handle_jobs_query(struct context *context)
{
    struct problem problem;
    struct query *query = NULL;
    struct jdoc *doc = NULL;

    if (validate_document(http_request_body(context->request), &doc, &problem) < 0 ||
        read_query(context, doc, &query, &problem) < 0)
        context_refuse(context, &problem);
    else
        start_query(query);
    jdoc_destroy(doc);
}
