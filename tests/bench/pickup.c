/* Latency of the idle path, measured from both ends in one process: this program is the client and
 * the upstream.
 *
 *   pickup --mode pickup|held|direct --broker 127.0.0.1:PORT --listen 127.0.0.1:PORT --count N
 * [--header "Name: value"]
 *
 * pickup: from the moment before POST /v1/jobs is written to the first byte of the upstream call.
 * held:   a whole POST /v1/chat/completions through the broker.   direct: the same straight to the
 * upstream (ourselves). The upstream answers at once with a fixed completion. One call at a time.
 * Prints one JSON object, times in ms. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PEERS_MAX = 64, TEXT_SIZE = 65536 };

struct peer {
    int fd;
    char text[TEXT_SIZE];
    size_t size;
};

struct bench {
    const char *mode, *broker, *header, *target;
    int listener, client, count;
    struct peer upstream[PEERS_MAX]; /* connections of the worker (or our own, in mode direct) */
    struct peer answer;              /* of the client connection */
    int64_t first_byte_ns;
    bool is_called;
};

static const char completion[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"bench\","
    "\"choices\":[{\"index\":0,"
    "\"message\":{\"role\":\"assistant\",\"content\":\"ok\"},\"logprobs\":null,\"finish_reason\":"
    "\"stop\"}],\"usage\":"
    "{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}";

static void die(const char *what)
{
    fprintf(stderr, "pickup: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');

    if (!colon)
        errno = EINVAL, die(text);
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        errno = EINVAL, die(text);
    return address;
}

static void no_delay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int connect_to(const char *text)
{
    struct sockaddr_in address = address_of(text);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("connect");
    no_delay(fd);
    return fd;
}

static int listen_at(const char *text)
{
    struct sockaddr_in address = address_of(text);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0)
        die("listen");
    return fd;
}

/* Whether a whole message with a Content-Length (or none and no body) is there. */
static bool is_whole(const struct peer *peer)
{
    char *end = memmem(peer->text, peer->size, "\r\n\r\n", 4);
    char *length = end ? strcasestr(peer->text, "\r\ncontent-length:") : NULL;
    size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;

    return end && peer->size >= (size_t)(end + 4 - peer->text) + body;
}

static bool receive(struct peer *peer)
{
    ssize_t size = recv(peer->fd, peer->text + peer->size, TEXT_SIZE - 1 - peer->size, 0);

    if (size <= 0)
        return false;
    peer->size += (size_t)size;
    peer->text[peer->size] = '\0';
    return true;
}

static void serve(struct bench *bench, struct peer *peer)
{
    char head[256];
    bool was_empty = peer->size == 0;

    if (!receive(peer)) {
        close(peer->fd);
        peer->fd = -1;
        peer->size = 0;
        return;
    }
    if (was_empty && strncmp(peer->text, "POST", 4) == 0 && bench->first_byte_ns == 0)
        bench->first_byte_ns = now_ns();
    if (!is_whole(peer))
        return;
    bench->is_called = bench->is_called || strncmp(peer->text, "POST", 4) == 0;
    peer->size = 0;
    int size =
        snprintf(head, sizeof(head),
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                 sizeof(completion) - 1);
    char whole[sizeof(head) + sizeof(completion)];
    memcpy(whole, head, (size_t)size);
    memcpy(whole + size, completion, sizeof(completion) - 1);
    if (send(peer->fd, whole, (size_t)size + sizeof(completion) - 1, MSG_NOSIGNAL) < 0)
        die("send");
}

static void accept_peer(struct bench *bench)
{
    int fd = accept(bench->listener, NULL, NULL);

    for (unsigned i = 0; i < PEERS_MAX && fd >= 0; i++) {
        if (bench->upstream[i].fd >= 0)
            continue;
        no_delay(fd);
        bench->upstream[i].fd = fd;
        bench->upstream[i].size = 0;
        return;
    }
    die("too many connections");
}

/* Runs both ends until the client has its answer and, where one is due, the upstream its call. */
static void run_until_done(struct bench *bench, bool needs_call)
{
    bool is_answered = false;

    while (!is_answered || (needs_call && !bench->is_called)) {
        struct pollfd fds[PEERS_MAX + 2];
        fds[0] = (struct pollfd){.fd = bench->listener, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = is_answered ? -1 : bench->client, .events = POLLIN};
        for (unsigned i = 0; i < PEERS_MAX; i++)
            fds[i + 2] = (struct pollfd){.fd = bench->upstream[i].fd, .events = POLLIN};
        if (poll(fds, PEERS_MAX + 2, 30000) <= 0)
            die("nothing happened for 30 s");
        for (unsigned i = 0; i < PEERS_MAX; i++) {
            if (fds[i + 2].revents)
                serve(bench, &bench->upstream[i]);
        }
        if (fds[0].revents)
            accept_peer(bench);
        if (fds[1].revents) {
            if (!receive(&bench->answer))
                die("the connection was closed");
            is_answered = is_whole(&bench->answer);
        }
    }
}

static double one_call(struct bench *bench, const char *path, const char *body)
{
    char request[8192];
    bool is_pickup = strcmp(bench->mode, "pickup") == 0;
    int size = snprintf(
        request, sizeof(request),
        "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n%s%sContent-Length: "
        "%zu\r\n\r\n%s",
        path, bench->header ? bench->header : "", bench->header ? "\r\n" : "", strlen(body), body);

    bench->first_byte_ns = 0;
    bench->is_called = false;
    bench->answer.size = 0;
    int64_t started_ns = now_ns();
    if (send(bench->client, request, (size_t)size, MSG_NOSIGNAL) != size)
        die("send");
    run_until_done(bench, is_pickup);
    if (strncmp(bench->answer.text + 9, is_pickup ? "202" : "200", 3) != 0) {
        fprintf(stderr, "pickup: unexpected answer: %.500s\n", bench->answer.text);
        exit(1);
    }
    int64_t ended_ns = is_pickup ? bench->first_byte_ns : now_ns();
    if (strcasestr(bench->answer.text, "\r\nconnection: close\r\n")) {
        close(bench->client);
        bench->client = bench->answer.fd = connect_to(bench->target);
    }
    return (double)(ended_ns - started_ns) / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static const char chat[] =
        "{\"model\":\"bench\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
    static const char job[] = "{\"endpoint\":\"/v1/chat/"
                              "completions\",\"body\":{\"model\":\"bench\",\"messages\":[{\"role\":"
                              "\"user\",\"content\":\"hello\"}]}}";
    static struct bench bench = {.mode = "pickup", .count = 500};
    const char *listen_address = "127.0.0.1:0";

    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--mode"))
            bench.mode = argv[i + 1];
        else if (!strcmp(argv[i], "--broker"))
            bench.broker = argv[i + 1];
        else if (!strcmp(argv[i], "--listen"))
            listen_address = argv[i + 1];
        else if (!strcmp(argv[i], "--count"))
            bench.count = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--header"))
            bench.header = argv[i + 1];
        else
            errno = EINVAL, die(argv[i]);
    }
    for (unsigned i = 0; i < PEERS_MAX; i++)
        bench.upstream[i].fd = -1;
    bench.listener = listen_at(listen_address);
    bool is_direct = strcmp(bench.mode, "direct") == 0,
         is_pickup = strcmp(bench.mode, "pickup") == 0;
    bench.target = is_direct ? listen_address : bench.broker;
    bench.client = connect_to(bench.target);
    bench.answer.fd = bench.client;
    double *times = calloc((size_t)bench.count, sizeof(*times));
    /* The first calls open connections and warm caches; they are not counted. */
    for (int i = -20; i < bench.count; i++) {
        double ms = one_call(&bench, is_pickup ? "/v1/jobs" : "/v1/chat/completions",
                             is_pickup ? job : chat);
        if (i >= 0)
            times[i] = ms;
        if (is_pickup) /* let the queue become idle again: the commit is behind us */
            poll(NULL, 0, 5);
    }
    qsort(times, (size_t)bench.count, sizeof(*times), compare);
    printf("{\"mode\": \"%s\", \"count\": %d, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": "
           "%.3f, \"max_ms\": %.3f}\n",
           bench.mode, bench.count, times[bench.count / 2], times[bench.count * 9 / 10],
           times[bench.count * 99 / 100], times[bench.count - 1]);
    return 0;
}
