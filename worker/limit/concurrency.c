#include "worker/limit/concurrency.h"

#include "common/base/check.h"
#include "common/base/settings.h"

unsigned concurrency_share(int concurrency, unsigned child, unsigned children)
{
    CHECK(children > 0);
    CHECK(child < children);
    CHECK(concurrency > 0 || concurrency == SETTINGS_AUTO);
    unsigned total = concurrency == SETTINGS_AUTO ? CONCURRENCY_AUTO : (unsigned)concurrency;
    return total / children + (child < total % children ? 1 : 0);
}
