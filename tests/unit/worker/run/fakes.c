#include "tests/unit/worker/run/fakes.h"

#include <stdlib.h>
#include <string.h>

#include "worker/run/job_copy.h"

/* ---- queue ---- */

int64_t queue_now_ms(const struct queue *queue)
{
    return queue->now_ms;
}

int64_t queue_lease_age_ms(const struct queue *queue)
{
    return queue->lease_age_ms;
}

size_t queue_commit_bytes(const struct queue *queue)
{
    return queue->commit_bytes;
}

const char *queue_self_id(const struct queue *queue)
{
    (void)queue;
    return "selfself";
}

void queue_claim(struct queue *queue, const struct queue_claim_request *request,
                 queue_claim_fn on_claim, void *arg)
{
    CHECK(!queue->is_asked);
    CHECK(request->rooms_count <= LIMIT_CLAIM_ROUTES);
    CHECK(request->count_max >= 1 && request->count_max <= LIMIT_CLAIM_COUNT);
    queue->is_asked = true;
    queue->claims_count++;
    queue->request = *request;
    queue->request.rooms = queue->rooms;
    for (unsigned i = 0; i < request->rooms_count; i++) {
        struct slice name = request->rooms[i].route;
        memcpy(queue->names[i], name.bytes, name.size);
        queue->rooms[i] = (struct queue_room){
            .route = {.bytes = queue->names[i], .size = name.size}, .room = request->rooms[i].room};
    }
    queue->on_claim = on_claim;
    queue->claim_arg = arg;
}

void fake_answer_claim(struct queue *queue, const struct queue_claim_result *result)
{
    CHECK(queue->is_asked);
    queue->is_asked = false;
    queue->on_claim(result, queue->claim_arg);
}

void queue_withdraw(struct queue *queue, queue_done_fn on_done, void *arg)
{
    CHECK(!queue->on_withdrawn && !queue->is_asked);
    queue->withdrawals_count++;
    queue->on_withdrawn = on_done;
    queue->withdraw_arg = arg;
}

void fake_withdrawn(struct queue *queue, int status)
{
    queue_done_fn on_done = queue->on_withdrawn;

    CHECK(on_done);
    queue->on_withdrawn = NULL;
    on_done(status, queue->withdraw_arg);
}

unsigned fake_room(const struct queue *queue, const char *route)
{
    for (unsigned i = 0; i < queue->request.rooms_count; i++)
        if (slice_is(queue->rooms[i].route, route))
            return queue->rooms[i].room;
    return 0;
}

static struct fake_commit *note(struct queue *queue, enum fake_verb verb, const struct job *job,
                                queue_done_fn on_done, void *arg)
{
    CHECK(queue->commits_count < FAKE_MAX);
    struct fake_commit *commit = &queue->commits[queue->commits_count++];
    *commit = (struct fake_commit){.verb = verb, .on_done = on_done, .arg = arg};
    int status = job_copy(job, &commit->job, &commit->memory);
    CHECK(status == 0);
    return commit;
}

void queue_finish(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg)
{
    CHECK(job->state == JOB_SUCCEEDED);
    (void)note(queue, FAKE_FINISH, job, on_done, arg);
}

void queue_fail(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg)
{
    CHECK(job->state == JOB_FAILED || job->state == JOB_EXPIRED);
    (void)note(queue, FAKE_FAIL, job, on_done, arg);
}

void queue_retry(struct queue *queue, const struct job *job, const struct job_attempt *attempt,
                 int64_t due_at_ms, queue_done_fn on_done, void *arg)
{
    struct fake_commit *commit = note(queue, FAKE_RETRY, job, on_done, arg);
    CHECK(attempt->error_message.size < sizeof commit->attempt_message);
    commit->attempt = *attempt;
    if (attempt->error_message.size > 0)
        memcpy(commit->attempt_message, attempt->error_message.bytes, attempt->error_message.size);
    commit->due_at_ms = due_at_ms;
}

void queue_release(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg)
{
    (void)note(queue, FAKE_RELEASE, job, on_done, arg);
}

void fake_done(struct queue *queue, unsigned commit, int status)
{
    CHECK(commit < queue->commits_count);
    queue_done_fn on_done = queue->commits[commit].on_done;
    CHECK(on_done);
    queue->commits[commit].on_done = NULL;
    on_done(status, queue->commits[commit].arg);
}

void fake_queue_deinit(struct queue *queue)
{
    for (unsigned i = 0; i < queue->commits_count; i++)
        free(queue->commits[i].memory);
}

/* ---- upstream ---- */

int upstream_call_start(struct upstream_pool *pool, const struct upstream_request *request,
                        upstream_chunk_fn on_chunk, upstream_end_fn on_end, void *arg,
                        struct upstream_call **out)
{
    (void)on_chunk;
    if (pool->start_status < 0)
        return pool->start_status;
    CHECK(pool->calls_count < FAKE_MAX);
    struct upstream_call *call = &pool->calls[pool->calls_count++];
    *call = (struct upstream_call){.pool = pool,
                                   .body = request->body,
                                   .timeout_ms = request->timeout_ms,
                                   .is_fresh = request->is_fresh,
                                   .on_end = on_end,
                                   .arg = arg,
                                   .is_running = true};
    CHECK(strlen(request->url) < sizeof call->url);
    memcpy(call->url, request->url, strlen(request->url) + 1);
    for (unsigned i = 0; i < request->headers_count; i++) {
        struct slice line = request->headers[i];
        if (line.size < sizeof call->authorization && line.size > 14 &&
            (line.bytes[0] == 'A' || line.bytes[0] == 'a'))
            memcpy(call->authorization, line.bytes, line.size);
    }
    *out = call;
    return 0;
}

void upstream_call_abort(struct upstream_call *call)
{
    CHECK(call->is_running);
    CHECK(!call->is_aborted);
    call->is_aborted = true;
}

static void end_call(struct upstream_call *call, struct upstream_answer *answer)
{
    CHECK(call->is_running);
    call->is_running = false;
    answer->should_retry = -1;
    answer->rate_remaining_requests = -1;
    if (answer->retry_after_ms == 0)
        answer->retry_after_ms = -1;
    call->on_end(answer, call->arg);
}

void fake_answer(struct upstream_pool *pool, unsigned call, int http_status, const char *body)
{
    size_t size = strlen(body);
    char *bytes = malloc(size + 1);
    CHECK(bytes);
    CHECK(call < pool->calls_count);
    memcpy(bytes, body, size + 1);
    struct upstream_answer answer = {.end = UPSTREAM_ANSWERED,
                                     .http_status = http_status,
                                     .body = {.bytes = bytes, .size = size},
                                     .content_type = "application/json"};
    end_call(&pool->calls[call], &answer);
    free(bytes);
}

void fake_end(struct upstream_pool *pool, unsigned call, enum upstream_end end)
{
    struct upstream_answer answer = {.end = end, .detail = "words of the transport"};
    CHECK(call < pool->calls_count);
    end_call(&pool->calls[call], &answer);
}

void fake_end_stale(struct upstream_pool *pool, unsigned call, double total_ms)
{
    struct upstream_answer answer = {
        .end = UPSTREAM_BROKEN, .was_stale = true, .total_ms = total_ms, .detail = "closed"};
    CHECK(call < pool->calls_count);
    end_call(&pool->calls[call], &answer);
}

void fake_end_aborted(struct upstream_pool *pool)
{
    for (unsigned i = 0; i < pool->calls_count; i++)
        if (pool->calls[i].is_running && pool->calls[i].is_aborted)
            fake_end(pool, i, UPSTREAM_ABORTED);
}
