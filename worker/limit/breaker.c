#include "worker/limit/breaker.h"

#include "common/base/check.h"

/* The one place that writes the mode. */
static void enter(struct breaker *breaker, enum breaker_mode mode)
{
    breaker->mode = mode;
    breaker->failures = 0;
}

bool breaker_is_passable(const struct breaker *breaker, int64_t now_mono_ms)
{
    /* The wait of a probe that never ends must not keep the upstream shut for ever. */
    return breaker->mode == BREAKER_CLOSED || now_mono_ms >= breaker->until_mono_ms;
}

uint32_t breaker_room(const struct breaker *breaker, unsigned in_flight, int64_t now_mono_ms)
{
    if (breaker->mode != BREAKER_CLOSED)
        return breaker_is_passable(breaker, now_mono_ms) ? 1 : 0;
    if (breaker->ramp == 0)
        return UINT32_MAX;
    return breaker->ramp > in_flight ? breaker->ramp - in_flight : 0;
}

static void open_for(struct breaker *breaker, int64_t now_mono_ms, uint64_t random)
{
    int64_t wait_ms = BREAKER_WAIT_MIN_MS;
    for (unsigned i = 0; i < breaker->trips && wait_ms < BREAKER_WAIT_MAX_MS; i++)
        wait_ms *= 2;
    breaker->trips++;
    /* Between three and five quarters, so that the children of a fleet do not probe in step. */
    wait_ms = wait_ms * 3 / 4 + (int64_t)(random % (uint64_t)(wait_ms / 2));
    breaker->until_mono_ms = now_mono_ms + wait_ms;
    enter(breaker, BREAKER_OPEN);
}

void breaker_start(struct breaker *breaker, int64_t now_mono_ms)
{
    if (breaker->mode == BREAKER_CLOSED)
        return;
    enter(breaker, BREAKER_PROBING);
    breaker->until_mono_ms = now_mono_ms + BREAKER_WAIT_MAX_MS;
}

void breaker_success(struct breaker *breaker)
{
    breaker->trips = 0;
    if (breaker->mode != BREAKER_CLOSED) {
        enter(breaker, BREAKER_CLOSED);
        breaker->ramp = BREAKER_RAMP_FIRST;
        return;
    }
    breaker->failures = 0;
    if (breaker->ramp > 0 && ++breaker->ramp >= BREAKER_RAMP_DONE)
        breaker->ramp = 0;
}

void breaker_failure(struct breaker *breaker, int64_t now_mono_ms, uint64_t random)
{
    switch (breaker->mode) {
    case BREAKER_CLOSED:
        if (++breaker->failures >= BREAKER_FAILURES)
            open_for(breaker, now_mono_ms, random);
        return;
    case BREAKER_OPEN:
        return; /* calls from before it opened */
    case BREAKER_PROBING:
        open_for(breaker, now_mono_ms, random);
        return;
    }
}

void breaker_nothing(struct breaker *breaker, int64_t now_mono_ms)
{
    if (breaker->mode == BREAKER_PROBING) {
        enter(breaker, BREAKER_OPEN);
        breaker->until_mono_ms = now_mono_ms;
    }
}
