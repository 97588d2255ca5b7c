/* Any bytes as a configuration: loaded or refused with a reason; what was loaded prints as a
 * configuration that loads and prints alike. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct buf once = {.size_max = (size_t)1 << 24};
    struct buf twice = {.size_max = (size_t)1 << 24};
    struct settings *settings = NULL;
    struct settings *again = NULL;
    struct error_text why = {""};
    char *text = malloc(size > 0 ? size : 1);

    CHECK(text != NULL);
    if (size > 0)
        memcpy(text, bytes, size);
    int status = settings_parse("p.yaml", text, size, &settings, &why);
    free(text);
    if (status != 0) {
        CHECK(status == ERR_INVALID);
        CHECK(why.text[0] != '\0');
        return 0;
    }
    CHECK(settings_print(settings, &once) == 0);
    CHECK(settings_parse("again.yaml", once.data, once.size, &again, &why) == 0);
    CHECK(settings_print(again, &twice) == 0);
    CHECK(once.size == twice.size);
    CHECK(memcmp(once.data, twice.data, once.size) == 0);
    settings_destroy(settings);
    settings_destroy(again);
    buf_deinit(&once);
    buf_deinit(&twice);
    return 0;
}
