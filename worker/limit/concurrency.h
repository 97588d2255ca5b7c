/* A child's share of an upstream's `concurrency`. Pure. */
#ifndef PENSTOCK_LIMIT_CONCURRENCY_H
#define PENSTOCK_LIMIT_CONCURRENCY_H

enum { CONCURRENCY_AUTO = 64 }; /* what `auto` stands for, per host */

/* concurrency: as in the settings (SETTINGS_AUTO or > 0). The shares of all children add up to it;
 * with fewer calls than children some have none. */
unsigned concurrency_share(int concurrency, unsigned child, unsigned children);

#endif
