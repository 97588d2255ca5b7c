/* penstock-broker: reads the command line and the settings, then is the parent. A program of its
 * own beside its children, so that the process which must never fail holds neither their memory nor
 * their libraries. */
#include <stdio.h>

#include "broker/broker_config.h"
#include "broker/broker_parent.h"
#include "common/base/process.h"
#include "common/base/settings.h"
#include "common/base/version.h"

static int print(const struct settings *settings)
{
    struct buf text;
    int code = PROCESS_EXIT_FAILED;

    buf_init(&text, 1024 * 1024);
    if (settings_print(settings, &text) == 0 &&
        fwrite(text.data, 1, text.size, stdout) == text.size && fflush(stdout) == 0)
        code = PROCESS_EXIT_DONE;
    buf_deinit(&text);
    return code;
}

static int run(const struct broker_arguments *arguments, const struct settings *settings)
{
    char child_path[PROCESS_PATH_SIZE];
    struct error_text why = {""};

    switch (arguments->mode) {
    case BROKER_CHECK:
        (void)printf("configuration is right\n");
        return fflush(stdout) == 0 ? PROCESS_EXIT_DONE : PROCESS_EXIT_FAILED;
    case BROKER_PRINT:
        return print(settings);
    case BROKER_SERVE:
        break;
    case BROKER_VERSION:
    case BROKER_HELP:
        return PROCESS_EXIT_FAILED; /* answered before there were settings */
    }
    if (process_find_beside("penstock-broker-child", child_path, &why) < 0) {
        (void)fprintf(stderr, "penstock-broker: %s\n", why.text);
        return PROCESS_EXIT_SETUP;
    }
    return broker_parent_run(arguments, settings, child_path);
}

int main(int argc, char **argv)
{
    struct broker_arguments arguments;
    struct settings *settings = NULL;
    struct error_text why = {0};

    process_setup();
    if (broker_arguments_parse(argc, argv, &arguments, &why) != 0) {
        (void)fprintf(stderr, "penstock-broker: %s\n%s", why.text, broker_usage);
        return PROCESS_EXIT_SETUP;
    }
    if (arguments.child >= 0) {
        (void)fputs("penstock-broker: --child is for penstock-broker-child\n", stderr);
        return PROCESS_EXIT_SETUP;
    }
    if (arguments.mode == BROKER_VERSION || arguments.mode == BROKER_HELP) {
        (void)fputs(arguments.mode == BROKER_HELP ? broker_usage
                                                  : "penstock-broker " PENSTOCK_VERSION "\n",
                    stdout);
        return fflush(stdout) == 0 ? PROCESS_EXIT_DONE : PROCESS_EXIT_FAILED;
    }
    if (settings_load(arguments.config_path, &settings, &why) != 0) {
        (void)fprintf(stderr, "penstock-broker: %s\n", why.text);
        return PROCESS_EXIT_SETUP;
    }
    int code = run(&arguments, settings);
    settings_destroy(settings);
    return code;
}
