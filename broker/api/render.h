/* The job object of the native API. Pure. */
#ifndef PENSTOCK_API_RENDER_H
#define PENSTOCK_API_RENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/job/job.h"

enum { RENDER_WHY_SIZE = 384, ETAG_SIZE = 48 };

/* What is not in the record. */
struct job_view {
    char why[RENDER_WHY_SIZE]; /* "": null */
    int64_t position;          /* 1 is next; 0: null */
    bool with_tenant;          /* for admins */
};

MUST_CHECK int render_job(struct buf *out, const struct job *job, const struct job_view *view);
/* For admins: the tenant as last member of a job object rendered without it, whose closing brace is
 * the last byte of out. */
MUST_CHECK int render_add_tenant(struct buf *out, struct slice tenant_name);
/* The result as last member, likewise: JSON as it stands, or null where there are no bytes. */
MUST_CHECK int render_add_result(struct buf *out, struct slice result);
/* Changes with every recorded change of the job; weak, because why and position move between them.
 */
void render_etag(const struct job *job, char out[ETAG_SIZE]);
/* {"id","status"} */
MUST_CHECK int render_done(struct buf *out, const struct job *job);

#endif
