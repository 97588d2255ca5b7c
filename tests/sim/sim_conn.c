#include "sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPT_BUDGET = 256, FREE_COUNT_MAX = 4096 };

static void set_state(struct conn *conn, enum conn_state state)
{
    SIM_CHECK(conn->state != CONN_CLOSED);
    conn->state = state;
}

/* A request is complete and its answer is not out yet. */
static bool is_answering(const struct conn *conn)
{
    switch (conn->state) {
    case CONN_WAITING:
    case CONN_DELAYED:
    case CONN_SILENT:
    case CONN_SENDING:
        return true;
    case CONN_READING:
    case CONN_LINGERING:
    case CONN_CLOSED:
        break;
    }
    return false;
}

void conn_set_events(struct conn *conn, uint32_t events)
{
    struct epoll_event event = {.events = events | EPOLLRDHUP, .data.ptr = &conn->watch};

    if (conn->events == events)
        return;
    conn->events = events;
    SIM_CHECK(epoll_ctl(conn->sim->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) == 0);
}

static void pause_accepting(struct sim *sim, bool is_paused)
{
    if (sim->is_accept_paused == is_paused)
        return;
    sim->is_accept_paused = is_paused;
    for (size_t i = 0; i < sim->listener_count; i++) {
        struct epoll_event event = {.events = is_paused ? 0 : EPOLLIN,
                                    .data.ptr = &sim->listeners[i].watch};
        SIM_CHECK(epoll_ctl(sim->epoll_fd, EPOLL_CTL_MOD, sim->listeners[i].fd, &event) == 0);
    }
}

static struct conn *take_free(struct sim *sim)
{
    struct conn *conn = sim->free_conns;

    if (conn == NULL)
        return calloc(1, sizeof(*conn));
    sim->free_conns = conn->next;
    sim->free_count--;
    return conn;
}

static void conn_open(struct sim *sim, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
    struct conn *conn = take_free(sim);
    int on = 1;

    SIM_CHECK(conn != NULL);
    struct text_buf in = conn->in;
    struct text_buf out = conn->out;
    memset(conn, 0, sizeof(*conn));
    *conn = (struct conn){.watch = {WATCH_CONN}, .fd = fd, .sim = sim, .in = in, .out = out};
    conn->events = EPOLLIN;
    conn->timer.owner = conn;
    conn->active_mono_ms = sim->now_mono_ms;
    conn->next = sim->open_conns;
    if (conn->next != NULL)
        conn->next->previous = conn;
    sim->open_conns = conn;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    event.data.ptr = &conn->watch;
    SIM_CHECK(epoll_ctl(sim->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
    sim->stats.connections_open++;
    sim->stats.connections_total++;
}

void conn_accept_all(struct sim *sim, struct listener *listener)
{
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            conn_open(sim, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(sim, true);
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void leave_wait_list(struct conn *conn)
{
    struct sim *sim = conn->sim;

    if (conn->wait_previous != NULL)
        conn->wait_previous->wait_next = conn->wait_next;
    else
        sim->wait_first = conn->wait_next;
    if (conn->wait_next != NULL)
        conn->wait_next->wait_previous = conn->wait_previous;
    else
        sim->wait_last = conn->wait_previous;
    conn->wait_next = NULL;
    conn->wait_previous = NULL;
    sim->stats.waiting--;
}

static void end_exchange(struct conn *conn, enum ending ending)
{
    struct sim *sim = conn->sim;
    struct exchange *exchange = &conn->exchange;

    timer_stop(&sim->timers, &conn->timer);
    if (conn->state == CONN_WAITING)
        leave_wait_list(conn);
    if (!exchange->is_generation)
        return;
    sim->stats.in_flight--;
    if (exchange->is_executing)
        sim->executing--;
    if (ending == ENDING_CANCELLED)
        sim->stats.cancelled++;
    if (ending == ENDING_CUT)
        sim->stats.dropped++;
    ledger_add(&sim->ledger, sim->now_wall_ms,
               (struct slice){exchange->nonce, exchange->nonce_size}, exchange->endpoint,
               (struct slice){exchange->model, exchange->model_size},
               exchange->is_begun ? exchange->status : 0, ending);
    exchange->is_generation = false;
}

void conn_close(struct conn *conn, enum ending ending)
{
    struct sim *sim = conn->sim;

    if (conn->state == CONN_CLOSED)
        return;
    if (is_answering(conn))
        end_exchange(conn, ending);
    timer_stop(&sim->timers, &conn->timer);
    if (close(conn->fd) == 0)
        pause_accepting(sim, false);
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        sim->open_conns = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    conn->previous = NULL;
    conn->next = sim->dead_conns;
    sim->dead_conns = conn;
    sim->stats.connections_open--;
    set_state(conn, CONN_CLOSED);
}

/* Events of this turn may still name a closed connection, so memory is given back only now. */
void conn_free_dead(struct sim *sim)
{
    while (sim->dead_conns != NULL) {
        struct conn *conn = sim->dead_conns;
        sim->dead_conns = conn->next;
        if (sim->free_count == FREE_COUNT_MAX) {
            buf_deinit(&conn->in);
            buf_deinit(&conn->out);
            free(conn);
            continue;
        }
        buf_reset(&conn->in, KEEP_BYTES);
        buf_reset(&conn->out, KEEP_BYTES);
        conn->next = sim->free_conns;
        sim->free_conns = conn;
        sim->free_count++;
    }
}

static void start_linger(struct conn *conn)
{
    (void)shutdown(conn->fd, SHUT_WR);
    set_state(conn, CONN_LINGERING);
    conn_set_events(conn, EPOLLIN);
    conn->in.size = 0;
    timer_set(&conn->sim->timers, &conn->timer, conn->sim->now_mono_ms + LINGER_MS);
}

static void reset_and_close(struct conn *conn, enum ending ending)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    conn_close(conn, ending);
}

/* All bytes that were meant to go are gone. */
static void finish_answer(struct conn *conn)
{
    enum finish finish = conn->exchange.finish;
    enum ending ending = conn->exchange.is_cut ? ENDING_CUT : ENDING_COMPLETE;

    switch (finish) {
    case FINISH_KEEP:
        end_exchange(conn, ending);
        buf_reset(&conn->out, KEEP_BYTES);
        set_state(conn, CONN_READING);
        conn_set_events(conn, EPOLLIN);
        break;
    case FINISH_LINGER:
        end_exchange(conn, ending);
        start_linger(conn);
        break;
    case FINISH_CLOSE:
        conn_close(conn, ending);
        break;
    case FINISH_RESET:
        reset_and_close(conn, ending);
        break;
    }
}

/* Send on, and arrange for what comes next. */
static void advance(struct conn *conn)
{
    struct sim *sim = conn->sim;

    SIM_CHECK(conn->state == CONN_SENDING);
    switch (send_pump(conn)) {
    case SEND_DONE:
        finish_answer(conn);
        break;
    case SEND_BLOCKED:
        conn_set_events(conn, EPOLLIN | EPOLLOUT);
        break;
    case SEND_HELD:
        conn_set_events(conn, EPOLLIN);
        if (!timer_is_on(&conn->timer))
            timer_set(&sim->timers, &conn->timer,
                      sim->now_mono_ms +
                          (conn->exchange.drip_bytes > 0 ? TICK_MS : conn->exchange.token_ms));
        break;
    case SEND_FAILED:
        conn_close(conn, ENDING_CANCELLED);
        break;
    }
}

static void begin_sending(struct conn *conn)
{
    set_state(conn, CONN_SENDING);
    conn->active_mono_ms = conn->sim->now_mono_ms;
    advance(conn);
}

/* The request has its place: let its delay begin. */
static void begin_execution(struct conn *conn)
{
    struct exchange *exchange = &conn->exchange;

    if (exchange->is_silent) {
        set_state(conn, CONN_SILENT);
        timer_set(&conn->sim->timers, &conn->timer, conn->sim->now_mono_ms + NEVER_MS);
    } else if (exchange->delay_ms > 0) {
        set_state(conn, CONN_DELAYED);
        timer_set(&conn->sim->timers, &conn->timer, conn->sim->now_mono_ms + exchange->delay_ms);
    } else {
        begin_sending(conn);
    }
}

void conn_start_answer(struct conn *conn)
{
    struct sim *sim = conn->sim;
    int64_t limit = sim->settings.max_concurrency;

    SIM_CHECK(conn->state == CONN_READING);
    if (conn->exchange.is_executing && limit > 0 && sim->executing >= limit) {
        /* Only a queueing run comes here; others were refused before. */
        conn->exchange.is_executing = false;
        set_state(conn, CONN_WAITING);
        conn->wait_previous = sim->wait_last;
        if (sim->wait_last != NULL)
            sim->wait_last->wait_next = conn;
        else
            sim->wait_first = conn;
        sim->wait_last = conn;
        sim->stats.waiting++;
        return;
    }
    sim->executing += conn->exchange.is_executing;
    begin_execution(conn);
}

void conn_admit_waiting(struct sim *sim)
{
    int64_t limit = sim->settings.max_concurrency;

    while (sim->wait_first != NULL && (limit == 0 || sim->executing < limit)) {
        struct conn *conn = sim->wait_first;
        leave_wait_list(conn);
        conn->exchange.is_executing = true;
        sim->executing++;
        begin_execution(conn);
    }
}

/* Find out how many bytes the request has. 1: all are there; 0: more are needed; -1: refused. */
static int frame_request(struct conn *conn, char *data, size_t size, struct http_request *request)
{
    const char *why = "";
    size_t head_size = http_find_head(data, size, conn->looked_at);

    if (head_size == 0 || head_size > HTTP_HEAD_BYTES_MAX) {
        conn->looked_at = size;
        if (head_size == 0 && size <= HTTP_HEAD_BYTES_MAX)
            return 0;
        route_refuse(conn, 431, "The head of the request is too large.");
        return -1;
    }
    int status = http_parse_head(data, head_size, request, &why);
    if (status == 0 && request->content_length > HTTP_BODY_BYTES_MAX) {
        status = 413;
        why = "The body of the request is too large.";
    }
    if (status != 0) {
        route_refuse(conn, status, why);
        return -1;
    }
    conn->need_size = head_size + (size_t)request->content_length;
    conn->is_chunked = request->is_chunked;
    if (request->is_chunked)
        conn->chunks = (struct http_chunks){
            .raw_at = head_size, .body_start = head_size, .body_end = head_size};
    if (request->expects_continue && (request->is_chunked || size < conn->need_size)) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        ssize_t sent = send(conn->fd, go_on, sizeof(go_on) - 1, MSG_NOSIGNAL);
        if (sent > 0)
            conn->sim->stats.bytes_out += sent;
    }
    if (request->is_chunked || size < conn->need_size)
        return 0;
    request->body = (struct slice){data + head_size, (size_t)request->content_length};
    return 1;
}

/* A request whose body is complete at last: its head is read again, since bytes have moved. */
static void route_late(struct conn *conn, char *data, size_t body_size)
{
    struct http_request request;
    const char *why = "";
    size_t head_size = http_find_head(data, conn->need_size, 0);
    int status = http_parse_head(data, head_size, &request, &why);

    SIM_CHECK(status == 0);
    request.body = (struct slice){data + head_size, body_size};
    conn->need_size = 0;
    conn->looked_at = 0;
    route_request(conn, &request);
}

/* Take one request from the start of the bytes. 1: taken, out_used bytes; 0: more are needed;
 * -1: refused. */
static int take_request(struct conn *conn, char *data, size_t size, size_t *out_used)
{
    struct http_request request;

    if (conn->need_size == 0) {
        int framed = frame_request(conn, data, size, &request);
        if (framed < 0)
            return -1;
        if (framed == 1) {
            *out_used = conn->need_size;
            conn->need_size = 0;
            conn->looked_at = 0;
            route_request(conn, &request);
            return 1;
        }
        if (conn->need_size == 0)
            return 0;
    }
    if (conn->is_chunked) {
        struct http_chunks *chunks = &conn->chunks;
        int fed = http_chunks_feed(chunks, data, size, HTTP_BODY_BYTES_MAX);
        if (fed < 0) {
            route_refuse(conn, -fed, "The chunked body is malformed or too large.");
            return -1;
        }
        if (fed == 0)
            return 0;
        *out_used = chunks->raw_at;
        route_late(conn, data, chunks->body_end - chunks->body_start);
        return 1;
    }
    if (size < conn->need_size)
        return 0;
    *out_used = conn->need_size;
    route_late(conn, data, conn->need_size - http_find_head(data, conn->need_size, 0));
    return 1;
}

/* Answer the requests at the start of the bytes; returns how many bytes they took. */
static size_t process(struct conn *conn, char *data, size_t size)
{
    size_t used = 0;

    while (conn->state == CONN_READING && used < size) {
        size_t taken = 0;
        if (take_request(conn, data + used, size - used, &taken) != 1)
            break;
        used += taken;
    }
    return used;
}

/* Requests that were read while another one was being answered. */
static void process_buffered(struct conn *conn)
{
    if (conn->state != CONN_READING || conn->in.size == 0)
        return;
    size_t used = process(conn, conn->in.data, conn->in.size);
    if (conn->state == CONN_CLOSED || conn->state == CONN_LINGERING)
        return;
    buf_consume(&conn->in, used);
    /* Decoded chunks leave a gap behind them: close it, or tiny chunks would fill the memory. */
    struct http_chunks *chunks = &conn->chunks;
    if (conn->need_size > 0 && conn->is_chunked && chunks->raw_at == conn->in.size) {
        conn->in.size = chunks->body_end;
        chunks->raw_at = chunks->body_end;
    }
    if (conn->in.size == 0)
        buf_reset(&conn->in, KEEP_BYTES);
}

/* Bytes that arrived in the shared scratch: most of the time they are exactly one request. */
static void process_fresh(struct conn *conn, size_t size)
{
    struct sim *sim = conn->sim;
    size_t used = process(conn, sim->scratch, size);

    if (conn->state == CONN_CLOSED || conn->state == CONN_LINGERING || used == size)
        return;
    size_t left = size - used;
    if (conn->need_size > left && !conn->is_chunked)
        (void)buf_reserve(&conn->in, conn->need_size);
    put_bytes(&conn->in, sim->scratch + used, left);
    SIM_CHECK(!conn->in.is_overflowed);
    /* What chunk decoding squeezed out of the scratch is squeezed out of the copy as well. */
    struct http_chunks *chunks = &conn->chunks;
    if (conn->need_size > 0 && conn->is_chunked && chunks->raw_at == conn->in.size) {
        conn->in.size = chunks->body_end;
        chunks->raw_at = chunks->body_end;
    }
}

static void drain(struct conn *conn)
{
    ssize_t size = recv(conn->fd, conn->sim->scratch, SCRATCH_BYTES, 0);

    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR))
        conn_close(conn, ENDING_COMPLETE);
}

static void read_more(struct conn *conn)
{
    struct sim *sim = conn->sim;
    bool is_fresh = conn->in.size == 0 && conn->state == CONN_READING;
    char *at = sim->scratch;

    if (!is_fresh) {
        if (is_answering(conn) && conn->in.size >= PIPELINE_BYTES_MAX) {
            conn_set_events(conn, conn->events & ~(uint32_t)EPOLLIN);
            return;
        }
        SIM_CHECK(buf_reserve(&conn->in, KEEP_BYTES));
        at = conn->in.data + conn->in.size;
    }
    size_t room = is_fresh ? SCRATCH_BYTES : conn->in.capacity - conn->in.size;
    ssize_t size = recv(conn->fd, at, room, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        conn_close(conn, ENDING_CANCELLED);
        return;
    }
    sim->stats.bytes_in += size;
    conn->active_mono_ms = sim->now_mono_ms;
    if (is_fresh) {
        process_fresh(conn, (size_t)size);
    } else {
        conn->in.size += (size_t)size;
        process_buffered(conn);
    }
}

void conn_on_event(struct conn *conn, uint32_t events)
{
    if (conn->state == CONN_CLOSED)
        return;
    if (conn->state == CONN_LINGERING) {
        drain(conn);
        return;
    }
    if (events & EPOLLIN)
        read_more(conn);
    /* A client that closes, even only its own direction, wants no answer any more. */
    if ((events & (EPOLLERR | EPOLLHUP)) || ((events & EPOLLRDHUP) && is_answering(conn))) {
        conn_close(conn, ENDING_CANCELLED);
        return;
    }
    if ((events & EPOLLOUT) && conn->state == CONN_SENDING) {
        advance(conn);
        process_buffered(conn);
    }
}

void conn_on_timer(struct conn *conn)
{
    switch (conn->state) {
    case CONN_DELAYED:
        begin_sending(conn);
        break;
    case CONN_SENDING:
        conn->active_mono_ms = conn->sim->now_mono_ms;
        send_release(conn);
        advance(conn);
        break;
    case CONN_SILENT:
    case CONN_LINGERING:
        conn_close(conn, ENDING_CUT);
        break;
    case CONN_READING:
    case CONN_WAITING:
    case CONN_CLOSED:
        break;
    }
    process_buffered(conn);
}

void conn_sweep(struct sim *sim)
{
    struct conn *next;

    for (struct conn *conn = sim->open_conns; conn != NULL; conn = next) {
        next = conn->next;
        bool can_idle = conn->state == CONN_READING || conn->state == CONN_SENDING;
        if (can_idle && sim->now_mono_ms - conn->active_mono_ms > sim->idle_timeout_ms)
            conn_close(conn, ENDING_CUT);
    }
}
