#include "worker/upstream/wheel.h"

#include "common/base/check.h"

/* The first tick that begins at or after the deadline, so that nothing comes due early. */
static int64_t tick_of(int64_t due_ms)
{
    return (due_ms + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
}

static unsigned slot_of(int64_t tick)
{
    return (unsigned)(tick % WHEEL_SLOTS);
}

void wheel_init(struct wheel *wheel, int64_t now_ms)
{
    CHECK(now_ms >= 0);
    for (unsigned i = 0; i < WHEEL_SLOTS; i++)
        link_open(&wheel->slots[i]);
    for (unsigned i = 0; i < WHEEL_SLOTS / 64; i++)
        wheel->occupied[i] = 0;
    wheel->tick = now_ms / WHEEL_TICK_MS;
    wheel->count = 0;
}

static void put(struct wheel *wheel, struct wheel_entry *entry)
{
    int64_t tick = tick_of(entry->due_ms);
    if (tick < wheel->tick)
        tick = wheel->tick;
    if (tick > wheel->tick + WHEEL_SLOTS - 1)
        tick = wheel->tick + WHEEL_SLOTS - 1;
    unsigned slot = slot_of(tick);
    entry->tick = tick;
    link_add(&wheel->slots[slot], &entry->link);
    wheel->occupied[slot / 64] |= UINT64_C(1) << (slot % 64);
    wheel->count++;
}

void wheel_set(struct wheel *wheel, struct wheel_entry *entry, int64_t due_ms, int64_t now_ms)
{
    CHECK(due_ms >= 0);
    bool is_later = link_is_in(&entry->link) && tick_of(due_ms) >= entry->tick;
    entry->due_ms = due_ms;
    if (is_later)
        return;
    wheel_remove(wheel, entry);
    if (wheel->count == 0 && now_ms / WHEEL_TICK_MS > wheel->tick)
        wheel->tick = now_ms / WHEEL_TICK_MS; /* nobody turned it while it was empty */
    put(wheel, entry);
}

void wheel_remove(struct wheel *wheel, struct wheel_entry *entry)
{
    if (!link_is_in(&entry->link))
        return;
    unsigned slot = slot_of(entry->tick);
    link_remove(&entry->link);
    CHECK(wheel->count > 0);
    wheel->count--;
    if (link_is_empty(&wheel->slots[slot]))
        wheel->occupied[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
}

/* The first tick from wheel->tick on whose slot holds something; -1: none. */
static int64_t next_tick(const struct wheel *wheel)
{
    unsigned start = slot_of(wheel->tick);
    for (unsigned step = 0; step <= WHEEL_SLOTS / 64; step++) {
        unsigned word = (start / 64 + step) % (WHEEL_SLOTS / 64);
        uint64_t bits = wheel->occupied[word];
        if (step == 0)
            bits &= ~UINT64_C(0) << (start % 64);
        else if (step == WHEEL_SLOTS / 64)
            bits &= ~(~UINT64_C(0) << (start % 64));
        if (bits == 0)
            continue;
        unsigned slot = word * 64 + (unsigned)__builtin_ctzll(bits);
        return wheel->tick + (slot + WHEEL_SLOTS - start) % WHEEL_SLOTS;
    }
    return -1;
}

int64_t wheel_next_ms(const struct wheel *wheel)
{
    int64_t tick = next_tick(wheel);
    return tick < 0 ? -1 : tick * WHEEL_TICK_MS;
}

struct wheel_entry *wheel_expire(struct wheel *wheel, int64_t now_ms)
{
    int64_t now_tick = now_ms / WHEEL_TICK_MS;

    for (;;) {
        int64_t tick = next_tick(wheel);
        if (tick < 0 || tick > now_tick) {
            if (now_tick > wheel->tick)
                wheel->tick = now_tick;
            return NULL;
        }
        wheel->tick = tick;
        struct wheel_entry *entry =
            LINK_OWNER(wheel->slots[slot_of(tick)].next, struct wheel_entry, link);
        wheel_remove(wheel, entry);
        if (entry->due_ms <= now_ms)
            return entry;
        put(wheel, entry); /* only a stop on the way; its own tick is later than this one */
    }
}
