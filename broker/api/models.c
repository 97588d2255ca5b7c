/* GET /v1/models, /v1/models/{id}: what the workers say their upstreams serve, and the aliases. */
#include <string.h>

#include "broker/api/handlers.h"
#include "broker/api/samples.h"
#include "common/dialect/openai.h"

static bool is_glob(const char *name)
{
    return strpbrk(name, "*?") != NULL;
}

/* Whether an upstream before this one, or an alias, has brought the name already. */
static bool is_listed(const struct fleet *fleet, unsigned upstreams, struct slice name)
{
    for (unsigned i = 0; i < upstreams; i++)
        for (unsigned m = 0; m < fleet->upstreams[i].models_count; m++)
            if (slice_is(name, fleet->upstreams[i].models[m]))
                return true;
    return false;
}

static int put_name(struct buf *out, const char *name, bool *has_first)
{
    int status = *has_first ? buf_append_char(out, ',') : 0;

    *has_first = true;
    return status == 0 ? openai_put_model(out, slice_of(name), 0, slice_of("penstock")) : status;
}

static int put_models(struct context *context, struct buf *out)
{
    const struct fleet *fleet = samples_fleet(context->api->samples);
    const struct settings *settings = context->api->settings;
    bool has_first = false;
    int status = buf_append_text(out, "{\"object\":\"list\",\"data\":[");

    for (unsigned i = 0; status == 0 && i < fleet->upstreams_count; i++) {
        const struct fleet_upstream *upstream = &fleet->upstreams[i];
        for (unsigned m = 0; status == 0 && m < upstream->models_count; m++)
            if (!is_glob(upstream->models[m]) &&
                !is_listed(fleet, i, slice_of(upstream->models[m])))
                status = put_name(out, upstream->models[m], &has_first);
    }
    for (unsigned i = 0; status == 0 && i < settings->aliases_count; i++)
        if (!is_listed(fleet, fleet->upstreams_count, slice_of(settings->aliases[i].from)))
            status = put_name(out, settings->aliases[i].from, &has_first);
    return status == 0 ? buf_append_text(out, "]}") : status;
}

static void on_models(int status, void *arg)
{
    struct context *context = arg;

    if (status < 0)
        context_fail_status(context, status);
    else if (context->request && put_models(context, context_out(context)) < 0)
        context_fail(context, PROBLEM_OVERLOADED, NULL, "The answer is too large.");
    else
        context_answer_json(context);
    context_release(context);
}

void handle_models(struct context *context)
{
    context_hold(context);
    samples_await(context->api->samples, SAMPLE_FLEET, on_models, context);
}

static bool is_served(const struct context *context, struct slice name)
{
    const struct fleet *fleet = samples_fleet(context->api->samples);
    const struct settings *settings = context->api->settings;

    for (unsigned i = 0; i < settings->aliases_count; i++)
        if (slice_is(name, settings->aliases[i].from))
            return true;
    for (unsigned i = 0; i < fleet->upstreams_count; i++)
        if (fleet_serves(&fleet->upstreams[i], name))
            return true;
    return false;
}

static void on_model(int status, void *arg)
{
    struct context *context = arg;
    struct slice name = {.bytes = context->param, .size = context->param_size};

    if (status < 0)
        context_fail_status(context, status);
    else if (!is_served(context, name))
        context_fail(context, PROBLEM_MODEL_NOT_FOUND, "model", "There is no such model.");
    else if (openai_put_model(context_out(context), name, 0, slice_of("penstock")) < 0)
        context_fail(context, PROBLEM_OVERLOADED, NULL, "The answer is too large.");
    else
        context_answer_json(context);
    context_release(context);
}

void handle_model(struct context *context)
{
    context_hold(context);
    samples_await(context->api->samples, SAMPLE_FLEET, on_model, context);
}
