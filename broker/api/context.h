/* One request, from its headers until nothing refers to it any more: who asked, what for, and how
 * it is answered.
 *
 * A context outlives its client: every operation at the queue holds it (context_hold before the
 * call, context_release as the last act of the callback), and `request` is NULL once the client has
 * gone, so that a callback that comes late finds nobody and only cleans up. */
#ifndef PENSTOCK_API_CONTEXT_H
#define PENSTOCK_API_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/api/api.h"
#include "broker/api/auth.h"
#include "broker/api/denials.h"
#include "broker/api/errors.h"
#include "broker/api/routes.h"
#include "broker/api/watch.h"
#include "common/base/buf.h"
#include "common/job/job.h"

struct cache;
struct samples;

enum { CONTEXT_PARAM_SIZE = LIMIT_ROUTE_BYTES + 1, ANSWER_BYTES_MAX = 96 * 1024 * 1024 };

/* What the whole API shares; owned by api.c. */
struct api {
    const struct settings *settings;
    struct queue *queue;
    const char *version;
    struct http_handler handler;
    struct auth *auth;
    struct denials denials;
    struct cache *cache;     /* finished jobs, rendered */
    struct samples *samples; /* what queue and fleet looked like a moment ago */
    struct watches watches;  /* contexts waiting for a job's change */
    struct wheel wheel;      /* contexts waiting for a time */
    struct buf out; /* the answer under construction; one at a time, never across a callback */
    struct context *spares; /* freed contexts for the next requests */
    unsigned spares_count;
    struct context *all; /* every context whose client is there */
    int64_t now_mono_ms; /* of the last tick or event */
    unsigned shards;
    size_t bulk_bytes; /* received by bulk requests and not taken yet, all together */
    bool is_stopping;
};

struct context {
    struct api *api;
    struct http_request *request; /* NULL: the client is gone */
    const struct route *route;
    enum api_dialect dialect;
    unsigned holds;
    bool is_answered;
    bool is_stream;
    struct access access;
    char request_id[LIMIT_REQUEST_ID_BYTES + 1];
    bool has_own_request_id;        /* the client chose it */
    char param[CONTEXT_PARAM_SIZE]; /* the path's variable, decoded */
    size_t param_size;
    struct job_id id; /* the job this is about, once known */
    struct watch watch;
    struct timer timer;
    /* The handler's own: */
    void *work;
    void (*work_free)(void *work);
    void (*on_bytes)(struct context *context, const char *bytes, size_t size); /* streamed body */
    void (*on_left)(struct context *context); /* the client went before it was answered */
    void (*on_stop)(struct context *context); /* shutdown; NULL: refused as shutting_down */
    bool is_held; /* waits for a job or for time: answered at once on shutdown */
    struct context *next, *prev;
};

/* What jobs carry to the upstream: the client's own id or "", for then the job's id says more than
 * one we drew, and each stored job is spared its bytes. */
struct slice context_own_request_id(const struct context *context);
struct context *context_create(struct api *api, struct http_request *request);
void context_hold(struct context *context);
/* May free the context. */
void context_release(struct context *context);
/* From the HTTP server: the request ends here. */
void context_leave(struct context *context);
/* Memory that lives as long as the context, zeroed. NULL without memory (then refused already). */
void *context_work(struct context *context, size_t size, void (*work_free)(void *work));

/* ---- waiting ------------------------------------------------------------------------------- */

/* Hears of changes of context->id from now on. To be called right before queue_follow or a held
 * submit, because a change may be told before their callback runs; context_unwatch unfollows, at
 * the latest when the client leaves. */
void context_watch(struct context *context, void (*on_change)(struct watch *, const struct job *));
void context_unwatch(struct context *context); /* harmless when not watching */
void context_set_timer(struct context *context, int64_t delay_ms, void (*on_due)(struct timer *));
struct context *context_of_watch(struct watch *watch);
struct context *context_of_timer(struct timer *timer);

/* ---- answering; all do nothing when the client is gone ----------------------------------- */

enum { REPLY_HEADERS_MAX = 10 };

struct reply {
    int status;
    const char *content_type;
    struct slice body;
    void (*body_free)(void *bytes);
    bool must_close;
    struct http_header headers[REPLY_HEADERS_MAX];
    unsigned headers_count;
    char number[24]; /* of Retry-After */
};

void reply_add(struct reply *reply, const char *name, struct slice value);
void reply_add_retry_after(struct reply *reply, int seconds);
/* Adds x-request-id and answers. */
void context_answer(struct context *context, struct reply *reply);
/* 200 with api->out as JSON. */
void context_answer_json(struct context *context);
/* Starts a stream with these headers. */
void context_stream(struct context *context, struct reply *reply);
/* Answers with the problem in the request's dialect. */
void context_refuse(struct context *context, const struct problem *problem);
PRINTF_LIKE(4, 5)
void context_fail(struct context *context, enum problem_kind kind, const char *param,
                  const char *detail, ...);
/* There is no http_request_has_room for the answer. */
void context_fail_crowded(struct context *context);
/* context_refuse of what a queue status means. */
void context_fail_status(struct context *context, int status);
/* Empties api->out for a new answer. */
struct buf *context_out(struct context *context);

/* Parses the path's variable as a job id into context->id; false: refused with 404. */
bool context_take_id(struct context *context);
/* Whether the asker may see a job of this tenant. */
bool context_may_see(const struct context *context, const struct job *job);

#endif
