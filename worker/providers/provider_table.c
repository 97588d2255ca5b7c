#include "worker/providers/provider.h"

#include "worker/providers/provider_rows.h"

const struct provider *provider_find(enum settings_upstream_kind kind)
{
    static const struct provider *const rows[] = {&provider_openai};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i]->kind == kind)
            return rows[i];
    }
    return NULL;
}

void provider_call_deinit(struct provider_call *call)
{
    buf_deinit(&call->url);
    buf_deinit(&call->body);
    for (unsigned i = 0; i < PROVIDER_HEADERS_MAX; i++)
        buf_deinit(&call->headers[i]);
    call->headers_count = 0;
    call->body_as_is = (struct slice){NULL, 0};
}
