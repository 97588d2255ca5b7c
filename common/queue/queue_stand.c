#include "common/queue/queue_stand.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/queue/queue_private.h"

enum { UNHEARD_MS = 1000 };

void queue_stand_note(struct queue *queue, const uint8_t *token, int64_t asked_boot_ms)
{
    struct queue_standing *one = &queue->stand.claims[queue->stand.next];

    queue->stand.next = (queue->stand.next + 1) % QUEUE_STANDING_MAX;
    *one = (struct queue_standing){.asked_boot_ms = asked_boot_ms};
    memcpy(one->token, token, JOB_TOKEN_SIZE);
}

static struct queue_standing *find(struct queue *queue, const uint8_t *token)
{
    for (int i = 0; i < QUEUE_STANDING_MAX; i++)
        if (memcmp(queue->stand.claims[i].token, token, JOB_TOKEN_SIZE) == 0)
            return &queue->stand.claims[i];
    return NULL;
}

bool queue_stand_heard(struct queue *queue, const uint8_t *token, int64_t *out_boot_ms)
{
    struct queue_standing *one = find(queue, token);

    for (int i = 0; i < QUEUE_UNHEARD_MAX; i++)
        if (memcmp(queue->stand.unheard[i].token, token, JOB_TOKEN_SIZE) == 0)
            queue->stand.unheard[i].since_mono_ms = 0;
    if (!one)
        return false;
    one->was_heard = true;
    *out_boot_ms = one->asked_boot_ms;
    return clock_boot_ms() - one->asked_boot_ms < queue->lease_ms / 2;
}

void queue_stand_was_handed(struct queue *queue, const uint8_t *token)
{
    const struct queue_standing *one = find(queue, token);
    struct queue_unheard *unheard = &queue->stand.unheard[queue->stand.unheard_next];

    if (!one || one->was_heard) /* not known any more: it may have come */
        return;
    queue->stand.unheard_next = (queue->stand.unheard_next + 1) % QUEUE_UNHEARD_MAX;
    memcpy(unheard->token, token, JOB_TOKEN_SIZE);
    unheard->since_mono_ms = clock_mono_ms();
}

/* ---- what never came ---------------------------------------------------------------- */

static void on_recovered(int status, void *arg)
{
    (void)arg;
    if (status < 0) /* their leases lapse */
        log_event(LOG_WARN, "handed_not_recovered", LOG_S("reason", error_text_of(status)));
}

static void give_up(struct queue *queue, const uint8_t *token)
{
    struct queue_standing *one = find(queue, token);

    log_event(LOG_WARN, "handed_unheard", LOG_S("child", queue->self_id));
    if (one)
        memset(one->token, 0, JOB_TOKEN_SIZE); /* should it still come, it goes back */
    if (queue->messages && queue->is_listening)
        redis_link_drop(queue->messages, "redis_unheard", "a message did not come");
    queue_recover_token(queue, token, on_recovered, NULL);
}

void queue_stand_second(struct queue *queue, int64_t now_mono_ms)
{
    for (int i = 0; i < QUEUE_UNHEARD_MAX; i++) {
        struct queue_unheard *one = &queue->stand.unheard[i];

        if (one->since_mono_ms == 0 || now_mono_ms - one->since_mono_ms < UNHEARD_MS)
            continue;
        one->since_mono_ms = 0;
        give_up(queue, one->token);
    }
}

/* ---- going -------------------------------------------------------------------------- */

struct queue_withdrawal {
    struct queue_op op; /* twice: of the commands, then of the subscription */
    queue_done_fn on_done;
    void *arg;
    bool is_out;  /* Redis hands us nothing any more */
    bool is_over; /* no message is on its way any more */
    int status;
};

void queue_stand_step(struct queue *queue)
{
    struct queue_withdrawal *going = queue->stand.withdrawal;

    if (!going || !going->is_over || queue->stand.handed_open > 0)
        return;
    queue->stand.withdrawal = NULL;
    going->on_done(going->status, going->arg);
    free(going);
}

static void on_withdrawn(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct queue_withdrawal *going = (struct queue_withdrawal *)op;
    struct queue *queue = op->queue;

    (void)reply;
    if (status == 0 && !going->is_out && queue->messages && redis_link_is_up(queue->messages)) {
        /* Answered on the way that messages come by: after all of them. */
        going->is_out = true;
        redis_link_begin(queue->messages, 2);
        redis_link_text(queue->messages, "SUBSCRIBE");
        redis_link_text(queue->messages, QUEUE_CHANNEL_CONTROL);
        redis_link_end(queue->messages, queue_on_reply, op);
        return;
    }
    going->is_over = true;
    going->status = status;
    queue_stand_step(queue);
}

void queue_withdraw(struct queue *queue, queue_done_fn on_done, void *arg)
{
    struct queue_withdrawal *going = queue_alloc(sizeof(*going));
    struct redis_link *link = queue->commands;
    int status = queue_can_write(queue);

    CHECK(!queue->stand.withdrawal);
    queue->stand.withdrawal = going;
    going->op.queue = queue;
    going->op.on_reply = on_withdrawn;
    going->on_done = on_done;
    going->arg = arg;
    if (status < 0) {
        queue_op_fail(queue, &going->op, status);
        return;
    }
    redis_link_begin(link, 3);
    redis_link_text(link, "ZREM");
    redis_link_text(link, QUEUE_KEY_IDLE);
    redis_link_argument(link, queue->self_id, QUEUE_SELF_SIZE);
    redis_link_end(link, queue_on_reply, &going->op);
}
