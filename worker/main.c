/* penstock-worker: reads its arguments and becomes the supervisor. It is a program of its own
 * beside its children so that the process which must never fail holds neither their memory nor
 * their libraries. */
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/process.h"
#include "common/base/text.h"
#include "common/base/version.h"
#include "worker/providers/provider.h"
#include "worker/supervise/parent.h"
#include "worker/worker_config.h"

enum { PRINT_SIZE_MAX = 4 * 1024 * 1024, FD_MAX = 1 << 20 };

struct arguments {
    const char *config_path;
    int ready_fd;
    bool checks_config;
    bool prints_config;
};

static const char usage[] =
    "Usage: penstock-worker [OPTION]...\n"
    "Takes jobs from the queue to their upstreams.\n"
    "\n"
    "  --config FILE    configuration (else $PENSTOCK_CONFIG, ./penstock.yaml,\n"
    "                   /etc/penstock/penstock.yaml)\n"
    "  --check-config   say whether the configuration is right, and exit\n"
    "  --print-config   print the whole configuration as it counts, and exit\n"
    "  --ready-fd N     write \"ready\" to this descriptor once all processes run\n"
    "  --version        print the version, and exit\n"
    "  --help           print this, and exit\n"
    "\n"
    "Signals: TERM or INT drains and exits, a second one hands back at once; HUP reads\n"
    "the configuration again. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.\n";

/* 0: go on; 1: done; negative: wrong. */
static int read_arguments(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check-config", no_argument, NULL, 'k'},
                                            {"print-config", no_argument, NULL, 'p'},
                                            {"ready-fd", required_argument, NULL, 'r'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int64_t number;
    int option;

    *out = (struct arguments){.ready_fd = -1};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->config_path = optarg;
            break;
        case 'k':
            out->checks_config = true;
            break;
        case 'p':
            out->prints_config = true;
            break;
        case 'r':
            if (text_parse_i64(optarg, strlen(optarg), 0, FD_MAX, &number) < 0) {
                (void)fprintf(stderr, "penstock-worker: --ready-fd: not a descriptor: %s\n",
                              optarg);
                return ERR_INVALID;
            }
            out->ready_fd = (int)number;
            break;
        case 'v':
            (void)printf("penstock-worker %s\n", PENSTOCK_VERSION);
            return 1;
        case 'h':
            (void)fputs(usage, stdout);
            return 1;
        default:
            return ERR_INVALID;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "penstock-worker: unexpected argument: %s\n", argv[optind]);
        return ERR_INVALID;
    }
    return 0;
}

/* What the settings alone cannot know. */
static int check_settings(const struct settings *settings, struct worker_layout *layout,
                          struct error_text *why)
{
    for (unsigned i = 0; i < settings->upstreams_count; i++)
        if (!provider_find(settings->upstreams[i].kind))
            return error_set(why, ERR_INVALID,
                             "upstream %s: this version does not speak its kind's dialect",
                             settings->upstreams[i].name);
    return worker_config_layout(settings, worker_config_count_cores(), worker_config_count_gpus(),
                                layout, why);
}

static int open_config(const char *path, struct settings **out, int *out_fd,
                       struct worker_layout *layout, struct error_text *why)
{
    struct settings *settings;
    int fd;

    int status = worker_config_open(path, &settings, &fd, why);
    if (status < 0)
        return status;
    status = check_settings(settings, layout, why);
    if (status < 0) {
        settings_destroy(settings);
        (void)close(fd);
        return status;
    }
    *out = settings;
    *out_fd = fd;
    return 0;
}

static int stop_timeout_ms(const struct settings *settings)
{
    return settings->worker.drain_timeout_ms + WORKER_STOP_GRACE_MS;
}

static int on_reload(struct parent_plan *out, void *arg)
{
    const struct arguments *arguments = arg;
    struct settings *settings;
    struct worker_layout layout;
    struct error_text why = {""};
    int fd;

    int status = open_config(arguments->config_path, &settings, &fd, &layout, &why);
    if (status < 0) {
        log_event(LOG_ERROR, "reload_refused", LOG_S("reason", why.text));
        return status;
    }
    log_set_level(worker_config_log_level(settings));
    *out = (struct parent_plan){.config_fd = fd, .stop_timeout_ms = stop_timeout_ms(settings)};
    settings_destroy(settings);
    return 0;
}

static int print_config(const struct settings *settings)
{
    struct buf text = {.size_max = PRINT_SIZE_MAX};

    int status = settings_print(settings, &text);
    if (status == 0 && text.size > 0 && fwrite(text.data, 1, text.size, stdout) != text.size)
        status = ERR_IO;
    buf_deinit(&text);
    if (fflush(stdout) != 0 || status < 0) {
        (void)fprintf(stderr, "penstock-worker: cannot print the configuration\n");
        return PROCESS_EXIT_FAILED;
    }
    return PROCESS_EXIT_DONE;
}

static int supervise(struct arguments *arguments, const struct settings *settings, int config_fd,
                     const struct worker_layout *layout)
{
    char child_path[PROCESS_PATH_SIZE];
    struct error_text why = {""};

    if (process_find_beside("penstock-worker-child", child_path, &why) < 0) {
        (void)fprintf(stderr, "penstock-worker: %s\n", why.text);
        return PROCESS_EXIT_SETUP;
    }
    struct parent_options options = {
        .child_path = child_path,
        .children_count = layout->children_count,
        .gpu_ids = layout->has_gpus ? layout->gpu_ids : NULL,
        .plan = {.config_fd = config_fd, .stop_timeout_ms = stop_timeout_ms(settings)},
        .ready_fd = arguments->ready_fd,
        .on_reload = on_reload,
        .arg = arguments,
    };

    log_init("worker", worker_config_log_level(settings), worker_config_log_format(settings));
    (void)malloc_trim(0); /* what reading the configuration took */
    return parent_run(&options);
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct settings *settings;
    struct worker_layout layout;
    struct error_text why = {""};
    int config_fd;

    int status = read_arguments(argc, argv, &arguments);
    if (status != 0)
        return status < 0 ? PROCESS_EXIT_SETUP : PROCESS_EXIT_DONE;
    process_setup();
    status = open_config(arguments.config_path, &settings, &config_fd, &layout, &why);
    if (status < 0) {
        (void)fprintf(stderr, "penstock-worker: %s\n", why.text);
        return PROCESS_EXIT_SETUP;
    }
    if (arguments.checks_config || arguments.prints_config) {
        status = arguments.prints_config ? print_config(settings) : PROCESS_EXIT_DONE;
        if (arguments.checks_config && !arguments.prints_config)
            (void)puts("penstock-worker: the configuration is right");
        (void)close(config_fd);
    } else {
        status = supervise(&arguments, settings, config_fd, &layout);
    }
    settings_destroy(settings);
    return status;
}
