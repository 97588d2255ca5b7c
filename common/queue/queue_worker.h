/* The worker's half of the queue: claim, renew, finish, fail, retry, release, recover and the
 * sweeps. Rules of queue.h hold. All writes are fenced by claim number and token: ERR_FENCED means
 * the lease is gone, and nothing was written. */
#ifndef PENSTOCK_QUEUE_QUEUE_WORKER_H
#define PENSTOCK_QUEUE_QUEUE_WORKER_H

#include "common/queue/queue.h"

struct queue_room {
    struct slice route; /* exact route name */
    unsigned room;      /* jobs of it that may start now */
};

struct queue_claim_request {
    const struct queue_room *rooms; /* <= LIMIT_CLAIM_ROUTES */
    unsigned rooms_count;
    unsigned count_max; /* over all routes, <= LIMIT_CLAIM_COUNT */
    bool takes_suspect; /* one suspect may come along */
    bool suspect_first; /* while one waits whose route is not asked for, nothing else comes: the
                           answer names the route, and says that there is more */
    bool wants_wake;    /* nothing found: remember us as idle */
    unsigned hand_max;  /* idle, so many new jobs for these rooms may be handed to us: on_handed */
};

struct queue_claim_result {
    int status;
    const struct job *jobs; /* running now, payloads loaded (pieces joined), token and claim set */
    unsigned jobs_count;
    const struct queue_room
        *waiting; /* routes with waiting jobs that were not asked for (room = band) */
    unsigned waiting_count;
    bool has_more;        /* asked routes still have jobs waiting */
    unsigned newer_count; /* of a newer version, met and left: they are among those that wait */
};
typedef void (*queue_claim_fn)(const struct queue_claim_result *result, void *arg);
/* One at a time per queue object (ERR_BUSY otherwise). Looks at the shards in turn, beginning with
 * the one the last wake named. Corrupt records are failed here with code corrupt_record after one
 * re-read and do not appear. */
void queue_claim(struct queue *queue, const struct queue_claim_request *request,
                 queue_claim_fn on_claim, void *arg);

typedef void (*queue_done_fn)(int status, void *arg);

/* We are not idle any more: nothing is handed to us once on_done has come. It comes after all that
 * was handed before. A status below 0: Redis is away, and a moment (2.5 s) ends it as well. One at
 * a time. */
void queue_withdraw(struct queue *queue, queue_done_fn on_done, void *arg);

/* running -> succeeded, failed or expired: job carries the final state, times, usage, error,
 * attempts, and payload = the result (stored in pieces when large). finish is for succeeded, fail
 * for failed and expired. Batched per shard. While Redis is away these wait inside (bounded:
 * ERR_BUSY beyond 512 MiB) and are sent again with the same token: a commit that was already
 * applied answers 0. After ERR_BUSY the job is still held; every other answer ends the renewal of
 * its lease. ERR_PROTOCOL: refused for good; alone, so it is this job's own trouble. */
void queue_finish(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg);
void queue_fail(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg);
/* Bytes of commits that are not answered yet: who goes on claiming while they pile up will see
 * results refused. */
size_t queue_commit_bytes(const struct queue *queue);
/* running -> scheduled at due_at_ms; attempt counts; this attempt is added to the job's list. */
void queue_retry(struct queue *queue, const struct job *job, const struct job_attempt *attempt,
                 int64_t due_at_ms, queue_done_fn on_done, void *arg);
/* running -> queued, at the front of its list, nothing counted: drain, or a claim that cannot
 * start. */
void queue_release(struct queue *queue, const struct job *job, queue_done_fn on_done, void *arg);

/* Renews the leases of all jobs this process holds (the queue knows them from claims and commits);
 * on_lost runs for each whose lease is gone. Driven inside on a timer of lease_ms / 3. Registered
 * once. */
typedef void (*queue_lost_fn)(const struct job_id *id, unsigned claim, void *arg);
void queue_on_lost(struct queue *queue, queue_lost_fn on_lost, void *arg);
/* Boot-clock ms since the last successful renewal round (or claim); for self-fencing. */
int64_t queue_lease_age_ms(const struct queue *queue);

/* wake: jobs may be waiting; claim, if need be without rooms: the claim hands the wake on to the
 * next idle child when this one cannot serve. handed: new jobs that our last claim had room for
 * were started for us by the submit that brought them (has_more: and brought more); we are not idle
 * any more. It may cross with a later claim of ours, so there may be no room for them: release them
 * then. cancel: this job was cancelled, abort it (already recorded); control: pauses changed. After
 * a reconnect wake comes, too. */
struct queue_worker_events {
    void (*on_wake)(void *arg);
    queue_claim_fn on_handed; /* NULL: what is handed goes back */
    void (*on_cancel)(const struct job_id *id, unsigned claim, void *arg);
    void (*on_control)(void *arg);
    void *arg;
};
void queue_on_worker_events(struct queue *queue, const struct queue_worker_events *events);
/* Starts the jittered <= 1 s sweep over all shards: tick of the logical clock, recover, promote,
 * expire. promoted or recovered jobs wake idle workers. */
void queue_sweep_start(struct queue *queue);
/* Why a child died, as far as its jobs are concerned. */
enum queue_blame {
    QUEUE_BLAME_EACH,    /* nobody knows: counted against each of them */
    QUEUE_BLAME_CULPRIT, /* it was being worked on in that moment: a suspect from now on */
    QUEUE_BLAME_NOBODY,  /* another job was: nothing is counted */
};
/* Recovers the given tickets (members of the lease set, JOB_MEMBER_SIZE bytes each) of a dead child
 * at once. */
void queue_recover(struct queue *queue, const char *members, unsigned count, enum queue_blame blame,
                   queue_done_fn on_done, void *arg);
/* The same for all leases of a dead child, found by its queue_self_id: also those it was given
 * without living to note them. Looks at every lease, some 1,000 a command. ERR_INVALID: not an id.
 */
enum { QUEUE_CHILD_SIZE = 8 };
void queue_recover_child(struct queue *queue, const char child[QUEUE_CHILD_SIZE],
                         enum queue_blame blame, queue_done_fn on_done, void *arg);

#endif
