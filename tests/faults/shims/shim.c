/* A preload library for fault runs: makes a disk slow or failing, and a process' wall clock wrong,
 * while it runs.
 *
 * The file named by FAULT_SHIM holds three numbers: milliseconds that every fdatasync and fsync
 * takes longer, the errno they fail with (0: none), and milliseconds by which CLOCK_REALTIME is
 * ahead. It is read again at most every 10 ms. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct faults {
    long sync_ms, sync_errno, clock_ms;
};

typedef int (*clock_fn)(clockid_t, struct timespec *);
typedef int (*sync_fn)(int);

static clock_fn real_clock(void)
{
    static clock_fn found;

    if (!found)
        found = (clock_fn)(uintptr_t)dlsym(RTLD_NEXT, "clock_gettime");
    return found;
}

static struct faults current(void)
{
    static struct faults faults;
    static int64_t read_ms;
    struct timespec now;

    real_clock()(CLOCK_MONOTONIC, &now);
    int64_t now_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (now_ms - read_ms < 10)
        return faults;
    read_ms = now_ms;
    const char *path = getenv("FAULT_SHIM");
    char text[128] = "";
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        ssize_t size = read(fd, text, sizeof(text) - 1);
        close(fd);
        struct faults fresh = {0};
        if (size > 0 &&
            sscanf(text, "%ld %ld %ld", &fresh.sync_ms, &fresh.sync_errno, &fresh.clock_ms) == 3)
            faults = fresh;
    }
    return faults;
}

static void note_synced(int fd, long size)
{
    const char *steer = getenv("FAULT_SHIM");
    char link[64], path[512], note[600], text[600];

    if (!steer)
        return;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length <= 0)
        return;
    path[length] = '\0';
    if (!strstr(path, ".incr."))
        return;
    snprintf(note, sizeof(note), "%s.synced", steer);
    int out = open(note, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    /* Padded, so that one write replaces all of what was there. */
    int bytes = snprintf(text, sizeof(text), "%s %20ld\n", path, size);
    if (out >= 0) {
        (void)!write(out, text, (size_t)bytes);
        close(out);
    }
}

static int sync_with(const char *name, int fd)
{
    struct faults faults = current();
    sync_fn real = (sync_fn)(uintptr_t)dlsym(RTLD_NEXT, name);

    if (faults.sync_ms > 0) {
        struct timespec pause = {faults.sync_ms / 1000, faults.sync_ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    if (faults.sync_errno != 0) {
        errno = (int)faults.sync_errno;
        return -1;
    }
    struct stat before;
    int status = fstat(fd, &before) || real(fd);
    if (status == 0)
        note_synced(fd, (long)before.st_size);
    return status ? -1 : 0;
}

int fdatasync(int fd)
{
    return sync_with("fdatasync", fd);
}

int fsync(int fd)
{
    return sync_with("fsync", fd);
}

static void shift(struct timespec *time)
{
    long ahead_ms = current().clock_ms;

    time->tv_sec += ahead_ms / 1000;
    time->tv_nsec += ahead_ms % 1000 * 1000000;
    if (time->tv_nsec >= 1000000000) {
        time->tv_sec++;
        time->tv_nsec -= 1000000000;
    } else if (time->tv_nsec < 0) {
        time->tv_sec--;
        time->tv_nsec += 1000000000;
    }
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    int status = real_clock()(clock, out);

    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(out);
    return status;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
