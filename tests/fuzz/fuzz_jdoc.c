/* Any bytes: parse or refuse; what was parsed is walked, sliced, printed, and the print parses
 * again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/jdoc.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct walk {
    const struct jdoc *doc;
    unsigned members;
};

/* Each top-level member has a slice, and the slice is a document of the same kind. */
static int on_member(const char *key, const struct jval *value, void *arg)
{
    struct walk *walk = arg;
    const char *slice = NULL;
    size_t size = 0;
    struct jdoc *doc = NULL;

    if (walk->members++ > 100)
        return 1;
    CHECK(jdoc_slice(walk->doc, key, &slice, &size) == 0);
    CHECK(size > 0);
    CHECK(jdoc_parse(slice, size, &doc, NULL) == 0);
    CHECK(jval_type(jdoc_root(doc)) == jval_type(value));
    jdoc_destroy(doc);
    return 0;
}

static void check_print(const struct jdoc *doc)
{
    struct buf out = {.size_max = (size_t)1 << 26};
    struct buf again = {.size_max = (size_t)1 << 26};
    struct jdoc *read_back = NULL;
    struct error_text why = {""};

    CHECK(jval_print(jdoc_root(doc), &out) == 0);
    CHECK(jdoc_parse(out.data, out.size, &read_back, &why) == 0);
    CHECK(jval_print(jdoc_root(read_back), &again) == 0);
    CHECK(out.size == again.size);
    CHECK(memcmp(out.data, again.data, out.size) == 0);
    jdoc_destroy(read_back);
    buf_deinit(&out);
    buf_deinit(&again);
}

static void check_quoting(const char *bytes, size_t size)
{
    struct buf out = {.size_max = (size_t)1 << 26};
    struct jdoc *doc = NULL;

    CHECK(json_put_string(&out, bytes, size) == 0);
    CHECK(jdoc_parse(out.data, out.size, &doc, NULL) == 0);
    CHECK(jval_type(jdoc_root(doc)) == JTYPE_STRING);
    jdoc_destroy(doc);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size > 0 ? size : 1); /* exactly as long, for the sanitizer */
    struct jdoc *doc = NULL;
    struct error_text why = {""};

    CHECK(text != NULL);
    if (size > 0)
        memcpy(text, bytes, size);
    int status = jdoc_parse(text, size, &doc, &why);
    if (status == 0) {
        struct walk walk = {.doc = doc};
        int64_t number;
        (void)jval_i64(jdoc_root(doc), INT64_MIN, INT64_MAX, &number);
        (void)jval_each(jdoc_root(doc), on_member, &walk);
        check_print(doc);
        jdoc_destroy(doc);
    } else {
        CHECK(status == ERR_INVALID);
        CHECK(why.text[0] != '\0');
    }
    check_quoting(text, size);
    free(text);
    return 0;
}
