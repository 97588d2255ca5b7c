#include "worker/run/attempt_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/digest.h"
#include "worker/run/job_copy.h"

int attempt_table_init(struct attempt_table *table, unsigned count_max, int tickets_fd,
                       const char *child_id, struct error_text *why)
{
    CHECK(count_max > 0);
    CHECK(count_max <= 1u << 24);
    unsigned chunks = (count_max + ATTEMPT_CHUNK - 1) / ATTEMPT_CHUNK;
    uint32_t places = 16;
    while (places < count_max * 2)
        places *= 2;

    *table = (struct attempt_table){.count_max = count_max, .places_mask = places - 1};
    int status = tickets_open(&table->tickets, tickets_fd, child_id, count_max, why);
    if (status < 0)
        return status;
    table->chunks = calloc(chunks, sizeof *table->chunks);
    table->places = calloc(places, sizeof *table->places);
    if (!table->chunks || !table->places) {
        attempt_table_deinit(table);
        return error_set(why, ERR_NOMEM, "no memory for %u calls in flight", count_max);
    }
    table->seed = digest_random_u64();
    return 0;
}

void attempt_table_deinit(struct attempt_table *table)
{
    CHECK(table->count == 0);
    if (table->chunks)
        for (unsigned i = 0; i * ATTEMPT_CHUNK < table->made_count; i++)
            free(table->chunks[i]);
    free(table->chunks);
    free(table->places);
    tickets_close(&table->tickets);
    *table = (struct attempt_table){0};
}

static struct attempt *slot_at(const struct attempt_table *table, unsigned slot)
{
    CHECK(slot < table->made_count);
    return &table->chunks[slot / ATTEMPT_CHUNK][slot % ATTEMPT_CHUNK];
}

struct attempt *attempt_table_at(const struct attempt_table *table, unsigned slot)
{
    struct attempt *attempt = slot_at(table, slot);
    return attempt->state == ATTEMPT_FREE ? NULL : attempt;
}

/* The last characters of an id are random, drawn by a broker; the seed keeps them from being chosen
 * for us. */
static uint32_t place_of(const struct attempt_table *table, const struct job_id *id)
{
    uint64_t a;
    uint64_t b;
    memcpy(&a, id->core + JOB_ID_CORE_SIZE - 16, sizeof a);
    memcpy(&b, id->core + JOB_ID_CORE_SIZE - 8, sizeof b);
    uint64_t mixed = (a ^ table->seed) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ b ^ (mixed >> 29)) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(mixed >> 32) & table->places_mask;
}

static void place_add(struct attempt_table *table, const struct attempt *attempt)
{
    uint32_t place = place_of(table, &attempt->job.id);
    while (table->places[place] != 0)
        place = (place + 1) & table->places_mask;
    table->places[place] = attempt->slot + 1;
}

/* Closes the gap behind it, so that no search ends too early. */
static void place_remove(struct attempt_table *table, const struct attempt *attempt)
{
    uint32_t place = place_of(table, &attempt->job.id);
    while (table->places[place] != attempt->slot + 1) {
        CHECK(table->places[place] != 0);
        place = (place + 1) & table->places_mask;
    }
    uint32_t gap = place;
    for (;;) {
        place = (place + 1) & table->places_mask;
        if (table->places[place] == 0)
            break;
        uint32_t home = place_of(table, &slot_at(table, table->places[place] - 1)->job.id);
        /* It may fill the gap unless its home lies behind the gap. */
        if (((place - home) & table->places_mask) >= ((place - gap) & table->places_mask)) {
            table->places[gap] = table->places[place];
            gap = place;
        }
    }
    table->places[gap] = 0;
}

/* Puts ATTEMPT_CHUNK more attempts (fewer at the end) on the free list. */
static bool make_chunk(struct attempt_table *table)
{
    unsigned first = table->made_count;
    unsigned count = table->count_max - first;

    if (count == 0)
        return false;
    if (count > ATTEMPT_CHUNK)
        count = ATTEMPT_CHUNK;
    struct attempt *chunk = calloc(ATTEMPT_CHUNK, sizeof *chunk);
    if (!chunk)
        return false;
    table->chunks[first / ATTEMPT_CHUNK] = chunk;
    table->made_count += count;
    for (unsigned i = count; i > 0; i--) {
        chunk[i - 1].slot = first + i - 1;
        chunk[i - 1].next = table->free_first;
        table->free_first = &chunk[i - 1];
    }
    return true;
}

struct attempt *attempt_table_add(struct attempt_table *table, const struct job *job)
{
    if (!table->free_first && !make_chunk(table))
        return NULL;
    struct attempt *attempt = table->free_first;
    CHECK(attempt->state == ATTEMPT_FREE);
    if (job_copy(job, &attempt->job, &attempt->memory) < 0)
        return NULL;
    table->free_first = attempt->next;
    attempt->next = NULL;
    attempt_set_state(attempt, ATTEMPT_NEW);
    attempt->is_suspect = (job->flags & JOB_FLAG_SUSPECT) != 0;
    attempt->body_bytes = job->payload.size;
    table->body_bytes += attempt->body_bytes;
    table->count++;
    place_add(table, attempt);
    tickets_write(&table->tickets, attempt->slot, job);
    return attempt;
}

struct attempt *attempt_table_find(const struct attempt_table *table, const struct job_id *id,
                                   unsigned claim)
{
    uint32_t place = place_of(table, id);

    for (; table->places[place] != 0; place = (place + 1) & table->places_mask) {
        struct attempt *attempt = slot_at(table, table->places[place] - 1);
        if (attempt->job.claim == claim &&
            memcmp(attempt->job.id.core, id->core, JOB_ID_CORE_SIZE) == 0)
            return attempt;
    }
    return NULL;
}

void attempt_table_remove(struct attempt_table *table, struct attempt *attempt)
{
    CHECK(attempt->state != ATTEMPT_FREE);
    CHECK(table->count > 0);
    CHECK(table->body_bytes >= attempt->body_bytes);
    unsigned slot = attempt->slot;

    table->body_bytes -= attempt->body_bytes;
    tickets_clear(&table->tickets, slot);
    place_remove(table, attempt);
    free(attempt->memory);
    free(attempt->first_error);
    provider_call_deinit(&attempt->call);
    /* The job's fields are written whole by the next add. */
    memset(attempt, 0, offsetof(struct attempt, job));
    attempt->slot = slot;
    attempt->next = table->free_first;
    table->free_first = attempt;
    table->count--;
}
