/* penstock-worker-child: a child of penstock-worker, started by it alone. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/base/process.h"
#include "common/base/text.h"
#include "worker/supervise/supervisor.h"
#include "worker/worker.h"

static int run(const char *which)
{
    const char *slash = strchr(which, '/');
    int64_t child;
    int64_t children;

    if (!slash ||
        text_parse_i64(which, (size_t)(slash - which), 0, SUPERVISOR_CHILDREN_MAX - 1, &child) <
            0 ||
        text_parse_i64(slash + 1, strlen(slash + 1), child + 1, SUPERVISOR_CHILDREN_MAX,
                       &children) < 0) {
        (void)fputs("penstock-worker-child: penstock-worker starts this\n", stderr);
        return PROCESS_EXIT_SETUP;
    }
    struct worker_options options = {.child = (unsigned)child,
                                     .children = (unsigned)children,
                                     .config_fd = process_child_fd("CONFIG"),
                                     .status_fd = process_child_fd("STATUS"),
                                     .tickets_fd = process_child_fd("TICKETS")};
    if (options.config_fd < 0 || options.status_fd < 0 || options.tickets_fd < 0) {
        (void)fputs("penstock-worker-child: penstock-worker starts this\n", stderr);
        return PROCESS_EXIT_SETUP;
    }
    /* The terminal sends these to all of us; the supervisor says what they mean. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    process_child_name("penstock-worker"); /* we were started by a descriptor */
    return worker_run(&options);
}

int main(int argc, char **argv)
{
    process_setup();
    if (argc != 3 || strcmp(argv[1], "--child") != 0) {
        (void)fputs("penstock-worker-child: penstock-worker starts this\n", stderr);
        return PROCESS_EXIT_SETUP;
    }
    return run(argv[2]);
}
