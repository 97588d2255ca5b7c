/* GET /v1/jobs/{id}/events: the job's changes as an event stream.
 *
 * Every event carries the job's own sequence number, so a reader that comes back, to any broker,
 * says what it saw last and gets the rest: from the job's history where that reaches back far
 * enough, and by a job event, which is a whole snapshot, in any case. The closing done event counts
 * as one change more. Changes are sent in order and once; whenever one may have been missed,
 * history and record are read again. */
#include <stdlib.h>

#include "broker/api/handlers.h"
#include "broker/api/validate.h"

enum {
    BEAT_MS = 15000,
    BEATS_BETWEEN_LOOKS = 4, /* at the record, should a change have got lost, or the job itself */
};

struct events {
    bool has_sent; /* sent is meaningful */
    uint32_t sent;
    bool is_open;    /* the stream has begun and not ended */
    bool is_reading; /* history or record are being read */
    bool has_missed; /* a change came meanwhile */
    unsigned beats;
};

static void end_stream(struct context *context)
{
    struct events *events = context->work;

    if (!events->is_open)
        return;
    events->is_open = false;
    context->is_held = false;
    timer_stop(&context->timer);
    context_unwatch(context);
    if (context->request)
        http_stream_end(context->request);
}

static void send(struct context *context, const char *bytes, size_t size)
{
    struct events *events = context->work;

    if (!events->is_open || !context->request)
        return;
    /* A reader that is too slow is cut off: it comes back with the id it has seen. */
    if (http_stream_write(context->request, bytes, size) < 0)
        end_stream(context);
}

static int put_event(struct context *context, const struct job *job, bool only_end, struct buf *out)
{
    unsigned sequence = job->sequence;
    int status = 0;

    if (!only_end)
        status = buf_printf(out, "id: %u\nevent: job\ndata: ", sequence);
    if (status == 0 && !only_end)
        status = put_job(context, job, out);
    if (status == 0 && !only_end)
        status = buf_append_text(out, "\n\n");
    if (status < 0 || !job_state_is_final(job->state))
        return status;
    /* One more than the last change: who has seen it needs nothing any more. */
    status = buf_printf(out, "id: %u\nevent: done\ndata: ", sequence + 1);
    if (status == 0)
        status = render_done(out, job);
    return status == 0 ? buf_append_text(out, "\n\n") : status;
}

static void send_job(struct context *context, const struct job *job)
{
    struct events *events = context->work;
    struct buf *out = context_out(context);

    bool is_known = events->has_sent && job->sequence <= events->sent;
    if (!events->is_open || (is_known && !job_state_is_final(job->state)))
        return;
    /* The end is told to whoever is still here, also when its last change was seen before. */
    if (put_event(context, job, is_known, out) < 0) {
        end_stream(context);
        return;
    }
    events->has_sent = true;
    events->sent = job->sequence;
    send(context, out->data, out->size);
    if (job_state_is_final(job->state))
        end_stream(context);
}

/* ---- catching up: history, then the record, until nothing was missed ---------------------------
 */

static void catch_up(struct context *context);

static void on_record(int status, const struct job *job, void *arg)
{
    struct context *context = arg;
    struct events *events = context->work;

    events->is_reading = false;
    if (status < 0) {
        end_stream(context); /* gone, or trouble with the store: the reader comes back */
    } else {
        send_job(context, job);
        if (events->is_open && events->has_missed)
            catch_up(context);
    }
    context_release(context);
}

static void on_history(int status, const struct job *job, void *arg)
{
    struct context *context = arg;
    struct events *events = context->work;

    if (job) {
        if (status == 0)
            send_job(context, job);
        return;
    }
    if (events->is_open) {
        queue_get(context->api->queue, &context->id, false, on_record, context);
        return;
    }
    events->is_reading = false;
    context_release(context);
}

static void catch_up(struct context *context)
{
    struct events *events = context->work;

    events->is_reading = true;
    events->has_missed = false;
    context_hold(context);
    queue_history(context->api->queue, &context->id, events->has_sent ? events->sent : 0,
                  on_history, context);
}

static void on_change(struct watch *watch, const struct job *job)
{
    struct context *context = context_of_watch(watch);
    struct events *events = context->work;

    if (!events->is_open || events->is_reading)
        events->has_missed = true;
    else if (events->has_sent && job->sequence > events->sent + 1)
        catch_up(context);
    else
        send_job(context, job);
}

/* ---- the stream ------------------------------------------------------------------------------ */

static void on_beat(struct timer *timer)
{
    struct context *context = context_of_timer(timer);
    struct events *events = context->work;
    static const char comment[] = ": keep-alive\n\n";

    send(context, comment, sizeof(comment) - 1);
    if (!events->is_open)
        return;
    context_set_timer(context, BEAT_MS, on_beat);
    if (++events->beats % BEATS_BETWEEN_LOOKS == 0 && !events->is_reading)
        catch_up(context);
}

static void open_stream(struct context *context, const struct job *job)
{
    struct events *events = context->work;
    struct reply reply = {.status = 200, .content_type = "text/event-stream"};

    reply_add(&reply, "Cache-Control", slice_of("no-cache"));
    reply_add(&reply, "X-Accel-Buffering", slice_of("no"));
    context_stream(context, &reply);
    events->is_open = true;
    context->is_held = true;
    context->on_stop = end_stream;
    context_set_timer(context, BEAT_MS, on_beat);
    if (events->has_sent && job_state_is_final(job->state) && events->sent == job->sequence + 1) {
        end_stream(context);
        return;
    }
    if (events->has_sent && events->sent > job->sequence) {
        if (job_state_is_final(job->state)) {
            end_stream(context);
            return;
        }
        events->has_sent = false; /* an id this job never had is no place to go on from */
    }
    if (!events->has_sent)
        send_job(context, job);
    else if (events->sent < job->sequence || job_state_is_final(job->state))
        catch_up(context);
    if (events->is_open && events->has_missed && !events->is_reading)
        catch_up(context);
}

static void on_followed(int status, const struct job *job, void *arg)
{
    struct context *context = arg;

    if (status == 0 && !context_may_see(context, job))
        status = ERR_NOT_FOUND;
    if (watch_is_in(&context->watch)) {
        if (status == 0 && !context->api->is_stopping) {
            open_stream(context, job);
        } else {
            context_unwatch(context);
            if (status == 0)
                context_fail(context, PROBLEM_SHUTTING_DOWN, NULL, "This process is going away.");
            else
                context_fail_status(context, status);
        }
    }
    context_release(context);
}

void handle_job_events(struct context *context)
{
    struct slice last = http_request_header(context->request, "Last-Event-ID");
    struct problem problem;
    int64_t number = 0;

    if (!context_take_id(context))
        return;
    if (!last.bytes)
        last = http_request_query(context->request, "last_event_id");
    if (last.bytes && last.size > 0 &&
        validate_number(last, "Last-Event-ID", 0, UINT32_MAX, &number, &problem) < 0) {
        context_refuse(context, &problem);
        return;
    }
    struct events *events = context_work(context, sizeof(*events), free);
    if (!events)
        return;
    events->has_sent = last.bytes && last.size > 0;
    events->sent = (uint32_t)number;
    context_watch(context, on_change);
    context_hold(context);
    queue_follow(context->api->queue, &context->id, on_followed, context);
}
