/* queues, workers, top: the fleet as it is. */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/client.h"
#include "broker/cli/terminal.h"
#include "common/base/text.h"

struct page {
    struct client_answer answer;
    struct jdoc *doc;
};

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

/* ---- tables -------------------------------------------------------------------------------------
 */

static void print_queues(const struct cli *cli, const struct jval *rows)
{
    printf("%-32s %-8s %9s %9s %9s %10s %8s\n", "ROUTE", "STATE", "WAITING", "RUNNING", "OLDEST",
           "DONE/s", "FAILED");
    for (size_t i = 0; i < jval_count(rows); i++) {
        const struct jval *row = jval_at(rows, i);
        bool is_paused = false;
        char oldest[32] = "-";
        if (terminal_has(row, "oldest_age_ms"))
            terminal_duration(terminal_number(row, "oldest_age_ms") / 1000, oldest);
        if (jval_bool(jval_get(row, "paused"), &is_paused) < 0)
            is_paused = false;
        terminal_put_member(row, "route", 32);
        putchar(' ');
        terminal_state(cli, is_paused ? "paused" : "open", 8);
        printf(" %9.0f %9.0f %9s %10.1f %8.0f\n", terminal_number(row, "depth"),
               terminal_number(row, "in_flight"), oldest,
               terminal_number(jval_get(row, "rates"), "finished_per_second"),
               terminal_number(jval_get(row, "totals"), "failed"));
    }
}

static void print_upstream(const struct cli *cli, const struct jval *upstream)
{
    fputs("    ", stdout);
    terminal_put_member(upstream, "name", 24);
    putchar(' ');
    terminal_state(cli, terminal_text(upstream, "state"), 9);
    printf(" %6.0f / %-6.0f %9.0f calls %.0f errors, %.1f ms\n",
           terminal_number(upstream, "in_flight"), terminal_number(upstream, "concurrency"),
           terminal_number(upstream, "calls"), terminal_number(upstream, "errors"),
           terminal_number(upstream, "latency_ms"));
}

static void print_workers(const struct cli *cli, const struct jval *rows)
{
    printf("%-20s %8s %-9s %15s %9s %10s %10s\n", "HOST", "PID", "STATE", "IN FLIGHT", "SUCCEEDED",
           "FAILED", "MEMORY");
    for (size_t i = 0; i < jval_count(rows); i++) {
        const struct jval *row = jval_at(rows, i);
        const struct jval *upstreams = jval_get(row, "upstreams");
        char memory[32];
        terminal_bytes(terminal_number(row, "rss_bytes"), memory);
        terminal_put_member(row, "host", 20);
        printf(" %8.0f ", terminal_number(row, "pid"));
        terminal_state(cli, terminal_text(row, "state"), 9);
        printf(" %6.0f / %-6.0f %9.0f %10.0f %10s\n", terminal_number(row, "in_flight"),
               terminal_number(row, "inflight_max"), terminal_number(row, "succeeded"),
               terminal_number(row, "failed"), memory);
        for (size_t u = 0; u < jval_count(upstreams); u++)
            print_upstream(cli, jval_at(upstreams, u));
    }
    if (jval_count(rows) == 0)
        puts("no worker is running: jobs wait");
}

/* ---- queues, workers ----------------------------------------------------------------------------
 */

static int show_table(struct cli *cli, const char *path,
                      void (*print)(const struct cli *cli, const struct jval *rows))
{
    struct page page = {0};
    int status = client_get(cli, path, &page.answer, &page.doc);

    if (status == CLI_DONE && cli->is_json)
        print_page(&page);
    else if (status == CLI_DONE)
        print(cli, page_rows(&page));
    page_deinit(&page);
    return status;
}

static int act_on_queue(struct cli *cli, const char *verb, const char *route)
{
    struct page page = {0};
    char encoded[1024], path[1200];
    struct client_request request = {.method = "POST", .path = path};

    if (strcmp(verb, "pause") != 0 && strcmp(verb, "resume") != 0)
        return cli_fail(CLI_USAGE, "queues takes pause ROUTE or resume ROUTE");
    if (route[0] == '\0' || text_percent_encode(route, strlen(route), encoded, sizeof(encoded)) < 0)
        return cli_fail(CLI_USAGE, "the route's name is empty or too long");
    snprintf(path, sizeof(path), "/v1/queues/%s/%s", encoded, verb);
    int status = client_json(cli, &request, 10000, &page.answer, &page.doc);
    if (status == CLI_DONE && cli->is_json)
        print_page(&page);
    page_deinit(&page);
    return status;
}

int cli_queues(struct cli *cli, int argc, char **argv)
{
    if (argc == 3)
        return act_on_queue(cli, argv[1], argv[2]);
    if (argc != 1)
        return cli_fail(CLI_USAGE, "queues takes nothing, pause ROUTE or resume ROUTE");
    return show_table(cli, "/v1/queues", print_queues);
}

int cli_workers(struct cli *cli, int argc, char **argv)
{
    (void)argv;
    if (argc != 1)
        return cli_fail(CLI_USAGE, "workers takes nothing");
    return show_table(cli, "/v1/workers", print_workers);
}

/* ---- top ----------------------------------------------------------------------------------------
 */

static int draw_top(struct cli *cli, bool must_clear)
{
    struct page queues = {0}, workers = {0};
    int status = client_get(cli, "/v1/queues", &queues.answer, &queues.doc);

    if (status == CLI_DONE)
        status = client_get(cli, "/v1/workers", &workers.answer, &workers.doc);
    if (status == CLI_DONE && cli->is_json) {
        printf("{\"queues\": %.*s, \"workers\": %.*s}\n", (int)queues.answer.body.size,
               queues.answer.body.data, (int)workers.answer.body.size, workers.answer.body.data);
    } else if (status == CLI_DONE) {
        if (must_clear)
            fputs("\x1b[H\x1b[2J", stdout);
        printf("penstock %s   %s\n\n", PENSTOCK_VERSION, cli->url);
        print_queues(cli, page_rows(&queues));
        putchar('\n');
        print_workers(cli, page_rows(&workers));
    }
    if (fflush(stdout) != 0 && status == CLI_DONE)
        status = CLI_FAILED;
    page_deinit(&queues);
    page_deinit(&workers);
    return status;
}

/* A second, or q, or Ctrl-C; false: it shall end. */
static bool await_key(const struct cli *cli, bool *has_keys)
{
    struct pollfd fds[] = {{.fd = cli->interrupt_fd, .events = POLLIN},
                           {.fd = *has_keys ? STDIN_FILENO : -1, .events = POLLIN}};
    char key = 0;

    poll(fds, 2, 1000);
    if (fds[0].revents)
        return false;
    if (fds[1].revents && read(STDIN_FILENO, &key, 1) <= 0)
        *has_keys = false;
    return key != 'q' && key != 'Q';
}

static int run_top(struct cli *cli)
{
    struct termios before, keys;
    bool has_keys = true;
    bool is_tty = tcgetattr(STDIN_FILENO, &before) == 0;
    int status;

    cli_catch_interrupt(cli);
    if (is_tty) { /* keys count without Enter and are not shown */
        keys = before;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    }
    do {
        status = draw_top(cli, true);
    } while (status == CLI_DONE && await_key(cli, &has_keys));
    if (is_tty)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return status == CLI_INTERRUPTED ? CLI_DONE : status;
}

int cli_top(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {{"once", no_argument, NULL, '1'}, {0}};
    bool is_once = !isatty(STDOUT_FILENO) || cli->is_json;
    int option;

    while ((option = getopt_long(argc, argv, "1", options, NULL)) != -1) {
        if (option != '1')
            return cli_bad_option(argv[0]);
        is_once = true;
    }
    if (optind < argc)
        return cli_fail(CLI_USAGE, "top takes no arguments");
    return is_once ? draw_top(cli, false) : run_top(cli);
}
