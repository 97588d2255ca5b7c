#include "worker/worker_config.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FD_PATH_SIZE = 64 };

/* ---- layout ---- */

unsigned worker_config_count_cores(void)
{
    cpu_set_t cores;

    if (sched_getaffinity(0, sizeof cores, &cores) != 0)
        return 1;
    int count = CPU_COUNT(&cores);
    return count > 0 ? (unsigned)count : 1;
}

unsigned worker_config_count_gpus(void)
{
    unsigned count = 0;
    char path[FD_PATH_SIZE];

    for (; count < SETTINGS_GPUS_MAX; count++) {
        (void)snprintf(path, sizeof path, "/dev/nvidia%u", count);
        if (access(path, F_OK) != 0)
            break;
    }
    return count;
}

int worker_config_layout(const struct settings *settings, unsigned cores, unsigned gpus,
                         struct worker_layout *out, struct error_text *why)
{
    struct worker_layout layout = {0};
    int processes = settings->worker.processes;

    if (settings->worker.gpus_count == SETTINGS_AUTO) {
        for (; layout.children_count < gpus && layout.children_count < SETTINGS_GPUS_MAX;
             layout.children_count++)
            layout.gpu_ids[layout.children_count] = (int)layout.children_count;
    } else {
        for (; (int)layout.children_count < settings->worker.gpus_count; layout.children_count++)
            layout.gpu_ids[layout.children_count] = settings->worker.gpu_ids[layout.children_count];
    }
    layout.has_gpus = layout.children_count > 0;
    if (!layout.has_gpus)
        layout.children_count = processes == SETTINGS_AUTO ? cores : (unsigned)processes;
    if (processes == SETTINGS_AUTO && layout.children_count > SUPERVISOR_CHILDREN_MAX)
        layout.children_count = SUPERVISOR_CHILDREN_MAX;
    if (layout.children_count < 1 || layout.children_count > SUPERVISOR_CHILDREN_MAX)
        return error_set(why, ERR_INVALID, "worker.processes: must be auto or 1 to %d",
                         SUPERVISOR_CHILDREN_MAX);
    *out = layout;
    return 0;
}

/* ---- text ---- */

static int keep_text(const struct buf *text, int *out_fd, struct error_text *why)
{
    int fd = memfd_create("penstock-config", MFD_CLOEXEC);
    size_t at = 0;

    if (fd < 0)
        return error_set(why, ERR_IO, "memfd_create: %s", strerror(errno));
    while (at < text->size) {
        ssize_t count = write(fd, text->data + at, text->size - at);
        if (count < 0 && errno != EINTR) {
            (void)close(fd);
            return error_set(why, ERR_IO, "cannot keep the configuration: %s", strerror(errno));
        }
        at += count > 0 ? (size_t)count : 0;
    }
    *out_fd = fd;
    return 0;
}

int worker_config_load_fd(int fd, struct settings **out, struct error_text *why)
{
    char path[FD_PATH_SIZE];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return settings_load(path, out, why);
}

int worker_config_open(const char *path, struct settings **out, int *out_fd, struct error_text *why)
{
    struct buf text = {.size_max = SETTINGS_FILE_SIZE_MAX};
    struct settings *settings = NULL;
    const char *name = NULL;
    int fd = -1;

    int status = settings_read_text(path, &text, &name, why);
    if (status == 0)
        status = keep_text(&text, &fd, why);
    if (status == 0)
        status = worker_config_load_fd(fd, &settings, why);
    buf_deinit(&text);
    if (status == 0) {
        *out = settings;
        *out_fd = fd;
        return 0;
    }
    if (fd >= 0) {
        (void)close(fd);
        /* Once more from the file itself, for a reason that names it. */
        struct settings *again = NULL;
        struct error_text named = {""};
        if (settings_load(path, &again, &named) < 0 && why)
            *why = named;
        settings_destroy(again);
    }
    return status;
}

/* ---- the rest ---- */

enum log_level worker_config_log_level(const struct settings *settings)
{
    static const char *const words[] = {
        [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++)
        if (strcmp(settings->log.level, words[level]) == 0)
            return (enum log_level)level;
    return LOG_INFO;
}

enum log_format worker_config_log_format(const struct settings *settings)
{
    return strcmp(settings->log.format, "json") == 0 ? LOG_JSON : LOG_TEXT;
}

const char *worker_config_fixed_change(const struct settings *before, const struct settings *after)
{
    if (strcmp(before->redis.url, after->redis.url) != 0)
        return "redis.url";
    if (before->redis.durability != after->redis.durability)
        return "redis.durability";
    if (before->redis.shards != after->redis.shards)
        return "redis.shards";
    if (before->worker.processes != after->worker.processes)
        return "worker.processes";
    if (before->worker.gpus_count != after->worker.gpus_count ||
        memcmp(before->worker.gpu_ids, after->worker.gpu_ids, sizeof before->worker.gpu_ids) != 0)
        return "worker.gpus";
    if (before->worker.inflight_max != after->worker.inflight_max)
        return "worker.inflight_max";
    if (before->worker.response_bytes_max != after->worker.response_bytes_max)
        return "worker.response_bytes_max";
    if (before->worker.lease_ms != after->worker.lease_ms)
        return "worker.lease_ms";
    if (strcmp(before->log.format, after->log.format) != 0)
        return "log.format";
    return NULL;
}
