#include "common/base/failpoint.h"

#ifdef PENSTOCK_FAILPOINTS

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/settings.h"

enum { PATH_SIZE = 512, LINE_SIZE = 256, NAME_SIZE = 64, MIB = 1 << 20 };

struct armed {
    char name[NAME_SIZE], action[NAME_SIZE], word[NAME_SIZE];
    int number, every, limit;
};

/* Lines of the file that are this name. */
static int count_fired(const char *path, const char *name)
{
    char line[LINE_SIZE];
    int count = 0;
    FILE *file = fopen(path, "re");

    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        count += strcmp(line, name) == 0;
    }
    if (file)
        (void)fclose(file);
    return count;
}

static void note_fired(const char *path, const char *name)
{
    char line[NAME_SIZE + 1];
    int size = snprintf(line, sizeof line, "%s\n", name);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    ssize_t written = write(fd, line, (size_t)size);
    (void)written; /* a point that is not noted makes its row void */
    (void)close(fd);
}

static void leak(int mib)
{
    for (int i = 0; i < mib; i++) {
        char *memory = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return;
        memset(memory, 1, MIB);
    }
}

static int act(const struct armed *armed)
{
    int64_t end_mono_ms = clock_mono_ms() + armed->number;

    if (strcmp(armed->action, "crash") == 0)
        (void)raise(SIGKILL);
    if (strcmp(armed->action, "stop") == 0)
        (void)raise(SIGSTOP);
    if (strcmp(armed->action, "delay") == 0)
        (void)poll(NULL, 0, armed->number);
    if (strcmp(armed->action, "leak") == 0)
        leak(armed->number);
    while (strcmp(armed->action, "spin") == 0 && clock_mono_ms() < end_mono_ms)
        continue;
    return strcmp(armed->action, "error") == 0 ? armed->number : 0;
}

static bool acts(const struct armed *armed, const char *fired_path, struct slice text)
{
    if (armed->every > 1 && digest_random_u64() % (unsigned)armed->every != 0)
        return false;
    if (strcmp(armed->word, "-") != 0 &&
        (text.size == 0 || !memmem(text.bytes, text.size, armed->word, strlen(armed->word))))
        return false;
    return count_fired(fired_path, armed->name) < armed->limit;
}

int failpoint_pass(const char *name, struct slice text)
{
    const char *path = settings_environment("FAILPOINTS");
    char fired_path[PATH_SIZE];
    char line[LINE_SIZE];
    int status = 0;
    FILE *file = *path ? fopen(path, "re") : NULL;

    if (!file)
        return 0;
    (void)snprintf(fired_path, sizeof fired_path, "%s.fired", path);
    while (fgets(line, sizeof line, file)) {
        struct armed armed;
        if (sscanf(line, "%63s %63s %d %d %d %63s", armed.name, armed.action, &armed.number,
                   &armed.every, &armed.limit, armed.word) == 6 &&
            strcmp(armed.name, name) == 0 && acts(&armed, fired_path, text)) {
            note_fired(fired_path, name);
            status = act(&armed);
        }
    }
    (void)fclose(file);
    return status;
}

#endif
