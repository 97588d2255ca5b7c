/* HTTP/1.1 requests from bytes: strict, in place, without memory of its own and without sockets. */
#ifndef SIM_HTTP_H
#define SIM_HTTP_H

#include "sim_base.h"

#include <stdbool.h>

enum {
    HTTP_HEAD_BYTES_MAX = 32 * 1024,
    HTTP_HEADER_COUNT_MAX = 100,
    HTTP_SIM_HEADER_COUNT_MAX = 24,
    HTTP_BODY_BYTES_MAX = 64 * 1024 * 1024
};

struct http_header {
    struct slice name;
    struct slice value;
};

/* All slices point into the request's bytes. */
struct http_request {
    struct slice method;
    struct slice path; /* still percent-encoded, without the query */
    struct slice query;
    struct slice body;
    struct slice credential; /* of Authorization: Bearer, x-api-key or api-key */
    struct http_header sim_headers[HTTP_SIM_HEADER_COUNT_MAX]; /* names without "Sim-" */
    size_t sim_header_count;
    uint64_t content_length;
    size_t head_size;
    bool is_http10;
    bool is_keep_alive;
    bool is_chunked;
    bool has_length;
    bool has_host;
    bool has_anthropic_version;
    bool expects_continue;
};

/* Size of the head with its empty line, 0 when it is not complete. `from` bytes were looked at
 * before and hold no end. */
size_t http_find_head(const char *data, size_t size, size_t from);

/* 0, or the HTTP status that refuses the head; then why_text says why. */
MUST_CHECK int http_parse_head(const char *data, size_t head_size, struct http_request *out_request,
                               const char **out_why);

enum http_chunk_phase {
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_EXTENSION,
    HTTP_CHUNK_SIZE_LF,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_DATA_CR,
    HTTP_CHUNK_DATA_LF,
    HTTP_CHUNK_TRAILER,
    HTTP_CHUNK_TRAILER_TEXT,
    HTTP_CHUNK_TRAILER_LF,
    HTTP_CHUNK_END_LF,
    HTTP_CHUNK_DONE
};

/* Decodes a chunked body in place. Offsets, not pointers: the buffer may move between calls. */
struct http_chunks {
    enum http_chunk_phase phase;
    uint64_t left;      /* of the chunk */
    size_t digit_count; /* of the chunk's size */
    size_t slack;       /* bytes of extensions and trailers, bounded */
    size_t raw_at;      /* first byte not looked at */
    size_t body_start;  /* where the head ends */
    size_t body_end;    /* end of what was decoded */
};

/* Decode what is new in data[raw_at..size). 1: done, raw_at is where the next request starts;
 * 0: more is needed; else the negative HTTP status that refuses the body. */
MUST_CHECK int http_chunks_feed(struct http_chunks *chunks, char *data, size_t size,
                                size_t body_bytes_max);

const char *http_reason(int status);

#endif
