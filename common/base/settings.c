/* The configuration, put together: the file's texts, then the environment's, then defaults, all
 * read by the rows of settings_rows.c. */
#include "common/base/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/settings_rows.h"

/* --- refusals ------------------------------------------------------------------------------- */

void settings_environment_name(const char *path, char out[SETTINGS_NAME_SIZE])
{
    size_t size = (size_t)snprintf(out, SETTINGS_NAME_SIZE, "PENSTOCK_%s", path);

    CHECK(size < SETTINGS_NAME_SIZE);
    for (char *at = out; *at; at++) {
        if (*at == '.')
            *at = '_';
        else if (*at >= 'a' && *at <= 'z')
            *at = (char)(*at - 'a' + 'A');
    }
}

const char *settings_find_variable(const struct settings_source *source, const char *path)
{
    char name[SETTINGS_NAME_SIZE];

    if (!source->has_environment || strchr(path, '[') || strlen(path) + 10 > sizeof name)
        return NULL;
    settings_environment_name(path, name);
    return getenv(name);
}

int settings_refuse(const struct settings_source *source, const char *path, const char *format, ...)
{
    char reason[ERROR_TEXT_SIZE];
    char name[SETTINGS_NAME_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    if (settings_find_variable(source, path)) {
        settings_environment_name(path, name);
        return error_set(source->why, ERR_INVALID, "%s: %s", name, reason);
    }
    int node = source->file ? yaml_doc_find(&source->doc, path) : -1;
    if (node < 0)
        return error_set(source->why, ERR_INVALID, "%s%s%s: %s", source->file ? source->file : "",
                         source->file ? ": " : "", path, reason);
    return error_set(source->why, ERR_INVALID, "%s:%u: %s: %s", source->file,
                     yaml_doc_at(&source->doc, (size_t)node)->line, path, reason);
}

/* --- loading -------------------------------------------------------------------------------- */

/* No document, or one with nothing but comments. */
static bool is_empty(const struct yaml_doc *doc)
{
    if (yaml_doc_count(doc) == 0)
        return true;
    const struct yaml_node *root = yaml_doc_at(doc, 0);
    return root->kind == YAML_SCALAR && *yaml_doc_value(doc, root) == '\0';
}

static int settings_build(struct settings_source *source, const char *text, size_t size,
                          struct settings **out)
{
    struct settings_raw *raw = NULL;
    struct settings *settings = calloc(1, sizeof *settings);
    int status = settings ? 0 : error_set(source->why, ERR_NOMEM, "out of memory");

    if (status == 0 && source->file)
        status = yaml_doc_parse(&source->doc, source->file, text, size, source->why);
    if (status == 0 && !is_empty(&source->doc))
        status = settings_raw_parse(source, text, size, &raw);
    if (status == 0)
        status = settings_read(source, raw, settings);
    if (status == 0)
        status = settings_check(source, settings);
    settings_raw_destroy(raw);
    yaml_doc_deinit(&source->doc);
    if (status < 0) {
        settings_destroy(settings);
        return status;
    }
    *out = settings;
    return 0;
}

int settings_parse(const char *name, const char *text, size_t size, struct settings **out,
                   struct error_text *why)
{
    struct settings_source source = {.file = name, .why = why};
    return settings_build(&source, text, size, out);
}

static int read_file(const char *path, struct buf *out, struct error_text *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int status = 0;
    ssize_t count = 1;

    if (fd < 0)
        return error_set(why, errno == ENOENT ? ERR_NOT_FOUND : ERR_INVALID, "%s: %s", path,
                         strerror(errno));
    while (status == 0 && count > 0) {
        char bytes[4096];
        count = read(fd, bytes, sizeof bytes);
        if (count < 0 && errno == EINTR)
            count = 1;
        else if (count < 0)
            status = error_set(why, ERR_INVALID, "%s: %s", path, strerror(errno));
        else
            status = buf_append(out, bytes, (size_t)count);
    }
    (void)close(fd);
    if (status == ERR_TOO_BIG)
        return error_set(why, ERR_INVALID, "%s: larger than %d bytes", path,
                         SETTINGS_FILE_SIZE_MAX);
    return status;
}

int settings_read_text(const char *path, struct buf *text, const char **out_path,
                       struct error_text *why)
{
    static const char *const places[] = {"./penstock.yaml", "/etc/penstock/penstock.yaml"};
    const char *named = path ? path : getenv("PENSTOCK_CONFIG");
    int status;

    *out_path = NULL;
    if (named && *named) {
        *out_path = named;
        status = read_file(named, text, why);
        return status == ERR_NOT_FOUND ? ERR_INVALID : status;
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        status = read_file(places[i], text, why);
        if (status == ERR_NOT_FOUND)
            continue;
        *out_path = places[i];
        return status;
    }
    return 0;
}

int settings_load(const char *path, struct settings **out, struct error_text *why)
{
    struct settings_source source = {.has_environment = true, .why = why};
    struct buf text = {.size_max = SETTINGS_FILE_SIZE_MAX};
    int status = settings_read_text(path, &text, &source.file, why);

    if (status == 0)
        status = settings_check_environment(why);
    if (status == 0)
        status = settings_build(&source, text.data ? text.data : "", text.size, out);
    buf_deinit(&text);
    return status;
}

const char *settings_environment(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

/* --- release -------------------------------------------------------------------------------- */

static void free_rows(char *base, const struct settings_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == SETTINGS_TEXT || rows[i].kind == SETTINGS_WORD)
            free(*(char **)(void *)(base + rows[i].at));
        if (rows[i].kind != SETTINGS_LIST)
            continue;
        char **texts = *(char ***)(void *)(base + rows[i].at);
        unsigned texts_count = *(unsigned *)(void *)(base + rows[i].count_at);
        for (unsigned j = 0; j < texts_count; j++)
            free(texts[j]);
        free(texts);
    }
}

void settings_destroy(struct settings *settings)
{
    if (!settings)
        return;
    for (unsigned i = 0; i < settings->upstreams_count; i++)
        free_rows((char *)&settings->upstreams[i], settings_upstream_rows,
                  settings_upstream_rows_count);
    for (unsigned i = 0; i < settings->aliases_count; i++) {
        free(settings->aliases[i].from);
        free(settings->aliases[i].to);
    }
    free_rows((char *)settings, settings_rows, settings_rows_count);
    free(settings->upstreams);
    free(settings->aliases);
    free(settings);
}
