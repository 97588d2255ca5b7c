/* Meta of a record: the fields that are not in the fixed header, as msgpack. Used by job_codec
 * only. */
#ifndef PENSTOCK_JOB_JOB_META_H
#define PENSTOCK_JOB_JOB_META_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/job/job.h"

MUST_CHECK int job_meta_encode(const struct job *job, struct buf *out);
/* Fills the meta fields of job; slices point into bytes. ERR_CORRUPT with the reason. Allocates at
 * most a few times `size`: claimed counts are checked against the bytes that are there before
 * msgpack-c sees them. */
MUST_CHECK int job_meta_decode(const char *bytes, size_t size, struct job *job,
                               struct error_text *why);

#endif
