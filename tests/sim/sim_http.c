#include "sim_http.h"

#include "sim_text.h"

size_t http_find_head(const char *data, size_t size, size_t from)
{
    size_t start = from > 3 ? from - 3 : 0;

    if (size < 4)
        return 0;
    const char *found = memmem(data + start, size - start, "\r\n\r\n", 4);
    return found == NULL ? 0 : (size_t)(found - data) + 4;
}

/* The characters of a token, RFC 9110 section 5.6.2. */
static bool is_token_char(unsigned char letter)
{
    if ((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
        (letter >= '0' && letter <= '9'))
        return true;
    return letter != 0 && strchr("!#$%&'*+-.^_`|~", letter) != NULL;
}

static bool is_token(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!is_token_char((unsigned char)text.data[i]))
            return false;
    return text.size > 0;
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Cut off scheme and authority of an absolute target, split path and query. */
static bool split_target(struct slice target, struct http_request *out_request)
{
    if (SLICE_STARTS(target, "http://")) {
        const char *slash = memchr(target.data + 7, '/', target.size - 7);
        if (slash == NULL)
            return false;
        target.size -= (size_t)(slash - target.data);
        target.data = slash;
    }
    if (target.size == 0 || target.data[0] != '/')
        return false;
    for (size_t i = 0; i < target.size; i++)
        if ((unsigned char)target.data[i] <= 0x20 || (unsigned char)target.data[i] >= 0x7F)
            return false;
    const char *mark = memchr(target.data, '?', target.size);
    out_request->path = target;
    if (mark != NULL) {
        out_request->path.size = (size_t)(mark - target.data);
        out_request->query = (struct slice){mark + 1, target.size - out_request->path.size - 1};
    }
    return true;
}

static int parse_request_line(struct slice line, struct http_request *out_request,
                              const char **out_why)
{
    const char *end = line.data + line.size;
    const char *space = memchr(line.data, ' ', line.size);

    *out_why = "The request line is malformed.";
    if (space == NULL)
        return 400;
    out_request->method = (struct slice){line.data, (size_t)(space - line.data)};
    const char *start = space + 1;
    space = memchr(start, ' ', (size_t)(end - start));
    if (space == NULL || !is_token(out_request->method))
        return 400;
    struct slice version = {space + 1, (size_t)(end - space - 1)};
    if (SLICE_IS(version, "HTTP/1.0"))
        out_request->is_http10 = true;
    else if (!SLICE_IS(version, "HTTP/1.1"))
        return SLICE_STARTS(version, "HTTP/") ? 505 : 400;
    out_request->is_keep_alive = !out_request->is_http10;
    if (!split_target((struct slice){start, (size_t)(space - start)}, out_request))
        return 400;
    return 0;
}

static int take_content_length(struct slice value, struct http_request *request,
                               const char **out_why)
{
    int64_t length = 0;

    *out_why = "The Content-Length is malformed.";
    if (value.size == 0 || value.data[0] == '-' || !text_parse_int(value, 0, INT64_MAX, &length))
        return 400;
    if (request->has_length && request->content_length != (uint64_t)length)
        return 400;
    request->has_length = true;
    request->content_length = (uint64_t)length;
    return 0;
}

static void take_connection(struct slice value, struct http_request *request)
{
    while (value.size > 0) {
        const char *comma = memchr(value.data, ',', value.size);
        size_t size = comma == NULL ? value.size : (size_t)(comma - value.data);
        struct slice option = trim((struct slice){value.data, size});

        if (TEXT_IS(option, "close"))
            request->is_keep_alive = false;
        else if (TEXT_IS(option, "keep-alive") && request->is_http10)
            request->is_keep_alive = true;
        size += comma != NULL;
        value.data += size;
        value.size -= size;
    }
}

static int take_sim_header(struct slice name, struct slice value, struct http_request *request,
                           const char **out_why)
{
    if (request->sim_header_count == HTTP_SIM_HEADER_COUNT_MAX) {
        *out_why = "Too many Sim- headers.";
        return 431;
    }
    name.data += 4;
    name.size -= 4;
    request->sim_headers[request->sim_header_count++] = (struct http_header){name, value};
    return 0;
}

static int take_header(struct slice name, struct slice value, struct http_request *request,
                       const char **out_why)
{
    switch (name.data[0] | 0x20) {
    case 'a':
        if (TEXT_IS(name, "authorization") && value.size > 7 &&
            TEXT_IS(((struct slice){value.data, 7}), "bearer "))
            request->credential = trim((struct slice){value.data + 7, value.size - 7});
        else if (TEXT_IS(name, "api-key"))
            request->credential = value;
        else if (TEXT_IS(name, "anthropic-version"))
            request->has_anthropic_version = true;
        break;
    case 'c':
        if (TEXT_IS(name, "content-length"))
            return take_content_length(value, request, out_why);
        if (TEXT_IS(name, "connection"))
            take_connection(value, request);
        break;
    case 'e':
        if (TEXT_IS(name, "expect") && TEXT_IS(value, "100-continue"))
            request->expects_continue = !request->is_http10;
        break;
    case 'h':
        if (TEXT_IS(name, "host")) {
            *out_why = "There is more than one Host header.";
            if (request->has_host)
                return 400;
            request->has_host = true;
        }
        break;
    case 's':
        if (name.size > 4 && TEXT_IS(((struct slice){name.data, 4}), "sim-"))
            return take_sim_header(name, value, request, out_why);
        break;
    case 't':
        if (TEXT_IS(name, "transfer-encoding")) {
            *out_why = "The transfer encoding is not supported.";
            if (request->is_chunked || request->is_http10 || !TEXT_IS(value, "chunked"))
                return 501;
            request->is_chunked = true;
        }
        break;
    case 'x':
        if (TEXT_IS(name, "x-api-key"))
            request->credential = value;
        break;
    default:
        break;
    }
    return 0;
}

static int parse_header_line(struct slice line, struct http_request *request, const char **out_why)
{
    const char *colon = memchr(line.data, ':', line.size);

    *out_why = "A header line is malformed.";
    if (colon == NULL)
        return 400;
    struct slice name = {line.data, (size_t)(colon - line.data)};
    if (!is_token(name))
        return 400;
    struct slice value = trim((struct slice){colon + 1, line.size - name.size - 1});
    for (size_t i = 0; i < value.size; i++)
        if (((unsigned char)value.data[i] < 0x20 && value.data[i] != '\t') || value.data[i] == 0x7F)
            return 400;
    return take_header(name, value, request, out_why);
}

int http_parse_head(const char *data, size_t head_size, struct http_request *out_request,
                    const char **out_why)
{
    const char *at = data;
    const char *end = data + head_size - 2; /* without the empty line */
    int line_count = 0;

    SIM_CHECK(head_size >= 4);
    memset(out_request, 0, sizeof(*out_request));
    out_request->head_size = head_size;
    while (at < end) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        *out_why = "A line does not end with CR LF.";
        if (feed == NULL || feed == at || feed[-1] != '\r')
            return 400;
        struct slice line = {at, (size_t)(feed - at) - 1};
        *out_why = "There are too many headers.";
        if (line_count > HTTP_HEADER_COUNT_MAX)
            return 431;
        int status = line_count == 0 ? parse_request_line(line, out_request, out_why)
                                     : parse_header_line(line, out_request, out_why);
        if (status != 0)
            return status;
        line_count++;
        at = feed + 1;
    }
    *out_why = "The Host header is missing.";
    if (!out_request->has_host && !out_request->is_http10)
        return 400;
    *out_why = "Content-Length and Transfer-Encoding exclude each other.";
    if (out_request->is_chunked && out_request->has_length)
        return 400;
    *out_why = "";
    return 0;
}

static int hex_digit(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    if ((letter | 0x20) >= 'a' && (letter | 0x20) <= 'f')
        return (letter | 0x20) - 'a' + 10;
    return -1;
}

/* One byte of a chunk's size line. */
static int chunk_size_byte(struct http_chunks *chunks, char letter)
{
    int digit = hex_digit(letter);

    if (digit >= 0) {
        if (++chunks->digit_count > 15)
            return -400;
        chunks->left = chunks->left * 16 + (uint64_t)digit;
        return 0;
    }
    if (chunks->digit_count == 0)
        return -400;
    if (letter == '\r')
        chunks->phase = HTTP_CHUNK_SIZE_LF;
    else if (letter == ';' || letter == ' ' || letter == '\t')
        chunks->phase = HTTP_CHUNK_EXTENSION;
    else
        return -400;
    return 0;
}

/* One byte of anything but chunk data. */
static int chunk_frame_byte(struct http_chunks *chunks, char letter)
{
    switch (chunks->phase) {
    case HTTP_CHUNK_SIZE:
        return chunk_size_byte(chunks, letter);
    case HTTP_CHUNK_EXTENSION:
        if (letter == '\r')
            chunks->phase = HTTP_CHUNK_SIZE_LF;
        else if (letter == '\n' || ++chunks->slack > HTTP_HEAD_BYTES_MAX)
            return -400;
        return 0;
    case HTTP_CHUNK_SIZE_LF:
        chunks->phase = chunks->left > 0 ? HTTP_CHUNK_DATA : HTTP_CHUNK_TRAILER;
        return letter == '\n' ? 0 : -400;
    case HTTP_CHUNK_DATA_CR:
        chunks->phase = HTTP_CHUNK_DATA_LF;
        return letter == '\r' ? 0 : -400;
    case HTTP_CHUNK_DATA_LF:
        chunks->phase = HTTP_CHUNK_SIZE;
        chunks->digit_count = 0;
        return letter == '\n' ? 0 : -400;
    case HTTP_CHUNK_TRAILER:
        chunks->phase = letter == '\r' ? HTTP_CHUNK_END_LF : HTTP_CHUNK_TRAILER_TEXT;
        return letter == '\n' ? -400 : 0;
    case HTTP_CHUNK_TRAILER_TEXT:
        if (letter == '\r')
            chunks->phase = HTTP_CHUNK_TRAILER_LF;
        else if (letter == '\n' || ++chunks->slack > HTTP_HEAD_BYTES_MAX)
            return -400;
        return 0;
    case HTTP_CHUNK_TRAILER_LF:
        chunks->phase = HTTP_CHUNK_TRAILER;
        return letter == '\n' ? 0 : -400;
    case HTTP_CHUNK_END_LF:
        chunks->phase = HTTP_CHUNK_DONE;
        return letter == '\n' ? 0 : -400;
    case HTTP_CHUNK_DATA:
    case HTTP_CHUNK_DONE:
        break;
    }
    SIM_CHECK(chunks->phase == HTTP_CHUNK_SIZE);
    return -400;
}

int http_chunks_feed(struct http_chunks *chunks, char *data, size_t size, size_t body_bytes_max)
{
    SIM_CHECK(chunks->body_start <= chunks->body_end);
    SIM_CHECK(chunks->body_end <= chunks->raw_at);
    while (chunks->raw_at < size && chunks->phase != HTTP_CHUNK_DONE) {
        if (chunks->phase != HTTP_CHUNK_DATA) {
            int status = chunk_frame_byte(chunks, data[chunks->raw_at++]);
            if (status < 0)
                return status;
            continue;
        }
        size_t take = size - chunks->raw_at;
        if (take > chunks->left)
            take = (size_t)chunks->left;
        if (take > body_bytes_max - (chunks->body_end - chunks->body_start))
            return -413;
        memmove(data + chunks->body_end, data + chunks->raw_at, take);
        chunks->body_end += take;
        chunks->raw_at += take;
        chunks->left -= take;
        if (chunks->left == 0)
            chunks->phase = HTTP_CHUNK_DATA_CR;
    }
    return chunks->phase == HTTP_CHUNK_DONE ? 1 : 0;
}

const char *http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Simulated";
    }
}
