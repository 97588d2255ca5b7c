/* Everything the OpenAI adapter reads: answers of any status, model lists, and job bodies. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/text.h"
#include "worker/providers/provider.h"
#include "worker/upstream/answer_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_model(struct slice name, void *arg)
{
    (void)arg;
    CHECK(name.size > 0);
}

/* Line by line, as libcurl hands them out. */
static void read_head(const char *text, size_t size)
{
    struct answer_head head;
    int status = 0;

    answer_head_init(&head);
    while (size > 0 && status == 0) {
        const char *end = memchr(text, '\n', size);
        size_t line = end ? (size_t)(end - text) + 1 : size;
        status = answer_head_line(&head, text, line, INT64_C(1790000000000));
        text += line;
        size -= line;
    }
    CHECK(head.retry_after_ms >= -1 && head.retry_after_ms <= ANSWER_RETRY_AFTER_MAX_MS);
    CHECK(text_is_utf8(head.content_type, strlen(head.content_type)));
    CHECK(text_is_utf8(head.request_id, strlen(head.request_id)));
}

static void build(const struct provider *provider, const struct job *job)
{
    static char name[] = "u", url[] = "http://u/v1";
    struct settings_upstream upstream = {.name = name, .base_url = url};
    struct provider_call call;

    memset(&call, 0, sizeof call);
    if (provider->build(job, &upstream, "other", "", &call, NULL) == 0 && call.body.size > 0)
        CHECK(memmem(call.body.data, call.body.size, "\"other\"", 7) != NULL);
    provider_call_deinit(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {200, 204, 302, 400, 424, 429, 500, 503};
    const struct provider *provider = provider_find(UPSTREAM_OPENAI);
    struct outcome outcome;

    if (size < 2)
        return 0;
    /* A copy of its own, so that a read beyond the end is seen. */
    char *body = malloc(size - 2 + 1);
    CHECK(body != NULL);
    memcpy(body, data + 2, size - 2);
    struct job job = {.endpoint = (enum job_endpoint)(data[0] % ENDPOINT_COUNT)};
    job.payload = (struct slice){body, size - 2};
    provider->judge(&job, statuses[data[1] % 8], job.payload, &outcome);
    CHECK(outcome.class_ < OUTCOME_COUNT);
    CHECK((outcome.class_ == OUTCOME_OK) == (outcome.message[0] == '\0'));
    CHECK(text_is_utf8(outcome.message, strlen(outcome.message)));
    CHECK(!outcome.usage.is_known || outcome.usage.total_tokens >= 0);
    (void)provider->list_models(job.payload, on_model, NULL);
    build(provider, &job);
    read_head(body, size - 2);
    free(body);
    return 0;
}
