/* TLS towards Redis: whom we trust, and for which name. */
#ifndef PENSTOCK_QUEUE_REDIS_TLS_H
#define PENSTOCK_QUEUE_REDIS_TLS_H

struct ssl_st;

/* One connection's end that accepts only a certificate of the system's authorities ($SSL_CERT_FILE
 * and $SSL_CERT_DIR count) for `host`, a name or an address. NULL: no memory, or not a host. */
struct ssl_st *redis_tls_create(const char *host);
void redis_tls_destroy(struct ssl_st *tls);

#endif
