/* get, result, wait, watch, cancel, retry, ls: one job, or a list of them. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/sse.h"
#include "common/base/text.h"

enum { PATH_SIZE = 1024 };

/* Ids come from people: whatever they are, they stay one path segment. */
static int job_path(char path[PATH_SIZE], const char *id, const char *rest)
{
    char encoded[512];

    if (text_percent_encode(id, strlen(id), encoded, sizeof(encoded)) < 0)
        return cli_fail(CLI_USAGE, "%.40s… is no job id", id);
    snprintf(path, PATH_SIZE, "/v1/jobs/%s%s", encoded, rest);
    return CLI_DONE;
}

static void print_raw(const struct client_answer *answer)
{
    fwrite(answer->body.data, 1, answer->body.size, stdout);
    if (answer->body.size == 0 || answer->body.data[answer->body.size - 1] != '\n')
        putchar('\n');
}

static void print_job(const struct cli *cli, const struct jval *job)
{
    const struct jval *error = jval_get(job, "error");
    const struct jval *usage = jval_get(job, "usage");
    char took[32];

    printf("%s  ", terminal_text(job, "id"));
    terminal_state(cli, terminal_text(job, "status"), 10);
    printf(" %-7s %s %s", terminal_text(job, "priority"), terminal_text(job, "endpoint"),
           terminal_text(job, "model"));
    if (jval_type(jval_get(job, "finished_at")) != JTYPE_NULL) {
        terminal_duration(terminal_number(job, "finished_at") - terminal_number(job, "created_at"),
                          took);
        printf("  %s", took);
    }
    if (jval_type(usage) == JTYPE_OBJECT)
        printf("  %.0f tokens", terminal_number(usage, "total_tokens"));
    putchar('\n');
    if (terminal_text(job, "why")[0])
        printf("    %s\n", terminal_text(job, "why"));
    if (jval_type(error) == JTYPE_OBJECT)
        printf("    %s: %s\n", terminal_text(error, "code"), terminal_text(error, "message"));
}

static int status_of(const struct jval *job)
{
    const char *state = terminal_text(job, "status");
    bool is_bad = strcmp(state, "failed") == 0 || strcmp(state, "expired") == 0 ||
                  strcmp(state, "cancelled") == 0;

    return is_bad ? CLI_FAILED : CLI_DONE;
}

static int show(struct cli *cli, const char *method, const char *id, const char *rest,
                bool must_succeed)
{
    struct client_answer answer = {0};
    struct jdoc *doc = NULL;
    char path[PATH_SIZE];
    int status = job_path(path, id, rest);

    if (status == CLI_DONE)
        status = client_json(cli, method, path, (struct slice){0}, &answer, &doc);
    if (status == CLI_DONE) {
        if (cli->is_json)
            print_raw(&answer);
        else
            print_job(cli, jdoc_root(doc));
        if (must_succeed)
            status = status_of(jdoc_root(doc));
    }
    jdoc_destroy(doc);
    client_answer_deinit(&answer);
    return status;
}

static int for_each_id(struct cli *cli, int argc, char **argv, const char *method, const char *rest)
{
    int worst = CLI_DONE;

    if (argc < 2)
        return cli_fail(CLI_USAGE, "%s needs the id of a job", argv[0]);
    for (int i = 1; i < argc; i++) {
        int status = show(cli, method, argv[i], rest, false);
        if (status > worst)
            worst = status;
    }
    return worst;
}

int cli_get(struct cli *cli, int argc, char **argv)
{
    return for_each_id(cli, argc, argv, "GET", "");
}

int cli_cancel(struct cli *cli, int argc, char **argv)
{
    return for_each_id(cli, argc, argv, "POST", "/cancel");
}

int cli_retry(struct cli *cli, int argc, char **argv)
{
    return for_each_id(cli, argc, argv, "POST", "/retry");
}

int cli_result(struct cli *cli, int argc, char **argv)
{
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char path[PATH_SIZE];
    int status;

    if (argc != 2)
        return cli_fail(CLI_USAGE, "result needs the id of one job");
    status = job_path(path, argv[1], "/result");
    if (status != CLI_DONE)
        return status;
    struct client_request request = {.method = "GET", .path = path};
    int code = client_call_patiently(cli_client(cli), &request, 10000, &answer, &why);
    if (code < 0)
        status = cli_fail(code == ERR_TIMEOUT ? CLI_TIMEOUT : CLI_UNREACHABLE, "%s", why.text);
    else if (answer.status == 202)
        status = cli_fail(CLI_FAILED, "the job has not ended yet; try penstock wait %s", argv[1]);
    else if (answer.status == 200)
        print_raw(&answer);
    else {
        client_explain(&answer, &why);
        status = cli_fail(answer.status == 404 || answer.status == 410 ? CLI_NOT_FOUND : CLI_FAILED,
                          "%s", why.text);
    }
    client_answer_deinit(&answer);
    return status;
}

/* Waits for one job until end_mono_ms; prints it once it has ended, or only what went wrong. */
static int wait_for(struct cli *cli, const char *id, int64_t end_mono_ms, bool is_quiet)
{
    struct client_answer answer = {0};
    struct jdoc *doc = NULL;
    char path[PATH_SIZE];
    int status;

    for (;;) {
        int64_t left_ms = end_mono_ms - clock_mono_ms();
        char rest[32];
        if (left_ms <= 0) {
            status = cli_fail(CLI_TIMEOUT, "%s has not ended in time", id);
            break;
        }
        snprintf(rest, sizeof(rest), "?wait=%lldms",
                 (long long)(left_ms < 30000 ? left_ms : 30000));
        status = job_path(path, id, rest);
        if (status == CLI_DONE)
            status = client_json(cli, "GET", path, (struct slice){0}, &answer, &doc);
        if (status != CLI_DONE)
            break;
        if (jval_type(jval_get(jdoc_root(doc), "finished_at")) != JTYPE_NULL) {
            const struct jval *job = jdoc_root(doc);
            status = status_of(job);
            if (is_quiet && status != CLI_DONE)
                cli_fail(status, "%s %s: %s", id, terminal_text(job, "status"),
                         terminal_text(jval_get(job, "error"), "message"));
            else if (!is_quiet && cli->is_json)
                print_raw(&answer);
            else if (!is_quiet)
                print_job(cli, job);
            break;
        }
        jdoc_destroy(doc);
        doc = NULL;
    }
    jdoc_destroy(doc);
    client_answer_deinit(&answer);
    return status;
}

int cli_wait_quietly(struct cli *cli, const char *id)
{
    return wait_for(cli, id, INT64_MAX / 2, true);
}

int cli_wait(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {{"timeout", required_argument, NULL, 't'}, {0}};
    int64_t patience_ms = 7LL * 24 * 3600 * 1000;
    int worst = CLI_DONE, option;

    while ((option = getopt_long(argc, argv, "t:", options, NULL)) != -1) {
        if (option != 't' ||
            text_parse_duration_ms(optarg, strlen(optarg), INT64_MAX / 2, &patience_ms) < 0)
            return cli_fail(CLI_USAGE, "--timeout takes a duration such as 90s");
    }
    if (optind >= argc)
        return cli_fail(CLI_USAGE, "wait needs the id of a job");
    int64_t end_ms = clock_mono_ms() + patience_ms;
    for (int i = optind; i < argc; i++) {
        int status = wait_for(cli, argv[i], end_ms, false);
        if (status > worst)
            worst = status;
    }
    return worst;
}

/* ---- watch --------------------------------------------------------------------------------------
 */

enum { EVENT_BYTES_MAX = 1 << 20 };

struct watch {
    struct cli *cli;
    struct sse_parser parser;
    char last_id[32];
    bool is_done;
    int status;
};

static int on_event(const struct sse_event *event, void *arg)
{
    struct watch *watch = arg;
    bool is_job = strcmp(event->name, "job") == 0;
    struct jdoc *doc = NULL;

    watch->is_done = strcmp(event->name, "done") == 0;
    if (strlen(event->id) < sizeof(watch->last_id))
        snprintf(watch->last_id, sizeof(watch->last_id), "%s", event->id);
    if (watch->cli->is_json)
        printf("%s\n", event->data);
    else if (!is_job && !watch->is_done)
        printf("%s %s\n", event->name, event->data);
    if (is_job && jdoc_parse(event->data, event->data_size, &doc, NULL) == 0) {
        watch->status = status_of(jdoc_root(doc));
        if (!watch->cli->is_json)
            print_job(watch->cli, jdoc_root(doc));
    }
    jdoc_destroy(doc);
    fflush(stdout);
    return watch->is_done;
}

static int on_watch_bytes(const char *bytes, size_t size, void *arg)
{
    struct watch *watch = arg;

    return sse_feed(&watch->parser, bytes, size, on_event, watch);
}

int cli_watch(struct cli *cli, int argc, char **argv)
{
    struct watch watch = {.cli = cli};
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char path[PATH_SIZE], resume[64];
    int status = argc == 2 ? job_path(path, argv[1], "/events")
                           : cli_fail(CLI_USAGE, "watch needs the id of one job");

    if (status != CLI_DONE)
        return status;
    while (!watch.is_done && status == CLI_DONE) {
        const char *headers[] = {watch.last_id[0] ? resume : NULL, NULL};
        struct client_request request = {.method = "GET",
                                         .path = path,
                                         .headers = headers,
                                         .timeout_ms = 24 * 3600 * 1000,
                                         .on_bytes = on_watch_bytes,
                                         .arg = &watch};
        snprintf(resume, sizeof(resume), "Last-Event-ID: %s", watch.last_id);
        sse_init(&watch.parser, EVENT_BYTES_MAX, EVENT_BYTES_MAX);
        int code = client_call_patiently(cli_client(cli), &request, 30000, &answer, &why);
        sse_deinit(&watch.parser);
        if (code < 0 && code != ERR_UNKNOWN)
            status = cli_fail(CLI_UNREACHABLE, "%s", why.text);
        else if (code == 0 && answer.status != 200) {
            client_explain(&answer, &why);
            status = cli_fail(answer.status == 404 ? CLI_NOT_FOUND : CLI_FAILED, "%s", why.text);
        }
    }
    client_answer_deinit(&answer);
    return status == CLI_DONE ? watch.status : status;
}

/* ---- ls -----------------------------------------------------------------------------------------
 */

static int list_path(int argc, char **argv, struct buf *path, int64_t *limit)
{
    static const struct option options[] = {{"status", required_argument, NULL, 's'},
                                            {"model", required_argument, NULL, 'm'},
                                            {"tenant", required_argument, NULL, 't'},
                                            {"limit", required_argument, NULL, 'n'},
                                            {0}};
    int option, status = buf_append_text(path, "/v1/jobs?");
    char encoded[1024];

    while (status == 0 && (option = getopt_long(argc, argv, "s:m:t:n:", options, NULL)) != -1) {
        if (option == 'n') {
            if (text_parse_i64(optarg, strlen(optarg), 1, 1000000, limit) < 0)
                return cli_fail(CLI_USAGE, "--limit takes a number from 1 to 1000000");
            continue;
        }
        if (option == '?' ||
            text_percent_encode(optarg, strlen(optarg), encoded, sizeof(encoded)) < 0)
            return cli_fail(CLI_USAGE, "see penstock help");
        status = buf_printf(path, "%s=%s&",
                            option == 's'   ? "status"
                            : option == 'm' ? "model"
                                            : "tenant",
                            encoded);
    }
    return status < 0 ? cli_fail(CLI_USAGE, "the filter is too long") : CLI_DONE;
}

int cli_list(struct cli *cli, int argc, char **argv)
{
    struct client_answer answer = {0};
    char after[128] = "";
    int64_t limit = 20;
    struct buf base, path;

    buf_init(&base, 4096);
    buf_init(&path, 8192);
    int status = list_path(argc, argv, &base, &limit);
    while (status == CLI_DONE && limit > 0) {
        struct jdoc *doc = NULL;
        buf_clear(&path);
        if (buf_printf(&path, "%slimit=%lld%s%s", base.data, (long long)(limit < 100 ? limit : 100),
                       after[0] ? "&after=" : "", after) < 0)
            break;
        status = client_json(cli, "GET", path.data, (struct slice){0}, &answer, &doc);
        const struct jval *data = status == CLI_DONE ? jval_get(jdoc_root(doc), "data") : NULL;
        for (size_t i = 0; i < jval_count(data); i++, limit--) {
            struct buf line;
            buf_init(&line, 1 << 20);
            if (!cli->is_json)
                print_job(cli, jval_at(data, i));
            else if (jval_print(jval_at(data, i), &line) == 0)
                printf("%s\n", line.data);
            buf_deinit(&line);
        }
        bool has_more = false;
        if (status == CLI_DONE)
            snprintf(after, sizeof(after), "%s", terminal_text(jdoc_root(doc), "next_after"));
        if (status != CLI_DONE || jval_bool(jval_get(jdoc_root(doc), "has_more"), &has_more) < 0 ||
            !has_more)
            limit = 0;
        jdoc_destroy(doc);
    }
    buf_deinit(&base);
    buf_deinit(&path);
    client_answer_deinit(&answer);
    return status;
}
