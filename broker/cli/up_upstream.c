#include "broker/cli/up_upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"

static const struct {
    const char *name;
    const char *origin;
} local_engines[] = {
    {"vllm", "http://127.0.0.1:8000"},
    {"ollama", "http://127.0.0.1:11434"},
    {"llamacpp", "http://127.0.0.1:8080"},
};

static bool answers(const char *origin, const char *path)
{
    struct client_request request = {.method = "GET", .path = path, .timeout_ms = 1000};
    struct client_answer answer = {0};
    struct client *client;
    bool is_there = false;

    if (client_create(origin, "", &client, NULL) < 0)
        return false;
    if (client_call(client, &request, &answer, NULL) == 0)
        is_there = answer.status == 200 || answer.status == 401;
    client_answer_deinit(&answer);
    client_destroy(client);
    return is_there;
}

static void free_upstreams(struct settings *settings)
{
    for (unsigned i = 0; i < settings->upstreams_count; i++) {
        struct settings_upstream *upstream = &settings->upstreams[i];
        for (unsigned m = 0; m < upstream->models_count; m++)
            free(upstream->models[m]);
        free(upstream->models);
        free(upstream->name);
        free(upstream->base_url);
        free(upstream->api_key_env);
        free(upstream->health);
        free(upstream->price.currency);
    }
    free(settings->upstreams);
    settings->upstreams = NULL;
    settings->upstreams_count = 0;
}

/* One upstream with the defaults of the configuration; models NULL: what it lists. */
static int use(struct settings *settings, const char *name, const char *base_url,
               const char *key_env, const char *model, int concurrency)
{
    struct settings_upstream upstream = {.kind = UPSTREAM_OPENAI,
                                         .weight = 1,
                                         .concurrency = concurrency,
                                         .connect_timeout_ms = 3000,
                                         .first_byte_timeout_ms = 120000,
                                         .idle_timeout_ms = 60000,
                                         .timeout_ms = 600000};

    free_upstreams(settings);
    settings->upstreams = calloc(1, sizeof(upstream));
    upstream.name = strdup(name);
    upstream.base_url = strdup(base_url);
    upstream.api_key_env = strdup(key_env);
    upstream.health = strdup("/health");
    upstream.price.currency = strdup("USD");
    if (model) {
        /* Named, so that it is listed; and whatever else is asked for. */
        upstream.models = calloc(2, sizeof(char *));
        if (upstream.models) {
            upstream.models[upstream.models_count++] = strdup(model);
            upstream.models[upstream.models_count++] = strdup("*");
        }
    }
    if (!settings->upstreams || !upstream.name || !upstream.base_url || !upstream.api_key_env ||
        !upstream.health)
        return cli_fail(CLI_FAILED, "out of memory");
    settings->upstreams[0] = upstream;
    settings->upstreams_count = 1;
    return CLI_DONE;
}

int up_choose_upstreams(struct settings *settings, bool must_simulate, int sim_port,
                        bool *out_needs_sim)
{
    char base_url[128];

    *out_needs_sim = false;
    if (!must_simulate && settings->upstreams_count > 0)
        return CLI_DONE;
    if (!must_simulate && settings_environment("OPENAI_API_KEY")[0]) {
        fprintf(stderr, "penstock: using OpenAI with the key in OPENAI_API_KEY; jobs cost money\n");
        return use(settings, "openai", "https://api.openai.com/v1", "OPENAI_API_KEY", NULL,
                   SETTINGS_AUTO);
    }
    if (!must_simulate && settings_environment("ANTHROPIC_API_KEY")[0])
        fprintf(
            stderr,
            "penstock: ANTHROPIC_API_KEY is set, but Anthropic upstreams are not supported yet\n");
    for (unsigned i = 0; i < sizeof(local_engines) / sizeof(local_engines[0]) && !must_simulate;
         i++) {
        /* Whatever answers /v1/jobs is ourselves. */
        if (!answers(local_engines[i].origin, "/v1/models") ||
            answers(local_engines[i].origin, "/v1/jobs"))
            continue;
        snprintf(base_url, sizeof(base_url), "%s/v1", local_engines[i].origin);
        fprintf(stderr, "penstock: using the engine at %s\n", local_engines[i].origin);
        return use(settings, local_engines[i].name, base_url, "", NULL, SETTINGS_AUTO);
    }
    fprintf(stderr, "penstock: no upstream is configured: answers come from the built-in SIMULATOR "
                    "and are MADE UP\n");
    snprintf(base_url, sizeof(base_url), "http://127.0.0.1:%d/v1", sim_port);
    *out_needs_sim = true;
    return use(settings, "sim", base_url, "", "sim-model", 256);
}

const char *up_example_model(const struct settings *settings)
{
    for (unsigned i = 0; i < settings->upstreams_count; i++) {
        for (unsigned m = 0; m < settings->upstreams[i].models_count; m++) {
            if (!strpbrk(settings->upstreams[i].models[m], "*?"))
                return settings->upstreams[i].models[m];
        }
    }
    return settings->upstreams_count > 0 && strcmp(settings->upstreams[0].name, "sim") != 0
               ? "gpt-4o-mini"
               : "sim-model";
}
