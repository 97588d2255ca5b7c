#include "worker/supervise/orphans.h"

#include <unistd.h>

static void forget(struct orphan *orphan)
{
    (void)close(orphan->fd);
    *orphan = (struct orphan){0};
}

/* A free row, or the oldest one after it was freed. */
static struct orphan *free_row(struct orphans *orphans)
{
    struct orphan *oldest = &orphans->rows[0];

    for (unsigned i = 0; i < ORPHANS_MAX; i++) {
        struct orphan *row = &orphans->rows[i];
        if (row->number == 0)
            return row;
        if (row->number < oldest->number)
            oldest = row;
    }
    forget(oldest);
    return oldest;
}

void orphans_add(struct orphans *orphans, int fd)
{
    CHECK(fd >= 0);
    CHECK(orphans->last_number < UINT32_MAX);
    struct orphan *row = free_row(orphans);
    *row = (struct orphan){.number = ++orphans->last_number, .fd = fd, .holder = ORPHANS_NOBODY};
}

struct orphan *orphans_next(struct orphans *orphans)
{
    struct orphan *oldest = NULL;

    for (unsigned i = 0; i < ORPHANS_MAX; i++) {
        struct orphan *row = &orphans->rows[i];
        if (row->number != 0 && row->holder == ORPHANS_NOBODY &&
            (!oldest || row->number < oldest->number))
            oldest = row;
    }
    return oldest;
}

void orphans_done(struct orphans *orphans, uint32_t number, int holder)
{
    for (unsigned i = 0; i < ORPHANS_MAX; i++) {
        struct orphan *row = &orphans->rows[i];
        if (number != 0 && row->number == number && row->holder == holder)
            forget(row);
    }
}

void orphans_return(struct orphans *orphans, int holder)
{
    CHECK(holder >= 0);
    for (unsigned i = 0; i < ORPHANS_MAX; i++)
        if (orphans->rows[i].number != 0 && orphans->rows[i].holder == holder)
            orphans->rows[i].holder = ORPHANS_NOBODY;
}

void orphans_deinit(struct orphans *orphans)
{
    for (unsigned i = 0; i < ORPHANS_MAX; i++)
        if (orphans->rows[i].number != 0)
            forget(&orphans->rows[i]);
}
