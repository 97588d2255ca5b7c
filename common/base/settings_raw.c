/* The file against the schema: libcyaml finds unknown keys and wrong kinds of values. Every value
 * stays a text here, so that file, environment and defaults are read by one and the same code in
 * settings.c. */
#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/settings_rows.h"
#include "common/base/text.h"

enum { SECTIONS_MAX = 16, SECTION_FIELDS_MAX = 16, SECTION_NAME_SIZE = 24, TRACE_DEPTH_MAX = 6 };

struct section {
    char name[SECTION_NAME_SIZE];
    size_t count;
    cyaml_schema_field_t fields[SECTION_FIELDS_MAX + 1];
};

/* Schema of one of the two tables. All sections write into the same struct settings_raw. */
struct schema {
    size_t count;
    size_t section_count;
    cyaml_schema_field_t fields[SETTINGS_ROWS_MAX + SECTIONS_MAX + 1];
    struct section sections[SECTIONS_MAX];
    cyaml_schema_value_t entry; /* of upstreams */
};

struct settings_schemas {
    struct schema top;
    struct schema upstream;
};

static const cyaml_schema_value_t text_value = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};

static cyaml_schema_field_t field_of(const struct settings_row *row, size_t index, const char *key,
                                     const cyaml_schema_value_t *upstream)
{
    cyaml_schema_field_t field = {.key = key};
    cyaml_schema_value_t *value = &field.value;

    switch (row->kind) {
    case SETTINGS_LIST:
        *value = (cyaml_schema_value_t){.type = CYAML_SEQUENCE,
                                        .flags = CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL,
                                        .data_size = sizeof(char *),
                                        .sequence = {&text_value, 0, SETTINGS_LIST_MAX}};
        field.data_offset =
            (uint32_t)(offsetof(struct settings_raw, lists) + index * sizeof(char **));
        field.count_offset =
            (uint32_t)(offsetof(struct settings_raw, list_counts) + index * sizeof(unsigned));
        field.count_size = sizeof(unsigned);
        return field;
    case SETTINGS_UPSTREAMS:
        *value = (cyaml_schema_value_t){.type = CYAML_SEQUENCE,
                                        .flags = CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL,
                                        .data_size = sizeof(struct settings_raw),
                                        .sequence = {upstream, 0, SETTINGS_UPSTREAMS_MAX}};
        field.data_offset = offsetof(struct settings_raw, upstreams);
        field.count_offset = offsetof(struct settings_raw, upstreams_count);
        field.count_size = sizeof(unsigned);
        return field;
    case SETTINGS_GPUS:
    case SETTINGS_ALIASES: /* no fixed form: read from the plain structure */
        *value = (cyaml_schema_value_t){.type = CYAML_IGNORE, .flags = CYAML_FLAG_OPTIONAL};
        return field;
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
    *value = (cyaml_schema_value_t){.type = CYAML_STRING,
                                    .flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                                    .data_size = sizeof(char),
                                    .string = {0, CYAML_UNLIMITED}};
    field.data_offset = (uint32_t)(offsetof(struct settings_raw, values) + index * sizeof(char *));
    return field;
}

static struct section *find_section(struct schema *schema, const char *name, size_t size)
{
    for (size_t i = 0; i < schema->section_count; i++) {
        if (text_equal(name, size, schema->sections[i].name))
            return &schema->sections[i];
    }
    CHECK(schema->section_count < SECTIONS_MAX);
    CHECK(size < SECTION_NAME_SIZE);
    struct section *section = &schema->sections[schema->section_count++];
    memcpy(section->name, name, size);
    schema->fields[schema->count++] =
        (cyaml_schema_field_t){.key = section->name,
                               .value = {.type = CYAML_MAPPING,
                                         .flags = CYAML_FLAG_OPTIONAL,
                                         .data_size = sizeof(struct settings_raw),
                                         .mapping = {section->fields}}};
    return section;
}

/* The schema's memory is zeroed, and a zeroed field ends a list of fields. */
static void build_schema(struct schema *schema, const struct settings_row *rows, size_t count,
                         const cyaml_schema_value_t *upstream)
{
    for (size_t i = 0; i < count; i++) {
        const char *dot = strchr(rows[i].path, '.');
        if (!dot) {
            schema->fields[schema->count++] = field_of(&rows[i], i, rows[i].path, upstream);
            continue;
        }
        struct section *section = find_section(schema, rows[i].path, (size_t)(dot - rows[i].path));
        CHECK(section->count < SECTION_FIELDS_MAX);
        section->fields[section->count++] = field_of(&rows[i], i, dot + 1, upstream);
    }
    schema->entry = (cyaml_schema_value_t){.type = CYAML_MAPPING,
                                           .flags = CYAML_FLAG_POINTER,
                                           .data_size = sizeof(struct settings_raw),
                                           .mapping = {schema->fields}};
}

static struct settings_schemas *schemas_create(void)
{
    struct settings_schemas *schemas = calloc(1, sizeof *schemas);

    if (!schemas)
        return NULL;
    build_schema(&schemas->upstream, settings_upstream_rows, settings_upstream_rows_count, NULL);
    schemas->upstream.entry.flags = CYAML_FLAG_DEFAULT; /* entries stand in the array itself */
    build_schema(&schemas->top, settings_rows, settings_rows_count, &schemas->upstream.entry);
    return schemas;
}

/* --- libcyaml's words, turned into one line ------------------------------------------------- */

struct trace {
    char reason[160];
    size_t count;
    char names[TRACE_DEPTH_MAX][64]; /* innermost first */
};

static void copy_between(const char *text, const char *start, const char *end, char *out,
                         size_t size)
{
    const char *from = strstr(text, start);
    if (!from)
        return;
    from += strlen(start);
    const char *to = strstr(from, end);
    if (to)
        (void)snprintf(out, size, "%.*s", (int)(to - from), from);
}

PRINTF_LIKE(3, 0)
static void on_log(cyaml_log_t level, void *arg, const char *format, va_list args)
{
    struct trace *trace = arg;
    char text[256];

    (void)level;
    (void)vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    if (strncmp(text, "Load:   in ", 11) == 0 || strncmp(text, "  in ", 5) == 0) {
        if (trace->count == TRACE_DEPTH_MAX)
            return;
        char *name = trace->names[trace->count];
        name[0] = '\0';
        copy_between(text, "field '", "'", name, sizeof trace->names[0]);
        if (name[0] == '\0') {
            char number[16] = "";
            copy_between(text, "entry '", "'", number, sizeof number);
            int64_t entry; /* counted from 1, by libcyaml */
            if (text_parse_i64(number, strlen(number), 0, SETTINGS_LIST_MAX, &entry) == 0)
                (void)snprintf(name, sizeof trace->names[0], "[%d]",
                               entry > 0 ? (int)entry - 1 : 0);
        }
        trace->count += name[0] != '\0';
    } else if (!strstr(text, "Backtrace") && trace->reason[0] == '\0') {
        const char *start = text_starts_with(text, "Load: ") ? text + 6 : text;
        (void)snprintf(trace->reason, sizeof trace->reason, "%.*s", (int)(sizeof trace->reason - 1),
                       start);
    }
}

static const char *kind_name(const char *word)
{
    if (text_starts_with(word, "STRING") || text_starts_with(word, "SCALAR"))
        return "a single value";
    if (text_starts_with(word, "SEQUENCE"))
        return "a list";
    if (text_starts_with(word, "MAPPING"))
        return "a section with keys";
    return "something else";
}

static void join_names(const struct trace *trace, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = trace->count; i-- > 0 && used < size;) {
        const char *part = trace->names[i];
        int count =
            snprintf(out + used, size - used, "%s%s", used > 0 && part[0] != '[' ? "." : "", part);
        used += count > 0 ? (size_t)count : 0;
    }
}

static int refuse_document(const struct settings_source *source, const struct trace *trace,
                           cyaml_err_t error)
{
    static const char expecting[] = "Expecting ";
    static const char unexpected[] = "Unexpected key: ";
    char path[256];
    char full_path[512];
    char reason[256];

    /* The plain structure was read already, so the syntax is fine: only memory is left to fail. */
    if (error == CYAML_ERR_OOM || error == CYAML_ERR_LIBYAML_PARSER ||
        error == CYAML_ERR_LIBYAML_PARSER_INIT)
        return error_set(source->why, ERR_NOMEM, "%s: out of memory", source->file);
    join_names(trace, path, sizeof path);
    (void)snprintf(full_path, sizeof full_path, "%s", path);
    const char *got = strstr(trace->reason, "got event: ");
    if (text_starts_with(trace->reason, unexpected)) {
        const char *key = trace->reason + sizeof unexpected - 1;
        (void)snprintf(full_path, sizeof full_path, "%s%s%s", path, path[0] != '\0' ? "." : "",
                       key);
        (void)snprintf(reason, sizeof reason, "unknown key \"%s\"", key);
    } else if (text_starts_with(trace->reason, expecting) && got)
        (void)snprintf(reason, sizeof reason, "expected %s, found %s",
                       kind_name(trace->reason + sizeof expecting - 1),
                       kind_name(got + strlen("got event: ")));
    else
        (void)snprintf(reason, sizeof reason, "%s",
                       trace->reason[0] != '\0' ? trace->reason : cyaml_strerror(error));
    /* libcyaml gives an unknown key the line where its section starts. */
    int node = yaml_doc_find(&source->doc, full_path);
    unsigned line = node >= 0 ? yaml_doc_at(&source->doc, (size_t)node)->line : 1;
    return error_set(source->why, ERR_INVALID, "%s:%u: %s%s%s", source->file, line, path,
                     path[0] != '\0' ? ": " : "", reason);
}

int settings_raw_parse(const struct settings_source *source, const char *text, size_t size,
                       struct settings_raw **out)
{
    struct trace trace = {.count = 0};
    const cyaml_config_t config = {.log_fn = on_log,
                                   .log_ctx = &trace,
                                   .mem_fn = cyaml_mem,
                                   .log_level = CYAML_LOG_ERROR,
                                   .flags = CYAML_CFG_NO_ALIAS};
    struct settings_schemas *schemas = schemas_create();
    cyaml_data_t *data = NULL;

    if (!schemas)
        return error_set(source->why, ERR_NOMEM, "out of memory");
    cyaml_err_t error =
        cyaml_load_data((const uint8_t *)text, size, &config, &schemas->top.entry, &data, NULL);
    struct settings_raw *raw = data;
    if (error == CYAML_OK && raw) {
        raw->schemas = schemas;
        *out = raw;
        return 0;
    }
    free(schemas);
    if (error != CYAML_OK)
        return refuse_document(source, &trace, error);
    *out = NULL;
    return 0;
}

void settings_raw_destroy(struct settings_raw *raw)
{
    const cyaml_config_t config = {.mem_fn = cyaml_mem, .flags = CYAML_CFG_NO_ALIAS};

    if (!raw)
        return;
    struct settings_schemas *schemas = raw->schemas;
    (void)cyaml_free(&config, &schemas->top.entry, raw, 0);
    free(schemas);
}
