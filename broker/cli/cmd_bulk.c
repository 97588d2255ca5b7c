/* bulk: a file of jobs in, a file of results out. Sending is idempotent: every chunk carries a key
 * of this run, so that a chunk sent again after a cut adds only what is missing. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/bulk.h"
#include "broker/cli/job_line.h"
#include "common/base/clock.h"
#include "common/base/digest.h"

enum { CHUNK_LINES = 1000, CHUNK_BYTES = 8 << 20, LINE_BYTES_MAX = 64 << 20, PATIENCE_MS = 600000 };

struct input {
    FILE *file;
    const char *priority;
    char run_key[80];
    char *line; /* getline's own buffer */
    size_t line_capacity;
    unsigned chunk_number;
};

struct chunk {
    struct buf body;
    size_t first_item;         /* index in bulk->items of its first line */
    size_t items[CHUNK_LINES]; /* of the lines that were sent */
    unsigned count;
};

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"ordered", no_argument, NULL, 'O'},
                                        {"no-wait", no_argument, NULL, 'n'},
                                        {"priority", required_argument, NULL, 'p'},
                                        {"idempotency-key", required_argument, NULL, 'k'},
                                        {0}};

static char *error_json(const char *code, const char *message)
{
    struct buf text;
    char *bytes = NULL;

    buf_init(&text, 8192);
    if (buf_append_text(&text, "{\"code\":") == 0 &&
        json_put_string(&text, code, strlen(code)) == 0 &&
        buf_append_text(&text, ",\"message\":") == 0 &&
        json_put_string(&text, message, strlen(message)) == 0 && buf_append_char(&text, '}') == 0)
        bytes = buf_take(&text, NULL);
    buf_deinit(&text);
    return bytes;
}

static void refuse(struct bulk *bulk, struct bulk_item *item, char *error)
{
    item->state = BULK_REFUSED;
    item->error = error;
    bulk->refused++;
}

static char *copy_custom_id(struct slice line)
{
    struct jdoc *doc = NULL;
    struct slice id;
    char *copy = NULL;

    if (jdoc_parse(line.bytes, line.size, &doc, NULL) == 0 &&
        jdoc_slice(doc, "custom_id", &id.bytes, &id.size) == 0)
        copy = strndup(id.bytes, id.size);
    jdoc_destroy(doc);
    return copy;
}

/* Reads up to a chunk of lines. 1: something was read, 0: end of the file, or a cli_exit code
 * negated. */
static int read_chunk(struct bulk *bulk, struct input *input, struct chunk *chunk)
{
    int is_any = 0;

    buf_clear(&chunk->body);
    chunk->count = 0;
    while (chunk->count < CHUNK_LINES && chunk->body.size < CHUNK_BYTES) {
        ssize_t size = getline(&input->line, &input->line_capacity, input->file);
        struct error_text why = {{0}};
        struct bulk_item *item;
        if (size < 0)
            return ferror(input->file)
                       ? -cli_fail(CLI_USAGE, "cannot read the input: %s", strerror(errno))
                       : is_any;
        while (size > 0 && (input->line[size - 1] == '\n' || input->line[size - 1] == '\r'))
            size--;
        if (size == 0)
            continue;
        is_any = 1;
        if (bulk_add_item(bulk, &item) < 0)
            return -cli_fail(CLI_FAILED, "out of memory");
        struct slice line = {input->line, (size_t)size};
        item->custom_id = copy_custom_id(line);
        if (job_line_convert(line, input->priority, &chunk->body, &why) < 0) {
            refuse(bulk, item, error_json("invalid_line", why.text));
            continue;
        }
        /* One job is one line: white space between tokens may hold line ends, strings never do. */
        if (buf_append_char(&chunk->body, '\n') < 0)
            return -cli_fail(CLI_FAILED, "out of memory");
        chunk->items[chunk->count++] = bulk->items_count - 1;
    }
    return is_any;
}

static bool may_send_again(const char *code)
{
    static const char *const codes[] = {"queue_full",      "store_full",   "too_many_models",
                                        "quota_exceeded",  "rate_limited", "redis_unreachable",
                                        "outcome_unknown", "unavailable"};

    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(code, codes[i]) == 0)
            return true;
    }
    return false;
}

/* Takes the answers of a chunk. Returns how many lines should be sent again. */
static unsigned take_answers(struct bulk *bulk, const struct chunk *chunk, struct slice answers)
{
    unsigned again = 0;
    size_t at = 0;

    while (at < answers.size) {
        const char *end = memchr(answers.bytes + at, '\n', answers.size - at);
        size_t size = end ? (size_t)(end - answers.bytes) - at : answers.size - at;
        struct jdoc *doc = NULL;
        int64_t line = 0;
        if (size > 0 && jdoc_parse(answers.bytes + at, size, &doc, NULL) == 0 &&
            jval_i64(jval_get(jdoc_root(doc), "line"), 1, chunk->count, &line) == 0) {
            struct bulk_item *item = &bulk->items[chunk->items[line - 1]];
            const struct jval *error = jval_get(jdoc_root(doc), "error");
            if (error && may_send_again(terminal_text(error, "code"))) {
                again++;
            } else if (error && item->state == BULK_PENDING && item->id[0] == '\0') {
                refuse(bulk, item,
                       error_json(terminal_text(error, "code"), terminal_text(error, "message")));
            } else if (!error) {
                snprintf(item->id, sizeof(item->id), "%s", terminal_text(jdoc_root(doc), "id"));
            }
        }
        jdoc_destroy(doc);
        at += size + 1;
    }
    return again;
}

static bool is_all_answered(const struct bulk *bulk, const struct chunk *chunk)
{
    for (unsigned i = 0; i < chunk->count; i++) {
        const struct bulk_item *item = &bulk->items[chunk->items[i]];
        if (item->state == BULK_PENDING && item->id[0] == '\0')
            return false;
    }
    return true;
}

static int send_chunk(struct bulk *bulk, struct input *input, const struct chunk *chunk)
{
    int64_t end_ms = clock_mono_ms() + PATIENCE_MS;
    struct client_answer answer = {0};
    struct error_text why = {{0}};
    char key[128];
    const char *headers[] = {key, NULL};
    int status = CLI_DONE;

    snprintf(key, sizeof(key), "Idempotency-Key: %s-%u", input->run_key, input->chunk_number++);
    struct client_request request = {.method = "POST",
                                     .path = "/v1/jobs/bulk",
                                     .content_type = "application/x-ndjson",
                                     .body = {chunk->body.data, chunk->body.size},
                                     .headers = headers,
                                     .timeout_ms = PATIENCE_MS};
    while (status == CLI_DONE && !is_all_answered(bulk, chunk)) {
        int code = client_call_patiently(cli_client(bulk->cli), &request, 60000, &answer, &why);
        if (code < 0 && code != ERR_UNKNOWN) {
            status = cli_fail(CLI_UNREACHABLE, "%s", why.text);
        } else if (code == 0 && answer.status != 200) {
            client_explain(&answer, &why);
            status = cli_fail(CLI_FAILED, "%s", why.text);
        } else if (take_answers(bulk, chunk, (struct slice){answer.body.data, answer.body.size}) >
                   0) {
            if (clock_mono_ms() > end_ms)
                status = cli_fail(CLI_TIMEOUT, "the server has had no room for %d minutes",
                                  PATIENCE_MS / 60000);
            poll(NULL, 0, 1000); /* the queue is full: its own pace, not ours */
        }
    }
    client_answer_deinit(&answer);
    return status;
}

static int send_all(struct bulk *bulk, struct input *input)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    int status = chunk ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");

    while (status == CLI_DONE) {
        buf_init(&chunk->body, CHUNK_BYTES + LINE_BYTES_MAX);
        int got = read_chunk(bulk, input, chunk);
        if (got < 0)
            status = -got;
        else if (chunk->count > 0)
            status = send_chunk(bulk, input, chunk);
        buf_deinit(&chunk->body);
        if (got <= 0)
            break;
        progress_update(&bulk->progress, 0, bulk->refused);
    }
    free(chunk);
    return status;
}

static int open_files(struct input *input, struct bulk *bulk, const char *in, const char *out)
{
    input->file = strcmp(in, "-") == 0 ? stdin : fopen(in, "rb");
    if (!input->file)
        return cli_fail(CLI_USAGE, "cannot open %s: %s", in, strerror(errno));
    bulk->out = !out || strcmp(out, "-") == 0 ? stdout : fopen(out, "wb");
    if (!bulk->out)
        return cli_fail(CLI_USAGE, "cannot write %s: %s", out, strerror(errno));
    return CLI_DONE;
}

static void print_ids(const struct bulk *bulk)
{
    for (size_t i = 0; i < bulk->items_count; i++)
        fprintf(bulk->out, "%s\n", bulk->items[i].id[0] ? bulk->items[i].id : bulk->items[i].error);
}

int cli_bulk(struct cli *cli, int argc, char **argv)
{
    struct bulk bulk = {.cli = cli, .begin_mono_ms = clock_mono_ms()};
    struct input input = {0};
    const char *out = NULL, *key = NULL;
    bool must_wait = true;
    int option, status;

    while ((option = getopt_long(argc, argv, "o:Onp:k:", options, NULL)) != -1) {
        if (option == 'o')
            out = optarg;
        else if (option == 'O')
            bulk.is_ordered = true;
        else if (option == 'n')
            must_wait = false;
        else if (option == 'p')
            input.priority = optarg;
        else if (option == 'k')
            key = optarg;
        else
            return cli_fail(CLI_USAGE, "see penstock help");
    }
    if (argc - optind != 1 || (key && strlen(key) > 60))
        return cli_fail(CLI_USAGE,
                        "bulk needs one input file (or -), and a key of at most 60 bytes");
    if (key)
        snprintf(input.run_key, sizeof(input.run_key), "%s", key);
    else
        snprintf(input.run_key, sizeof(input.run_key), "bulk-%016llx%016llx",
                 (unsigned long long)digest_random_u64(), (unsigned long long)digest_random_u64());
    status = open_files(&input, &bulk, argv[optind], out);
    progress_start(&bulk.progress, cli, "bulk", 0);
    if (status == CLI_DONE)
        status = send_all(&bulk, &input);
    if (status == CLI_DONE && !must_wait)
        print_ids(&bulk);
    if (status == CLI_DONE && must_wait)
        status = bulk_collect(&bulk);
    progress_end(&bulk.progress);
    if (bulk.out && fflush(bulk.out) != 0)
        status = cli_fail(CLI_FAILED, "cannot write the results: %s", strerror(errno));
    if (status == CLI_DONE && must_wait)
        bulk_summary(&bulk);
    if (status == CLI_DONE && (bulk.failed > 0 || bulk.refused > 0))
        status = CLI_FAILED;
    if (input.file && input.file != stdin)
        fclose(input.file);
    if (bulk.out && bulk.out != stdout)
        fclose(bulk.out);
    free(input.line);
    bulk_deinit(&bulk);
    return status;
}
