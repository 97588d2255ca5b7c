/* GET /v1/jobs: the newest first, filtered, with a cursor.
 *
 * The store knows the order; the jobs themselves are read in rounds and filtered here, until the
 * page is full or LIMIT_LIST_SCAN of them have been looked at. The cursor is the last job looked
 * at, so a page may be short, or even empty, and still have a next one. */
#include <stdlib.h>
#include <string.h>

#include "broker/api/handlers.h"
#include "broker/api/submit.h"
#include "broker/api/validate.h"

enum { ROUND = 100, LIMIT_DEFAULT = 20, TEXT_BYTES_MAX = 1024 * 1024 };

struct listed {
    struct job_id id;
    struct buf text; /* empty: filtered out, or gone */
};

struct listing {
    struct context *context;
    bool has_status, has_model, has_tenant;
    enum job_state status;
    char model[LIMIT_ROUTE_BYTES + 1];
    char tenant[LIMIT_TENANT_BYTES + 1];
    char tenant_hash[JOB_TENANT_SIZE];
    unsigned limit;

    struct buf data; /* job objects so far, with commas */
    unsigned count;
    unsigned scanned;
    struct job_id after; /* the last job looked at */
    bool has_more;

    struct listed rows[ROUND]; /* of this round */
    unsigned rows_count, pending;
    int trouble;
};

struct row_read {
    struct listing *listing;
    unsigned row;
};

static void free_listing(void *work)
{
    struct listing *listing = work;

    for (unsigned i = 0; i < ROUND; i++)
        buf_deinit(&listing->rows[i].text);
    buf_deinit(&listing->data);
    free(listing);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void answer_list(struct listing *listing)
{
    struct context *context = listing->context;
    struct buf *out = context_out(context);
    char after[JOB_ID_TEXT_SIZE + 1];
    int status = buf_append_text(out, "{\"object\":\"list\",\"data\":[");

    if (status == 0 && listing->data.size > 0)
        status = buf_append(out, listing->data.data, listing->data.size);
    if (status == 0 && listing->has_more) {
        job_id_text(&listing->after, after);
        status = buf_printf(out, "],\"has_more\":true,\"next_after\":\"%s\"}", after);
    } else if (status == 0) {
        status = buf_append_text(out, "],\"has_more\":false,\"next_after\":null}");
    }
    if (status < 0)
        context_fail(context, PROBLEM_OVERLOADED, "limit",
                     "The answer is too large: ask for fewer.");
    else
        context_answer_json(context);
}

/* ---- one round: ids, then their jobs --------------------------------------------------------- */

static void start_round(struct listing *listing);

static int add_row(struct listing *listing, const struct buf *text)
{
    int status = listing->count > 0 ? buf_append_char(&listing->data, ',') : 0;

    if (status == 0)
        status = buf_append(&listing->data, text->data, text->size);
    listing->count++;
    return status;
}

static void end_round(struct listing *listing)
{
    bool has_rest = listing->has_more;

    if (listing->trouble < 0) {
        context_fail_status(listing->context, listing->trouble);
        return;
    }
    for (unsigned i = 0; i < listing->rows_count; i++) {
        if (listing->count == listing->limit) {
            listing->has_more = true;
            answer_list(listing);
            return;
        }
        struct listed *row = &listing->rows[i];
        listing->after = row->id;
        listing->scanned++;
        if (row->text.size > 0 && add_row(listing, &row->text) < 0) {
            context_fail(listing->context, PROBLEM_OVERLOADED, "limit",
                         "The answer is too large: ask for fewer.");
            return;
        }
    }
    listing->has_more = has_rest;
    if (!has_rest || listing->count == listing->limit || listing->scanned >= LIMIT_LIST_SCAN)
        answer_list(listing);
    else
        start_round(listing);
}

static bool does_pass(const struct listing *listing, const struct job *job)
{
    if (!context_may_see(listing->context, job))
        return false;
    if (listing->has_status && job->state != listing->status)
        return false;
    if (listing->has_model && !slice_is(job->route, listing->model))
        return false;
    return !listing->has_tenant || slice_is(job->tenant_name, listing->tenant);
}

static void on_row(int status, const struct job *job, void *arg)
{
    struct row_read *read = arg;
    struct listing *listing = read->listing;
    struct context *context = listing->context;

    if (status == 0 && context->request && does_pass(listing, job))
        status = put_job(context, job, &listing->rows[read->row].text);
    if (status < 0 && status != ERR_NOT_FOUND && status != ERR_CORRUPT && status != ERR_NEWER)
        listing->trouble = status;
    free(read);
    if (--listing->pending == 0)
        end_round(listing);
    context_release(context);
}

static void on_ids(int status, const struct job_id *ids, unsigned count, const struct job_id *next,
                   void *arg)
{
    struct context *context = arg;
    struct listing *listing = context->work;

    CHECK(count <= ROUND);
    if (status < 0 || !context->request) {
        context_fail_status(context, status);
        context_release(context);
        return;
    }
    listing->has_more = next && next->core[0] != '\0';
    listing->rows_count = count;
    listing->pending = 1; /* until all reads are on their way */
    for (unsigned i = 0; i < count; i++) {
        struct row_read *read = malloc(sizeof(*read));
        listing->rows[i].id = ids[i];
        buf_clear(&listing->rows[i].text);
        if (!read) {
            listing->trouble = ERR_BUSY;
            continue;
        }
        *read = (struct row_read){.listing = listing, .row = i};
        listing->pending++;
        context_hold(context);
        queue_get(context->api->queue, &ids[i], false, on_row, read);
    }
    if (--listing->pending == 0)
        end_round(listing);
    context_release(context);
}

static void start_round(struct listing *listing)
{
    struct context *context = listing->context;
    const struct queue_list_query query = {
        .tenant = listing->has_tenant ? listing->tenant_hash : NULL,
        .after = listing->after,
        .limit = ROUND,
    };

    context_hold(context);
    queue_list(context->api->queue, &query, on_ids, context);
}

/* ---- the request ----------------------------------------------------------------------------- */

static int read_tenant(struct listing *listing, struct slice wanted, struct problem *problem)
{
    const struct access *access = &listing->context->access;

    if (access->role != KEY_ADMIN) {
        if (wanted.bytes && !slice_is(wanted, access->tenant))
            return problem_set(problem, PROBLEM_FORBIDDEN, "tenant",
                               "Only an admin may list the jobs of other tenants.");
        wanted = (struct slice){.bytes = access->tenant, .size = access->tenant_size};
    }
    if (!wanted.bytes)
        return 0;
    if (wanted.size == 0 || wanted.size > LIMIT_TENANT_BYTES)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "tenant",
                           "tenant must be 1 to %d bytes.", LIMIT_TENANT_BYTES);
    listing->has_tenant = true;
    memcpy(listing->tenant, wanted.bytes, wanted.size);
    job_tenant_hash(wanted, listing->tenant_hash);
    return 0;
}

static int read_model(struct listing *listing, struct slice wanted, struct problem *problem)
{
    if (!wanted.bytes)
        return 0;
    if (wanted.size == 0 || wanted.size > LIMIT_ROUTE_BYTES)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "model",
                           "model must be 1 to %d bytes.", LIMIT_ROUTE_BYTES);
    struct slice route = submit_route(listing->context->api->settings, wanted);
    if (route.size > LIMIT_ROUTE_BYTES)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "model", "model is too long.");
    listing->has_model = true;
    memcpy(listing->model, route.bytes, route.size);
    return 0;
}

static int read_filters(struct listing *listing, struct problem *problem)
{
    struct http_request *request = listing->context->request;
    struct slice status = http_request_query(request, "status");
    struct slice after = http_request_query(request, "after");
    struct slice limit = http_request_query(request, "limit");
    int64_t number = LIMIT_DEFAULT;

    if (http_request_query(request, "batch").bytes)
        return problem_set(problem, PROBLEM_NOT_SUPPORTED, "batch", "Batches are not supported.");
    if (status.bytes && job_state_from_word(status, &listing->status) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "status",
                           "status must be the name of a state, such as queued or failed.");
    listing->has_status = status.bytes != NULL;
    if (after.bytes && job_id_parse(after, listing->context->api->shards, &listing->after) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "after", "after must be a job id.");
    if (limit.bytes && validate_number(limit, "limit", 1, LIMIT_LIST_ROWS, &number, problem) < 0)
        return ERR_INVALID;
    listing->limit = (unsigned)number;
    if (read_tenant(listing, http_request_query(request, "tenant"), problem) < 0)
        return ERR_INVALID;
    return read_model(listing, http_request_query(request, "model"), problem);
}

void handle_jobs_list(struct context *context)
{
    struct listing *listing = context_work(context, sizeof(*listing), free_listing);
    struct problem problem;

    if (!listing)
        return;
    listing->context = context;
    buf_init(&listing->data, ANSWER_BYTES_MAX - 1024);
    for (unsigned i = 0; i < ROUND; i++)
        buf_init(&listing->rows[i].text, TEXT_BYTES_MAX);
    if (read_filters(listing, &problem) < 0)
        context_refuse(context, &problem);
    else
        start_round(listing);
}
