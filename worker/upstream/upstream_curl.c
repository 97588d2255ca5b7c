/* What one call tells libcurl, and what libcurl's result means. Every option a call may change is
 * set for every call (call_easy_prepare), so that a handle used again carries nothing over; the
 * rest never changes. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/text.h"
#include "worker/upstream/upstream_internal.h"

enum { HEADERS_MAX = 32, HEADER_BYTES_MAX = 8192, URL_BYTES_MAX = 4096 };

#define SET(easy_, option_, value_)                                     \
    do {                                                                \
        if (curl_easy_setopt((easy_), (option_), (value_)) != CURLE_OK) \
            return ERR_NOMEM;                                           \
    } while (0)

/* Called when the connection stands and the request is about to go out. The second time for one
 * call means that libcurl wants to send it again, because a kept connection died: that is for the
 * retry rules to decide, not for libcurl. */
static int on_before_request(void *arg, char *address, char *local, int port, int local_port)
{
    struct upstream_call *call = arg;
    (void)address, (void)local, (void)port, (void)local_port;

    if (call->passes++ > 0) {
        call->stop = STOP_RESENT;
        return CURL_PREREQFUNC_ABORT;
    }
    call->phase = CALL_SENT;
    call_limit_phase(call, call->first_byte_timeout_ms, clock_mono_ms());
    return CURL_PREREQFUNC_OK;
}

static void on_bytes(struct upstream_call *call)
{
    int64_t now_ns = clock_mono_ns();
    int64_t now_ms = now_ns / 1000000;

    if (call->phase != CALL_RECEIVING) {
        call->phase = CALL_RECEIVING;
        call->first_byte_at_ns = now_ns;
        call_limit_phase(call, call->idle_timeout_ms, now_ms);
    } else if (call->idle_timeout_ms > 0) {
        call->phase_due_ms =
            now_ms + call->idle_timeout_ms; /* the wheel looks here when it comes by */
    }
}

static size_t on_header(char *bytes, size_t one, size_t size, void *arg)
{
    struct upstream_call *call = arg;
    (void)one;

    on_bytes(call);
    if (answer_head_line(&call->head, bytes, size, clock_wall_ms()) < 0)
        call->stop = STOP_HEAD;
    else if (call->head.is_encoded)
        call->stop = STOP_ENCODED;
    return call->stop == STOP_NONE ? size : 0;
}

static int collect(struct upstream_call *call, const char *bytes, size_t size)
{
    if (call->body.size == 0 && call->head.body_size > (int64_t)size &&
        call->head.body_size <= 1024 * 1024) {
        int status = buf_reserve(&call->body, (size_t)call->head.body_size);
        if (status < 0)
            return status;
    }
    return buf_append(&call->body, bytes, size);
}

static size_t on_body(char *bytes, size_t one, size_t size, void *arg)
{
    struct upstream_call *call = arg;
    (void)one;

    on_bytes(call);
    if (call->is_aborted)
        return size; /* taken off libcurl before the turn ends */
    if (collect(call, bytes, size) < 0)
        call->stop = STOP_TOO_LARGE;
    else if (call->on_chunk && call->on_chunk(bytes, size, call->arg) != 0)
        call->stop = STOP_REFUSED;
    return call->stop == STOP_NONE ? size : 0;
}

static int set_transport(CURL *easy, struct upstream_pool *pool)
{
    SET(easy, CURLOPT_NOSIGNAL, 1L);
    SET(easy, CURLOPT_NOPROGRESS, 1L);
    SET(easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    SET(easy, CURLOPT_NOPROXY, "*");
    SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
    SET(easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
    SET(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(easy, CURLOPT_PATH_AS_IS, 1L);
    SET(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    SET(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    SET(easy, CURLOPT_TCP_NODELAY, 1L);
    SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(easy, CURLOPT_TCP_KEEPIDLE, 45L);
    SET(easy, CURLOPT_TCP_KEEPINTVL, 15L);
    SET(easy, CURLOPT_MAXAGE_CONN, (long)CONNECTION_AGE_MAX_S);
    SET(easy, CURLOPT_MAXLIFETIME_CONN, (long)CONNECTION_LIFE_MAX_S);
    SET(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    SET(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    SET(easy, CURLOPT_SHARE, pool->share);
    SET(easy, CURLOPT_OPENSOCKETFUNCTION, multi_on_open_socket);
    SET(easy, CURLOPT_OPENSOCKETDATA, pool);
    SET(easy, CURLOPT_CLOSESOCKETFUNCTION, multi_on_close_socket);
    SET(easy, CURLOPT_CLOSESOCKETDATA, pool);
    return 0;
}

int call_easy_create(struct upstream_call *call)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        return ERR_NOMEM;
    call->easy = easy;
    int status = set_transport(easy, call->pool);
    if (status < 0)
        return status;
    SET(easy, CURLOPT_USERAGENT, "penstock/" PENSTOCK_VERSION);
    SET(easy, CURLOPT_BUFFERSIZE, (long)READ_BUFFER_BYTES);
    SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BUFFER_BYTES);
    SET(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)call->pool->options.response_bytes_max);
    SET(easy, CURLOPT_PRIVATE, call);
    SET(easy, CURLOPT_ERRORBUFFER, call->error);
    SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(easy, CURLOPT_HEADERDATA, call);
    SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(easy, CURLOPT_WRITEDATA, call);
    SET(easy, CURLOPT_PREREQFUNCTION, on_before_request);
    SET(easy, CURLOPT_PREREQDATA, call);
    return 0;
}

/* --- the request --------------------------------------------------------- */

static bool is_header_ok(struct slice line)
{
    const char *colon = line.size > 0 ? memchr(line.bytes, ':', line.size) : NULL;
    if (!colon || colon == line.bytes || line.size > HEADER_BYTES_MAX)
        return false;
    for (const char *at = line.bytes; at < colon; at++) {
        if (*at <= ' ' || *at > '~' || strchr("\"(),/;<=>?@[\\]{}", *at))
            return false;
    }
    bool has_value = false;
    for (const char *at = colon + 1; at < line.bytes + line.size; at++) {
        unsigned char c = (unsigned char)*at;
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
        has_value = has_value || (c != ' ' && c != '\t');
    }
    /* What frames the message is libcurl's to say. */
    size_t name_size = (size_t)(colon - line.bytes);
    return has_value && !text_equal_nocase(line.bytes, name_size, "content-length") &&
           !text_equal_nocase(line.bytes, name_size, "transfer-encoding") &&
           !text_equal_nocase(line.bytes, name_size, "connection") &&
           !text_equal_nocase(line.bytes, name_size, "expect");
}

/* Where the name and the port stand in http(s)://host[:port][/...]. */
static int parse_url(const char *url, struct upstream_call *call)
{
    bool is_tls = strncasecmp(url, "https://", 8) == 0;
    if (!is_tls && strncasecmp(url, "http://", 7) != 0)
        return ERR_INVALID;
    if (strlen(url) > URL_BYTES_MAX)
        return ERR_INVALID;
    for (const char *at = url; *at; at++) {
        if (*at <= ' ' || *at > '~')
            return ERR_INVALID;
    }
    const char *host = url + (is_tls ? 8 : 7);
    size_t size = strcspn(host, "/?#");
    if (memchr(host, '@', size))
        return ERR_INVALID;
    size_t host_size = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
    if (host_size == 0 || host_size > size || host_size >= sizeof call->host)
        return ERR_INVALID;
    int64_t port = is_tls ? 443 : 80;
    if (host_size < size &&
        (host[host_size] != ':' ||
         text_parse_i64(host + host_size + 1, size - host_size - 1, 1, 65535, &port) < 0))
        return ERR_INVALID;
    memcpy(call->host, host, host_size);
    call->host[host_size] = '\0';
    call->port = (int)port;
    struct in_addr address;
    if (host[0] == '[' || inet_pton(AF_INET, call->host, &address) == 1)
        call->host[0] = '\0'; /* nothing to look up */
    return 0;
}

int call_check_request(const struct upstream_request *request, struct upstream_call *call)
{
    if (!request->url || !request->method || request->timeout_ms <= 0 ||
        request->headers_count > HEADERS_MAX)
        return ERR_INVALID;
    bool is_get = strcmp(request->method, "GET") == 0;
    if (!is_get && strcmp(request->method, "POST") != 0)
        return ERR_INVALID;
    if (is_get && request->body.size > 0)
        return ERR_INVALID;
    for (unsigned i = 0; i < request->headers_count; i++) {
        if (!is_header_ok(request->headers[i]))
            return ERR_INVALID;
    }
    return parse_url(request->url, call);
}

/* One block of memory for the list and its texts; libcurl only reads it. */
static struct curl_slist *headers_copy(const struct upstream_request *request)
{
    static const char *const ours[] = {"Expect:", "Accept-Encoding: identity"};
    enum { OURS = sizeof ours / sizeof ours[0] };
    size_t count = request->headers_count + OURS;
    size_t size = count * sizeof(struct curl_slist);

    for (size_t i = 0; i < count; i++)
        size += (i < OURS ? strlen(ours[i]) : request->headers[i - OURS].size) + 1;
    struct curl_slist *list = malloc(size);
    if (!list)
        return NULL;
    char *text = (char *)(list + count);
    for (size_t i = 0; i < count; i++) {
        struct slice line = i < OURS ? slice_of(ours[i]) : request->headers[i - OURS];
        memcpy(text, line.bytes, line.size);
        text[line.size] = '\0';
        list[i].data = text;
        list[i].next = i + 1 < count ? &list[i + 1] : NULL;
        text += line.size + 1;
    }
    return list;
}

static bool is_tls(const struct upstream_request *request)
{
    return strncasecmp(request->url, "https:", 6) == 0;
}

static long http_version(const struct upstream_request *request)
{
    if (!request->http2)
        return CURL_HTTP_VERSION_1_1;
    return is_tls(request) ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
}

/* libcurl before 8.0 greets again on a kept connection of cleartext HTTP/2, which ends it. */
static bool must_not_reuse(const struct upstream_request *request)
{
    return request->http2 && !is_tls(request) &&
           curl_version_info(CURLVERSION_NOW)->version_num < 0x080000;
}

int call_easy_prepare(struct upstream_call *call, const struct upstream_request *request)
{
    bool is_post = strcmp(request->method, "POST") == 0;
    bool is_alone = must_not_reuse(request);

    call->headers = headers_copy(request);
    if (!call->headers)
        return ERR_NOMEM;
    call->error[0] = '\0';
    SET(call->easy, CURLOPT_URL, request->url);
    SET(call->easy, CURLOPT_HTTPHEADER, call->headers);
    SET(call->easy, CURLOPT_RESOLVE, NULL);
    SET(call->easy, CURLOPT_HTTP_VERSION, http_version(request));
    bool is_fresh = is_alone || request->is_fresh;
    SET(call->easy, CURLOPT_PIPEWAIT, request->http2 && !is_fresh ? 1L : 0L);
    SET(call->easy, CURLOPT_FRESH_CONNECT, is_fresh ? 1L : 0L);
    SET(call->easy, CURLOPT_FORBID_REUSE, is_alone ? 1L : 0L);
    SET(call->easy, CURLOPT_POSTFIELDS,
        is_post ? (request->body.bytes ? request->body.bytes : "") : NULL);
    SET(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(is_post ? request->body.size : 0));
    if (is_post)
        SET(call->easy, CURLOPT_POST, 1L);
    else
        SET(call->easy, CURLOPT_HTTPGET, 1L);
    return 0;
}

int call_pin(struct upstream_call *call, const char *addresses)
{
    size_t size = strlen(call->host) + strlen(addresses) + 16;

    free(call->pin.data);
    call->pin.data = malloc(size);
    if (!call->pin.data)
        return ERR_NOMEM;
    (void)snprintf(call->pin.data, size, "%s:%d:%s", call->host, call->port, addresses);
    call->pin.next = NULL;
    SET(call->easy, CURLOPT_RESOLVE, &call->pin);
    return 0;
}

/* --- the result ---------------------------------------------------------- */

static enum upstream_end end_of_stop(enum call_stop stop, const char **out_detail)
{
    switch (stop) {
    case STOP_TOO_LARGE:
        *out_detail = "the answer is larger than worker.response_bytes_max";
        return UPSTREAM_TOO_LARGE;
    case STOP_ENCODED:
        *out_detail = "the answer has a content coding that was not asked for";
        return UPSTREAM_PROTOCOL;
    case STOP_HEAD:
        *out_detail = "the answer's headers are too large";
        return UPSTREAM_PROTOCOL;
    case STOP_REFUSED:
        *out_detail = "stopped by the reader";
        return UPSTREAM_ABORTED;
    case STOP_RESENT:
        *out_detail = "the kept connection was lost before the answer";
        return UPSTREAM_BROKEN;
    case STOP_NONE:
        break;
    }
    return UPSTREAM_BROKEN;
}

static enum upstream_end end_of_code(const struct upstream_call *call, CURLcode result)
{
    /* Before the request went out nothing can have happened upstream, whatever went wrong. */
    if (call->passes == 0)
        return UPSTREAM_CONNECT;
    switch ((int)result) {
    case CURLE_OK: /* without a status line */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_OUT_OF_MEMORY: /* also a header line beyond libcurl's limit */
    case CURLE_HTTP2:
    case CURLE_WRITE_ERROR: /* not stopped by us: bad chunks */
        return UPSTREAM_PROTOCOL;
    case CURLE_FILESIZE_EXCEEDED:
        return UPSTREAM_TOO_LARGE;
    default:
        return UPSTREAM_BROKEN;
    }
}

void call_finish(struct upstream_call *call, CURLcode result)
{
    long status = 0;
    long connections = 0;
    const char *detail = call->error[0] ? call->error : curl_easy_strerror(result);
    enum upstream_end end;

    (void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &connections);
    call->was_reused = connections == 0 || call->stop == STOP_RESENT;
    if (call->stop != STOP_NONE) {
        end = end_of_stop(call->stop, &detail);
    } else if (result == CURLE_OK && call->head.has_end && status >= 200 && status <= 599) {
        end = UPSTREAM_ANSWERED;
    } else if (result == CURLE_OK && call->head.has_end && status > 599) {
        end = UPSTREAM_PROTOCOL; /* nobody could hand it on */
        detail = "the answer's status is none that HTTP knows";
    } else if (result == CURLE_OK && call->head.has_status) {
        end = UPSTREAM_BROKEN; /* libcurl takes a cut inside the headers for their end */
        detail = "the connection was closed inside the answer's headers";
    } else {
        end = end_of_code(call, result);
    }
    call_end(call, end, (int)status, detail);
}
