/* Log lines: where they wait, and how they leave. Their form is log_line.c's business. */
#include "common/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log_line.h"

enum {
    RING_SIZE = 1024 * 1024, /* bytes */
    RING_LINES_MAX = 8192,
    WRITE_SIZE_MAX = 4096, /* what a pipe that polls writable takes without blocking */
    REPEAT_SLOTS = 64,
    REPEAT_LIMIT = 10, /* lines a window */
    REPEAT_WINDOW_MS = 1000,
    REPEAT_EVENT_SIZE = 48,
    REPEAT_FIELD_SIZE = 80
};

/* One kind of warning: what it is called and how often it came in the running window. */
struct repeat {
    uint64_t kind; /* hash of level, event and first field; 0 = free */
    int64_t window_ms;
    unsigned count;
    unsigned held_back;
    enum log_level level;
    char event[REPEAT_EVENT_SIZE];
    char field[REPEAT_FIELD_SIZE];
};

static struct {
    struct log_line_style style;
    enum log_level level;
    bool is_ready; /* log_init was called */
    int fd;        /* our own non-blocking way to where standard error leads, or standard error */
    bool is_socket;
    size_t head; /* oldest byte; bytes are head .. head + size, modulo RING_SIZE */
    size_t size;
    unsigned lines;
    uint64_t dropped;
    unsigned repeats_held; /* slots with held_back > 0 */
    int64_t repeats_checked_ms;
    struct repeat repeats[REPEAT_SLOTS];
    char ring[RING_SIZE];
} sink = {.level = LOG_INFO, .fd = STDERR_FILENO};

/* A pipe or terminal is opened once more, so that "non-blocking" holds for this process only: the
 * open file behind standard error is shared with whoever started us. Files never block for long,
 * and a second opening of one would have a write position of its own. */
static void open_sink(void)
{
    struct stat info;

    if (sink.fd != STDERR_FILENO)
        (void)close(sink.fd);
    sink.fd = STDERR_FILENO;
    sink.is_socket = false;
    if (fstat(STDERR_FILENO, &info) != 0)
        return;
    if (S_ISSOCK(info.st_mode)) {
        sink.is_socket = true;
    } else if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
        int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0)
            sink.fd = fd;
    }
}

void log_init(const char *process, enum log_level level, enum log_format format)
{
    long pid = (long)getpid();

    if (sink.style.pid != pid) { /* after fork the parent's lines are the parent's to write */
        sink.head = 0;
        sink.size = 0;
        sink.lines = 0;
        sink.dropped = 0;
        sink.repeats_held = 0;
        memset(sink.repeats, 0, sizeof sink.repeats);
    }
    sink.style.pid = pid;
    sink.style.is_json = format == LOG_JSON;
    size_t size = strnlen(process, sizeof sink.style.process - 1);
    memcpy(sink.style.process, process, size);
    sink.style.process[size] = '\0';
    sink.level = level;
    sink.is_ready = true;
    open_sink();
}

void log_set_level(enum log_level level)
{
    sink.level = level;
}

bool log_is_on(enum log_level level)
{
    return level <= sink.level;
}

uint64_t log_dropped_count(void)
{
    return sink.dropped;
}

/* --- writing out --------------------------------------------------------------------------- */

/* Bytes written, 0 when the sink takes none now, -1 when it is broken. */
static ssize_t write_some(const char *bytes, size_t size)
{
    ssize_t count;

    if (sink.is_socket) {
        count = send(sink.fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        struct pollfd ready = {.fd = sink.fd, .events = POLLOUT};
        if (poll(&ready, 1, 0) == 0)
            return 0;
        count = write(sink.fd, bytes, size);
    }
    if (count >= 0)
        return count;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static unsigned count_lines(const char *bytes, size_t size)
{
    unsigned lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += bytes[i] == '\n';
    return lines;
}

/* Whether the ring is empty now. */
static bool drain(void)
{
    while (sink.size > 0) {
        size_t size = sink.size < WRITE_SIZE_MAX ? sink.size : WRITE_SIZE_MAX;
        size = size < RING_SIZE - sink.head ? size : RING_SIZE - sink.head;
        ssize_t count = write_some(sink.ring + sink.head, size);
        if (count == 0)
            return false;
        if (count < 0) { /* nobody will ever read these */
            sink.dropped += sink.lines;
            sink.head = 0;
            sink.size = 0;
            sink.lines = 0;
            return true;
        }
        sink.lines -= count_lines(sink.ring + sink.head, (size_t)count);
        sink.head = (sink.head + (size_t)count) % RING_SIZE;
        sink.size -= (size_t)count;
    }
    return true;
}

/* --- taking in ------------------------------------------------------------------------------ */

static void ring_put(const char *bytes, size_t size)
{
    if (size > RING_SIZE - sink.size || sink.lines >= RING_LINES_MAX)
        (void)drain();
    if (size > RING_SIZE - sink.size || sink.lines >= RING_LINES_MAX) {
        sink.dropped++;
        return;
    }
    size_t tail = (sink.head + sink.size) % RING_SIZE;
    size_t first = size < RING_SIZE - tail ? size : RING_SIZE - tail;
    memcpy(sink.ring + tail, bytes, first);
    memcpy(sink.ring, bytes + first, size - first);
    sink.size += size;
    sink.lines++;
}

static void put_event(enum log_level level, const char *event, const struct log_field *fields,
                      size_t count)
{
    struct log_line line;

    if (!sink.is_ready)
        log_init("penstock", sink.level, LOG_TEXT);
    const struct log_entry entry = {clock_wall_ms(), level, event, fields, count};
    log_line_format(&line, &sink.style, &entry);
    ring_put(line.bytes, line.size);
}

/* --- repeats ------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

static uint64_t kind_of(enum log_level level, const char *event, const struct log_field *first)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) + (uint64_t)level;

    hash = hash_bytes(hash, event, strlen(event) + 1);
    if (first) {
        hash = hash_bytes(hash, first->key, strlen(first->key) + 1);
        if (first->text)
            hash = hash_bytes(hash, first->text, log_field_size(first));
        else
            hash = hash_bytes(hash, (const char *)&first->number, sizeof first->number);
    }
    return hash == 0 ? 1 : hash;
}

/* Says how many lines of this kind were held back, and starts its next window. */
static void repeat_settle(struct repeat *repeat, int64_t now_ms)
{
    if (repeat->held_back > 0) {
        const struct log_field fields[] = {LOG_S("of", repeat->event),
                                           LOG_S("first", repeat->field),
                                           LOG_I("count", repeat->held_back)};
        put_event(repeat->level, "log_repeats_held_back", fields, 3);
        sink.repeats_held--;
    }
    repeat->held_back = 0;
    repeat->count = 0;
    repeat->window_ms = now_ms;
}

static void repeats_check(int64_t now_ms)
{
    if (sink.repeats_held == 0 || now_ms - sink.repeats_checked_ms < REPEAT_WINDOW_MS)
        return;
    sink.repeats_checked_ms = now_ms;
    for (size_t i = 0; i < REPEAT_SLOTS; i++) {
        struct repeat *repeat = &sink.repeats[i];
        if (repeat->held_back > 0 && now_ms - repeat->window_ms >= REPEAT_WINDOW_MS)
            repeat_settle(repeat, now_ms);
    }
}

static void copy_cut(char *out, size_t out_size, const char *text, size_t size)
{
    size = size < out_size - 1 ? size : out_size - 1;
    memcpy(out, text, size);
    out[size] = '\0';
}

/* Whether this line is to be written; counts it if not. */
static bool repeat_admits(enum log_level level, const char *event, const struct log_field *first)
{
    int64_t now_ms = clock_mono_ms();
    uint64_t kind = kind_of(level, event, first);
    struct repeat *repeat = &sink.repeats[(kind ^ kind >> 32) % REPEAT_SLOTS];

    if (repeat->kind != kind) { /* another kind had the slot: the younger one takes it */
        repeat_settle(repeat, now_ms);
        repeat->kind = kind;
        repeat->level = level;
        copy_cut(repeat->event, sizeof repeat->event, event, strlen(event));
        copy_cut(repeat->field, sizeof repeat->field, "", 0);
        if (first && first->text)
            copy_cut(repeat->field, sizeof repeat->field, first->text, log_field_size(first));
    } else if (now_ms - repeat->window_ms >= REPEAT_WINDOW_MS) {
        repeat_settle(repeat, now_ms);
    }
    if (repeat->count < REPEAT_LIMIT) {
        repeat->count++;
        return true;
    }
    if (repeat->held_back++ == 0)
        sink.repeats_held++;
    return false;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t count)
{
    if (level > sink.level)
        return;
    if (level <= LOG_WARN && !repeat_admits(level, event, count > 0 ? &fields[0] : NULL))
        return;
    put_event(level, event, fields, count);
}

bool log_flush(void)
{
    if (sink.repeats_held > 0)
        repeats_check(clock_mono_ms());
    return drain();
}
