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
/* One input line as a job of the native API. A batch line's custom_id becomes metadata.custom_id;
 * priority is added when the line names none (NULL: nothing). ERR_INVALID with the reason. */
MUST_CHECK int job_line_convert(struct slice line, const char *priority, struct buf *out,
                                struct error_text *why);

#endif
