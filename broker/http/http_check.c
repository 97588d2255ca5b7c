/* The rules of RFC 9110 and 9112 that keep two parsers of one connection from disagreeing, and our
 * limits. */
#include "broker/http/http_check.h"

#include <string.h>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/text.h"

static void refuse(struct http_framing *framing, int status, const char *detail)
{
    if (framing->status != 0)
        return;
    framing->status = status;
    framing->detail = detail;
}

void http_framing_start(struct http_framing *framing)
{
    *framing = (struct http_framing){.length = -1};
}

/* One bit per character: letters, digits and !#$%&'*+-.^_`|~ */
static bool is_token_char(unsigned char c)
{
    static const uint64_t allowed[4] = {0x03ff6cfa00000000U, 0x57ffffffc7fffffeU, 0, 0};
    return (allowed[c >> 6] >> (c & 63)) & 1;
}

static bool is_token(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_token_char((unsigned char)text.bytes[i]))
            return false;
    }
    return text.size > 0;
}

/* Eight bytes at once: a byte below 0x20 or equal to 0x7f sets its high bit. */
bool http_is_field_value(struct slice text)
{
    const uint64_t ones = 0x0101010101010101U;
    const uint64_t highs = 0x8080808080808080U;
    size_t i = 0;

    for (; i + 8 <= text.size; i += 8) {
        uint64_t word;
        memcpy(&word, text.bytes + i, 8);
        uint64_t is_low = (word - ones * 0x20) & ~word & highs;
        uint64_t is_delete = ((word ^ ones * 0x7f) - ones) & ~(word ^ ones * 0x7f) & highs;
        if ((is_low | is_delete) != 0)
            break; /* maybe a tab: look closer */
    }
    for (; i < text.size; i++) {
        unsigned char c = (unsigned char)text.bytes[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static void add_length(struct http_framing *framing, struct slice value)
{
    int64_t length;

    framing->lengths_count++;
    if (text_parse_i64(value.bytes, value.size, 0, INT64_MAX, &length) != 0)
        refuse(framing, 400, "Content-Length is not a number");
    else if (framing->lengths_count > 1)
        refuse(framing, 400, "more than one Content-Length");
    else
        framing->length = length;
}

static void add_encoding(struct http_framing *framing, struct slice value)
{
    framing->encodings_count++;
    if (framing->encodings_count > 1)
        refuse(framing, 400, "more than one Transfer-Encoding");
    else if (!text_equal_nocase(value.bytes, value.size, "chunked"))
        refuse(framing, 400, "the only Transfer-Encoding understood is chunked");
    else
        framing->is_chunked = true;
}

/* reg-name, IPv4 or [IPv6], and a port; no path, no user, no list. An empty Host is legal. */
static bool is_host(struct slice host)
{
    for (size_t i = 0; i < host.size; i++) {
        char c = host.bytes[i];
        bool is_alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!is_alnum && (c == '\0' || !strchr("-._~:[]!$&'()*+;=%", c)))
            return false;
    }
    return true;
}

static void add_host(struct http_framing *framing, struct slice value)
{
    framing->hosts_count++;
    framing->host = value;
    if (framing->hosts_count > 1)
        refuse(framing, 400, "more than one Host");
    else if (!is_host(value))
        refuse(framing, 400, "Host is not a host");
}

static void add_expectation(struct http_framing *framing, struct slice value)
{
    if (text_equal_nocase(value.bytes, value.size, "100-continue"))
        framing->expects_continue = true;
    else
        refuse(framing, 417, "the only expectation met is 100-continue");
}

void http_framing_add(struct http_framing *framing, struct slice name, struct slice value)
{
    /* Some versions of the parser keep the spaces before the end of the line. */
    while (value.size > 0 &&
           (value.bytes[value.size - 1] == ' ' || value.bytes[value.size - 1] == '\t'))
        value.size--;
    framing->headers_count++;
    if (framing->headers_count > HTTP_HEADERS_MAX)
        refuse(framing, 431, "more than 64 headers");
    if (!is_token(name))
        refuse(framing, 400, "a header's name has a character that is not allowed");
    if (!http_is_field_value(value))
        refuse(framing, 400, "a header's value has a control character");
    switch (name.size) { /* most headers are none of these: compare only where the length fits */
    case 4:
        if (text_equal_nocase(name.bytes, name.size, "Host"))
            add_host(framing, value);
        break;
    case 6:
        if (text_equal_nocase(name.bytes, name.size, "Expect"))
            add_expectation(framing, value);
        break;
    case 14:
        if (text_equal_nocase(name.bytes, name.size, "Content-Length"))
            add_length(framing, value);
        break;
    case 17:
        if (text_equal_nocase(name.bytes, name.size, "Transfer-Encoding"))
            add_encoding(framing, value);
        break;
    default:
        break;
    }
}

void http_framing_end(struct http_framing *framing, struct slice version, size_t head_size)
{
    bool is_1_0 = slice_is(version, "HTTP/1.0");

    if (!is_1_0 && !slice_is(version, "HTTP/1.1")) {
        bool is_http = version.size == 8 && memcmp(version.bytes, "HTTP/", 5) == 0;
        refuse(framing, is_http ? 505 : 400, "this server speaks HTTP/1.1");
    }
    if (head_size > HTTP_HEAD_MAX)
        refuse(framing, 431, "the headers are longer than 16 KiB");
    if (!is_1_0 && framing->hosts_count == 0)
        refuse(framing, 400, "HTTP/1.1 needs a Host");
    if (framing->encodings_count > 0 && framing->lengths_count > 0)
        refuse(framing, 400, "Content-Length and Transfer-Encoding together");
    if (framing->encodings_count > 0 && is_1_0)
        refuse(framing, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (is_1_0)
        framing->expects_continue = false;
}

static bool is_method_known(struct slice method)
{
    static const char *const known[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                        "OPTIONS", "CONNECT", "TRACE", "PATCH"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (slice_is(method, known[i]))
            return true;
    }
    return false;
}

/* "http://host:port/path": where the path begins. False when the authority is not the Host. */
static bool skip_authority(const struct http_framing *framing, struct slice target,
                           size_t scheme_size, size_t *out_path_at)
{
    size_t at = scheme_size;

    while (at < target.size && target.bytes[at] != '/' && target.bytes[at] != '?')
        at++;
    *out_path_at = at;
    if (framing->hosts_count == 0) /* HTTP/1.0 */
        return true;
    return framing->host.size == at - scheme_size && framing->host.size > 0 &&
           strncasecmp(framing->host.bytes, target.bytes + scheme_size, framing->host.size) == 0;
}

void http_framing_line(struct http_framing *framing, struct slice method, struct slice target,
                       size_t *out_path_at)
{
    static const struct slice schemes[] = {{"http://", 7}, {"https://", 8}};

    *out_path_at = 0;
    if (target.size > HTTP_TARGET_MAX)
        refuse(framing, 414, "the request target is longer than 8 KiB");
    if (!is_method_known(method))
        refuse(framing, 501, "this method is not known here");
    for (size_t i = 0; i < target.size; i++) {
        unsigned char c = (unsigned char)target.bytes[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            refuse(framing, 400, "the request target has a character that is not allowed");
            break;
        }
    }
    if (slice_is(method,
                 "CONNECT")) /* its target is an authority: refused by whoever knows the routes */
        return;
    if (target.size > 0 && target.bytes[0] == '/')
        return;
    if (slice_is(method, "OPTIONS") && slice_is(target, "*"))
        return;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (target.size < schemes[i].size ||
            strncasecmp(target.bytes, schemes[i].bytes, schemes[i].size) != 0)
            continue;
        if (!skip_authority(framing, target, schemes[i].size, out_path_at))
            refuse(framing, 400, "the request target names another host than Host");
        return;
    }
    refuse(framing, 400, "the request target is not a path");
}
