/* Who is asking: a presented key becomes a tenant, a role and limits; and whether the tenant's
 * limits let one more in. */
#ifndef PENSTOCK_API_AUTH_H
#define PENSTOCK_API_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/api/errors.h"
#include "common/base/error.h"
#include "common/base/keys.h"
#include "common/base/slice.h"
#include "common/job/job.h"

struct auth;
struct http_request;
struct queue;
struct settings;

/* A copy, so that a request goes on unharmed when the keys change under it. */
struct access {
    char tenant[LIMIT_TENANT_BYTES + 1];
    char tenant_hash[JOB_TENANT_SIZE];
    unsigned char tenant_size;
    enum key_role role;
    unsigned weight;
    struct key_limits limits;
};

MUST_CHECK int auth_create(const struct settings *settings, struct queue *queue, struct auth **out,
                           struct error_text *why);
void auth_destroy(struct auth *auth);
/* Reads the keys file again; a wrong one leaves the old keys in force. */
MUST_CHECK int auth_reload(struct auth *auth, struct error_text *why);
/* Once a second: looks whether the file changed, refreshes usage. Brokers share a
 * requests-per-second limit evenly. */
void auth_tick(struct auth *auth, int64_t now_mono_ms, unsigned brokers);

/* The key as the request carries it: Authorization: Bearer, x-api-key or api-key. bytes NULL: none.
 */
struct slice auth_presented(const struct http_request *request);
/* ERR_DENIED: no such key, or not valid now. Mode none: everybody is "default", an admin. */
MUST_CHECK int auth_check(struct auth *auth, struct slice presented, int64_t now_ms,
                          struct access *out);

/* What an admin does for the tenant of a job is that tenant's: its name and weight into out, and no
 * limits. */
void auth_act_for(const struct auth *auth, const struct job *job, struct access *out);

/* requests_per_second: a token is taken, or false and in how many seconds there is one. */
bool auth_take_request(struct auth *auth, const struct access *access, int64_t now_mono_ms,
                       int *out_retry_s);

/* Live jobs and bytes against the tenant's limits. ADMIT has counted it (take back with
 * auth_give_back when the job did not come to be); ASK: what is known is too old to refuse or admit
 * on: call auth_refresh, then ask again. */
enum admission { ADMIT, REFUSE_JOBS, REFUSE_BYTES, ASK_USAGE };
enum admission auth_admit(struct auth *auth, const struct access *access, int64_t bytes,
                          int64_t now_mono_ms);
void auth_give_back(struct auth *auth, const struct access *access, int64_t bytes);
typedef void (*auth_refreshed_fn)(int status, void *arg);
void auth_refresh(struct auth *auth, const struct access *access, auth_refreshed_fn on_refreshed,
                  void *arg);

#endif
