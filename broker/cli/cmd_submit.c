/* submit: one job from the command line, a file or standard input. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/job_line.h"
#include "broker/cli/terminal.h"
#include "common/base/digest.h"
#include "common/base/text.h"

enum { BODY_BYTES_MAX = 64 << 20, METADATA_MAX = 16, PATIENCE_MS = 10000 };

struct wish {
    const char *endpoint, *model, *file, *priority, *key;
    const char *metadata[METADATA_MAX];
    unsigned metadata_count;
    int64_t delay_ms, expires_ms, timeout_ms, max_attempts; /* 0: not said */
    bool must_wait;
    const char *text;
};

static const struct option options[] = {
    {"endpoint", required_argument, NULL, 'e'}, {"model", required_argument, NULL, 'm'},
    {"file", required_argument, NULL, 'f'},     {"priority", required_argument, NULL, 'p'},
    {"delay", required_argument, NULL, 'd'},    {"expires", required_argument, NULL, 'x'},
    {"timeout", required_argument, NULL, 't'},  {"max-attempts", required_argument, NULL, 'a'},
    {"metadata", required_argument, NULL, 'M'}, {"idempotency-key", required_argument, NULL, 'k'},
    {"wait", no_argument, NULL, 'w'},           {0},
};

static int take_duration(const char *text, int64_t *out)
{
    if (text_parse_duration_ms(text, strlen(text), INT64_MAX / 4, out) < 0)
        return cli_fail(CLI_USAGE, "%s is no duration such as 90s or 2h", text);
    return CLI_DONE;
}

static int take_option(int option, struct wish *wish)
{
    switch (option) {
    case 'e':
        wish->endpoint = job_line_endpoint(optarg);
        return CLI_DONE;
    case 'm':
        wish->model = optarg;
        return CLI_DONE;
    case 'f':
        wish->file = optarg;
        return CLI_DONE;
    case 'p':
        wish->priority = optarg;
        return CLI_DONE;
    case 'k':
        wish->key = optarg;
        return CLI_DONE;
    case 'w':
        wish->must_wait = true;
        return CLI_DONE;
    case 'd':
        return take_duration(optarg, &wish->delay_ms);
    case 'x':
        return take_duration(optarg, &wish->expires_ms);
    case 't':
        return take_duration(optarg, &wish->timeout_ms);
    case 'a':
        if (text_parse_i64(optarg, strlen(optarg), 1, 1000, &wish->max_attempts) < 0)
            return cli_fail(CLI_USAGE, "--max-attempts takes a number");
        return CLI_DONE;
    case 'M':
        if (wish->metadata_count == METADATA_MAX || !strchr(optarg, '='))
            return cli_fail(CLI_USAGE, "--metadata takes name=value, at most %d times",
                            METADATA_MAX);
        wish->metadata[wish->metadata_count++] = optarg;
        return CLI_DONE;
    default:
        return cli_bad_option("submit");
    }
}

static int read_stream(FILE *file, struct buf *out)
{
    char piece[65536];
    size_t size;

    while ((size = fread(piece, 1, sizeof(piece), file)) > 0) {
        if (buf_append(out, piece, size) < 0)
            return cli_fail(CLI_USAGE, "the body is larger than %d MiB", BODY_BYTES_MAX >> 20);
    }
    return ferror(file) ? cli_fail(CLI_USAGE, "cannot read the body") : CLI_DONE;
}

/* A whole JSON file as it is: it will stand inside the job's text, so it has to be one document. */
static int read_body(const char *name, struct buf *out)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "rbe");
    struct error_text why;
    struct jdoc *doc = NULL;

    if (!file)
        return cli_fail(CLI_USAGE, "cannot open %s: %s", name, strerror(errno));
    int status = read_stream(file, out);
    if (file != stdin)
        fclose(file);
    if (status == CLI_DONE && jdoc_parse(out->data ? out->data : "", out->size, &doc, &why) < 0)
        status = cli_fail(CLI_USAGE, "%s: %s", file == stdin ? "the body" : name, why.text);
    jdoc_destroy(doc);
    return status;
}

/* From a model and a text. */
static int make_body(const struct wish *wish, struct buf *out)
{
    struct buf text = {.size_max = BODY_BYTES_MAX};
    int status = CLI_DONE;

    if (!wish->model)
        return cli_fail(CLI_USAGE,
                        "submit needs -m MODEL and a text, or -f FILE with the request body");
    if (!wish->text && isatty(STDIN_FILENO))
        fputs("penstock: reading the text from here; end it with Ctrl-D\n", stderr);
    if (!wish->text)
        status = read_stream(stdin, &text);
    else if (buf_append_text(&text, wish->text) < 0)
        status = cli_fail(CLI_USAGE, "the text is too long");
    if (status == CLI_DONE &&
        job_line_body(wish->endpoint, wish->model,
                      (struct slice){text.data ? text.data : "", text.size}, out) < 0)
        status = cli_fail(CLI_USAGE, "the text is too long");
    buf_deinit(&text);
    return status;
}

static int put_number(struct buf *out, const char *name, int64_t value)
{
    return value > 0 ? buf_printf(out, ",\"%s\":%lld", name, (long long)value) : 0;
}

static int put_text(struct buf *out, const char *name, const char *value)
{
    int status = value ? buf_printf(out, ",\"%s\":", name) : 0;

    return value && status == 0 ? json_put_string(out, value, strlen(value)) : status;
}

static int put_metadata(const struct wish *wish, struct buf *out)
{
    int status = wish->metadata_count > 0 ? buf_append_text(out, ",\"metadata\":{") : 0;

    for (unsigned i = 0; i < wish->metadata_count && status == 0; i++) {
        const char *equals = strchr(wish->metadata[i], '=');
        status = i > 0 ? buf_append_char(out, ',') : 0;
        if (status == 0)
            status = json_put_string(out, wish->metadata[i], (size_t)(equals - wish->metadata[i]));
        if (status == 0)
            status = buf_append_char(out, ':');
        if (status == 0)
            status = json_put_string(out, equals + 1, strlen(equals + 1));
    }
    return status == 0 && wish->metadata_count > 0 ? buf_append_char(out, '}') : status;
}

static int make_job(const struct wish *wish, struct slice body, struct buf *out)
{
    int status = buf_append_text(out, "{\"endpoint\":");

    if (status == 0)
        status = json_put_string(out, wish->endpoint, strlen(wish->endpoint));
    if (status == 0)
        status = buf_append_text(out, ",\"body\":");
    if (status == 0)
        status = buf_append(out, body.bytes, body.size);
    if (status == 0)
        status = put_text(out, "priority", wish->priority);
    if (status == 0)
        status = put_text(out, "idempotency_key", wish->key);
    if (status == 0)
        status = put_number(out, "delay_ms", wish->delay_ms);
    if (status == 0)
        status = put_number(out, "expires_in_ms", wish->expires_ms);
    if (status == 0)
        status = put_number(out, "timeout_ms", wish->timeout_ms);
    if (status == 0)
        status = put_number(out, "max_attempts", wish->max_attempts);
    if (status == 0)
        status = put_metadata(wish, out);
    return status == 0 ? buf_append_char(out, '}') : status;
}

/* With a key of its own, so that a call that broke can be made again and still makes one job. */
static int send_job(struct cli *cli, const struct wish *wish, struct slice job, char id[64])
{
    struct client_answer answer = {0};
    struct jdoc *doc = NULL;
    char key[80];
    const char *headers[] = {wish->key ? NULL : key, NULL};
    struct client_request request = {.method = "POST",
                                     .path = "/v1/jobs",
                                     .content_type = "application/json",
                                     .body = job,
                                     .headers = headers};

    snprintf(key, sizeof(key), "Idempotency-Key: submit-%016llx%016llx",
             (unsigned long long)digest_random_u64(), (unsigned long long)digest_random_u64());
    int status = client_json(cli, &request, PATIENCE_MS, &answer, &doc);
    if (status == CLI_DONE) {
        snprintf(id, 64, "%s", terminal_text(jdoc_root(doc), "id"));
        if (!wish->must_wait && cli->is_json)
            printf("%.*s\n", (int)answer.body.size, answer.body.data);
        else if (!wish->must_wait)
            puts(id);
    }
    jdoc_destroy(doc);
    client_answer_deinit(&answer);
    return status;
}

int cli_submit(struct cli *cli, int argc, char **argv)
{
    struct wish wish = {.endpoint = "/v1/chat/completions"};
    struct buf body = {.size_max = BODY_BYTES_MAX}, job = {.size_max = BODY_BYTES_MAX + 65536};
    char id[64] = "";
    int option, status = CLI_DONE;

    while (status == CLI_DONE &&
           (option = getopt_long(argc, argv, "e:m:f:p:d:x:t:a:M:k:w", options, NULL)) != -1)
        status = take_option(option, &wish);
    if (status == CLI_DONE && argc - optind > 1)
        status = cli_fail(CLI_USAGE, "one text at most; quote it");
    wish.text = optind < argc ? argv[optind] : NULL;
    if (status == CLI_DONE && wish.file && (wish.text || wish.model))
        status = cli_fail(CLI_USAGE, "-f holds the whole body: no model and no text beside it");
    if (status == CLI_DONE)
        status = wish.file ? read_body(wish.file, &body) : make_body(&wish, &body);
    if (status == CLI_DONE && make_job(&wish, (struct slice){body.data, body.size}, &job) < 0)
        status = cli_fail(CLI_USAGE, "the job is too large");
    if (status == CLI_DONE)
        status = send_job(cli, &wish, (struct slice){job.data, job.size}, id);
    if (status == CLI_DONE && wish.must_wait) {
        char *result_argv[] = {argv[0], id, NULL};
        status = cli_wait_quietly(cli, id);
        if (status == CLI_DONE)
            status = cli_result(cli, 2, result_argv);
    }
    buf_deinit(&body);
    buf_deinit(&job);
    return status;
}
