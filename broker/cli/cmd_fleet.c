/* queues, workers, top: the fleet as it is. */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/text.h"

struct page {
    struct client_answer answer;
    struct jdoc *doc;
};

static int page_load(struct cli *cli, const char *path, struct page *page)
{
    return client_json(cli, "GET", path, (struct slice){0}, &page->answer, &page->doc);
}

static const struct jval *page_rows(const struct page *page)
{
    return jval_get(jdoc_root(page->doc), "data");
}

static void page_deinit(struct page *page)
{
    jdoc_destroy(page->doc);
    client_answer_deinit(&page->answer);
}

static void print_page(const struct page *page)
{
    printf("%.*s\n", (int)page->answer.body.size, page->answer.body.data);
}

static void print_queues(const struct cli *cli, const struct jval *rows)
{
    printf("%-32s %-8s %9s %9s %9s %10s %8s\n", "ROUTE", "STATE", "WAITING", "RUNNING", "OLDEST",
           "DONE/s", "FAILED");
    for (size_t i = 0; i < jval_count(rows); i++) {
        const struct jval *row = jval_at(rows, i);
        bool is_paused = false;
        char oldest[32] = "-";
        if (terminal_number(row, "oldest_age_s") > 0)
            terminal_duration(terminal_number(row, "oldest_age_s"), oldest);
        (void)!jval_bool(jval_get(row, "paused"), &is_paused);
        printf("%-32.32s ", terminal_text(row, "route"));
        terminal_state(cli, is_paused ? "paused" : "open", 8);
        printf(" %9.0f %9.0f %9s %10.1f %8.0f\n", terminal_number(row, "depth"),
               terminal_number(row, "in_flight"), oldest,
               terminal_number(row, "finished_per_second"), terminal_number(row, "failed"));
    }
}

static void print_workers(const struct cli *cli, const struct jval *rows)
{
    printf("%-20s %8s %-9s %14s %10s %10s %9s\n", "HOST", "PID", "STATE", "IN FLIGHT", "SUCCEEDED",
           "FAILED", "MEMORY");
    for (size_t i = 0; i < jval_count(rows); i++) {
        const struct jval *row = jval_at(rows, i);
        const struct jval *upstreams = jval_get(row, "upstreams");
        char memory[32];
        terminal_bytes(terminal_number(row, "rss_bytes"), memory);
        printf("%-20.20s %8.0f ", terminal_text(row, "host"), terminal_number(row, "pid"));
        terminal_state(cli, terminal_text(row, "state"), 9);
        printf(" %6.0f / %-6.0f %9.0f %10.0f %10s\n", terminal_number(row, "in_flight"),
               terminal_number(row, "inflight_max"), terminal_number(row, "succeeded"),
               terminal_number(row, "failed"), memory);
        for (size_t u = 0; u < jval_count(upstreams); u++) {
            const struct jval *upstream = jval_at(upstreams, u);
            printf("    %-24.24s ", terminal_text(upstream, "name"));
            terminal_state(cli, terminal_text(upstream, "state"), 9);
            printf(" %6.0f / %-6.0f %9.0f calls %.0f errors, %.1f ms\n",
                   terminal_number(upstream, "in_flight"), terminal_number(upstream, "concurrency"),
                   terminal_number(upstream, "calls"), terminal_number(upstream, "errors"),
                   terminal_number(upstream, "latency_ms"));
        }
    }
}

static int act_on_queue(struct cli *cli, const char *verb, const char *route)
{
    struct page page = {0};
    char encoded[1024], path[1200];
    int status;

    if (strcmp(verb, "pause") != 0 && strcmp(verb, "resume") != 0)
        return cli_fail(CLI_USAGE, "queues takes pause ROUTE or resume ROUTE");
    if (text_percent_encode(route, strlen(route), encoded, sizeof(encoded)) < 0)
        return cli_fail(CLI_USAGE, "the route's name is too long");
    snprintf(path, sizeof(path), "/v1/queues/%s/%s", encoded, verb);
    status = client_json(cli, "POST", path, (struct slice){0}, &page.answer, &page.doc);
    if (status == CLI_DONE && cli->is_json)
        print_page(&page);
    page_deinit(&page);
    return status;
}

int cli_queues(struct cli *cli, int argc, char **argv)
{
    struct page page = {0};
    int status;

    if (argc == 3)
        return act_on_queue(cli, argv[1], argv[2]);
    if (argc != 1)
        return cli_fail(CLI_USAGE, "queues takes nothing, pause ROUTE or resume ROUTE");
    status = page_load(cli, "/v1/queues", &page);
    if (status == CLI_DONE && cli->is_json)
        print_page(&page);
    else if (status == CLI_DONE)
        print_queues(cli, page_rows(&page));
    page_deinit(&page);
    return status;
}

int cli_workers(struct cli *cli, int argc, char **argv)
{
    struct page page = {0};
    int status;

    (void)argv;
    if (argc != 1)
        return cli_fail(CLI_USAGE, "workers takes nothing");
    status = page_load(cli, "/v1/workers", &page);
    if (status == CLI_DONE && cli->is_json)
        print_page(&page);
    else if (status == CLI_DONE)
        print_workers(cli, page_rows(&page));
    page_deinit(&page);
    return status;
}

static int draw_top(struct cli *cli, bool must_clear)
{
    struct page queues = {0}, workers = {0};
    int status = page_load(cli, "/v1/queues", &queues);

    if (status == CLI_DONE)
        status = page_load(cli, "/v1/workers", &workers);
    if (status == CLI_DONE && cli->is_json) {
        printf("{\"queues\": %.*s, \"workers\": %.*s}\n", (int)queues.answer.body.size,
               queues.answer.body.data, (int)workers.answer.body.size, workers.answer.body.data);
    } else if (status == CLI_DONE) {
        if (must_clear)
            printf("\x1b[H\x1b[2J");
        printf("penstock %s   %s\n\n", PENSTOCK_VERSION, cli->url);
        print_queues(cli, page_rows(&queues));
        putchar('\n');
        print_workers(cli, page_rows(&workers));
    }
    fflush(stdout);
    page_deinit(&queues);
    page_deinit(&workers);
    return status;
}

int cli_top(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {{"once", no_argument, NULL, '1'}, {0}};
    bool is_once = !isatty(STDOUT_FILENO);
    int option, status;

    while ((option = getopt_long(argc, argv, "1", options, NULL)) != -1) {
        if (option != '1')
            return cli_fail(CLI_USAGE, "see penstock help");
        is_once = true;
    }
    do {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        char key = 0;
        status = draw_top(cli, !is_once);
        /* A second, or a line from the keyboard; q ends it. */
        if (!is_once && poll(&input, 1, 1000) > 0 &&
            (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q'))
            break;
    } while (!is_once && status == CLI_DONE);
    return status;
}
