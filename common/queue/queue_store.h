/* Inside of struct queue: what queue_store.c knows of the Redis it speaks to. */
#ifndef PENSTOCK_QUEUE_QUEUE_STORE_H
#define PENSTOCK_QUEUE_QUEUE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"

/* What is known of the Redis behind the connection. */
struct queue_store {
    bool is_fit; /* probed, functions there, identity as before */
    bool is_probing;
    bool is_strange; /* not the store we know: not even reads make sense */
    bool uses_scripts;
    bool is_nearly_full;
    bool was_loaded; /* functions were loaded in this probe */
    const char *reason;
    char detail[256];
    char note[128]; /* what could not be checked */
    char id[33];
    char version[32];
    int64_t memory_used, memory_max;
    int64_t claimable_mono_ms; /* last sweep that was answered */
    int64_t probed_mono_ms;
    int64_t newer_mono_ms;   /* when we last said that a newer version's jobs are here; 0: never */
    unsigned schema;         /* what new records are written in; 0: not known yet */
    bool is_clock_known;     /* false: the offset is that of our own wall clock */
    int64_t clock_offset_ms; /* Redis' clock minus boot time, which nobody sets */
    unsigned info_left;      /* answers the probe waits for */
    int info_status;
    struct buf info;
};

#endif
