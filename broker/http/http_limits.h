/* Every number that bounds a connection or a request, with its unit and its reason. */
#ifndef PENSTOCK_HTTP_HTTP_LIMITS_H
#define PENSTOCK_HTTP_HTTP_LIMITS_H

enum {
    HTTP_POOL_BYTES = 20 * 1024,      /* of libmicrohttpd per connection: both heads */
    HTTP_DISCARD_BYTES = 64 * 1024,   /* of a body nobody wants, before we cut */
    HTTP_STREAM_BYTES = 256 * 1024,   /* of a stream waiting for a slow reader */
    HTTP_REPLY_BYTES = 64 * 1024,     /* of an answer that does not count */
    HTTP_BODY_STEP_BYTES = 64 * 1024, /* first piece of memory of a large body */
    HTTP_BODY_KEEP_BYTES = 16 * 1024, /* memory a pooled request keeps */
    HTTP_REQUESTS_PER_CONNECTION = 1000,
    HTTP_POOLED_MAX = 256, /* requests, and connections, on the free lists */
    HTTP_ACCEPTS_PER_TURN = 32,
    HTTP_BUCKETS = 10, /* a connection's deadlines are looked at once in so many ticks */
    HTTP_TICK_MS = 100,
    HTTP_ADOPT_MS = 1000,
    HTTP_HEADER_MS = 10 * 1000,
    HTTP_BODY_MS = 30 * 1000,
    HTTP_BODY_BYTES_PER_S = 1024,
    HTTP_IDLE_MS = 60 * 1000,
    HTTP_LINGER_MS = 1000,
    HTTP_SEND_MS = 30 * 1000,        /* an answer slower than 1 KiB/s over this is cut */
    HTTP_SEND_LOCAL_MS = 600 * 1000, /* over unix sockets, where progress cannot be seen */
    HTTP_STOP_IDLE_MS = 2000, /* how long kept-alive connections may still ask while we stop */
};

#endif
