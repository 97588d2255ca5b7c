/* up: what runs, where, and with which settings. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/cli/up.h"
#include "broker/cli/up_upstream.h"
#include "common/base/text.h"

enum { REDIS_STOP_MS = 60000, BROKER_STOP_MS = 20000, SIM_STOP_MS = 5000, DRAIN_SPARE_MS = 10000 };

static const char default_metrics[] = "127.0.0.1:9464";
static const char default_keys_file[] = "./keys.yaml";

int up_set_text(char **field, const char *format, ...)
{
    struct buf text = {.size_max = 8192};
    va_list args;

    va_start(args, format);
    int status = buf_vprintf(&text, format, args);
    va_end(args);
    char *taken = status == 0 ? buf_take(&text, NULL) : NULL;
    buf_deinit(&text);
    if (!taken)
        return cli_fail(CLI_FAILED, "out of memory");
    free(*field);
    *field = taken;
    return CLI_DONE;
}

/* ---- settings -----------------------------------------------------------------------------------
 */

/* "host:port" in two; false when it is of another form. */
static bool split_address(const char *address, char host[UP_HOST_SIZE], int64_t *port)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon ? (size_t)(colon - address) : 0;

    if (!colon || size >= UP_HOST_SIZE || text_starts_with(address, "unix:") ||
        text_parse_i64(colon + 1, strlen(colon + 1), 0, 65535, port) < 0)
        return false;
    memcpy(host, address, size);
    host[size] = '\0';
    return true;
}

/* 0, or why nothing can listen there. */
static int try_to_listen(const char *host, int64_t port)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    const int on = 1;
    char name[UP_HOST_SIZE], service[16];
    struct addrinfo *found = NULL;
    size_t size = strlen(host);
    int problem = 0;

    if (size >= 2 && host[0] == '[')
        snprintf(name, sizeof(name), "%.*s", (int)(size - 2), host + 1);
    else
        snprintf(name, sizeof(name), "%s", host);
    snprintf(service, sizeof(service), "%d", (int)port);
    if (getaddrinfo(name[0] ? name : NULL, service, &hints, &found) != 0)
        return 0; /* the broker says it better */
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, 1) < 0)
            problem = errno;
        close(fd);
    }
    freeaddrinfo(found);
    return problem;
}

static int choose_addresses(struct up *up)
{
    struct settings *settings = up->settings;
    char metrics_host[UP_HOST_SIZE];
    int64_t port = 0, metrics_port = 0;
    int status = CLI_DONE;

    if (!split_address(settings->listen, up->host, &port))
        return cli_fail(CLI_USAGE, "listen %s: penstock up needs host:port", settings->listen);
    if (up->wish.port >= 0) {
        port = up->wish.port;
        status = up_set_text(&settings->listen, "%s:%d", up->host, (int)port);
    }
    int problem = port > 0 ? try_to_listen(up->host, port) : 0;
    if (status == CLI_DONE && problem != 0)
        return cli_fail(
            CLI_FAILED, "cannot listen on %s: %s%s", settings->listen, strerror(problem),
            problem == EADDRINUSE ? "; is penstock running there already? --port N takes "
                                    "another, --port 0 any free one"
                                  : "");
    if (!split_address(settings->listen_metrics, metrics_host, &metrics_port))
        return status;
    /* Several stacks on one machine are nothing special; their metrics move over. */
    bool is_default = strcmp(settings->listen_metrics, default_metrics) == 0;
    problem = metrics_port > 0 ? try_to_listen(metrics_host, metrics_port) : 0;
    if (status == CLI_DONE && is_default && (problem != 0 || up->wish.port >= 0))
        return up_set_text(&settings->listen_metrics, "127.0.0.1:0");
    if (status == CLI_DONE && problem != 0)
        return cli_fail(CLI_FAILED, "cannot listen on listen_metrics %s: %s",
                        settings->listen_metrics, strerror(problem));
    return status;
}

static int adjust_settings(struct up *up)
{
    struct settings *settings = up->settings;
    int status;

    if (settings->redis.durability == DURABILITY_REPLICA)
        return cli_fail(CLI_USAGE, "redis.durability: the private Redis of penstock up has no "
                                   "replica; say memory or fsync");
    status = up_set_text(&settings->redis.url, "unix://%s", up->redis_socket);
    if (status == CLI_DONE && strcmp(settings->auth.keys_file, default_keys_file) == 0)
        status = up_set_text(&settings->auth.keys_file, "%s/keys.yaml", up->data_dir);
    if (status == CLI_DONE)
        status = up_set_text(&settings->data_dir, "%s", up->data_dir);
    if (status == CLI_DONE && !up->wish.is_verbose)
        status = up_set_text(&settings->log.level, "warn");
    settings->auth.mode = AUTH_KEYS;
    return status == CLI_DONE ? choose_addresses(up) : status;
}

/* What was said by variables stands in our file now; there they would say it once more, and win. */
static void clear_environment(void)
{
    char name[256];

    for (char **entry = environ; *entry;) {
        size_t size = strcspn(*entry, "=");
        bool is_ours = text_starts_with(*entry, "PENSTOCK_") && size < sizeof(name);
        if (is_ours)
            snprintf(name, sizeof(name), "%.*s", (int)size, *entry);
        if (is_ours && unsetenv(name) == 0)
            entry = environ; /* it has moved */
        else
            entry++;
    }
}

int up_write_config(struct up *up)
{
    struct buf text = {.size_max = SETTINGS_FILE_SIZE_MAX};
    int status = CLI_DONE;

    if (up->port > 0)
        status = up_set_text(&up->settings->listen, "%s:%d", up->host, up->port);
    if (status == CLI_DONE && up->metrics_port > 0) {
        const char *metrics = up->settings->listen_metrics;
        char host[UP_HOST_SIZE];
        int64_t port;
        if (split_address(metrics, host, &port))
            status = up_set_text(&up->settings->listen_metrics, "%s:%d", host, up->metrics_port);
    }
    if (status == CLI_DONE && settings_print(up->settings, &text) < 0)
        status = cli_fail(CLI_FAILED, "cannot write the configuration");
    if (status == CLI_DONE)
        status = up_write_private(up->config_path, text.data, text.size);
    buf_deinit(&text);
    return status;
}

/* ---- programs -----------------------------------------------------------------------------------
 */

void up_child_arg(struct up_child *child, const char *format, ...)
{
    va_list args;

    CHECK(child->argc < UP_ARGS_MAX);
    va_start(args, format);
    int size = vsnprintf(child->args_text[child->argc], UP_ARG_SIZE, format, args);
    va_end(args);
    CHECK(size >= 0 && size < UP_ARG_SIZE);
    child->argv[child->argc] = child->args_text[child->argc];
    child->argc++;
    child->argv[child->argc] = NULL;
}

static bool is_program(struct up_child *child, const char *folder, size_t size, const char *name)
{
    int length = snprintf(child->path, sizeof(child->path), "%.*s/%s", (int)size, folder, name);

    return length > 0 && length < (int)sizeof(child->path) && access(child->path, X_OK) == 0;
}

/* Our sibling programs lie beside us; others are found on the PATH. */
static int find_program(struct up_child *child, const char *name, int64_t stop_ms)
{
    char self[UP_PROGRAM_SIZE];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *path = settings_environment("PATH");

    child->name = name;
    child->is_wanted = true;
    child->stop_ms = stop_ms;
    child->ready_pipe[0] = child->ready_pipe[1] = -1;
    up_child_arg(child, "%s", name);
    while (size > 0 && self[size - 1] != '/')
        size--;
    if (size > 1 && is_program(child, self, (size_t)size - 1, name))
        return CLI_DONE;
    while (*path) {
        size_t length = strcspn(path, ":");
        if (length > 0 && is_program(child, path, length, name))
            return CLI_DONE;
        path += length + (path[length] == ':');
    }
    return cli_fail(CLI_USAGE, "%s is not installed (neither beside this program nor on the PATH)",
                    name);
}

static int open_ready_pipe(struct up_child *child)
{
    if (pipe2(child->ready_pipe, O_CLOEXEC) < 0 ||
        fcntl(child->ready_pipe[0], F_SETFL, O_NONBLOCK) < 0)
        return cli_fail(CLI_FAILED, "pipe: %s", strerror(errno));
    return CLI_DONE;
}

/* What this machine, or the group of processes we live in, has. */
static int64_t memory_bytes(void)
{
    int64_t bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), limit;
    int fd = open("/sys/fs/cgroup/memory.max", O_RDONLY | O_CLOEXEC);
    char text[32];
    ssize_t size = fd >= 0 ? read(fd, text, sizeof(text)) : 0;

    if (fd >= 0)
        close(fd);
    while (size > 0 && text[size - 1] == '\n')
        size--;
    if (size > 0 && text_parse_i64(text, (size_t)size, 1, INT64_MAX, &limit) == 0 && limit < bytes)
        bytes = limit;
    return bytes;
}

/* What deploy/redis/mend-aof.sh does, which also says why; then it becomes redis-server. */
static const char mend_and_run[] =
    "for m in \"$1\"/appendonlydir/*.manifest; do\n"
    "  [ ! -f \"$m\" ] || echo y | redis-check-aof --fix \"$m\" >>\"$1/redis.log\" 2>&1\n"
    "done\n"
    "shift\n"
    "exec \"$@\"\n";

/* As deploy/redis.conf says, which also says why. */
static int plan_redis(struct up *up)
{
    struct up_child *child = &up->children[UP_REDIS];
    bool is_durable = up->settings->redis.durability != DURABILITY_MEMORY;
    const char *const fixed[][2] = {{"--port", "0"},
                                    {"--unixsocketperm", "700"},
                                    {"--save", ""},
                                    {"--appendonly", "yes"},
                                    {"--appendfsync", is_durable ? "always" : "everysec"},
                                    {"--no-appendfsync-on-rewrite", "no"},
                                    {"--maxmemory-policy", "noeviction"},
                                    {"--busy-reply-threshold", "500"},
                                    {"--latency-tracking", "no"}};
    int status = find_program(child, "redis-server", REDIS_STOP_MS);

    child->shell = "/bin/sh";
    child->argc = 0;
    up_child_arg(child, "sh");
    up_child_arg(child, "-c");
    child->argv[child->argc++] = mend_and_run;
    up_child_arg(child, "sh");
    up_child_arg(child, "%s", up->data_dir);
    child->argv[child->argc++] = child->path;
    for (unsigned i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        up_child_arg(child, "%s", fixed[i][0]);
        up_child_arg(child, "%s", fixed[i][1]);
    }
    up_child_arg(child, "--unixsocket");
    up_child_arg(child, "%s", up->redis_socket);
    up_child_arg(child, "--dir");
    up_child_arg(child, "%s", up->data_dir);
    up_child_arg(child, "--logfile");
    up_child_arg(child, "%s/redis.log", up->data_dir);
    up_child_arg(child, "--maxmemory");
    up_child_arg(child, "%lld", (long long)(memory_bytes() / 10 * 4));
    return status;
}

static int plan_sim(struct up *up)
{
    struct up_child *child = &up->children[UP_SIM];
    int status = find_program(child, "penstock-sim", SIM_STOP_MS);

    child->speaks_on_stdout = true;
    up_child_arg(child, "--delay-ms");
    up_child_arg(child, "%lld", (long long)up->wish.sim_delay_ms);
    up_child_arg(child, "--listen"); /* last, so that the port can be put in */
    up_child_arg(child, "127.0.0.1:0");
    return status == CLI_DONE ? open_ready_pipe(child) : status;
}

int up_set_sim_port(struct up *up, int port)
{
    struct up_child *child = &up->children[UP_SIM];

    child->argc--;
    up_child_arg(child, "127.0.0.1:%d", port);
    return up_use_simulator(up->settings, port);
}

static int plan_program(struct up *up, enum up_part part, const char *name, int64_t stop_ms)
{
    struct up_child *child = &up->children[part];
    int status = find_program(child, name, stop_ms);

    if (status == CLI_DONE)
        status = open_ready_pipe(child);
    up_child_arg(child, "--config");
    up_child_arg(child, "%s", up->config_path);
    up_child_arg(child, "--ready-fd");
    up_child_arg(child, "%d", child->ready_pipe[1]);
    return status;
}

int up_plan(struct up *up)
{
    int64_t drain_ms = up->settings->worker.drain_timeout_ms;
    bool needs_sim = false;
    int status = up_open_data_dir(up);

    if (status == CLI_DONE)
        status = adjust_settings(up);
    if (status == CLI_DONE)
        status =
            up_choose_upstreams(up->settings, up->wish.must_simulate, up->signals_fd, &needs_sim);
    if (status == CLI_DONE && up_pause(up, 0))
        status = CLI_INTERRUPTED;
    if (status == CLI_DONE)
        status = up_find_api_key(up);
    if (status == CLI_DONE)
        status = plan_redis(up);
    if (status == CLI_DONE && needs_sim)
        status = plan_sim(up);
    if (status == CLI_DONE)
        status = plan_program(up, UP_BROKER, "penstock-broker", BROKER_STOP_MS);
    if (status == CLI_DONE)
        status = plan_program(up, UP_WORKER, "penstock-worker", drain_ms + DRAIN_SPARE_MS);
    clear_environment();
    return status;
}
