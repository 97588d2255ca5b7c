/* What comes in headers. */
#include <string.h>

#include "broker/api/validate.h"
#include "broker/api/validate_fields.h"
#include "common/base/text.h"

/* ---- headers --------------------------------------------------------------------------------- */

/* A structured-field string (RFC 8941): quotes around, \" and \\ inside. */
static int unquote(struct slice text, char out[LIMIT_IDEMPOTENCY_KEY_BYTES + 1], size_t *out_size)
{
    size_t size = 0;

    for (size_t i = 1; i + 1 < text.size; i++) {
        char c = text.bytes[i];
        if (c == '"')
            return ERR_INVALID;
        if (c == '\\') {
            i++;
            if (i + 1 >= text.size)
                return ERR_INVALID;
            c = text.bytes[i];
            if (c != '"' && c != '\\')
                return ERR_INVALID;
        }
        if (size > LIMIT_IDEMPOTENCY_KEY_BYTES - 1)
            return ERR_INVALID;
        out[size++] = c;
    }
    *out_size = size;
    return 0;
}

int validate_idempotency_key(struct slice header, struct draft *draft, struct problem *problem)
{
    static const char param[] = "Idempotency-Key";
    char plain[LIMIT_IDEMPOTENCY_KEY_BYTES + 1];
    struct draft given = {.idempotency_key_size = 0};
    size_t size = 0;

    if (!header.bytes)
        return 0;
    if (header.size >= 2 && header.bytes[0] == '"' && header.bytes[header.size - 1] == '"') {
        if (unquote(header, plain, &size) < 0)
            return problem_set(problem, PROBLEM_INVALID_REQUEST, param,
                               "%s must be a quoted string of at most %d bytes, or bare text.",
                               param, LIMIT_IDEMPOTENCY_KEY_BYTES);
        header = (struct slice){.bytes = plain, .size = size};
    }
    if (validate_key_text(header, param, &given, problem) < 0)
        return ERR_INVALID;
    if (!text_is_utf8(header.bytes, header.size))
        return problem_set(problem, PROBLEM_INVALID_REQUEST, param, "%s must be UTF-8.", param);
    if (draft->idempotency_key_size > 0 &&
        (draft->idempotency_key_size != given.idempotency_key_size ||
         memcmp(draft->idempotency_key, given.idempotency_key, given.idempotency_key_size) != 0))
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "idempotency_key",
                           "idempotency_key differs from the header Idempotency-Key.");
    memcpy(draft->idempotency_key, given.idempotency_key, sizeof(draft->idempotency_key));
    draft->idempotency_key_size = given.idempotency_key_size;
    return 0;
}

int validate_option_headers(const struct validate_headers *headers, struct draft *draft,
                            struct problem *problem)
{
    struct jdoc *doc = NULL;
    struct error_text why = {.text = ""};

    if (headers->webhook.bytes)
        return problem_set(problem, PROBLEM_NOT_SUPPORTED, "Penstock-Webhook",
                           "Webhooks are not supported.");
    if (headers->priority.bytes &&
        validate_priority(headers->priority, "Penstock-Priority", draft, problem) < 0)
        return ERR_INVALID;
    if (headers->expires_ms.bytes &&
        validate_number(headers->expires_ms, "Penstock-Expires-Ms", 1, LIMIT_EXPIRES_MAX_MS,
                        &draft->expires_in_ms, problem) < 0)
        return ERR_INVALID;
    if (!headers->metadata.bytes)
        return 0;
    int status = jdoc_parse(headers->metadata.bytes, headers->metadata.size, &doc, &why);
    if (status == ERR_NOMEM)
        return problem_set(problem, PROBLEM_OVERLOADED, NULL,
                           "There is no memory to read this request; nothing was written.");
    if (status < 0)
        return problem_set(problem, PROBLEM_INVALID_REQUEST, "Penstock-Metadata",
                           "Penstock-Metadata is not valid JSON: %s.", why.text);
    status = validate_metadata(jdoc_root(doc), "Penstock-Metadata", draft, problem);
    jdoc_destroy(doc);
    return status;
}

/* ---- Prefer ---------------------------------------------------------------------------------- */

static struct slice next_item(struct slice *rest)
{
    struct slice item = {.bytes = rest->bytes, .size = 0};

    while (item.size < rest->size && rest->bytes[item.size] != ',' && rest->bytes[item.size] != ';')
        item.size++;
    size_t used = item.size < rest->size ? item.size + 1 : item.size;
    rest->bytes += used;
    rest->size -= used;
    while (item.size > 0 && (item.bytes[0] == ' ' || item.bytes[0] == '\t')) {
        item.bytes++;
        item.size--;
    }
    while (item.size > 0 && (item.bytes[item.size - 1] == ' ' || item.bytes[item.size - 1] == '\t'))
        item.size--;
    return item;
}

void parse_prefer(struct slice header, struct prefer *out)
{
    *out = (struct prefer){.respond_async = false};
    while (header.bytes && header.size > 0) {
        struct slice item = next_item(&header);
        int64_t seconds = 0;
        if (text_equal_nocase(item.bytes, item.size, "respond-async"))
            out->respond_async = true;
        if (item.size > 5 && text_equal_nocase(item.bytes, 5, "wait=") && !out->has_wait &&
            text_parse_i64(item.bytes + 5, item.size - 5, 0, INT32_MAX, &seconds) == 0) {
            out->has_wait = true;
            out->wait_ms = seconds * 1000 > LIMIT_WAIT_MS ? LIMIT_WAIT_MS : seconds * 1000;
        }
    }
}
