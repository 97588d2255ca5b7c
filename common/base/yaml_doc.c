/* libyaml's events, flattened into a list of nodes. */
#include "common/base/yaml_doc.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "common/base/text.h"

enum { TEXTS_SIZE_MAX = 8 * 1024 * 1024 };

struct level {
    int node;
    unsigned count;  /* entries of a sequence so far */
    const char *key; /* of a mapping: the key whose value comes next; NULL: a key comes next */
    char key_bytes[300];
};

struct walk {
    struct yaml_doc *doc;
    const char *name;
    struct error_text *why;
    size_t depth;
    bool has_document;
    struct level levels[YAML_DEPTH_MAX];
};

void yaml_doc_deinit(struct yaml_doc *doc)
{
    buf_deinit(&doc->nodes);
    buf_deinit(&doc->texts);
}

size_t yaml_doc_count(const struct yaml_doc *doc)
{
    return doc->nodes.size / sizeof(struct yaml_node);
}

const struct yaml_node *yaml_doc_at(const struct yaml_doc *doc, size_t index)
{
    CHECK(index < yaml_doc_count(doc));
    return (const struct yaml_node *)(const void *)doc->nodes.data + index;
}

static const char *text_at(const struct yaml_doc *doc, size_t at)
{
    CHECK(at < doc->texts.size);
    return doc->texts.data + at;
}

int yaml_doc_find(const struct yaml_doc *doc, const char *path)
{
    for (size_t i = 0; i < yaml_doc_count(doc); i++) {
        if (strcmp(text_at(doc, yaml_doc_at(doc, i)->path_at), path) == 0)
            return (int)i;
    }
    return -1;
}

const char *yaml_doc_key(const struct yaml_doc *doc, const struct yaml_node *node)
{
    return text_at(doc, node->key_at);
}

const char *yaml_doc_value(const struct yaml_doc *doc, const struct yaml_node *node)
{
    return text_at(doc, node->value_at);
}

static int refuse(const struct walk *walk, size_t line, const char *reason)
{
    return error_set(walk->why, ERR_INVALID, "%s:%zu: %s", walk->name, line + 1, reason);
}

/* Keeps a terminated copy. */
static int put_text(struct yaml_doc *doc, const char *text, size_t *out_at)
{
    *out_at = doc->texts.size;
    return buf_append(&doc->texts, text, strlen(text) + 1);
}

static bool is_plain_text(const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;

    for (size_t i = 0; i < event->data.scalar.length; i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    }
    return text_is_utf8(text, event->data.scalar.length);
}

static int format_path(const struct walk *walk, char *out, size_t size)
{
    const struct level *level = &walk->levels[walk->depth - 1];
    const struct yaml_node *parent = yaml_doc_at(walk->doc, (size_t)level->node);
    const char *head = text_at(walk->doc, parent->path_at);
    int count;

    if (level->key)
        count = snprintf(out, size, "%s%s%s", head, *head ? "." : "", level->key);
    else
        count = snprintf(out, size, "%s[%u]", head, level->count);
    return count >= 0 && (size_t)count < size ? 0 : ERR_TOO_BIG;
}

/* The node goes into the list, and the level it stands on moves to what comes after it. */
static int add_node(struct walk *walk, enum yaml_kind kind, const char *value, size_t line)
{
    struct yaml_doc *doc = walk->doc;
    struct yaml_node node = {.kind = kind, .parent = -1, .line = (unsigned)line + 1};
    const char *key = "";
    char path[YAML_PATH_MAX] = "";

    if (yaml_doc_count(doc) == YAML_NODES_MAX)
        return refuse(walk, line, "too many values");
    if (walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];
        if (format_path(walk, path, sizeof path) < 0)
            return refuse(walk, line, "keys are too long");
        node.parent = level->node;
        if (level->key) {
            key = level->key;
            level->key = NULL;
        } else {
            level->count++;
        }
    }
    int status = put_text(doc, path, &node.path_at);
    if (status == 0)
        status = put_text(doc, key, &node.key_at);
    if (status == 0)
        status = put_text(doc, value, &node.value_at);
    if (status == 0)
        status = buf_append(&doc->nodes, &node, sizeof node);
    return status < 0 ? error_set(walk->why, status, "%s: %s", walk->name, error_text_of(status))
                      : 0;
}

static int take_key(struct walk *walk, struct level *level, const yaml_event_t *event)
{
    size_t line = event->start_mark.line;
    const char *key = (const char *)event->data.scalar.value;

    if (event->data.scalar.length >= sizeof level->key_bytes)
        return refuse(walk, line, "a key is too long");
    memcpy(level->key_bytes, key, event->data.scalar.length + 1);
    for (size_t i = yaml_doc_count(walk->doc); i-- > (size_t)level->node + 1;) {
        const struct yaml_node *node = yaml_doc_at(walk->doc, i);
        if (node->parent == level->node && strcmp(yaml_doc_key(walk->doc, node), key) == 0)
            return error_set(walk->why, ERR_INVALID, "%s:%zu: duplicate key \"%.64s\"", walk->name,
                             line + 1, key);
    }
    level->key = level->key_bytes;
    return 0;
}

static bool wants_key(const struct walk *walk)
{
    if (walk->depth == 0)
        return false;
    const struct level *level = &walk->levels[walk->depth - 1];
    return !level->key && yaml_doc_at(walk->doc, (size_t)level->node)->kind == YAML_MAPPING;
}

static int on_scalar(struct walk *walk, const yaml_event_t *event)
{
    size_t line = event->start_mark.line;

    if (event->data.scalar.anchor)
        return refuse(walk, line, "anchors are not supported");
    if (event->data.scalar.tag)
        return refuse(walk, line, "tags are not supported");
    if (!is_plain_text(event))
        return refuse(walk, line, "control characters in a value");
    if (wants_key(walk))
        return take_key(walk, &walk->levels[walk->depth - 1], event);
    return add_node(walk, YAML_SCALAR, (const char *)event->data.scalar.value, line);
}

static int on_start(struct walk *walk, enum yaml_kind kind, size_t line, bool is_decorated)
{
    if (is_decorated)
        return refuse(walk, line, "anchors and tags are not supported");
    if (wants_key(walk))
        return refuse(walk, line, "a key must be a plain text");
    if (walk->depth == YAML_DEPTH_MAX)
        return refuse(walk, line, "nested too deep");
    int status = add_node(walk, kind, "", line);
    if (status < 0)
        return status;
    walk->levels[walk->depth++] = (struct level){.node = (int)yaml_doc_count(walk->doc) - 1};
    return 0;
}

/* 1 at the end of the text. */
static int on_event(struct walk *walk, const yaml_event_t *event)
{
    size_t line = event->start_mark.line;

    switch (event->type) {
    case YAML_STREAM_END_EVENT:
        return 1;
    case YAML_DOCUMENT_START_EVENT:
        if (walk->has_document)
            return refuse(walk, line, "more than one document");
        walk->has_document = true;
        return 0;
    case YAML_SCALAR_EVENT:
        return on_scalar(walk, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(walk, YAML_SEQUENCE, line,
                        event->data.sequence_start.anchor || event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_start(walk, YAML_MAPPING, line,
                        event->data.mapping_start.anchor || event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        CHECK(walk->depth > 0);
        walk->depth--;
        return 0;
    case YAML_ALIAS_EVENT:
        return refuse(walk, line, "aliases (*name) are not supported");
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return 0;
    }
    return 0;
}

static int refuse_syntax(const struct walk *walk, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set(walk->why, ERR_NOMEM, "%s: out of memory", walk->name);
    return refuse(walk, parser->problem_mark.line,
                  parser->problem ? parser->problem : "not valid YAML");
}

int yaml_doc_parse(struct yaml_doc *doc, const char *name, const char *text, size_t size,
                   struct error_text *why)
{
    struct walk walk = {.doc = doc, .name = name, .why = why};
    yaml_parser_t parser;
    int status = 0;

    buf_init(&doc->nodes, YAML_NODES_MAX * sizeof(struct yaml_node));
    buf_init(&doc->texts, TEXTS_SIZE_MAX);
    if (!yaml_parser_initialize(&parser))
        return error_set(why, ERR_NOMEM, "%s: out of memory", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    while (status == 0) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = refuse_syntax(&walk, &parser);
            break;
        }
        status = on_event(&walk, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return status < 0 ? status : 0;
}
