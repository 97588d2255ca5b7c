/* `penstock doctor`: cmd_doctor.c looks at what is configured here, doctor_store.c at Redis and
 * what lives in it. */
#ifndef PENSTOCK_CLI_DOCTOR_H
#define PENSTOCK_CLI_DOCTOR_H

#include "broker/cli/cli.h"
#include "common/base/settings.h"

enum doctor_state { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_PROBLEM };

struct doctor {
    struct cli *cli;
    struct settings *settings;
    const char *config_path; /* of the file that counts, NULL: none */
    char url[512];           /* where the broker should be */
    bool has_broker;         /* something answers there */
    unsigned checks, warnings, problems;
};

/* One line: what was looked at and what was found. */
PRINTF_LIKE(4, 5)
void doctor_say(struct doctor *doctor, enum doctor_state state, const char *check,
                const char *format, ...);
/* Redis and its settings, the fleet, the queue's invariants. */
void doctor_check_store(struct doctor *doctor);

#endif
