#include "sim.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

enum {
    INLINE_PADDING_BYTES_MAX = 64 * 1024, /* more is never in memory as a whole */
    MISSING_BYTES = 64                    /* what short_length promises too much */
};

/* RFC 9110's form, made once per second. */
static void refresh_date(struct sim *sim)
{
    int64_t now_s = sim->now_wall_ms / 1000;
    time_t seconds = (time_t)now_s;
    struct tm parts;

    if (now_s == sim->date_s)
        return;
    sim->date_s = now_s;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(sim->date, sizeof(sim->date), "%a, %d %b %Y %H:%M:%S GMT", &parts) == 0)
        sim->date[0] = '\0';
}

/* Pad the body as asked; returns the bytes of padding that are too many to be stored, and
 * where in the body they belong. */
static uint64_t pad_body(struct text_buf *body, size_t pad_at, uint64_t wanted,
                         uint64_t *out_fill_at)
{
    static const char opening[] = ",\"padding\":\"";

    *out_fill_at = 0;
    if (body->size < 2 || wanted <= body->size)
        return 0;
    if (pad_at == 0) {
        if (wanted < body->size + sizeof(opening))
            return 0;
        SIM_CHECK(body->data[body->size - 1] == '}');
        body->size--;
        PUT(body, ",\"padding\":\"");
        pad_at = body->size;
        PUT(body, "\"}");
    }
    uint64_t padding = wanted - body->size;
    if (padding > INLINE_PADDING_BYTES_MAX) {
        *out_fill_at = pad_at;
        return padding;
    }
    if (!buf_reserve(body, padding))
        return 0;
    memmove(body->data + pad_at + padding, body->data + pad_at, body->size - pad_at);
    memset(body->data + pad_at, 'x', padding);
    body->size += padding;
    return 0;
}

static void put_head(struct conn *conn, const struct answer *answer, uint64_t body_size,
                     bool has_frames, const struct behaviour *behaviour)
{
    struct sim *sim = conn->sim;
    struct text_buf *out = &conn->out;

    refresh_date(sim);
    put_text(out, answer->is_http10 ? "HTTP/1.0 " : "HTTP/1.1 ");
    put_i64(out, answer->status);
    PUT(out, " ");
    put_text(out, http_reason(answer->status));
    PUT(out, "\r\nserver: penstock-sim\r\ndate: ");
    put_text(out, sim->date);
    PUT(out, "\r\nx-request-id: req_");
    put_hex(out, answer->id, 16);
    if (conn->exchange.endpoint == ENDPOINT_MESSAGES ||
        conn->exchange.endpoint == ENDPOINT_COUNT_TOKENS) {
        PUT(out, "\r\nrequest-id: req_");
        put_hex(out, answer->id, 16);
    }
    PUT(out, "\r\ncontent-type: ");
    put_text(out, answer->content_type);
    if (has_frames) {
        PUT(out, "\r\ntransfer-encoding: chunked");
    } else if (!answer->is_stream) {
        PUT(out, "\r\ncontent-length: ");
        put_u64(out, body_size + (behaviour->short_length ? MISSING_BYTES : 0));
    }
    if (!answer->is_keep_alive)
        PUT(out, "\r\nconnection: close");
    else if (answer->is_http10)
        PUT(out, "\r\nconnection: keep-alive");
    PUT(out, "\r\n");
    put_slice(out, (struct slice){sim->headers.data, sim->headers.size});
    PUT(out, "\r\n");
}

static void put_chunk(struct text_buf *out, const char *data, size_t size)
{
    int digits = 1;

    while (digits < 16 && size >> (4 * digits) != 0)
        digits++;
    put_hex(out, size, digits);
    PUT(out, "\r\n");
    put_bytes(out, data, size);
    PUT(out, "\r\n");
}

/* One event a chunk, so that a client that flushes by chunk sees whole events. */
static void put_stream_chunks(struct text_buf *out, const struct text_buf *body)
{
    const char *at = body->data;
    const char *end = body->data + body->size;

    while (at < end) {
        const char *stop = memmem(at, (size_t)(end - at), "\n\n", 2);
        stop = stop == NULL ? end : stop + 2;
        put_chunk(out, at, (size_t)(stop - at));
        at = stop;
    }
}

/* The body in three chunks, or, around padding that is not stored, in as many. */
static void put_body_chunks(struct exchange *exchange, struct text_buf *out,
                            const struct text_buf *body, uint64_t fill_at)
{
    if (exchange->fill_size == 0) {
        size_t third = body->size / 3;
        if (third > 0) {
            put_chunk(out, body->data, third);
            put_chunk(out, body->data + third, third);
        }
        put_chunk(out, body->data + 2 * third, body->size - 2 * third);
        return;
    }
    int digits = 1;
    while (digits < 16 && exchange->fill_size >> (4 * digits) != 0)
        digits++;
    put_chunk(out, body->data, fill_at);
    put_hex(out, exchange->fill_size, digits);
    PUT(out, "\r\n");
    exchange->fill_at = out->size;
    PUT(out, "\r\n");
    put_chunk(out, body->data + fill_at, body->size - fill_at);
}

static void put_framed_body(struct conn *conn, const struct answer *answer, uint64_t fill_at,
                            bool has_frames)
{
    struct exchange *exchange = &conn->exchange;
    const struct text_buf *body = &conn->sim->body;
    struct text_buf *out = &conn->out;

    if (!has_frames) {
        exchange->fill_at = out->size + fill_at;
        put_bytes(out, body->data, body->size);
        return;
    }
    if (answer->is_stream)
        put_stream_chunks(out, body);
    else
        put_body_chunks(exchange, out, body, fill_at);
    PUT(out, "0\r\n\r\n");
}

/* End of the first event behind `from`, with the end of its chunk; else the end of all. */
static uint64_t next_event(const struct text_buf *out, uint64_t from)
{
    if (from >= out->size)
        return UINT64_MAX;
    const char *found = memmem(out->data + from, out->size - from, "\n\n", 2);
    if (found == NULL)
        return UINT64_MAX;
    uint64_t stop = (uint64_t)(found - out->data) + 2;
    if (out->size - stop >= 2 && memcmp(out->data + stop, "\r\n", 2) == 0)
        stop += 2;
    return stop;
}

/* Where the answer is cut and how fast it goes. */
static void plan(struct conn *conn, const struct answer *answer, const struct behaviour *behaviour)
{
    struct exchange *exchange = &conn->exchange;
    uint64_t total = conn->out.size + exchange->fill_size;
    uint64_t body_size = total - exchange->head_size;

    exchange->sent = 0;
    exchange->cut_at = total;
    exchange->finish = answer->is_keep_alive ? FINISH_KEEP : FINISH_LINGER;
    if (behaviour->close_idle || behaviour->short_length)
        exchange->finish = FINISH_CLOSE;
    if (behaviour->drop != DROP_NONE) {
        exchange->finish = behaviour->drop == DROP_RESET ? FINISH_RESET : FINISH_CLOSE;
        exchange->cut_at = behaviour->drop == DROP_MID_BODY ? exchange->head_size + body_size / 2
                           : behaviour->drop == DROP_AFTER_HEADERS ? exchange->head_size
                                                                   : 0;
    }
    exchange->is_cut =
        behaviour->drop != DROP_NONE || behaviour->short_length || behaviour->garbage;
    exchange->drip_bytes = behaviour->drip_bytes;
    exchange->token_ms = answer->is_stream ? behaviour->token_ms : 0;
    exchange->release_at = UINT64_MAX;
    if (exchange->drip_bytes > 0)
        exchange->release_at = exchange->head_size + (uint64_t)exchange->drip_bytes;
    else if (exchange->token_ms > 0)
        exchange->release_at = next_event(&conn->out, exchange->head_size);
}

static void compose_garbage(struct conn *conn)
{
    static const unsigned char garbage[] = {0x16, 0x03, 0x01, 0x00, 0xff, 0xfe, '<', 'p',
                                            'e',  'n',  's',  't',  'o',  'c',  'k', '?',
                                            0x00, 0x80, '\r', '\n', '\r', '\n'};

    put_bytes(&conn->out, (const char *)garbage, sizeof(garbage));
    conn->exchange.head_size = conn->out.size;
    conn->exchange.finish = FINISH_CLOSE;
}

/* Bytes that are no text, for bodies whose renderer has no text to put them into. */
static void spoil_text(struct text_buf *body)
{
    static const char noise[] = "\"noise\":\"\xff\xfe\",";
    size_t size = sizeof(noise) - 1;

    if (body->size < 2 || body->data[0] != '{' || !buf_reserve(body, size))
        return;
    memmove(body->data + 1 + size, body->data + 1, body->size - 1);
    memcpy(body->data + 1, noise, size);
    body->size += size;
}

void send_compose(struct conn *conn, const struct answer *answer, const struct behaviour *behaviour)
{
    struct exchange *exchange = &conn->exchange;
    struct text_buf *body = &conn->sim->body;
    uint64_t fill_at = 0;

    conn->out.size = 0;
    exchange->fill_size = 0;
    exchange->status = answer->status;
    bool has_body = answer->status != 204 && answer->status != 304;
    if (!has_body)
        body->size = 0;
    if (!answer->is_stream) {
        size_t pad_at = answer->pad_at;
        if (behaviour->bad_utf8 && pad_at == 0)
            spoil_text(body);
        if (behaviour->body_bytes > 0)
            exchange->fill_size = pad_body(body, pad_at, (uint64_t)behaviour->body_bytes, &fill_at);
        if (behaviour->bad_json && body->size > 0)
            body->data[body->size - 1] = ',';
    }
    bool has_frames = has_body && !answer->is_http10 && (answer->is_stream || answer->is_chunked);
    if (behaviour->garbage) {
        exchange->fill_size = 0;
        compose_garbage(conn);
    } else {
        put_head(conn, answer, body->size + exchange->fill_size, has_frames, behaviour);
        exchange->head_size = conn->out.size;
        if (!answer->is_head)
            put_framed_body(conn, answer, fill_at, has_frames);
        else
            exchange->fill_size = 0;
    }
    plan(conn, answer, behaviour);
    if (behaviour->garbage)
        exchange->finish = FINISH_CLOSE;
}

/* The next piece in memory at position `sent`, at most up to `limit`. */
static struct slice next_piece(const struct conn *conn, uint64_t limit)
{
    const struct exchange *exchange = &conn->exchange;
    uint64_t sent = exchange->sent;
    uint64_t fill_end = exchange->fill_at + exchange->fill_size;
    struct slice piece;

    if (exchange->fill_size > 0 && sent >= exchange->fill_at && sent < fill_end) {
        piece = (struct slice){conn->sim->filler, FILLER_BYTES};
        limit = limit < fill_end ? limit : fill_end;
    } else if (exchange->fill_size > 0 && sent >= fill_end) {
        size_t at = (size_t)(sent - exchange->fill_size);
        piece = (struct slice){conn->out.data + at, conn->out.size - at};
    } else {
        uint64_t end = exchange->fill_size > 0 ? exchange->fill_at : conn->out.size;
        piece = (struct slice){conn->out.data + sent, (size_t)(end - sent)};
    }
    if (piece.size > limit - sent)
        piece.size = (size_t)(limit - sent);
    return piece;
}

enum send_progress send_pump(struct conn *conn)
{
    struct exchange *exchange = &conn->exchange;
    struct sim *sim = conn->sim;
    int budget = 64; /* pieces per turn: a huge answer must not starve the others */

    for (;;) {
        uint64_t limit =
            exchange->cut_at < exchange->release_at ? exchange->cut_at : exchange->release_at;
        if (exchange->sent == exchange->cut_at)
            return SEND_DONE;
        if (exchange->sent == limit)
            return SEND_HELD;
        if (budget-- == 0)
            return SEND_BLOCKED;
        struct slice piece = next_piece(conn, limit);
        ssize_t size = send(conn->fd, piece.data, piece.size, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno == EAGAIN ? SEND_BLOCKED : SEND_FAILED;
        if (!exchange->is_begun) {
            exchange->is_begun = true;
            if (exchange->is_generation) {
                sim->stats.first_byte_at_ms = sim->now_wall_ms;
                sim->stats.by_status[exchange->status]++;
            }
        }
        exchange->sent += (uint64_t)size;
        sim->stats.bytes_out += size;
        conn->active_mono_ms = sim->now_mono_ms;
    }
}

void send_release(struct conn *conn)
{
    struct exchange *exchange = &conn->exchange;

    if (exchange->drip_bytes > 0)
        exchange->release_at += (uint64_t)exchange->drip_bytes;
    else if (exchange->token_ms > 0)
        exchange->release_at = next_event(&conn->out, exchange->release_at);
}
