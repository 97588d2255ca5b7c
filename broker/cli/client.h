/* Calls of the HTTP API from the command line: blocking, one connection kept alive. */
#ifndef PENSTOCK_CLI_CLIENT_H
#define PENSTOCK_CLI_CLIENT_H

#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/jdoc.h"
#include "common/base/slice.h"

struct client;

struct client_answer {
    int status;
    struct buf body;
    char content_type[128];
    int64_t retry_after_s; /* 0: not said */
};

struct client_request {
    const char *method;
    const char *path;         /* with query, already encoded */
    const char *content_type; /* NULL: none */
    struct slice body;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
    int64_t timeout_ms;         /* 0 = 60 s */
    /* Streaming answers: called for pieces of a 2xx body instead of collecting it; non-zero ends
     * the call. */
    int (*on_bytes)(const char *bytes, size_t size, void *arg);
    void *arg;
};

MUST_CHECK int client_create(const char *url, const char *key, struct client **out,
                             struct error_text *why);
void client_destroy(struct client *client);
/* out must be zeroed or an answer of an earlier call. 0 with any HTTP status; ERR_OFFLINE when it
 * could not connect; ERR_TIMEOUT; ERR_UNKNOWN when the connection broke after the request went out.
 */
MUST_CHECK int client_call(struct client *client, const struct client_request *request,
                           struct client_answer *out, struct error_text *why);
void client_answer_deinit(struct client_answer *answer);
/* Asks again while the server answers 503 or 429 or cannot be reached, honouring Retry-After, for
 * patience_ms. Only for requests that may be repeated. */
MUST_CHECK int client_call_patiently(struct client *client, const struct client_request *request,
                                     int64_t patience_ms, struct client_answer *out,
                                     struct error_text *why);
/* Puts "status: detail (code)" of an error answer into why. */
void client_explain(const struct client_answer *answer, struct error_text *why);
/* A call whose answer must be 2xx JSON: prints the error and returns a cli_exit code, or CLI_DONE
 * with *out. */
struct cli;
MUST_CHECK int client_json(struct cli *cli, const char *method, const char *path, struct slice body,
                           struct client_answer *answer, struct jdoc **out);

#endif
