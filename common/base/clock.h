/* The only place that asks for the time. Wall time is for people, monotonic time for durations,
 * boot time (which goes on through suspend) for leases. Milliseconds are signed 64 bit. */
#ifndef PENSTOCK_BASE_CLOCK_H
#define PENSTOCK_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);
int64_t clock_boot_ms(void);

#endif
