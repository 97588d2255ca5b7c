/* What commands on single jobs share: where a job is, how it is shown, what its end means. */
#ifndef PENSTOCK_CLI_JOB_PRINT_H
#define PENSTOCK_CLI_JOB_PRINT_H

#include "broker/cli/cli.h"
#include "common/base/jdoc.h"

enum { CLI_PATH_SIZE = 1024 };

/* "/v1/jobs/ID" and the rest. Ids come from people: whatever they are, they stay one segment.
 * CLI_DONE or CLI_USAGE. */
MUST_CHECK int cli_job_path(char path[CLI_PATH_SIZE], const char *id, const char *rest);
/* A line or two for people. */
void cli_print_job(const struct cli *cli, const struct jval *job);
/* CLI_FAILED for jobs that failed, expired or were cancelled, else CLI_DONE. */
int cli_status_of(const struct jval *job);

#endif
