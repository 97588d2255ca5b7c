/* Writing down how an attempt ended: finish, fail, retry or release, one atomic step each, through
 * the queue.
 *
 * An attempt lives until its commit is answered. While our leases may have lapsed unseen (no
 * renewal for lease_ms - RUNNER_FENCE_MS) nothing is sent: the attempt is held with a copy of its
 * result, up to COMMIT_HELD_BYTES_MAX in all; beyond that results are given up and the jobs handed
 * back. The same happens to what the queue cannot hold any more. */
#ifndef PENSTOCK_RUN_COMMIT_H
#define PENSTOCK_RUN_COMMIT_H

#include "worker/run/attempt.h"

enum { COMMIT_HELD_BYTES_MAX = 64 * 1024 * 1024 };

/* attempt->job holds the final state (finish, fail) or the attempts so far (retry); its payload may
 * be borrowed for this call. The attempt belongs to commit.c from here on. */
void commit_start(struct attempt *attempt, enum attempt_verdict verdict);
/* Sends what was held, once that is allowed again. Call some ten times a second. */
void commit_held(struct runner *runner);

#endif
