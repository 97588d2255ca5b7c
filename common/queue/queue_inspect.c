/* inspect: walks leases, delayed jobs, routes and records, a bounded step at a time, and counts
 * what must not be. */
#include "common/queue/queue_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

static const char *const steps[] = {"leases", "delayed", "routes", "records"};
enum { STEPS = 4, STEP_RECORDS = 3, FINDINGS_MAX = 32, CURSOR_SIZE = 24 };

struct inspect {
    struct queue_op op;
    queue_inspect_fn on_findings;
    void *arg;
    unsigned step, shard;
    char cursor[CURSOR_SIZE];
    struct queue_finding findings[FINDINGS_MAX];
    char names[FINDINGS_MAX][32];
    unsigned count;
};

static void inspect_done(struct inspect *inspect, int status)
{
    inspect->on_findings(status, inspect->findings, inspect->count, inspect->arg);
    free(inspect);
}

static void count_finding(struct inspect *inspect, const struct redisReply *name,
                          const struct redisReply *id)
{
    struct job_id example;
    unsigned i = 0;

    while (i < inspect->count && strcmp(inspect->names[i], name->str) != 0)
        i++;
    if (i == FINDINGS_MAX)
        return;
    if (i == inspect->count) {
        snprintf(inspect->names[i], sizeof(inspect->names[i]), "%s", name->str);
        inspect->findings[i].name = inspect->names[i];
        if (id->type == REDIS_REPLY_STRING &&
            job_id_parse_core((struct slice){id->str, id->len}, &example) == 0)
            job_id_text(&example, inspect->findings[i].example);
        inspect->count++;
    }
    inspect->findings[i].count++;
}

static void ask_step(struct inspect *inspect)
{
    struct queue *queue = inspect->op.queue;

    queue_call_begin(queue, VERB_INSPECT, &inspect->shard, 1, 2);
    redis_link_text(queue->commands, steps[inspect->step]);
    redis_link_text(queue->commands, inspect->cursor);
    queue_call_end(queue, &inspect->op);
}

/* Records are found by one walk over the whole store, the rest shard by shard. */
static void next_step(struct inspect *inspect)
{
    if (strcmp(inspect->cursor, "0") != 0)
        return;
    if (inspect->step < STEP_RECORDS && ++inspect->shard < inspect->op.queue->shards)
        return;
    inspect->shard = 0;
    inspect->step++;
}

static void on_step(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct inspect *inspect = (struct inspect *)op;

    if (status == 0 &&
        (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
         reply->element[0]->type != REDIS_REPLY_STRING || reply->element[0]->len >= CURSOR_SIZE))
        status = ERR_PROTOCOL;
    if (status == 0) {
        memcpy(inspect->cursor, reply->element[0]->str, reply->element[0]->len + 1);
        for (size_t i = 2; i + 1 < reply->elements; i += 2)
            if (reply->element[i]->type == REDIS_REPLY_STRING)
                count_finding(inspect, reply->element[i], reply->element[i + 1]);
        next_step(inspect);
        if (inspect->step == STEPS) {
            inspect_done(inspect, 0);
            return;
        }
        status = queue_can_read(op->queue);
    }
    if (status < 0)
        inspect_done(inspect, status);
    else
        ask_step(inspect);
}

void queue_inspect(struct queue *queue, queue_inspect_fn on_findings, void *arg)
{
    struct inspect *inspect = queue_alloc(sizeof(*inspect));
    int status = queue_can_read(queue);

    inspect->op.queue = queue;
    inspect->op.on_reply = on_step;
    inspect->on_findings = on_findings;
    inspect->arg = arg;
    inspect->cursor[0] = '0';
    if (status < 0)
        queue_op_fail(queue, &inspect->op, status);
    else
        ask_step(inspect);
}
