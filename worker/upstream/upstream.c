/* Calls: start, time limits, abort, end. */
#include "worker/upstream/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "worker/upstream/upstream_internal.h"

enum { BODY_KEPT_BYTES = 4096 };

static void on_wheel(uv_timer_t *timer);

/* --- time limits --------------------------------------------------------- */

static int64_t due_ms(const struct upstream_call *call)
{
    return call->phase_due_ms < call->total_due_ms ? call->phase_due_ms : call->total_due_ms;
}

static void wheel_arm(struct upstream_pool *pool, int64_t now_mono_ms)
{
    int64_t next_ms = wheel_next_ms(&pool->wheel);
    if (next_ms == pool->wheel_armed_ms)
        return;
    if (next_ms < 0) {
        (void)uv_timer_stop(&pool->wheel_timer);
    } else {
        uint64_t wait_ms = next_ms > now_mono_ms ? (uint64_t)(next_ms - now_mono_ms) : 0;
        CHECK(uv_timer_start(&pool->wheel_timer, on_wheel, wait_ms, 0) == 0);
    }
    pool->wheel_armed_ms = next_ms;
}

void call_limit_phase(struct upstream_call *call, int timeout_ms, int64_t now_mono_ms)
{
    struct upstream_pool *pool = call->pool;
    call->phase_due_ms = timeout_ms > 0 ? now_mono_ms + timeout_ms : INT64_MAX;
    wheel_set(&pool->wheel, &call->deadline, due_ms(call), now_mono_ms);
    int64_t slot_ms = call->deadline.tick * WHEEL_TICK_MS;
    if (pool->wheel_armed_ms < 0 || slot_ms < pool->wheel_armed_ms)
        wheel_arm(pool, now_mono_ms);
}

static void call_time_out(struct upstream_call *call, int64_t now_mono_ms)
{
    if (now_mono_ms >= call->total_due_ms) {
        call_end(call, UPSTREAM_TIMEOUT_TOTAL, 0, "the call took longer than timeout_ms");
        return;
    }
    switch (call->phase) {
    case CALL_RESOLVING:
        call_end(call, UPSTREAM_CONNECT, 0, "the name was not resolved within connect_timeout_ms");
        return;
    case CALL_CONNECTING:
        call_end(call, UPSTREAM_CONNECT, 0, "no connection within connect_timeout_ms");
        return;
    case CALL_SENT:
        call_end(call, UPSTREAM_TIMEOUT_FIRST_BYTE, 0, "no answer within first_byte_timeout_ms");
        return;
    case CALL_RECEIVING:
        call_end(call, UPSTREAM_TIMEOUT_IDLE, 0, "the answer stood still for idle_timeout_ms");
        return;
    case CALL_IDLE:
    case CALL_ENDED:
        break;
    }
    CHECK(!"a call without a phase has a deadline");
}

static void on_wheel(uv_timer_t *timer)
{
    struct upstream_pool *pool = timer->data;
    int64_t now_ms = clock_mono_ms();
    struct wheel_entry *entry;

    pool->wheel_armed_ms = -1;
    while ((entry = wheel_expire(&pool->wheel, now_ms))) {
        struct upstream_call *call = LINK_OWNER(entry, struct upstream_call, deadline);
        if (due_ms(call) > now_ms)
            wheel_set(&pool->wheel, entry, due_ms(call), now_ms); /* bytes came meanwhile */
        else
            call_time_out(call, now_ms);
    }
    wheel_arm(pool, now_ms);
}

/* --- calls --------------------------------------------------------------- */

void call_free(struct upstream_call *call)
{
    if (call->easy)
        curl_easy_cleanup(call->easy);
    buf_deinit(&call->body);
    free(call->headers);
    free(call->pin.data);
    free(call);
}

/* Ready for the next one, or freed when enough are kept. */
static void call_recycle(struct upstream_call *call)
{
    struct upstream_pool *pool = call->pool;

    free(call->headers);
    call->headers = NULL;
    free(call->pin.data);
    call->pin.data = NULL;
    call->phase = CALL_IDLE;
    if (pool->idle_count >= CALLS_IDLE_MAX) {
        call_free(call);
        return;
    }
    if (call->body.capacity > BODY_KEPT_BYTES)
        buf_deinit(&call->body);
    else
        buf_clear(&call->body);
    link_push(&pool->idle, &call->link);
    pool->idle_count++;
}

static struct upstream_call *call_take(struct upstream_pool *pool)
{
    struct upstream_call *call;

    if (!link_is_empty(&pool->idle)) {
        call = LINK_OWNER(pool->idle.next, struct upstream_call, link);
        link_remove(&call->link);
        pool->idle_count--;
        return call;
    }
    call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->pool = pool;
    buf_init(&call->body, pool->options.response_bytes_max);
    if (call_easy_create(call) < 0) {
        call_free(call);
        return NULL;
    }
    return call;
}

static double ms_between(int64_t from_ns, int64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

static void call_report(struct upstream_call *call, enum upstream_end end, int http_status,
                        const char *detail)
{
    const struct answer_head *head = &call->head;
    struct upstream_answer answer = {
        .end = end,
        .http_status = http_status,
        .body = {.bytes = call->body.data, .size = call->body.size},
        .retry_after_ms = head->retry_after_ms,
        .should_retry = head->should_retry,
        .rate_remaining_requests = head->rate_remaining_requests,
        .rate_remaining_tokens = head->rate_remaining_tokens,
        .was_stale = end == UPSTREAM_BROKEN && call->was_reused && call->first_byte_at_ns == 0,
        .total_ms = ms_between(call->started_at_ns, clock_mono_ns()),
    };
    if (call->first_byte_at_ns > 0)
        answer.first_byte_ms = ms_between(call->started_at_ns, call->first_byte_at_ns);
    memcpy(answer.content_type, head->content_type, sizeof answer.content_type);
    memcpy(answer.request_id, head->request_id, sizeof answer.request_id);
    if (end != UPSTREAM_ANSWERED)
        (void)snprintf(answer.detail, sizeof answer.detail, "%s", detail);
    call->on_end(&answer, call->arg);
}

void call_end(struct upstream_call *call, enum upstream_end end, int http_status,
              const char *detail)
{
    struct upstream_pool *pool = call->pool;

    CHECK(call->phase != CALL_IDLE);
    CHECK(call->phase != CALL_ENDED);
    if (call->is_aborted) {
        end = UPSTREAM_ABORTED;
        detail = "aborted";
    }
    if (call->multi)
        multi_remove(call);
    resolver_cancel(&call->wait);
    wheel_remove(&pool->wheel, &call->deadline);
    link_remove(&call->ending);
    link_remove(&call->link);
    CHECK(pool->live_count > 0);
    pool->live_count--;
    call->phase = CALL_ENDED;
    call_report(call, end, http_status, detail);
    call_recycle(call);
    if (pool->is_closing && pool->live_count == 0)
        pool_wake(pool);
}

/* With the name known: over to libcurl. */
static int call_go(struct upstream_call *call, const char *addresses)
{
    if (addresses) {
        int status = call_pin(call, addresses);
        if (status < 0)
            return status;
    }
    struct multi *multi = multi_pick(call->pool);
    if (!multi)
        return ERR_BUSY; /* all are being mended */
    call->phase = CALL_CONNECTING;
    return multi_add(multi, call);
}

static void on_resolved(struct resolver_wait *wait, const char *addresses)
{
    struct upstream_call *call = LINK_OWNER(wait, struct upstream_call, wait);
    if (call->is_aborted)
        return; /* ends in this turn */
    if (!addresses)
        call_end(call, UPSTREAM_CONNECT, 0, "the host name was not found");
    else if (call_go(call, addresses) < 0)
        call_end(call, UPSTREAM_CONNECT, 0, "the transfer could not be started");
}

/* Its end comes before the loop waits again. */
static void call_end_soon(struct upstream_call *call)
{
    if (!link_is_in(&call->ending))
        link_add(&call->pool->ending, &call->ending);
    pool_wake(call->pool);
}

static void call_begin(struct upstream_call *call, const struct upstream_request *request)
{
    call->stop = STOP_NONE;
    call->passes = 0;
    call->is_aborted = false;
    call->was_reused = false;
    call->first_byte_timeout_ms = request->first_byte_timeout_ms;
    call->idle_timeout_ms = request->idle_timeout_ms;
    call->first_byte_at_ns = 0;
    call->started_at_ns = clock_mono_ns();
    answer_head_init(&call->head);
}

static int call_launch(struct upstream_call *call)
{
    const char *addresses = NULL;

    if (call->host[0] == '\0')
        return call_go(call, NULL);
    call->phase = CALL_RESOLVING;
    call->wait.on_done = on_resolved;
    int status = resolver_find(call->pool->resolver, call->host, &call->wait, &addresses);
    if (status > 0)
        return call_go(call, addresses);
    if (status == ERR_NOT_FOUND) {
        call_end_soon(call);
        return 0;
    }
    return status;
}

int upstream_call_start(struct upstream_pool *pool, const struct upstream_request *request,
                        upstream_chunk_fn on_chunk, upstream_end_fn on_end, void *arg,
                        struct upstream_call **out)
{
    CHECK(on_end != NULL);
    if (pool->is_closing)
        return ERR_STATE;
    if (pool->live_count >= pool->options.calls_max)
        return ERR_BUSY;
    struct upstream_call *call = call_take(pool);
    if (!call)
        return ERR_NOMEM;
    call->on_chunk = on_chunk;
    call->on_end = on_end;
    call->arg = arg;
    call_begin(call, request);
    int status = call_check_request(request, call);
    if (status == 0)
        status = call_easy_prepare(call, request);
    if (status < 0) {
        call_recycle(call);
        return status;
    }
    int64_t now_ms = call->started_at_ns / 1000000;
    call->total_due_ms = now_ms + request->timeout_ms;
    call_limit_phase(call, request->connect_timeout_ms, now_ms);
    link_add(&pool->live, &call->link);
    pool->live_count++;
    status = call_launch(call);
    if (status < 0) {
        wheel_remove(&pool->wheel, &call->deadline);
        link_remove(&call->link);
        pool->live_count--;
        call_recycle(call);
        return status;
    }
    if (out)
        *out = call;
    return 0;
}

void upstream_call_abort(struct upstream_call *call)
{
    if (call->phase == CALL_IDLE || call->phase == CALL_ENDED || call->is_aborted)
        return;
    call->is_aborted = true;
    call_end_soon(call);
}
