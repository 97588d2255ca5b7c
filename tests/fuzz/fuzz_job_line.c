/* Any bytes as the input of `penstock bulk`: lines are cut in bounded memory however the input
 * comes, and each becomes one line of a bulk request that is JSON, or is refused with a reason. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/cli/job_line.h"
#include "broker/cli/line_reader.h"
#include "common/base/check.h"
#include "common/base/jdoc.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { INPUT_MAX = 60000, LINE_MAX_BYTES = 2000 };

static void check_line(struct slice line)
{
    const struct job_line_defaults defaults = {.priority = "low", .idempotency_key = "run#1"};
    struct buf out = {.size_max = 1 << 20};
    struct error_text why = {""};
    char *custom_id = NULL;
    struct jdoc *doc = NULL;
    int status = job_line_convert(line, &defaults, &out, &custom_id, &why);

    if (status < 0) {
        CHECK(status == ERR_INVALID || status == ERR_TOO_BIG);
        CHECK(why.text[0] != '\0' || status == ERR_TOO_BIG);
        CHECK(out.size == 0 && custom_id == NULL);
    } else {
        CHECK(memchr(out.data, '\n', out.size) == NULL);
        CHECK(jdoc_parse(out.data, out.size, &doc, NULL) == 0);
        CHECK(jval_type(jdoc_root(doc)) == JTYPE_OBJECT);
        CHECK(jval_get(jdoc_root(doc), "idempotency_key") != NULL);
        jdoc_destroy(doc);
        if (custom_id) {
            CHECK(jdoc_parse(custom_id, strlen(custom_id), &doc, NULL) == 0);
            jdoc_destroy(doc);
        }
    }
    free(custom_id);
    buf_deinit(&out);
}

/* How the lines are cut, without the reader: how many end where. */
static int64_t count_lines(const uint8_t *bytes, size_t size)
{
    int64_t count = size > 0 && bytes[size - 1] != '\n';

    for (size_t i = 0; i < size; i++)
        count += bytes[i] == '\n';
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct line_reader reader;
    struct slice line = {NULL, 0};
    int ends[2], kind;
    int buffer = 4 * INPUT_MAX;

    if (size > INPUT_MAX)
        return 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    CHECK(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) == 0);
    if (size > 0)
        CHECK(send(ends[0], bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
    CHECK(close(ends[0]) == 0);
    line_reader_init(&reader, ends[1], LINE_MAX_BYTES);
    while ((kind = line_reader_next(&reader, 1000, &line)) != LINE_END) {
        CHECK(kind == LINE_TEXT || kind == LINE_TOO_LONG);
        if (kind != LINE_TEXT)
            continue;
        CHECK(line.size > 0 && line.size <= LINE_MAX_BYTES);
        check_line(line);
    }
    CHECK(reader.number == count_lines(bytes, size));
    CHECK(line_reader_next(&reader, 0, &line) == LINE_END);
    line_reader_deinit(&reader);
    CHECK(close(ends[1]) == 0);
    return 0;
}
