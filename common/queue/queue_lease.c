/* Leases of the jobs that run here: renewed in rounds of lease_ms / 3, a few hundred a call, so
 * that a round of ten thousand does not hold up Redis; and recovery of a dead child's. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"

enum {
    RENEW_CALL_MAX = 256,
    RENEW_SOON_MS = 200, /* to a round that does not wait for its time */
};

struct lease {
    struct queue_map_entry entry;
    unsigned claim;
    char member[JOB_MEMBER_SIZE];
};

/* Members sorted by shard, sent a few hundred at a time. */
struct round {
    struct queue_op op;
    char (*members)[JOB_MEMBER_SIZE];
    unsigned count, next, sent;
    int64_t started_boot_ms;
    queue_done_fn on_done; /* of queue_recover; NULL: renewal */
    void *arg;
    enum queue_verb verb;
    enum queue_blame blame; /* of queue_recover */
};

void queue_member_make(const struct job *job, char out[JOB_MEMBER_SIZE])
{
    job_ticket_make(job, out);
    memcpy(out + JOB_TICKET_SIZE, job->token, JOB_TOKEN_SIZE);
}

static unsigned member_shard(const char *member)
{
    struct job job;

    return job_ticket_parse(member, JOB_TICKET_SIZE, &job) == 0 ? job_id_shard(&job.id)
                                                                : UINT32_MAX;
}

static int compare_members(const void *a, const void *b)
{
    /* Ids begin with their shard. */
    return memcmp((const char *)a + 1, (const char *)b + 1, JOB_ID_CORE_SIZE);
}

/* ---- rounds ------------------------------------------------------------------------- */

/* Sends the next few hundred members: one argument a shard. */
static void round_send(struct round *round)
{
    struct queue *queue = round->op.queue;
    unsigned shards[RENEW_CALL_MAX] = {0}, starts[RENEW_CALL_MAX + 1], shards_count = 0;
    unsigned end =
        round->next + RENEW_CALL_MAX < round->count ? round->next + RENEW_CALL_MAX : round->count;

    for (unsigned i = round->next; i < end; i++) {
        unsigned shard = member_shard(round->members[i]);

        if (shards_count > 0 && shards[shards_count - 1] == shard)
            continue;
        starts[shards_count] = i;
        shards[shards_count++] = shard;
    }
    starts[shards_count] = end;
    bool has_blame = round->blame != QUEUE_BLAME_EACH;
    queue_call_begin(queue, round->verb, shards, shards_count,
                     shards_count + (round->verb == VERB_RENEW || has_blame ? 1 : 0));
    if (round->verb == VERB_RENEW)
        redis_link_number(queue->commands, queue->lease_ms);
    for (unsigned i = 0; i < shards_count; i++)
        redis_link_argument(queue->commands, round->members[starts[i]],
                            (size_t)(starts[i + 1] - starts[i]) * JOB_MEMBER_SIZE);
    if (has_blame)
        redis_link_text(queue->commands, round->blame == QUEUE_BLAME_CULPRIT ? "c" : "i");
    round->sent = end;
    queue_call_end(queue, &round->op);
}

static void round_done(struct round *round, int status)
{
    struct queue *queue = round->op.queue;

    if (round->verb == VERB_RENEW) {
        queue->is_renewing = false;
        if (status == 0)
            queue->renewed_boot_ms = round->started_boot_ms;
        else
            queue_renew_soon(queue);
    } else {
        round->on_done(status, round->arg);
    }
    free(round->members);
    free(round);
}

/* Jobs whose lease somebody else ended. */
static void tell_lost(struct queue *queue, const char *members, size_t size)
{
    for (size_t at = 0; at + JOB_MEMBER_SIZE <= size; at += JOB_MEMBER_SIZE) {
        struct job job;
        const struct lease *lease;

        if (job_ticket_parse(members + at, JOB_TICKET_SIZE, &job) < 0)
            continue;
        lease = (const struct lease *)queue_map_find(&queue->leases, &job.id);
        if (!lease || memcmp(lease->member, members + at, JOB_MEMBER_SIZE) != 0)
            continue; /* committed meanwhile */
        queue_map_remove(&queue->leases, &job.id);
        metrics_add(METRIC_JOBS_FENCED, 1);
        if (queue->on_lost)
            queue->on_lost(&job.id, job.claim, queue->on_lost_arg);
    }
}

static void on_round(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct round *round = (struct round *)op;
    struct queue *queue = op->queue;

    if (status == 0 && round->verb == VERB_RENEW && reply->type != REDIS_REPLY_ARRAY)
        status = ERR_PROTOCOL;
    if (status == 0 && round->verb == VERB_RENEW)
        for (size_t i = 0; i < reply->elements; i++)
            if (reply->element[i]->type == REDIS_REPLY_STRING)
                tell_lost(queue, reply->element[i]->str, reply->element[i]->len);
    round->next = round->sent;
    if (status == 0 && round->next < round->count) {
        status = queue_can_write(queue);
        if (status == 0) {
            round_send(round);
            return;
        }
    }
    round_done(round, status);
}

static struct round *new_round(struct queue *queue, enum queue_verb verb, unsigned count_max)
{
    struct round *round = queue_alloc(sizeof(*round));

    round->op.queue = queue;
    round->op.on_reply = on_round;
    round->verb = verb;
    round->started_boot_ms = clock_boot_ms();
    round->members = queue_alloc((size_t)(count_max ? count_max : 1) * JOB_MEMBER_SIZE);
    return round;
}

static void round_start(struct round *round)
{
    int status = queue_can_write(round->op.queue);

    qsort(round->members, round->count, JOB_MEMBER_SIZE, compare_members);
    if (status == 0 && round->count > 0)
        round_send(round);
    else
        /* An op's status is never positive: nothing to do is done. */
        queue_op_fail(round->op.queue, &round->op, status);
}

/* ---- renewal ------------------------------------------------------------------------ */

static uint64_t renew_every_ms(const struct queue *queue)
{
    return (uint64_t)(queue->lease_ms > 3 ? queue->lease_ms / 3 : 1);
}

static void on_renew(uv_timer_t *timer)
{
    struct queue *queue = timer->data;
    struct round *round;

    if (queue->leases.count == 0) {
        uv_timer_stop(timer);
        return;
    }
    if (queue->is_renewing || queue_can_write(queue) < 0) {
        queue_renew_soon(queue);
        return;
    }
    queue->is_renewing = true;
    round = new_round(queue, VERB_RENEW, (unsigned)queue->leases.count);
    for (size_t i = 0; i < queue->leases.slots_count; i++)
        for (const struct queue_map_entry *one = queue->leases.slots[i]; one; one = one->next)
            memcpy(round->members[round->count++], ((const struct lease *)one)->member,
                   JOB_MEMBER_SIZE);
    round_start(round);
}

void queue_lease_add(struct queue *queue, const struct job *job, int64_t claimed_boot_ms)
{
    struct lease *lease;

    if (queue->leases.count == 0)
        queue->renewed_boot_ms = claimed_boot_ms;
    queue_map_remove(&queue->leases, &job->id);
    lease = (struct lease *)queue_map_add(&queue->leases, &job->id, sizeof(*lease));
    CHECK(lease != NULL); /* a child holds far fewer */
    lease->claim = job->claim;
    queue_member_make(job, lease->member);
    if (!uv_is_active((uv_handle_t *)&queue->renewing))
        uv_timer_start(&queue->renewing, on_renew, renew_every_ms(queue), renew_every_ms(queue));
}

void queue_renew_soon(struct queue *queue)
{
    if (queue->leases.count == 0 || queue->is_closing ||
        (uv_is_active((uv_handle_t *)&queue->renewing) &&
         uv_timer_get_due_in(&queue->renewing) <= RENEW_SOON_MS))
        return;
    uv_timer_start(&queue->renewing, on_renew, RENEW_SOON_MS, renew_every_ms(queue));
}

bool queue_lease_drop(struct queue *queue, const struct job_id *id, unsigned claim)
{
    const struct lease *lease = (const struct lease *)queue_map_find(&queue->leases, id);

    if (!lease || lease->claim != claim)
        return false;
    queue_map_remove(&queue->leases, id);
    return true;
}

void queue_on_lost(struct queue *queue, queue_lost_fn on_lost, void *arg)
{
    queue->on_lost = on_lost;
    queue->on_lost_arg = arg;
}

int64_t queue_lease_age_ms(const struct queue *queue)
{
    return queue->leases.count == 0 ? 0 : clock_boot_ms() - queue->renewed_boot_ms;
}

/* ---- recovery ----------------------------------------------------------------------- */

void queue_recover(struct queue *queue, const char *members, unsigned count, enum queue_blame blame,
                   queue_done_fn on_done, void *arg)
{
    struct round *round = new_round(queue, VERB_RECOVER, count);

    round->blame = blame;
    round->on_done = on_done;
    round->arg = arg;
    for (unsigned i = 0; i < count; i++) {
        const char *member = members + (size_t)i * JOB_MEMBER_SIZE;

        /* A dead process may leave half-written ones. */
        if (member_shard(member) < queue->shards)
            memcpy(round->members[round->count++], member, JOB_MEMBER_SIZE);
    }
    round_start(round);
}
