#include "sim_settings.h"

#include <stdio.h>

enum kind { KIND_INT, KIND_FLAG, KIND_DECIMAL, KIND_DROP, KIND_TEXT };

struct row {
    const char *name;
    enum kind kind;
    size_t offset;      /* in struct behaviour or struct settings */
    int64_t max;        /* of a number, or of a text's size */
    size_t text_offset; /* in struct settings: where the run keeps a text */
};

#define DAY_MS 86400000

#define B(field) offsetof(struct behaviour, field)
#define S(field) offsetof(struct settings, field)

static const struct row behaviour_rows[] = {
    {"delay_ms", KIND_INT, B(delay_ms), DAY_MS, 0},
    {"jitter_ms", KIND_INT, B(jitter_ms), DAY_MS, 0},
    {"status", KIND_INT, B(status), 599, 0},
    {"fail_times", KIND_INT, B(fail_times), 1000000, 0},
    {"retry_after_ms", KIND_INT, B(retry_after_ms), DAY_MS, 0},
    {"drop", KIND_DROP, B(drop), 0, 0},
    {"drip", KIND_INT, B(drip_bytes), 1 << 30, 0},
    {"garbage", KIND_FLAG, B(garbage), 1, 0},
    {"never", KIND_FLAG, B(never), 1, 0},
    {"body_bytes", KIND_INT, B(body_bytes), INT64_C(1) << 36, 0},
    {"chunked", KIND_FLAG, B(chunked), 1, 0},
    {"bad_json", KIND_FLAG, B(bad_json), 1, 0},
    {"bad_utf8", KIND_FLAG, B(bad_utf8), 1, 0},
    {"short_length", KIND_FLAG, B(short_length), 1, 0},
    {"close_idle", KIND_FLAG, B(close_idle), 1, 0},
    {"tokens", KIND_INT, B(tokens), SETTING_TOKENS_MAX, 0},
    {"token_ms", KIND_INT, B(token_ms), DAY_MS, 0},
    {"stream_error", KIND_FLAG, B(stream_error), 1, 0},
    {"retry_after", KIND_TEXT, B(retry_after), SETTING_SHORT_BYTES_MAX, S(retry_after_text)},
    {"fail_key", KIND_TEXT, B(fail_key), SETTING_SHORT_BYTES_MAX, S(fail_key_text)},
    {"nonce", KIND_TEXT, B(nonce), SETTING_SHORT_BYTES_MAX, S(nonce_text)},
};

static const struct row run_rows[] = {
    {"reply_bytes", KIND_INT, S(behaviour.body_bytes), INT64_C(1) << 36, 0},
    {"max_concurrency", KIND_INT, S(max_concurrency), 1000000, 0},
    {"queue", KIND_FLAG, S(queue), 1, 0},
    {"health_status", KIND_INT, S(health_status), 599, 0},
    {"rate_limit", KIND_DECIMAL, S(rate_limit), 1000000000, 0},
    {"rate_burst", KIND_DECIMAL, S(rate_burst), 1000000000, 0},
    {"fail_rate", KIND_DECIMAL, S(fail_rate), 1, 0},
    {"drop_rate", KIND_DECIMAL, S(drop_rate), 1, 0},
    {"api_key", KIND_TEXT, S(api_key), SETTING_KEY_BYTES_MAX, S(api_key_text)},
    {"models", KIND_TEXT, S(models), SETTING_MODELS_BYTES_MAX, S(models_text)},
};

enum {
    BEHAVIOUR_ROW_COUNT = sizeof(behaviour_rows) / sizeof(behaviour_rows[0]),
    RUN_ROW_COUNT = sizeof(run_rows) / sizeof(run_rows[0])
};

static const struct {
    const char *name;
    enum drop drop;
} drop_names[] = {
    {"none", DROP_NONE},
    {"before_headers", DROP_BEFORE_HEADERS},
    {"after_headers", DROP_AFTER_HEADERS},
    {"mid_body", DROP_MID_BODY},
    {"reset", DROP_RESET},
};

enum { DROP_NAME_COUNT = sizeof(drop_names) / sizeof(drop_names[0]) };

/* Names compare without case, '-' equals '_'. */
static bool is_name(struct slice key, const char *name)
{
    size_t i;

    for (i = 0; i < key.size && name[i] != '\0'; i++) {
        char letter = key.data[i];
        if (letter >= 'A' && letter <= 'Z')
            letter = (char)(letter + ('a' - 'A'));
        if ((letter == '-' ? '_' : letter) != name[i])
            return false;
    }
    return i == key.size && name[i] == '\0';
}

static const struct row *find_row(const struct row *rows, size_t count, struct slice key)
{
    for (size_t i = 0; i < count; i++)
        if (is_name(key, rows[i].name))
            return &rows[i];
    return NULL;
}

static bool refuse(struct setting_error *out_why, const char *what, struct slice key,
                   struct slice value)
{
    (void)snprintf(out_why->text, sizeof(out_why->text), "%s: %.*s=%.*s", what,
                   key.size > 40 ? 40 : (int)key.size, key.size == 0 ? "" : key.data,
                   value.size > 40 ? 40 : (int)value.size, value.size == 0 ? "" : value.data);
    return false;
}

static bool parse_flag(struct slice value, int64_t *out_flag)
{
    if (SLICE_IS(value, "1") || SLICE_IS(value, "true")) {
        *out_flag = 1;
        return true;
    }
    *out_flag = 0;
    return value.size == 0 || SLICE_IS(value, "0") || SLICE_IS(value, "false");
}

static bool parse_drop(struct slice value, int64_t *out_drop)
{
    *out_drop = DROP_NONE;
    if (value.size == 0)
        return true;
    for (size_t i = 0; i < DROP_NAME_COUNT; i++) {
        if (is_name(value, drop_names[i].name)) {
            *out_drop = drop_names[i].drop;
            return true;
        }
    }
    return false;
}

/* Write a parsed number at its place; an empty value is zero. */
static bool set_number(const struct row *row, char *base, struct slice value)
{
    int64_t number = 0;
    double decimal = 0;
    bool is_good = false;

    switch (row->kind) {
    case KIND_INT:
        is_good = value.size == 0 || text_parse_int(value, 0, row->max, &number);
        break;
    case KIND_FLAG:
        is_good = parse_flag(value, &number);
        break;
    case KIND_DROP:
        is_good = parse_drop(value, &number);
        break;
    case KIND_DECIMAL:
        is_good = value.size == 0 || text_parse_decimal(value, &decimal);
        if (is_good && decimal <= (double)row->max)
            memcpy(base + row->offset, &decimal, sizeof(decimal));
        return is_good && decimal <= (double)row->max;
    case KIND_TEXT:
        SIM_CHECK(row->kind != KIND_TEXT);
    }
    if (is_good)
        memcpy(base + row->offset, &number, sizeof(number));
    return is_good;
}

/* Headers are made of these texts, so control characters stay out. */
static bool is_clean_text(const struct row *row, struct slice value)
{
    if (value.size > (size_t)row->max)
        return false;
    for (size_t i = 0; i < value.size; i++)
        if ((unsigned char)value.data[i] < 0x20 || value.data[i] == 0x7F)
            return false;
    return true;
}

static bool is_status_sane(const struct behaviour *behaviour)
{
    return behaviour->status == 0 || behaviour->status >= 200;
}

bool behaviour_set(struct behaviour *behaviour, struct slice key, struct slice value,
                   struct setting_error *out_why)
{
    const struct row *row = find_row(behaviour_rows, BEHAVIOUR_ROW_COUNT, key);

    if (row == NULL)
        return refuse(out_why, "unknown simulator key", key, value);
    if (row->kind == KIND_TEXT) {
        if (!is_clean_text(row, value))
            return refuse(out_why, "bad simulator text", key, value);
        memcpy((char *)behaviour + row->offset, &value, sizeof(value));
        return true;
    }
    if (!set_number(row, (char *)behaviour, value) || !is_status_sane(behaviour))
        return refuse(out_why, "bad simulator value", key, value);
    return true;
}

bool settings_set(struct settings *settings, struct slice key, struct slice value,
                  struct setting_error *out_why)
{
    /* The behaviour stands first, so offsets of both tables count from the same address. */
    _Static_assert(offsetof(struct settings, behaviour) == 0, "behaviour comes first");
    const struct row *row = find_row(behaviour_rows, BEHAVIOUR_ROW_COUNT, key);

    if (row == NULL)
        row = find_row(run_rows, RUN_ROW_COUNT, key);
    if (row == NULL)
        return refuse(out_why, "unknown simulator key", key, value);
    if (row->kind == KIND_TEXT) {
        char *room = (char *)settings + row->text_offset;
        struct slice copy = {room, value.size};
        if (!is_clean_text(row, value))
            return refuse(out_why, "bad simulator text", key, value);
        if (value.size > 0)
            memcpy(room, value.data, value.size);
        memcpy((char *)settings + row->offset, &copy, sizeof(copy));
        return true;
    }
    if (!set_number(row, (char *)settings, value) || !is_status_sane(&settings->behaviour) ||
        (settings->health_status != 0 && settings->health_status < 200))
        return refuse(out_why, "bad simulator value", key, value);
    return true;
}

bool settings_is_flag(struct slice key)
{
    const struct row *row = find_row(behaviour_rows, BEHAVIOUR_ROW_COUNT, key);

    if (row == NULL)
        row = find_row(run_rows, RUN_ROW_COUNT, key);
    return row != NULL && row->kind == KIND_FLAG;
}

/* The text of a JSON scalar as the setters want it. */
static bool value_text(const struct scan_value *value, struct setting_room *room,
                       struct slice *out_text)
{
    switch (value->kind) {
    case SCAN_NULL:
        *out_text = SLICE("");
        return true;
    case SCAN_TRUE:
    case SCAN_FALSE:
    case SCAN_NUMBER:
        *out_text = value->text;
        return true;
    case SCAN_STRING:
        if (!scan_decode(value->text, room->data + room->used, sizeof(room->data) - room->used,
                         out_text))
            return false;
        if (out_text->data != value->text.data)
            room->used += out_text->size;
        return true;
    case SCAN_NONE:
    case SCAN_OBJECT:
    case SCAN_ARRAY:
        break;
    }
    return false;
}

/* Exactly one of behaviour and settings is given. */
static bool set_object(struct behaviour *behaviour, struct settings *settings, struct slice object,
                       struct setting_room *room, struct setting_error *out_why)
{
    struct scan_cursor cursor;
    struct slice key;
    struct scan_value value;
    int more = -1;

    if (scan_open(object, '{', &cursor)) {
        while ((more = scan_member(&cursor, &key, &value)) == 1) {
            struct slice text = {"", 0};
            if (!value_text(&value, room, &text))
                return refuse(out_why, "bad simulator value", key, value.text);
            if (behaviour != NULL ? !behaviour_set(behaviour, key, text, out_why)
                                  : !settings_set(settings, key, text, out_why))
                return false;
        }
    }
    if (more < 0 || !scan_is_end(&cursor))
        return refuse(out_why, "not a JSON object", SLICE("sim"), SLICE(""));
    return true;
}

bool behaviour_set_object(struct behaviour *behaviour, struct slice object,
                          struct setting_room *room, struct setting_error *out_why)
{
    return set_object(behaviour, NULL, object, room, out_why);
}

bool settings_set_object(struct settings *settings, struct slice object, struct setting_room *room,
                         struct setting_error *out_why)
{
    return set_object(NULL, settings, object, room, out_why);
}

/* Whether "name=" starts here, with a name we know. */
static bool is_pair_start(const char *at, const char *end)
{
    const char *equals = memchr(at, '=', (size_t)(end - at));

    if (equals == NULL)
        return false;
    struct slice key = {at, (size_t)(equals - at)};
    return find_row(behaviour_rows, BEHAVIOUR_ROW_COUNT, key) != NULL;
}

bool behaviour_set_pairs(struct behaviour *behaviour, struct slice pairs,
                         struct setting_error *out_why)
{
    const char *at = pairs.data;
    const char *end = pairs.data + pairs.size;

    while (at < end) {
        const char *stop = at;
        do {
            stop = memchr(stop, ',', (size_t)(end - stop));
            stop = stop == NULL ? end : stop + 1;
        } while (stop < end && !is_pair_start(stop, end));
        struct slice pair = {at, (size_t)(stop - at) - (stop[-1] == ',')};
        const char *equals = memchr(pair.data, '=', pair.size);
        if (equals == NULL)
            return refuse(out_why, "a pair without '='", pair, SLICE(""));
        struct slice key = {pair.data, (size_t)(equals - pair.data)};
        struct slice value = {equals + 1, pair.size - key.size - 1};
        if (!behaviour_set(behaviour, key, value, out_why))
            return false;
        at = stop;
    }
    return true;
}

static void rebind(struct settings *settings, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice text;
        if (rows[i].kind != KIND_TEXT)
            continue;
        memcpy(&text, (char *)settings + rows[i].offset, sizeof(text));
        text.data = (char *)settings + rows[i].text_offset;
        memcpy((char *)settings + rows[i].offset, &text, sizeof(text));
    }
}

void settings_copy(struct settings *to, const struct settings *from)
{
    memcpy(to, from, sizeof(*to));
    rebind(to, behaviour_rows, BEHAVIOUR_ROW_COUNT);
    rebind(to, run_rows, RUN_ROW_COUNT);
}

static void put_row(struct text_buf *buf, const struct row *row, const char *base)
{
    int64_t number;
    double decimal;
    struct slice text;
    char digits[40];

    put_quoted(buf, (struct slice){row->name, strlen(row->name)});
    PUT(buf, ":");
    switch (row->kind) {
    case KIND_INT:
    case KIND_FLAG:
        memcpy(&number, base + row->offset, sizeof(number));
        put_i64(buf, number);
        break;
    case KIND_DROP:
        memcpy(&number, base + row->offset, sizeof(number));
        for (size_t i = 0; i < DROP_NAME_COUNT; i++)
            if (drop_names[i].drop == (enum drop)number)
                put_quoted(buf, (struct slice){drop_names[i].name, strlen(drop_names[i].name)});
        break;
    case KIND_DECIMAL:
        memcpy(&decimal, base + row->offset, sizeof(decimal));
        (void)snprintf(digits, sizeof(digits), "%.9g", decimal);
        put_text(buf, digits);
        break;
    case KIND_TEXT:
        memcpy(&text, base + row->offset, sizeof(text));
        put_quoted(buf, text);
        break;
    }
}

void put_settings(struct text_buf *buf, const struct settings *settings)
{
    PUT(buf, "{");
    for (size_t i = 0; i < BEHAVIOUR_ROW_COUNT; i++) {
        if (i > 0)
            PUT(buf, ",");
        put_row(buf, &behaviour_rows[i], (const char *)settings);
    }
    for (size_t i = 0; i < RUN_ROW_COUNT; i++) {
        /* The key itself is a secret even in a test's log. */
        if (run_rows[i].offset == S(api_key) || run_rows[i].offset == S(behaviour.body_bytes))
            continue;
        PUT(buf, ",");
        put_row(buf, &run_rows[i], (const char *)settings);
    }
    PUT(buf, "}");
}

bool settings_has_model(const struct settings *settings, struct slice model)
{
    const char *at = settings->models.data;
    const char *end = at + settings->models.size;

    if (settings->models.size == 0)
        return true;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma == NULL ? end : comma;
        if (slice_is(model, at, (size_t)(stop - at)))
            return true;
        at = stop + 1;
    }
    return false;
}
