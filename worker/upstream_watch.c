#include "worker/upstream_watch.h"

#include <stdlib.h>

#include "worker/providers/provider.h"
#include "worker/upstream/health.h"

struct upstream_watch {
    struct upstream_watch_options options;
    struct health *health;
    struct health_target targets[SETTINGS_UPSTREAMS_MAX];
};

static void on_change(unsigned upstream, void *arg)
{
    struct upstream_watch *watch = arg;
    const struct upstream_set *set = watch->options.set;

    if (set->blocked[upstream]) { /* it may be there, but it is not for us */
        router_set_health(set->router, upstream, ROUTER_DOWN);
        return;
    }
    watch->options.on_change(upstream, watch->options.arg);
}

int upstream_watch_start(const struct upstream_watch_options *options, struct upstream_watch **out)
{
    struct upstream_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return ERR_NOMEM;
    watch->options = *options;
    for (unsigned i = 0; i < options->set->count; i++) {
        const struct provider *provider = provider_find(options->set->settings->upstreams[i].kind);
        const struct buf *header = &options->set->key_headers[i];
        watch->targets[i] = (struct health_target){
            .models_path = provider->models_path,
            .list_models = provider->list_models,
            .header = {.bytes = header->data, .size = header->size},
        };
    }
    struct health_options health = {.loop = options->loop,
                                    .pool = options->pool,
                                    .router = options->set->router,
                                    .targets = watch->targets,
                                    .on_change = on_change,
                                    .arg = watch};
    int status = health_start(&health, &watch->health);
    if (status < 0) {
        free(watch);
        return status;
    }
    upstream_set_retain(options->set);
    *out = watch;
    return 0;
}

static void on_health_closed(void *arg)
{
    struct upstream_watch *watch = arg;
    struct upstream_watch_options options = watch->options;

    upstream_set_release(options.set);
    free(watch);
    options.on_stopped(options.arg);
}

void upstream_watch_stop(struct upstream_watch *watch)
{
    health_stop(watch->health, on_health_closed, watch);
}
