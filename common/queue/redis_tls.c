/* A file of its own: OpenSSL's names do not go together with ours. What hiredis would make by
 * itself takes any name in a certificate. */
#include "common/queue/redis_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static int expect_host(SSL *tls, const char *host)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host) == 1)
        return 1;
    ERR_clear_error();
    return SSL_set1_host(tls, host) == 1 && SSL_set_tlsext_host_name(tls, host) == 1;
}

struct ssl_st *redis_tls_create(const char *host)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *tls = NULL;

    if (context && SSL_CTX_set_default_verify_paths(context) == 1 &&
        SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1)
        tls = SSL_new(context);
    SSL_CTX_free(context); /* the connection keeps it */
    if (!tls)
        return NULL;
    SSL_set_verify(tls, SSL_VERIFY_PEER, NULL);
    if (!expect_host(tls, host)) {
        SSL_free(tls);
        return NULL;
    }
    return tls;
}

void redis_tls_destroy(struct ssl_st *tls)
{
    SSL_free(tls);
}
