/* A private Redis and queues on one loop, for the tests of common/queue. */
#ifndef PENSTOCK_TEST_QUEUE_RIG_H
#define PENSTOCK_TEST_QUEUE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>
#include <uv.h>

#include "common/job/job.h"
#include "common/queue/queue.h"
#include "common/queue/queue_worker.h"

enum { RIG_WAIT_MS = 10000, RIG_JOBS_MAX = 4096 };

struct rig_redis {
    char dir[128];
    char socket[160];
    char url[192];
    pid_t pid;
    const char *password; /* NULL: none */
};

/* Starts redis-server on a unix socket in a temporary folder of its own; extra are further
 * arguments, NULL-ended. */
void rig_redis_start(struct rig_redis *redis, const char *const *extra);
void rig_redis_kill(struct rig_redis *redis, int signal_number); /* and waits for it */
void rig_redis_again(struct rig_redis *redis, const char *const *extra);
void rig_redis_stop(struct rig_redis *redis); /* and removes the folder */
/* One command on a connection of its own; returns the reply as text (static buffer). */
const char *rig_ask(const struct rig_redis *redis, const char *format, ...);
long long rig_ask_number(const struct rig_redis *redis, const char *format, ...);

struct rig {
    uv_loop_t loop;
    struct rig_redis redis;
    struct queue_options options;
};

void rig_start(struct rig *rig, const char *const *extra);
void rig_stop(struct rig *rig);
/* The same as set-up and tear-down of a test: *state is the rig. */
int rig_set_up(void **state);
int rig_tear_down(void **state);
struct queue *rig_queue(struct rig *rig, const char *name); /* and waits until it is ready */
struct queue *rig_queue_unready(struct rig *rig, const char *name);
void rig_close(struct rig *rig, struct queue *queue);
/* Runs the loop until *flag is not zero; fails the test after RIG_WAIT_MS. */
void rig_wait(struct rig *rig, const volatile int *flag);
void rig_wait_ready(struct rig *rig, struct queue *queue, bool is_ready);
void rig_run_ms(struct rig *rig, int ms);

/* A queued job of route "m" and tenant "acme" with a small body; slices point to constants. */
struct job rig_job(const struct queue *queue, const char *route);

/* Calls that wait for their answer. */
struct queue_submit_result rig_submit(struct rig *rig, struct queue *queue, const struct job *job);
struct queue_submit_result rig_submit_full(struct rig *rig, struct queue *queue,
                                           const struct queue_submission *submission);
/* Copies of what was claimed; slices are gone, except route and payload, which are copied too. */
struct rig_claimed {
    int status;
    unsigned count;
    struct job jobs[LIMIT_CLAIM_COUNT];
    char routes[LIMIT_CLAIM_COUNT][LIMIT_ROUTE_BYTES];
    bool has_more;
    unsigned waiting_count;
    char waiting[LIMIT_HINT_ROUTES][LIMIT_ROUTE_BYTES + 1];
};
/* A job that outlives its callback, but for the payload. */
struct job rig_copy(const struct job *job, char route[LIMIT_ROUTE_BYTES]);
const struct rig_claimed *rig_claim(struct rig *rig, struct queue *queue, const char *route,
                                    unsigned room, bool takes_suspect);
const struct rig_claimed *rig_claim_request(struct rig *rig, struct queue *queue,
                                            const struct queue_claim_request *request);
int rig_finish(struct rig *rig, struct queue *queue, const struct job *job, const char *result);
int rig_fail(struct rig *rig, struct queue *queue, const struct job *job, const char *code);
int rig_retry(struct rig *rig, struct queue *queue, const struct job *job, int64_t in_ms);
int rig_release(struct rig *rig, struct queue *queue, const struct job *job);
/* As if the process that runs it had died. */
void rig_recover(struct rig *rig, struct queue *queue, const struct job *job,
                 enum queue_blame blame);
/* The job as it is now; its slices live until the next call. */
int rig_get(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out);
int rig_get_small(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out);
int rig_cancel(struct rig *rig, struct queue *queue, const struct job_id *id, struct job *out);
enum job_state rig_state(struct rig *rig, struct queue *queue, const struct job_id *id);
/* Number of findings of queue_inspect; prints them. */
unsigned rig_inspect(struct rig *rig, struct queue *queue);

#endif
