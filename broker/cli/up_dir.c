/* up: the data directory, which one stack has at a time, and the keys in it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/cli/up.h"
#include "common/base/clock.h"
#include "common/base/keys.h"
#include "common/base/text.h"

enum { LOCK_MS = 90000 }; /* what is left of a killed run drains its calls first */

bool cli_is_up(const char *data_dir)
{
    char path[4096];
    int fd = snprintf(path, sizeof(path), "%s/lock", data_dir) < (int)sizeof(path)
                 ? open(path, O_RDONLY | O_CLOEXEC)
                 : -1;
    bool is_held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;

    if (fd >= 0)
        close(fd);
    return is_held;
}

static int64_t lock_owner(int fd)
{
    char text[32];
    ssize_t size = pread(fd, text, sizeof(text), 0);
    int64_t pid = 0;

    while (size > 0 && text[size - 1] == '\n')
        size--;
    return size > 0 && text_parse_i64(text, (size_t)size, 1, INT32_MAX, &pid) == 0 ? pid : 0;
}

/* Children hold the lock too. So when the process that is named in it is gone, what is left of a
 * killed run is still ending, and its Redis may be writing here. */
static int await_lock(struct up *up)
{
    int64_t end_ms = clock_mono_ms() + LOCK_MS;
    bool has_said = false;

    while (flock(up->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return cli_fail(CLI_FAILED, "cannot lock %s: %s", up->data_dir, strerror(errno));
        int64_t pid = lock_owner(up->lock_fd);
        if (pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM))
            return cli_fail(CLI_USAGE,
                            "data_dir %s is in use by another penstock up (process %lld)",
                            up->data_dir, (long long)pid);
        if (clock_mono_ms() > end_ms)
            return cli_fail(CLI_FAILED, "processes of an earlier run in %s do not end",
                            up->data_dir);
        if (!has_said)
            fputs("penstock: waiting for the processes of an earlier run to end\n", stderr);
        has_said = true;
        if (up_pause(up, 100))
            return CLI_INTERRUPTED;
    }
    return CLI_DONE;
}

static int take_lock(struct up *up)
{
    char path[UP_PATH_SIZE], text[32];

    snprintf(path, sizeof(path), "%s/lock", up->data_dir);
    up->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (up->lock_fd < 0)
        return cli_fail(CLI_USAGE, "data_dir %s: %s", up->data_dir, strerror(errno));
    int status = await_lock(up);
    if (status != CLI_DONE)
        return status;
    int size = snprintf(text, sizeof(text), "%lld\n", (long long)getpid());
    if (ftruncate(up->lock_fd, 0) < 0 || pwrite(up->lock_fd, text, (size_t)size, 0) != size)
        return cli_fail(CLI_FAILED, "cannot write %s: %s", path, strerror(errno));
    return CLI_DONE;
}

/* Made if need be, ours alone while we run. */
int up_open_data_dir(struct up *up)
{
    const char *name = up->settings->data_dir;
    char *absolute;

    if (mkdir(name, 0700) < 0 && errno != EEXIST)
        return cli_fail(CLI_USAGE, "data_dir %s: %s", name, strerror(errno));
    absolute = realpath(name, NULL);
    if (!absolute)
        return cli_fail(CLI_USAGE, "data_dir %s: %s", name, strerror(errno));
    size_t size = strlen(absolute);
    if (size < sizeof(up->data_dir))
        memcpy(up->data_dir, absolute, size + 1);
    free(absolute);
    if (size >= sizeof(up->data_dir))
        return cli_fail(
            CLI_USAGE, "data_dir %s: its whole path may have %d bytes, because a socket lies there",
            name, UP_DIR_SIZE - 1);
    snprintf(up->redis_socket, sizeof(up->redis_socket), "%s/redis.sock", up->data_dir);
    snprintf(up->config_path, sizeof(up->config_path), "%s/up.yaml", up->data_dir);
    int status = take_lock(up);
    if (status == CLI_DONE && up_redis_answers(up->redis_socket))
        return cli_fail(CLI_FAILED,
                        "a Redis that was not started by us answers at %s: stop it first",
                        up->redis_socket);
    if (status == CLI_DONE)
        unlink(up->redis_socket);
    return status;
}

/* A file only we can read, replaced in one step. */
int up_write_private(const char *path, const char *bytes, size_t size)
{
    char partial[UP_PATH_SIZE + 8];
    int fd, status = CLI_DONE;

    snprintf(partial, sizeof(partial), "%s.new", path);
    fd = open(partial, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || rename(partial, path) < 0)
        status = cli_fail(CLI_FAILED, "cannot write %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return status;
}

static void read_api_key(struct up *up, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    ssize_t size = read(fd, up->api_key, sizeof(up->api_key) - 1);
    close(fd);
    up->api_key[size > 0 ? size : 0] = '\0';
    up->api_key[strcspn(up->api_key, "\n")] = '\0';
}

/* The key that is printed: kept in the data directory, so that the next start prints the same. */
int up_find_api_key(struct up *up)
{
    struct key_wish wish = {
        .tenant = "default", .role = KEY_ADMIN, .created_at_ms = clock_wall_ms()};
    const char *keys_file = up->settings->auth.keys_file;
    char path[UP_PATH_SIZE];
    struct keys *keys = NULL;
    struct error_text why = {{0}};
    int status = keys_load(keys_file, &keys, &why);

    if (status == ERR_NOT_FOUND)
        keys = keys_create();
    else if (status < 0)
        return cli_fail(CLI_USAGE, "%s", why.text);
    if (!keys)
        return cli_fail(CLI_FAILED, "out of memory");
    snprintf(path, sizeof(path), "%s/api-key", up->data_dir);
    read_api_key(up, path);
    const struct key *found = keys_find(keys, slice_of(up->api_key));
    status = CLI_DONE;
    if (!found || !key_is_valid(found, clock_wall_ms())) {
        if (keys_generate(keys, &wish, up->api_key, &why) < 0 ||
            keys_save(keys, keys_file, &why) < 0)
            status = cli_fail(CLI_FAILED, "%s", why.text);
        else
            status = up_write_private(path, up->api_key, strlen(up->api_key));
    }
    keys_destroy(keys);
    return status;
}
