/* The bodies of answers: JSON and event streams in both dialects. Pure: bytes from values. */
#ifndef SIM_REPLY_H
#define SIM_REPLY_H

#include "sim_base.h"
#include "sim_request.h"
#include "sim_settings.h"
#include "sim_text.h"

/* What a rendering needs from outside. */
struct reply_context {
    const struct gen_request *request;
    const struct behaviour *behaviour;
    struct text_buf *text; /* scratch */
    int64_t created_s;
    uint64_t id;
};

/* What came of it. */
struct reply_result {
    size_t pad_at; /* place in the body where padding goes; 0: at the end, as a member of its own */
    int64_t completion_tokens;
};

/* Append the body to an empty `body`. An overflowed body is the caller's to notice. */
void reply_render(const struct reply_context *context, struct text_buf *body,
                  struct reply_result *out_result);

/* The events of a stream, each ended by an empty line. */
void reply_render_stream(const struct reply_context *context, struct text_buf *body,
                         struct reply_result *out_result);

void reply_render_embeddings(const struct reply_context *context, struct text_buf *body);

void reply_render_error(const struct refusal *refusal, bool is_anthropic, uint64_t request_id,
                        struct text_buf *body);

/* --- shared by the files of this noun -------------------------------------------------------- */

/* The answer of one choice: text into context->text, its size in tokens, and whether max_tokens
 * cut it short. The same prompt, choice and nonce always give the same text. */
int64_t reply_make_text(const struct reply_context *context, int64_t choice, bool *out_is_cut);

void put_usage(struct text_buf *body, int64_t prompt_tokens, int64_t completion_tokens);
void put_model(struct text_buf *body, const struct gen_request *request);

#endif
