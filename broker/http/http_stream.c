/* Answers of unknown length: what is written waits in the request's buffer until libmicrohttpd asks
 * for it; asked while there is nothing, the connection is suspended until the next write. */
#include "broker/http/http_server.h"

#include <string.h>

#include "broker/http/http_internal.h"

enum { STREAM_STEP_BYTES = 8 * 1024 };

static ssize_t on_read(void *arg, uint64_t position, char *out, size_t size_max)
{
    struct http_request *request = arg;
    size_t size = request->reply.size - request->stream_taken;

    (void)position;
    /* The socket is shut down, so no end is sent: libmicrohttpd fails to, and closes. Told of an
     * error here, some versions forget to. */
    if (request->is_dead)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (size == 0) {
        if (request->stream_ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        http_connection_suspend(request->connection);
        return 0;
    }
    if (size > size_max)
        size = size_max;
    memcpy(out, request->reply.data + request->stream_taken, size);
    request->stream_taken += size;
    if (request->stream_taken == request->reply.size) {
        buf_clear(&request->reply);
        request->stream_taken = 0;
    }
    return (ssize_t)size;
}

void http_stream_start(struct http_request *request, const struct http_reply *head)
{
    CHECK(!request->is_answered);
    CHECK(request->is_dead || request->phase == HTTP_COMPLETE);
    request->is_stream = true;
    if (request->is_dead) {
        request->is_answered = true;
        return;
    }
    request->reply.size_max = 2 * HTTP_STREAM_BYTES;
    http_stream_offer(request,
                      MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_STEP_BYTES,
                                                        on_read, request, NULL),
                      head);
}

/* Only a connection suspended by on_read has something to gain; before that the head is still on
 * its way. */
static void wake(struct http_request *request)
{
    if (request->phase == HTTP_QUEUED)
        http_connection_resume(request->connection);
}

int http_stream_write(struct http_request *request, const void *bytes, size_t size)
{
    CHECK(request->is_stream);
    CHECK(!request->stream_ended);
    if (request->is_dead)
        return 0; /* on_gone is on its way */
    size_t waiting = request->reply.size - request->stream_taken;
    if (size > HTTP_STREAM_BYTES - waiting)
        return ERR_FULL;
    if (request->stream_taken > HTTP_STREAM_BYTES / 2) {
        buf_consume(&request->reply, request->stream_taken);
        request->stream_taken = 0;
    }
    int status = buf_append(&request->reply, bytes, size);
    if (status == 0 && size > 0)
        wake(request);
    return status == ERR_TOO_BIG ? ERR_FULL : status;
}

void http_stream_end(struct http_request *request)
{
    CHECK(request->is_stream);
    if (request->stream_ended)
        return;
    request->stream_ended = true;
    if (!request->is_dead)
        wake(request);
}
