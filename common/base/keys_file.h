/* What keys.c and keys_file.c share: the table itself and its checked writers. */
#ifndef PENSTOCK_BASE_KEYS_FILE_H
#define PENSTOCK_BASE_KEYS_FILE_H

#include "common/base/keys.h"

struct keys {
    struct key *rows; /* sorted by id */
    unsigned count;
    unsigned capacity;
};

/* ERR_FULL, ERR_NOMEM; ERR_INVALID when the id is there already. */
MUST_CHECK int keys_add(struct keys *keys, const struct key *key, struct error_text *why);
/* Check and take over what a person said. ERR_INVALID. */
MUST_CHECK int key_set_wish(struct key *key, const struct key_wish *wish, struct error_text *why);
MUST_CHECK int key_set_id(struct key *key, struct slice id, struct error_text *why);

#endif
