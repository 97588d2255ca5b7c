/* A job with memory of its own: claims and answers are borrowed for a callback, an attempt lives
 * longer. */
#ifndef PENSTOCK_RUN_JOB_COPY_H
#define PENSTOCK_RUN_JOB_COPY_H

#include "common/base/error.h"
#include "common/job/job.h"

/* Copies job, all its texts and its payload. *out_memory holds them all: free() it once *out is no
 * longer needed. out may be job itself. ERR_NOMEM: nothing changed. */
MUST_CHECK int job_copy(const struct job *job, struct job *out, char **out_memory);

#endif
