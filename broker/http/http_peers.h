/* How many connections each peer address has: a bounded table, keyed by address. */
#ifndef PENSTOCK_HTTP_HTTP_PEERS_H
#define PENSTOCK_HTTP_HTTP_PEERS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "common/base/check.h"

struct http_peers;

/* For at most connections_max connections together. NULL: out of memory. */
struct http_peers *http_peers_create(unsigned connections_max);
void http_peers_destroy(struct http_peers *peers);
/* Counts one more, unless that address has per_address_max already: false. Only IPv4 and IPv6 are
 * counted, everything else is let in. */
bool http_peers_enter(struct http_peers *peers, const struct sockaddr_storage *address,
                      unsigned per_address_max);
void http_peers_leave(struct http_peers *peers, const struct sockaddr_storage *address);

#endif
