/* The floor under pickup: the four wake-ups of a job's way, by processes that do nothing else.
 *
 *   wakes COUNT
 *
 * client -> broker -> Redis -> worker -> upstream: the client is the upstream too, TCP on loopback
 * outside and Unix sockets inside, a byte a message, 5 ms of rest before each, as pickup.c does it.
 * Prints one JSON object, times in ms. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP = 20, REST_MS = 5, COUNT_MAX = 1000000 };

static void die(const char *what)
{
    fprintf(stderr, "wakes: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Two ends of a TCP connection on loopback. */
static void tcp_pair(int ends[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("listen");
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (ends[0] < 0 || connect(ends[0], (struct sockaddr *)&address, size) < 0)
        die("connect");
    ends[1] = accept(listener, NULL, NULL);
    if (ends[1] < 0)
        die("accept");
    close(listener);
    setsockopt(ends[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(ends[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void unix_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        die("socketpair");
}

/* Sleeps as an event loop does. */
static void receive(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    char byte;

    if (poll(&poll_fd, 1, -1) < 0)
        die("poll");
    if (read(fd, &byte, 1) != 1)
        exit(0); /* the others have gone */
}

static void pass(int fd)
{
    if (write(fd, "w", 1) != 1)
        exit(0);
}

/* A process that hands on what comes. */
static void relay(int from, int to)
{
    pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        receive(from);
        pass(to);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    int count = argc == 2 ? atoi(argv[1]) : 0, submit[2], commit[2], wake[2], call[2];

    if (count < 1 || count > COUNT_MAX) {
        fputs("wakes: wakes COUNT, from 1 to 1000000\n", stderr);
        return 2;
    }
    double *times = calloc((size_t)count, sizeof *times);
    if (!times)
        die("memory");
    tcp_pair(submit);
    unix_pair(commit);
    unix_pair(wake);
    tcp_pair(call);
    relay(submit[1], commit[0]); /* the broker */
    relay(commit[1], wake[0]);   /* Redis */
    relay(wake[1], call[0]);     /* the worker */
    for (int i = -WARM_UP; i < count; i++) {
        poll(NULL, 0, REST_MS);
        int64_t started_ns = now_ns();
        pass(submit[0]);
        receive(call[1]);
        if (i >= 0)
            times[i] = (double)(now_ns() - started_ns) / 1e6;
    }
    qsort(times, (size_t)count, sizeof *times, compare);
    printf("{\"count\": %d, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n", count,
           times[count / 2], times[(int64_t)count * 99 / 100], times[count - 1]);
    return 0;
}
