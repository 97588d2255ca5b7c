/* Everything that is not generation: what the simulator knows and how it is steered. */
#include "sim.h"

static const char default_model[] = "sim-model";

static struct slice first_model(const struct sim *sim)
{
    struct slice models = sim->settings.models;

    if (models.size == 0)
        return (struct slice){default_model, sizeof(default_model) - 1};
    const char *comma = memchr(models.data, ',', models.size);
    if (comma != NULL)
        models.size = (size_t)(comma - models.data);
    return models;
}

static void put_model_object(struct text_buf *body, struct slice model, bool is_anthropic)
{
    put_text(body, is_anthropic ? "{\"type\":\"model\",\"id\":" : "{\"id\":");
    put_quoted(body, model);
    if (is_anthropic) {
        PUT(body, ",\"display_name\":");
        put_quoted(body, model);
        PUT(body, ",\"created_at\":\"2026-01-01T00:00:00Z\"}");
    } else {
        PUT(body, ",\"object\":\"model\",\"created\":1767225600,\"owned_by\":\"penstock-sim\"}");
    }
}

static void put_model_list(struct sim *sim, bool is_anthropic)
{
    struct text_buf *body = &sim->body;
    struct slice left = sim->settings.models;
    struct slice model = first_model(sim);
    struct slice first = model;

    put_text(body, is_anthropic ? "{\"data\":[" : "{\"object\":\"list\",\"data\":[");
    for (;;) {
        put_model_object(body, model, is_anthropic);
        if (left.size <= model.size)
            break;
        PUT(body, ",");
        left.data += model.size + 1;
        left.size -= model.size + 1;
        const char *comma = left.size == 0 ? NULL : memchr(left.data, ',', left.size);
        model = (struct slice){left.data, comma == NULL ? left.size : (size_t)(comma - left.data)};
    }
    PUT(body, "]");
    if (is_anthropic) {
        PUT(body, ",\"has_more\":false,\"first_id\":");
        put_quoted(body, first);
        PUT(body, ",\"last_id\":");
        put_quoted(body, model);
    }
    PUT(body, "}");
}

static int hex_of(char letter)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = memchr(digits, letter >= 'A' && letter <= 'F' ? letter | 0x20 : letter, 16);

    return found == NULL ? -1 : (int)(found - digits);
}

/* Undo percent-encoding; malformed sequences stay as they are. */
static struct slice decode_path(struct slice text, char *room, size_t room_size)
{
    size_t size = 0;

    for (size_t i = 0; i < text.size && size < room_size; i++) {
        char letter = text.data[i];
        if (letter == '%' && text.size - i > 2 && hex_of(text.data[i + 1]) >= 0 &&
            hex_of(text.data[i + 2]) >= 0) {
            letter = (char)(hex_of(text.data[i + 1]) * 16 + hex_of(text.data[i + 2]));
            i += 2;
        }
        room[size++] = letter;
    }
    return (struct slice){room, size};
}

static void answer_models(struct conn *conn, const struct http_request *request)
{
    struct sim *sim = conn->sim;
    struct refusal refusal;
    char room[REQUEST_MODEL_BYTES_MAX];
    struct slice prefix = SLICE("/v1/models/");

    if (!route_is_authorized(sim, request)) {
        (void)refuse(&refusal, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
        route_answer_refusal(conn, request, &refusal);
        return;
    }
    if (sim->settings.health_status != 0) {
        (void)refuse(&refusal, (int)sim->settings.health_status, NULL, NULL, "Simulated sickness.");
        route_answer_refusal(conn, request, &refusal);
        return;
    }
    if (request->path.size <= prefix.size) {
        put_model_list(sim, request->has_anthropic_version);
        route_answer(conn, request, 200, "application/json");
        return;
    }
    struct slice model = decode_path(
        (struct slice){request->path.data + prefix.size, request->path.size - prefix.size}, room,
        sizeof(room));
    if (!settings_has_model(&sim->settings, model)) {
        (void)refuse(&refusal, 404, "model_not_found", "model", "The model '%.*s' does not exist",
                     (int)(model.size > 100 ? 100 : model.size), model.data);
        route_answer_refusal(conn, request, &refusal);
        return;
    }
    put_model_object(&sim->body, model, request->has_anthropic_version);
    route_answer(conn, request, 200, "application/json");
}

/* Whether the query holds name=1 or name=true. */
static bool has_flag(struct slice query, struct slice pair)
{
    while (query.size > 0) {
        const char *mark = memchr(query.data, '&', query.size);
        size_t size = mark == NULL ? query.size : (size_t)(mark - query.data);
        if (size == pair.size && memcmp(query.data, pair.data, size) == 0)
            return true;
        size += mark != NULL;
        query.data += size;
        query.size -= size;
    }
    return false;
}

/* All changes of one request are applied, or none. {"reset":true} first goes back to the command
 * line's settings. */
static bool change_settings(struct sim *sim, struct slice object, struct setting_error *out_why)
{
    struct settings changed;
    struct setting_room room;
    struct scan_cursor cursor;
    struct slice key;
    struct scan_value value;
    bool is_reset = false;
    struct text_buf rest = {0};
    bool is_good = true;

    if (!scan_open(object, '{', &cursor))
        return settings_set_object(&sim->settings, object, &room, out_why);
    /* "reset" is no setting: take it out, hand on the rest. */
    PUT(&rest, "{");
    while (scan_member(&cursor, &key, &value) == 1) {
        bool is_text = value.kind == SCAN_STRING;
        if (SLICE_IS(key, "reset") && value.kind == SCAN_TRUE) {
            is_reset = true;
            continue;
        }
        put_text(&rest, rest.size > 1 ? ",\"" : "\"");
        put_slice(&rest, key);
        put_text(&rest, is_text ? "\":\"" : "\":");
        put_slice(&rest, value.text);
        if (is_text)
            PUT(&rest, "\"");
    }
    PUT(&rest, "}");
    settings_copy(&changed, is_reset ? &sim->start_settings : &sim->settings);
    room.used = 0;
    is_good = settings_set_object(
        &changed, is_reset ? (struct slice){rest.data, rest.size} : object, &room, out_why);
    buf_deinit(&rest);
    if (is_good) {
        if (changed.rate_limit != sim->settings.rate_limit)
            sim->bucket = changed.rate_burst > 0 ? changed.rate_burst : changed.rate_limit;
        settings_copy(&sim->settings, &changed);
    }
    return is_good;
}

static void answer_control(struct conn *conn, const struct http_request *request)
{
    struct setting_error why;
    struct refusal refusal;

    if (SLICE_IS(request->method, "POST") && !change_settings(conn->sim, request->body, &why)) {
        (void)refuse(&refusal, 400, NULL, NULL, "%s", why.text);
        route_answer_refusal(conn, request, &refusal);
        return;
    }
    put_settings(&conn->sim->body, &conn->sim->settings);
    route_answer(conn, request, 200, "application/json");
}

static void answer_stats(struct conn *conn, const struct http_request *request)
{
    struct sim *sim = conn->sim;

    if (has_flag(request->query, SLICE("nonces=1")))
        put_nonces(&sim->body, &sim->stats);
    else
        put_stats(&sim->body, &sim->stats);
    route_answer(conn, request, 200, "application/json");
}

void control_answer(struct conn *conn, const struct http_request *request)
{
    struct sim *sim = conn->sim;
    enum endpoint endpoint = conn->exchange.endpoint;

    if (endpoint == ENDPOINT_MODELS) {
        answer_models(conn, request);
    } else if (endpoint == ENDPOINT_HEALTH) {
        route_answer(conn, request,
                     sim->settings.health_status == 0 ? 200 : (int)sim->settings.health_status,
                     "application/json");
    } else if (endpoint == ENDPOINT_METRICS) {
        put_metrics(&sim->body, &sim->stats, first_model(sim));
        route_answer(conn, request, 200, "text/plain; version=0.0.4; charset=utf-8");
    } else if (endpoint == ENDPOINT_STATS) {
        answer_stats(conn, request);
    } else if (endpoint == ENDPOINT_STATS_RESET) {
        stats_reset(&sim->stats);
        table_reset(&sim->fail_keys);
        PUT(&sim->body, "{}");
        route_answer(conn, request, 200, "application/json");
    } else {
        SIM_CHECK(endpoint == ENDPOINT_CONTROL);
        answer_control(conn, request);
    }
}
