#include "worker/run/tickets.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/job/job_codec.h"

/* The first slot is the head: the mark, the child's id, the slot being worked on, zeros. */
static const char mark[] = "tickets1";

enum {
    TICKETS_BYTES_MAX = 64 * 1024 * 1024,
    MARK_SIZE = sizeof mark - 1,
    CURRENT_AT = MARK_SIZE + TICKETS_CHILD_SIZE, /* four bytes: its number + 1; 0: none */
};

static_assert(CURRENT_AT % sizeof(uint32_t) == 0, "written in one piece");

static size_t size_of(unsigned count)
{
    return ((size_t)count + 1) * JOB_MEMBER_SIZE;
}

int tickets_open(struct tickets *tickets, int fd, const char *child_id, unsigned count,
                 struct error_text *why)
{
    CHECK(count > 0);
    CHECK(size_of(count) <= TICKETS_BYTES_MAX);
    *tickets = (struct tickets){.count = count};
    if (fd < 0)
        return 0;

    size_t size = size_of(count);
    if (ftruncate(fd, (off_t)size) != 0)
        return error_set(why, ERR_IO, "tickets: %s", strerror(errno));
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return error_set(why, ERR_IO, "tickets: %s", strerror(errno));
    tickets->memory = memory;
    memcpy(tickets->memory + MARK_SIZE, child_id, TICKETS_CHILD_SIZE);
    memcpy(tickets->memory, mark, MARK_SIZE);
    return 0;
}

void tickets_close(struct tickets *tickets)
{
    if (tickets->memory)
        (void)munmap(tickets->memory, size_of(tickets->count));
    *tickets = (struct tickets){0};
}

static char *slot_at(struct tickets *tickets, unsigned slot)
{
    CHECK(slot < tickets->count);
    return tickets->memory + ((size_t)slot + 1) * JOB_MEMBER_SIZE;
}

void tickets_write(struct tickets *tickets, unsigned slot, const struct job *job)
{
    char member[JOB_MEMBER_SIZE];

    if (!tickets->memory)
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
    if (tickets->memory)
        __atomic_store_n(slot_at(tickets, slot), '\0', __ATOMIC_RELEASE);
}

static void set_current(struct tickets *tickets, uint32_t current)
{
    if (tickets->memory)
        memcpy(tickets->memory + CURRENT_AT, &current, sizeof current);
}

void tickets_enter(struct tickets *tickets, unsigned slot)
{
    CHECK(slot < tickets->count);
    set_current(tickets, slot + 1);
}

void tickets_leave(struct tickets *tickets)
{
    set_current(tickets, 0);
}

static int read_memory(const char *memory, size_t size, struct buf *out_members,
                       char out_child_id[TICKETS_CHILD_SIZE])
{
    int status = 0;
    uint32_t current;
    size_t current_at = 0;

    if (memory[0] == '\0')
        return ERR_NOT_FOUND;
    if (memcmp(memory, mark, MARK_SIZE) != 0)
        return ERR_CORRUPT;
    memcpy(&current, memory + CURRENT_AT, sizeof current);
    if (current < size / JOB_MEMBER_SIZE && memory[current * JOB_MEMBER_SIZE] != '\0')
        current_at = current * JOB_MEMBER_SIZE; /* 0 is the head: none */
    if (current_at > 0)
        status = buf_append(out_members, memory + current_at, JOB_MEMBER_SIZE);
    for (size_t at = JOB_MEMBER_SIZE; at < size && status == 0; at += JOB_MEMBER_SIZE)
        if (memory[at] != '\0' && at != current_at)
            status = buf_append(out_members, memory + at, JOB_MEMBER_SIZE);
    if (status < 0)
        return status;
    memcpy(out_child_id, memory + MARK_SIZE, TICKETS_CHILD_SIZE);
    return current_at > 0;
}

int tickets_read(int fd, struct buf *out_members, char out_child_id[TICKETS_CHILD_SIZE])
{
    struct stat about;

    if (fstat(fd, &about) != 0)
        return ERR_IO;
    size_t size = (size_t)about.st_size - (size_t)about.st_size % JOB_MEMBER_SIZE;
    if (size == 0)
        return ERR_NOT_FOUND;
    if (size > TICKETS_BYTES_MAX)
        return ERR_CORRUPT;
    char *memory = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return ERR_IO;
    int status = read_memory(memory, size, out_members, out_child_id);
    (void)munmap(memory, size);
    return status;
}
