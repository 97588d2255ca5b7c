/* get: one job as it stands. get_request: what an ended one was asked to do. */
#include "common/queue/queue_private.h"

#include <stdlib.h>

#include <hiredis/hiredis.h>

#include "common/queue/queue_load.h"

struct get {
    struct queue_op op;
    struct job_id id;
    queue_job_fn on_job;
    void *arg;
    size_t asked; /* bytes of the record, 0 = all */
    bool wants_payload;
    bool wants_request; /* the record that stands aside since the job ended */
};

static void on_loaded(struct queue_load *load)
{
    struct get *get = load->arg;

    get->on_job(load->status, load->status == 0 ? &load->job : NULL, get->arg);
    queue_load_deinit(load);
    free(load);
    free(get);
}

static void ask(struct get *get)
{
    struct redis_link *link = get->op.queue->commands;
    struct queue_key key =
        get->wants_request ? queue_key_request(&get->id) : queue_key_job(&get->id);

    redis_link_begin(link, get->asked ? 4 : 2);
    redis_link_text(link, get->asked ? "GETRANGE" : "GET");
    redis_link_argument(link, key.text, key.size);
    if (get->asked) {
        redis_link_text(link, "0");
        redis_link_number(link, (int64_t)get->asked - 1);
    }
    redis_link_end(link, queue_on_reply, get);
}

static void on_record(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct get *get = (struct get *)op;
    size_t head;

    if (status == 0 && reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_NIL)
        status = ERR_PROTOCOL;
    if (status == 0 && (reply->type == REDIS_REPLY_NIL || reply->len == 0))
        status = ERR_NOT_FOUND;
    if (status < 0) {
        get->on_job(status, NULL, get->arg);
        free(get);
        return;
    }
    head = job_head_size(reply->str, reply->len);
    if (get->asked && head > reply->len && reply->len == get->asked &&
        queue_can_read(op->queue) == 0) {
        get->asked = head;
        ask(get);
        return;
    }
    struct queue_load *load = queue_alloc(sizeof(*load));
    *load = (struct queue_load){.queue = op->queue,
                                .id = get->id,
                                .wants_payload = get->wants_payload,
                                .on_loaded = on_loaded,
                                .arg = get};
    queue_load_start(load, reply->str, reply->len);
}

static void start(struct queue *queue, const struct get *question)
{
    struct get *get = queue_alloc(sizeof(*get));
    int status = queue_can_read(queue);

    *get = *question;
    get->op.queue = queue;
    get->op.on_reply = on_record;
    if (!get->wants_payload && get->asked == 0)
        get->asked = JOB_HEAD_READ_SIZE;
    if (status == 0 && job_id_shard(&get->id) >= queue->shards)
        status = ERR_NOT_FOUND;
    if (status < 0)
        queue_op_fail(queue, &get->op, status);
    else
        ask(get);
}

void queue_get(struct queue *queue, const struct job_id *id, bool want_payload, queue_job_fn on_job,
               void *arg)
{
    const struct get question = {
        .id = *id, .on_job = on_job, .arg = arg, .wants_payload = want_payload};

    start(queue, &question);
}

void queue_get_small(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg)
{
    const struct get question = {
        .id = *id, .on_job = on_job, .arg = arg, .asked = LIMIT_SMALL_RECORD_BYTES};

    start(queue, &question);
}

void queue_get_request(struct queue *queue, const struct job_id *id, queue_job_fn on_job, void *arg)
{
    const struct get question = {
        .id = *id, .on_job = on_job, .arg = arg, .wants_payload = true, .wants_request = true};

    start(queue, &question);
}
