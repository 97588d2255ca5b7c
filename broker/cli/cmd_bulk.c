/* bulk: a file of jobs in, a file of results out. Sending and collecting take turns, so results are
 * written while lines are still being read, and only a window of them is in memory. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/cli/bulk.h"
#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/text.h"

enum { REST_MS = 250, KEY_BYTES_MAX = 64 };

static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                        {"ordered", no_argument, NULL, 'O'},
                                        {"no-wait", no_argument, NULL, 'n'},
                                        {"priority", required_argument, NULL, 'p'},
                                        {"idempotency-key", required_argument, NULL, 'k'},
                                        {"timeout", required_argument, NULL, 't'},
                                        {0}};

struct files {
    const char *in, *out; /* names; out NULL: standard output */
    int in_fd;
    FILE *out_file;
};

/* ---- options and files --------------------------------------------------------------------------
 */

static int take_timeout(struct bulk *bulk, const char *text)
{
    int64_t ms;

    if (text_parse_duration_ms(text, strlen(text), INT64_MAX / 4, &ms) < 0)
        return cli_fail(CLI_USAGE, "--timeout takes a duration such as 90s or 2h");
    bulk->end_mono_ms = clock_mono_ms() + ms;
    return CLI_DONE;
}

static int take_key(struct bulk *bulk, const char *key)
{
    if (key[0] == '\0' || strlen(key) > KEY_BYTES_MAX || !text_is_utf8(key, strlen(key)))
        return cli_fail(CLI_USAGE, "--idempotency-key takes 1 to %d bytes of text", KEY_BYTES_MAX);
    snprintf(bulk->run_key, sizeof(bulk->run_key), "%s", key);
    return CLI_DONE;
}

static int take_options(int argc, char **argv, struct bulk *bulk, struct files *files)
{
    int option, status = CLI_DONE;

    while (status == CLI_DONE &&
           (option = getopt_long(argc, argv, "o:Onp:k:t:", options, NULL)) != -1) {
        if (option == 'o')
            files->out = optarg;
        else if (option == 'O')
            bulk->is_ordered = true;
        else if (option == 'n')
            bulk->must_wait = false;
        else if (option == 'p')
            bulk->priority = optarg;
        else if (option == 'k')
            status = take_key(bulk, optarg);
        else if (option == 't')
            status = take_timeout(bulk, optarg);
        else
            status = cli_bad_option(argv[0]);
    }
    if (status == CLI_DONE && argc - optind != 1)
        status = cli_fail(CLI_USAGE, "bulk needs one input file, or - for the standard input");
    if (status == CLI_DONE)
        files->in = argv[optind];
    return status;
}

static bool is_same_file(int fd, const char *path)
{
    struct stat one, other;

    return fstat(fd, &one) == 0 && stat(path, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino && S_ISREG(one.st_mode);
}

static int open_files(struct bulk *bulk, struct files *files)
{
    bool is_stdout = !files->out || strcmp(files->out, "-") == 0;

    files->in_fd =
        strcmp(files->in, "-") == 0 ? STDIN_FILENO : open(files->in, O_RDONLY | O_CLOEXEC);
    if (files->in_fd < 0)
        return cli_fail(CLI_USAGE, "cannot open %s: %s", files->in, strerror(errno));
    if (!is_stdout && is_same_file(files->in_fd, files->out))
        return cli_fail(CLI_USAGE, "%s is the input: writing to it would destroy it", files->out);
    files->out_file = is_stdout ? stdout : fopen(files->out, "wbe");
    if (!files->out_file)
        return cli_fail(CLI_USAGE, "cannot write %s: %s", files->out, strerror(errno));
    bulk->out = files->out_file;
    line_reader_init(&bulk->input, files->in_fd, BULK_LINE_BYTES_MAX);
    buf_init(&bulk->chunk.body, BULK_CHUNK_BYTES + BULK_LINE_BYTES_MAX + 4096);
    progress_start(&bulk->progress, bulk->cli, "bulk", 0);
    /* A bar between results on one screen helps nobody. */
    if (is_stdout && isatty(STDOUT_FILENO))
        bulk->progress.is_on = false;
    return CLI_DONE;
}

static int close_files(struct files *files)
{
    int status = CLI_DONE;

    if (files->in_fd > STDERR_FILENO)
        close(files->in_fd);
    if (files->out_file && (files->out_file == stdout ? fflush(stdout) : fclose(files->out_file)))
        status = cli_fail(CLI_FAILED, "cannot write the results: %s", strerror(errno));
    return status;
}

/* ---- the loop -----------------------------------------------------------------------------------
 */

static void print_refused(const struct bulk *bulk, const struct bulk_item *item)
{
    const char *error = item->error ? item->error : "null";
    struct jdoc *doc = NULL;

    if (bulk->cli->is_json)
        fprintf(bulk->out, "{\"line\": %lld, \"error\": %s}\n", (long long)item->line, error);
    else if (jdoc_parse(error, strlen(error), &doc, NULL) == 0)
        cli_fail(CLI_FAILED, "line %lld: %s (%s)", (long long)item->line,
                 terminal_text(jdoc_root(doc), "message"), terminal_text(jdoc_root(doc), "code"));
    jdoc_destroy(doc);
}

/* Without waiting: what became of each line, in order. Ids alone can go to `penstock wait`. */
static int print_accepted(struct bulk *bulk)
{
    for (; bulk->first < bulk->next; bulk_drop_written(bulk)) {
        struct bulk_item *item = bulk_item_at(bulk, bulk->first);
        if (item->phase == BULK_SENDING)
            break;
        if (item->phase == BULK_REFUSED)
            print_refused(bulk, item);
        else if (bulk->cli->is_json)
            fprintf(bulk->out, "{\"line\": %lld, \"id\": \"%s\"}\n", (long long)item->line,
                    item->id);
        else
            fprintf(bulk->out, "%s\n", item->id);
        free(item->custom_id);
        free(item->error);
        item->custom_id = item->error = NULL;
        item->phase = BULK_WRITTEN;
    }
    if (ferror(bulk->out))
        return cli_fail(CLI_FAILED, "cannot write the ids: %s", strerror(errno));
    return CLI_DONE;
}

/* Refused lines have no result to wait for. */
static int write_refused(struct bulk *bulk)
{
    int64_t left = bulk->refused_rows;
    int status = CLI_DONE;

    if (bulk->is_ordered)
        return bulk_write_rows(bulk, NULL, 0);
    bulk->refused_rows = 0;
    for (int64_t at = bulk->first; left > 0 && at < bulk->next && status == CLI_DONE; at++) {
        struct bulk_item *item = at >= bulk->first ? bulk_item_at(bulk, at) : NULL;
        if (!item || item->phase != BULK_REFUSED)
            continue;
        left--;
        status = bulk_write_rows(bulk, &item, 1);
    }
    return status;
}

static int rest(struct bulk *bulk)
{
    bool can_read = !bulk->has_read_all && bulk->chunk.count == 0 && bulk_has_room(bulk);

    if (client_is_interrupted(cli_client(bulk->cli)))
        return CLI_INTERRUPTED;
    if (bulk->first == bulk->next || !bulk->must_wait) {
        /* Nothing is on its way: for more input, or for the server to take it. */
        return client_pause_or_input(cli_client(bulk->cli), can_read ? bulk->input.fd : -1, REST_MS)
                   ? CLI_INTERRUPTED
                   : CLI_DONE;
    }
    return bulk_collect_hold(bulk);
}

static bool is_done(const struct bulk *bulk)
{
    return bulk->has_read_all && bulk->chunk.count == 0 && bulk->first == bulk->next;
}

static int run(struct bulk *bulk)
{
    int status = CLI_DONE;

    bulk->progress_mono_ms = clock_mono_ms();
    while (status == CLI_DONE) {
        bool moved = false;
        status = bulk_send_step(bulk, &moved);
        if (status == CLI_DONE && !bulk->must_wait)
            status = print_accepted(bulk);
        else if (status == CLI_DONE)
            status = write_refused(bulk);
        if (status == CLI_DONE && bulk->must_wait)
            status = bulk_collect_step(bulk, &moved);
        if (status != CLI_DONE || is_done(bulk))
            break;
        if (bulk->end_mono_ms > 0 && clock_mono_ms() >= bulk->end_mono_ms)
            return cli_fail(CLI_TIMEOUT, "not everything has ended in time");
        if (!moved)
            status = rest(bulk);
        else if (client_is_interrupted(cli_client(bulk->cli)))
            status = CLI_INTERRUPTED;
    }
    return status;
}

/* ---- the command --------------------------------------------------------------------------------
 */

static void summarize(const struct bulk *bulk, double seconds)
{
    struct buf text = {.size_max = 4096};

    if (!bulk->cli->is_quiet &&
        bulk_stats_put(&bulk->stats, seconds, bulk->cli->is_json, &text) == 0)
        fputs(text.data, stderr);
    buf_deinit(&text);
}

/* Cut short: what was sent goes on without us, and can be picked up again. */
static void tell_how_to_go_on(const struct bulk *bulk, const struct files *files)
{
    int64_t written = bulk->stats.lines - (bulk->next - bulk->first);

    if (bulk->stats.lines == 0 || strcmp(files->in, "-") == 0)
        return;
    cli_fail(CLI_FAILED,
             "%lld of %lld lines read are done; jobs that were sent go on. Run the same again with "
             "--idempotency-key %s: nothing is sent twice",
             (long long)written, (long long)bulk->stats.lines, bulk->run_key);
}

static int bulk_run(struct bulk *bulk, struct files *files)
{
    int64_t begin_ms = clock_mono_ms();
    int status;

    cli_catch_interrupt(bulk->cli);
    status = run(bulk);
    progress_end(&bulk->progress);
    if (status == CLI_DONE && bulk->must_wait)
        summarize(bulk, (double)(clock_mono_ms() - begin_ms) / 1000.0);
    if (status != CLI_DONE)
        tell_how_to_go_on(bulk, files);
    else if (bulk->stats.failed > 0 || bulk->stats.refused > 0)
        status = CLI_FAILED;
    return status;
}

int cli_bulk(struct cli *cli, int argc, char **argv)
{
    struct files files = {.in_fd = -1};
    struct bulk *bulk = calloc(1, sizeof(*bulk));
    int status, closed;

    if (!bulk)
        return cli_fail(CLI_FAILED, "out of memory");
    bulk->cli = cli;
    bulk->must_wait = true;
    snprintf(bulk->run_key, sizeof(bulk->run_key), "bulk-%016llx%016llx",
             (unsigned long long)digest_random_u64(), (unsigned long long)digest_random_u64());
    status = take_options(argc, argv, bulk, &files);
    if (status == CLI_DONE)
        status = open_files(bulk, &files);
    if (status == CLI_DONE)
        status = bulk_run(bulk, &files);
    closed = close_files(&files);
    bulk_deinit(bulk);
    free(bulk);
    return status == CLI_DONE ? closed : status;
}
