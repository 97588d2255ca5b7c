#include "broker/api/fleet_view.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/jdoc.h"
#include "common/base/text.h"

enum { TEXTS_BYTES_MAX = 64 * 1024 * 1024 };

struct fleet *fleet_create(void)
{
    struct fleet *fleet = calloc(1, sizeof(*fleet));

    if (!fleet)
        return NULL;
    fleet->upstreams = calloc(FLEET_UPSTREAMS_MAX, sizeof(struct fleet_upstream));
    if (!fleet->upstreams) {
        free(fleet);
        return NULL;
    }
    buf_init(&fleet->texts, TEXTS_BYTES_MAX);
    fleet->is_complete = true;
    return fleet;
}

void fleet_destroy(struct fleet *fleet)
{
    if (!fleet)
        return;
    for (unsigned i = 0; i < fleet->upstreams_count; i++) {
        struct fleet_upstream *upstream = &fleet->upstreams[i];
        for (unsigned m = 0; m < upstream->models_count; m++)
            free(upstream->models[m]);
        free(upstream->models);
    }
    free(fleet->upstreams);
    buf_deinit(&fleet->texts);
    free(fleet);
}

/* ---- reading a document ---------------------------------------------------------------------- */

static int64_t number_of(const struct jval *object, const char *key)
{
    int64_t number = 0;

    return jval_i64(jval_get(object, key), 0, INT64_MAX, &number) == 0 ? number : 0;
}

static struct slice text_of(const struct jval *object, const char *key)
{
    size_t size = 0;
    const char *bytes = jval_string(jval_get(object, key), &size);

    return (struct slice){.bytes = bytes ? bytes : "", .size = bytes ? size : 0};
}

static void copy_text(char *out, size_t out_size, struct slice text)
{
    size_t size = text.size < out_size ? text.size : out_size - 1;

    memcpy(out, text.bytes, size);
    out[size] = '\0';
}

/* The row of that name, made when it is new; NULL: the table is full or the name is no name. */
static struct fleet_upstream *row_of(struct fleet *fleet, struct slice name)
{
    if (name.size == 0 || name.size >= FLEET_NAME_SIZE)
        return NULL;
    for (unsigned i = 0; i < fleet->upstreams_count; i++)
        if (slice_is(name, fleet->upstreams[i].name))
            return &fleet->upstreams[i];
    if (fleet->upstreams_count == FLEET_UPSTREAMS_MAX)
        return NULL;
    struct fleet_upstream *row = &fleet->upstreams[fleet->upstreams_count++];
    copy_text(row->name, sizeof(row->name), name);
    return row;
}

static bool has_model(const struct fleet_upstream *upstream, struct slice model)
{
    for (unsigned i = 0; i < upstream->models_count; i++)
        if (slice_is(model, upstream->models[i]))
            return true;
    return false;
}

static void add_models(struct fleet_upstream *upstream, const struct jval *models)
{
    size_t count = jval_type(models) == JTYPE_ARRAY ? jval_count(models) : 0;

    if (count == 0)
        return;
    if (!upstream->models)
        upstream->models = calloc(FLEET_MODELS_MAX, sizeof(char *));
    for (size_t i = 0; upstream->models && i < count; i++) {
        size_t size = 0;
        const char *bytes = jval_string(jval_at(models, i), &size);
        struct slice model = {.bytes = bytes, .size = size};
        if (!bytes || size == 0 || upstream->models_count == FLEET_MODELS_MAX ||
            has_model(upstream, model))
            continue;
        char *copy = malloc(size + 1);
        if (!copy)
            return;
        copy_text(copy, size + 1, model);
        upstream->models[upstream->models_count++] = copy;
    }
}

static void add_upstream(struct fleet *fleet, const struct jval *value)
{
    struct fleet_upstream *row = row_of(fleet, text_of(value, "name"));
    struct slice state = text_of(value, "state");
    double latency_ms = 0;

    if (!row)
        return;
    int64_t calls = number_of(value, "calls");
    if (jval_double(jval_get(value, "latency_ms"), &latency_ms) == 0 && row->calls + calls > 0)
        row->latency_ms = (row->latency_ms * (double)row->calls + latency_ms * (double)calls) /
                          (double)(row->calls + calls);
    copy_text(row->kind, sizeof(row->kind), text_of(value, "kind"));
    row->in_flight += number_of(value, "in_flight");
    row->concurrency += number_of(value, "concurrency");
    row->tier = number_of(value, "tier");
    row->weight = number_of(value, "weight");
    row->calls += calls;
    row->errors += number_of(value, "errors");
    row->workers_up += slice_is(state, "up");
    row->workers_down += slice_is(state, "down");
    row->workers_paused += slice_is(state, "paused");
    bool is_known = slice_is(state, "up") || slice_is(state, "down") || slice_is(state, "paused");
    row->workers_unknown += !is_known;

    const struct jval *models = jval_get(value, "models");
    if (!is_known || jval_type(models) != JTYPE_ARRAY || jval_count(models) == 0)
        fleet->is_complete = false;
    add_models(row, models);
}

struct copying {
    struct buf *out;
    bool has_first;
};

static int copy_member(const char *key, const struct jval *value, void *arg)
{
    struct copying *copying = arg;

    if (strcmp(key, "metrics") == 0)
        return 0;
    int status = copying->has_first ? buf_append_char(copying->out, ',') : 0;
    copying->has_first = true;
    if (status == 0)
        status = json_put_string(copying->out, key, strlen(key));
    if (status == 0)
        status = buf_append_char(copying->out, ':');
    return status == 0 ? jval_print(value, copying->out) : status;
}

static int add_text(struct fleet *fleet, const struct jval *root)
{
    struct copying copying = {.out = &fleet->texts};
    size_t before = fleet->texts.size;
    int status = buf_append_text(&fleet->texts, before > 0 ? "\n{" : "{");

    if (status == 0)
        status = jval_each(root, copy_member, &copying);
    if (status == 0)
        status = buf_append_char(&fleet->texts, '}');
    if (status < 0)
        fleet->texts.size = before;
    return status;
}

int fleet_add_worker(struct fleet *fleet, struct slice document)
{
    struct jdoc *doc = NULL;

    if (jdoc_parse(document.bytes, document.size, &doc, NULL) < 0)
        return ERR_INVALID;
    const struct jval *root = jdoc_root(doc);
    int status = jval_type(root) == JTYPE_OBJECT ? add_text(fleet, root) : ERR_INVALID;
    if (status == 0) {
        const struct jval *upstreams = jval_get(root, "upstreams");
        size_t count = jval_type(upstreams) == JTYPE_ARRAY ? jval_count(upstreams) : 0;
        fleet->workers++;
        for (size_t i = 0; i < count; i++)
            add_upstream(fleet, jval_at(upstreams, i));
        if (count == 0)
            fleet->is_complete = false; /* it has not looked at its upstreams yet */
    }
    jdoc_destroy(doc);
    return status;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct fleet_upstream *first = a;
    const struct fleet_upstream *second = b;

    return strcmp(first->name, second->name);
}

void fleet_finish(struct fleet *fleet, const struct slice *paused, unsigned paused_count)
{
    for (unsigned i = 0; i < paused_count; i++) {
        struct fleet_upstream *row = row_of(fleet, paused[i]);
        if (row)
            row->is_paused = true;
    }
    qsort(fleet->upstreams, fleet->upstreams_count, sizeof(struct fleet_upstream), by_name);
}

const struct fleet_upstream *fleet_find(const struct fleet *fleet, struct slice name)
{
    for (unsigned i = 0; i < fleet->upstreams_count; i++)
        if (slice_is(name, fleet->upstreams[i].name))
            return &fleet->upstreams[i];
    return NULL;
}

bool fleet_serves(const struct fleet_upstream *upstream, struct slice model)
{
    for (unsigned i = 0; i < upstream->models_count; i++)
        if (text_glob_match(upstream->models[i], model.bytes, model.size))
            return true;
    return false;
}

const char *fleet_state(const struct fleet_upstream *upstream)
{
    if (upstream->is_paused)
        return "paused";
    if (upstream->workers_up > 0)
        return "up";
    if (upstream->workers_down > 0)
        return "down";
    return upstream->workers_paused > 0 ? "paused" : "unknown";
}
