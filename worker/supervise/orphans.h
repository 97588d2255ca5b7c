/* Tickets of dead children, until a live one has recovered them. Owns the descriptors; sends
 * nothing itself. When full, the oldest is dropped: its jobs come back when their leases lapse. */
#ifndef PENSTOCK_SUPERVISE_ORPHANS_H
#define PENSTOCK_SUPERVISE_ORPHANS_H

#include <stdint.h>

#include "common/base/check.h"

enum { ORPHANS_MAX = 64, ORPHANS_NOBODY = -1 };

struct orphan {
    uint32_t number; /* 0: free */
    int fd;
    int holder; /* the child that was told, or ORPHANS_NOBODY */
};

struct orphans {
    uint32_t last_number;
    struct orphan rows[ORPHANS_MAX];
};

/* Takes fd. */
void orphans_add(struct orphans *orphans, int fd);
/* The oldest that nobody was told of; NULL: none. The caller sets holder once it told somebody. */
struct orphan *orphans_next(struct orphans *orphans);
/* Recovered: closes and forgets it. Unknown numbers and other holders are ignored. */
void orphans_done(struct orphans *orphans, uint32_t number, int holder);
/* This child is dead: what it was told has to be told to another. */
void orphans_return(struct orphans *orphans, int holder);
void orphans_deinit(struct orphans *orphans);

#endif
