/* Generation requests: who may, what is asked, how to misbehave, what to answer. */
#include "sim.h"

#include <math.h>
#include <stdio.h>

static bool apply_headers(const struct http_request *request, struct behaviour *behaviour,
                          struct setting_error *out_why)
{
    for (size_t i = 0; i < request->sim_header_count; i++)
        if (!behaviour_set(behaviour, request->sim_headers[i].name, request->sim_headers[i].value,
                           out_why))
            return false;
    return true;
}

/* Remember who this is, for the log. */
static void note_names(struct exchange *exchange, struct slice nonce, struct slice model)
{
    exchange->nonce_size =
        nonce.size < sizeof(exchange->nonce) ? nonce.size : sizeof(exchange->nonce);
    exchange->model_size =
        model.size < sizeof(exchange->model) ? model.size : sizeof(exchange->model);
    if (exchange->nonce_size > 0)
        memcpy(exchange->nonce, nonce.data, exchange->nonce_size);
    if (exchange->model_size > 0)
        memcpy(exchange->model, model.data, exchange->model_size);
}

/* A duration as Go writes it and OpenAI's headers do: "12ms", "1.5s", "6m0s". */
static void put_duration(struct text_buf *buf, double seconds)
{
    char text[48];
    int64_t milliseconds = (int64_t)ceil(seconds * 1000);

    if (milliseconds < 1000)
        (void)snprintf(text, sizeof(text), "%lldms", (long long)milliseconds);
    else if (milliseconds < 60000)
        (void)snprintf(text, sizeof(text), "%gs", (double)milliseconds / 1000);
    else
        (void)snprintf(text, sizeof(text), "%lldm%llds", (long long)(milliseconds / 60000),
                       (long long)(milliseconds / 1000 % 60));
    put_text(buf, text);
}

static void put_number_header(struct text_buf *headers, const char *name, int64_t value)
{
    put_text(headers, name);
    PUT(headers, ": ");
    put_i64(headers, value);
    PUT(headers, "\r\n");
}

/* The token bucket. Tells its state in headers; false when this request is one too many. */
static bool take_rate_token(struct sim *sim)
{
    double rate = sim->settings.rate_limit;
    double burst = sim->settings.rate_burst > 0 ? sim->settings.rate_burst : rate;

    if (rate <= 0)
        return true;
    if (burst < 1)
        burst = 1;
    sim->bucket += (double)(sim->now_mono_us - sim->bucket_mono_us) * 1e-6 * rate;
    sim->bucket_mono_us = sim->now_mono_us;
    if (sim->bucket > burst)
        sim->bucket = burst;
    bool is_allowed = sim->bucket >= 1;
    if (is_allowed)
        sim->bucket -= 1;
    put_number_header(&sim->headers, "x-ratelimit-limit-requests", (int64_t)burst);
    put_number_header(&sim->headers, "x-ratelimit-remaining-requests", (int64_t)sim->bucket);
    PUT(&sim->headers, "x-ratelimit-reset-requests: ");
    put_duration(&sim->headers, (burst - sim->bucket) / rate);
    PUT(&sim->headers, "\r\n");
    if (!is_allowed) {
        double wait_s = (1 - sim->bucket) / rate;
        put_number_header(&sim->headers, "retry-after", (int64_t)ceil(wait_s));
        put_number_header(&sim->headers, "retry-after-ms", (int64_t)ceil(wait_s * 1000));
    }
    return is_allowed;
}

/* Whether this request is among the first fail_times of its key. Without a key given, requests
 * with the same nonce, else the same prompt, belong together: retries look like that. */
static bool is_failing(struct sim *sim, const struct gen_request *request,
                       const struct behaviour *behaviour)
{
    char text[24];
    struct slice key = behaviour->fail_key;

    if (behaviour->fail_times == 0)
        return behaviour->status != 0;
    if (key.size == 0)
        key = behaviour->nonce;
    if (key.size == 0) {
        int size =
            snprintf(text, sizeof(text), "%016llx", (unsigned long long)request->prompt_hash);
        key = (struct slice){text, (size_t)size};
    }
    int64_t seen = table_add(&sim->fail_keys, key);
    return seen != 0 && seen <= behaviour->fail_times;
}

/* Everything that keeps a readable request from being executed. */
static bool pass_gates(struct sim *sim, const struct gen_request *request,
                       struct refusal *out_refusal)
{
    if (!settings_has_model(&sim->settings, request->model))
        return refuse(out_refusal, 404, "model_not_found", NULL,
                      "The model `%.*s` does not exist or you do not have access to it.",
                      (int)(request->model.size > 100 ? 100 : request->model.size),
                      request->model.data);
    if (!take_rate_token(sim))
        return refuse(out_refusal, 429, "rate_limit_exceeded", NULL,
                      "Rate limit reached for requests. Please slow down.");
    int64_t limit = sim->settings.max_concurrency;
    if (limit > 0 && !sim->settings.queue && sim->executing >= limit) {
        PUT(&sim->headers, "retry-after: 1\r\n");
        return refuse(out_refusal, 429, "rate_limit_exceeded", NULL,
                      "Too many requests at the same time.");
    }
    return true;
}

/* From here on the request counts as executed; draw its luck. */
static void roll_dice(struct sim *sim, const struct gen_request *request,
                      struct behaviour *behaviour)
{
    sim->stats.executions++;
    if (behaviour->nonce.size > 0)
        (void)table_add(&sim->stats.nonces, behaviour->nonce);
    if (behaviour->jitter_ms > 0)
        behaviour->delay_ms +=
            (int64_t)(random_share(&sim->random) * (double)(behaviour->jitter_ms + 1));
    if (is_failing(sim, request, behaviour))
        behaviour->status = behaviour->status != 0 ? behaviour->status : 500;
    else
        behaviour->status = 0;
    if (sim->settings.fail_rate > 0 && random_share(&sim->random) < sim->settings.fail_rate)
        behaviour->status = 500;
    if (sim->settings.drop_rate > 0 && random_share(&sim->random) < sim->settings.drop_rate)
        behaviour->drop = DROP_BEFORE_HEADERS;
}

static void put_retry_headers(struct text_buf *headers, const struct behaviour *behaviour)
{
    if (behaviour->retry_after.size > 0) {
        PUT(headers, "retry-after: ");
        put_slice(headers, behaviour->retry_after);
        PUT(headers, "\r\n");
    }
    if (behaviour->retry_after_ms > 0)
        put_number_header(headers, "retry-after-ms", behaviour->retry_after_ms);
}

/* A status that was asked for: 2xx is a normal answer under another number. */
static void render_status(struct sim *sim, const struct gen_request *request,
                          const struct behaviour *behaviour, struct answer *answer)
{
    struct refusal refusal;
    bool is_anthropic =
        request->endpoint == ENDPOINT_MESSAGES || request->endpoint == ENDPOINT_COUNT_TOKENS;

    put_retry_headers(&sim->headers, behaviour);
    (void)refuse(&refusal, (int)behaviour->status,
                 behaviour->status == 429 ? "rate_limit_exceeded" : NULL, NULL,
                 "Simulated failure with status %d.", (int)behaviour->status);
    reply_render_error(&refusal, is_anthropic, answer->id, &sim->body);
}

static void render(struct sim *sim, const struct gen_request *request,
                   const struct behaviour *behaviour, struct answer *answer)
{
    struct reply_context context = {
        .request = request,
        .behaviour = behaviour,
        .text = &sim->text,
        .created_s = sim->now_wall_ms / 1000,
        .id = answer->id,
    };
    struct reply_result result = {0};
    bool can_stream = request->endpoint == ENDPOINT_CHAT ||
                      request->endpoint == ENDPOINT_COMPLETIONS ||
                      request->endpoint == ENDPOINT_MESSAGES;

    answer->status = behaviour->status == 0 ? 200 : (int)behaviour->status;
    if (answer->status >= 300) {
        render_status(sim, request, behaviour, answer);
        return;
    }
    answer->is_stream = request->is_stream && can_stream;
    if (answer->is_stream) {
        answer->content_type = "text/event-stream";
        PUT(&sim->headers, "cache-control: no-cache\r\n");
        if (answer->is_http10)
            answer->is_keep_alive = false;
        reply_render_stream(&context, &sim->body, &result);
    } else {
        reply_render(&context, &sim->body, &result);
    }
    answer->pad_at = result.pad_at;
    sim->stats.prompt_tokens += request->prompt_tokens;
    sim->stats.completion_tokens += result.completion_tokens;
}

static void answer_executed(struct conn *conn, const struct http_request *http,
                            const struct gen_request *request, const struct behaviour *behaviour)
{
    struct sim *sim = conn->sim;
    struct answer answer = {
        .content_type = "application/json",
        .id = route_next_id(sim),
        .is_chunked = behaviour->chunked,
        .is_http10 = http->is_http10,
        .is_keep_alive = http->is_keep_alive,
    };

    render(sim, request, behaviour, &answer);
    if (sim->body.is_overflowed || sim->text.is_overflowed) {
        struct refusal refusal;
        buf_deinit(&sim->body);
        buf_deinit(&sim->text);
        (void)refuse(&refusal, 500, NULL, NULL, "The answer asked for is too large.");
        route_answer_refusal(conn, http, &refusal);
        return;
    }
    conn->exchange.delay_ms = behaviour->delay_ms;
    conn->exchange.is_silent = behaviour->never;
    conn->exchange.is_executing = true;
    send_compose(conn, &answer, behaviour);
    conn_start_answer(conn);
}

/* false: out_refusal. On success the request and what it asks of us are complete. */
static bool read_request(struct conn *conn, const struct http_request *http,
                         struct setting_room *room, struct gen_request *out_request,
                         struct behaviour *behaviour, struct refusal *out_refusal)
{
    struct sim *sim = conn->sim;
    struct setting_error why;

    if (!apply_headers(http, behaviour, &why))
        return refuse(out_refusal, 400, NULL, NULL, "%s", why.text);
    if (!route_is_authorized(sim, http))
        return refuse(out_refusal, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
    if (!request_decode(conn->exchange.endpoint, http->body, room, out_request, out_refusal))
        return false;
    if (!request_behaviour(out_request, room, behaviour, &why))
        return refuse(out_refusal, 400, NULL, NULL, "%s", why.text);
    return true;
}

void generate_answer(struct conn *conn, const struct http_request *http)
{
    struct sim *sim = conn->sim;
    struct behaviour behaviour = sim->settings.behaviour;
    struct setting_room *room = &sim->room;
    struct gen_request request = {.endpoint = conn->exchange.endpoint};
    struct refusal refusal;

    room->used = 0;
    sim->stats.requests++;
    sim->stats.last_request_at_ms = sim->now_wall_ms;
    sim->stats.in_flight++;
    if (sim->stats.in_flight > sim->stats.in_flight_max)
        sim->stats.in_flight_max = sim->stats.in_flight;
    conn->exchange.is_generation = true;
    bool is_good = read_request(conn, http, room, &request, &behaviour, &refusal);
    note_names(&conn->exchange, behaviour.nonce, request.model);
    if (!is_good || !pass_gates(sim, &request, &refusal)) {
        route_answer_refusal(conn, http, &refusal);
        return;
    }
    roll_dice(sim, &request, &behaviour);
    answer_executed(conn, http, &request, &behaviour);
}
