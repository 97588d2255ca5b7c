#include "broker/cli/up.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/client.h"
#include "broker/cli/terminal.h"
#include "broker/cli/up_upstream.h"
#include "common/base/text.h"

enum { SIM_DELAY_MS = 200, MODELS_TRIES = 12, MODELS_PAUSE_MS = 250 };

static int take_option(int option, struct up_wish *wish)
{
    switch (option) {
    case 'p':
        if (text_parse_i64(optarg, strlen(optarg), 0, 65535, &wish->port) < 0)
            return cli_fail(CLI_USAGE, "--port takes a number from 0 to 65535");
        return CLI_DONE;
    case 'D':
        if (text_parse_i64(optarg, strlen(optarg), 0, 3600000, &wish->sim_delay_ms) < 0)
            return cli_fail(CLI_USAGE, "--sim-delay-ms takes a number of milliseconds");
        return CLI_DONE;
    case 'd':
        wish->data_dir = optarg;
        return CLI_DONE;
    case 's':
        wish->must_simulate = true;
        return CLI_DONE;
    case 'v':
        wish->is_verbose = true;
        return CLI_DONE;
    default:
        return cli_bad_option("up");
    }
}

static int take_options(int argc, char **argv, struct up_wish *wish)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"data-dir", required_argument, NULL, 'd'},
        {"simulate", no_argument, NULL, 's'},   {"sim-delay-ms", required_argument, NULL, 'D'},
        {"verbose", no_argument, NULL, 'v'},    {0}};
    int option, status = CLI_DONE;

    while (status == CLI_DONE &&
           (option = getopt_long(argc, argv, "p:d:sD:v", options, NULL)) != -1)
        status = take_option(option, wish);
    if (status == CLI_DONE && optind < argc)
        return cli_fail(CLI_USAGE, "up takes no arguments, only options");
    return status;
}

/* ---- the greeting -------------------------------------------------------------------------------
 */

void up_url(const struct up *up, char *out, size_t out_size)
{
    const char *host = up->host;

    if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "*") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "[::]") == 0)
        host = "[::1]";
    snprintf(out, out_size, "http://%s:%d", host, up->port);
}

/* The first model that is served, once a worker has told which there are. */
static void ask_for_model(struct up *up, const char *url, char *out, size_t out_size)
{
    struct client_request request = {.method = "GET", .path = "/v1/models", .timeout_ms = 2000};
    struct client_answer answer = {0};
    struct client *client;

    if (client_create(url, up->api_key, &client, NULL) < 0)
        return;
    client_set_interrupt(client, up->signals_fd);
    for (int tries = 0; tries < MODELS_TRIES && out[0] == '\0'; tries++) {
        struct jdoc *doc = NULL;
        if (client_call(client, &request, &answer, NULL) == 0 && answer.status == 200 &&
            jdoc_parse(answer.body.data, answer.body.size, &doc, NULL) == 0)
            snprintf(out, out_size, "%s",
                     terminal_text(jval_at(jval_get(jdoc_root(doc), "data"), 0), "id"));
        jdoc_destroy(doc);
        if (out[0] == '\0' && client_pause(client, MODELS_PAUSE_MS))
            break;
    }
    client_answer_deinit(&answer);
    client_destroy(client);
}

static int put_pair(struct buf *out, const char *name, const char *value)
{
    int status = buf_printf(out, "%s\"%s\": ", out->size > 0 ? ", " : "{", name);

    return status == 0 ? json_put_string(out, value, strlen(value)) : status;
}

static void greet_program(const struct up *up, const char *url, const char *model)
{
    struct buf text = {.size_max = 65536};

    if (put_pair(&text, "url", url) == 0 && put_pair(&text, "api_key", up->api_key) == 0 &&
        put_pair(&text, "model", model) == 0 && put_pair(&text, "data_dir", up->data_dir) == 0 &&
        put_pair(&text, "config", up->config_path) == 0)
        printf("%s}\n", text.data);
    buf_deinit(&text);
}

static void greet_person(const struct up *up, const char *url, const char *model)
{
    printf("\nPenstock is up. Ctrl-C stops it.\n\n"
           "  URL      %s\n  API key  %s\n  data     %s\n\nTry:\n\n"
           "  curl %s/v1/chat/completions -H 'Authorization: Bearer %s' \\\n"
           "    -H 'Content-Type: application/json' -H 'Prefer: respond-async' \\\n"
           "    -d '{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": "
           "\"hello\"}]}'\n\n"
           "or, in another terminal:\n\n"
           "  export PENSTOCK_URL=%s PENSTOCK_API_KEY=%s\n"
           "  penstock submit -m %s hello --wait\n\n",
           url, up->api_key, up->data_dir, url, up->api_key, model, url, up->api_key, model);
}

static void greet(struct up *up)
{
    char url[UP_HOST_SIZE + 32], model[300];

    up_url(up, url, sizeof(url));
    snprintf(model, sizeof(model), "%s", up_example_model(up->settings));
    if (model[0] == '\0')
        ask_for_model(up, url, model, sizeof(model));
    if (model[0] == '\0')
        snprintf(model, sizeof(model), "MODEL");
    if (up->cli->is_json)
        greet_program(up, url, model);
    else
        greet_person(up, url, model);
    fflush(stdout);
}

/* ---- the command --------------------------------------------------------------------------------
 */

static int prepare(struct up *up)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct error_text why = {{0}};

    up->signals_fd = process_open_signals(signals, 3);
    if (up->signals_fd < 0)
        return cli_fail(CLI_FAILED, "cannot take signals");
    if (settings_load(up->cli->config_path, &up->settings, &why) < 0)
        return cli_fail(CLI_USAGE, "%s", why.text);
    return up->wish.data_dir ? up_set_text(&up->settings->data_dir, "%s", up->wish.data_dir)
                             : CLI_DONE;
}

static int run(struct up *up)
{
    int status = up_stack_start(up);

    if (status == CLI_DONE) {
        greet(up);
        status = up_stack_run(up);
    }
    if (status == CLI_DONE && !up->cli->is_json && !up->cli->is_quiet)
        fputs("penstock: stopping; calls that run may end, Ctrl-C again cuts them short\n", stderr);
    up_stack_stop(up);
    return status;
}

static void close_all(struct up *up)
{
    for (unsigned part = 0; part < UP_PARTS; part++) {
        for (int end = 0; end < 2; end++) {
            if (up->children[part].is_wanted && up->children[part].ready_pipe[end] >= 0)
                close(up->children[part].ready_pipe[end]);
        }
    }
    if (up->lock_fd >= 0)
        close(up->lock_fd);
    if (up->signals_fd >= 0)
        close(up->signals_fd);
    settings_destroy(up->settings);
    free(up);
}

int cli_up(struct cli *cli, int argc, char **argv)
{
    struct up *up = calloc(1, sizeof(*up));
    int status;

    if (!up)
        return cli_fail(CLI_FAILED, "out of memory");
    up->cli = cli;
    up->wish = (struct up_wish){.port = -1, .sim_delay_ms = SIM_DELAY_MS};
    up->lock_fd = up->signals_fd = -1;
    status = take_options(argc, argv, &up->wish);
    if (status == CLI_DONE)
        status = prepare(up);
    if (status == CLI_DONE)
        status = up_plan(up);
    if (status == CLI_DONE)
        status = run(up);
    close_all(up);
    return status;
}
