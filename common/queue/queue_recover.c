/* recover, for what a dead child did not note any more: a claim that Redis carried out when its
 * child could not read the answer. Its leases carry the child's id at the head of their token. */
#include "common/queue/queue_private.h"

#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

enum { SCAN_COUNT = 1000, MEMBERS_BYTES_MAX = 64 << 20, CURSOR_SIZE = 24 };

struct hunt {
    struct queue_op op;
    enum queue_blame blame;
    queue_done_fn on_done;
    void *arg;
    unsigned shard;
    char cursor[CURSOR_SIZE];
    char pattern[JOB_TICKET_SIZE + QUEUE_SELF_SIZE + 1]; /* any ticket, the id, anything */
    uint8_t token[JOB_TOKEN_SIZE];
    bool has_token; /* only leases of this token */
    struct buf members;
};

static void hunt_done(struct hunt *hunt, int status)
{
    struct queue *queue = hunt->op.queue;
    unsigned count = (unsigned)(hunt->members.size / JOB_MEMBER_SIZE);

    if (status == 0 && count > 0)
        queue_recover(queue, hunt->members.data, count, hunt->blame, hunt->on_done, hunt->arg);
    else
        hunt->on_done(status, hunt->arg);
    buf_deinit(&hunt->members);
    free(hunt);
}

static void ask(struct hunt *hunt)
{
    struct redis_link *link = hunt->op.queue->commands;
    struct queue_key key = queue_key_leases(hunt->shard);

    redis_link_begin(link, 7);
    redis_link_text(link, "ZSCAN");
    redis_link_argument(link, key.text, key.size);
    redis_link_text(link, hunt->cursor);
    redis_link_text(link, "MATCH");
    redis_link_argument(link, hunt->pattern, sizeof(hunt->pattern));
    redis_link_text(link, "COUNT");
    redis_link_number(link, SCAN_COUNT);
    redis_link_end(link, queue_on_reply, &hunt->op);
}

/* Members and scores by turns. */
static int take_members(struct hunt *hunt, const struct redisReply *rows)
{
    for (size_t i = 0; i + 1 < rows->elements; i += 2) {
        const struct redisReply *member = rows->element[i];

        if (member->type != REDIS_REPLY_STRING || member->len != JOB_MEMBER_SIZE ||
            (hunt->has_token &&
             memcmp(member->str + JOB_TICKET_SIZE, hunt->token, JOB_TOKEN_SIZE) != 0))
            continue;
        int status = buf_append(&hunt->members, member->str, member->len);
        if (status < 0)
            return status;
    }
    return 0;
}

static void on_rows(struct queue_op *op, int status, const struct redisReply *reply)
{
    struct hunt *hunt = (struct hunt *)op;

    if (status == 0 &&
        (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
         reply->element[0]->type != REDIS_REPLY_STRING || reply->element[0]->len >= CURSOR_SIZE ||
         reply->element[1]->type != REDIS_REPLY_ARRAY))
        status = ERR_PROTOCOL;
    if (status == 0)
        status = take_members(hunt, reply->element[1]);
    if (status == 0) {
        memcpy(hunt->cursor, reply->element[0]->str, reply->element[0]->len + 1);
        if (strcmp(hunt->cursor, "0") == 0)
            hunt->shard++;
        if (hunt->shard < op->queue->shards) {
            status = queue_can_write(op->queue);
            if (status == 0) {
                ask(hunt);
                return;
            }
        }
    }
    hunt_done(hunt, status);
}

static void hunt_start(struct hunt *hunt, struct queue *queue, const char *child)
{
    int status = queue_can_write(queue);

    hunt->op.queue = queue;
    hunt->op.on_reply = on_rows;
    hunt->cursor[0] = '0';
    memset(hunt->pattern, '?', JOB_TICKET_SIZE);
    memcpy(hunt->pattern + JOB_TICKET_SIZE, child, QUEUE_SELF_SIZE);
    hunt->pattern[JOB_TICKET_SIZE + QUEUE_SELF_SIZE] = '*';
    buf_init(&hunt->members, MEMBERS_BYTES_MAX);
    for (unsigned i = 0; i < QUEUE_CHILD_SIZE && status == 0; i++)
        if (!((child[i] >= '0' && child[i] <= '9') || (child[i] >= 'a' && child[i] <= 'z')))
            status = ERR_INVALID; /* no id, and it could mean something in a pattern */
    if (status == 0)
        ask(hunt);
    else
        queue_op_fail(queue, &hunt->op, status);
}

void queue_recover_child(struct queue *queue, const char child[QUEUE_CHILD_SIZE],
                         enum queue_blame blame, queue_done_fn on_done, void *arg)
{
    struct hunt *hunt = queue_alloc(sizeof(*hunt));

    hunt->blame = blame;
    hunt->on_done = on_done;
    hunt->arg = arg;
    hunt_start(hunt, queue, child);
}

void queue_recover_token(struct queue *queue, const uint8_t token[JOB_TOKEN_SIZE],
                         queue_done_fn on_done, void *arg)
{
    struct hunt *hunt = queue_alloc(sizeof(*hunt));

    hunt->blame = QUEUE_BLAME_NOBODY;
    hunt->on_done = on_done;
    hunt->arg = arg;
    memcpy(hunt->token, token, JOB_TOKEN_SIZE);
    hunt->has_token = true;
    hunt_start(hunt, queue, (const char *)token); /* begins with the child's id */
}
