#include "worker/upstream/resolver.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "worker/upstream/name_cache.h"

enum { ADDRESSES_PER_NAME_MAX = 8 };

struct resolver {
    uv_loop_t *loop;
    struct name_cache cache;
    struct link lookups;
};

/* Outlives the resolver when it has to: the thread that asks cannot be stopped. */
struct lookup {
    uv_getaddrinfo_t request;
    struct resolver *resolver; /* NULL: the resolver is gone */
    struct name_entry *entry;
    struct link link;
};

int resolver_create(struct uv_loop_s *loop, struct resolver **out)
{
    struct resolver *resolver = calloc(1, sizeof *resolver);
    if (!resolver)
        return ERR_NOMEM;
    resolver->loop = loop;
    link_open(&resolver->lookups);
    *out = resolver;
    return 0;
}

void resolver_destroy(struct resolver *resolver)
{
    if (!resolver)
        return;
    while (!link_is_empty(&resolver->lookups)) {
        struct lookup *lookup = LINK_OWNER(resolver->lookups.next, struct lookup, link);
        CHECK(link_is_empty(&lookup->entry->waits));
        link_remove(&lookup->link);
        lookup->resolver = NULL;
        lookup->entry = NULL;
        (void)uv_cancel((uv_req_t *)&lookup->request); /* works while it waits for a thread */
    }
    name_cache_deinit(&resolver->cache);
    free(resolver);
}

/* "10.0.0.1,[::1]": what libcurl's pinned list takes. */
static int format_addresses(const struct addrinfo *found, struct buf *out)
{
    char text[64];
    unsigned count = 0;

    for (; found && count < ADDRESSES_PER_NAME_MAX; found = found->ai_next) {
        const char *comma = count > 0 ? "," : "";
        int status = ERR_INVALID;
        if (found->ai_family == AF_INET &&
            uv_ip4_name((const struct sockaddr_in *)(const void *)found->ai_addr, text,
                        sizeof text) == 0)
            status = buf_printf(out, "%s%s", comma, text);
        else if (found->ai_family == AF_INET6 &&
                 uv_ip6_name((const struct sockaddr_in6 *)(const void *)found->ai_addr, text,
                             sizeof text) == 0)
            status = buf_printf(out, "%s[%s]", comma, text);
        if (status == ERR_TOO_BIG)
            break;
        if (status == 0)
            count++;
    }
    return count > 0 ? 0 : ERR_NOT_FOUND;
}

/* Wakes everybody who waited; they may start calls, and so look-ups, meanwhile. */
static void wake(struct name_entry *entry)
{
    struct link waits;
    char addresses[NAME_ADDRESSES_SIZE];

    memcpy(addresses, entry->addresses, sizeof addresses);
    link_move_all(&entry->waits, &waits);
    while (!link_is_empty(&waits)) {
        struct resolver_wait *wait = LINK_OWNER(waits.next, struct resolver_wait, link);
        link_remove(&wait->link);
        wait->on_done(wait, addresses[0] != '\0' ? addresses : NULL);
    }
}

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct lookup *lookup = request->data;
    struct resolver *resolver = lookup->resolver;
    struct name_entry *entry = lookup->entry;
    struct buf addresses;

    buf_init(&addresses, NAME_ADDRESSES_SIZE - 1);
    if (status == 0)
        status = format_addresses(found, &addresses);
    uv_freeaddrinfo(found);
    link_remove(&lookup->link);
    free(lookup);
    if (resolver) {
        name_cache_store(entry, status == 0 ? addresses.data : NULL, clock_mono_ms());
        wake(entry);
    }
    buf_deinit(&addresses);
}

static int ask(struct resolver *resolver, struct name_entry *entry)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct lookup *lookup = calloc(1, sizeof *lookup);

    if (!lookup)
        return ERR_NOMEM;
    lookup->resolver = resolver;
    lookup->entry = entry;
    lookup->request.data = lookup;
    int status =
        uv_getaddrinfo(resolver->loop, &lookup->request, on_looked_up, entry->host, NULL, &hints);
    if (status != 0) {
        free(lookup);
        return status == UV_ENOMEM ? ERR_NOMEM : ERR_NOT_FOUND;
    }
    link_add(&resolver->lookups, &lookup->link);
    return 0;
}

int resolver_find(struct resolver *resolver, const char *host, struct resolver_wait *wait,
                  const char **out_addresses)
{
    struct name_entry *entry;
    bool must_ask;

    enum name_answer answer =
        name_cache_find(&resolver->cache, host, clock_mono_ms(), &entry, &must_ask);
    if (must_ask) {
        int status = ask(resolver, entry);
        if (status < 0)
            name_cache_store(entry, NULL, clock_mono_ms());
        if (status < 0 && answer == NAME_WAIT)
            return status;
    }
    switch (answer) {
    case NAME_READY:
        *out_addresses = entry->addresses;
        return 1;
    case NAME_WAIT:
        link_add(&entry->waits, &wait->link);
        return 0;
    case NAME_NOT_FOUND:
        return ERR_NOT_FOUND;
    case NAME_FULL:
        break;
    }
    return ERR_FULL;
}

void resolver_cancel(struct resolver_wait *wait)
{
    link_remove(&wait->link);
}
