/* Finds a member of a JSON object without a tree: for bodies that were validated when they were
 * accepted. Pure, one pass that ends where the member does. */
#ifndef PENSTOCK_PROVIDERS_JSON_MEMBER_H
#define PENSTOCK_PROVIDERS_JSON_MEMBER_H

#include "common/base/check.h"
#include "common/base/slice.h"

/* The bytes of member `key` (plain ASCII) of the object text, as they stand there. ERR_NOT_FOUND;
 * ERR_INVALID: not an object, or cut off before the member was found. */
MUST_CHECK int json_member_find(struct slice text, const char *key, struct slice *out_value);
/* Whether a value is the given string. Written with escapes it counts as another one. */
bool json_value_is_string(struct slice value, struct slice string);

#endif
