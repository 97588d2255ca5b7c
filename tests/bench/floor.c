/* The least a worker that uses libcurl can cost: its bare multi interface on libuv, and nothing
 * else. No time limits, no limits of size, no routing, no queue.
 *
 *   floor --url URL --calls N --concurrency C --multis M --body-bytes B
 *
 * POSTs a JSON body of B bytes N times, C at once, over M multi handles, and prints one line of
 * JSON. */
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

enum { MULTIS_MAX = 256 };

struct multi {
    CURLM *handle;
    uv_timer_t timer;
    long running;
};

struct floor {
    const char *url;
    long calls;
    long concurrency;
    long multis_count;
    long body_bytes;
    char *body;
    uv_loop_t loop;
    struct multi multis[MULTIS_MAX];
    struct curl_slist *headers;
    long started;
    long ended;
    long errors;
};

struct call {
    struct floor *floor;
    struct multi *multi;
    size_t bytes;
};

struct watched {
    uv_poll_t poll;
    struct multi *multi;
    curl_socket_t fd;
};

static void die(const char *text)
{
    (void)fprintf(stderr, "floor: %s\n", text);
    exit(1);
}

static size_t on_body(char *bytes, size_t one, size_t size, void *arg)
{
    struct call *call = arg;
    (void)bytes, (void)one;
    call->bytes += size;
    return size;
}

/* Adds the easy handle, new or used, to the multi handle with the fewest calls. */
static void start(struct floor *floor, CURL *easy, struct call *call)
{
    struct multi *best = &floor->multis[0];

    for (long i = 1; i < floor->multis_count; i++) {
        if (floor->multis[i].running < best->running)
            best = &floor->multis[i];
    }
    call->multi = best;
    call->bytes = 0;
    best->running++;
    floor->started++;
    if (curl_multi_add_handle(best->handle, easy) != CURLM_OK)
        die("a call cannot be added");
}

static void on_ended(struct multi *multi, CURLMsg *message)
{
    CURL *easy = message->easy_handle;
    CURLcode result = message->data.result;
    char *owner = NULL;
    long status = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    struct call *call = (struct call *)(void *)owner;
    struct floor *floor = call->floor;
    if (result != CURLE_OK || status != 200 || call->bytes == 0)
        floor->errors++;
    (void)curl_multi_remove_handle(multi->handle, easy);
    call->multi->running--;
    floor->ended++;
    if (floor->started < floor->calls) {
        start(floor, easy, call);
    } else {
        curl_easy_cleanup(easy);
        free(call);
    }
}

static void act(struct multi *multi, curl_socket_t fd, int events)
{
    CURLMsg *message;
    int count;

    if (curl_multi_socket_action(multi->handle, fd, events, &count) != CURLM_OK)
        die("curl_multi_socket_action failed");
    while ((message = curl_multi_info_read(multi->handle, &count)))
        on_ended(multi, message);
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer_wanted(CURLM *handle, long timeout_ms, void *arg)
{
    struct multi *multi = arg;
    (void)handle;
    if (timeout_ms < 0)
        return uv_timer_stop(&multi->timer);
    return uv_timer_start(&multi->timer, on_timer, (uint64_t)timeout_ms, 0);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct watched *watched = poll->data;
    int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    act(watched->multi, watched->fd, status < 0 ? CURL_CSELECT_ERR : flags);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int on_socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *kept)
{
    struct multi *multi = arg;
    struct watched *watched = kept;
    (void)easy;

    if (what == CURL_POLL_REMOVE) {
        if (watched)
            uv_close((uv_handle_t *)&watched->poll, on_closed);
        return 0;
    }
    if (!watched) {
        watched = calloc(1, sizeof *watched);
        if (!watched || uv_poll_init(multi->timer.loop, &watched->poll, fd) != 0)
            die("a socket cannot be watched");
        watched->multi = multi;
        watched->fd = fd;
        watched->poll.data = watched;
        (void)curl_multi_assign(multi->handle, fd, watched);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&watched->poll, events, on_socket);
}

static void call_create(struct floor *floor)
{
    CURL *easy = curl_easy_init();
    struct call *call = calloc(1, sizeof *call);

    if (!easy || !call)
        die("out of memory");
    call->floor = floor;
    (void)curl_easy_setopt(easy, CURLOPT_URL, floor->url);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, floor->headers);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, floor->body);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, floor->body_bytes);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 8192L);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    start(floor, easy, call);
}

static void body_create(struct floor *floor)
{
    static const char head[] =
        "{\"model\":\"sim-chat\",\"messages\":[{\"role\":\"user\",\"content\":\"";
    static const char tail[] = "\"}]}";
    size_t frame = sizeof head + sizeof tail - 2;
    size_t size = (size_t)floor->body_bytes > frame ? (size_t)floor->body_bytes : frame + 1;

    floor->body = malloc(size + 1);
    if (!floor->body)
        die("out of memory");
    floor->body_bytes = (long)size;
    memset(floor->body, 'x', size);
    memcpy(floor->body, head, sizeof head - 1);
    memcpy(floor->body + size - (sizeof tail - 1), tail, sizeof tail);
}

static long number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 1)
        die("a number of at least 1 was expected");
    return value;
}

static void read_arguments(struct floor *floor, int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--url") == 0)
            floor->url = argv[i + 1];
        else if (strcmp(argv[i], "--calls") == 0)
            floor->calls = number(argv[i + 1]);
        else if (strcmp(argv[i], "--concurrency") == 0)
            floor->concurrency = number(argv[i + 1]);
        else if (strcmp(argv[i], "--multis") == 0)
            floor->multis_count = number(argv[i + 1]);
        else if (strcmp(argv[i], "--body-bytes") == 0)
            floor->body_bytes = number(argv[i + 1]);
        else
            die("usage: floor --url URL --calls N --concurrency C --multis M --body-bytes B");
    }
    if (!floor->url || argc % 2 == 0)
        die("usage: floor --url URL --calls N --concurrency C --multis M --body-bytes B");
    if (floor->multis_count > MULTIS_MAX)
        die("too many multi handles");
    if (floor->concurrency > floor->calls)
        floor->concurrency = floor->calls;
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    static struct floor floor = {
        .calls = 1000, .concurrency = 64, .multis_count = 1, .body_bytes = 1024};
    struct rlimit files;
    struct rusage usage;

    read_arguments(&floor, argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    body_create(&floor);
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    floor.headers = curl_slist_append(NULL, "Content-Type: application/json");
    floor.headers = curl_slist_append(floor.headers, "Expect:");
    (void)uv_loop_init(&floor.loop);
    for (long i = 0; i < floor.multis_count; i++) {
        struct multi *multi = &floor.multis[i];
        multi->handle = curl_multi_init();
        (void)uv_timer_init(&floor.loop, &multi->timer);
        multi->timer.data = multi;
        (void)curl_multi_setopt(multi->handle, CURLMOPT_SOCKETFUNCTION, on_socket_wanted);
        (void)curl_multi_setopt(multi->handle, CURLMOPT_SOCKETDATA, multi);
        (void)curl_multi_setopt(multi->handle, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
        (void)curl_multi_setopt(multi->handle, CURLMOPT_TIMERDATA, multi);
    }

    uint64_t start_ns = uv_hrtime();
    while (floor.started < floor.concurrency)
        call_create(&floor);
    while (floor.ended < floor.calls)
        (void)uv_run(&floor.loop, UV_RUN_ONCE);
    double wall = (double)(uv_hrtime() - start_ns) / 1e9;
    (void)getrusage(RUSAGE_SELF, &usage);
    double cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    (void)printf("{\"calls\": %ld, \"concurrency\": %ld, \"multis\": %ld, \"wall_s\": %.3f, "
                 "\"cpu_s\": %.3f, \"cpu_us_per_call\": %.1f, \"calls_per_s\": %.0f, "
                 "\"rss_max_kib\": %ld, \"errors\": %ld}\n",
                 floor.calls, floor.concurrency, floor.multis_count, wall, cpu,
                 cpu * 1e6 / (double)floor.calls, (double)floor.calls / wall, usage.ru_maxrss,
                 floor.errors);
    return floor.errors > 0;
}
