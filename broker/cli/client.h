/* Calls of the HTTP API from the command line: one after the other, or a few at the same time, over
 * connections that are kept. Every call has a time limit, and a pending Ctrl-C ends all of them. */
#ifndef PENSTOCK_CLI_CLIENT_H
#define PENSTOCK_CLI_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/jdoc.h"
#include "common/base/slice.h"

enum { CLIENT_CALLS_MAX = 16 };

struct client;

struct client_answer {
    int status;
    struct buf body; /* what on_bytes did not take; at most 256 MiB */
    char content_type[128];
    int64_t retry_after_s; /* 0: not said */
};

struct client_request {
    const char *method;
    const char *path;         /* with query, already encoded */
    const char *content_type; /* NULL: none */
    struct slice body;
    const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
    int64_t timeout_ms;         /* of the whole call; 0 = 60 s */
    int64_t offline_ms;         /* being patient: so long with a server nobody can reach; 0 = 2 s */
    int64_t idle_s; /* so long without a byte breaks the call; 0: only timeout_ms does */
    /* Streaming: called for pieces of a body with status 200 (takes_all: of every status) instead
     * of collecting it; non-zero ends the call, which counts as done. */
    int (*on_bytes)(const char *bytes, size_t size, void *arg);
    /* Called before the first piece of each try. Only with it is a call made again that broke after
     * on_bytes had been called. */
    void (*on_start)(void *arg);
    void *arg;
    bool takes_all;
};

/* url: http:// or https://, a path prefix is fine. ERR_INVALID: url or key cannot be used. */
MUST_CHECK int client_create(const char *url, const char *key, struct client **out,
                             struct error_text *why);
void client_destroy(struct client *client);
/* A descriptor that becomes readable when the program shall end: calls under way and later ones
 * then answer ERR_STATE. -1: none. Nothing is read from it. */
void client_set_interrupt(struct client *client, int fd);
bool client_is_interrupted(const struct client *client);
/* Waits; true when it was cut short by the interrupt. */
bool client_pause(const struct client *client, int64_t ms);
/* The same, and ends as soon as input_fd (-1: none) is readable. */
bool client_pause_or_input(const struct client *client, int input_fd, int64_t ms);

/* One call of several: answer must be zeroed or of an earlier call. code is 0 with any HTTP status;
 * ERR_OFFLINE when it could not connect; ERR_TIMEOUT; ERR_UNKNOWN when the connection broke after
 * the request may have gone out; ERR_TOO_BIG; ERR_STATE: interrupted. */
struct client_exchange {
    const struct client_request *request;
    struct client_answer *answer;
    int code;
    struct error_text why;
};
/* All at the same time, at most CLIENT_CALLS_MAX; returns when the last has ended. */
void client_call_many(struct client *client, struct client_exchange *exchanges, unsigned count);
/* Makes those calls again that could not connect, broke, or were answered 429 or 503 with
 * Retry-After, for patience_ms. Only for requests that may be repeated. */
void client_call_many_patiently(struct client *client, struct client_exchange *exchanges,
                                unsigned count, int64_t patience_ms);
/* The same for one; returns its code. */
MUST_CHECK int client_call(struct client *client, const struct client_request *request,
                           struct client_answer *out, struct error_text *why);
MUST_CHECK int client_call_patiently(struct client *client, const struct client_request *request,
                                     int64_t patience_ms, struct client_answer *out,
                                     struct error_text *why);
void client_answer_deinit(struct client_answer *answer);
/* The server asks to come back later: nothing was done. */
bool client_is_busy(const struct client_answer *answer);

/* Puts "status: detail (code)" of an error answer into why. */
void client_explain(const struct client_answer *answer, struct error_text *why);
/* Says on stderr what went wrong with a call whose code is negative; returns a cli_exit code. */
int client_fail(int code, const struct error_text *why);
/* The same for an answer that is no success. */
int client_refused(const struct client_answer *answer);
/* A call whose answer must be 2xx JSON: says what is wrong and returns a cli_exit code, or CLI_DONE
 * with *out. patience_ms 0: the call is made once. */
struct cli;
MUST_CHECK int client_json(struct cli *cli, const struct client_request *request,
                           int64_t patience_ms, struct client_answer *answer, struct jdoc **out);
/* GET with the usual patience. */
MUST_CHECK int client_get(struct cli *cli, const char *path, struct client_answer *answer,
                          struct jdoc **out);

#endif
