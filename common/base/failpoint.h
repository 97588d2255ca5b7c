/* Named places where a test build can be made to fail: `make FAILPOINTS=1`. In every other build
 * these are nothing at all.
 *
 * The environment variable FAILPOINTS names a file of the test, one armed point a line:
 *
 *   name action number every limit word
 *
 *   action   crash; stop (until SIGCONT); delay or spin for `number` ms; leak up to `number` MiB;
 *            error: answer the negative error `number`
 *   every    acts on one pass in so many, at random; 1: on each
 *   limit    acts at most so often, all processes together
 *   word     acts only where the text at hand contains it; "-": anywhere
 *
 * Who is about to act appends the point's name to the file beside it that ends in ".fired". */
#ifndef PENSTOCK_BASE_FAILPOINT_H
#define PENSTOCK_BASE_FAILPOINT_H

#include "common/base/slice.h"

#ifdef PENSTOCK_FAILPOINTS
/* 0, or the negative error that this point is armed with. */
int failpoint_pass(const char *name, struct slice text);
#define FAILPOINT_ERROR(name) failpoint_pass((name), (struct slice){0})
#define FAILPOINT_TEXT(name, text) ((void)failpoint_pass((name), (text)))
#else
#define FAILPOINT_ERROR(name) 0
#define FAILPOINT_TEXT(name, text) ((void)0)
#endif
#define FAILPOINT(name) ((void)FAILPOINT_ERROR(name))

#endif
