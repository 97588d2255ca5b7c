/* keys: edits the keys file of the brokers; they take a change up within 5 seconds. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "broker/cli/cli.h"
#include "broker/cli/terminal.h"
#include "common/base/clock.h"
#include "common/base/keys.h"
#include "common/base/settings.h"
#include "common/base/text.h"

struct keys_run {
    struct cli *cli;
    char path[4096];
    struct keys *keys;
    struct key_wish wish;
    int lock_fd; /* -1: none */
};

enum { LOCK_MS = 10000 };

static const struct option options[] = {{"keys-file", required_argument, NULL, 'f'},
                                        {"admin", no_argument, NULL, 'a'},
                                        {"weight", required_argument, NULL, 'w'},
                                        {"jobs-max", required_argument, NULL, 'j'},
                                        {"bytes-max", required_argument, NULL, 'b'},
                                        {"requests-per-second", required_argument, NULL, 'r'},
                                        {"expires", required_argument, NULL, 'x'},
                                        {0}};

static int take_number(const char *name, int64_t max, int64_t *out)
{
    if (text_parse_size(optarg, strlen(optarg), max, out) < 0)
        return cli_fail(CLI_USAGE, "--%s takes a number up to %lld", name, (long long)max);
    return CLI_DONE;
}

static int take_option(int option, struct keys_run *run)
{
    int64_t number = 0;
    int status = CLI_DONE;

    switch (option) {
    case 'f':
        if (strlen(optarg) >= sizeof(run->path))
            return cli_fail(CLI_USAGE, "the path is too long");
        snprintf(run->path, sizeof(run->path), "%s", optarg);
        return CLI_DONE;
    case 'a':
        run->wish.role = KEY_ADMIN;
        return CLI_DONE;
    case 'w':
        status = take_number("weight", 1000, &number);
        run->wish.weight = (unsigned)number;
        return status;
    case 'j':
        return take_number("jobs-max", INT64_MAX / 2, &run->wish.limits.jobs_max);
    case 'b':
        return take_number("bytes-max", INT64_MAX / 2, &run->wish.limits.bytes_max);
    case 'r':
        return take_number("requests-per-second", 1000000, &run->wish.limits.requests_per_second);
    case 'x':
        if (text_parse_duration_ms(optarg, strlen(optarg), INT64_MAX / 4, &number) < 0)
            return cli_fail(CLI_USAGE, "--expires takes a duration such as 30d");
        run->wish.expires_at_ms = clock_wall_ms() + number;
        return CLI_DONE;
    default:
        return cli_bad_option("keys");
    }
}

/* The file named by --keys-file, else by the configuration. */
static int find_path(struct keys_run *run)
{
    struct settings *settings;
    struct error_text why;

    if (run->path[0] != '\0')
        return CLI_DONE;
    if (settings_load(run->cli->config_path, &settings, &why) < 0)
        return cli_fail(CLI_USAGE, "%s", why.text);
    snprintf(run->path, sizeof(run->path), "%s", settings->auth.keys_file);
    settings_destroy(settings);
    return CLI_DONE;
}

static int load(struct keys_run *run, bool may_be_new)
{
    struct error_text why;
    int status = keys_load(run->path, &run->keys, &why);

    if (status == ERR_NOT_FOUND && may_be_new) {
        run->keys = keys_create();
        return run->keys ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");
    }
    return status < 0 ? cli_fail(CLI_USAGE, "%s", why.text) : CLI_DONE;
}

static int save(struct keys_run *run)
{
    struct error_text why;

    return keys_save(run->keys, run->path, &why) < 0 ? cli_fail(CLI_FAILED, "%s", why.text)
                                                     : CLI_DONE;
}

static int add(struct keys_run *run, const char *tenant)
{
    char text[KEYS_TEXT_SIZE + 1];
    struct error_text why;
    int status = load(run, true);

    if (status != CLI_DONE)
        return status;
    run->wish.tenant = tenant;
    run->wish.created_at_ms = clock_wall_ms();
    if (keys_generate(run->keys, &run->wish, text, &why) < 0)
        return cli_fail(CLI_USAGE, "%s", why.text);
    status = save(run);
    if (status != CLI_DONE)
        return status;
    const struct key *key = keys_find(run->keys, slice_of(text)); /* they are kept sorted by id */
    CHECK(key != NULL);
    if (run->cli->is_json)
        printf("{\"id\": \"%s\", \"tenant\": \"%s\", \"role\": \"%s\", \"key\": \"%s\"}\n", key->id,
               key->tenant, key_role_word(key->role), text);
    else
        printf("%s\n", text);
    if (!run->cli->is_quiet && !run->cli->is_json)
        fprintf(stderr, "This key of %s is shown this once; %s holds only its hash.\n", tenant,
                run->path);
    return CLI_DONE;
}

static const char *state_of(const struct key *key)
{
    if (key_is_valid(key, clock_wall_ms()))
        return "valid";
    return key->is_disabled ? "disabled" : "expired";
}

/* Names of tenants are plain words: nothing to escape. */
static void print_key_json(const struct key *key)
{
    char expires[32] = "null";

    if (key->expires_at_ms > 0)
        snprintf(expires, sizeof(expires), "%lld", (long long)(key->expires_at_ms / 1000));
    printf("{\"id\": \"%s\", \"tenant\": \"%s\", \"role\": \"%s\", \"state\": \"%s\", "
           "\"weight\": %u, \"jobs_max\": %lld, \"bytes_max\": %lld, "
           "\"requests_per_second\": %lld, \"created_at\": %lld, \"expires_at\": %s}\n",
           key->id, key->tenant, key_role_word(key->role), state_of(key), key->weight,
           (long long)key->limits.jobs_max, (long long)key->limits.bytes_max,
           (long long)key->limits.requests_per_second, (long long)(key->created_at_ms / 1000),
           expires);
}

static int list(struct keys_run *run)
{
    int status = load(run, true);

    for (unsigned i = 0; status == CLI_DONE && i < keys_count(run->keys); i++) {
        const struct key *key = keys_at(run->keys, i);
        if (run->cli->is_json) {
            print_key_json(key);
            continue;
        }
        printf("%s  %-24s %-6s ", key->id, key->tenant, key_role_word(key->role));
        terminal_state(run->cli, state_of(key), 8);
        printf(" weight %u\n", key->weight);
    }
    return status;
}

static int change(struct keys_run *run, const char *verb, const char *id)
{
    int status = load(run, false);

    if (status != CLI_DONE)
        return status;
    int code = strcmp(verb, "remove") == 0
                   ? keys_remove(run->keys, slice_of(id))
                   : keys_set_disabled(run->keys, slice_of(id), strcmp(verb, "disable") == 0);
    return code < 0 ? cli_fail(CLI_NOT_FOUND, "%s holds no key %s", run->path, id) : save(run);
}

/* From reading the file to replacing it nobody else may do the same. The folder is locked: the file
 * itself is replaced. */
static int lock_folder(struct keys_run *run)
{
    char folder[sizeof(run->path)];
    const char *slash = strrchr(run->path, '/');

    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - run->path) + 1 : 1,
             slash ? run->path : ".");
    run->lock_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock_fd < 0)
        return cli_fail(CLI_USAGE, "%s: %s", folder, strerror(errno));
    for (int64_t end_ms = clock_mono_ms() + LOCK_MS; flock(run->lock_fd, LOCK_EX | LOCK_NB) < 0;) {
        if (clock_mono_ms() > end_ms)
            return cli_fail(CLI_FAILED, "%s: somebody else holds its lock", folder);
        poll(NULL, 0, 20);
    }
    return CLI_DONE;
}

static int run_verb(struct keys_run *run, const char *verb, const char *name)
{
    bool is_change =
        strcmp(verb, "remove") == 0 || strcmp(verb, "disable") == 0 || strcmp(verb, "enable") == 0;
    int status = CLI_DONE;

    if (strcmp(verb, "ls") == 0 && !name)
        return list(run);
    if (!name || (!is_change && strcmp(verb, "add") != 0))
        return cli_fail(CLI_USAGE, "keys takes: add TENANT, ls, remove ID, disable ID, enable ID");
    status = lock_folder(run);
    if (status != CLI_DONE)
        return status;
    return is_change ? change(run, verb, name) : add(run, name);
}

int cli_keys(struct cli *cli, int argc, char **argv)
{
    struct keys_run run = {.cli = cli, .lock_fd = -1};
    int option, status = CLI_DONE;

    while (status == CLI_DONE &&
           (option = getopt_long(argc, argv, "f:aw:j:b:r:x:", options, NULL)) != -1)
        status = take_option(option, &run);
    if (status == CLI_DONE)
        status = find_path(&run);
    if (status != CLI_DONE)
        return status;
    if (argc - optind > 2)
        return cli_fail(CLI_USAGE, "keys takes: add TENANT, ls, remove ID, disable ID, enable ID");
    status = run_verb(&run, optind < argc ? argv[optind] : "ls",
                      optind + 1 < argc ? argv[optind + 1] : NULL);
    keys_destroy(run.keys);
    if (run.lock_fd >= 0)
        close(run.lock_fd);
    return status;
}
