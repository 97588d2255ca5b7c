/* The keys file: YAML in, YAML out. */
#include "common/base/keys_file.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/text.h"

enum { FILE_BYTES_MAX = 16 * 1024 * 1024, SECONDS_MAX = INT32_MAX };

/* ---- reading --------------------------------------------------------------------------------- */

struct file_limits {
    int64_t jobs_max;
    int64_t bytes_max;
    int64_t requests_per_second;
};

struct file_key {
    char *id;
    char *tenant;
    enum key_role role;
    char *hash;
    unsigned weight;
    struct file_limits limits;
    int64_t created_at;
    int64_t expires_at;
    bool disabled;
};

struct file {
    struct file_key *keys;
    unsigned keys_count;
};

static const cyaml_strval_t role_words[] = {{"tenant", KEY_TENANT}, {"admin", KEY_ADMIN}};

static const cyaml_schema_field_t limits_fields[] = {
    CYAML_FIELD_INT("jobs_max", CYAML_FLAG_OPTIONAL, struct file_limits, jobs_max),
    CYAML_FIELD_INT("bytes_max", CYAML_FLAG_OPTIONAL, struct file_limits, bytes_max),
    CYAML_FIELD_INT("requests_per_second", CYAML_FLAG_OPTIONAL, struct file_limits,
                    requests_per_second),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t key_fields[] = {
    CYAML_FIELD_STRING_PTR("id", CYAML_FLAG_POINTER, struct file_key, id, 0, 64),
    CYAML_FIELD_STRING_PTR("tenant", CYAML_FLAG_POINTER, struct file_key, tenant, 0, 256),
    CYAML_FIELD_ENUM("role", CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT, struct file_key, role,
                     role_words, 2),
    CYAML_FIELD_STRING_PTR("hash", CYAML_FLAG_POINTER, struct file_key, hash, 0, 128),
    CYAML_FIELD_UINT("weight", CYAML_FLAG_OPTIONAL, struct file_key, weight),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, struct file_key, limits, limits_fields),
    CYAML_FIELD_INT("created_at", CYAML_FLAG_OPTIONAL, struct file_key, created_at),
    CYAML_FIELD_INT("expires_at", CYAML_FLAG_OPTIONAL, struct file_key, expires_at),
    CYAML_FIELD_BOOL("disabled", CYAML_FLAG_OPTIONAL, struct file_key, disabled),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t key_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct file_key, key_fields),
};

static const cyaml_schema_field_t file_fields[] = {
    CYAML_FIELD_SEQUENCE("keys", CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL, struct file, keys,
                         &key_value, 0, KEYS_COUNT_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t file_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct file, file_fields),
};

/* libcyaml says what is wrong on several lines, the most useful first: they become one. */
__attribute__((format(printf, 3, 0))) static void on_yaml_log(cyaml_log_t level, void *context,
                                                              const char *format, va_list args)
{
    struct error_text *text = context;
    size_t used = strlen(text->text);

    if (level < CYAML_LOG_ERROR || used + 3 >= sizeof(text->text))
        return;
    if (used > 0) {
        memcpy(text->text + used, "; ", 3);
        used += 2;
    }
    int added = vsnprintf(text->text + used, sizeof(text->text) - used, format, args);
    if (added < 0)
        text->text[used] = '\0';
    for (char *c = text->text + used; *c; c++)
        if (*c == '\n')
            *c = c[1] ? ';' : '\0';
}

static int parse_hash(const char *text, uint8_t out[DIGEST_SHA256_SIZE])
{
    if (strlen(text) != (size_t)DIGEST_SHA256_SIZE * 2)
        return ERR_INVALID;
    for (size_t i = 0; i < (size_t)DIGEST_SHA256_SIZE * 2; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = strchr(digits, text[i]);
        if (!digit)
            return ERR_INVALID;
        uint8_t value = (uint8_t)(digit - digits);
        if (i % 2 == 0)
            out[i / 2] = (uint8_t)(value << 4);
        else
            out[i / 2] = (uint8_t)(out[i / 2] | value);
    }
    return 0;
}

static int take_row(struct keys *keys, const struct file_key *row, struct error_text *why)
{
    struct key key = {.is_disabled = row->disabled};

    if (row->created_at < 0 || row->created_at > SECONDS_MAX * 8LL || row->expires_at < 0 ||
        row->expires_at > SECONDS_MAX * 8LL)
        return error_set(why, ERR_INVALID, "times are seconds since 1970");
    const struct key_wish wish = {
        .tenant = row->tenant,
        .role = row->role,
        .weight = row->weight,
        .limits = {.jobs_max = row->limits.jobs_max,
                   .bytes_max = row->limits.bytes_max,
                   .requests_per_second = row->limits.requests_per_second},
        .created_at_ms = row->created_at * 1000,
        .expires_at_ms = row->expires_at * 1000,
    };
    int status = key_set_id(&key, slice_of(row->id), why);
    if (status < 0)
        return status;
    if (parse_hash(row->hash, key.hash) < 0)
        return error_set(why, ERR_INVALID, "hash must be 64 lower-case hex digits");
    status = key_set_wish(&key, &wish, why);
    if (status < 0)
        return status;
    return keys_add(keys, &key, why);
}

static int take_rows(struct keys *keys, const struct file *file, const char *path,
                     struct error_text *why)
{
    for (unsigned i = 0; file && i < file->keys_count; i++) {
        struct error_text reason = {.text = ""};
        int status = take_row(keys, &file->keys[i], &reason);
        if (status < 0)
            return error_set(why, status == ERR_NOMEM ? status : ERR_INVALID, "%s: keys[%u]: %s",
                             path, i, reason.text);
    }
    return 0;
}

static int read_file(const char *path, struct buf *out, struct error_text *why)
{
    int status = 0;
    ssize_t count = 1;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(why, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path,
                         strerror(errno));
    while (status == 0 && count > 0) {
        char piece[65536];
        count = read(fd, piece, sizeof(piece));
        if (count < 0)
            status = error_set(why, ERR_IO, "%s: %s", path, strerror(errno));
        else if (count > 0 && buf_append(out, piece, (size_t)count) < 0)
            status = error_set(why, ERR_INVALID, "%s: larger than %d bytes", path, FILE_BYTES_MAX);
    }
    close(fd);
    return status;
}

static bool is_blank(const struct buf *text)
{
    for (size_t i = 0; i < text->size; i++)
        if (!memchr(" \t\r\n", text->data[i], 4))
            return false;
    return true;
}

int keys_load(const char *path, struct keys **out, struct error_text *why)
{
    struct buf text = {.size_max = FILE_BYTES_MAX};
    struct error_text reason = {.text = ""};
    const cyaml_config_t config = {.log_fn = on_yaml_log,
                                   .log_ctx = &reason,
                                   .mem_fn = cyaml_mem,
                                   .log_level = CYAML_LOG_ERROR,
                                   .flags = CYAML_CFG_NO_ALIAS};
    struct file *file = NULL;
    struct keys *keys = keys_create();
    int status;

    if (!keys)
        return error_set(why, ERR_NOMEM, "out of memory");
    status = read_file(path, &text, why);
    if (status < 0 || is_blank(&text))
        goto out;
    if (cyaml_load_data((const uint8_t *)text.data, text.size, &config, &file_value,
                        (cyaml_data_t **)&file, NULL) != CYAML_OK) {
        status = error_set(why, ERR_INVALID, "%s: %s", path, reason.text);
        goto out;
    }
    status = take_rows(keys, file, path, why);

out:
    if (file)
        cyaml_free(&config, &file_value, file, 0);
    buf_deinit(&text);
    if (status < 0)
        keys_destroy(keys);
    else
        *out = keys;
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int print_key(const struct key *key, struct buf *out)
{
    char hash[DIGEST_SHA256_SIZE * 2 + 1];

    digest_hex(key->hash, sizeof(key->hash), hash);
    int status = buf_printf(out,
                            "  - id: \"%s\"\n    tenant: \"%s\"\n    role: %s\n    hash: \"%s\"\n"
                            "    weight: %u\n    limits: {jobs_max: %lld, bytes_max: %lld, "
                            "requests_per_second: %lld}\n    created_at: %lld\n",
                            key->id, key->tenant, key_role_word(key->role), hash, key->weight,
                            (long long)key->limits.jobs_max, (long long)key->limits.bytes_max,
                            (long long)key->limits.requests_per_second,
                            (long long)(key->created_at_ms / 1000));
    if (status == 0 && key->expires_at_ms > 0)
        status = buf_printf(out, "    expires_at: %lld\n", (long long)(key->expires_at_ms / 1000));
    if (status == 0 && key->is_disabled)
        status = buf_append_text(out, "    disabled: true\n");
    return status;
}

static int print_keys(const struct keys *keys, struct buf *out)
{
    int status = buf_append_text(
        out, "# API keys of Penstock: hashes only, no key can be read from here.\n"
             "# `penstock keys` edits this file; brokers notice a change within seconds.\n"
             "# Times are seconds since 1970, a limit of 0 is none.\n");
    if (status == 0)
        status = buf_append_text(out, keys->count > 0 ? "keys:\n" : "keys: []\n");
    for (unsigned i = 0; status == 0 && i < keys->count; i++)
        status = print_key(&keys->rows[i], out);
    return status;
}

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = write(fd, bytes, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return ERR_IO;
        bytes += count;
        size -= (size_t)count;
    }
    return 0;
}

/* A rename is only sure to last once the folder itself is on disk. */
static void sync_folder_of(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) + 1 : 1,
             slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* best effort: some file systems refuse it on folders */
    close(fd);
}

int keys_save(const struct keys *keys, const char *path, struct error_text *why)
{
    struct buf text = {.size_max = FILE_BYTES_MAX};
    char fresh[PATH_MAX];
    int fd = -1;
    int status = print_keys(keys, &text);

    if (status < 0) {
        error_set(why, status, "%s: %s", path, error_text_of(status));
        goto out;
    }
    if (snprintf(fresh, sizeof(fresh), "%s.XXXXXX", path) >= (int)sizeof(fresh)) {
        status = error_set(why, ERR_IO, "%s: path too long", path);
        goto out;
    }
    fd = mkostemp(fresh, O_CLOEXEC); /* made with mode 0600 */
    if (fd < 0) {
        status = error_set(why, ERR_IO, "%s: %s", fresh, strerror(errno));
        goto out;
    }
    status = write_all(fd, text.data, text.size);
    if (status < 0 || fsync(fd) < 0 || rename(fresh, path) < 0) {
        status = error_set(why, ERR_IO, "%s: %s", path, strerror(errno));
        (void)unlink(fresh);
        goto out;
    }
    sync_folder_of(path);

out:
    if (fd >= 0)
        close(fd);
    buf_deinit(&text);
    return status;
}
