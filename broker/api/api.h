/* What requests mean: the native jobs API, the OpenAI calls, health. Sees neither sockets nor
 * Redis; everything that takes time goes through the queue's callbacks.
 *
 * One api per process and loop. It registers itself with the queue (queue_on_change), hands its
 * handler table to the HTTP server, and must live until that server has stopped and the queue is
 * closed: pending operations of clients that left still run their callbacks. */
#ifndef PENSTOCK_API_API_H
#define PENSTOCK_API_API_H

#include <stdint.h>

#include "broker/http/http_server.h"
#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/queue/queue.h"

struct api;

struct api_options {
    const struct settings *settings; /* kept; alive as long as the api */
    struct queue *queue;             /* kept */
    const char *version;             /* kept; "0.1.0" */
};

/* Loads the keys file (auth.mode keys). ERR_INVALID with file and reason when it cannot be read or
 * is wrong; a file that is not there is an empty one, looked for again each second. */
MUST_CHECK int api_create(const struct api_options *options, struct api **out,
                          struct error_text *why);
/* For http_server_options.handler; valid until api_destroy. */
const struct http_handler *api_handler(struct api *api);
/* Call every 100 ms: ends of waits, keep-alive comments, the keys file, cached samples of queue and
 * fleet. */
void api_tick(struct api *api, int64_t now_mono_ms);
/* Answers all held requests with 503 and Retry-After 1 in their dialect and ends streams; their
 * jobs go on. New requests that would be held get the same. Call after http_server_stop, which
 * makes these answers the last of their connections. */
void api_shutdown(struct api *api);
/* Reads the keys file now. A file that is wrong leaves the old keys in force: ERR_INVALID with the
 * reason. */
MUST_CHECK int api_reload(struct api *api, struct error_text *why);
/* After the server stopped and the queue closed. NULL is legal. */
void api_destroy(struct api *api);

#endif
