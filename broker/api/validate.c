/* The fields of a job. */
#include "broker/api/validate.h"

#include <stdio.h>
#include <string.h>

#include "broker/api/validate_fields.h"
#include "common/base/text.h"
#include "common/dialect/openai.h"

void draft_init(struct draft *draft)
{
    *draft = (struct draft){.priority = JOB_NORMAL,
                            .delay_ms = LIMIT_DELAY_DEFAULT_MS,
                            .expires_in_ms = LIMIT_EXPIRES_DEFAULT_MS,
                            .timeout_ms = LIMIT_TIMEOUT_DEFAULT_MS,
                            .max_attempts = LIMIT_ATTEMPTS_DEFAULT};
    buf_init(&draft->metadata, LIMIT_METADATA_BYTES);
}

void draft_deinit(struct draft *draft)
{
    buf_deinit(&draft->metadata);
}

int validate_document(struct slice text, struct jdoc **out, struct problem *problem)
{
    struct error_text why = {.text = ""};
    struct jdoc *doc = NULL;

    if (text.size == 0)
        return problem_set(problem, PROBLEM_INVALID_JSON, NULL,
                           "The body is empty; a JSON object was expected at byte 0.");
    int status = jdoc_parse(text.bytes, text.size, &doc, &why);
    if (status == ERR_NOMEM)
        return problem_set(problem, PROBLEM_OVERLOADED, NULL,
                           "There is no memory to read this request; nothing was written.");
    if (status < 0)
        return problem_set(problem, PROBLEM_INVALID_JSON, NULL, "The body is not valid JSON: %s.",
                           why.text);
    if (jval_type(jdoc_root(doc)) != JTYPE_OBJECT) {
        problem_set(problem, PROBLEM_INVALID_REQUEST, NULL,
                    "The body must be a JSON object, not %s.", jval_type_name(jdoc_root(doc)));
        jdoc_destroy(doc);
        return ERR_INVALID;
    }
    *out = doc;
    return 0;
}

/* ---- single fields --------------------------------------------------------------------------- */

static int wrong_type(struct problem *problem, const char *param, const char *wanted,
                      const struct jval *value)
{
    return problem_set(problem, PROBLEM_INVALID_REQUEST, param, "%s must be %s, not %s.", param,
                       wanted, jval_type_name(value));
}

int validate_model(const struct jval *value, const char *param, struct slice *out,
                   struct problem *problem)
{
    size_t size = 0;
    const char *bytes = jval_string(value, &size);

    if (!bytes)
        return wrong_type(problem, param, "a string", value);
    if (size == 0 || size > LIMIT_ROUTE_BYTES)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param, "%s must be 1 to %d bytes.",
                           param, LIMIT_ROUTE_BYTES);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)bytes[i] < 0x20 || bytes[i] == 0x7f)
            return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                               "%s must not hold control characters.", param);
    *out = (struct slice){.bytes = bytes, .size = size};
    return 0;
}

static int read_number(const struct jval *value, const char *param, int64_t min, int64_t max,
                       int64_t *out, struct problem *problem)
{
    enum jtype type = jval_type(value);

    if (type != JTYPE_INT && type != JTYPE_DOUBLE)
        return wrong_type(problem, param, "a whole number", value);
    if (jval_i64(value, min, max, out) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                           "%s must be a whole number from %lld to %lld.", param, (long long)min,
                           (long long)max);
    return 0;
}

int validate_number(struct slice text, const char *param, int64_t min, int64_t max, int64_t *out,
                    struct problem *problem)
{
    if (text_parse_i64(text.bytes, text.size, min, max, out) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                           "%s must be a whole number from %lld to %lld.", param, (long long)min,
                           (long long)max);
    return 0;
}

int validate_wait(struct slice text, int64_t *out_ms, struct problem *problem)
{
    *out_ms = 0;
    if (!text.bytes)
        return 0;
    if (text_parse_duration_ms(text.bytes, text.size, LIMIT_WAIT_MS, out_ms) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "wait",
                           "wait must be a duration such as 30s or 500ms, at most %ds.",
                           LIMIT_WAIT_MS / 1000);
    return 0;
}

int validate_priority(struct slice word, const char *param, struct draft *draft,
                      struct problem *problem)
{
    if (!word.bytes || job_priority_from_word(word, &draft->priority) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                           "%s must be \"high\", \"normal\" or \"low\".", param);
    draft->has_priority = true;
    return 0;
}

/* ---- metadata -------------------------------------------------------------------------------- */

struct pairs {
    const char *param;
    struct problem *problem;
};

static int on_pair(const char *key, const struct jval *value, void *arg)
{
    const struct pairs *pairs = arg;
    size_t size = 0;

    if (strlen(key) > LIMIT_METADATA_KEY_BYTES)
        return problem_set(pairs->problem, PROBLEM_INVALID_REQUEST, pairs->param,
                           "Keys of %s must be at most %d bytes.", pairs->param,
                           LIMIT_METADATA_KEY_BYTES);
    char param[PROBLEM_PARAM_SIZE];
    snprintf(param, sizeof(param), "%s.%s", pairs->param, key);
    if (!jval_string(value, &size))
        return wrong_type(pairs->problem, param, "a string", value);
    if (size > LIMIT_METADATA_VALUE_BYTES)
        return problem_set(pairs->problem, PROBLEM_INVALID_REQUEST, param,
                           "%s must be at most %d bytes.", param, LIMIT_METADATA_VALUE_BYTES);
    return 0;
}

int validate_metadata(const struct jval *value, const char *param, struct draft *draft,
                      struct problem *problem)
{
    struct pairs pairs = {.param = param, .problem = problem};

    if (jval_type(value) != JTYPE_OBJECT)
        return wrong_type(problem, param, "an object of strings", value);
    if (jval_count(value) > LIMIT_METADATA_PAIRS)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param, "%s must have at most %d keys.",
                           param, LIMIT_METADATA_PAIRS);
    if (jval_each(value, on_pair, &pairs) != 0)
        return ERR_INVALID;
    buf_clear(&draft->metadata);
    if (jval_count(value) > 0 && jval_print(value, &draft->metadata) < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                           "%s must be at most %d bytes as JSON.", param, LIMIT_METADATA_BYTES);
    return 0;
}

/* ---- the body -------------------------------------------------------------------------------- */

static int check_stream(const struct jval *value, const char *param, struct problem *problem)
{
    bool is_on = false;

    if (jval_type(value) == JTYPE_NULL)
        return 0;
    if (jval_bool(value, &is_on) < 0)
        return wrong_type(problem, param, "true or false", value);
    if (is_on)
        return problem_set(problem, PROBLEM_NOT_SUPPORTED, param,
                           "Streaming is not supported: leave %s out or set it to false.", param);
    return 0;
}

/* What of a body matters to the queue. All the rest is the upstream's to judge. */
static int read_body(const struct jval *body, const char *model_param, const char *stream_param,
                     struct draft *draft, struct problem *problem)
{
    if (!jval_has(body, "model"))
        return problem_set(problem, PROBLEM_MISSING_FIELD, model_param, "%s is required.",
                           model_param);
    int status = validate_model(jval_get(body, "model"), model_param, &draft->model, problem);
    if (status < 0)
        return status;
    draft->wants_base64 = draft->endpoint == ENDPOINT_EMBEDDINGS && openai_wants_base64(body);
    return check_stream(jval_get(body, "stream"), stream_param, problem);
}

int validate_call(const struct jdoc *doc, struct slice text, enum job_endpoint endpoint,
                  struct draft *draft, struct problem *problem)
{
    draft->endpoint = endpoint;
    draft->body = text;
    return read_body(jdoc_root(doc), "model", "stream", draft, problem);
}

/* ---- the native job -------------------------------------------------------------------------- */

struct reading {
    struct draft *draft;
    struct problem *problem;
};

typedef int (*field_fn)(const char *name, const struct jval *value, const struct reading *reading);

static int unknown_endpoint(const char *name, struct problem *problem)
{
    char known[256] = "";
    size_t used = 0;

    for (unsigned i = 0; i < ENDPOINT_COUNT; i++) {
        int size = snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "",
                            job_endpoint_path((enum job_endpoint)i));
        CHECK(size > 0 && (size_t)size < sizeof(known) - used);
        used += (size_t)size;
    }
    return problem_set(problem, PROBLEM_UNKNOWN_ENDPOINT, name, "%s must be one of %s.", name,
                       known);
}

static int field_endpoint(const char *name, const struct jval *value, const struct reading *reading)
{
    size_t size = 0;
    const char *bytes = jval_string(value, &size);

    if (!bytes)
        return wrong_type(reading->problem, name, "a string", value);
    struct slice path = {.bytes = bytes, .size = size};
    if (job_endpoint_from_path(path, &reading->draft->endpoint) < 0)
        return unknown_endpoint(name, reading->problem);
    return 0;
}

static int field_body(const char *name, const struct jval *value, const struct reading *reading)
{
    if (jval_type(value) != JTYPE_OBJECT)
        return wrong_type(reading->problem, name, "an object", value);
    return 0; /* read once the endpoint is known */
}

static int field_priority(const char *name, const struct jval *value, const struct reading *reading)
{
    size_t size = 0;
    const char *bytes = jval_string(value, &size);

    if (!bytes)
        return wrong_type(reading->problem, name, "a string", value);
    return validate_priority((struct slice){.bytes = bytes, .size = size}, name, reading->draft,
                             reading->problem);
}

static int field_delay(const char *name, const struct jval *value, const struct reading *reading)
{
    return read_number(value, name, 0, LIMIT_DELAY_MAX_MS, &reading->draft->delay_ms,
                       reading->problem);
}

static int field_expires(const char *name, const struct jval *value, const struct reading *reading)
{
    return read_number(value, name, 1, LIMIT_EXPIRES_MAX_MS, &reading->draft->expires_in_ms,
                       reading->problem);
}

static int field_timeout(const char *name, const struct jval *value, const struct reading *reading)
{
    return read_number(value, name, 1, LIMIT_TIMEOUT_MAX_MS, &reading->draft->timeout_ms,
                       reading->problem);
}

static int field_attempts(const char *name, const struct jval *value, const struct reading *reading)
{
    int64_t number = 0;

    if (read_number(value, name, 1, LIMIT_ATTEMPTS, &number, reading->problem) < 0)
        return ERR_INVALID;
    reading->draft->max_attempts = (unsigned)number;
    return 0;
}

static int field_stream(const char *name, const struct jval *value, const struct reading *reading)
{
    return check_stream(value, name, reading->problem);
}

static int field_webhook(const char *name, const struct jval *value, const struct reading *reading)
{
    (void)value;
    return problem_set(reading->problem, PROBLEM_NOT_SUPPORTED, name,
                       "Webhooks are not supported.");
}

static int field_metadata(const char *name, const struct jval *value, const struct reading *reading)
{
    return validate_metadata(value, name, reading->draft, reading->problem);
}

int validate_key_text(struct slice text, const char *param, struct draft *draft,
                      struct problem *problem)
{
    if (text.size == 0 || text.size > LIMIT_IDEMPOTENCY_KEY_BYTES)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param, "%s must be 1 to %d bytes.",
                           param, LIMIT_IDEMPOTENCY_KEY_BYTES);
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.bytes[i] < 0x20 || text.bytes[i] == 0x7f)
            return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                               "%s must not hold control characters.", param);
    memcpy(draft->idempotency_key, text.bytes, text.size);
    draft->idempotency_key_size = text.size;
    return 0;
}

static int field_key(const char *name, const struct jval *value, const struct reading *reading)
{
    size_t size = 0;
    const char *bytes = jval_string(value, &size);

    if (!bytes)
        return wrong_type(reading->problem, name, "a string", value);
    return validate_key_text((struct slice){.bytes = bytes, .size = size}, name, reading->draft,
                             reading->problem);
}

static const struct {
    const char *name;
    field_fn read;
} fields[] = {
    {"endpoint", field_endpoint},     {"body", field_body},
    {"priority", field_priority},     {"metadata", field_metadata},
    {"delay_ms", field_delay},        {"expires_in_ms", field_expires},
    {"max_attempts", field_attempts}, {"timeout_ms", field_timeout},
    {"idempotency_key", field_key},   {"stream", field_stream},
    {"webhook", field_webhook},
};

static int on_field(const char *key, const struct jval *value, void *arg)
{
    const struct reading *reading = arg;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(fields[i].name, key) != 0)
            continue;
        /* null is "not given": the default holds, or the check for what is required speaks */
        return jval_type(value) == JTYPE_NULL ? 0 : fields[i].read(key, value, reading);
    }
    return problem_set(reading->problem, PROBLEM_UNKNOWN_FIELD, key, "The field %s is not known.",
                       key);
}

static int require(const struct jval *root, const char *name, struct problem *problem)
{
    if (jval_type(jval_get(root, name)) != JTYPE_NULL)
        return 0;
    return problem_set(problem, PROBLEM_MISSING_FIELD, name, "%s is required.", name);
}

int validate_job(const struct jdoc *doc, struct draft *draft, struct problem *problem)
{
    const struct jval *root = jdoc_root(doc);
    const struct reading reading = {.draft = draft, .problem = problem};

    if (jval_each(root, on_field, (void *)(uintptr_t)&reading) != 0)
        return ERR_INVALID;
    if (require(root, "endpoint", problem) < 0 || require(root, "body", problem) < 0)
        return ERR_INVALID;
    if (draft->delay_ms >= draft->expires_in_ms)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "expires_in_ms",
                           "expires_in_ms must be greater than delay_ms.");
    if (jdoc_slice(doc, "body", &draft->body.bytes, &draft->body.size) < 0)
        return problem_set(problem, PROBLEM_INTERNAL, "body", "The body was not found again.");
    return read_body(jval_get(root, "body"), "body.model", "body.stream", draft, problem);
}
