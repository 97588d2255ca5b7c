#include "broker/api/auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "broker/api/quota.h"
#include "broker/http/http_server.h"
#include "common/base/log.h"
#include "common/base/settings.h"
#include "common/base/text.h"

enum { FILE_LOOK_MS = 1000 };

/* What tells one version of the file from another; a rename gives a new inode. */
struct file_mark {
    bool is_there;
    int64_t inode, size, seconds, nanoseconds;
};

struct auth {
    bool is_open; /* auth.mode none */
    const char *path;
    struct keys *keys;
    char (*tenant_hashes)[JOB_TENANT_SIZE]; /* by index of the key */
    struct file_mark mark;
    int64_t looked_mono_ms;
    struct access everybody;
    struct quotas *quotas;
};

static struct file_mark mark_of(const char *path)
{
    struct stat info;

    if (stat(path, &info) < 0)
        return (struct file_mark){.is_there = false};
    return (struct file_mark){.is_there = true,
                              .inode = (int64_t)info.st_ino,
                              .size = info.st_size,
                              .seconds = info.st_mtim.tv_sec,
                              .nanoseconds = info.st_mtim.tv_nsec};
}

static bool is_same_mark(const struct file_mark *a, const struct file_mark *b)
{
    return a->is_there == b->is_there && a->inode == b->inode && a->size == b->size &&
           a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static int take_keys(struct auth *auth, struct keys *keys)
{
    unsigned count = keys_count(keys);
    char(*hashes)[JOB_TENANT_SIZE] = calloc(count + 1, sizeof(*hashes));

    if (!hashes) {
        keys_destroy(keys);
        return ERR_NOMEM;
    }
    for (unsigned i = 0; i < count; i++)
        job_tenant_hash(slice_of(keys_at(keys, i)->tenant), hashes[i]);
    free(auth->tenant_hashes);
    keys_destroy(auth->keys);
    auth->tenant_hashes = hashes;
    auth->keys = keys;
    return 0;
}

int auth_reload(struct auth *auth, struct error_text *why)
{
    struct keys *keys = NULL;

    if (auth->is_open)
        return 0;
    /* Looked at before reading: a change between the two is then seen by the next look. */
    auth->mark = mark_of(auth->path);
    int status = keys_load(auth->path, &keys, why);
    if (status == ERR_NOT_FOUND) {
        keys = keys_create();
        status = keys ? 0 : error_set(why, ERR_NOMEM, "out of memory");
    }
    if (status < 0)
        return status;
    status = take_keys(auth, keys);
    if (status < 0)
        return error_set(why, status, "out of memory");
    log_event(LOG_INFO, "keys_loaded", LOG_S("file", auth->path),
              LOG_I("count", keys_count(auth->keys)));
    return 0;
}

int auth_create(const struct settings *settings, struct queue *queue, struct auth **out,
                struct error_text *why)
{
    struct auth *auth = calloc(1, sizeof(*auth));

    if (!auth)
        return error_set(why, ERR_NOMEM, "out of memory");
    auth->is_open = settings->auth.mode == AUTH_NONE;
    auth->path = settings->auth.keys_file;
    auth->everybody = (struct access){.tenant = JOB_DEFAULT_TENANT,
                                      .tenant_size = sizeof(JOB_DEFAULT_TENANT) - 1,
                                      .role = KEY_ADMIN,
                                      .weight = 1};
    job_tenant_hash(slice_of(JOB_DEFAULT_TENANT), auth->everybody.tenant_hash);
    int status = quotas_create(queue, &auth->quotas);
    if (status < 0)
        error_set(why, status, "out of memory");
    else
        status = auth_reload(auth, why);
    if (status < 0) {
        auth_destroy(auth);
        return status;
    }
    *out = auth;
    return 0;
}

void auth_destroy(struct auth *auth)
{
    if (!auth)
        return;
    quotas_destroy(auth->quotas);
    free(auth->tenant_hashes);
    keys_destroy(auth->keys);
    free(auth);
}

void auth_tick(struct auth *auth, int64_t now_mono_ms, unsigned brokers)
{
    struct error_text why = {.text = ""};

    quotas_tick(auth->quotas, now_mono_ms, brokers);
    if (auth->is_open || now_mono_ms - auth->looked_mono_ms < FILE_LOOK_MS)
        return;
    auth->looked_mono_ms = now_mono_ms;
    struct file_mark mark = mark_of(auth->path);
    if (is_same_mark(&mark, &auth->mark))
        return;
    if (auth_reload(auth, &why) < 0)
        log_event(LOG_ERROR, "keys_refused", LOG_S("reason", why.text),
                  LOG_S("effect", "the keys read before stay in force"));
}

/* ---- one request ----------------------------------------------------------------------------- */

static struct slice trim(struct slice text)
{
    while (text.size > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\t')) {
        text.bytes++;
        text.size--;
    }
    while (text.size > 0 && (text.bytes[text.size - 1] == ' ' || text.bytes[text.size - 1] == '\t'))
        text.size--;
    return text;
}

struct slice auth_presented(const struct http_request *request)
{
    struct slice value = http_request_header(request, "x-api-key");

    if (!value.bytes)
        value = http_request_header(request, "api-key");
    if (value.bytes)
        return trim(value);
    value = trim(http_request_header(request, "Authorization"));
    if (value.size > 7 && text_equal_nocase(value.bytes, 7, "Bearer "))
        return trim((struct slice){.bytes = value.bytes + 7, .size = value.size - 7});
    return (struct slice){.bytes = NULL};
}

int auth_check(struct auth *auth, struct slice presented, int64_t now_ms, struct access *out)
{
    if (auth->is_open) {
        *out = auth->everybody;
        return 0;
    }
    const struct key *key = presented.bytes ? keys_find(auth->keys, presented) : NULL;
    if (!key || !key_is_valid(key, now_ms))
        return ERR_DENIED;

    size_t index = (size_t)(key - keys_at(auth->keys, 0));
    *out = (struct access){.tenant_size = (unsigned char)strlen(key->tenant),
                           .role = key->role,
                           .weight = key->weight,
                           .limits = key->limits};
    memcpy(out->tenant, key->tenant, sizeof(out->tenant));
    memcpy(out->tenant_hash, auth->tenant_hashes[index], JOB_TENANT_SIZE);
    return 0;
}

void auth_act_for(const struct auth *auth, const struct job *job, struct access *out)
{
    struct slice name = job->tenant_name;
    unsigned count = auth->keys ? keys_count(auth->keys) : 0;

    *out = (struct access){.role = KEY_TENANT, .weight = 1};
    if (name.size > LIMIT_TENANT_BYTES) /* no tenant of ours; records are not ours alone */
        name = (struct slice){.bytes = NULL};
    if (name.size > 0)
        memcpy(out->tenant, name.bytes, name.size);
    out->tenant_size = (unsigned char)name.size;
    memcpy(out->tenant_hash, job->tenant, JOB_TENANT_SIZE);
    for (unsigned i = 0; i < count; i++)
        if (slice_is(name, keys_at(auth->keys, i)->tenant))
            out->weight = keys_at(auth->keys, i)->weight;
}

bool auth_take_request(struct auth *auth, const struct access *access, int64_t now_mono_ms,
                       int *out_retry_s)
{
    if (access->limits.requests_per_second == 0)
        return true;
    return quota_take_request(auth->quotas, access, now_mono_ms, out_retry_s);
}

static bool is_limited(const struct access *access)
{
    return access->limits.jobs_max > 0 || access->limits.bytes_max > 0;
}

enum admission auth_admit(struct auth *auth, const struct access *access, int64_t bytes,
                          int64_t now_mono_ms)
{
    return is_limited(access) ? quota_admit(auth->quotas, access, bytes, now_mono_ms) : ADMIT;
}

void auth_give_back(struct auth *auth, const struct access *access, int64_t bytes)
{
    if (is_limited(access))
        quota_give_back(auth->quotas, access, bytes);
}

void auth_refresh(struct auth *auth, const struct access *access, auth_refreshed_fn on_refreshed,
                  void *arg)
{
    quota_refresh(auth->quotas, access, on_refreshed, arg);
}
