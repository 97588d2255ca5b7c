#include "tls_server.h"

#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIFE_S = 30 };

static void need(bool condition, const char *what)
{
    if (condition)
        return;
    (void)fprintf(stderr, "tls_server: %s failed\n", what);
    abort();
}

static SSL_CTX *self_signed(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    need(key && certificate && context, "creating");
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_NAME *name = X509_get_subject_name(certificate);
    need(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"127.0.0.1",
                                    -1, -1, 0) == 1,
         "naming");
    need(X509_set_pubkey(certificate, key) == 1, "the public key");
    need(X509_set_issuer_name(certificate, name) == 1, "the issuer");
    need(X509_sign(certificate, key, EVP_sha256()) > 0, "signing");
    need(SSL_CTX_use_certificate(context, certificate) == 1, "using the certificate");
    need(SSL_CTX_use_PrivateKey(context, key) == 1, "using the key");
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

/* Exits 0 when the client turned the handshake down, 1 when it went on. */
static void serve(int listener, SSL_CTX *context)
{
    char byte;

    (void)alarm(LIFE_S);
    int fd = accept(listener, NULL, NULL);
    SSL *tls = SSL_new(context);
    need(fd >= 0 && tls && SSL_set_fd(tls, fd) == 1, "accepting");
    bool went_on = SSL_accept(tls) == 1 && SSL_read(tls, &byte, 1) == 1;
    _exit(went_on ? 1 : 0);
}

void tls_server_start(struct tls_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;

    SSL_CTX *context = self_signed();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    need(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "binding");
    need(listen(listener, 8) == 0, "listening");
    need(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "the port");
    server->port = ntohs(address.sin_port);
    (void)fflush(NULL);
    server->pid = fork();
    need(server->pid >= 0, "forking");
    if (server->pid == 0)
        serve(listener, context);
    close(listener);
    SSL_CTX_free(context);
}

bool tls_server_was_refused(struct tls_server *server)
{
    int status;

    need(waitpid(server->pid, &status, 0) == server->pid, "waiting");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
