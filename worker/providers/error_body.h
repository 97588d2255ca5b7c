/* What upstreams say when they refuse, in all the shapes there are, without parts of the prompt and
 * without keys. Pure. */
#ifndef PENSTOCK_PROVIDERS_ERROR_BODY_H
#define PENSTOCK_PROVIDERS_ERROR_BODY_H

#include <stddef.h>

#include "common/base/slice.h"

enum {
    ERROR_BODY_BYTES_MAX = 64 * 1024, /* larger bodies are not read */
    ERROR_BODY_QUOTE_MAX = 24 /* a longer quotation with spaces in it is taken for prompt text */
};

struct error_body {
    char message[512]; /* "" when there is none */
    char type[64];
    char code[64]; /* numbers as text */
};

void error_body_read(struct slice body, struct error_body *out);
/* "Bad Gateway"; "" for a status without a name. */
const char *error_status_text(int http_status);

#endif
