/* A queue and an upstream pool that do nothing by themselves: they note what they were asked, and
 * answer when the test says so. Linked in place of the real ones. */
#ifndef PENSTOCK_TESTS_RUN_FAKES_H
#define PENSTOCK_TESTS_RUN_FAKES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/queue/queue_worker.h"
#include "worker/upstream/upstream.h"

enum { FAKE_MAX = 256 };

enum fake_verb { FAKE_FINISH, FAKE_FAIL, FAKE_RETRY, FAKE_RELEASE };

struct fake_commit {
    enum fake_verb verb;
    struct job job; /* a copy of its own */
    char *memory;
    struct job_attempt attempt; /* of a retry; its texts are copied */
    char attempt_message[1024];
    int64_t due_at_ms;
    queue_done_fn on_done;
    void *arg;
};

struct queue {
    int64_t now_ms;
    int64_t lease_age_ms;
    size_t commit_bytes;
    bool is_asked;                      /* a claim waits for its answer */
    struct queue_claim_request request; /* the last one; rooms point to the copy below */
    struct queue_room rooms[LIMIT_CLAIM_ROUTES];
    char names[LIMIT_CLAIM_ROUTES][LIMIT_ROUTE_BYTES];
    unsigned claims_count;
    queue_claim_fn on_claim;
    void *claim_arg;
    unsigned withdrawals_count;
    queue_done_fn on_withdrawn; /* NULL: none waits for its answer */
    void *withdraw_arg;
    struct fake_commit commits[FAKE_MAX]; /* in order; never taken out */
    unsigned commits_count;
};

struct upstream_call {
    struct upstream_pool *pool;
    char url[256];
    struct slice body;
    char authorization[128];
    int timeout_ms;
    upstream_end_fn on_end;
    void *arg;
    bool is_running;
    bool is_aborted;
    bool is_fresh; /* asked for a connection of its own */
};

struct upstream_pool {
    int start_status;                     /* what starting a call answers */
    struct upstream_call calls[FAKE_MAX]; /* in order; never taken out */
    unsigned calls_count;
};

void fake_queue_deinit(struct queue *queue);
void fake_answer_claim(struct queue *queue, const struct queue_claim_result *result);
void fake_withdrawn(struct queue *queue, int status);
/* Room that the last claim named for route; 0: it was not asked for. */
unsigned fake_room(const struct queue *queue, const char *route);
void fake_done(struct queue *queue, unsigned commit, int status);
/* A complete answer, or an end without one. The body lives only during the call. */
void fake_answer(struct upstream_pool *pool, unsigned call, int http_status, const char *body);
void fake_end(struct upstream_pool *pool, unsigned call, enum upstream_end end);
/* Broken on a kept connection before the first byte. */
void fake_end_stale(struct upstream_pool *pool, unsigned call, double total_ms);
/* Ends the calls that were aborted, as the next turn of the loop would. */
void fake_end_aborted(struct upstream_pool *pool);

#endif
