#include "common/job/outcome.h"

#include <string.h>

#include "common/base/text.h"

static const char *const words[OUTCOME_COUNT] = {
#define OUTCOME_ROW(name, word) [name] = word,
    OUTCOME_LIST(OUTCOME_ROW)
#undef OUTCOME_ROW
};

const char *outcome_word(enum outcome_class class_)
{
    CHECK(class_ < OUTCOME_COUNT);
    return words[class_];
}

bool outcome_may_retry(enum outcome_class class_)
{
    switch (class_) {
    case OUTCOME_RATE_LIMITED:
    case OUTCOME_OVERLOADED:
    case OUTCOME_UPSTREAM_ERROR:
    case OUTCOME_TIMEOUT:
    case OUTCOME_CONNECTION:
    case OUTCOME_TRUNCATED:
    case OUTCOME_MALFORMED:
        return true;
    case OUTCOME_OK:
    case OUTCOME_TOO_LARGE:
    case OUTCOME_REDIRECT:
    case OUTCOME_REJECTED:
    case OUTCOME_QUOTA:
    case OUTCOME_ABORTED:
    case OUTCOME_DEADLINE:
    case OUTCOME_INTERNAL:
    case OUTCOME_COUNT:
        break;
    }
    return false;
}

/* Length of the UTF-8 sequence that starts with lead, 0 when it cannot start one. */
static size_t sequence_size(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xc2 && lead < 0xe0)
        return 2;
    if (lead >= 0xe0 && lead < 0xf0)
        return 3;
    if (lead >= 0xf0 && lead < 0xf5)
        return 4;
    return 0;
}

void outcome_set_message(struct outcome *outcome, struct slice text)
{
    size_t used = 0;
    size_t at = 0;

    while (at < text.size) {
        unsigned char lead = (unsigned char)text.bytes[at];
        size_t size = sequence_size(lead);
        bool is_good = size > 0 && at + size <= text.size && text_is_utf8(text.bytes + at, size);

        if (used + (is_good ? size : 1) >= sizeof(outcome->message))
            break;
        if (!is_good) {
            outcome->message[used++] = '?';
            at++;
            continue;
        }
        if (size == 1 && (lead < 0x20 || lead == 0x7f))
            outcome->message[used++] = ' ';
        else
            memcpy(outcome->message + used, text.bytes + at, size), used += size;
        at += size;
    }
    outcome->message[used] = '\0';
}
