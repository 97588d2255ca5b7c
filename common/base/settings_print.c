/* The whole configuration as YAML that settings_load takes back; passwords as ***. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/jdoc.h" /* a JSON string is a YAML string */
#include "common/base/settings_rows.h"
#include "common/base/text.h"

/* Line ends of YAML that JSON knows nothing of: as they are, they would be folded into spaces. */
static const struct {
    const char *bytes;
    const char *escape;
} line_ends[] = {{"\xc2\x85", "\\u0085"}, {"\xe2\x80\xa8", "\\u2028"}, {"\xe2\x80\xa9", "\\u2029"}};

static const char *escape_at(const char *at, size_t *out_size)
{
    for (size_t i = 0; i < sizeof line_ends / sizeof line_ends[0]; i++) {
        *out_size = strlen(line_ends[i].bytes);
        if (strncmp(at, line_ends[i].bytes, *out_size) == 0)
            return line_ends[i].escape;
    }
    return NULL;
}

static int put_text(struct buf *out, const char *text)
{
    struct buf json = {.size_max = out->size_max};
    int status = json_put_string(&json, text, strlen(text));

    if (status == 0)
        status = buf_append(&json, "", 1);
    for (const char *at = json.data; status == 0 && *at;) {
        size_t size;
        const char *escape = escape_at(at, &size);

        if (!escape)
            size = 1;
        status = buf_append(out, escape ? escape : at, escape ? strlen(escape) : 1);
        at += size;
    }
    buf_deinit(&json);
    return status;
}

/* Everything between the scheme and the last '@' but the user's name. A login without ':' is a
 * password alone. */
static int put_url(struct buf *out, const char *url)
{
    const char *login = strstr(url, "://");
    const char *at_sign = login ? strrchr(login, '@') : NULL;
    char masked[2048];

    if (!at_sign)
        return put_text(out, url);
    login += 3;
    const char *colon = memchr(login, ':', (size_t)(at_sign - login));
    const char *shown = colon ? colon + 1 : login;
    (void)snprintf(masked, sizeof masked, "%.*s***%s", (int)(shown - url), url, at_sign);
    return put_text(out, masked);
}

static int put_word(struct buf *out, const char *words, int place)
{
    const char *word = words;

    for (; place > 0; place--)
        word += strcspn(word, "|") + 1;
    return buf_append(out, word, strcspn(word, "|"));
}

/* The shortest digits that mean the same number. */
static int put_double(struct buf *out, double value)
{
    char text[40];
    double read_back;

    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (text_parse_double(text, strlen(text), &read_back) == 0 && read_back == value)
            break;
    }
    return buf_append_text(out, text);
}

static int put_list(struct buf *out, char *const *texts, unsigned count)
{
    int status = buf_append_char(out, '[');

    for (unsigned i = 0; status == 0 && i < count; i++) {
        status = i > 0 ? buf_append_text(out, ", ") : 0;
        if (status == 0)
            status = put_text(out, texts[i]);
    }
    return status < 0 ? status : buf_append_char(out, ']');
}

static int put_gpus(struct buf *out, const struct settings *settings)
{
    if (settings->worker.gpus_count == SETTINGS_AUTO)
        return buf_append_text(out, "auto");

    int status = buf_append_char(out, '[');
    for (int i = 0; status == 0 && i < settings->worker.gpus_count; i++)
        status = buf_printf(out, "%s%d", i > 0 ? ", " : "", settings->worker.gpu_ids[i]);
    return status < 0 ? status : buf_append_char(out, ']');
}

static int put_aliases(struct buf *out, const struct settings *settings)
{
    int status = settings->aliases_count == 0 ? buf_append_text(out, " {}") : 0;

    for (unsigned i = 0; status == 0 && i < settings->aliases_count; i++) {
        status = buf_append_text(out, "\n  ? ");
        if (status == 0)
            status = put_text(out, settings->aliases[i].from);
        if (status == 0)
            status = buf_append_text(out, "\n  : ");
        if (status == 0)
            status = put_text(out, settings->aliases[i].to);
    }
    return status;
}

/* Behind the "key:". */
static int put_value(struct buf *out, const char *base, const struct settings_row *row)
{
    const void *at = base + row->at;

    if (row->kind == SETTINGS_ALIASES)
        return put_aliases(out, (const struct settings *)(const void *)base);
    int status = buf_append_char(out, ' ');
    if (status < 0)
        return status;
    switch (row->kind) {
    case SETTINGS_TEXT:
        if (strcmp(row->path, "redis.url") == 0)
            return put_url(out, *(char *const *)at);
        return put_text(out, *(char *const *)at);
    case SETTINGS_WORD:
        return buf_append_text(out, *(char *const *)at);
    case SETTINGS_CHOICE:
        return put_word(out, row->words, *(const int *)at);
    case SETTINGS_AUTO_INT:
        if (*(const int *)at == SETTINGS_AUTO)
            return buf_append_text(out, "auto");
        return buf_printf(out, "%d", *(const int *)at);
    case SETTINGS_INT:
        return buf_printf(out, "%d", *(const int *)at);
    case SETTINGS_INT64:
        return buf_printf(out, "%" PRId64, *(const int64_t *)at);
    case SETTINGS_DOUBLE:
        return put_double(out, *(const double *)at);
    case SETTINGS_BOOL:
        return buf_append_text(out, *(const bool *)at ? "true" : "false");
    case SETTINGS_LIST:
        return put_list(out, *(char *const *const *)at,
                        *(const unsigned *)(const void *)(base + row->count_at));
    case SETTINGS_GPUS:
        return put_gpus(out, (const struct settings *)(const void *)base);
    case SETTINGS_ALIASES:
    case SETTINGS_UPSTREAMS:
        break;
    }
    return 0;
}

/* Each key on a line of its own, below the first one's section. */
static int put_rows(struct buf *out, const char *base, const struct settings_row *rows,
                    size_t count, const char *indent)
{
    const char *section = "";
    size_t section_size = 0;
    int status = 0;

    for (size_t i = 0; status == 0 && i < count; i++) {
        const char *dot = strchr(rows[i].path, '.');
        size_t size = dot ? (size_t)(dot - rows[i].path) : 0;
        if (rows[i].kind == SETTINGS_UPSTREAMS)
            continue; /* stands at the end */
        bool is_new = size != section_size || strncmp(section, rows[i].path, size) != 0;

        if (dot && is_new)
            status = buf_printf(out, "\n%s%.*s:", indent, (int)size, rows[i].path);
        section = rows[i].path;
        section_size = size;
        if (status == 0)
            status =
                buf_printf(out, "\n%s%s%s:", indent, dot ? "  " : "", dot ? dot + 1 : rows[i].path);
        if (status == 0)
            status = put_value(out, base, &rows[i]);
    }
    return status;
}

static int put_upstreams(struct buf *out, const struct settings *settings)
{
    int status =
        buf_append_text(out, settings->upstreams_count == 0 ? "\nupstreams: []" : "\nupstreams:");

    for (unsigned i = 0; status == 0 && i < settings->upstreams_count; i++) {
        status = buf_append_text(out, "\n  -");
        if (status == 0)
            status = put_rows(out, (const char *)&settings->upstreams[i], settings_upstream_rows,
                              settings_upstream_rows_count, "    ");
    }
    return status;
}

int settings_print(const struct settings *settings, struct buf *out)
{
    int status = buf_append_text(out, "# All settings as they are in effect.");

    if (status == 0)
        status = put_rows(out, (const char *)settings, settings_rows, settings_rows_count, "");
    if (status == 0)
        status = put_upstreams(out, settings);
    return status < 0 ? status : buf_append_char(out, '\n');
}
