#include "worker/run/tickets.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/job/job_codec.h"

enum { TICKETS_BYTES_MAX = 64 * 1024 * 1024 };

int tickets_open(struct tickets *tickets, int fd, unsigned count, struct error_text *why)
{
    CHECK(count > 0);
    CHECK(count <= TICKETS_BYTES_MAX / JOB_MEMBER_SIZE);
    *tickets = (struct tickets){.count = count};
    if (fd < 0)
        return 0;

    size_t size = (size_t)count * JOB_MEMBER_SIZE;
    if (ftruncate(fd, (off_t)size) != 0)
        return error_set(why, ERR_IO, "tickets: %s", strerror(errno));
    void *slots = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (slots == MAP_FAILED)
        return error_set(why, ERR_IO, "tickets: %s", strerror(errno));
    tickets->slots = slots;
    return 0;
}

void tickets_close(struct tickets *tickets)
{
    if (tickets->slots)
        (void)munmap(tickets->slots, (size_t)tickets->count * JOB_MEMBER_SIZE);
    *tickets = (struct tickets){0};
}

static char *slot_at(struct tickets *tickets, unsigned slot)
{
    CHECK(slot < tickets->count);
    return tickets->slots + (size_t)slot * JOB_MEMBER_SIZE;
}

void tickets_write(struct tickets *tickets, unsigned slot, const struct job *job)
{
    char member[JOB_MEMBER_SIZE];

    if (!tickets->slots)
        return;
    char *at = slot_at(tickets, slot);
    CHECK(at[0] == '\0');
    job_ticket_make(job, member);
    memcpy(member + JOB_TICKET_SIZE, job->token, JOB_TOKEN_SIZE);
    memcpy(at + 1, member + 1, JOB_MEMBER_SIZE - 1);
    __atomic_store_n(at, member[0], __ATOMIC_RELEASE);
}

void tickets_clear(struct tickets *tickets, unsigned slot)
{
    if (tickets->slots)
        __atomic_store_n(slot_at(tickets, slot), '\0', __ATOMIC_RELEASE);
}

int tickets_read(int fd, struct buf *out_members)
{
    struct stat about;
    int status = 0;

    if (fstat(fd, &about) != 0)
        return ERR_IO;
    size_t size = (size_t)about.st_size - (size_t)about.st_size % JOB_MEMBER_SIZE;
    if (size == 0)
        return 0;
    if (size > TICKETS_BYTES_MAX)
        return ERR_IO;
    char *slots = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (slots == MAP_FAILED)
        return ERR_IO;
    for (size_t at = 0; at < size && status == 0; at += JOB_MEMBER_SIZE)
        if (slots[at] != '\0')
            status = buf_append(out_members, slots + at, JOB_MEMBER_SIZE);
    (void)munmap(slots, size);
    return status;
}
