/* Jobs as text: short endpoint names, bodies made from a prompt, and lines of input files: either
 * jobs of the native API or lines of an OpenAI batch file ({"custom_id", "method", "url", "body"}),
 * which become such jobs. Pure. */
#ifndef PENSTOCK_CLI_JOB_LINE_H
#define PENSTOCK_CLI_JOB_LINE_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/slice.h"

/* "chat", "completions", "embeddings" or a path as it is. */
const char *job_line_endpoint(const char *name);
/* {"model": …, "messages"/"prompt"/"input": text} as the endpoint wants it. */
MUST_CHECK int job_line_body(const char *endpoint, const char *model, struct slice text,
                             struct buf *out);

/* What a line gets that names none itself; NULL: nothing. */
struct job_line_defaults {
    const char *priority;
    const char *idempotency_key;
};

/* Appends one input line as a job of the native API, without a line end. A batch line's custom_id
 * becomes metadata.custom_id, and *out_custom_id (its JSON text, malloc'd; else NULL).
 * ERR_INVALID with the reason, ERR_TOO_BIG, ERR_NOMEM: nothing was appended. */
MUST_CHECK int job_line_convert(struct slice line, const struct job_line_defaults *defaults,
                                struct buf *out, char **out_custom_id, struct error_text *why);

#endif
