/* What every file of the simulator shares: assertions and borrowed pieces of text.
 *
 * penstock-sim stands alone on purpose: it must not share code with what it tests.
 */
#ifndef SIM_BASE_H
#define SIM_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK __attribute__((warn_unused_result))

/* A broken promise inside the simulator ends it: a wrong mock proves nothing. Never for input. */
#define SIM_CHECK(condition)                                  \
    do {                                                      \
        if (__builtin_expect(!(condition), 0))                \
            sim_check_failed(#condition, __FILE__, __LINE__); \
    } while (0)

__attribute__((noreturn)) void sim_check_failed(const char *condition, const char *file, int line);

/* Borrowed bytes, not terminated. */
struct slice {
    const char *data;
    size_t size;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})

static inline int slice_is(struct slice text, const char *other, size_t other_size)
{
    return text.size == other_size && memcmp(text.data, other, other_size) == 0;
}

#define SLICE_IS(text, literal) slice_is((text), (literal), sizeof(literal) - 1)

static inline int slice_starts(struct slice text, const char *start, size_t start_size)
{
    return text.size >= start_size && memcmp(text.data, start, start_size) == 0;
}

#define SLICE_STARTS(text, literal) slice_starts((text), (literal), sizeof(literal) - 1)

#endif
