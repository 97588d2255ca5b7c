/* Host names to addresses, off the loop: libuv's thread pool asks, name_cache remembers. At most
 * one look-up runs per name, so a dead name server holds as many threads as there are names, never
 * one per call. */
#ifndef PENSTOCK_UPSTREAM_RESOLVER_H
#define PENSTOCK_UPSTREAM_RESOLVER_H

#include <stdint.h>

#include "common/base/check.h"
#include "worker/upstream/link.h"

struct uv_loop_s;
struct resolver;

struct resolver_wait {
    struct link link;
    /* addresses: NULL when the name was not found; borrowed. Not called after resolver_cancel. */
    void (*on_done)(struct resolver_wait *wait, const char *addresses);
};

MUST_CHECK int resolver_create(struct uv_loop_s *loop, struct resolver **out);
/* Nobody may wait any more. Look-ups that run are left to themselves: each keeps the loop alive
 * until the system's resolver gives up, and then only frees its own memory. */
void resolver_destroy(struct resolver *resolver);
/* 1: *out_addresses (borrowed until the next call) may be used as libcurl's pinned list. 0:
 * wait->on_done comes later. ERR_NOT_FOUND, ERR_FULL, ERR_NOMEM. */
MUST_CHECK int resolver_find(struct resolver *resolver, const char *host,
                             struct resolver_wait *wait, const char **out_addresses);
void resolver_cancel(struct resolver_wait *wait);

#endif
