/* Provider adapters: pure translation between jobs and what one kind of upstream speaks. No I/O, no
 * clock. A new provider is one file, one row in provider_table.c, one fuzz target. */
#ifndef PENSTOCK_PROVIDERS_PROVIDER_H
#define PENSTOCK_PROVIDERS_PROVIDER_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/job/job.h"
#include "common/job/outcome.h"

enum { PROVIDER_HEADERS_MAX = 8 };

struct provider_call {
    const char *method;
    struct buf url;
    struct buf body;         /* used when the body had to be rewritten (alias); else empty and */
    struct slice body_as_is; /* the job's own bytes, borrowed */
    struct buf headers[PROVIDER_HEADERS_MAX]; /* "name: value" */
    unsigned headers_count;
};
void provider_call_deinit(struct provider_call *call);

struct provider {
    const char *name;
    enum settings_upstream_kind kind;
    /* upstream_model: the name the upstream knows the route by (alias resolved), 1 to 256 bytes;
     * key: the API key or "". out: zeroed; to be deinited whatever this returns. ERR_INVALID with
     * words, ERR_NOMEM. */
    int (*build)(const struct job *job, const struct settings_upstream *upstream,
                 const char *upstream_model, const char *key, struct provider_call *out,
                 struct error_text *why);
    /* A complete HTTP answer -> outcome (class, words, usage). retry_after_ms becomes -1: the
     * transport knows it. */
    void (*judge)(const struct job *job, int http_status, struct slice body, struct outcome *out);
    /* Names in an answer of the model list call. Calls on_model for each; returns how many, or
     * ERR_INVALID. */
    int (*list_models)(struct slice body, void (*on_model)(struct slice name, void *arg),
                       void *arg);
    /* The header line that carries the key, for calls other than jobs. ERR_INVALID: not a key. */
    int (*put_key)(const char *key, struct buf *out);
    const char *models_path; /* appended to base_url */
};
/* NULL: no adapter speaks that dialect. */
const struct provider *provider_find(enum settings_upstream_kind kind);

#endif
