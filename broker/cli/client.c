#include "broker/cli/client.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/cli.h"
#include "common/base/clock.h"
#include "common/base/text.h"

enum { ANSWER_BYTES_MAX = 1 << 30, URL_BYTES_MAX = 8192, HEADER_BYTES_MAX = 1024 };

struct client {
    CURL *easy;
    char *url;
    char *authorization; /* whole header line, or NULL */
};

struct transfer {
    CURL *easy;
    const struct client_request *request;
    struct client_answer *answer;
    bool is_stopped; /* on_bytes said so */
};

int client_create(const char *url, const char *key, struct client **out, struct error_text *why)
{
    struct client *client = calloc(1, sizeof(*client));
    size_t size = strlen(url);
    struct buf line;

    if (!client)
        return error_set(why, ERR_NOMEM, "out of memory");
    while (size > 0 && url[size - 1] == '/')
        size--;
    if (!text_starts_with(url, "http://") && !text_starts_with(url, "https://")) {
        free(client);
        return error_set(why, ERR_INVALID, "%s is not an http:// or https:// URL", url);
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    client->url = strndup(url, size);
    client->easy = curl_easy_init();
    buf_init(&line, HEADER_BYTES_MAX);
    if (key[0] != '\0' && buf_printf(&line, "Authorization: Bearer %s", key) == 0)
        client->authorization = buf_take(&line, NULL);
    buf_deinit(&line);
    if (!client->easy || !client->url || (key[0] != '\0' && !client->authorization)) {
        client_destroy(client);
        return error_set(why, ERR_NOMEM, "cannot make an HTTP client (is the key too long?)");
    }
    *out = client;
    return 0;
}

void client_destroy(struct client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->easy);
    free(client->url);
    free(client->authorization);
    free(client);
    curl_global_cleanup();
}

static size_t on_write(char *bytes, size_t one, size_t size, void *arg)
{
    struct transfer *transfer = arg;
    long status = 0;

    (void)one;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->request->on_bytes && status >= 200 && status < 300) {
        if (transfer->request->on_bytes(bytes, size, transfer->request->arg) == 0)
            return size;
        transfer->is_stopped = true;
        return 0;
    }
    return buf_append(&transfer->answer->body, bytes, size) < 0 ? 0 : size;
}

static void take_retry_after(const char *bytes, size_t size, struct client_answer *answer)
{
    static const char name[] = "retry-after:";
    size_t at = sizeof(name) - 1;

    if (size <= at || !text_equal_nocase(bytes, at, name))
        return;
    while (at < size && bytes[at] == ' ')
        at++;
    while (size > at && (bytes[size - 1] == '\n' || bytes[size - 1] == '\r'))
        size--;
    int64_t seconds;
    if (text_parse_i64(bytes + at, size - at, 0, 86400, &seconds) == 0)
        answer->retry_after_s = seconds;
}

static size_t on_header(char *bytes, size_t one, size_t size, void *arg)
{
    take_retry_after(bytes, one * size, arg);
    return one * size;
}

static struct curl_slist *header_list(const struct client *client,
                                      const struct client_request *request)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    char line[160];

    if (client->authorization)
        list = curl_slist_append(list, client->authorization);
    if (request->content_type) {
        snprintf(line, sizeof(line), "Content-Type: %s", request->content_type);
        list = curl_slist_append(list, line);
    }
    for (unsigned i = 0; request->headers && request->headers[i]; i++)
        list = curl_slist_append(list, request->headers[i]);
    return list;
}

static int code_of(CURLcode result, bool is_stopped)
{
    switch ((int)result) {
    case CURLE_OK:
        return 0;
    case CURLE_WRITE_ERROR:
        return is_stopped ? 0 : ERR_TOO_BIG;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return ERR_OFFLINE;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    default:
        return ERR_UNKNOWN;
    }
}

int client_call(struct client *client, const struct client_request *request,
                struct client_answer *out, struct error_text *why)
{
    struct transfer transfer = {client->easy, request, out, false};
    struct curl_slist *headers = header_list(client, request);
    const char *content_type = NULL;
    long status = 0;
    struct buf url;

    buf_init(&url, URL_BYTES_MAX);
    buf_clear(&out->body);
    out->body.size_max = ANSWER_BYTES_MAX;
    out->retry_after_s = 0;
    if (buf_printf(&url, "%s%s", client->url, request->path) < 0) {
        curl_slist_free_all(headers);
        return error_set(why, ERR_INVALID, "the address is too long");
    }
    curl_easy_reset(client->easy);
    curl_easy_setopt(client->easy, CURLOPT_URL, url.data);
    curl_easy_setopt(client->easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(client->easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(client->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(client->easy, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS,
                     (long)(request->timeout_ms > 0 ? request->timeout_ms : 60000));
    curl_easy_setopt(client->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(client->easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(client->easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(client->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(client->easy, CURLOPT_HEADERDATA, out);
    if (request->body.size > 0 || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(client->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        curl_easy_setopt(client->easy, CURLOPT_POSTFIELDS,
                         request->body.size > 0 ? request->body.bytes : "");
    }
    CURLcode result = curl_easy_perform(client->easy);
    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(client->easy, CURLINFO_CONTENT_TYPE, &content_type);
    out->status = (int)status;
    snprintf(out->content_type, sizeof(out->content_type), "%s", content_type ? content_type : "");
    curl_slist_free_all(headers);
    buf_deinit(&url);
    int code = code_of(result, transfer.is_stopped);
    return code < 0 ? error_set(why, code, "%s: %s", client->url, curl_easy_strerror(result)) : 0;
}

void client_answer_deinit(struct client_answer *answer)
{
    buf_deinit(&answer->body);
}

int client_call_patiently(struct client *client, const struct client_request *request,
                          int64_t patience_ms, struct client_answer *out, struct error_text *why)
{
    int64_t end_ms = clock_mono_ms() + patience_ms;

    for (;;) {
        int status = client_call(client, request, out, why);
        bool is_busy = status == 0 && (out->status == 503 || out->status == 429);
        int64_t left_ms = end_ms - clock_mono_ms();
        int64_t pause_ms = out->retry_after_s > 0 && is_busy ? out->retry_after_s * 1000 : 250;
        if ((status == 0 && !is_busy) || left_ms <= 0 || status == ERR_TOO_BIG ||
            status == ERR_INVALID)
            return status;
        poll(NULL, 0, (int)(pause_ms < left_ms ? pause_ms : left_ms));
    }
}

void client_explain(const struct client_answer *answer, struct error_text *why)
{
    const struct jval *root, *error;
    const char *detail = "", *code = "";
    struct jdoc *doc = NULL;

    if (answer->body.size > 0 &&
        jdoc_parse(answer->body.data, answer->body.size, &doc, NULL) == 0) {
        root = jdoc_root(doc);
        error = jval_get(root, "error");
        detail = jval_string(jval_get(error ? error : root, error ? "message" : "detail"), NULL);
        code = jval_string(jval_get(error ? error : root, "code"), NULL);
    }
    error_set(why, ERR_INVALID, "%d: %s%s%s%s", answer->status, detail ? detail : "",
              code && code[0] ? " (" : "", code ? code : "", code && code[0] ? ")" : "");
    jdoc_destroy(doc);
}

int client_json(struct cli *cli, const char *method, const char *path, struct slice body,
                struct client_answer *answer, struct jdoc **out)
{
    struct client_request request = {.method = method,
                                     .path = path,
                                     .content_type = body.size > 0 ? "application/json" : NULL,
                                     .body = body};
    struct error_text why = {{0}};
    bool is_read = strcmp(method, "GET") == 0;
    int status = is_read ? client_call_patiently(cli_client(cli), &request, 10000, answer, &why)
                         : client_call(cli_client(cli), &request, answer, &why);

    if (status < 0)
        return cli_fail(status == ERR_TIMEOUT ? CLI_TIMEOUT : CLI_UNREACHABLE, "%s", why.text);
    if (answer->status < 200 || answer->status >= 300) {
        client_explain(answer, &why);
        return cli_fail(answer->status == 404 ? CLI_NOT_FOUND : CLI_FAILED, "%s", why.text);
    }
    if (jdoc_parse(answer->body.data ? answer->body.data : "", answer->body.size, out, &why) < 0)
        return cli_fail(CLI_FAILED, "the server's answer is not JSON: %s", why.text);
    return CLI_DONE;
}
