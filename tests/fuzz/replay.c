/* Runs one fuzz target without a fuzzer: over every file of its corpus as it is, over beginnings of
 * it, and over copies with a few bytes changed, always the same ones. It is what `make test` can
 * afford, and it needs no clang; `make fuzz` searches for new inputs.
 *
 *   replay_x FILE...
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_BYTES_MAX = 1 << 20,
    PREFIX_COUNT_MAX = 500, /* per file */
    CHANGED_COUNT = 2000,   /* per file */
    FILES_IN_FULL = 50,     /* of more, each has its share: a large corpus takes no longer */
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
/* Defined by targets whose inputs take long: so many changed copies and beginnings are enough. */
extern const unsigned fuzz_replay_changes __attribute__((weak));

/* The target gets memory of exactly the input's size, so that a sanitizer sees one byte too many.
 */
static void run_on(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    if (!copy)
        abort();
    memcpy(copy, bytes, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void run_on_changed(uint8_t *bytes, size_t size, unsigned count)
{
    static const char marks[] = "{}[]\",:\\-#&*!|>%@ \n\r\t0\x00\x7f\x80\xff";
    uint8_t *changed = malloc(size);
    uint32_t random = 2463534242u;

    if (!changed)
        abort();
    for (unsigned round = 0; round < count; round++) {
        uint32_t edits = 1 + next_random(&random) % 4;
        memcpy(changed, bytes, size);
        while (edits-- > 0) {
            uint8_t *at = &changed[next_random(&random) % size];
            uint32_t choice = next_random(&random);
            *at = choice % 2 ? (uint8_t)marks[choice / 2 % (sizeof marks - 1)]
                             : (uint8_t)(choice >> 8);
        }
        run_on(changed, size);
    }
    free(changed);
}

static unsigned share(unsigned count, unsigned files)
{
    return files <= FILES_IN_FULL ? count : count * FILES_IN_FULL / files + 1;
}

static bool run_on_file(const char *path, uint8_t *bytes, unsigned files)
{
    FILE *file = fopen(path, "rb");

    if (!file) {
        perror(path);
        return false;
    }
    size_t size = fread(bytes, 1, INPUT_BYTES_MAX, file);
    bool is_whole = !ferror(file) && fgetc(file) == EOF;
    (void)fclose(file);
    if (!is_whole) {
        (void)fprintf(stderr, "%s: cannot be read, or is larger than 1 MiB\n", path);
        return false;
    }

    bool is_slow = &fuzz_replay_changes != NULL;
    size_t step = size / (is_slow ? fuzz_replay_changes : share(PREFIX_COUNT_MAX, files)) + 1;
    for (size_t prefix = 0; prefix < size; prefix += step)
        run_on(bytes, prefix);
    run_on(bytes, size);
    if (size > 0)
        run_on_changed(bytes, size, is_slow ? fuzz_replay_changes : share(CHANGED_COUNT, files));
    return true;
}

int main(int argc, char **argv)
{
    uint8_t *bytes = malloc(INPUT_BYTES_MAX);
    bool is_fine = bytes && argc > 1;

    for (int i = 1; is_fine && i < argc; i++)
        is_fine = run_on_file(argv[i], bytes, (unsigned)argc - 1);
    free(bytes);
    return is_fine ? 0 : 1;
}
