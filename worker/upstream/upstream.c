/* The pool of calls: start, time limits, abort, end, close. */
#include "worker/upstream/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "worker/upstream/upstream_internal.h"

enum { TIDY_MS = 15 * 1000, BODY_KEPT_BYTES = 4096 };

/* --- the pool ------------------------------------------------------------------------------------
 */

static void on_pending(uv_idle_t *idle);
static void on_wheel(uv_timer_t *timer);

static void on_tidy(uv_timer_t *timer)
{
    multi_tidy(timer->data, clock_mono_ms());
}

static int check_library(struct error_text *why)
{
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    if (info->version_num < 0x075800)
        return error_set(why, ERR_UNFIT, "libcurl %s is too old, 7.88 is needed", info->version);
    if (!(info->features & CURL_VERSION_SSL) || !(info->features & CURL_VERSION_ASYNCHDNS))
        return error_set(why, ERR_UNFIT, "libcurl %s lacks TLS or asynchronous names",
                         info->version);
    return 0;
}

static void call_free(struct upstream_call *call)
{
    if (call->easy)
        curl_easy_cleanup(call->easy);
    buf_deinit(&call->body);
    free(call->headers);
    free(call->pin.data);
    free(call);
}

static void pool_free(struct upstream_pool *pool)
{
    while (!link_is_empty(&pool->idle)) {
        struct upstream_call *call = LINK_OWNER(pool->idle.next, struct upstream_call, link);
        link_remove(&call->link);
        call_free(call);
    }
    for (unsigned i = 0; i < pool->multi_count; i++)
        multi_close(&pool->multis[i]);
    if (pool->share)
        (void)curl_share_cleanup(pool->share);
    resolver_destroy(pool->resolver);
    free(pool->sockets);
    free(pool);
    curl_global_cleanup();
}

static void pool_watch(struct upstream_pool *pool)
{
    uv_loop_t *loop = pool->loop;
    for (unsigned i = 0; i < pool->multi_count; i++) {
        CHECK(uv_timer_init(loop, &pool->multis[i].timer) == 0);
        pool->multis[i].timer.data = &pool->multis[i];
    }
    CHECK(uv_timer_init(loop, &pool->wheel_timer) == 0);
    CHECK(uv_timer_init(loop, &pool->tidy_timer) == 0);
    CHECK(uv_idle_init(loop, &pool->pending) == 0);
    pool->wheel_timer.data = pool;
    pool->tidy_timer.data = pool;
    pool->pending.data = pool;
    pool->open_handles = pool->multi_count + 3;
    CHECK(uv_timer_start(&pool->tidy_timer, on_tidy, TIDY_MS, TIDY_MS) == 0);
    uv_unref((uv_handle_t *)&pool->tidy_timer);
}

int upstream_pool_create(const struct upstream_pool_options *options, struct upstream_pool **out,
                         struct error_text *why)
{
    CHECK(options->calls_max > 0);
    CHECK(options->multi_count <= MULTI_COUNT_MAX);
    int status = check_library(why);
    if (status < 0)
        return status;
    struct upstream_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return error_set(why, ERR_NOMEM, "out of memory");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(pool);
        return error_set(why, ERR_NOMEM, "libcurl does not start");
    }
    pool->options = *options;
    pool->loop = options->loop;
    link_open(&pool->live);
    link_open(&pool->idle);
    link_open(&pool->ending);
    wheel_init(&pool->wheel, clock_mono_ms());
    pool->wheel_armed_ms = -1;
    pool->multi_count = options->multi_count;
    if (pool->multi_count == 0)
        pool->multi_count = (options->calls_max + MULTI_CALLS_FIRST - 1) / MULTI_CALLS_FIRST;
    if (pool->multi_count > MULTI_COUNT_MAX)
        pool->multi_count = MULTI_COUNT_MAX;

    pool->share = curl_share_init();
    status = pool->share ? resolver_create(pool->loop, &pool->resolver) : ERR_NOMEM;
    if (status == 0 &&
        curl_share_setopt(pool->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK)
        status = ERR_NOMEM;
    for (unsigned i = 0; i < pool->multi_count && status == 0; i++)
        status = multi_open(&pool->multis[i], pool);
    if (status < 0) {
        pool_free(pool);
        return error_set(why, status, "out of memory");
    }
    pool_watch(pool);
    *out = pool;
    return 0;
}

unsigned upstream_pool_in_flight(const struct upstream_pool *pool)
{
    return pool->live_count;
}

void pool_wake(struct upstream_pool *pool)
{
    if (!pool->is_closed)
        CHECK(uv_idle_start(&pool->pending, on_pending) == 0);
}

static void on_pool_handle_closed(uv_handle_t *handle)
{
    struct upstream_pool *pool = handle->data;
    CHECK(pool->open_handles > 0);
    if (--pool->open_handles > 0)
        return;
    void (*on_closed)(void *arg) = pool->on_closed;
    void *arg = pool->on_closed_arg;
    pool_free(pool);
    on_closed(arg);
}

static void on_multi_timer_closed(uv_handle_t *handle)
{
    struct multi *multi = handle->data;
    handle->data = multi->pool;
    on_pool_handle_closed(handle);
}

/* All calls have ended. First the connections go, whose watchers close, then our own handles. */
static void pool_close_step(struct upstream_pool *pool)
{
    for (unsigned i = 0; i < pool->multi_count; i++)
        multi_close(&pool->multis[i]);
    multi_forget_sockets(pool);
    if (pool->open_handles > pool->multi_count + 3)
        return; /* watchers of sockets are closing; each wakes us */
    pool->is_closed = true;
    for (unsigned i = 0; i < pool->multi_count; i++)
        uv_close((uv_handle_t *)&pool->multis[i].timer, on_multi_timer_closed);
    uv_close((uv_handle_t *)&pool->wheel_timer, on_pool_handle_closed);
    uv_close((uv_handle_t *)&pool->tidy_timer, on_pool_handle_closed);
    uv_close((uv_handle_t *)&pool->pending, on_pool_handle_closed);
}

void upstream_pool_close(struct upstream_pool *pool, void (*on_closed)(void *arg), void *arg)
{
    CHECK(!pool->is_closing);
    pool->is_closing = true;
    pool->on_closed = on_closed;
    pool->on_closed_arg = arg;
    for (struct link *at = pool->live.next; at != &pool->live; at = at->next)
        upstream_call_abort(LINK_OWNER(at, struct upstream_call, link));
    (void)uv_timer_stop(&pool->tidy_timer);
    pool_wake(pool);
}

/* What could not be done where it was found: in a callback of libcurl, or in the caller's. */
static void on_pending(uv_idle_t *idle)
{
    struct upstream_pool *pool = idle->data;
    CHECK(uv_idle_stop(idle) == 0);
    struct link ending;

    link_move_all(&pool->ending, &ending);
    while (!link_is_empty(&ending)) {
        struct upstream_call *call = LINK_OWNER(ending.next, struct upstream_call, ending);
        call_end(call, UPSTREAM_CONNECT, 0, "the host name was not found");
    }
    multi_mend(pool);
    if (pool->is_closing && pool->live_count == 0)
        pool_close_step(pool);
}

/* --- time limits ---------------------------------------------------------------------------------
 */

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

/* --- calls ---------------------------------------------------------------------------------------
 */

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
