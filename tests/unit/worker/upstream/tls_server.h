/* A TLS server for one connection, in a process of its own, with a certificate nobody vouches for.
 * Apart from the other helpers because OpenSSL and we use some of the same names. */
#ifndef PENSTOCK_TESTS_TLS_SERVER_H
#define PENSTOCK_TESTS_TLS_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct tls_server {
    pid_t pid;
    int port;
};

void tls_server_start(struct tls_server *server);
/* Ends it; whether the client turned it down before it said anything. */
bool tls_server_was_refused(struct tls_server *server);

#endif
