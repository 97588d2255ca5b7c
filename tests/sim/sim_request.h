/* The JSON body of a generation request: which fields it has, what the prompt weighs. Pure. */
#ifndef SIM_REQUEST_H
#define SIM_REQUEST_H

#include "sim_base.h"
#include "sim_scan.h"
#include "sim_settings.h"

enum endpoint {
    ENDPOINT_CHAT,
    ENDPOINT_COMPLETIONS,
    ENDPOINT_EMBEDDINGS,
    ENDPOINT_MESSAGES,
    ENDPOINT_COUNT_TOKENS,
    ENDPOINT_MODELS,
    ENDPOINT_HEALTH,
    ENDPOINT_METRICS,
    ENDPOINT_STATS,
    ENDPOINT_STATS_RESET,
    ENDPOINT_CONTROL,
    ENDPOINT_OTHER,
    ENDPOINT_COUNT
};

enum {
    REQUEST_CHOICES_MAX = 2048,
    REQUEST_INPUTS_MAX = 2048,
    REQUEST_DIMENSIONS_MAX = 8192,
    REQUEST_DIMENSIONS_DEFAULT = 64,
    REQUEST_MODEL_BYTES_MAX = 512
};

/* An answer that is an error, in either dialect. */
struct refusal {
    int status;
    const char *code;  /* NULL: null */
    const char *param; /* NULL: null */
    char message[256];
};

/* All slices point into the body or into the room given. */
struct gen_request {
    enum endpoint endpoint;
    struct slice model_raw;   /* as in the body, to echo */
    struct slice model;       /* without escapes, to compare */
    struct scan_value prompt; /* messages, prompt or input */
    struct scan_value user;
    struct scan_value metadata;
    struct scan_value sim;
    uint64_t prompt_hash;
    int64_t prompt_tokens;
    int64_t prompt_count; /* of completions or embeddings, 1 for chat */
    int64_t choice_count; /* n */
    int64_t max_tokens;   /* -1: not given */
    int64_t dimensions;
    bool is_base64;
    bool is_stream;
    bool wants_usage; /* stream_options.include_usage */
};

/* Read a body. false: out_refusal says why. */
MUST_CHECK bool request_decode(enum endpoint endpoint, struct slice body, struct setting_room *room,
                               struct gen_request *out_request, struct refusal *out_refusal);

/* Apply the "sim" object, then "sim:…" texts in user and metadata. false: out_why. */
MUST_CHECK bool request_behaviour(const struct gen_request *request, struct setting_room *room,
                                  struct behaviour *behaviour, struct setting_error *out_why);

__attribute__((format(printf, 5, 6))) bool refuse(struct refusal *out_refusal, int status,
                                                  const char *code, const char *param,
                                                  const char *format, ...);

#endif
