#include "broker/api/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/jdoc.h"
#include "common/dialect/openai.h"

struct row {
    int status;
    const char *code;
    const char *title;
    enum problem_retry retry;
};

static const struct row rows[PROBLEM_COUNT] = {
#define PROBLEM_ROW(name, status_, code_, title_, retry_) \
    [name] = {.status = (status_), .code = (code_), .title = (title_), .retry = (retry_)},
    PROBLEM_LIST(PROBLEM_ROW)
#undef PROBLEM_ROW
};

int problem_set(struct problem *problem, enum problem_kind kind, const char *param,
                const char *detail, ...)
{
    va_list args;

    CHECK(kind < PROBLEM_COUNT);
    *problem = (struct problem){.kind = kind};
    if (param)
        snprintf(problem->param, sizeof(problem->param), "%s", param);
    va_start(args, detail);
    vsnprintf(problem->detail, sizeof(problem->detail), detail, args);
    va_end(args);
    return ERR_INVALID;
}

void problem_from_status(struct problem *problem, int status)
{
    switch (status) {
    case ERR_NOT_FOUND:
        problem_set(problem, PROBLEM_NOT_FOUND, NULL, "There is no such job.");
        break;
    case ERR_FULL:
        problem_set(problem, PROBLEM_STORE_FULL, NULL,
                    "The store has no room; nothing was written.");
        break;
    case ERR_BUSY:
        problem_set(problem, PROBLEM_OVERLOADED, NULL,
                    "Too many requests to the store are in flight; nothing was written.");
        break;
    case ERR_UNKNOWN:
    case ERR_TIMEOUT:
        problem_set(problem, PROBLEM_OUTCOME_UNKNOWN, NULL,
                    "The store did not answer in time; the request may have taken effect.");
        break;
    case ERR_OFFLINE:
    case ERR_UNFIT:
        problem_set(problem, PROBLEM_STORE_UNAVAILABLE, NULL,
                    "The store cannot be used right now; nothing was changed.");
        break;
    case ERR_NEWER:
        problem_set(problem, PROBLEM_STORE_UNAVAILABLE, NULL,
                    "The job was written by a newer version than this process.");
        break;
    case ERR_CORRUPT:
        problem_set(problem, PROBLEM_CORRUPT, NULL,
                    "What is stored of the job is not what was written; it is not given out.");
        break;
    default:
        problem_set(problem, PROBLEM_INTERNAL, NULL, "Something unexpected happened.");
        break;
    }
}

int problem_status(const struct problem *problem)
{
    return problem->status ? problem->status : rows[problem->kind].status;
}

const char *problem_code(const struct problem *problem)
{
    return problem->code[0] ? problem->code : rows[problem->kind].code;
}

enum problem_retry problem_retry_of(const struct problem *problem)
{
    return problem->is_final ? RETRY_NEVER : rows[problem->kind].retry;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

static int put_text(struct buf *out, const char *name, const char *text)
{
    int status = buf_append_text(out, name);

    return status == 0 ? json_put_string(out, text, strlen(text)) : status;
}

/* RFC 9457 */
static int put_native(struct buf *out, const struct problem *problem)
{
    int status = put_text(out, "{\"type\":\"about:blank\",\"title\":", rows[problem->kind].title);

    if (status == 0)
        status = buf_printf(out, ",\"status\":%d", problem_status(problem));
    if (status == 0)
        status = put_text(out, ",\"detail\":", problem->detail);
    if (status == 0)
        status = put_text(out, ",\"code\":", problem_code(problem));
    if (status == 0 && problem->param[0])
        status = put_text(out, ",\"param\":", problem->param);
    if (status == 0 && problem->job_id[0])
        status = put_text(out, ",\"job_id\":", problem->job_id);
    return status == 0 ? buf_append_char(out, '}') : status;
}

static int put_openai(struct buf *out, const struct problem *problem)
{
    const char *param = problem->param[0] ? problem->param : NULL;
    char message[PROBLEM_DETAIL_SIZE + 64];

    if (problem->job_id[0])
        snprintf(message, sizeof(message), "%s (%s)", problem->detail, problem->job_id);
    else
        snprintf(message, sizeof(message), "%s", problem->detail);
    const struct openai_error error = {
        .message = slice_of(message),
        .type = slice_of(openai_error_type(problem_status(problem))),
        .param = slice_of(param),
        .code = slice_of(problem_code(problem)),
    };
    return openai_put_error(out, &error);
}

static const char *anthropic_type(int http_status)
{
    switch (http_status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 409:
        return "conflict_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    case 504:
        return "timeout_error";
    default:
        return http_status >= 500 ? "api_error" : "invalid_request_error";
    }
}

static int put_anthropic(struct buf *out, const struct problem *problem, struct slice request_id)
{
    int status = put_text(
        out, "{\"type\":\"error\",\"error\":{\"type\":", anthropic_type(problem_status(problem)));

    if (status == 0)
        status = put_text(out, ",\"message\":", problem->detail);
    if (status == 0)
        status = buf_append_text(out, "},\"request_id\":");
    if (status == 0)
        status = json_put_string(out, request_id.bytes, request_id.size);
    return status == 0 ? buf_append_char(out, '}') : status;
}

int problem_put(struct buf *out, const struct problem *problem, enum api_dialect dialect,
                struct slice request_id)
{
    switch (dialect) {
    case DIALECT_NATIVE:
        return put_native(out, problem);
    case DIALECT_OPENAI:
        return put_openai(out, problem);
    case DIALECT_ANTHROPIC:
        return put_anthropic(out, problem, request_id);
    }
    check_failed(__FILE__, __LINE__, "dialect is known");
}

int problem_put_line(struct buf *out, const struct problem *problem)
{
    int status = put_text(out, "{\"code\":", problem_code(problem));

    if (status == 0)
        status = put_text(out, ",\"message\":", problem->detail);
    if (status == 0)
        status = problem->param[0] ? put_text(out, ",\"param\":", problem->param)
                                   : buf_append_text(out, ",\"param\":null");
    return status == 0 ? buf_append_char(out, '}') : status;
}

const char *problem_content_type(enum api_dialect dialect)
{
    return dialect == DIALECT_NATIVE ? "application/problem+json" : "application/json";
}
