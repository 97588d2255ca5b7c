#include "broker/api/render.h"

#include <stdio.h>
#include <string.h>

#include "common/base/jdoc.h"

static int put_slice(struct buf *out, const char *name, struct slice value)
{
    int status = buf_append_text(out, name);

    return status == 0 ? json_put_string(out, value.bytes ? value.bytes : "", value.size) : status;
}

static int put_time(struct buf *out, const char *name, int64_t at_ms)
{
    int status = buf_append_text(out, name);

    return status == 0 ? json_put_seconds(out, at_ms) : status;
}

static int put_http_status(struct buf *out, int http_status)
{
    return http_status ? buf_printf(out, ",\"http_status\":%d", http_status)
                       : buf_append_text(out, ",\"http_status\":null");
}

static int put_head(struct buf *out, const struct job *job)
{
    char id[JOB_ID_TEXT_SIZE + 1];

    job_id_text(&job->id, id);
    int status =
        buf_printf(out, "{\"id\":\"%s\",\"object\":\"job\",\"status\":\"%s\",\"endpoint\":\"%s\"",
                   id, job_state_word(job->state), job_endpoint_path(job->endpoint));
    if (status == 0)
        status = put_slice(out, ",\"model\":", job->route);
    if (status == 0)
        status = buf_printf(out, ",\"priority\":\"%s\",\"attempt\":%u,\"max_attempts\":%u",
                            job_priority_word(job->priority), job->attempt, job->max_attempts);
    if (status == 0)
        status = put_time(out, ",\"created_at\":", job->created_at_ms);
    if (status == 0)
        status = put_time(out, ",\"started_at\":", job->started_at_ms);
    if (status == 0)
        status = put_time(out, ",\"finished_at\":", job->finished_at_ms);
    if (status == 0)
        status = put_time(out, ",\"expires_at\":", job->expires_at_ms);
    return status;
}

static int put_view(struct buf *out, const struct job_view *view)
{
    int status = view->why[0] ? put_slice(out, ",\"why\":", slice_of(view->why))
                              : buf_append_text(out, ",\"why\":null");

    if (status < 0)
        return status;
    return view->position > 0 ? buf_printf(out, ",\"position\":%lld", (long long)view->position)
                              : buf_append_text(out, ",\"position\":null");
}

static int put_usage(struct buf *out, const struct job_usage *usage)
{
    if (!usage->is_known)
        return buf_append_text(out, ",\"progress\":{\"output_tokens\":0},\"usage\":null");
    return buf_printf(out,
                      ",\"progress\":{\"output_tokens\":%lld},\"usage\":{\"input_tokens\":%lld,"
                      "\"output_tokens\":%lld,\"total_tokens\":%lld}",
                      (long long)usage->output_tokens, (long long)usage->input_tokens,
                      (long long)usage->output_tokens, (long long)usage->total_tokens);
}

static int put_error(struct buf *out, struct slice code, struct slice message, int http_status)
{
    if (code.size == 0)
        return buf_append_text(out, ",\"error\":null");
    int status = put_slice(out, ",\"error\":{\"code\":", code);
    if (status == 0)
        status = put_slice(out, ",\"message\":", message);
    if (status == 0)
        status = put_http_status(out, http_status);
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int put_attempt(struct buf *out, const struct job_attempt *attempt)
{
    int status = put_time(out, "{\"started_at\":", attempt->started_at_ms);

    if (status == 0)
        status = put_time(out, ",\"finished_at\":", attempt->finished_at_ms);
    if (status == 0)
        status = put_slice(out, ",\"upstream\":", attempt->upstream);
    if (status == 0)
        status = put_http_status(out, attempt->http_status);
    if (status == 0)
        status = put_error(out, attempt->error_code, attempt->error_message, attempt->http_status);
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int put_attempts(struct buf *out, const struct job *job)
{
    int status = buf_append_text(out, ",\"attempts\":[");

    CHECK(job->attempts_count <= LIMIT_ATTEMPTS);
    for (unsigned i = 0; status == 0 && i < job->attempts_count; i++) {
        if (i > 0)
            status = buf_append_char(out, ',');
        if (status == 0)
            status = put_attempt(out, &job->attempts[i]);
    }
    return status == 0 ? buf_append_char(out, ']') : status;
}

static int put_tail(struct buf *out, const struct job *job, const struct job_view *view)
{
    char id[JOB_ID_TEXT_SIZE + 1];

    job_id_text(&job->id, id);
    int status = buf_printf(out, ",\"result_url\":\"/v1/jobs/%s/result\"", id);
    if (status == 0 && job->retry_of.size > 0)
        status = put_slice(out, ",\"retry_of\":", job->retry_of);
    if (status == 0)
        status = buf_append_char(out, '}');
    if (status == 0 && view->with_tenant)
        status = render_add_tenant(out, job->tenant_name);
    return status;
}

int render_job(struct buf *out, const struct job *job, const struct job_view *view)
{
    int status = put_head(out, job);

    if (status == 0)
        status = put_view(out, view);
    if (status == 0)
        status = put_usage(out, &job->usage);
    if (status == 0)
        status = put_error(out, job->error_code, job->error_message, job->http_status);
    if (status == 0)
        status = buf_append_text(out, ",\"metadata\":");
    if (status == 0)
        status = job->metadata.size > 0 ? buf_append(out, job->metadata.bytes, job->metadata.size)
                                        : buf_append_text(out, "{}");
    if (status == 0)
        status = put_attempts(out, job);
    return status == 0 ? put_tail(out, job, view) : status;
}

int render_add_tenant(struct buf *out, struct slice tenant_name)
{
    CHECK(out->size > 0);
    CHECK(out->data[out->size - 1] == '}');

    int status = buf_reserve(out, tenant_name.size * 6 + 16);
    if (status < 0)
        return status;
    out->size--;
    status = put_slice(out, ",\"tenant\":", tenant_name);
    return status == 0 ? buf_append_char(out, '}') : status;
}

int render_add_result(struct buf *out, struct slice result)
{
    static const char name[] = ",\"result\":";

    CHECK(out->size > 0);
    CHECK(out->data[out->size - 1] == '}');
    if (!result.bytes)
        result = slice_of("null");

    int status = buf_reserve(out, result.size + sizeof(name));
    if (status < 0)
        return status;
    out->size--;
    status = buf_append_text(out, name);
    if (status == 0)
        status = buf_append(out, result.bytes, result.size);
    return status == 0 ? buf_append_char(out, '}') : status;
}

void render_etag(const struct job *job, char out[ETAG_SIZE])
{
    snprintf(out, ETAG_SIZE, "W/\"%u-%c-%u\"", (unsigned)job->sequence,
             job_state_letter(job->state), job->attempt);
}

int render_done(struct buf *out, const struct job *job)
{
    char id[JOB_ID_TEXT_SIZE + 1];

    job_id_text(&job->id, id);
    return buf_printf(out, "{\"id\":\"%s\",\"status\":\"%s\"}", id, job_state_word(job->state));
}
