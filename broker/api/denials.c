#include "broker/api/denials.h"

#include <string.h>

/* FNV-1a: who finds addresses that share a slot makes the count start again, and gains a 401. */
static unsigned slot_of(struct slice address)
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < address.size; i++)
        hash = (hash ^ (unsigned char)address.bytes[i]) * 16777619U;
    return hash % DENIALS_SLOTS;
}

bool denials_add(struct denials *denials, struct slice address, int64_t now_mono_ms)
{
    struct denials_slot *slot = &denials->slots[slot_of(address)];
    int64_t second = now_mono_ms / 1000;

    if (address.size >= DENIALS_ADDRESS_SIZE)
        address.size = DENIALS_ADDRESS_SIZE - 1;
    if (slot->second != second || !slice_is(address, slot->address)) {
        memcpy(slot->address, address.bytes, address.size);
        slot->address[address.size] = '\0';
        slot->second = second;
        slot->count = 0;
    }
    if (slot->count <= DENIALS_PER_SECOND_MAX)
        slot->count++;
    return slot->count > DENIALS_PER_SECOND_MAX;
}
