/* Multi handles of libcurl on the loop: which one takes a call, their timers, and the watchers of
 * their sockets. Callbacks of libcurl only note what it wants; libcurl is called from the loop
 * alone. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "worker/upstream/upstream_internal.h"

/* --- sockets ------------------------------------------------------------- */

static void on_watcher_closed(uv_handle_t *handle)
{
    struct watched_socket *watched = handle->data;
    struct upstream_pool *pool = watched->multi->pool;
    free(watched);
    pool->open_handles--;
    if (pool->is_closing)
        pool_wake(pool);
}

static void forget_socket(struct upstream_pool *pool, curl_socket_t fd)
{
    if (fd < 0 || (size_t)fd >= pool->sockets_size || !pool->sockets[fd])
        return;
    struct watched_socket *watched = pool->sockets[fd];
    pool->sockets[fd] = NULL;
    uv_close((uv_handle_t *)&watched->poll,
             on_watcher_closed); /* stops it before the descriptor closes */
}

void multi_forget_sockets(struct upstream_pool *pool)
{
    for (size_t fd = 0; fd < pool->sockets_size; fd++)
        forget_socket(pool, (curl_socket_t)fd);
}

curl_socket_t multi_on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct upstream_pool *pool = arg;
    (void)purpose;

    curl_socket_t fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                              address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    forget_socket(pool, fd); /* should libcurl have closed the earlier one behind our back */
    return fd;
}

int multi_on_close_socket(void *arg, curl_socket_t fd)
{
    forget_socket(arg, fd);
    return close(fd);
}

static void multi_drain(struct multi *multi);

static void multi_act(struct multi *multi, curl_socket_t fd, int events)
{
    int running;
    CURLMcode code = curl_multi_socket_action(multi->handle, fd, events, &running);
    if (code != CURLM_OK) {
        multi->is_broken = true;
        pool_wake(multi->pool);
        return;
    }
    multi_drain(multi);
}

static void watch(struct watched_socket *watched);

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
    struct watched_socket *watched = poll->data;
    int flags = 0;

    if (status < 0) {
        watched->watched = 0; /* libuv stopped it; libcurl finds out what is wrong */
        flags = CURL_CSELECT_IN | CURL_CSELECT_OUT | CURL_CSELECT_ERR;
    } else if (watched->wanted != watched->watched) {
        watch(watched); /* a kept connection: nothing is wanted of it, and this event is its end */
    }
    if (watched->wanted == 0)
        return;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    multi_act(watched->multi, watched->fd, flags);
}

static void watch(struct watched_socket *watched)
{
    int status = watched->wanted == 0
                     ? uv_poll_stop(&watched->poll)
                     : uv_poll_start(&watched->poll, watched->wanted, on_socket_event);
    CHECK(status == 0);
    watched->watched = watched->wanted;
}

static int sockets_reserve(struct upstream_pool *pool, size_t size)
{
    if (size <= pool->sockets_size)
        return 0;
    size_t grown = pool->sockets_size < 256 ? 256 : pool->sockets_size;
    while (grown < size)
        grown *= 2;
    struct watched_socket **sockets = calloc(grown, sizeof(struct watched_socket *));
    if (!sockets)
        return ERR_NOMEM;
    if (pool->sockets_size > 0)
        memcpy(sockets, pool->sockets, pool->sockets_size * sizeof(struct watched_socket *));
    free(pool->sockets);
    pool->sockets = sockets;
    pool->sockets_size = grown;
    return 0;
}

static struct watched_socket *socket_open(struct multi *multi, curl_socket_t fd)
{
    struct upstream_pool *pool = multi->pool;
    if (sockets_reserve(pool, (size_t)fd + 1) < 0)
        return NULL;
    struct watched_socket *watched = calloc(1, sizeof *watched);
    if (!watched)
        return NULL;
    if (uv_poll_init(pool->loop, &watched->poll, fd) != 0) {
        free(watched);
        return NULL;
    }
    watched->poll.data = watched;
    watched->multi = multi;
    watched->fd = fd;
    uv_unref((uv_handle_t *)&watched->poll); /* calls in flight have the wheel's timer running */
    pool->open_handles++;
    pool->sockets[fd] = watched;
    return watched;
}

/* Whether the call of the handle got as far as its request; libcurl's own handles have no call. */
static bool has_sent(CURL *easy)
{
    char *owner = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner) != CURLE_OK || !owner)
        return false;
    return ((struct upstream_call *)(void *)owner)->passes > 0;
}

static int on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    struct multi *multi = arg;
    struct upstream_pool *pool = multi->pool;
    (void)unused;

    struct watched_socket *watched =
        fd >= 0 && (size_t)fd < pool->sockets_size ? pool->sockets[fd] : NULL;
    if (what == CURL_POLL_REMOVE) {
        if (watched)
            watched->wanted = 0;
        /* A socket whose connecting fails or is given up is closed without a word to
         * multi_on_close_socket. */
        if (!has_sent(easy))
            forget_socket(pool, fd);
        return 0;
    }
    if (!watched)
        watched = socket_open(multi, fd);
    if (!watched)
        return -1;
    watched->multi = multi;
    watched->wanted =
        (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    if (watched->watched != watched->wanted)
        watch(watched);
    return 0;
}

/* --- timers -------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct multi *multi = timer->data;
    if (multi->handle)
        multi_act(multi, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer_wanted(CURLM *handle, long timeout_ms, void *arg)
{
    struct multi *multi = arg;
    (void)handle;

    if (multi->pool->is_closed)
        return 0;
    if (timeout_ms < 0)
        return uv_timer_stop(&multi->timer);
    return uv_timer_start(&multi->timer, on_timer, (uint64_t)timeout_ms, 0);
}

/* --- multi handles ------------------------------------------------------- */

int multi_open(struct multi *multi, struct upstream_pool *pool)
{
    multi->pool = pool;
    multi->is_broken = false;
    multi->was_used = false;
    multi->handle = curl_multi_init();
    if (!multi->handle)
        return ERR_NOMEM;
    unsigned calls_max = pool->options.calls_max;
    long kept_max = (long)((calls_max + pool->multi_count - 1) / pool->multi_count) + 32;
    if (curl_multi_setopt(multi->handle, CURLMOPT_SOCKETFUNCTION, on_socket_wanted) != CURLM_OK ||
        curl_multi_setopt(multi->handle, CURLMOPT_SOCKETDATA, multi) != CURLM_OK ||
        curl_multi_setopt(multi->handle, CURLMOPT_TIMERFUNCTION, on_timer_wanted) != CURLM_OK ||
        curl_multi_setopt(multi->handle, CURLMOPT_TIMERDATA, multi) != CURLM_OK ||
        curl_multi_setopt(multi->handle, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX) != CURLM_OK ||
        curl_multi_setopt(multi->handle, CURLMOPT_MAXCONNECTS, kept_max) != CURLM_OK) {
        multi_close(multi);
        return ERR_NOMEM;
    }
    return 0;
}

void multi_close(struct multi *multi)
{
    CHECK(multi->running == 0);
    if (!multi->handle)
        return;
    CURLM *handle = multi->handle;
    multi->handle = NULL;
    (void)curl_multi_cleanup(handle);
    (void)uv_timer_stop(&multi->timer);
}

/* The first handle with few calls running, so that light load finds its connections again in the
 * first handles; how many are few grows with the load, which keeps libcurl's search through the
 * busy connections of a handle short. */
struct multi *multi_pick(struct upstream_pool *pool)
{
    unsigned level = MULTI_CALLS_FIRST;
    while (pool->running_count >= level * pool->multi_count)
        level *= 2;
    for (unsigned i = 0; i < pool->multi_count; i++) {
        if (pool->multis[i].running < level && pool->multis[i].handle && !pool->multis[i].is_broken)
            return &pool->multis[i];
    }
    return NULL;
}

int multi_add(struct multi *multi, struct upstream_call *call)
{
    if (curl_multi_add_handle(multi->handle, call->easy) != CURLM_OK)
        return ERR_NOMEM;
    call->multi = multi;
    multi->running++;
    multi->was_used = true;
    multi->used_at_mono_ms = clock_mono_ms();
    call->pool->running_count++;
    return 0;
}

void multi_remove(struct upstream_call *call)
{
    struct multi *multi = call->multi;
    CHECK(multi->running > 0);
    if (curl_multi_remove_handle(multi->handle, call->easy) != CURLM_OK) {
        multi->is_broken = true;
        pool_wake(multi->pool);
    }
    multi->running--;
    call->pool->running_count--;
    call->multi = NULL;
}

/* Takes every message of libcurl; each ends a call, whose on_end may start new ones. */
static void multi_drain(struct multi *multi)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(multi->handle, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        char *owner = NULL;
        CURLcode result = message->data.result;
        CHECK(curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner) == CURLE_OK);
        CHECK(owner != NULL);
        call_finish((struct upstream_call *)(void *)owner, result);
    }
}

void multi_mend(struct upstream_pool *pool)
{
    for (unsigned i = 0; i < pool->multi_count; i++) {
        struct multi *multi = &pool->multis[i];
        if (!multi->is_broken && multi->handle)
            continue;
        struct link *at = pool->live.next;
        while (multi->running > 0) {
            struct upstream_call *call = LINK_OWNER(at, struct upstream_call, link);
            at = at->next;
            if (call->multi != multi)
                continue;
            enum upstream_end end = call->passes == 0 ? UPSTREAM_CONNECT : UPSTREAM_BROKEN;
            call_end(call, end, 0, "the transfer was given up after an internal error");
            at = pool->live.next; /* on_end may have changed the list */
        }
        multi_close(multi);
        if (multi_open(multi, pool) < 0)
            multi->handle = NULL; /* tried again at the next tidying */
    }
}

void multi_tidy(struct upstream_pool *pool, int64_t now_mono_ms)
{
    for (unsigned i = 0; i < pool->multi_count; i++) {
        struct multi *multi = &pool->multis[i];
        bool is_stale = multi->handle && multi->was_used && multi->running == 0 &&
                        now_mono_ms - multi->used_at_mono_ms >= MULTI_IDLE_MS;
        if (is_stale || !multi->handle)
            multi->is_broken = true; /* opened anew, with no connections */
    }
    multi_mend(pool);
}
