/* An HTTP server in a process of its own whose answer, right or wrong, is named by the request's
 * path. Its counters stand in shared memory. */
#ifndef PENSTOCK_TESTS_SCRIPT_SERVER_H
#define PENSTOCK_TESTS_SCRIPT_SERVER_H

#include <stdatomic.h>
#include <sys/types.h>

struct script_counts {
    atomic_int connections; /* accepted */
    atomic_int open;
    atomic_int open_max;
    atomic_int requests; /* read to their end */
    atomic_int closed_by_peer;
    atomic_int health_status; /* what /health answers; 0: it closes the connection */
    atomic_int models;        /* how many /v1/models lists: m1, m2, …; negative: not JSON */
};

/* Paths:
 *   /ok              200 and {"size": bytes of the body, "sum": their sum}
 *   /wait/MS         the same after MS milliseconds
 *   /hang            nothing, ever
 *   /cut /reset      the connection ends, with FIN or RST, before an answer
 *   /cut-head        … inside the headers
 *   /cut-body        … inside a body of known length
 *   /cut-chunk       … inside a chunked body
 *   /stall           headers and a few bytes, then nothing
 *   /drip/MS/N       N bytes, one every MS milliseconds
 *   /garbage /http09 not HTTP
 *   /endless         a chunked body without an end
 *   /length/N        a body of N bytes of known length
 *   /head-flood      headers without an end
 *   /head-line       one header line of 1 MiB
 *   /gzip            a content coding nobody asked for
 *   /limited         429 with every header of interest
 *   /redirect        302 to /ok
 *   /continue        two 1xx answers with headers before the 200
 *   /longer          more body than the length said
 *   /health          counts->health_status
 *   /v1/models       counts->models of them
 *   /once            200; the next request on this connection is read and the connection closed
 */
struct script_server {
    pid_t pid;
    int port;
    int lifeline; /* the server ends when this closes */
    struct script_counts *counts;
};

void script_server_start(struct script_server *server);
void script_server_stop(struct script_server *server);

#endif
