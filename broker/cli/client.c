#include "broker/cli/client.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "broker/cli/cli.h"
#include "common/base/clock.h"
#include "common/base/text.h"

enum {
    ANSWER_BYTES_MAX = 256 << 20,
    URL_BYTES_MAX = 8192,
    HEADER_BYTES_MAX = 1024,
    TIMEOUT_MS = 60000,
    CONNECT_MS = 5000,
    PAUSE_MS = 250,
    OFFLINE_MS = 2000
};

struct client {
    CURLM *multi;
    CURL *easy[CLIENT_CALLS_MAX]; /* made on first use */
    char *url;
    char *authorization; /* whole header line, or NULL */
    bool is_loopback;    /* no proxy stands between */
    int interrupt_fd;
};

/* One exchange while it is under way. */
struct transfer {
    CURL *easy;
    struct client_exchange *exchange;
    struct curl_slist *headers;
    struct buf url;
    bool has_started; /* on_bytes may have seen something of this try */
    bool is_stopped;  /* on_bytes said so */
    bool has_ended;
    bool is_beyond_repeating; /* on_bytes saw something and cannot begin anew */
};

/* ---- life ---------------------------------------------------------------------------------------
 */

static bool is_loopback(const char *url)
{
    const char *host = strstr(url, "://") + 3;

    return text_starts_with(host, "127.") || text_starts_with(host, "localhost") ||
           text_starts_with(host, "[::1]");
}

/* A key goes into a header line: nothing may end that line early. */
static bool is_header_text(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x21 || *text == 0x7f)
            return false;
    }
    return true;
}

static int check_address(const char *url, const char *key, struct error_text *why)
{
    if (!text_starts_with(url, "http://") && !text_starts_with(url, "https://"))
        return error_set(why, ERR_INVALID, "%s is not an http:// or https:// URL", url);
    if (!is_header_text(url) || strlen(url) > URL_BYTES_MAX / 2)
        return error_set(why, ERR_INVALID, "the URL is too long or holds spaces");
    if (!is_header_text(key) || strlen(key) > HEADER_BYTES_MAX / 2)
        return error_set(why, ERR_INVALID, "the API key is too long or holds spaces");
    return 0;
}

int client_create(const char *url, const char *key, struct client **out, struct error_text *why)
{
    struct buf line = {.size_max = HEADER_BYTES_MAX};
    size_t size = strlen(url);
    int status = check_address(url, key, why);
    struct client *client;

    if (status < 0)
        return status;
    client = calloc(1, sizeof(*client));
    if (!client)
        return error_set(why, ERR_NOMEM, "out of memory");
    while (size > 0 && url[size - 1] == '/')
        size--;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    client->interrupt_fd = -1;
    client->is_loopback = is_loopback(url);
    client->url = strndup(url, size);
    client->multi = curl_multi_init();
    if (key[0] != '\0' && buf_printf(&line, "Authorization: Bearer %s", key) == 0)
        client->authorization = buf_take(&line, NULL);
    buf_deinit(&line);
    if (!client->multi || !client->url || (key[0] != '\0' && !client->authorization)) {
        client_destroy(client);
        return error_set(why, ERR_NOMEM, "out of memory");
    }
    *out = client;
    return 0;
}

void client_destroy(struct client *client)
{
    if (!client)
        return;
    for (unsigned i = 0; i < CLIENT_CALLS_MAX; i++)
        curl_easy_cleanup(client->easy[i]);
    curl_multi_cleanup(client->multi);
    free(client->url);
    free(client->authorization);
    free(client);
    curl_global_cleanup();
}

void client_answer_deinit(struct client_answer *answer)
{
    buf_deinit(&answer->body);
}

/* ---- the interrupt ------------------------------------------------------------------------------
 */

void client_set_interrupt(struct client *client, int fd)
{
    client->interrupt_fd = fd;
}

bool client_pause_or_input(const struct client *client, int input_fd, int64_t ms)
{
    struct pollfd fds[] = {{.fd = client->interrupt_fd, .events = POLLIN},
                           {.fd = input_fd, .events = POLLIN}};

    poll(fds, 2, (int)(ms < 0 ? 0 : ms > 60000 ? 60000 : ms));
    return fds[0].revents != 0;
}

bool client_pause(const struct client *client, int64_t ms)
{
    return client_pause_or_input(client, -1, ms);
}

bool client_is_interrupted(const struct client *client)
{
    return client_pause(client, 0);
}

/* ---- what comes back ----------------------------------------------------------------------------
 */

static size_t on_write(char *bytes, size_t one, size_t size, void *arg)
{
    struct transfer *transfer = arg;
    const struct client_request *request = transfer->exchange->request;
    long status = 0;

    (void)one;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (!request->on_bytes || (status != 200 && !request->takes_all))
        return buf_append(&transfer->exchange->answer->body, bytes, size) < 0 ? 0 : size;
    if (!transfer->has_started && request->on_start)
        request->on_start(request->arg);
    transfer->has_started = true;
    transfer->is_beyond_repeating = !request->on_start;
    if (request->on_bytes(bytes, size, request->arg) == 0)
        return size;
    transfer->is_stopped = true;
    return 0;
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

/* ---- one call -----------------------------------------------------------------------------------
 */

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

static void set_limits(CURL *easy, const struct client_request *request)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                     (long)(request->timeout_ms > 0 ? request->timeout_ms : TIMEOUT_MS));
    if (request->idle_s > 0) {
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)request->idle_s);
    }
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
}

static int start_transfer(struct client *client, unsigned slot, struct client_exchange *exchange,
                          struct transfer *transfer)
{
    const struct client_request *request = exchange->request;
    struct client_answer *answer = exchange->answer;

    *transfer = (struct transfer){.exchange = exchange, .url = {.size_max = URL_BYTES_MAX}};
    buf_clear(&answer->body);
    answer->body.size_max = ANSWER_BYTES_MAX;
    answer->retry_after_s = 0;
    answer->status = 0;
    if (!client->easy[slot])
        client->easy[slot] = curl_easy_init();
    CURL *easy = transfer->easy = client->easy[slot];
    if (!easy)
        return error_set(&exchange->why, ERR_NOMEM, "out of memory");
    if (buf_printf(&transfer->url, "%s%s", client->url, request->path) < 0)
        return error_set(&exchange->why, ERR_INVALID, "the address is too long");
    transfer->headers = header_list(client, request);
    curl_easy_reset(easy);
    set_limits(easy, request);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_URL, transfer->url.data);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    if (client->is_loopback)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, answer);
    if (request->body.size > 0 || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                         request->body.size > 0 ? request->body.bytes : "");
    }
    return curl_multi_add_handle(client->multi, easy) == CURLM_OK
               ? 0
               : error_set(&exchange->why, ERR_NOMEM, "out of memory");
}

static int code_of(CURLcode result, bool is_stopped)
{
    switch ((int)result) {
    case CURLE_OK:
        return 0;
    case CURLE_WRITE_ERROR:
        return is_stopped ? 0 : ERR_TOO_BIG;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return ERR_OFFLINE;
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return ERR_INVALID;
    default:
        return ERR_UNKNOWN;
    }
}

static void end_transfer(struct client *client, struct transfer *transfer, CURLcode result)
{
    struct client_exchange *exchange = transfer->exchange;
    const char *content_type = NULL;
    long status = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &content_type);
    exchange->answer->status = (int)status;
    snprintf(exchange->answer->content_type, sizeof(exchange->answer->content_type), "%s",
             content_type ? content_type : "");
    exchange->code = code_of(result, transfer->is_stopped);
    if (exchange->code < 0)
        error_set(&exchange->why, exchange->code, "%s: %s", client->url,
                  curl_easy_strerror(result));
    curl_multi_remove_handle(client->multi, transfer->easy);
    transfer->has_ended = true;
}

static unsigned reap(struct client *client)
{
    struct CURLMsg *message;
    unsigned ended = 0;
    int left;

    while ((message = curl_multi_info_read(client->multi, &left))) {
        char *private = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        end_transfer(client, (struct transfer *)(void *)private, result);
        ended++;
    }
    return ended;
}

/* Ends what is still under way after a Ctrl-C. */
static void abandon(struct client *client, struct transfer *transfers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (transfers[i].has_ended)
            continue;
        curl_multi_remove_handle(client->multi, transfers[i].easy);
        transfers[i].exchange->code =
            error_set(&transfers[i].exchange->why, ERR_STATE, "interrupted");
    }
}

static void run(struct client *client, struct transfer *transfers, unsigned count, unsigned live)
{
    struct curl_waitfd interrupt = {.fd = client->interrupt_fd, .events = CURL_WAIT_POLLIN};
    unsigned extra = client->interrupt_fd >= 0 ? 1 : 0;
    int running;

    while (live > 0) {
        curl_multi_perform(client->multi, &running);
        live -= reap(client);
        if (live > 0 && extra && client_is_interrupted(client)) {
            abandon(client, transfers, count);
            return;
        }
        if (live > 0)
            curl_multi_poll(client->multi, &interrupt, extra, 1000, NULL);
    }
}

/* Makes the calls; says which of them must not be made again. */
static void call_many(struct client *client, struct client_exchange **exchanges, unsigned count,
                      bool *out_is_final)
{
    struct transfer transfers[CLIENT_CALLS_MAX];
    unsigned live = 0;

    CHECK(count <= CLIENT_CALLS_MAX);
    for (unsigned i = 0; i < count; i++) {
        exchanges[i]->code = start_transfer(client, i, exchanges[i], &transfers[i]);
        transfers[i].has_ended = exchanges[i]->code < 0;
        live += !transfers[i].has_ended;
    }
    run(client, transfers, count, live);
    for (unsigned i = 0; i < count; i++) {
        out_is_final[i] = transfers[i].is_beyond_repeating;
        curl_slist_free_all(transfers[i].headers);
        buf_deinit(&transfers[i].url);
    }
}

/* ---- calls --------------------------------------------------------------------------------------
 */

bool client_is_busy(const struct client_answer *answer)
{
    /* A failed job's result may have such a status too, of its upstream: without the header. */
    return (answer->status == 503 || answer->status == 429) && answer->retry_after_s > 0;
}

static bool can_repeat(const struct client_exchange *exchange, int64_t elapsed_ms)
{
    int64_t offline_ms = exchange->request->offline_ms;

    if (exchange->code == 0)
        return client_is_busy(exchange->answer);
    if (exchange->code == ERR_OFFLINE)
        return elapsed_ms < (offline_ms > 0 ? offline_ms : OFFLINE_MS);
    return exchange->code == ERR_UNKNOWN || exchange->code == ERR_TIMEOUT;
}

void client_call_many_patiently(struct client *client, struct client_exchange *exchanges,
                                unsigned count, int64_t patience_ms)
{
    int64_t start_ms = clock_mono_ms();
    struct client_exchange *waiting[CLIENT_CALLS_MAX];
    bool is_final[CLIENT_CALLS_MAX];

    CHECK(count <= CLIENT_CALLS_MAX);
    for (unsigned i = 0; i < count; i++)
        waiting[i] = &exchanges[i];
    while (count > 0) {
        int64_t pause_ms = PAUSE_MS;
        unsigned kept = 0;
        call_many(client, waiting, count, is_final);
        for (unsigned i = 0; i < count; i++) {
            if (is_final[i] || !can_repeat(waiting[i], clock_mono_ms() - start_ms))
                continue;
            if (waiting[i]->answer->retry_after_s * 1000 > pause_ms)
                pause_ms = waiting[i]->answer->retry_after_s * 1000;
            waiting[kept++] = waiting[i];
        }
        count = kept;
        int64_t left_ms = start_ms + patience_ms - clock_mono_ms();
        if (count == 0 || left_ms <= 0 ||
            client_pause(client, pause_ms < left_ms ? pause_ms : left_ms))
            return;
    }
}

void client_call_many(struct client *client, struct client_exchange *exchanges, unsigned count)
{
    client_call_many_patiently(client, exchanges, count, 0);
}

int client_call_patiently(struct client *client, const struct client_request *request,
                          int64_t patience_ms, struct client_answer *out, struct error_text *why)
{
    struct client_exchange exchange = {.request = request, .answer = out};

    client_call_many_patiently(client, &exchange, 1, patience_ms);
    if (exchange.code < 0 && why)
        *why = exchange.why;
    return exchange.code;
}

int client_call(struct client *client, const struct client_request *request,
                struct client_answer *out, struct error_text *why)
{
    return client_call_patiently(client, request, 0, out, why);
}
