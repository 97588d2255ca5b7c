/* What tenants with limits use right now: a sample from the store, refreshed each second while they
 * are active, plus what this process let in since. Several brokers can so overshoot a limit by what
 * each lets in within one second. */
#ifndef PENSTOCK_API_QUOTA_H
#define PENSTOCK_API_QUOTA_H

#include "broker/api/auth.h"

struct quotas;

MUST_CHECK int quotas_create(struct queue *queue, struct quotas **out);
/* After the queue closed: no sample is under way any more. */
void quotas_destroy(struct quotas *quotas);
void quotas_tick(struct quotas *quotas, int64_t now_mono_ms, unsigned brokers);

bool quota_take_request(struct quotas *quotas, const struct access *access, int64_t now_mono_ms,
                        int *out_retry_s);
enum admission quota_admit(struct quotas *quotas, const struct access *access, int64_t bytes,
                           int64_t now_mono_ms);
void quota_give_back(struct quotas *quotas, const struct access *access, int64_t bytes);
/* Calls on_refreshed once, never before it returns; askers of one tenant share a sample. */
void quota_refresh(struct quotas *quotas, const struct access *access,
                   auth_refreshed_fn on_refreshed, void *arg);

#endif
