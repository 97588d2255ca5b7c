/* The pool itself: making, waking and closing it. Calls are upstream.c's. */
#include <stdlib.h>

#include "common/base/clock.h"
#include "worker/upstream/upstream_internal.h"

enum { TIDY_MS = 15 * 1000 };

static void on_pending(uv_idle_t *idle);

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
