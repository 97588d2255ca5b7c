#include "worker/recovery.h"

#include <unistd.h>

#include "common/base/log.h"
#include "common/job/job_codec.h"
#include "worker/run/tickets.h"

enum { RECOVERY_BYTES_MAX = 64 * 1024 * 1024 };

static void on_done(int status, void *arg);

static void finish_row(struct recovery_row *row)
{
    struct recovery *recovery = row->recovery;
    uint32_t number = row->number;

    buf_deinit(&row->members);
    row->number = 0;
    recovery->on_recovered(number, recovery->arg);
}

static void ask(struct recovery_row *row)
{
    size_t count = row->members.size / JOB_MEMBER_SIZE;

    if (count == 0) {
        finish_row(row);
        return;
    }
    if (count > LIMIT_SWEEP)
        count = LIMIT_SWEEP;
    row->asked_bytes = count * JOB_MEMBER_SIZE;
    queue_recover(row->recovery->queue, row->members.data, (unsigned)count, on_done, row);
}

static void on_done(int status, void *arg)
{
    struct recovery_row *row = arg;
    size_t asked_bytes = row->asked_bytes;

    CHECK(asked_bytes > 0);
    row->asked_bytes = 0;
    if (status < 0)
        return; /* recovery_tick asks again; a member that was recovered meanwhile does no harm */
    buf_consume(&row->members, asked_bytes);
    ask(row);
}

void recovery_init(struct recovery *recovery, struct queue *queue,
                   void (*on_recovered)(uint32_t number, void *arg), void *arg)
{
    *recovery = (struct recovery){.queue = queue, .on_recovered = on_recovered, .arg = arg};
    for (unsigned i = 0; i < ORPHANS_MAX; i++)
        recovery->rows[i].recovery = recovery;
}

void recovery_deinit(struct recovery *recovery)
{
    for (unsigned i = 0; i < ORPHANS_MAX; i++) {
        CHECK(recovery->rows[i].asked_bytes == 0);
        buf_deinit(&recovery->rows[i].members);
    }
}

void recovery_add(struct recovery *recovery, uint32_t number, int fd)
{
    struct recovery_row *row = NULL;

    CHECK(number != 0);
    for (unsigned i = 0; i < ORPHANS_MAX && !row; i++)
        if (recovery->rows[i].number == 0)
            row = &recovery->rows[i];
    if (row) {
        buf_init(&row->members, RECOVERY_BYTES_MAX);
        row->number = number;
        /* What cannot be read comes back when its lease lapses. */
        if (tickets_read(fd, &row->members) < 0)
            log_event(LOG_WARN, "tickets_unreadable", LOG_I("number", number));
        log_event(LOG_INFO, "recovering", LOG_I("number", number),
                  LOG_I("jobs", row->members.size / JOB_MEMBER_SIZE));
        ask(row);
    }
    (void)close(fd);
}

void recovery_tick(struct recovery *recovery)
{
    for (unsigned i = 0; i < ORPHANS_MAX; i++) {
        struct recovery_row *row = &recovery->rows[i];
        if (row->number != 0 && row->asked_bytes == 0)
            ask(row);
    }
}
