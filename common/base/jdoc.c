/* JSON trees: a strict scan of ours, then json-c, then a count that finds duplicate keys. */
#include "common/base/jdoc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "common/base/jdoc_scan.h"
#include "common/base/text.h"

enum {
    TEXT_SIZE_MAX = 1 << 30,
    NAMED_KEYS_MAX = 4096, /* in texts with more keys a duplicate is refused without its name */
    NAME_SHOWN_MAX = 64
};

struct jdoc {
    const char *text;
    struct json_object *root;
    struct json_scan scan;
};

/* A jval is json-c's object under a name of ours. */
static const struct json_object *object_of(const struct jval *value)
{
    return (const struct json_object *)(const void *)value;
}

static const struct jval *value_of(const struct json_object *object)
{
    return (const struct jval *)(const void *)object;
}

/* --- parsing ------------------------------------------------------------------------------- */

/* Only for texts that passed the scan; UTF-8 was checked there. */
static int build_tree(const char *text, size_t size, struct json_object **out,
                      struct error_text *why)
{
    struct json_tokener *tokener = json_tokener_new_ex(JDOC_DEPTH_MAX + 2);

    if (!tokener)
        return error_set(why, ERR_NOMEM, "out of memory");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    struct json_object *root = json_tokener_parse_ex(tokener, text, (int)size);
    if (json_tokener_get_error(tokener) == json_tokener_continue)
        root = json_tokener_parse_ex(tokener, "", 1); /* a bare number ends with its text */
    enum json_tokener_error error = json_tokener_get_error(tokener);
    json_tokener_free(tokener);
    bool is_null = size == 4 && memcmp(text, "null", 4) == 0;
    if (root || is_null) {
        *out = root;
        return 0;
    }
    bool is_memory = error == json_tokener_success || error == json_tokener_continue;
#if JSON_C_VERSION_NUM >= (17 << 8)
    is_memory = is_memory || error == json_tokener_error_memory;
#endif
    if (is_memory)
        return error_set(why, ERR_NOMEM, "out of memory");
    return error_set(why, ERR_INVALID, "%s", json_tokener_error_desc(error));
}

/* json-c refuses integers beyond 64 bits. Written as "123e0" they become doubles, which it prints
 * as they were read; such texts are rare enough for a copy. */
static int widen_integers(const char *text, size_t size, struct buf *out)
{
    bool in_string = false;
    size_t done = 0;
    int status = 0;

    for (size_t at = 0; status == 0 && at < size; at++) {
        char c = text[at];
        if (in_string) {
            at += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            size_t end = at + 1;
            while (end < size && text[end] != '\0' && strchr("0123456789+-.eE", text[end]))
                end++;
            if (json_scan_is_wide_integer(text + at, end - at)) {
                status = buf_append(out, text + done, end - done);
                if (status == 0)
                    status = buf_append(out, "e0", 2);
                done = end;
            }
            at = end - 1;
        }
    }
    return status < 0 ? status : buf_append(out, text + done, size - done);
}

struct level {
    const struct json_object *container;
    const struct lh_entry *entry; /* next member, of an object */
    size_t index;                 /* next element, of an array */
};

static struct level enter(const struct json_object *container)
{
    bool is_object = json_object_get_type(container) == json_type_object;
    return (struct level){container, is_object ? json_object_get_object(container)->head : NULL, 0};
}

/* The next value of a container; false at its end. */
static bool advance(struct level *level, const struct json_object **out)
{
    if (json_object_get_type(level->container) == json_type_object) {
        if (!level->entry)
            return false;
        *out = level->entry->v;
        level->entry = level->entry->next;
        return true;
    }
    if (level->index >= json_object_array_length(level->container))
        return false;
    *out = json_object_array_get_idx(level->container, level->index++);
    return true;
}

/* Members of all objects of the tree. */
static size_t count_members(const struct json_object *root)
{
    struct level levels[JDOC_DEPTH_MAX + 1];
    size_t depth = 0;
    size_t count = 0;
    const struct json_object *value = root;

    do {
        enum json_type type = json_object_get_type(value);
        if (type == json_type_object || type == json_type_array) {
            CHECK(depth <= JDOC_DEPTH_MAX);
            levels[depth++] = enter(value);
            if (type == json_type_object)
                count += (size_t)json_object_object_length(value);
        }
        while (depth > 0 && !advance(&levels[depth - 1], &value))
            depth--;
    } while (depth > 0);
    return count;
}

/* Decoded text of a key that has escapes; release with json_object_put. NULL when out of memory. */
static struct json_object *decode_key(const char *key, size_t size)
{
    struct json_object *decoded = NULL;
    return build_tree(key - 1, size + 2, &decoded, NULL) == 0 ? decoded : NULL;
}

struct named_key {
    uint32_t object;
    uint32_t at; /* of the raw key */
    const char *bytes;
    size_t size;
    struct json_object *decoded; /* owns the bytes of a key with escapes */
};

struct named_keys {
    const char *text;
    size_t count;
    struct named_key keys[NAMED_KEYS_MAX];
};

static void on_key(void *arg, uint32_t object, uint32_t key_at, uint32_t key_size)
{
    struct named_keys *all = arg;
    struct named_key *key = &all->keys[all->count++];

    *key = (struct named_key){object, key_at, all->text + key_at, key_size, NULL};
    if (memchr(key->bytes, '\\', key_size))
        key->decoded = decode_key(key->bytes, key_size);
    if (key->decoded) {
        key->size = (size_t)json_object_get_string_len(key->decoded);
        key->bytes = json_object_get_string(key->decoded);
    }
}

/* By object, then by name. */
static int compare_names(const struct named_key *a, const struct named_key *b)
{
    if (a->object != b->object)
        return a->object < b->object ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return memcmp(a->bytes, b->bytes, a->size);
}

static int compare_keys(const void *left, const void *right)
{
    const struct named_key *a = left;
    const struct named_key *b = right;
    int order = compare_names(a, b);

    if (order != 0)
        return order;
    return a->at < b->at ? -1 : a->at > b->at;
}

/* Says which key stands twice, unless there are too many keys to look. */
static int refuse_duplicate(const struct jdoc *doc, size_t size, struct error_text *why)
{
    struct json_scan scan;

    if (doc->scan.member_count > NAMED_KEYS_MAX)
        return error_set(why, ERR_INVALID, "duplicate key");
    /* Members are missing without a key that stands twice: json-c had no memory for them. */
    int status = error_set(why, ERR_NOMEM, "out of memory");
    struct named_keys *all = malloc(sizeof *all);
    if (!all)
        return status;
    all->text = doc->text;
    all->count = 0;
    const struct json_scan_hooks hooks = {.on_key = on_key, .arg = all};
    CHECK(json_scan(doc->text, size, &hooks, &scan) == 0);
    qsort(all->keys, all->count, sizeof all->keys[0], compare_keys);
    for (size_t i = 1; i < all->count; i++) {
        const struct named_key *key = &all->keys[i];
        if (compare_names(key - 1, key) != 0)
            continue;
        int shown = key->size < NAME_SHOWN_MAX ? (int)key->size : NAME_SHOWN_MAX;
        status = error_set(why, ERR_INVALID, "duplicate key \"%.*s\" at byte %" PRIu32, shown,
                           key->bytes, key->at - 1);
        break;
    }
    for (size_t i = 0; i < all->count; i++)
        json_object_put(all->keys[i].decoded);
    free(all);
    return status;
}

static int jdoc_build(struct jdoc *doc, struct error_text *why)
{
    const char *text = doc->text + doc->scan.root_at;
    size_t size = doc->scan.root_size;

    if (!doc->scan.has_wide_integer)
        return build_tree(text, size, &doc->root, why);

    struct buf widened = {.size_max = 2 * (size_t)TEXT_SIZE_MAX};
    int status = widen_integers(text, size, &widened);
    if (status == 0 && widened.size > TEXT_SIZE_MAX)
        status = ERR_TOO_BIG;
    if (status < 0)
        (void)error_set(why, status, "%s", error_text_of(status));
    else
        status = build_tree(widened.data, widened.size, &doc->root, why);
    buf_deinit(&widened);
    return status;
}

int jdoc_parse(const char *text, size_t size, struct jdoc **out, struct error_text *why)
{
    if (size > TEXT_SIZE_MAX)
        return error_set(why, ERR_INVALID, "text of %zu bytes is too long", size);

    struct jdoc *doc = malloc(sizeof *doc); /* not calloc: most of the scan stays unused */
    if (!doc)
        return error_set(why, ERR_NOMEM, "out of memory");
    doc->text = text;
    doc->root = NULL;
    int status = json_scan(text, size, NULL, &doc->scan);
    if (status < 0)
        (void)error_set(why, status, "%s at byte %zu", doc->scan.error, doc->scan.error_at);
    if (status == 0)
        status = jdoc_build(doc, why);
    if (status == 0 && count_members(doc->root) != doc->scan.member_count)
        status = refuse_duplicate(doc, size, why);
    if (status < 0) {
        jdoc_destroy(doc);
        return status;
    }
    *out = doc;
    return 0;
}

void jdoc_destroy(struct jdoc *doc)
{
    if (!doc)
        return;
    json_object_put(doc->root);
    free(doc);
}

const struct jval *jdoc_root(const struct jdoc *doc)
{
    return value_of(doc->root);
}

/* --- slices -------------------------------------------------------------------------------- */

static bool key_is(const struct jdoc *doc, const struct json_member *member, const char *key)
{
    const char *raw = doc->text + member->key_at;

    if (text_equal(raw, member->key_size, key))
        return strchr(key, '\\') == NULL; /* a backslash in the text is never one in the key */
    if (!memchr(raw, '\\', member->key_size))
        return false;
    struct json_object *decoded = decode_key(raw, member->key_size);
    bool is_equal = decoded && text_equal(json_object_get_string(decoded),
                                          (size_t)json_object_get_string_len(decoded), key);
    json_object_put(decoded);
    return is_equal;
}

struct top_search {
    const struct jdoc *doc;
    const char *key;
    bool is_found;
    struct json_member member;
};

static void on_top(void *arg, const struct json_member *member)
{
    struct top_search *search = arg;
    if (!search->is_found && key_is(search->doc, member, search->key)) {
        search->is_found = true;
        search->member = *member;
    }
}

int jdoc_slice(const struct jdoc *doc, const char *key, const char **out_bytes, size_t *out_size)
{
    struct top_search search = {.doc = doc, .key = key};
    size_t known = doc->scan.top_count;

    if (known > JSON_SCAN_TOP_MAX)
        known = JSON_SCAN_TOP_MAX;
    for (size_t i = 0; i < known && !search.is_found; i++)
        on_top(&search, &doc->scan.top[i]);
    if (!search.is_found && doc->scan.top_count > JSON_SCAN_TOP_MAX) {
        const struct json_scan_hooks hooks = {.on_top = on_top, .arg = &search};
        struct json_scan scan;
        CHECK(json_scan(doc->text, doc->scan.root_at + doc->scan.root_size, &hooks, &scan) == 0);
    }
    if (!search.is_found)
        return ERR_NOT_FOUND;
    *out_bytes = doc->text + search.member.value_at;
    *out_size = search.member.value_size;
    return 0;
}

/* --- values -------------------------------------------------------------------------------- */

enum jtype jval_type(const struct jval *value)
{
    switch (json_object_get_type(object_of(value))) {
    case json_type_null:
        return JTYPE_NULL;
    case json_type_boolean:
        return JTYPE_BOOL;
    case json_type_int:
        return JTYPE_INT;
    case json_type_double:
        return JTYPE_DOUBLE;
    case json_type_string:
        return JTYPE_STRING;
    case json_type_array:
        return JTYPE_ARRAY;
    case json_type_object:
        return JTYPE_OBJECT;
    }
    return JTYPE_NULL;
}

const char *jval_type_name(const struct jval *value)
{
    switch (jval_type(value)) {
    case JTYPE_NULL:
        return "null";
    case JTYPE_BOOL:
        return "boolean";
    case JTYPE_INT:
        return "integer";
    case JTYPE_DOUBLE:
        return "number";
    case JTYPE_STRING:
        return "string";
    case JTYPE_ARRAY:
        return "array";
    case JTYPE_OBJECT:
        return "object";
    }
    return "null";
}

static bool find_member(const struct jval *object, const char *key, struct json_object **out)
{
    if (jval_type(object) != JTYPE_OBJECT)
        return false;
    return json_object_object_get_ex(object_of(object), key, out);
}

const struct jval *jval_get(const struct jval *object, const char *key)
{
    struct json_object *member = NULL;
    return find_member(object, key, &member) ? value_of(member) : NULL;
}

bool jval_has(const struct jval *object, const char *key)
{
    struct json_object *member = NULL;
    return find_member(object, key, &member);
}

size_t jval_count(const struct jval *array_or_object)
{
    enum jtype type = jval_type(array_or_object);

    if (type == JTYPE_ARRAY)
        return json_object_array_length(object_of(array_or_object));
    if (type == JTYPE_OBJECT)
        return (size_t)json_object_object_length(object_of(array_or_object));
    return 0;
}

const struct jval *jval_at(const struct jval *array, size_t index)
{
    if (jval_type(array) != JTYPE_ARRAY)
        return NULL;
    return value_of(json_object_array_get_idx(object_of(array), index));
}

/* json-c asks for writable objects in calls that only cache a text inside; the tree is ours. */
static struct json_object *writable(const struct jval *value)
{
    union {
        const struct jval *borrowed;
        struct json_object *object;
    } both = {.borrowed = value};
    return both.object;
}

const char *jval_string(const struct jval *value, size_t *out_size)
{
    if (jval_type(value) != JTYPE_STRING)
        return NULL;
    if (out_size)
        *out_size = (size_t)json_object_get_string_len(object_of(value));
    return json_object_get_string(writable(value));
}

int jval_i64(const struct jval *value, int64_t min, int64_t max, int64_t *out)
{
    if (jval_type(value) != JTYPE_INT) /* wider integers are doubles in the tree */
        return ERR_INVALID;
    int64_t number = json_object_get_int64(object_of(value));
    if (number < min || number > max)
        return ERR_INVALID;
    *out = number;
    return 0;
}

int jval_double(const struct jval *value, double *out)
{
    enum jtype type = jval_type(value);

    if (type != JTYPE_INT && type != JTYPE_DOUBLE)
        return ERR_INVALID;
    *out = json_object_get_double(object_of(value));
    return 0;
}

int jval_bool(const struct jval *value, bool *out)
{
    if (jval_type(value) != JTYPE_BOOL)
        return ERR_INVALID;
    *out = json_object_get_boolean(object_of(value)) != 0;
    return 0;
}

int jval_each(const struct jval *object, jval_member_fn on_member, void *arg)
{
    if (jval_type(object) != JTYPE_OBJECT)
        return 0;
    const struct lh_entry *entry = json_object_get_object(object_of(object))->head;
    for (; entry; entry = entry->next) {
        int status = on_member((const char *)entry->k, value_of(entry->v), arg);
        if (status != 0)
            return status;
    }
    return 0;
}

int jval_print(const struct jval *value, struct buf *out)
{
    size_t size = 0;
    const char *text;

    if (!value)
        return buf_append(out, "null", 4);
    text = json_object_to_json_string_length(
        writable(value), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
    return text ? buf_append(out, text, size) : ERR_NOMEM;
}
