/* watch: a job's events until it ends, through restarts of the server. */
#include <stdio.h>
#include <string.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/job_print.h"
#include "broker/cli/terminal.h"
#include "common/base/sse.h"

enum {
    EVENT_BYTES_MAX = 1 << 20,
    AWAY_MS = 120000, /* the server may be gone for so long */
    IDLE_S = 60,      /* streams beat every 15 s */
    IDLE_STREAMS_MAX = 20,
    PAUSE_MS = 250
};

struct watch {
    struct cli *cli;
    struct sse_parser parser;
    char last_id[32];
    bool is_done;
    bool has_moved; /* something came over this connection */
    int status;
};

static int on_event(const struct sse_event *event, void *arg)
{
    struct watch *watch = arg;
    bool is_job = strcmp(event->name, "job") == 0;
    struct jdoc *doc = NULL;

    watch->has_moved = true;
    watch->is_done = strcmp(event->name, "done") == 0;
    if (strlen(event->id) < sizeof(watch->last_id))
        snprintf(watch->last_id, sizeof(watch->last_id), "%s", event->id);
    if (watch->cli->is_json) {
        printf("%s\n", event->data);
    } else if (!is_job && !watch->is_done) {
        terminal_put(stdout, event->name);
        putchar(' ');
        terminal_put(stdout, event->data);
        putchar('\n');
    }
    if (is_job && jdoc_parse(event->data, event->data_size, &doc, NULL) == 0) {
        watch->status = cli_status_of(jdoc_root(doc));
        if (!watch->cli->is_json)
            cli_print_job(watch->cli, jdoc_root(doc));
    }
    jdoc_destroy(doc);
    fflush(stdout);
    return watch->is_done || ferror(stdout);
}

static int on_watch_bytes(const char *bytes, size_t size, void *arg)
{
    struct watch *watch = arg;

    return sse_feed(&watch->parser, bytes, size, on_event, watch);
}

/* Until the stream ends, for whatever reason. */
static int watch_once(struct watch *watch, const char *path)
{
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char resume[64];
    const char *headers[] = {watch->last_id[0] ? resume : NULL, NULL};
    struct client_request request = {.method = "GET",
                                     .path = path,
                                     .headers = headers,
                                     .timeout_ms = 24LL * 3600 * 1000,
                                     .offline_ms = AWAY_MS,
                                     .idle_s = IDLE_S,
                                     .on_bytes = on_watch_bytes,
                                     .arg = watch};
    int status = CLI_DONE;

    snprintf(resume, sizeof(resume), "Last-Event-ID: %s", watch->last_id);
    sse_init(&watch->parser, EVENT_BYTES_MAX, EVENT_BYTES_MAX);
    watch->has_moved = false;
    int code = client_call_patiently(cli_client(watch->cli), &request, AWAY_MS, &answer, &why);
    sse_deinit(&watch->parser);
    if (code < 0 && !watch->has_moved)
        status = client_fail(code, &why);
    else if (code == 0 && answer.status != 200)
        status = client_refused(&answer);
    else if (ferror(stdout))
        status = CLI_FAILED;
    client_answer_deinit(&answer);
    return status;
}

int cli_watch(struct cli *cli, int argc, char **argv)
{
    struct watch watch = {.cli = cli};
    char path[CLI_PATH_SIZE];
    unsigned idle = 0;
    int status = argc == 2 ? cli_job_path(path, argv[1], "/events")
                           : cli_fail(CLI_USAGE, "watch needs the id of one job");

    while (status == CLI_DONE && !watch.is_done) {
        status = watch_once(&watch, path);
        idle = watch.has_moved ? 0 : idle + 1;
        if (status == CLI_DONE && !watch.is_done && idle > IDLE_STREAMS_MAX)
            status = cli_fail(CLI_UNREACHABLE, "the server keeps ending the stream of events");
        if (status == CLI_DONE && !watch.is_done)
            client_pause(cli_client(cli), PAUSE_MS);
    }
    return status == CLI_DONE ? watch.status : status;
}
