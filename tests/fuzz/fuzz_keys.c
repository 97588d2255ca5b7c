/* Any bytes as a keys file: loaded or refused with a reason; what was loaded is saved, loads again
 * and is the same; texts of keys are looked up without a fault. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static char folder[128], path[160];

static void remove_files(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

static void make_folder(void)
{
    const char *temp = getenv("TMPDIR");

    (void)snprintf(folder, sizeof(folder), "%s/penstock-keys.XXXXXX", temp ? temp : "/tmp");
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof(path), "%s/keys.yaml", folder);
    CHECK(atexit(remove_files) == 0);
}

static void check_again(struct keys *keys)
{
    struct error_text why = {""};
    struct keys *again = NULL;

    CHECK(keys_save(keys, path, &why) == 0);
    CHECK(keys_load(path, &again, &why) == 0);
    CHECK(keys_count(again) == keys_count(keys));
    for (unsigned i = 0; i < keys_count(keys); i++) {
        const struct key *a = keys_at(keys, i), *b = keys_at(again, i);

        CHECK(strcmp(a->id, b->id) == 0 && strcmp(a->tenant, b->tenant) == 0);
        CHECK(a->role == b->role && a->weight == b->weight && a->weight >= 1);
        CHECK(memcmp(a->hash, b->hash, sizeof(a->hash)) == 0);
        CHECK(a->limits.jobs_max == b->limits.jobs_max &&
              a->limits.bytes_max == b->limits.bytes_max &&
              a->limits.requests_per_second == b->limits.requests_per_second);
        CHECK(a->expires_at_ms == b->expires_at_ms && a->is_disabled == b->is_disabled);
        CHECK(a->limits.jobs_max >= 0 && a->limits.bytes_max >= 0);
    }
    keys_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct error_text why = {""};
    struct keys *keys = NULL;

    if (folder[0] == '\0')
        make_folder();
    (void)unlink(path); /* the last one may be a renamed file with another mode */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    CHECK(close(fd) == 0);
    int status = keys_load(path, &keys, &why);
    if (status != 0) {
        CHECK(status == ERR_INVALID);
        CHECK(why.text[0] != '\0');
        return 0;
    }
    struct slice text = {.bytes = (const char *)bytes, .size = size};
    CHECK(keys_find(keys, text) == NULL || keys_is_well_formed(text));
    check_again(keys);
    keys_destroy(keys);
    return 0;
}
