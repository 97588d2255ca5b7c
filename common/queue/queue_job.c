/* cancel and forget: verbs on one job that answer with the job as it is afterwards. */
#include "common/queue/queue_private.h"

#include <stdlib.h>

#include <hiredis/hiredis.h>

struct verb_op {
    struct queue_op op;
    struct job_id id;
    queue_job_fn on_job;
    void *arg;
};

static int status_of(char letter)
{
    switch (letter) {
    case 'k':
        return 0;
    case 'e': /* ended before */
    case 'l': /* still live */
        return ERR_STATE;
    case 'n':
        return ERR_NOT_FOUND;
    case 'v':
        return ERR_NEWER;
    default:
        return ERR_PROTOCOL;
    }
}

static void on_verb(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct verb_op *verb = (struct verb_op *)op;
    struct error_text why;
    struct job job;
    bool has_job = false;

    if (status == 0 && (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
                        reply->element[0]->type != REDIS_REPLY_STRING ||
                        reply->element[1]->type != REDIS_REPLY_STRING))
        status = ERR_PROTOCOL;
    if (status == 0) {
        status = status_of(reply->element[0]->str[0]);
        if (status == 0 || status == ERR_STATE) {
            int decoded =
                job_decode(&verb->id, reply->element[1]->str, reply->element[1]->len, &job, &why);
            has_job = decoded == 0;
            if (decoded < 0)
                status = decoded;
        }
    }
    verb->on_job(status, has_job ? &job : NULL, verb->arg);
    free(verb);
}

static void call(struct queue *queue, enum queue_verb name, const struct job_id *id,
                 queue_job_fn on_job, void *arg)
{
    struct verb_op *verb = queue_alloc(sizeof(*verb));
    unsigned shard = job_id_shard(id);
    int status = queue_can_write(queue);

    verb->op.queue = queue;
    verb->op.on_reply = on_verb;
    verb->id = *id;
    verb->on_job = on_job;
    verb->arg = arg;
    if (status == 0 && shard >= queue->shards)
        status = ERR_NOT_FOUND;
    if (status < 0) {
        queue_op_fail(queue, &verb->op, status);
        return;
    }
    queue_call_begin(queue, name, &shard, 1, 1);
    redis_link_argument(queue->commands, id->core, JOB_ID_CORE_SIZE);
    queue_call_end(queue, &verb->op);
}

void queue_cancel(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg)
{
    call(queue, VERB_CANCEL, id, on_job, arg);
}

void queue_forget(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg)
{
    call(queue, VERB_FORGET, id, on_job, arg);
}
