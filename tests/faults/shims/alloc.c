/* A preload library for fault runs: makes allocations fail.
 *
 * FAULT_ALLOC is "first every limit file": from the first-th allocation of a process on, one in
 * `every` fails, as long as the file, which gets a byte for each failure of any process, has fewer
 * than `limit`. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static long first, every, limit;
static char path[512];
static atomic_long seen;

__attribute__((constructor)) static void arm(void)
{
    const char *text = getenv("FAULT_ALLOC");

    if (!text || sscanf(text, "%ld %ld %ld %511s", &first, &every, &limit, path) != 4)
        limit = 0;
}

static int fails(void)
{
    struct stat about = {0};
    long number;

    if (limit == 0)
        return 0;
    number = atomic_fetch_add(&seen, 1) + 1;
    if (number < first || (number - first) % every != 0)
        return 0;
    if (stat(path, &about) == 0 && about.st_size >= limit)
        return 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return 0;
    int noted = write(fd, "x", 1) == 1;
    close(fd);
    errno = ENOMEM;
    return noted;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return fails() ? NULL : __libc_realloc(memory, size);
}
