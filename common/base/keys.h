/* API keys: the keys file, in memory and on disk. The only door to it; written by `penstock keys`,
 * read by brokers.
 *
 * A key as its owner sees it: "pk_" id "_" secret check, where id is 10, secret 52 (256 random
 * bits, the last padded) and check 5 base32 characters; check is the first 25 bits of SHA-256 of
 * what stands before it, so that a mistyped or cut key is told apart from a wrong one without
 * looking anything up. The file holds SHA-256(id, secret): the id is the salt, and a slow hash
 * would add nothing to a secret of 256 random bits but a way to burn our CPU. */
#ifndef PENSTOCK_BASE_KEYS_H
#define PENSTOCK_BASE_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/digest.h"
#include "common/base/error.h"
#include "common/base/slice.h"

enum {
    KEYS_ID_SIZE = 10,
    KEYS_TEXT_SIZE = 3 + KEYS_ID_SIZE + 1 + 52 + 5, /* of a whole key */
    KEYS_TENANT_BYTES = 64,
    KEYS_COUNT_MAX = 10000,
};

enum key_role { KEY_TENANT, KEY_ADMIN };

struct key_limits {    /* 0 = no limit */
    int64_t jobs_max;  /* live jobs of the tenant */
    int64_t bytes_max; /* bytes of live jobs of the tenant */
    int64_t requests_per_second;
};

struct key {
    char id[KEYS_ID_SIZE + 1];
    char tenant[KEYS_TENANT_BYTES + 1];
    enum key_role role;
    uint8_t hash[DIGEST_SHA256_SIZE];
    unsigned weight; /* share between tenants, 1..1000 */
    struct key_limits limits;
    int64_t created_at_ms;
    int64_t expires_at_ms; /* 0 = never */
    bool is_disabled;
};

struct keys;

struct keys *keys_create(void); /* empty */
void keys_destroy(struct keys *keys);
/* ERR_NOT_FOUND when there is no file (why says so), ERR_INVALID with the place and reason, ERR_IO.
 */
MUST_CHECK int keys_load(const char *path, struct keys **out, struct error_text *why);
/* Writes a new file beside path (mode 0600), syncs it and renames it over path. ERR_IO. */
MUST_CHECK int keys_save(const struct keys *keys, const char *path, struct error_text *why);

unsigned keys_count(const struct keys *keys);
const struct key *keys_at(const struct keys *keys, unsigned index);

/* The key this text is the secret of, whatever its state. Compares in constant time and hashes also
 * for unknown ids. NULL: none. */
const struct key *keys_find(const struct keys *keys, struct slice presented);
/* Form and check characters only. */
bool keys_is_well_formed(struct slice presented);
/* Disabled or expired keys open nothing. */
bool key_is_valid(const struct key *key, int64_t now_ms);

struct key_wish {
    const char *tenant; /* 1..64 of [A-Za-z0-9._-], not starting with '_' */
    enum key_role role;
    unsigned weight; /* 0 = 1 */
    struct key_limits limits;
    int64_t created_at_ms;
    int64_t expires_at_ms;
};
/* Adds a key and gives its text, the only time it exists. ERR_INVALID, ERR_FULL. */
MUST_CHECK int keys_generate(struct keys *keys, const struct key_wish *wish,
                             char out_text[KEYS_TEXT_SIZE + 1], struct error_text *why);
/* ERR_NOT_FOUND. */
MUST_CHECK int keys_remove(struct keys *keys, struct slice id);
MUST_CHECK int keys_set_disabled(struct keys *keys, struct slice id, bool disabled);

const char *key_role_word(enum key_role role);

#endif
