/* The OpenAI wire shapes: error bodies, model lists, embeddings. Pure: values in, text out. */
#ifndef PENSTOCK_DIALECT_OPENAI_H
#define PENSTOCK_DIALECT_OPENAI_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/jdoc.h"
#include "common/base/slice.h"

/* `type` that goes with a status: "invalid_request_error", "rate_limit_exceeded", "server_error".
 */
const char *openai_error_type(int http_status);

struct openai_error {
    struct slice message;
    struct slice type;
    struct slice param; /* bytes NULL: null */
    struct slice code;  /* bytes NULL: null */
};
/* {"error":{"message","type","param","code"}}, all four keys always there. */
MUST_CHECK int openai_put_error(struct buf *out, const struct openai_error *error);

/* Whatever error body an upstream of any make answered, as the one above: OpenAI, vLLM, Ollama,
 * TEI, FastAPI, Anthropic, or text that is no JSON at all, for which the message is the status. */
MUST_CHECK int openai_put_upstream_error(struct buf *out, int http_status, struct slice body);

/* {"id","object":"model","created","owned_by"} */
MUST_CHECK int openai_put_model(struct buf *out, struct slice id, int64_t created_s,
                                struct slice owned_by);

/* Whether an embeddings request (its whole body) asks for base64. */
bool openai_wants_base64(const struct jval *request);
/* An embeddings answer whose vectors are arrays of numbers, with each vector as base64 of packed
 * little-endian float32. Returns 1 when out holds the new body, 0 when the answer stays as it is
 * (vectors are strings already, or it is no embeddings answer), ERR_NOMEM or ERR_TOO_BIG. */
MUST_CHECK int openai_encode_embeddings(struct slice body, struct buf *out);

#endif
