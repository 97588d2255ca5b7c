#include "broker/cli/up_upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"

enum { PROBE_MS = 1000, SIM_CONCURRENCY = 256 };

static const struct {
    const char *name;
    const char *origin;
} local_engines[] = {
    {"vllm", "http://127.0.0.1:8000"},
    {"ollama", "http://127.0.0.1:11434"},
    {"llamacpp", "http://127.0.0.1:8080"},
};

/* ---- looking ------------------------------------------------------------------------------------
 */

static bool is_model_list(const struct client_answer *answer)
{
    struct jdoc *doc = NULL;
    bool is_list = false;

    if (answer->status == 200 &&
        jdoc_parse(answer->body.data ? answer->body.data : "", answer->body.size, &doc, NULL) == 0)
        is_list = jval_type(jval_get(jdoc_root(doc), "data")) == JTYPE_ARRAY;
    jdoc_destroy(doc);
    return is_list;
}

/* Many programs like these ports: an engine lists models, and whatever knows /v1/jobs is ourselves.
 */
static bool is_engine(const char *origin, int interrupt_fd)
{
    struct client_request models = {.method = "GET", .path = "/v1/models", .timeout_ms = PROBE_MS};
    struct client_request jobs = {.method = "GET", .path = "/v1/jobs", .timeout_ms = PROBE_MS};
    struct client_answer answer = {0};
    struct client *client;
    bool is_there = false;

    if (client_create(origin, "", &client, NULL) < 0)
        return false;
    client_set_interrupt(client, interrupt_fd);
    if (client_call(client, &models, &answer, NULL) == 0 && is_model_list(&answer))
        is_there = client_call(client, &jobs, &answer, NULL) == 0 && answer.status != 200 &&
                   answer.status != 401;
    client_answer_deinit(&answer);
    client_destroy(client);
    return is_there;
}

/* ---- using --------------------------------------------------------------------------------------
 */

static void free_upstream(struct settings_upstream *upstream)
{
    for (unsigned m = 0; m < upstream->models_count; m++)
        free(upstream->models[m]);
    free(upstream->models);
    free(upstream->name);
    free(upstream->base_url);
    free(upstream->api_key_env);
    free(upstream->health);
    free(upstream->price.currency);
}

/* Named, so that it is listed; and whatever else is asked for. */
static bool add_models(struct settings_upstream *upstream, const char *model)
{
    upstream->models = calloc(2, sizeof(char *));
    if (!upstream->models)
        return false;
    upstream->models[0] = strdup(model);
    upstream->models[1] = strdup("*");
    upstream->models_count = 2;
    return upstream->models[0] && upstream->models[1];
}

/* One upstream with the defaults of the configuration; model NULL: what it lists. */
static int use(struct settings *settings, const char *name, const char *base_url,
               const char *key_env, const char *model, int concurrency)
{
    struct settings_upstream upstream = {.kind = UPSTREAM_OPENAI,
                                         .name = strdup(name),
                                         .base_url = strdup(base_url),
                                         .api_key_env = strdup(key_env),
                                         .health = strdup("/health"),
                                         .price.currency = strdup("USD"),
                                         .weight = 1,
                                         .concurrency = concurrency,
                                         .connect_timeout_ms = 3000,
                                         .first_byte_timeout_ms = 120000,
                                         .idle_timeout_ms = 60000,
                                         .timeout_ms = 600000};
    struct settings_upstream *row = calloc(1, sizeof(*row));

    if (!row || !upstream.name || !upstream.base_url || !upstream.api_key_env || !upstream.health ||
        !upstream.price.currency || (model && !add_models(&upstream, model))) {
        free_upstream(&upstream);
        free(row);
        return cli_fail(CLI_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < settings->upstreams_count; i++)
        free_upstream(&settings->upstreams[i]);
    free(settings->upstreams);
    *row = upstream;
    settings->upstreams = row;
    settings->upstreams_count = 1;
    return CLI_DONE;
}

int up_use_simulator(struct settings *settings, int port)
{
    char base_url[64];

    snprintf(base_url, sizeof(base_url), "http://127.0.0.1:%d/v1", port);
    return use(settings, "sim", base_url, "", "sim-model", SIM_CONCURRENCY);
}

static int use_services(struct settings *settings, bool *out_found)
{
    *out_found = settings_environment("OPENAI_API_KEY")[0] != '\0';
    if (settings_environment("ANTHROPIC_API_KEY")[0] != '\0')
        fputs("penstock: ANTHROPIC_API_KEY is set, but this version has no Anthropic upstreams\n",
              stderr);
    if (!*out_found)
        return CLI_DONE;
    fputs("penstock: using OpenAI with the key in OPENAI_API_KEY; jobs cost money\n", stderr);
    return use(settings, "openai", "https://api.openai.com/v1", "OPENAI_API_KEY", NULL,
               SETTINGS_AUTO);
}

static int use_local(struct settings *settings, int interrupt_fd, bool *out_found)
{
    char base_url[128];

    for (unsigned i = 0; i < sizeof(local_engines) / sizeof(local_engines[0]); i++) {
        if (!is_engine(local_engines[i].origin, interrupt_fd))
            continue;
        *out_found = true;
        snprintf(base_url, sizeof(base_url), "%s/v1", local_engines[i].origin);
        fprintf(stderr, "penstock: using the engine at %s\n", local_engines[i].origin);
        return use(settings, local_engines[i].name, base_url, "", NULL, SETTINGS_AUTO);
    }
    return CLI_DONE;
}

int up_choose_upstreams(struct settings *settings, bool must_simulate, int interrupt_fd,
                        bool *out_needs_sim)
{
    bool is_found = !must_simulate && settings->upstreams_count > 0;
    int status = CLI_DONE;

    if (!must_simulate && !is_found)
        status = use_services(settings, &is_found);
    if (!must_simulate && !is_found && status == CLI_DONE)
        status = use_local(settings, interrupt_fd, &is_found);
    *out_needs_sim = !is_found;
    if (status == CLI_DONE && !is_found)
        fprintf(stderr, "penstock: %s answers come from the built-in SIMULATOR and are MADE UP\n",
                must_simulate ? "as asked for," : "no upstream is configured:");
    return status;
}

const char *up_example_model(const struct settings *settings)
{
    for (unsigned i = 0; i < settings->upstreams_count; i++) {
        for (unsigned m = 0; m < settings->upstreams[i].models_count; m++) {
            if (!strpbrk(settings->upstreams[i].models[m], "*?"))
                return settings->upstreams[i].models[m];
        }
    }
    return "";
}
