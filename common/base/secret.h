/* A key or password: never printed, wiped when done. Comparisons take the same time wherever they
 * differ. */
#ifndef PENSTOCK_BASE_SECRET_H
#define PENSTOCK_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/check.h"
#include "common/base/error.h"

enum { SECRET_SIZE_MAX = 4096 };

/* Zeroed memory is a valid empty secret. Never pass its bytes to a format or the log: print "***".
 */
struct secret {
    char *bytes; /* terminated; NULL when empty */
    size_t size;
};

/* Copies; what was held is wiped first. ERR_INVALID: control characters, which would break out of a
 * header. ERR_TOO_BIG: over SECRET_SIZE_MAX. ERR_NOMEM. On failure the old value stays. */
MUST_CHECK int secret_set(struct secret *secret, const char *bytes, size_t size);
/* From the environment variable of that name. ERR_NOT_FOUND: unset or empty. why names the
 * variable, never its value. */
MUST_CHECK int secret_load_environment(struct secret *secret, const char *variable,
                                       struct error_text *why);
/* From a file; one line break at its end is left out. ERR_NOT_FOUND, ERR_IO. */
MUST_CHECK int secret_load_file(struct secret *secret, const char *path, struct error_text *why);
void secret_deinit(struct secret *secret);
bool secret_is_empty(const struct secret *secret);
/* Borrowed and terminated; "" when empty. For the call that needs it, not for keeping. */
const char *secret_text(const struct secret *secret);
bool secret_equal(const struct secret *secret, const char *bytes, size_t size);

#endif
