/* From texts to values, row by row: the environment's text wins over the file's, that over the
 * default. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/settings_rows.h"
#include "common/base/text.h"

enum { PATH_SIZE = 160, GPU_ID_MAX = 1023 };

/* One table being read: where its texts are, where its values go. */
struct reading {
    const struct settings_source *source;
    const struct settings_raw *raw; /* NULL: nothing but defaults */
    char *base;                     /* struct settings or struct settings_upstream */
    const char *prefix;             /* "upstreams[0]." */
};

static int refuse_row(const struct reading *reading, const struct settings_row *row,
                      const char *reason)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s%s", reading->prefix, row->path);
    return settings_refuse(reading->source, path, "%s", reason);
}

static int refuse_memory(const struct settings_source *source)
{
    return error_set(source->why, ERR_NOMEM, "out of memory");
}

/* --- single values -------------------------------------------------------------------------- */

static int read_text(const struct reading *reading, const struct settings_row *row,
                     const char *text, char **out)
{
    char reason[96];
    size_t size = strlen(text);

    if (size < (size_t)row->min || size > (size_t)row->max) {
        (void)snprintf(reason, sizeof reason, "%zu bytes are not within %lld to %lld", size,
                       (long long)row->min, (long long)row->max);
        return refuse_row(reading, row, size == 0 ? "may not be empty" : reason);
    }
    if (!text_is_utf8(text, size))
        return refuse_row(reading, row, "is not valid UTF-8");
    char *copy = strdup(text);
    if (!copy)
        return refuse_memory(reading->source);
    *out = copy;
    return 0;
}

/* Place of text in "memory|fsync|replica". */
static int read_word(const struct reading *reading, const struct settings_row *row,
                     const char *text, int *out)
{
    const char *word = row->words;
    char reason[160];

    for (int place = 0; *word; place++) {
        size_t size = strcspn(word, "|");
        if (text_equal(word, size, text)) {
            *out = place;
            return 0;
        }
        word += size + (word[size] == '|');
    }
    (void)snprintf(reason, sizeof reason, "\"%.32s\" is not one of %s", text, row->words);
    return refuse_row(reading, row, reason);
}

static int read_number(const struct reading *reading, const struct settings_row *row,
                       const char *text, int64_t *out)
{
    char reason[160];

    if (text_parse_i64(text, strlen(text), row->min, row->max, out) == 0)
        return 0;
    (void)snprintf(reason, sizeof reason, "\"%.32s\" is not %sa whole number from %lld to %lld",
                   text,
                   row->kind == SETTINGS_AUTO_INT || row->kind == SETTINGS_GPUS ? "auto or " : "",
                   (long long)row->min, (long long)row->max);
    return refuse_row(reading, row, reason);
}

static int read_double(const struct reading *reading, const struct settings_row *row,
                       const char *text, double *out)
{
    char reason[160];
    double value;

    if (text_parse_double(text, strlen(text), &value) == 0 && value >= (double)row->min &&
        value <= (double)row->max) {
        *out = value;
        return 0;
    }
    (void)snprintf(reason, sizeof reason, "\"%.32s\" is not a number from %lld to %lld", text,
                   (long long)row->min, (long long)row->max);
    return refuse_row(reading, row, reason);
}

static int read_bool(const struct reading *reading, const struct settings_row *row,
                     const char *text, bool *out)
{
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return refuse_row(reading, row, "is neither true nor false");
    *out = text[0] == 't';
    return 0;
}

/* --- gpus: auto, a number, [0, 2, 3] -------------------------------------------------------- */

static int add_gpu(const struct reading *reading, const struct settings_row *row,
                   struct settings *settings, const char *text, size_t size)
{
    int64_t id;

    if (text_parse_i64(text, size, 0, GPU_ID_MAX, &id) < 0)
        return refuse_row(reading, row, "a GPU's id must be a number from 0 to 1023");
    for (int i = 0; i < settings->worker.gpus_count; i++) {
        if (settings->worker.gpu_ids[i] == id)
            return refuse_row(reading, row, "a GPU's id stands there twice");
    }
    if (settings->worker.gpus_count == SETTINGS_GPUS_MAX)
        return refuse_row(reading, row, "more than 64 GPUs");
    settings->worker.gpu_ids[settings->worker.gpus_count++] = (int)id;
    return 0;
}

/* "[0, 2]", as the environment gives it. */
static int read_gpu_list(const struct reading *reading, const struct settings_row *row,
                         struct settings *settings, const char *text)
{
    const char *at = text + 1;
    int status = 0;

    if (text[strlen(text) - 1] != ']')
        return refuse_row(reading, row, "']' is missing");
    while (status == 0 && *(at += strspn(at, " ")) != ']') {
        size_t size = strcspn(at, " ,]");
        status = add_gpu(reading, row, settings, at, size);
        at += size;
        at += strspn(at, " ");
        if (*at == ',')
            at++;
        else if (status == 0 && *at != ']')
            status = refuse_row(reading, row, "the ids must stand apart by commas");
    }
    if (status == 0 && at[1] != '\0')
        status = refuse_row(reading, row, "more text after ']'");
    return status;
}

static int read_gpus(const struct reading *reading, const struct settings_row *row,
                     struct settings *settings)
{
    const struct yaml_doc *doc = &reading->source->doc;
    const char *text = settings_find_variable(reading->source, row->path);
    int node = yaml_doc_find(doc, row->path);
    int64_t count = 0;
    int status;

    if (!text && node >= 0 && yaml_doc_at(doc, (size_t)node)->kind == YAML_MAPPING)
        return refuse_row(reading, row, "must be auto, a number or a list of numbers");
    if (!text && node >= 0 && yaml_doc_at(doc, (size_t)node)->kind == YAML_SEQUENCE) {
        for (size_t i = (size_t)node + 1; i < yaml_doc_count(doc); i++) {
            const struct yaml_node *entry = yaml_doc_at(doc, i);
            if (entry->parent != node)
                break;
            const char *id = yaml_doc_value(doc, entry);
            status = add_gpu(reading, row, settings, id, strlen(id));
            if (status < 0)
                return status;
        }
        return 0;
    }
    if (!text)
        text = node >= 0 ? yaml_doc_value(doc, yaml_doc_at(doc, (size_t)node)) : row->preset;
    if (text[0] == '[')
        return read_gpu_list(reading, row, settings, text);
    if (strcmp(text, "auto") == 0) {
        settings->worker.gpus_count = SETTINGS_AUTO;
        return 0;
    }
    status = read_number(reading, row, text, &count);
    for (int i = 0; status == 0 && i < (int)count; i++)
        settings->worker.gpu_ids[i] = i;
    settings->worker.gpus_count = (int)count;
    return status;
}

/* --- lists and aliases -------------------------------------------------------------- */

static int read_list(const struct reading *reading, const struct settings_row *row, size_t index)
{
    unsigned count = reading->raw ? reading->raw->list_counts[index] : 0;
    unsigned *out_count = (unsigned *)(void *)(reading->base + row->count_at);

    if (count == 0)
        return 0;
    char **texts = calloc(count, sizeof *texts);
    if (!texts)
        return refuse_memory(reading->source);
    *(char ***)(void *)(reading->base + row->at) = texts;
    for (unsigned i = 0; i < count; i++) {
        int status = read_text(reading, row, reading->raw->lists[index][i], &texts[i]);
        if (status < 0)
            return status;
        *out_count = i + 1;
    }
    return 0;
}

static int add_alias(const struct settings_source *source, struct settings *settings,
                     const struct yaml_node *node)
{
    const char *from = yaml_doc_key(&source->doc, node);
    const char *to = yaml_doc_value(&source->doc, node);
    struct settings_alias *alias = &settings->aliases[settings->aliases_count];

    if (node->kind != YAML_SCALAR || *to == '\0' || strlen(to) > 256)
        return settings_refuse(source, "aliases",
                               "\"%.64s\" must stand for the name of a model, 1 to 256 bytes",
                               from);
    if (*from == '\0' || strlen(from) > 256)
        return settings_refuse(source, "aliases", "a name must have 1 to 256 bytes");
    settings->aliases_count++;
    alias->from = strdup(from);
    alias->to = strdup(to);
    return alias->from && alias->to ? 0 : refuse_memory(source);
}

static int read_aliases(const struct settings_source *source, struct settings *settings)
{
    const struct yaml_doc *doc = &source->doc;
    int parent = yaml_doc_find(doc, "aliases");
    size_t count = 0;

    if (parent < 0)
        return 0;
    const struct yaml_node *node = yaml_doc_at(doc, (size_t)parent);
    if (node->kind == YAML_SCALAR && *yaml_doc_value(doc, node) == '\0')
        return 0; /* `aliases:` with nothing behind it */
    if (node->kind != YAML_MAPPING)
        return settings_refuse(source, "aliases", "expected names and models, name: model");
    for (size_t i = (size_t)parent + 1; i < yaml_doc_count(doc); i++)
        count += yaml_doc_at(doc, i)->parent == parent;
    if (count > SETTINGS_ALIASES_MAX)
        return settings_refuse(source, "aliases", "more than %d", SETTINGS_ALIASES_MAX);
    settings->aliases = calloc(count + 1, sizeof *settings->aliases);
    if (!settings->aliases)
        return refuse_memory(source);
    for (size_t i = (size_t)parent + 1; i < yaml_doc_count(doc); i++) {
        if (yaml_doc_at(doc, i)->parent != parent)
            continue;
        int status = add_alias(source, settings, yaml_doc_at(doc, i));
        if (status < 0)
            return status;
    }
    return 0;
}

/* --- rows ----------------------------------------------------------------------------------- */

static int read_value(const struct reading *reading, const struct settings_row *row,
                      const char *text)
{
    void *out = reading->base + row->at;
    int64_t number = SETTINGS_AUTO;
    int place = 0;
    int status;

    CHECK(row->kind < SETTINGS_LIST); /* the kinds from there on have no single value */
    switch (row->kind) {
    case SETTINGS_TEXT:
        return read_text(reading, row, text, out);
    case SETTINGS_WORD:
        status = read_word(reading, row, text, &place);
        if (status < 0)
            return status;
        *(char **)out = strdup(text);
        return *(char **)out ? 0 : refuse_memory(reading->source);
    case SETTINGS_CHOICE:
        return read_word(reading, row, text, out);
    case SETTINGS_AUTO_INT:
        if (strcmp(text, "auto") == 0) {
            *(int *)out = SETTINGS_AUTO;
            return 0;
        }
        status = read_number(reading, row, text, &number);
        *(int *)out = (int)number;
        return status;
    case SETTINGS_INT:
        status = read_number(reading, row, text, &number);
        *(int *)out = (int)number;
        return status;
    case SETTINGS_INT64:
        return read_number(reading, row, text, out);
    case SETTINGS_DOUBLE:
        return read_double(reading, row, text, out);
    case SETTINGS_BOOL:
        return read_bool(reading, row, text, out);
    case SETTINGS_LIST:
    case SETTINGS_GPUS:
    case SETTINGS_ALIASES:
    case SETTINGS_UPSTREAMS:
        break;
    }
    return ERR_STATE;
}

static int read_row(const struct reading *reading, const struct settings_row *row, size_t index)
{
    switch (row->kind) {
    case SETTINGS_LIST:
        return read_list(reading, row, index);
    case SETTINGS_GPUS:
        return read_gpus(reading, row, (struct settings *)(void *)reading->base);
    case SETTINGS_ALIASES:
        return read_aliases(reading->source, (struct settings *)(void *)reading->base);
    case SETTINGS_UPSTREAMS:
        return 0; /* after all others, by its own table */
    case SETTINGS_TEXT:
    case SETTINGS_WORD:
    case SETTINGS_CHOICE:
    case SETTINGS_INT:
    case SETTINGS_AUTO_INT:
    case SETTINGS_INT64:
    case SETTINGS_DOUBLE:
    case SETTINGS_BOOL:
        break;
    }
    const char *text =
        *reading->prefix == '\0' ? settings_find_variable(reading->source, row->path) : NULL;
    if (!text && reading->raw)
        text = reading->raw->values[index];
    if (!text)
        text = row->preset;
    return text ? read_value(reading, row, text) : refuse_row(reading, row, "must be given");
}

static int read_rows(const struct reading *reading, const struct settings_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int status = read_row(reading, &rows[i], i);
        if (status < 0)
            return status;
    }
    return 0;
}

static int read_upstreams(const struct settings_source *source, const struct settings_raw *raw,
                          struct settings *settings)
{
    unsigned count = raw ? raw->upstreams_count : 0;

    if (count == 0)
        return 0;
    settings->upstreams = calloc(count, sizeof *settings->upstreams);
    if (!settings->upstreams)
        return refuse_memory(source);
    for (unsigned i = 0; i < count; i++) {
        char prefix[32];
        (void)snprintf(prefix, sizeof prefix, "upstreams[%u].", i);
        settings->upstreams_count = i + 1;
        const struct reading entry = {source, &raw->upstreams[i], (char *)&settings->upstreams[i],
                                      prefix};
        int status = read_rows(&entry, settings_upstream_rows, settings_upstream_rows_count);
        if (status < 0)
            return status;
    }
    return 0;
}

int settings_read(const struct settings_source *source, const struct settings_raw *raw,
                  struct settings *settings)
{
    const struct reading reading = {source, raw, (char *)settings, ""};
    int status = read_rows(&reading, settings_rows, settings_rows_count);
    return status < 0 ? status : read_upstreams(source, raw, settings);
}
