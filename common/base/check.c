/* The last words of a process whose invariant broke. Knows nothing that could fail again. */
#include "common/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"

void check_failed(const char *file, int line, const char *condition)
{
    char text[512];
    int size = snprintf(text, sizeof text, "%s:%d: check failed: %s\n", file, line, condition);

    /* What led here is still in the ring; log_flush holds no CHECK, so this cannot come back. */
    (void)log_flush();
    if (size > 0) {
        size_t count = (size_t)size < sizeof text ? (size_t)size : sizeof text - 1;
        ssize_t written = write(STDERR_FILENO, text, count);
        (void)written; /* there is nowhere left to say so */
    }
    abort();
}
