/* Wrong keys by address: who sends a flood of them is answered 429 instead of 401, and is told to
 * wait. Keys are looked at first, so nobody with a right one is kept out by a neighbour behind the
 * same address. A fixed table, one look per denial. */
#ifndef PENSTOCK_API_DENIALS_H
#define PENSTOCK_API_DENIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

enum {
    DENIALS_SLOTS = 512,
    DENIALS_ADDRESS_SIZE = 48,
    DENIALS_PER_SECOND_MAX = 100, /* of one address at one broker process */
};

struct denials {
    struct denials_slot {
        char address[DENIALS_ADDRESS_SIZE]; /* the last that came to this slot */
        int64_t second;
        unsigned count;
    } slots[DENIALS_SLOTS];
};

/* Counts one more. True: that is a flood. */
bool denials_add(struct denials *denials, struct slice address, int64_t now_mono_ms);

#endif
