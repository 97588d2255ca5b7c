#include "worker/recovery.h"

#include <assert.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/job/job_codec.h"

enum { RECOVERY_BYTES_MAX = 64 * 1024 * 1024 };

static_assert((int)TICKETS_CHILD_SIZE == (int)QUEUE_CHILD_SIZE, "the same id");

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

    CHECK(!row->is_asking);
    row->is_asking = true;
    row->is_hunting = count == 0;
    if (row->is_hunting) {
        queue_recover_child(row->recovery->queue, row->child_id, row->blame, on_done, row);
        return;
    }
    unsigned count_max = row->has_culprit ? 1 : LIMIT_SWEEP;
    if (count > count_max)
        count = count_max;
    row->asked_bytes = count * JOB_MEMBER_SIZE;
    queue_recover(row->recovery->queue, row->members.data, (unsigned)count,
                  row->has_culprit ? QUEUE_BLAME_CULPRIT : row->blame, on_done, row);
}

static void on_done(int status, void *arg)
{
    struct recovery_row *row = arg;

    CHECK(row->is_asking);
    row->is_asking = false;
    if (status == ERR_INVALID) { /* not an id: nothing more can be found */
        finish_row(row);
        return;
    }
    if (status < 0)
        return; /* recovery_tick asks again; a member that was recovered meanwhile does no harm */
    if (row->is_hunting) {
        finish_row(row);
        return;
    }
    buf_consume(&row->members, row->asked_bytes);
    row->has_culprit = false;
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
        CHECK(!recovery->rows[i].is_asking);
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
        int status = tickets_read(fd, &row->members, row->child_id);
        log_event(status < 0 && status != ERR_NOT_FOUND ? LOG_WARN : LOG_INFO, "recovering",
                  LOG_I("number", number), LOG_I("jobs", row->members.size / JOB_MEMBER_SIZE),
                  LOG_I("suspects", status == 1),
                  LOG_S("tickets", status < 0 ? error_text_of(status) : "read"));
        row->has_culprit = status == 1;
        row->blame = status == 1 ? QUEUE_BLAME_NOBODY : QUEUE_BLAME_EACH;
        if (status >= 0)
            ask(row);
        else /* what cannot be read comes back when its lease lapses */
            finish_row(row);
    }
    (void)close(fd);
}

void recovery_tick(struct recovery *recovery)
{
    for (unsigned i = 0; i < ORPHANS_MAX; i++) {
        struct recovery_row *row = &recovery->rows[i];
        if (row->number != 0 && !row->is_asking)
            ask(row);
    }
}
