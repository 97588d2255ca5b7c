#include "sim_reply.h"

enum { TOKEN_BYTES = 4 };

void put_model(struct text_buf *body, const struct gen_request *request)
{
    PUT(body, "\"model\":\"");
    put_slice(body, request->model_raw);
    PUT(body, "\"");
}

/* Nonces are echoed so that a harness can tell whose answer this is; what would need escaping or
 * could be split in two by max_tokens becomes '_'. */
static void put_plain(struct text_buf *text, struct slice nonce)
{
    for (size_t i = 0; i < nonce.size; i++) {
        char letter = nonce.data[i];
        bool is_plain = letter >= 0x20 && letter < 0x7F && letter != '"' && letter != '\\';
        put_char(text, is_plain ? letter : '_');
    }
}

int64_t reply_make_text(const struct reply_context *context, int64_t choice, bool *out_is_cut)
{
    static const char filler[] = " and so on";
    struct text_buf *text = context->text;
    int64_t tokens = context->behaviour->tokens;
    int64_t max_tokens = context->request->max_tokens;

    text->size = 0;
    if (context->behaviour->bad_utf8)
        PUT(text, "\xff\xfe");
    PUT(text, "Simulated answer by penstock-sim, no model ran. Prompt hash ");
    put_hex(text, context->request->prompt_hash, 16);
    PUT(text, ".");
    if (choice > 0) {
        PUT(text, " Choice ");
        put_i64(text, choice);
        PUT(text, ".");
    }
    if (context->behaviour->nonce.size > 0) {
        PUT(text, " Nonce ");
        put_plain(text, context->behaviour->nonce);
        PUT(text, ".");
    }
    if (tokens == 0)
        tokens = (int64_t)(text->size + TOKEN_BYTES - 1) / TOKEN_BYTES;
    *out_is_cut = max_tokens >= 0 && tokens > max_tokens;
    if (*out_is_cut)
        tokens = max_tokens;
    size_t size = (size_t)tokens * TOKEN_BYTES;
    if (context->behaviour->tokens > 0)
        while (text->size < size && !text->is_overflowed)
            PUT(text, filler);
    if (text->size > size)
        text->size = size;
    return tokens;
}

void put_usage(struct text_buf *body, int64_t prompt_tokens, int64_t completion_tokens)
{
    PUT(body, "{\"prompt_tokens\":");
    put_i64(body, prompt_tokens);
    PUT(body, ",\"completion_tokens\":");
    put_i64(body, completion_tokens);
    PUT(body, ",\"total_tokens\":");
    put_i64(body, prompt_tokens + completion_tokens);
    PUT(body, ",\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
              "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
              "\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}");
}

static void put_opening(const struct reply_context *context, const char *prefix, const char *object,
                        struct text_buf *body)
{
    PUT(body, "{\"id\":\"");
    put_text(body, prefix);
    put_hex(body, context->id, 16);
    PUT(body, "\",\"object\":\"");
    put_text(body, object);
    PUT(body, "\",\"created\":");
    put_i64(body, context->created_s);
    PUT(body, ",");
    put_model(body, context->request);
}

static void render_chat(const struct reply_context *context, struct text_buf *body,
                        struct reply_result *out_result)
{
    bool is_cut;

    put_opening(context, "chatcmpl-", "chat.completion", body);
    PUT(body, ",\"choices\":[");
    for (int64_t i = 0; i < context->request->choice_count; i++) {
        out_result->completion_tokens += reply_make_text(context, i, &is_cut);
        put_text(body, i == 0 ? "{\"index\":" : ",{\"index\":");
        put_i64(body, i);
        PUT(body, ",\"message\":{\"role\":\"assistant\",\"content\":\"");
        put_bytes(body, context->text->data, context->text->size);
        if (i == 0)
            out_result->pad_at = body->size;
        PUT(body, "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"");
        put_text(body, is_cut ? "length\"}" : "stop\"}");
    }
    PUT(body, "],\"usage\":");
    put_usage(body, context->request->prompt_tokens, out_result->completion_tokens);
    PUT(body, ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_penstock_sim\"}");
}

static void render_completions(const struct reply_context *context, struct text_buf *body,
                               struct reply_result *out_result)
{
    int64_t count = context->request->prompt_count * context->request->choice_count;
    bool is_cut;

    put_opening(context, "cmpl-", "text_completion", body);
    PUT(body, ",\"choices\":[");
    for (int64_t i = 0; i < count; i++) {
        out_result->completion_tokens += reply_make_text(context, i, &is_cut);
        put_text(body, i == 0 ? "{\"text\":\"" : ",{\"text\":\"");
        put_bytes(body, context->text->data, context->text->size);
        if (i == 0)
            out_result->pad_at = body->size;
        PUT(body, "\",\"index\":");
        put_i64(body, i);
        PUT(body, ",\"logprobs\":null,\"finish_reason\":\"");
        put_text(body, is_cut ? "length\"}" : "stop\"}");
    }
    PUT(body, "],\"usage\":");
    put_usage(body, context->request->prompt_tokens, out_result->completion_tokens);
    PUT(body, ",\"system_fingerprint\":\"fp_penstock_sim\"}");
}

static void render_messages(const struct reply_context *context, struct text_buf *body,
                            struct reply_result *out_result)
{
    bool is_cut;

    out_result->completion_tokens = reply_make_text(context, 0, &is_cut);
    PUT(body, "{\"id\":\"msg_");
    put_hex(body, context->id, 16);
    PUT(body, "\",\"type\":\"message\",\"role\":\"assistant\",");
    put_model(body, context->request);
    PUT(body, ",\"content\":[{\"type\":\"text\",\"text\":\"");
    put_bytes(body, context->text->data, context->text->size);
    out_result->pad_at = body->size;
    PUT(body, "\",\"citations\":null}],\"stop_reason\":\"");
    put_text(body, is_cut ? "max_tokens" : "end_turn");
    PUT(body, "\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":");
    put_i64(body, context->request->prompt_tokens);
    PUT(body, ",\"output_tokens\":");
    put_i64(body, out_result->completion_tokens);
    PUT(body, ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0}}");
}

void reply_render(const struct reply_context *context, struct text_buf *body,
                  struct reply_result *out_result)
{
    *out_result = (struct reply_result){0};
    if (context->request->endpoint == ENDPOINT_CHAT) {
        render_chat(context, body, out_result);
    } else if (context->request->endpoint == ENDPOINT_COMPLETIONS) {
        render_completions(context, body, out_result);
    } else if (context->request->endpoint == ENDPOINT_MESSAGES) {
        render_messages(context, body, out_result);
    } else if (context->request->endpoint == ENDPOINT_EMBEDDINGS) {
        reply_render_embeddings(context, body);
    } else {
        SIM_CHECK(context->request->endpoint == ENDPOINT_COUNT_TOKENS);
        PUT(body, "{\"input_tokens\":");
        put_i64(body, context->request->prompt_tokens);
        PUT(body, "}");
    }
}

static const char *openai_type(int status)
{
    if (status == 429)
        return "rate_limit_exceeded";
    return status >= 500 ? "server_error" : "invalid_request_error";
}

static const char *anthropic_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 402:
        return "billing_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 409:
        return "conflict_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 504:
        return "timeout_error";
    case 503:
    case 529:
        return "overloaded_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

static void put_nullable(struct text_buf *body, const char *text)
{
    if (text == NULL)
        PUT(body, "null");
    else
        put_quoted(body, (struct slice){text, strlen(text)});
}

void reply_render_error(const struct refusal *refusal, bool is_anthropic, uint64_t request_id,
                        struct text_buf *body)
{
    if (is_anthropic) {
        PUT(body, "{\"type\":\"error\",\"error\":{\"type\":");
        put_nullable(body, anthropic_type(refusal->status));
        PUT(body, ",\"message\":");
        put_nullable(body, refusal->message);
        PUT(body, "},\"request_id\":\"req_");
        put_hex(body, request_id, 16);
        PUT(body, "\"}");
        return;
    }
    PUT(body, "{\"error\":{\"message\":");
    put_nullable(body, refusal->message);
    PUT(body, ",\"type\":");
    put_nullable(body, openai_type(refusal->status));
    PUT(body, ",\"param\":");
    put_nullable(body, refusal->param);
    PUT(body, ",\"code\":");
    put_nullable(body, refusal->code);
    PUT(body, "}}");
}
