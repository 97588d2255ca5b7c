/* An HTTP load generator for benchmarks: one thread, epoll, kept-alive connections, no pipelining.
 *
 *   load --address 127.0.0.1:PORT --connections N (--requests N | --seconds S)
 *        [--method POST] [--path /v1/jobs | --paths FILE] [--body FILE] [--header "Name: value"]...
 * [--expect 202]
 *        [--ids FILE]
 *
 * --paths: one path a line, used in turn. --ids: writes the "id" member of every answer, one a
 * line. Prints one JSON object: requests, errors, seconds, per_second, latency in ms (p50 p90 p99
 * p999 max mean). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 4 << 20, EVENTS_MAX = 256, HEADERS_MAX = 16, LATENCY_MAX = 20000000 };

struct options {
    const char *address, *method, *path, *paths_file, *body_file, *ids_file;
    const char *headers[HEADERS_MAX];
    unsigned headers_count;
    long connections, requests;
    double seconds;
    int expect;
};

struct connection {
    int fd;
    size_t sent, request_size; /* of the request under way */
    const char *request;
    char *answer;
    size_t answer_size, answer_capacity;
    int64_t started_ns;
};

struct load {
    struct options options;
    struct sockaddr_in peer;
    char **requests; /* prepared texts, used in turn */
    size_t *request_sizes;
    size_t requests_count, next;
    long started, done, errors;
    bool is_over;
    int epoll;
    uint32_t *latencies_us;
    int64_t begin_ns, end_ns;
    FILE *ids;
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *read_file(const char *path, size_t *out_size)
{
    FILE *file = fopen(path, "rb");
    char *text;
    long size;

    if (!file || fseek(file, 0, SEEK_END) < 0 || (size = ftell(file)) < 0)
        die(path);
    rewind(file);
    text = calloc(1, (size_t)size + 1);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size)
        die(path);
    fclose(file);
    *out_size = (size_t)size;
    return text;
}

static void add_request(struct load *load, const char *path, const char *body, size_t body_size)
{
    const struct options *o = &load->options;
    size_t capacity = body_size + strlen(path) + 512;
    char *text;
    int size;

    for (unsigned i = 0; i < o->headers_count; i++)
        capacity += strlen(o->headers[i]) + 2;
    text = malloc(capacity);
    size = snprintf(text, capacity, "%s %s HTTP/1.1\r\nHost: %s\r\n", o->method, path, o->address);
    for (unsigned i = 0; i < o->headers_count; i++)
        size += snprintf(text + size, capacity - (size_t)size, "%s\r\n", o->headers[i]);
    if (body)
        size += snprintf(text + size, capacity - (size_t)size,
                         "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_size);
    size += snprintf(text + size, capacity - (size_t)size, "\r\n");
    if (body)
        memcpy(text + size, body, body_size);
    load->requests[load->requests_count] = text;
    load->request_sizes[load->requests_count++] = (size_t)size + (body ? body_size : 0);
}

static void prepare(struct load *load)
{
    const struct options *o = &load->options;
    size_t body_size = 0, paths_size = 0, count = 1;
    char *body = o->body_file ? read_file(o->body_file, &body_size) : NULL;
    char *paths = o->paths_file ? read_file(o->paths_file, &paths_size) : NULL;

    for (size_t i = 0; i < paths_size; i++)
        count += paths[i] == '\n';
    load->requests = calloc(count + 1, sizeof(*load->requests));
    load->request_sizes = calloc(count + 1, sizeof(*load->request_sizes));
    if (!paths)
        add_request(load, o->path, body, body_size);
    for (char *line = paths; line && *line;) {
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        if (*line)
            add_request(load, line, body, body_size);
        line = end ? end + 1 : NULL;
    }
    free(body);
    free(paths);
}

static void write_some(struct load *load, struct connection *connection)
{
    while (connection->sent < connection->request_size) {
        ssize_t size = send(connection->fd, connection->request + connection->sent,
                            connection->request_size - connection->sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size < 0) {
            load->errors++;
            return;
        }
        connection->sent += (size_t)size;
    }
}

static void start_request(struct load *load, struct connection *connection)
{
    if (load->is_over)
        return;
    connection->request = load->requests[load->next];
    connection->request_size = load->request_sizes[load->next];
    load->next = (load->next + 1) % load->requests_count;
    connection->sent = connection->answer_size = 0;
    connection->started_ns = now_ns();
    load->started++;
    write_some(load, connection);
}

static void open_connection(struct load *load, struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    int one = 1;

    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (struct sockaddr *)&load->peer, sizeof(load->peer)) < 0)
        die("connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        die("epoll_ctl");
}

/* Size of the whole answer, 0 while it is not there, -1 when it has no length. */
static ssize_t answer_length(const struct connection *connection)
{
    char *end = memmem(connection->answer, connection->answer_size, "\r\n\r\n", 4);
    char *length;

    if (!end)
        return 0;
    if (strncmp(connection->answer + 9, "304", 3) == 0 ||
        strncmp(connection->answer + 9, "204", 3) == 0)
        return end + 4 - connection->answer;
    length = strcasestr(connection->answer, "\r\ncontent-length:");
    if (!length || length > end)
        return -1;
    size_t whole = (size_t)(end + 4 - connection->answer) + strtoul(length + 17, NULL, 10);
    return connection->answer_size >= whole ? (ssize_t)whole : 0;
}

static void finish_request(struct load *load, struct connection *connection)
{
    int64_t took_us = (now_ns() - connection->started_ns) / 1000;
    int status = atoi(connection->answer + 9);

    if (load->options.expect && status != load->options.expect) {
        if (load->errors++ == 0)
            fprintf(stderr, "load: first other answer: %.600s\n", connection->answer);
    } else if (load->done < LATENCY_MAX) {
        load->latencies_us[load->done] = took_us > UINT32_MAX ? UINT32_MAX : (uint32_t)took_us;
    }
    load->done++;
    if (load->ids) {
        char *id = strstr(connection->answer, "\"id\":");
        char *quote = id ? strchr(id + 5, '"') : NULL;
        if (quote)
            fprintf(load->ids, "%.38s\n", quote + 1);
    }
    if (strcasestr(connection->answer, "\r\nconnection: close\r\n")) {
        close(connection->fd);
        open_connection(load, connection);
    }
    if (load->options.requests > 0 && load->started >= load->options.requests)
        load->is_over = load->done >= load->options.requests;
    if (load->options.requests == 0 || load->started < load->options.requests)
        start_request(load, connection);
}

static void read_some(struct load *load, struct connection *connection)
{
    for (;;) {
        if (connection->answer_capacity - connection->answer_size < 4096) {
            connection->answer_capacity =
                connection->answer_capacity ? connection->answer_capacity * 2 : 8192;
            if (connection->answer_capacity > ANSWER_MAX)
                die("answer too large");
            connection->answer = realloc(connection->answer, connection->answer_capacity);
        }
        ssize_t size = recv(connection->fd, connection->answer + connection->answer_size,
                            connection->answer_capacity - connection->answer_size - 1, 0);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size <= 0) {
            load->errors++;
            close(connection->fd);
            open_connection(load, connection);
            start_request(load, connection);
            return;
        }
        connection->answer_size += (size_t)size;
        connection->answer[connection->answer_size] = '\0';
        ssize_t whole = answer_length(connection);
        if (whole < 0)
            die("answer without content-length");
        if (whole > 0)
            finish_request(load, connection);
    }
}

static void run(struct load *load)
{
    struct connection *connections =
        calloc((size_t)load->options.connections, sizeof(*connections));
    struct epoll_event events[EVENTS_MAX];
    int64_t stop_ns;

    for (long i = 0; i < load->options.connections; i++)
        open_connection(load, &connections[i]);
    load->begin_ns = now_ns();
    stop_ns = load->options.seconds > 0 ? load->begin_ns + (int64_t)(load->options.seconds * 1e9)
                                        : INT64_MAX;
    for (long i = 0; i < load->options.connections; i++) {
        if (load->options.requests == 0 || load->started < load->options.requests)
            start_request(load, &connections[i]);
    }
    while (!load->is_over) {
        int count = epoll_wait(load->epoll, events, EVENTS_MAX, 100);
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                write_some(load, connection);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_some(load, connection);
        }
        load->end_ns = now_ns();
        if (load->end_ns >= stop_ns)
            load->is_over = true;
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static void report(struct load *load)
{
    size_t count = (size_t)(load->done < LATENCY_MAX ? load->done : LATENCY_MAX);
    double seconds = (double)(load->end_ns - load->begin_ns) / 1e9, sum = 0;
    uint32_t *l = load->latencies_us;

    qsort(l, count, sizeof(*l), compare);
    for (size_t i = 0; i < count; i++)
        sum += l[i];
    if (count == 0)
        count = 1;
    printf("{\"requests\": %ld, \"errors\": %ld, \"seconds\": %.6f, \"per_second\": %.1f, "
           "\"p50_ms\": %.3f, "
           "\"p90_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, \"mean_ms\": "
           "%.3f}\n",
           load->done, load->errors, seconds, (double)load->done / seconds, l[count / 2] / 1e3,
           l[count * 9 / 10] / 1e3, l[count * 99 / 100] / 1e3, l[count * 999 / 1000] / 1e3,
           l[count - 1] / 1e3, sum / (double)count / 1e3);
}

static void parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.method = "GET", .path = "/", .connections = 1};
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--address"))
            o->address = value;
        else if (!strcmp(name, "--connections"))
            o->connections = atol(value);
        else if (!strcmp(name, "--requests"))
            o->requests = atol(value);
        else if (!strcmp(name, "--seconds"))
            o->seconds = atof(value);
        else if (!strcmp(name, "--method"))
            o->method = value;
        else if (!strcmp(name, "--path"))
            o->path = value;
        else if (!strcmp(name, "--paths"))
            o->paths_file = value;
        else if (!strcmp(name, "--body"))
            o->body_file = value;
        else if (!strcmp(name, "--ids"))
            o->ids_file = value;
        else if (!strcmp(name, "--expect"))
            o->expect = atoi(value);
        else if (!strcmp(name, "--header") && o->headers_count < HEADERS_MAX)
            o->headers[o->headers_count++] = value;
        else
            errno = EINVAL, die(name);
    }
    if (!o->address || (o->requests == 0 && o->seconds <= 0))
        errno = EINVAL, die("--address and --requests or --seconds are needed");
}

int main(int argc, char **argv)
{
    struct load load = {0};
    struct rlimit files;
    char host[64];
    const char *colon;

    parse(&load.options, argc, argv);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    colon = strrchr(load.options.address, ':');
    if (!colon)
        errno = EINVAL, die("--address");
    snprintf(host, sizeof(host), "%.*s", (int)(colon - load.options.address), load.options.address);
    load.peer =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &load.peer.sin_addr) != 1)
        errno = EINVAL, die("--address");
    load.latencies_us = malloc(LATENCY_MAX * sizeof(*load.latencies_us));
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load.options.ids_file && !(load.ids = fopen(load.options.ids_file, "w")))
        die(load.options.ids_file);
    prepare(&load);
    run(&load);
    if (load.ids)
        fclose(load.ids);
    report(&load);
    return load.errors > 0;
}
