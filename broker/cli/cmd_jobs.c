/* get, result, wait, cancel, retry, ls: one job, or a list of them. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/job_print.h"
#include "broker/cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/text.h"

enum {
    PATIENCE_MS = 10000,
    AWAY_MS = 120000, /* the server may be gone for so long while we wait */
    WAIT_MS = 30000,  /* of one question */
    IDLE_S = 60       /* of a result that stops coming */
};

static void print_line(const struct client_answer *answer)
{
    fwrite(answer->body.data, 1, answer->body.size, stdout);
    putchar('\n');
}

/* One call on one job, and the job it answers with. */
static int show(struct cli *cli, const char *method, const char *id, const char *rest)
{
    struct client_answer answer = {0};
    struct jdoc *doc = NULL;
    char path[CLI_PATH_SIZE];
    struct client_request request = {.method = method, .path = path};
    /* A retry makes a new job each time; the others may be asked again. */
    bool can_repeat = strcmp(rest, "/retry") != 0;
    int status = cli_job_path(path, id, rest);

    if (status == CLI_DONE)
        status = client_json(cli, &request, can_repeat ? PATIENCE_MS : 0, &answer, &doc);
    if (status == CLI_DONE && cli->is_json)
        print_line(&answer);
    else if (status == CLI_DONE)
        cli_print_job(cli, jdoc_root(doc));
    jdoc_destroy(doc);
    client_answer_deinit(&answer);
    return status;
}

/* Every id gets its turn; the highest exit code is the command's. */
static int for_each_id(struct cli *cli, int argc, char **argv, const char *method, const char *rest)
{
    static const struct option none[] = {{0}};
    int worst = CLI_DONE;

    if (getopt_long(argc, argv, "", none, NULL) != -1)
        return cli_bad_option(argv[0]);
    if (optind >= argc)
        return cli_fail(CLI_USAGE, "%s needs the id of a job", argv[0]);
    for (int i = optind; i < argc; i++) {
        int status = show(cli, method, argv[i], rest);
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

/* ---- result -------------------------------------------------------------------------------------
 */

/* Straight through: a result may be larger than our memory. */
static int on_result_bytes(const char *bytes, size_t size, void *arg)
{
    char *last = arg;

    *last = bytes[size - 1];
    return fwrite(bytes, 1, size, stdout) == size ? 0 : -1;
}

int cli_result(struct cli *cli, int argc, char **argv)
{
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char path[CLI_PATH_SIZE], last = '\0';
    struct client_request request = {.method = "GET",
                                     .path = path,
                                     .timeout_ms = 24LL * 3600 * 1000,
                                     .idle_s = IDLE_S,
                                     .on_bytes = on_result_bytes,
                                     .arg = &last};
    int status;

    if (argc != 2)
        return cli_fail(CLI_USAGE, "result needs the id of one job");
    status = cli_job_path(path, argv[1], "/result");
    if (status != CLI_DONE)
        return status;
    int code = client_call_patiently(cli_client(cli), &request, PATIENCE_MS, &answer, &why);
    if (code < 0)
        status = client_fail(code, &why);
    else if (answer.status == 202)
        status = cli_fail(CLI_FAILED, "the job has not ended yet; try penstock wait %s", argv[1]);
    else if (answer.status != 200)
        status = client_refused(&answer);
    else if (last != '\n' && isatty(STDOUT_FILENO))
        putchar('\n');
    client_answer_deinit(&answer);
    return status;
}

/* ---- wait ---------------------------------------------------------------------------------------
 */

static void tell_end(const struct cli *cli, const struct client_answer *answer,
                     const struct jval *job, bool is_quiet)
{
    const struct jval *error = jval_get(job, "error");

    if (is_quiet && cli_status_of(job) != CLI_DONE)
        cli_fail(CLI_FAILED, "%s is %s: %s (%s)", terminal_text(job, "id"),
                 terminal_text(job, "status"), terminal_text(error, "message"),
                 terminal_text(error, "code"));
    else if (!is_quiet && cli->is_json)
        print_line(answer);
    else if (!is_quiet)
        cli_print_job(cli, job);
}

/* Waits for one job until end_mono_ms; prints it once it has ended, or only what went wrong. */
static int wait_for(struct cli *cli, const char *id, int64_t end_mono_ms, bool is_quiet)
{
    struct client_answer answer = {0};
    int status = CLI_DONE;
    bool has_ended = false;

    while (status == CLI_DONE && !has_ended) {
        int64_t left_ms = end_mono_ms - clock_mono_ms();
        struct jdoc *doc = NULL;
        char rest[32], path[CLI_PATH_SIZE];
        struct client_request request = {.method = "GET", .path = path, .offline_ms = AWAY_MS};
        if (left_ms <= 0) {
            status = cli_fail(CLI_TIMEOUT, "%s has not ended in time", id);
            break;
        }
        snprintf(rest, sizeof(rest), "?wait=%lldms",
                 (long long)(left_ms < WAIT_MS ? left_ms : WAIT_MS));
        status = cli_job_path(path, id, rest);
        /* A server that is restarted meanwhile is no reason to stop waiting. */
        if (status == CLI_DONE)
            status =
                client_json(cli, &request, left_ms < AWAY_MS ? left_ms : AWAY_MS, &answer, &doc);
        if (status == CLI_DONE && terminal_has(jdoc_root(doc), "finished_at")) {
            has_ended = true;
            tell_end(cli, &answer, jdoc_root(doc), is_quiet);
            status = cli_status_of(jdoc_root(doc));
        }
        jdoc_destroy(doc);
    }
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
        if (option != 't')
            return cli_bad_option(argv[0]);
        if (text_parse_duration_ms(optarg, strlen(optarg), INT64_MAX / 4, &patience_ms) < 0)
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
        if (option == '?')
            return cli_bad_option(argv[0]);
        if (text_percent_encode(optarg, strlen(optarg), encoded, sizeof(encoded)) < 0)
            return cli_fail(CLI_USAGE, "the filter is too long");
        status = buf_printf(path, "%s=%s&",
                            option == 's'   ? "status"
                            : option == 'm' ? "model"
                                            : "tenant",
                            encoded);
    }
    if (optind < argc)
        return cli_fail(CLI_USAGE, "ls takes options only");
    return status < 0 ? cli_fail(CLI_USAGE, "the filter is too long") : CLI_DONE;
}

static void print_jobs(const struct cli *cli, const struct jval *data, int64_t *limit)
{
    for (size_t i = 0; i < jval_count(data) && *limit > 0; i++, --*limit) {
        struct buf line = {.size_max = 4 << 20};
        if (!cli->is_json)
            cli_print_job(cli, jval_at(data, i));
        else if (jval_print(jval_at(data, i), &line) == 0)
            printf("%s\n", line.data);
        buf_deinit(&line);
    }
}

int cli_list(struct cli *cli, int argc, char **argv)
{
    struct client_answer answer = {0};
    char after[256] = "";
    int64_t limit = 20;
    struct buf base = {.size_max = 4096}, path = {.size_max = 8192};
    int status = list_path(argc, argv, &base, &limit);

    while (status == CLI_DONE && limit > 0) {
        struct jdoc *doc = NULL;
        bool has_more = false;
        buf_clear(&path);
        if (buf_printf(&path, "%slimit=%lld%s%s", base.data, (long long)(limit < 100 ? limit : 100),
                       after[0] ? "&after=" : "", after) < 0) {
            status = cli_fail(CLI_USAGE, "the filter is too long");
            break;
        }
        status = client_get(cli, path.data, &answer, &doc);
        if (status == CLI_DONE) {
            const struct jval *root = jdoc_root(doc);
            const char *next = terminal_text(root, "next_after");
            print_jobs(cli, jval_get(root, "data"), &limit);
            if (jval_bool(jval_get(root, "has_more"), &has_more) < 0 || !has_more ||
                text_percent_encode(next, strlen(next), after, sizeof(after)) <= 0)
                limit = 0;
        }
        jdoc_destroy(doc);
    }
    buf_deinit(&base);
    buf_deinit(&path);
    client_answer_deinit(&answer);
    return status;
}
