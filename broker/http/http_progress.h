/* What the kernel says of a TCP connection's progress. Apart because its header fights with
 * libuv's. */
#ifndef PENSTOCK_HTTP_HTTP_PROGRESS_H
#define PENSTOCK_HTTP_HTTP_PROGRESS_H

#include <stdint.h>

/* Bytes since the connection began; -1: this socket does not tell. */
int64_t http_progress_received(int fd);
int64_t http_progress_acknowledged(int fd);

#endif
