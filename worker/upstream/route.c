#include "worker/upstream/route.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/text.h"

struct routed {
    enum router_health health;
    bool is_paused;
    char **learned; /* sorted; only without models in the settings */
    unsigned learned_count;
};

struct router {
    const struct settings *settings;
    struct router_gate gate;
    bool has_gate;
    unsigned turn; /* where the search for the best starts, so that equals take turns */
    unsigned count;
    struct routed upstreams[SETTINGS_UPSTREAMS_MAX];
};

enum { MATCH_NONE, MATCH_EXACT, MATCH_GLOB };

const char *router_health_word(enum router_health health)
{
    switch (health) {
    case ROUTER_UNKNOWN:
        return "unknown";
    case ROUTER_UP:
        return "up";
    case ROUTER_DOWN:
        return "down";
    }
    return "unknown";
}

int router_create(const struct settings *settings, struct router **out)
{
    CHECK(settings->upstreams_count <= SETTINGS_UPSTREAMS_MAX);
    struct router *router = calloc(1, sizeof *router);
    if (!router)
        return ERR_NOMEM;
    router->settings = settings;
    router->count = settings->upstreams_count;
    *out = router;
    return 0;
}

static void names_free(char **names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

void router_destroy(struct router *router)
{
    if (!router)
        return;
    for (unsigned i = 0; i < router->count; i++)
        names_free(router->upstreams[i].learned, router->upstreams[i].learned_count);
    free(router);
}

void router_set_gate(struct router *router, const struct router_gate *gate)
{
    router->gate = *gate;
    router->has_gate = true;
}

static const struct routed *find(const struct router *router, unsigned upstream)
{
    CHECK(upstream < router->count);
    return &router->upstreams[upstream];
}

unsigned router_count(const struct router *router)
{
    return router->count;
}

const struct settings_upstream *router_upstream(const struct router *router, unsigned upstream)
{
    CHECK(upstream < router->count);
    return &router->settings->upstreams[upstream];
}

enum router_health router_health(const struct router *router, unsigned upstream)
{
    return find(router, upstream)->health;
}

bool router_is_paused(const struct router *router, unsigned upstream)
{
    return find(router, upstream)->is_paused;
}

void router_set_health(struct router *router, unsigned upstream, enum router_health health)
{
    CHECK(upstream < router->count);
    router->upstreams[upstream].health = health;
}

void router_set_paused(struct router *router, const struct slice *names, unsigned count)
{
    for (unsigned i = 0; i < router->count; i++) {
        bool is_paused = false;
        for (unsigned k = 0; k < count && !is_paused; k++)
            is_paused = slice_is(names[k], router->settings->upstreams[i].name);
        router->upstreams[i].is_paused = is_paused;
    }
}

/* --- models -------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_name_ok(struct slice name)
{
    return name.size > 0 && name.size <= ROUTER_NAME_BYTES_MAX &&
           !memchr(name.bytes, '\0', name.size) && text_is_utf8(name.bytes, name.size);
}

/* Of a sorted list; returns how many are left. */
static unsigned drop_repeats(char **names, unsigned count)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        if (kept > 0 && strcmp(names[kept - 1], names[i]) == 0)
            free(names[i]);
        else
            names[kept++] = names[i];
    }
    return kept;
}

int router_set_models(struct router *router, unsigned upstream, const struct slice *names,
                      unsigned count)
{
    CHECK(upstream < router->count);
    if (router->settings->upstreams[upstream].models_count > 0)
        return 0;
    unsigned room = count < ROUTER_MODELS_MAX ? count : ROUTER_MODELS_MAX;
    char **learned = calloc(room + 1, sizeof(char *));
    unsigned kept = 0;
    if (!learned)
        return ERR_NOMEM;
    for (unsigned i = 0; i < count && kept < room; i++) {
        if (!is_name_ok(names[i]))
            continue;
        learned[kept] = strndup(names[i].bytes, names[i].size);
        if (!learned[kept]) {
            names_free(learned, kept);
            return ERR_NOMEM;
        }
        kept++;
    }
    qsort(learned, kept, sizeof(char *), compare_names);
    kept = drop_repeats(learned, kept);
    struct routed *routed = &router->upstreams[upstream];
    bool is_same = kept == routed->learned_count;
    for (unsigned i = 0; i < kept && is_same; i++)
        is_same = strcmp(learned[i], routed->learned[i]) == 0;
    names_free(routed->learned, routed->learned_count);
    routed->learned = learned;
    routed->learned_count = kept;
    return is_same ? 0 : 1;
}

unsigned router_models_count(const struct router *router, unsigned upstream)
{
    const struct settings_upstream *settings = router_upstream(router, upstream);
    return settings->models_count > 0 ? settings->models_count
                                      : router->upstreams[upstream].learned_count;
}

const char *router_model(const struct router *router, unsigned upstream, unsigned model)
{
    CHECK(model < router_models_count(router, upstream));
    const struct settings_upstream *settings = router_upstream(router, upstream);
    return settings->models_count > 0 ? settings->models[model]
                                      : router->upstreams[upstream].learned[model];
}

struct slice router_upstream_model(const struct router *router, struct slice route)
{
    for (unsigned i = 0; i < router->settings->aliases_count; i++) {
        const struct settings_alias *alias = &router->settings->aliases[i];
        if (slice_is(route, alias->from))
            return slice_of(alias->to);
    }
    return route;
}

static bool is_learned(const struct routed *routed, struct slice model)
{
    unsigned low = 0;
    unsigned high = routed->learned_count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const char *name = routed->learned[middle];
        size_t size = strlen(name);
        int order = memcmp(name, model.bytes, size < model.size ? size : model.size);
        if (order == 0 && size == model.size)
            return true;
        if (order < 0 || (order == 0 && size < model.size))
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool is_glob(const char *name)
{
    return strpbrk(name, "*?") != NULL;
}

static int match(const struct router *router, unsigned upstream, struct slice model)
{
    const struct settings_upstream *settings = &router->settings->upstreams[upstream];
    int found = MATCH_NONE;

    if (settings->models_count == 0)
        return is_learned(&router->upstreams[upstream], model) ? MATCH_EXACT : MATCH_NONE;
    for (unsigned i = 0; i < settings->models_count; i++) {
        if (slice_is(model, settings->models[i]))
            return MATCH_EXACT;
        if (is_glob(settings->models[i]) &&
            text_glob_match(settings->models[i], model.bytes, model.size))
            found = MATCH_GLOB;
    }
    return found;
}

bool router_knows(const struct router *router, struct slice route)
{
    struct slice model = router_upstream_model(router, route);
    for (unsigned i = 0; i < router->count; i++) {
        if (match(router, i, model) != MATCH_NONE)
            return true;
    }
    return false;
}

/* --- choosing ------------------------------------------------------------ */

static bool is_usable(const struct router *router, unsigned upstream)
{
    const struct routed *routed = &router->upstreams[upstream];
    if (routed->health == ROUTER_DOWN || routed->is_paused)
        return false;
    return !router->has_gate || router->gate.is_open(upstream, router->gate.arg);
}

/* The members of the first group with a usable upstream, as bits. out_is_known: somebody serves the
 * route. */
static uint64_t candidates(const struct router *router, struct slice route, uint64_t tried,
                           bool *out_is_known)
{
    struct slice model = router_upstream_model(router, route);
    uint64_t members = 0;
    int64_t best = INT64_MAX;

    *out_is_known = false;
    for (unsigned i = 0; i < router->count; i++) {
        int found = match(router, i, model);
        if (found == MATCH_NONE)
            continue;
        *out_is_known = true;
        int64_t group = (int64_t)router->settings->upstreams[i].tier * 2 + found;
        if (group > best || (tried >> i & 1) || !is_usable(router, i))
            continue;
        if (group < best)
            members = 0;
        best = group;
        members |= UINT64_C(1) << i;
    }
    return members;
}

static unsigned room_of(const struct router *router, unsigned upstream)
{
    return router->has_gate ? router->gate.room(upstream, router->gate.arg) : UINT_MAX;
}

unsigned router_room(const struct router *router, struct slice route)
{
    bool is_known;
    uint64_t members = candidates(router, route, 0, &is_known);
    unsigned sum = 0;

    for (; members; members &= members - 1) {
        unsigned room = room_of(router, (unsigned)__builtin_ctzll(members));
        sum = room < UINT_MAX - sum ? sum + room : UINT_MAX;
    }
    return sum;
}

/* Whether a has fewer calls in flight by weight than b, the new one counted. */
static bool is_lighter(const struct router *router, unsigned a, unsigned b)
{
    const struct router_gate *gate = &router->gate;
    const struct settings_upstream *upstreams = router->settings->upstreams;
    uint64_t a_calls = router->has_gate ? gate->in_flight(a, gate->arg) + UINT64_C(1) : 1;
    uint64_t b_calls = router->has_gate ? gate->in_flight(b, gate->arg) + UINT64_C(1) : 1;
    uint64_t a_weight = upstreams[a].weight > 0 ? (uint64_t)upstreams[a].weight : 1;
    uint64_t b_weight = upstreams[b].weight > 0 ? (uint64_t)upstreams[b].weight : 1;
    return a_calls * b_weight < b_calls * a_weight;
}

int router_pick(struct router *router, struct slice route, uint64_t tried, unsigned *out_upstream)
{
    bool is_known;
    uint64_t members = candidates(router, route, tried, &is_known);
    int best = -1;

    if (!is_known)
        return ERR_NOT_FOUND;
    if (members == 0)
        return ERR_OFFLINE;
    for (unsigned step = 0; step < router->count; step++) {
        unsigned i = (router->turn + step) % router->count;
        if (!(members >> i & 1) || room_of(router, i) == 0)
            continue;
        if (best < 0 || is_lighter(router, i, (unsigned)best))
            best = (int)i;
    }
    if (best < 0)
        return ERR_BUSY;
    router->turn = (unsigned)best + 1;
    *out_upstream = (unsigned)best;
    return 0;
}

/* --- names --------------------------------------------------------------- */

/* Whether an earlier upstream, or this one in an earlier place, names the model too. */
static bool is_named_before(const struct router *router, unsigned upstream, unsigned model)
{
    struct slice name = slice_of(router_model(router, upstream, model));
    for (unsigned i = 0; i < upstream; i++) {
        if (match(router, i, name) == MATCH_EXACT)
            return true;
    }
    /* Learned names stand there once. */
    bool is_learned_name = router->settings->upstreams[upstream].models_count == 0;
    for (unsigned k = 0; k < model && !is_learned_name; k++) {
        if (slice_is(name, router_model(router, upstream, k)))
            return true;
    }
    return false;
}

void router_each_route(const struct router *router, void (*on_route)(struct slice route, void *arg),
                       void *arg)
{
    for (unsigned i = 0; i < router->count; i++) {
        for (unsigned k = 0; k < router_models_count(router, i); k++) {
            const char *name = router_model(router, i, k);
            bool is_exact = router->settings->upstreams[i].models_count == 0 || !is_glob(name);
            if (is_exact && !is_named_before(router, i, k))
                on_route(slice_of(name), arg);
        }
    }
    for (unsigned i = 0; i < router->settings->aliases_count; i++) {
        struct slice from = slice_of(router->settings->aliases[i].from);
        bool is_model = false;
        for (unsigned k = 0; k < router->count && !is_model; k++)
            is_model = match(router, k, from) == MATCH_EXACT;
        if (!is_model && router_knows(router, from))
            on_route(from, arg);
    }
}
