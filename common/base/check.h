/* Assertions that stay on in release builds, and the attributes this tree uses.
 *
 * CHECK is for broken invariants of ours: it prints where and what, then aborts; the supervisor
 * restarts the process and the lease brings the job back. Never for input, never with side effects.
 */
#ifndef PENSTOCK_BASE_CHECK_H
#define PENSTOCK_BASE_CHECK_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define NORETURN __attribute__((noreturn))

NORETURN void check_failed(const char *file, int line, const char *condition);

#define CHECK(condition)                                  \
    do {                                                  \
        if (__builtin_expect(!(condition), 0))            \
            check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#endif
