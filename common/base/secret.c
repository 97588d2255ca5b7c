/* Keys that do not leak: into logs, into freed memory, into the time a comparison takes. */
#include "common/base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/digest.h"
#include "common/base/settings.h"

static bool has_control(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)bytes[i] < ' ' || bytes[i] == 0x7f)
            return true;
    }
    return false;
}

int secret_set(struct secret *secret, const char *bytes, size_t size)
{
    char *copy = NULL;

    if (size > SECRET_SIZE_MAX)
        return ERR_TOO_BIG;
    if (has_control(bytes, size))
        return ERR_INVALID;
    if (size > 0) {
        copy = malloc(size + 1);
        if (!copy)
            return ERR_NOMEM;
        memcpy(copy, bytes, size);
        copy[size] = '\0';
    }
    secret_deinit(secret);
    *secret = (struct secret){.bytes = copy, .size = size};
    return 0;
}

static int set_named(struct secret *secret, const char *name, const char *bytes, size_t size,
                     struct error_text *why)
{
    int status = secret_set(secret, bytes, size);

    if (status == ERR_INVALID)
        return error_set(why, status, "%s: holds control characters", name);
    if (status < 0)
        return error_set(why, status, "%s: %s", name, error_text_of(status));
    return 0;
}

int secret_load_environment(struct secret *secret, const char *variable, struct error_text *why)
{
    const char *value = settings_environment(variable);

    if (*value == '\0')
        return error_set(why, ERR_NOT_FOUND, "%s: not set", variable);
    return set_named(secret, variable, value, strlen(value), why);
}

/* Bytes read, ERR_TOO_BIG, or ERR_IO with errno. */
static int read_all(int fd, char *out, size_t size_max)
{
    size_t size = 0;

    for (;;) {
        ssize_t count = read(fd, out + size, size_max - size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return ERR_IO;
        size += (size_t)count;
        if (size == size_max)
            return ERR_TOO_BIG;
        if (count == 0)
            return (int)size;
    }
}

int secret_load_file(struct secret *secret, const char *path, struct error_text *why)
{
    char bytes[SECRET_SIZE_MAX + 3]; /* a line break, and one more to see that it is too long */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int status;

    if (fd < 0)
        return error_set(why, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
                         strerror(errno));
    int size = read_all(fd, bytes, sizeof bytes);
    if (size < 0) {
        status = error_set(why, size, "%s: %s", path,
                           size == ERR_IO ? strerror(errno) : error_text_of(size));
    } else {
        size -= size > 0 && bytes[size - 1] == '\n';
        size -= size > 0 && bytes[size - 1] == '\r';
        status = set_named(secret, path, bytes, (size_t)size, why);
    }
    digest_wipe(bytes, sizeof bytes);
    (void)close(fd);
    return status;
}

void secret_deinit(struct secret *secret)
{
    if (secret->bytes)
        digest_wipe(secret->bytes, secret->size);
    free(secret->bytes);
    *secret = (struct secret){.bytes = NULL};
}

bool secret_is_empty(const struct secret *secret)
{
    return secret->size == 0;
}

const char *secret_text(const struct secret *secret)
{
    return secret->bytes ? secret->bytes : "";
}

bool secret_equal(const struct secret *secret, const char *bytes, size_t size)
{
    /* Lengths are no secret; the bytes are. */
    return secret->size == size && (size == 0 || digest_equal(secret->bytes, bytes, size));
}
