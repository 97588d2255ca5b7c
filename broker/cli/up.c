/* up: decides what runs. Everything it writes lies under the data directory. */
#include "broker/cli/up.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/cli/client.h"
#include "broker/cli/up_upstream.h"
#include "common/base/clock.h"
#include "common/base/keys.h"
#include "common/base/text.h"

struct up_wish {
    const char *data_dir;
    int64_t port; /* -1: as configured */
    bool must_simulate;
    int64_t sim_delay_ms;
    bool is_verbose;
};

static int set_text(char **field, const char *format, ...) PRINTF_LIKE(2, 3);
static int set_text(char **field, const char *format, ...)
{
    char text[UP_PATH_SIZE * 2];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    free(*field);
    *field = strdup(text);
    return *field ? CLI_DONE : cli_fail(CLI_FAILED, "out of memory");
}

static int take_options(int argc, char **argv, struct up_wish *wish)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"data-dir", required_argument, NULL, 'd'},
        {"simulate", no_argument, NULL, 's'},   {"sim-delay-ms", required_argument, NULL, 'D'},
        {"verbose", no_argument, NULL, 'v'},    {0}};
    int option;

    while ((option = getopt_long(argc, argv, "p:d:sD:v", options, NULL)) != -1) {
        if (option == 'p' && text_parse_i64(optarg, strlen(optarg), 0, 65535, &wish->port) < 0)
            return cli_fail(CLI_USAGE, "--port takes a number from 0 to 65535");
        else if (option == 'D' &&
                 text_parse_i64(optarg, strlen(optarg), 0, 3600000, &wish->sim_delay_ms) < 0)
            return cli_fail(CLI_USAGE, "--sim-delay-ms takes a number of milliseconds");
        else if (option == 'd')
            wish->data_dir = optarg;
        else if (option == 's')
            wish->must_simulate = true;
        else if (option == 'v')
            wish->is_verbose = true;
        else if (option == '?')
            return cli_fail(CLI_USAGE, "see penstock help");
    }
    return optind == argc ? CLI_DONE : cli_fail(CLI_USAGE, "up takes no arguments, only options");
}

/* The data directory, made if need be, ours alone while we run. */
static int open_data_dir(struct up *up)
{
    char path[UP_PATH_SIZE + 16];
    char *absolute;

    if (mkdir(up->settings->data_dir, 0700) < 0 && errno != EEXIST)
        return cli_fail(CLI_USAGE, "data_dir %s: %s", up->settings->data_dir, strerror(errno));
    absolute = realpath(up->settings->data_dir, NULL);
    if (!absolute || strlen(absolute) > 80) { /* a unix socket's name has 107 bytes */
        free(absolute);
        return cli_fail(CLI_USAGE, "data_dir %s: cannot be resolved, or its path has over 80 bytes",
                        up->settings->data_dir);
    }
    snprintf(up->data_dir, sizeof(up->data_dir), "%s", absolute);
    free(absolute);
    snprintf(path, sizeof(path), "%s/lock", up->data_dir);
    up->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (up->lock_fd < 0 || flock(up->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return cli_fail(CLI_USAGE,
                        "data_dir %s is in use by another penstock up (or cannot be written)",
                        up->data_dir);
    snprintf(up->redis_socket, sizeof(up->redis_socket), "%s/redis.sock", up->data_dir);
    snprintf(up->config_path, sizeof(up->config_path), "%s/up.yaml", up->data_dir);
    return CLI_DONE;
}

/* A file only we can read, replaced in one step. */
static int write_private(const char *path, const char *bytes, size_t size)
{
    char partial[UP_PATH_SIZE + 32];
    int fd, status = CLI_DONE;

    snprintf(partial, sizeof(partial), "%s.new", path);
    fd = open(partial, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || rename(partial, path) < 0)
        status = cli_fail(CLI_FAILED, "cannot write %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return status;
}

/* The key that is printed: kept beside the keys file, so that the next start prints the same one.
 */
static int find_api_key(struct up *up)
{
    char path[UP_PATH_SIZE + 16];
    struct key_wish wish = {
        .tenant = "default", .role = KEY_ADMIN, .created_at_ms = clock_wall_ms()};
    struct keys *keys = NULL;
    struct error_text why;
    int status = CLI_DONE;

    snprintf(path, sizeof(path), "%s/api-key", up->data_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t size = read(fd, up->api_key, sizeof(up->api_key) - 1);
        close(fd);
        up->api_key[size > 0 ? size : 0] = '\0';
        up->api_key[strcspn(up->api_key, "\n")] = '\0';
    }
    status = keys_load(up->settings->auth.keys_file, &keys, &why);
    if (status == ERR_NOT_FOUND)
        keys = keys_create();
    else if (status < 0)
        return cli_fail(CLI_USAGE, "%s", why.text);
    status = CLI_DONE;
    if (!keys_find(keys, slice_of(up->api_key))) {
        if (keys_generate(keys, &wish, up->api_key, &why) < 0 ||
            keys_save(keys, up->settings->auth.keys_file, &why) < 0)
            status = cli_fail(CLI_FAILED, "%s", why.text);
        else
            status = write_private(path, up->api_key, strlen(up->api_key));
    }
    keys_destroy(keys);
    return status;
}

/* A port that was free a moment ago, for a program that cannot tell us which one it took. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int port = 0;

    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &size) == 0)
        port = ntohs(address.sin_port);
    if (fd >= 0)
        close(fd);
    return port;
}

/* Our sibling programs lie beside us; others are found on the PATH. */
static int find_program(struct up_child *child, const char *name)
{
    char self[UP_PATH_SIZE];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);

    child->name = name;
    child->ready_pipe[0] = child->ready_pipe[1] = -1;
    if (size > 0) {
        self[size] = '\0';
        *(strrchr(self, '/') + 1) = '\0';
        if (snprintf(child->path, sizeof(child->path), "%s%s", self, name) <
                (int)sizeof(child->path) &&
            access(child->path, X_OK) == 0)
            return CLI_DONE;
    }
    const char *path = settings_environment("PATH");
    while (*path) {
        size_t length = strcspn(path, ":");
        if (snprintf(child->path, sizeof(child->path), "%.*s/%s", (int)length, path, name) <
                (int)sizeof(child->path) &&
            access(child->path, X_OK) == 0)
            return CLI_DONE;
        path += length + (path[length] == ':');
    }
    return cli_fail(CLI_USAGE, "%s is not installed (neither beside this program nor on the PATH)",
                    name);
}

static int plan_redis(struct up *up)
{
    struct up_child *child = &up->children[UP_REDIS];
    bool is_durable = up->settings->redis.durability != DURABILITY_MEMORY;

    if (find_program(child, "redis-server") != CLI_DONE)
        return CLI_USAGE;
    child->is_wanted = true;
    up_child_arg(child, "redis-server");
    up_child_arg(child, "--port");
    up_child_arg(child, "0");
    up_child_arg(child, "--unixsocket");
    up_child_arg(child, "%s", up->redis_socket);
    up_child_arg(child, "--unixsocketperm");
    up_child_arg(child, "700");
    up_child_arg(child, "--dir");
    up_child_arg(child, "%s", up->data_dir);
    up_child_arg(child, "--logfile");
    up_child_arg(child, "%s/redis.log", up->data_dir);
    up_child_arg(child, "--save");
    up_child_arg(child, "%s", "");
    up_child_arg(child, "--appendonly");
    up_child_arg(child, "yes");
    up_child_arg(child, "--appendfsync");
    up_child_arg(child, is_durable ? "always" : "everysec");
    up_child_arg(child, "--maxmemory-policy");
    up_child_arg(child, "noeviction");
    up_child_arg(child, "--busy-reply-threshold");
    up_child_arg(child, "500");
    unlink(up->redis_socket);
    return CLI_DONE;
}

static int plan_sim(struct up *up, int64_t delay_ms)
{
    struct up_child *child = &up->children[UP_SIM];

    if (find_program(child, "penstock-sim") != CLI_DONE)
        return CLI_USAGE;
    child->is_wanted = true;
    up_child_arg(child, "penstock-sim");
    up_child_arg(child, "--listen");
    up_child_arg(child, "127.0.0.1:%d", up->sim_port);
    up_child_arg(child, "--delay-ms");
    up_child_arg(child, "%lld", (long long)delay_ms);
    return CLI_DONE;
}

static int plan_program(struct up *up, enum up_part part, const char *name)
{
    struct up_child *child = &up->children[part];

    if (find_program(child, name) != CLI_DONE)
        return CLI_USAGE;
    if (pipe2(child->ready_pipe, O_CLOEXEC) < 0)
        return cli_fail(CLI_FAILED, "pipe: %s", strerror(errno));
    child->is_wanted = true;
    up_child_arg(child, "%s", name);
    up_child_arg(child, "--config");
    up_child_arg(child, "%s", up->config_path);
    up_child_arg(child, "--ready-fd");
    up_child_arg(child, "%d", child->ready_pipe[1]);
    return CLI_DONE;
}

static int adjust_settings(struct up *up, const struct up_wish *wish)
{
    struct settings *settings = up->settings;
    int status = set_text(&settings->redis.url, "unix://%s", up->redis_socket);

    if (status == CLI_DONE && wish->port >= 0)
        status = set_text(&settings->listen, "127.0.0.1:%d", (int)wish->port);
    if (status == CLI_DONE && wish->port >= 0)
        status = set_text(&settings->listen_metrics, "127.0.0.1:0");
    if (status == CLI_DONE)
        status = set_text(&settings->auth.keys_file, "%s/keys.yaml", up->data_dir);
    if (status == CLI_DONE)
        status = set_text(&settings->data_dir, "%s", up->data_dir);
    if (status == CLI_DONE && !wish->is_verbose)
        status = set_text(&settings->log.level, "warn");
    settings->auth.mode = AUTH_KEYS;
    return status;
}

static int write_config(struct up *up)
{
    struct buf text;
    int status;

    buf_init(&text, 1 << 20);
    if (settings_print(up->settings, &text) < 0)
        status = cli_fail(CLI_FAILED, "cannot write the configuration");
    else
        status = write_private(up->config_path, text.data, text.size);
    buf_deinit(&text);
    return status;
}

static int plan(struct up *up, const struct up_wish *wish)
{
    bool needs_sim = false;
    int status = open_data_dir(up);

    if (status == CLI_DONE)
        status = adjust_settings(up, wish);
    up->sim_port = free_port();
    if (status == CLI_DONE)
        status = up_choose_upstreams(up->settings, wish->must_simulate, up->sim_port, &needs_sim);
    if (status == CLI_DONE)
        status = find_api_key(up);
    if (status == CLI_DONE)
        status = write_config(up);
    if (status == CLI_DONE)
        status = plan_redis(up);
    if (status == CLI_DONE && needs_sim)
        status = plan_sim(up, wish->sim_delay_ms);
    if (status == CLI_DONE)
        status = plan_program(up, UP_BROKER, "penstock-broker");
    return status == CLI_DONE ? plan_program(up, UP_WORKER, "penstock-worker") : status;
}

static void greet(const struct up *up)
{
    const char *model = up_example_model(up->settings);

    if (up->cli->is_json) {
        printf("{\"url\": \"http://127.0.0.1:%d\", \"api_key\": \"%s\", \"model\": \"%s\"}\n",
               up->port, up->api_key, model);
    } else {
        printf("\nPenstock is up.  Stop it with Ctrl-C.\n\n"
               "  URL      http://127.0.0.1:%d\n  API key  %s\n  data     %s\n\nTry:\n\n"
               "  curl http://127.0.0.1:%d/v1/chat/completions -H 'Authorization: Bearer %s' \\\n"
               "    -H 'Content-Type: application/json' -H 'Prefer: respond-async' \\\n"
               "    -d '{\"model\": \"%s\", \"messages\": [{\"role\": \"user\", \"content\": "
               "\"hello\"}]}'\n\n"
               "  export PENSTOCK_URL=http://127.0.0.1:%d PENSTOCK_API_KEY=%s\n\n",
               up->port, up->api_key, up->data_dir, up->port, up->api_key, model, up->port,
               up->api_key);
    }
    fflush(stdout);
}

int cli_up(struct cli *cli, int argc, char **argv)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct up_wish wish = {.port = -1, .sim_delay_ms = 200};
    struct up *up = calloc(1, sizeof(*up));
    struct error_text why;
    int status = up ? take_options(argc, argv, &wish) : cli_fail(CLI_FAILED, "out of memory");

    if (status == CLI_DONE) {
        up->cli = cli;
        up->signals_fd = process_open_signals(signals, 3);
        up->lock_fd = -1;
        if (settings_load(cli->config_path, &up->settings, &why) < 0)
            status = cli_fail(CLI_USAGE, "%s", why.text);
    }
    if (status == CLI_DONE && wish.data_dir)
        status = set_text(&up->settings->data_dir, "%s", wish.data_dir);
    if (status == CLI_DONE)
        status = plan(up, &wish);
    if (status == CLI_DONE) {
        status = up_stack_start(up);
        if (status == CLI_DONE) {
            greet(up);
            status = up_stack_run(up);
        }
        up_stack_stop(up);
    }
    if (up)
        settings_destroy(up->settings);
    free(up);
    return status == CLI_INTERRUPTED ? CLI_DONE : status;
}
