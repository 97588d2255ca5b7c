/* An answer of unknown size in bounded memory: the first part in memory, from there on in an
 * unlinked file, which is mapped, not read, when it is sent. */
#ifndef PENSTOCK_API_SPOOL_H
#define PENSTOCK_API_SPOOL_H

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/slice.h"

struct spool {
    struct buf memory; /* what is not in the file yet */
    int fd;            /* -1: all is in memory */
    size_t file_size;  /* with the page in front */
};

void spool_init(struct spool *spool, size_t memory_max);
void spool_deinit(struct spool *spool);
/* ERR_FULL: neither memory nor disk has room. */
MUST_CHECK int spool_append(struct spool *spool, const void *bytes, size_t size);
/* All that was appended. *out_free is NULL while it stands in memory (valid until spool_deinit),
 * else the bytes are the caller's to free with it. ERR_FULL. */
MUST_CHECK int spool_finish(struct spool *spool, struct slice *out, void (**out_free)(void *bytes));

#endif
