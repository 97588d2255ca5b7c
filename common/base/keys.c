#include "common/base/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/keys_file.h"
#include "common/base/text.h"

enum {
    SECRET_BYTES = 32,
    SECRET_TEXT_SIZE = 52,
    CHECK_SIZE = 5,
    ID_BITS = 50,
    SECRET_AT = 3 + KEYS_ID_SIZE + 1,
    CHECKED_SIZE = SECRET_AT + SECRET_TEXT_SIZE,
    WEIGHT_MAX = 1000,
};

_Static_assert(CHECKED_SIZE + CHECK_SIZE == KEYS_TEXT_SIZE, "the parts make up the key");
_Static_assert(KEYS_ID_SIZE * 5 == ID_BITS, "the id is whole characters");

const char *key_role_word(enum key_role role)
{
    switch (role) {
    case KEY_TENANT:
        return "tenant";
    case KEY_ADMIN:
        return "admin";
    }
    check_failed(__FILE__, __LINE__, "role is known");
}

struct keys *keys_create(void)
{
    return calloc(1, sizeof(struct keys));
}

void keys_destroy(struct keys *keys)
{
    if (!keys)
        return;
    free(keys->rows);
    free(keys);
}

unsigned keys_count(const struct keys *keys)
{
    return keys->count;
}

const struct key *keys_at(const struct keys *keys, unsigned index)
{
    CHECK(index < keys->count);
    return &keys->rows[index];
}

/* ---- looking up ------------------------------------------------------------------------------ */

/* Index of the first row whose id is not below `id`; rows are sorted by id. */
static unsigned lower_bound(const struct keys *keys, const char id[KEYS_ID_SIZE])
{
    unsigned low = 0;
    unsigned high = keys->count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (memcmp(keys->rows[middle].id, id, KEYS_ID_SIZE) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool has_id_at(const struct keys *keys, unsigned index, const char id[KEYS_ID_SIZE])
{
    return index < keys->count && memcmp(keys->rows[index].id, id, KEYS_ID_SIZE) == 0;
}

static bool is_base32(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (digest_base32_value(text[i]) < 0 || (text[i] >= 'A' && text[i] <= 'Z'))
            return false;
    return true;
}

static void make_check(const char text[CHECKED_SIZE], char out[CHECK_SIZE])
{
    uint8_t hash[DIGEST_SHA256_SIZE];

    digest_sha256(text, CHECKED_SIZE, hash);
    digest_base32(hash, CHECK_SIZE * 5, out);
}

static void make_hash(const char text[KEYS_TEXT_SIZE], uint8_t out[DIGEST_SHA256_SIZE])
{
    digest_sha256(text + 3, KEYS_ID_SIZE + 1 + SECRET_TEXT_SIZE, out);
}

bool keys_is_well_formed(struct slice presented)
{
    char check[CHECK_SIZE];

    if (presented.size != KEYS_TEXT_SIZE || memcmp(presented.bytes, "pk_", 3) != 0)
        return false;
    if (presented.bytes[SECRET_AT - 1] != '_')
        return false;
    if (!is_base32(presented.bytes + 3, KEYS_ID_SIZE) ||
        !is_base32(presented.bytes + SECRET_AT, SECRET_TEXT_SIZE + CHECK_SIZE))
        return false;
    make_check(presented.bytes, check);
    return memcmp(check, presented.bytes + CHECKED_SIZE, CHECK_SIZE) == 0;
}

const struct key *keys_find(const struct keys *keys, struct slice presented)
{
    static const uint8_t nobody[DIGEST_SHA256_SIZE] = {0};
    uint8_t hash[DIGEST_SHA256_SIZE];
    const struct key *found = NULL;

    if (!keys_is_well_formed(presented))
        return NULL;
    make_hash(presented.bytes, hash);
    unsigned at = lower_bound(keys, presented.bytes + 3);
    if (has_id_at(keys, at, presented.bytes + 3))
        found = &keys->rows[at];
    /* Ids are no secret, but an unknown one must take as long as a known one. */
    bool is_equal = digest_equal(hash, found ? found->hash : nobody, sizeof(hash));
    digest_wipe(hash, sizeof(hash));
    return found && is_equal ? found : NULL;
}

bool key_is_valid(const struct key *key, int64_t now_ms)
{
    return !key->is_disabled && (key->expires_at_ms == 0 || now_ms < key->expires_at_ms);
}

/* ---- changing -------------------------------------------------------------------------------- */

int keys_add(struct keys *keys, const struct key *key, struct error_text *why)
{
    if (keys->count >= KEYS_COUNT_MAX)
        return error_set(why, ERR_FULL, "more than %d keys", KEYS_COUNT_MAX);
    if (keys->count == keys->capacity) {
        unsigned capacity = keys->capacity ? keys->capacity * 2 : 16;
        struct key *rows = calloc(capacity, sizeof(*rows));
        if (!rows)
            return error_set(why, ERR_NOMEM, "out of memory for %u keys", capacity);
        if (keys->count > 0)
            memcpy(rows, keys->rows, keys->count * sizeof(*rows));
        free(keys->rows);
        keys->rows = rows;
        keys->capacity = capacity;
    }
    unsigned at = lower_bound(keys, key->id);
    if (has_id_at(keys, at, key->id))
        return error_set(why, ERR_INVALID, "key id %s is there twice", key->id);
    memmove(&keys->rows[at + 1], &keys->rows[at], (keys->count - at) * sizeof(*keys->rows));
    keys->rows[at] = *key;
    keys->count++;
    return 0;
}

static bool is_tenant_name(const char *name)
{
    size_t size = strlen(name);

    if (size == 0 || size > KEYS_TENANT_BYTES || name[0] == '_')
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && c != '.' && c != '_' && c != '-')
            return false;
    }
    return true;
}

int key_set_wish(struct key *key, const struct key_wish *wish, struct error_text *why)
{
    if (!wish->tenant || !is_tenant_name(wish->tenant))
        return error_set(why, ERR_INVALID,
                         "tenant must be 1 to %d letters, digits, '.', '_' or '-', not starting "
                         "with '_'",
                         KEYS_TENANT_BYTES);
    if (wish->weight > WEIGHT_MAX)
        return error_set(why, ERR_INVALID, "weight must be 1 to %d", WEIGHT_MAX);
    if (wish->limits.jobs_max < 0 || wish->limits.bytes_max < 0 ||
        wish->limits.requests_per_second < 0)
        return error_set(why, ERR_INVALID, "limits must not be negative");
    if (wish->created_at_ms < 0 || wish->expires_at_ms < 0)
        return error_set(why, ERR_INVALID, "times must not be negative");

    memset(key->tenant, 0, sizeof(key->tenant));
    memcpy(key->tenant, wish->tenant, strlen(wish->tenant));
    key->role = wish->role;
    key->weight = wish->weight ? wish->weight : 1;
    key->limits = wish->limits;
    key->created_at_ms = wish->created_at_ms;
    key->expires_at_ms = wish->expires_at_ms;
    return 0;
}

int key_set_id(struct key *key, struct slice id, struct error_text *why)
{
    if (id.size != KEYS_ID_SIZE || !is_base32(id.bytes, id.size))
        return error_set(why, ERR_INVALID, "id must be %d base32 characters", KEYS_ID_SIZE);
    memcpy(key->id, id.bytes, KEYS_ID_SIZE);
    key->id[KEYS_ID_SIZE] = '\0';
    return 0;
}

int keys_generate(struct keys *keys, const struct key_wish *wish, char out_text[KEYS_TEXT_SIZE + 1],
                  struct error_text *why)
{
    struct key key = {.is_disabled = false};
    uint8_t random[SECRET_BYTES + 8];
    char text[KEYS_TEXT_SIZE + 1] = "pk_";

    int status = key_set_wish(&key, wish, why);
    if (status < 0)
        return status;
    digest_random(random, sizeof(random));
    digest_base32(random + SECRET_BYTES, ID_BITS, text + 3);
    text[SECRET_AT - 1] = '_';
    digest_base32(random, (size_t)SECRET_BYTES * 8, text + SECRET_AT);
    make_check(text, text + CHECKED_SIZE);
    digest_wipe(random, sizeof(random));

    memcpy(key.id, text + 3, KEYS_ID_SIZE);
    make_hash(text, key.hash);
    status = keys_add(keys, &key, why);
    if (status == 0)
        memcpy(out_text, text, sizeof(text));
    digest_wipe(text, sizeof(text));
    return status;
}

int keys_remove(struct keys *keys, struct slice id)
{
    if (id.size != KEYS_ID_SIZE)
        return ERR_NOT_FOUND;
    unsigned at = lower_bound(keys, id.bytes);
    if (!has_id_at(keys, at, id.bytes))
        return ERR_NOT_FOUND;
    keys->count--;
    memmove(&keys->rows[at], &keys->rows[at + 1], (keys->count - at) * sizeof(*keys->rows));
    return 0;
}

int keys_set_disabled(struct keys *keys, struct slice id, bool disabled)
{
    if (id.size != KEYS_ID_SIZE)
        return ERR_NOT_FOUND;
    unsigned at = lower_bound(keys, id.bytes);
    if (!has_id_at(keys, at, id.bytes))
        return ERR_NOT_FOUND;
    keys->rows[at].is_disabled = disabled;
    return 0;
}
