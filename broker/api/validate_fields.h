/* Fields that come in a job's JSON as well as in headers. All return 0, or ERR_INVALID with the
 * problem filled. */
#ifndef PENSTOCK_API_VALIDATE_FIELDS_H
#define PENSTOCK_API_VALIDATE_FIELDS_H

#include "broker/api/validate.h"

MUST_CHECK int validate_priority(struct slice word, const char *param, struct draft *draft,
                                 struct problem *problem);
MUST_CHECK int validate_metadata(const struct jval *value, const char *param, struct draft *draft,
                                 struct problem *problem);
MUST_CHECK int validate_key_text(struct slice text, const char *param, struct draft *draft,
                                 struct problem *problem);

#endif
