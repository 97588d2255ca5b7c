#include "broker/api/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/error.h"

/* The file begins with a page of its own that says how long the mapping is: whoever frees it knows
 * only where it starts. */
enum { FRONT = 4096 };

void spool_init(struct spool *spool, size_t memory_max)
{
    *spool = (struct spool){.fd = -1};
    buf_init(&spool->memory, memory_max);
}

void spool_deinit(struct spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    spool->fd = -1;
    buf_deinit(&spool->memory);
}

static int open_unlinked(void)
{
    char path[2][32] = {"/var/tmp/penstock-XXXXXX", "/tmp/penstock-XXXXXX"};

    for (unsigned i = 0; i < 2; i++) {
        int fd = mkostemp(path[i], O_CLOEXEC);
        if (fd < 0)
            continue;
        (void)unlink(path[i]);
        return fd;
    }
    return -1;
}

static int write_out(struct spool *spool, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = pwrite(spool->fd, bytes, size, (off_t)spool->file_size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return ERR_FULL;
        spool->file_size += (size_t)count;
        bytes += count;
        size -= (size_t)count;
    }
    return 0;
}

/* A write to the page cache: short, and rare enough to be done on the loop. */
static int spill(struct spool *spool)
{
    if (spool->fd < 0) {
        spool->fd = open_unlinked();
        spool->file_size = FRONT;
    }
    if (spool->fd < 0)
        return ERR_FULL;
    int status = write_out(spool, spool->memory.data, spool->memory.size);
    buf_clear(&spool->memory);
    return status;
}

int spool_append(struct spool *spool, const void *bytes, size_t size)
{
    if (spool->memory.size + size > spool->memory.size_max && spool->memory.size > 0) {
        int status = spill(spool);
        if (status < 0)
            return status;
    }
    return buf_append(&spool->memory, bytes, size) < 0 ? ERR_FULL : 0;
}

static void free_mapping(void *bytes)
{
    char *start = (char *)bytes - FRONT;
    uint64_t size;

    memcpy(&size, start, sizeof(size));
    munmap(start, (size_t)size);
}

int spool_finish(struct spool *spool, struct slice *out, void (**out_free)(void *bytes))
{
    if (spool->fd < 0) {
        *out = (struct slice){.bytes = spool->memory.data, .size = spool->memory.size};
        *out_free = NULL;
        return 0;
    }
    if (spill(spool) < 0)
        return ERR_FULL;
    uint64_t size = spool->file_size;
    if (pwrite(spool->fd, &size, sizeof(size), 0) != (ssize_t)sizeof(size))
        return ERR_FULL;
    char *start = mmap(NULL, spool->file_size, PROT_READ, MAP_SHARED, spool->fd, 0);
    if (start == MAP_FAILED)
        return ERR_FULL;
    *out = (struct slice){.bytes = start + FRONT, .size = spool->file_size - FRONT};
    *out_free = free_mapping;
    return 0;
}
