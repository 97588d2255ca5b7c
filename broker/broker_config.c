#include "broker/broker_config.h"

#include <getopt.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/text.h"

enum { CHILDREN_MAX = 1024, FD_MAX = 1 << 20 };

const char broker_usage[] =
    "usage: penstock-broker [--config FILE] [--ready-fd N]\n"
    "       penstock-broker [--config FILE] --check-config | --print-config\n"
    "       penstock-broker --version | --help\n"
    "\n"
    "Takes LLM jobs over HTTP and keeps them in Redis.\n"
    "\n"
    "  --config FILE    read FILE instead of $PENSTOCK_CONFIG, ./penstock.yaml,\n"
    "                   /etc/penstock/penstock.yaml\n"
    "  --check-config   check the configuration and leave: 0 when it is right, 2 when not\n"
    "  --print-config   print the configuration with all defaults filled in\n"
    "  --ready-fd N     write \"ready PORT METRICS_PORT\" to descriptor N once it serves\n"
    "\n"
    "SIGTERM and SIGINT stop it within 10 s (a second one at once); SIGHUP reads the keys file "
    "and\n"
    "the log level again. Exit codes: 0 done, 1 failed, 2 wrong configuration.\n";

static int parse_number(const char *name, const char *text, int max, int *out,
                        struct error_text *why)
{
    int64_t number;

    if (text_parse_i64(text, strlen(text), 0, max, &number) != 0)
        return error_set(why, ERR_INVALID, "--%s: \"%s\" is not a number from 0 to %d", name, text,
                         max);
    *out = (int)number;
    return 0;
}

int broker_arguments_parse(int argc, char **argv, struct broker_arguments *out,
                           struct error_text *why)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'k'},
        {"print-config", no_argument, NULL, 'p'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {"ready-fd", required_argument, NULL, 'r'},
        {"child", required_argument, NULL, 'n'},  {NULL, 0, NULL, 0}};
    struct broker_arguments found = {.ready_fd = -1, .child = -1};
    int status = 0;
    int option;

    optind = 1;
    opterr = 0;
    while (status == 0 && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c')
            found.config_path = optarg;
        else if (option == 'k')
            found.mode = BROKER_CHECK;
        else if (option == 'p')
            found.mode = BROKER_PRINT;
        else if (option == 'v')
            found.mode = BROKER_VERSION;
        else if (option == 'h')
            found.mode = BROKER_HELP;
        else if (option == 'r')
            status = parse_number("ready-fd", optarg, FD_MAX, &found.ready_fd, why);
        else if (option == 'n')
            status = parse_number("child", optarg, CHILDREN_MAX, &found.child, why);
        else
            status = error_set(why, ERR_INVALID, "%s: not an option, or its value is missing",
                               argv[optind - 1]);
    }
    if (status == 0 && optind < argc)
        status = error_set(why, ERR_INVALID, "%s: no arguments are expected", argv[optind]);
    if (status == 0)
        *out = found;
    return status;
}

static enum log_level level_of(const struct settings *settings)
{
    const char *level = settings->log.level;

    if (strcmp(level, "error") == 0)
        return LOG_ERROR;
    if (strcmp(level, "warn") == 0)
        return LOG_WARN;
    return strcmp(level, "debug") == 0 ? LOG_DEBUG : LOG_INFO;
}

void broker_start_log(const struct settings *settings, const char *process)
{
    log_init(process, level_of(settings),
             strcmp(settings->log.format, "json") == 0 ? LOG_JSON : LOG_TEXT);
}

void broker_set_log_level(const struct settings *settings)
{
    log_set_level(level_of(settings));
}
