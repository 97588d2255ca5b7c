#include "sim_request.h"

#include "sim_text.h"

#include <stdarg.h>
#include <stdio.h>

bool refuse(struct refusal *out_refusal, int status, const char *code, const char *param,
            const char *format, ...)
{
    va_list arguments;

    out_refusal->status = status;
    out_refusal->code = code;
    out_refusal->param = param;
    va_start(arguments, format);
    (void)vsnprintf(out_refusal->message, sizeof(out_refusal->message), format, arguments);
    va_end(arguments);
    return false;
}

/* The members we read, raw. */
struct fields {
    struct scan_value model;
    struct scan_value messages;
    struct scan_value prompt;
    struct scan_value input;
    struct scan_value stream;
    struct scan_value stream_options;
    struct scan_value max_tokens;
    struct scan_value max_completion_tokens;
    struct scan_value n;
    struct scan_value encoding_format;
    struct scan_value dimensions;
    struct scan_value user;
    struct scan_value metadata;
    struct scan_value sim;
};

/* Where a member goes, NULL when nobody asks for it. */
static struct scan_value *find_field(struct fields *fields, struct slice key)
{
    static const struct {
        const char *name;
        size_t size;
        size_t offset;
    } rows[] = {
#define ROW(name) {#name, sizeof(#name) - 1, offsetof(struct fields, name)}
        ROW(model),
        ROW(messages),
        ROW(prompt),
        ROW(input),
        ROW(stream),
        ROW(max_tokens),
        ROW(user),
        ROW(metadata),
        ROW(encoding_format),
        ROW(dimensions),
        ROW(sim),
        ROW(n),
        ROW(stream_options),
        ROW(max_completion_tokens),
#undef ROW
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (key.size == rows[i].size && memcmp(key.data, rows[i].name, key.size) == 0)
            return (struct scan_value *)(void *)((char *)fields + rows[i].offset);
    return NULL;
}

static bool read_fields(struct slice body, struct fields *out_fields, struct refusal *out_refusal)
{
    struct scan_cursor cursor;
    struct slice key;
    struct scan_value value;
    int more = -1;

    memset(out_fields, 0, sizeof(*out_fields));
    if (scan_open(body, '{', &cursor)) {
        while ((more = scan_member(&cursor, &key, &value)) == 1) {
            struct scan_value *field = find_field(out_fields, key);
            if (field != NULL)
                *field = value;
        }
    }
    if (more < 0 || !scan_is_end(&cursor))
        return refuse(out_refusal, 400, NULL, NULL,
                      "We could not parse the JSON body of your request.");
    return true;
}

static bool is_absent(const struct scan_value *value)
{
    return value->kind == SCAN_NONE || value->kind == SCAN_NULL;
}

static bool read_int(const struct scan_value *value, const char *name, int64_t min, int64_t max,
                     int64_t *out_number, struct refusal *out_refusal)
{
    if (is_absent(value))
        return true;
    if (value->kind == SCAN_NUMBER && text_parse_int(value->text, min, max, out_number))
        return true;
    return refuse(out_refusal, 400, NULL, name, "'%s' must be an integer from %lld to %lld.", name,
                  (long long)min, (long long)max);
}

static bool read_flag(const struct scan_value *value, const char *name, bool *out_flag,
                      struct refusal *out_refusal)
{
    *out_flag = value->kind == SCAN_TRUE;
    if (is_absent(value) || value->kind == SCAN_TRUE || value->kind == SCAN_FALSE)
        return true;
    return refuse(out_refusal, 400, NULL, name, "'%s' must be a boolean.", name);
}

static bool read_stream_options(const struct scan_value *options, bool *out_usage,
                                struct refusal *out_refusal)
{
    struct scan_cursor cursor;
    struct slice key;
    struct scan_value value;

    if (is_absent(options))
        return true;
    if (options->kind != SCAN_OBJECT || !scan_open(options->text, '{', &cursor))
        return refuse(out_refusal, 400, NULL, "stream_options", "'stream_options' is no object.");
    while (scan_member(&cursor, &key, &value) == 1)
        if (SLICE_IS(key, "include_usage"))
            *out_usage = value.kind == SCAN_TRUE;
    return true;
}

static bool read_model(const struct scan_value *model, struct setting_room *room,
                       struct gen_request *out_request, struct refusal *out_refusal)
{
    if (model->kind != SCAN_STRING || model->text.size == 0)
        return refuse(out_refusal, 400, NULL, "model", "you must provide a model parameter");
    if (model->text.size > REQUEST_MODEL_BYTES_MAX ||
        !scan_decode(model->text, room->data + room->used, sizeof(room->data) - room->used,
                     &out_request->model))
        return refuse(out_refusal, 400, NULL, "model", "the model's name is too long");
    if (out_request->model.data != model->text.data)
        room->used += out_request->model.size;
    out_request->model_raw = model->text;
    return true;
}

static bool read_limits(const struct fields *fields, struct gen_request *out_request,
                        struct refusal *out_refusal)
{
    bool is_chat = out_request->endpoint == ENDPOINT_CHAT;

    out_request->choice_count = 1;
    out_request->max_tokens = -1;
    out_request->dimensions = REQUEST_DIMENSIONS_DEFAULT;
    return read_int(&fields->max_tokens, "max_tokens", is_chat ? 1 : 0, INT32_MAX,
                    &out_request->max_tokens, out_refusal) &&
           read_int(&fields->max_completion_tokens, "max_completion_tokens", 1, INT32_MAX,
                    &out_request->max_tokens, out_refusal) &&
           read_int(&fields->n, "n", 1, 128, &out_request->choice_count, out_refusal) &&
           read_int(&fields->dimensions, "dimensions", 1, REQUEST_DIMENSIONS_MAX,
                    &out_request->dimensions, out_refusal) &&
           read_flag(&fields->stream, "stream", &out_request->is_stream, out_refusal) &&
           read_stream_options(&fields->stream_options, &out_request->wants_usage, out_refusal);
}

/* Numbers only, or -1; an array of token ids weighs as many tokens as it has. */
static int64_t count_tokens(struct slice array)
{
    struct scan_cursor cursor;
    struct scan_value value;
    int64_t count = 0;
    int more = -1;

    if (scan_open(array, '[', &cursor))
        while ((more = scan_element(&cursor, &value)) == 1) {
            if (value.kind != SCAN_NUMBER)
                return -1;
            count++;
        }
    return more == 0 && count > 0 ? count : -1;
}

static int64_t text_tokens(size_t bytes)
{
    return (int64_t)(bytes + 3) / 4;
}

/* A prompt or input: a string, strings, token ids, or arrays of token ids; never a mixture. */
static bool read_prompts(const char *name, const struct scan_value *prompts, int64_t count_max,
                         struct gen_request *out_request, struct refusal *out_refusal)
{
    struct scan_cursor cursor;
    struct scan_value first = {.kind = SCAN_NONE};
    struct scan_value value;

    out_request->prompt_count = 1;
    if (prompts->kind == SCAN_STRING) {
        out_request->prompt_tokens = text_tokens(prompts->text.size);
        return prompts->text.size > 0 || out_request->endpoint != ENDPOINT_EMBEDDINGS ||
               refuse(out_refusal, 400, NULL, name, "'%s' must not be empty.", name);
    }
    if (prompts->kind != SCAN_ARRAY || !scan_open(prompts->text, '[', &cursor))
        return refuse(out_refusal, 400, NULL, name, "'%s' must be a string or an array.", name);
    int64_t count = 0;
    while (scan_element(&cursor, &value) == 1) {
        int64_t tokens = value.kind == SCAN_ARRAY    ? count_tokens(value.text)
                         : value.kind == SCAN_STRING ? text_tokens(value.text.size)
                                                     : 1;
        if (count == 0)
            first = value;
        if (value.kind != first.kind || tokens <= 0 ||
            (value.kind != SCAN_ARRAY && value.kind != SCAN_STRING && value.kind != SCAN_NUMBER))
            return refuse(out_refusal, 400, NULL, name, "'%s' holds something it must not.", name);
        out_request->prompt_tokens += tokens;
        count++;
    }
    if (count == 0)
        return refuse(out_refusal, 400, NULL, name, "'%s' must not be empty.", name);
    if (first.kind != SCAN_NUMBER)
        out_request->prompt_count = count;
    if (out_request->prompt_count > count_max)
        return refuse(out_refusal, 400, NULL, name, "'%s' has more than %lld elements.", name,
                      (long long)count_max);
    return true;
}

static bool read_messages(const struct scan_value *messages, struct gen_request *out_request,
                          struct refusal *out_refusal)
{
    if (messages->kind != SCAN_ARRAY || !scan_starts_with(messages, '{'))
        return refuse(out_refusal, 400, NULL, "messages",
                      "'messages' must be an array of at least one message.");
    out_request->prompt_count = 1;
    out_request->prompt_tokens = text_tokens(messages->text.size);
    return true;
}

static bool read_prompt(const struct fields *fields, struct gen_request *out_request,
                        struct refusal *out_refusal)
{
    static const struct scan_value nothing = {SCAN_STRING, {"<|endoftext|>", 13}};
    bool is_good = false;

    if (out_request->endpoint == ENDPOINT_COMPLETIONS) {
        out_request->prompt = is_absent(&fields->prompt) ? nothing : fields->prompt;
        is_good = read_prompts("prompt", &out_request->prompt, REQUEST_CHOICES_MAX, out_request,
                               out_refusal);
        if (is_good && out_request->prompt_count * out_request->choice_count > REQUEST_CHOICES_MAX)
            return refuse(out_refusal, 400, NULL, "n", "more than %d choices", REQUEST_CHOICES_MAX);
    } else if (out_request->endpoint == ENDPOINT_EMBEDDINGS) {
        out_request->prompt = fields->input;
        is_good = read_prompts("input", &out_request->prompt, REQUEST_INPUTS_MAX, out_request,
                               out_refusal);
    } else {
        out_request->prompt = fields->messages;
        is_good = read_messages(&fields->messages, out_request, out_refusal);
    }
    if (is_good)
        out_request->prompt_hash =
            text_hash(out_request->prompt.text.data, out_request->prompt.text.size, 1);
    return is_good;
}

static bool read_format(const struct scan_value *format, struct gen_request *out_request,
                        struct refusal *out_refusal)
{
    if (is_absent(format))
        return true;
    out_request->is_base64 = format->kind == SCAN_STRING && SLICE_IS(format->text, "base64");
    if (out_request->is_base64 || (format->kind == SCAN_STRING && SLICE_IS(format->text, "float")))
        return true;
    return refuse(out_refusal, 400, NULL, "encoding_format",
                  "'encoding_format' must be 'float' or 'base64'.");
}

bool request_decode(enum endpoint endpoint, struct slice body, struct setting_room *room,
                    struct gen_request *out_request, struct refusal *out_refusal)
{
    struct fields fields;

    memset(out_request, 0, sizeof(*out_request));
    out_request->endpoint = endpoint;
    if (!read_fields(body, &fields, out_refusal) ||
        !read_model(&fields.model, room, out_request, out_refusal) ||
        !read_limits(&fields, out_request, out_refusal) ||
        !read_format(&fields.encoding_format, out_request, out_refusal) ||
        !read_prompt(&fields, out_request, out_refusal))
        return false;
    if (endpoint == ENDPOINT_MESSAGES && out_request->max_tokens < 0)
        return refuse(out_refusal, 400, NULL, "max_tokens", "max_tokens: Field required");
    out_request->user = fields.user;
    out_request->metadata = fields.metadata;
    out_request->sim = fields.sim;
    return true;
}

/* Apply a text when it starts with "sim:"; other texts are the caller's own business. */
static bool apply_text(const struct scan_value *value, struct setting_room *room,
                       struct behaviour *behaviour, struct setting_error *out_why)
{
    struct slice text;

    if (value->kind != SCAN_STRING || !SLICE_STARTS(value->text, "sim:"))
        return true;
    if (!scan_decode(value->text, room->data + room->used, sizeof(room->data) - room->used,
                     &text)) {
        (void)snprintf(out_why->text, sizeof(out_why->text), "the simulator's text is too long");
        return false;
    }
    if (text.data != value->text.data)
        room->used += text.size;
    return behaviour_set_pairs(behaviour, (struct slice){text.data + 4, text.size - 4}, out_why);
}

bool request_behaviour(const struct gen_request *request, struct setting_room *room,
                       struct behaviour *behaviour, struct setting_error *out_why)
{
    struct scan_cursor cursor;
    struct slice key;
    struct scan_value value;

    if (request->sim.kind != SCAN_NONE && request->sim.kind != SCAN_NULL &&
        !behaviour_set_object(behaviour, request->sim.text, room, out_why))
        return false;
    if (!apply_text(&request->user, room, behaviour, out_why) ||
        !apply_text(&request->metadata, room, behaviour, out_why))
        return false;
    if (request->metadata.kind == SCAN_OBJECT && scan_open(request->metadata.text, '{', &cursor))
        while (scan_member(&cursor, &key, &value) == 1)
            if (!apply_text(&value, room, behaviour, out_why))
                return false;
    return true;
}
