/* GET /healthz: this process turns its loop. GET /readyz: jobs can be taken in. Neither tells
 * strangers about versions or hosts. */
#include "broker/api/handlers.h"

#include "common/base/jdoc.h"

void handle_alive(struct context *context)
{
    struct reply reply = {
        .status = 200, .content_type = "application/json", .body = slice_of("{\"status\":\"ok\"}")};

    context_answer(context, &reply);
}

void handle_ready(struct context *context)
{
    struct buf *out = context_out(context);
    struct queue_health health;
    struct reply reply = {.status = 200,
                          .content_type = "application/json",
                          .body = slice_of("{\"status\":\"ready\"}")};

    queue_health(context->api->queue, &health);
    if (!health.is_ready || context->api->is_stopping) {
        const char *reason = context->api->is_stopping ? "shutting_down" : health.reason;
        reply.status = 503;
        reply_add_retry_after(&reply, 1);
        if (buf_append_text(out, "{\"status\":\"not_ready\",\"reason\":") == 0 &&
            json_put_string(out, reason, strlen(reason)) == 0 && buf_append_char(out, '}') == 0)
            reply.body = (struct slice){.bytes = out->data, .size = out->size};
    }
    context_answer(context, &reply);
}
