/* Answers as server-sent events, one per token, in both dialects. */
#include "sim_reply.h"

enum {
    PIECE_BYTES = 4 /* one token */
};

static void open_chunk(const struct reply_context *context, struct text_buf *body)
{
    bool is_chat = context->request->endpoint == ENDPOINT_CHAT;

    put_text(body, is_chat ? "data: {\"id\":\"chatcmpl-" : "data: {\"id\":\"cmpl-");
    put_hex(body, context->id, 16);
    PUT(body, "\",\"object\":\"");
    put_text(body, is_chat ? "chat.completion.chunk" : "text_completion");
    PUT(body, "\",\"created\":");
    put_i64(body, context->created_s);
    PUT(body, ",");
    put_model(body, context->request);
    put_text(body, is_chat ? ",\"service_tier\":\"default\",\"system_fingerprint\":"
                             "\"fp_penstock_sim\",\"choices\":["
                           : ",\"system_fingerprint\":\"fp_penstock_sim\",\"choices\":[");
}

/* Ends the chunk of a choice. A bad one lacks its last brace. */
static void close_chunk(const struct reply_context *context, bool is_bad, struct text_buf *body)
{
    PUT(body, "]");
    if (context->request->wants_usage)
        PUT(body, ",\"usage\":null");
    put_text(body, is_bad ? ",\n\n" : "}\n\n");
}

/* One choice's chunk: `piece` is its text; finish_reason NULL until the last. */
static void put_choice(const struct reply_context *context, int64_t choice, struct slice piece,
                       bool is_first, const char *finish_reason, struct text_buf *body)
{
    bool is_chat = context->request->endpoint == ENDPOINT_CHAT;

    open_chunk(context, body);
    PUT(body, "{\"index\":");
    put_i64(body, choice);
    if (!is_chat) {
        PUT(body, ",\"text\":\"");
        put_slice(body, piece);
        PUT(body, "\"");
    } else if (is_first) {
        PUT(body, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
    } else if (finish_reason == NULL) {
        PUT(body, ",\"delta\":{\"content\":\"");
        put_slice(body, piece);
        PUT(body, "\"}");
    } else {
        PUT(body, ",\"delta\":{}");
    }
    PUT(body, ",\"logprobs\":null,\"finish_reason\":");
    if (finish_reason == NULL) {
        PUT(body, "null}");
    } else {
        PUT(body, "\"");
        put_text(body, finish_reason);
        PUT(body, "\"}");
    }
    close_chunk(context, context->behaviour->bad_json && piece.size > 0, body);
}

static struct slice piece_at(const struct text_buf *text, size_t at)
{
    size_t size = text->size - at;

    return (struct slice){text->data + at, size < PIECE_BYTES ? size : PIECE_BYTES};
}

static void render_openai(const struct reply_context *context, struct text_buf *body,
                          struct reply_result *out_result)
{
    const struct gen_request *request = context->request;
    int64_t count = request->prompt_count * request->choice_count;
    struct slice nothing = {"", 0};
    bool is_cut;

    for (int64_t i = 0; i < count && !body->is_overflowed; i++) {
        out_result->completion_tokens += reply_make_text(context, i, &is_cut);
        if (request->endpoint == ENDPOINT_CHAT)
            put_choice(context, i, nothing, true, NULL, body);
        for (size_t at = 0; at < context->text->size; at += PIECE_BYTES)
            put_choice(context, i, piece_at(context->text, at), false, NULL, body);
        put_choice(context, i, nothing, false, is_cut ? "length" : "stop", body);
    }
    if (context->behaviour->stream_error) {
        PUT(body, "data: {\"error\":{\"message\":\"Simulated error in the stream.\",\"type\":"
                  "\"server_error\",\"param\":null,\"code\":null}}\n\n");
        return;
    }
    if (request->wants_usage) {
        open_chunk(context, body);
        PUT(body, "],\"usage\":");
        put_usage(body, request->prompt_tokens, out_result->completion_tokens);
        PUT(body, "}\n\n");
    }
    PUT(body, "data: [DONE]\n\n");
}

static void put_event(struct text_buf *body, const char *type)
{
    PUT(body, "event: ");
    put_text(body, type);
    PUT(body, "\ndata: {\"type\":\"");
    put_text(body, type);
    PUT(body, "\"");
}

static void render_anthropic(const struct reply_context *context, struct text_buf *body,
                             struct reply_result *out_result)
{
    bool is_cut;

    out_result->completion_tokens = reply_make_text(context, 0, &is_cut);
    put_event(body, "message_start");
    PUT(body, ",\"message\":{\"id\":\"msg_");
    put_hex(body, context->id, 16);
    PUT(body, "\",\"type\":\"message\",\"role\":\"assistant\",");
    put_model(body, context->request);
    PUT(body, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
              "\"usage\":{\"input_tokens\":");
    put_i64(body, context->request->prompt_tokens);
    PUT(body, ",\"output_tokens\":1,\"cache_creation_input_tokens\":0,"
              "\"cache_read_input_tokens\":0}}}\n\n");
    put_event(body, "content_block_start");
    PUT(body, ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    for (size_t at = 0; at < context->text->size; at += PIECE_BYTES) {
        put_event(body, "content_block_delta");
        PUT(body, ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"");
        put_slice(body, piece_at(context->text, at));
        put_text(body, context->behaviour->bad_json ? "\"},\n\n" : "\"}}\n\n");
    }
    if (context->behaviour->stream_error) {
        put_event(body, "error");
        PUT(body, ",\"error\":{\"type\":\"overloaded_error\",\"message\":"
                  "\"Simulated error in the stream.\"}}\n\n");
        return;
    }
    put_event(body, "content_block_stop");
    PUT(body, ",\"index\":0}\n\n");
    put_event(body, "message_delta");
    PUT(body, ",\"delta\":{\"stop_reason\":\"");
    put_text(body, is_cut ? "max_tokens" : "end_turn");
    PUT(body, "\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":");
    put_i64(body, out_result->completion_tokens);
    PUT(body, "}}\n\n");
    put_event(body, "message_stop");
    PUT(body, "}\n\n");
}

void reply_render_stream(const struct reply_context *context, struct text_buf *body,
                         struct reply_result *out_result)
{
    *out_result = (struct reply_result){0};
    if (context->request->endpoint == ENDPOINT_MESSAGES)
        render_anthropic(context, body, out_result);
    else
        render_openai(context, body, out_result);
}
