#include "worker/run/upstream_set.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/log.h"
#include "worker/providers/provider.h"

enum { NOT_THERE = -1 };

static int find_by_name(const struct upstream_set *set, const char *name)
{
    for (unsigned i = 0; i < set->count; i++)
        if (strcmp(set->settings->upstreams[i].name, name) == 0)
            return (int)i;
    return NOT_THERE;
}

/* ---- the gate of the router ---- */

static bool gate_is_open(unsigned upstream, void *arg)
{
    const struct upstream_set *set = arg;
    return !set->blocked[upstream] && limiter_is_open(set->limiter, upstream, clock_mono_ms());
}

static unsigned room_now(const struct upstream_set *set, unsigned upstream)
{
    unsigned room = limiter_room(set->limiter, upstream, clock_mono_ms());
    unsigned share = limiter_share(set->limiter, upstream);
    unsigned used = limiter_in_flight(set->limiter, upstream) + set->carried[upstream];

    if (set->carried[upstream] == 0)
        return room;
    if (used >= share)
        return 0;
    return room < share - used ? room : share - used;
}

static unsigned gate_room(unsigned upstream, void *arg)
{
    return room_now(arg, upstream);
}

static unsigned gate_in_flight(unsigned upstream, void *arg)
{
    const struct upstream_set *set = arg;
    return limiter_in_flight(set->limiter, upstream) + set->carried[upstream];
}

/* ---- life ---- */

enum { KEY_HEADER_SIZE_MAX = 16 * 1024 };

/* An upstream without the key it should have is set aside with a warning, not an error: the others
 * can work. */
static void find_key(struct upstream_set *set, unsigned upstream)
{
    const struct settings_upstream *settings = &set->settings->upstreams[upstream];
    const char *name = settings->api_key_env ? settings->api_key_env : "";

    buf_init(&set->key_headers[upstream], KEY_HEADER_SIZE_MAX);
    set->keys[upstream] = "";
    if (name[0] == '\0')
        return;
    set->keys[upstream] = settings_environment(name);
    if (set->keys[upstream][0] == '\0')
        set->blocked[upstream] = "api_key_missing";
    else if (provider_find(settings->kind)
                 ->put_key(set->keys[upstream], &set->key_headers[upstream]) < 0)
        set->blocked[upstream] = "api_key_invalid";
    if (!set->blocked[upstream])
        return;
    router_set_health(set->router, upstream, ROUTER_DOWN);
    log_event(LOG_WARN, "upstream_down", LOG_S("upstream", settings->name),
              LOG_S("reason", set->blocked[upstream]), LOG_S("variable", name));
}

static void carry_over(struct upstream_set *set, const struct upstream_set *older)
{
    for (unsigned i = 0; i < older->count; i++) {
        int at = find_by_name(set, older->settings->upstreams[i].name);
        if (at == NOT_THERE)
            continue;
        set->carried[at] = older->carried[i] + limiter_in_flight(older->limiter, i);
        set->budgets[at] = older->budgets[i];
    }
}

static void destroy(struct upstream_set *set)
{
    router_destroy(set->router);
    limiter_destroy(set->limiter);
    settings_destroy(set->settings);
    for (unsigned i = 0; i < set->count; i++) {
        if (set->key_headers[i].size > 0)
            digest_wipe(set->key_headers[i].data, set->key_headers[i].size);
        buf_deinit(&set->key_headers[i]);
    }
    free(set);
}

int upstream_set_create(struct settings *settings, unsigned child, unsigned children,
                        const struct upstream_set *older, struct upstream_set **out)
{
    CHECK(settings->upstreams_count <= SETTINGS_UPSTREAMS_MAX);
    struct upstream_set *set = calloc(1, sizeof *set);
    if (!set) {
        settings_destroy(settings);
        return ERR_NOMEM;
    }
    set->settings = settings;
    set->count = settings->upstreams_count;
    set->references = 1;

    int status = router_create(settings, &set->router);
    if (status == 0)
        status = limiter_create(settings, child, children, clock_mono_ms(), &set->limiter);
    if (status < 0) {
        destroy(set);
        return status;
    }
    for (unsigned i = 0; i < set->count; i++)
        find_key(set, i);
    if (older)
        carry_over(set, older);
    struct router_gate gate = {
        .is_open = gate_is_open, .room = gate_room, .in_flight = gate_in_flight, .arg = set};
    router_set_gate(set->router, &gate);
    *out = set;
    return 0;
}

void upstream_set_retain(struct upstream_set *set)
{
    CHECK(set->references > 0);
    set->references++;
}

void upstream_set_release(struct upstream_set *set)
{
    if (!set)
        return;
    CHECK(set->references > 0);
    if (--set->references == 0)
        destroy(set);
}

bool upstream_set_has_room(const struct upstream_set *set)
{
    for (unsigned i = 0; i < set->count; i++)
        if (!set->blocked[i] && !router_is_paused(set->router, i) &&
            router_health(set->router, i) != ROUTER_DOWN && room_now(set, i) > 0)
            return true;
    return false;
}

/* ---- calls ---- */

void upstream_set_note_start(struct upstream_set *set, unsigned upstream, bool is_retry)
{
    int64_t now_mono_ms = clock_mono_ms();

    CHECK(upstream < set->count);
    limiter_start(set->limiter, upstream, now_mono_ms);
    retry_budget_note(&set->budgets[upstream], now_mono_ms, is_retry);
}

void upstream_set_note_end(struct upstream_set *set, unsigned upstream,
                           struct upstream_set *current, const struct outcome *outcome,
                           double latency_ms)
{
    CHECK(upstream < set->count);
    limiter_end(set->limiter, upstream, outcome->class_, outcome->retry_after_ms, latency_ms,
                clock_mono_ms(), digest_random_u64());
    if (set == current)
        return;
    int at = find_by_name(current, set->settings->upstreams[upstream].name);
    if (at != NOT_THERE && current->carried[at] > 0)
        current->carried[at]--;
}
