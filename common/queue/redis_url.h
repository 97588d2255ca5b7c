/* Where a Redis is and how to log in: redis://, rediss://, unix:// as text and as values. No I/O.
 */
#ifndef PENSTOCK_QUEUE_REDIS_URL_H
#define PENSTOCK_QUEUE_REDIS_URL_H

#include <stdbool.h>

#include "common/base/check.h"
#include "common/base/error.h"

struct redis_url {
    bool has_tls;
    char host[256]; /* "" for a unix socket; without brackets for IPv6 */
    char path[108]; /* of the unix socket */
    int port;
    int database;
    char user[128]; /* "" = the default user */
    char password[512];
};

/* redis://[[user]:password@]host[:port][/database], rediss:// likewise, and
 * unix://[[user]:password@]/path/to.sock[?db=N]. User and password are percent-decoded. ERR_INVALID
 * with the reason (never the password) in why, also for forms this build cannot connect to.
 * rediss:// checks the server's certificate against /etc/ssl/certs; hiredis does not compare names.
 */
MUST_CHECK int redis_url_parse(const char *text, struct redis_url *out, struct error_text *why);

#endif
