/* penstock-broker-child: a child of penstock-broker, started by it alone. */
#include <stdio.h>

#include "broker/broker.h"
#include "broker/broker_config.h"
#include "common/base/process.h"
#include "common/base/settings.h"

int main(int argc, char **argv)
{
    struct broker_arguments arguments;
    struct settings *settings = NULL;
    struct error_text why = {0};

    process_setup();
    if (broker_arguments_parse(argc, argv, &arguments, &why) != 0 || arguments.child < 0) {
        (void)fputs("penstock-broker-child: penstock-broker starts this\n", stderr);
        return PROCESS_EXIT_SETUP;
    }
    if (settings_load(arguments.config_path, &settings, &why) != 0) {
        (void)fprintf(stderr, "penstock-broker: %s\n", why.text);
        return PROCESS_EXIT_SETUP;
    }
    int code = broker_run(&arguments, settings);
    settings_destroy(settings);
    return code;
}
