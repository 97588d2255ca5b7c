#include "sim.h"

static const struct {
    const char *path;
    size_t size;
    enum endpoint endpoint;
} routes[] = {
#define ROUTE(path, endpoint)            \
    {                                    \
        path, sizeof(path) - 1, endpoint \
    }
    ROUTE("/v1/chat/completions", ENDPOINT_CHAT),
    ROUTE("/v1/completions", ENDPOINT_COMPLETIONS),
    ROUTE("/v1/embeddings", ENDPOINT_EMBEDDINGS),
    ROUTE("/v1/messages", ENDPOINT_MESSAGES),
    ROUTE("/v1/messages/count_tokens", ENDPOINT_COUNT_TOKENS),
    ROUTE("/v1/models", ENDPOINT_MODELS),
    ROUTE("/health", ENDPOINT_HEALTH),
    ROUTE("/metrics", ENDPOINT_METRICS),
    ROUTE("/stats", ENDPOINT_STATS),
    ROUTE("/stats/reset", ENDPOINT_STATS_RESET),
    ROUTE("/control", ENDPOINT_CONTROL),
#undef ROUTE
};

static enum endpoint find_endpoint(struct slice path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (slice_is(path, routes[i].path, routes[i].size))
            return routes[i].endpoint;
    if (SLICE_STARTS(path, "/v1/models/") && path.size > sizeof("/v1/models/") - 1)
        return ENDPOINT_MODELS;
    return ENDPOINT_OTHER;
}

uint64_t route_next_id(struct sim *sim)
{
    return text_mix(sim->id_next++);
}

bool route_is_authorized(const struct sim *sim, const struct http_request *request)
{
    struct slice key = sim->settings.api_key;

    return key.size == 0 || slice_is(request->credential, key.data, key.size);
}

static void start_plain(struct conn *conn, struct answer *answer)
{
    static const struct behaviour good;

    if (conn->sim->body.is_overflowed) {
        conn->sim->body =
            (struct text_buf){.data = conn->sim->body.data, .capacity = conn->sim->body.capacity};
        answer->status = 500;
        PUT(&conn->sim->body, "{\"error\":{\"message\":\"The answer is too large.\",\"type\":"
                              "\"server_error\",\"param\":null,\"code\":null}}");
    }
    send_compose(conn, answer, &good);
    conn_start_answer(conn);
}

void route_answer(struct conn *conn, const struct http_request *request, int status,
                  const char *content_type)
{
    struct answer answer = {
        .status = status,
        .content_type = content_type,
        .id = route_next_id(conn->sim),
        .is_http10 = request->is_http10,
        .is_keep_alive = request->is_keep_alive,
        .is_head = SLICE_IS(request->method, "HEAD"),
    };

    start_plain(conn, &answer);
}

void route_answer_refusal(struct conn *conn, const struct http_request *request,
                          const struct refusal *refusal)
{
    struct answer answer = {
        .status = refusal->status,
        .content_type = "application/json",
        .id = route_next_id(conn->sim),
        .is_http10 = request->is_http10,
        .is_keep_alive = request->is_keep_alive,
        .is_head = SLICE_IS(request->method, "HEAD"),
    };
    bool is_anthropic = conn->exchange.endpoint == ENDPOINT_MESSAGES ||
                        conn->exchange.endpoint == ENDPOINT_COUNT_TOKENS;

    conn->sim->body.size = 0;
    reply_render_error(refusal, is_anthropic, answer.id, &conn->sim->body);
    start_plain(conn, &answer);
}

static void begin_exchange(struct conn *conn)
{
    struct sim *sim = conn->sim;

    /* The two texts need no clearing: their sizes say how much of them counts. */
    memset(&conn->exchange, 0, offsetof(struct exchange, nonce));
    buf_reset(&sim->body, TEXT_BUF_BYTES_MAX);
    buf_reset(&sim->headers, TEXT_BUF_BYTES_MAX);
    conn->exchange.endpoint = ENDPOINT_OTHER;
}

void route_refuse(struct conn *conn, int status, const char *why)
{
    struct http_request request = {.is_keep_alive = false};
    struct refusal refusal;

    begin_exchange(conn);
    (void)refuse(&refusal, status, NULL, NULL, "%s", why);
    route_answer_refusal(conn, &request, &refusal);
}

static void refuse_method(struct conn *conn, const struct http_request *request, const char *allow)
{
    struct refusal refusal;

    PUT(&conn->sim->headers, "allow: ");
    put_text(&conn->sim->headers, allow);
    PUT(&conn->sim->headers, "\r\n");
    (void)refuse(&refusal, 405, NULL, NULL, "Not allowed: this path takes %s.", allow);
    route_answer_refusal(conn, request, &refusal);
}

void route_request(struct conn *conn, const struct http_request *request)
{
    struct sim *sim = conn->sim;
    enum endpoint endpoint = find_endpoint(request->path);
    bool is_get = SLICE_IS(request->method, "GET") || SLICE_IS(request->method, "HEAD");
    bool is_post = SLICE_IS(request->method, "POST");
    struct refusal refusal;

    begin_exchange(conn);
    conn->exchange.endpoint = endpoint;
    sim->stats.by_path[endpoint]++;
    switch (endpoint) {
    case ENDPOINT_CHAT:
    case ENDPOINT_COMPLETIONS:
    case ENDPOINT_EMBEDDINGS:
    case ENDPOINT_MESSAGES:
    case ENDPOINT_COUNT_TOKENS:
        if (is_post)
            generate_answer(conn, request);
        else
            refuse_method(conn, request, "POST");
        break;
    case ENDPOINT_MODELS:
    case ENDPOINT_HEALTH:
    case ENDPOINT_METRICS:
    case ENDPOINT_STATS:
    case ENDPOINT_STATS_RESET:
    case ENDPOINT_CONTROL:
        if (endpoint == ENDPOINT_CONTROL ? !is_get && !is_post
                                         : !(endpoint == ENDPOINT_STATS_RESET ? is_post : is_get))
            refuse_method(conn, request,
                          endpoint == ENDPOINT_CONTROL       ? "GET, POST"
                          : endpoint == ENDPOINT_STATS_RESET ? "POST"
                                                             : "GET");
        else
            control_answer(conn, request);
        break;
    case ENDPOINT_OTHER:
    case ENDPOINT_COUNT:
        (void)refuse(
            &refusal, 404, NULL, NULL, "Invalid URL (%.*s %.*s)",
            (int)(request->method.size > 16 ? 16 : request->method.size), request->method.data,
            (int)(request->path.size > 100 ? 100 : request->path.size), request->path.data);
        route_answer_refusal(conn, request, &refusal);
        break;
    }
}
