/* The real thing: a redis-server of its own, and the functions with a clock that the test sets. */
#include "model.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { START_MS = 10000 };

/* dump: of each job its record, time to live, request and failed attempts; of each shard the
 * structures that hold tickets, and the sums. Keys: "{s}:" and id in turn, a "-", then the routes.
 */
static const char model_library[] =
    "#!lua name=model\n"
    "local function dump(keys, args)\n"
    "  local call, out, i = redis.call, {}, 1\n"
    "  while args[i] ~= '-' do\n"
    "    local p, id = args[i], args[i + 1]\n"
    "    out[#out + 1] = {call('GET', p .. 'j:' .. id), call('PTTL', p .. 'j:' .. id),\n"
    "                     call('GET', p .. 'p:' .. id), call('LLEN', p .. 't:' .. id)}\n"
    "    i = i + 2\n"
    "  end\n"
    "  for s = 0, tonumber(keys[1]) - 1 do\n"
    "    local p = '{' .. s .. '}:'\n"
    "    out[#out + 1] = {call('ZRANGE', p .. 'L', 0, -1, 'WITHSCORES'),\n"
    "                     call('ZRANGE', p .. 'D', 0, -1, 'WITHSCORES'),\n"
    "                     call('LRANGE', p .. 'S', 0, -1), call('SMEMBERS', p .. 'Z'),\n"
    "                     call('ZRANGE', p .. 'A', 0, -1, 'WITHSCORES'), call('HGETALL', p .. "
    "'n')}\n"
    "    for r = i + 1, #args do\n"
    "      local lanes = call('ZRANGE', p .. 'R:' .. args[r], 0, -1)\n"
    "      local row = {call('HGETALL', p .. 'c:' .. args[r]), lanes}\n"
    "      for n = 1, #lanes do\n"
    "        row[n + 2] = call('LRANGE', p .. 'q:' .. args[r] .. ':' .. lanes[n], 0, -1)\n"
    "      end\n"
    "      out[#out + 1] = row\n"
    "    end\n"
    "  end\n"
    "  out[#out + 1] = {call('HGETALL', '{0}:rl'), call('SMEMBERS', '{0}:sp')}\n"
    "  return out\n"
    "end\n"
    "local function snapshot()\n"
    "  local out = {}\n"
    "  for _, key in ipairs(redis.call('KEYS', '*')) do\n"
    "    out[#out + 1] = {key, math.max(0, redis.call('PTTL', key)), redis.call('DUMP', key)}\n"
    "  end\n"
    "  return out\n"
    "end\n"
    "redis.register_function('model_dump', dump)\n"
    "redis.register_function('model_snapshot', snapshot)\n";

/* ---- commands ----------------------------------------------------------------------- */

void command_begin(struct command *command)
{
    command->argc = 0;
    command->used = 0;
}

void command_add(struct command *command, const void *bytes, size_t size)
{
    CHECK(command->argc < (int)(sizeof(command->argv) / sizeof(command->argv[0])));
    CHECK(size <= sizeof(command->bytes) - command->used);
    if (size > 0)
        memcpy(command->bytes + command->used, bytes, size);
    command->argv[command->argc] = command->bytes + command->used;
    command->sizes[command->argc++] = size;
    command->used += size;
}

void command_text(struct command *command, const char *text)
{
    command_add(command, text, strlen(text));
}

void command_format(struct command *command, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    int size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    CHECK(size >= 0 && (size_t)size < sizeof(text));
    command_add(command, text, (size_t)size);
}

void store_append(struct store *store, const struct command *command)
{
    const char **argv = (const char **)(uintptr_t)command->argv;

    CHECK(redisAppendCommandArgv(store->context, command->argc, argv, command->sizes) == REDIS_OK);
}

redisReply *store_reply(struct store *store)
{
    void *reply = NULL;

    if (redisGetReply(store->context, &reply) != REDIS_OK) {
        (void)fprintf(stderr, "redis: %s\n", store->context->errstr);
        abort();
    }
    return reply;
}

static void expect_no_error(redisReply *reply)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        (void)fprintf(stderr, "redis: %s\n", reply->str);
        abort();
    }
    freeReplyObject(reply);
}

void store_verb(const struct store *store, struct command *command, enum queue_verb verb,
                const unsigned *shards, unsigned shards_count)
{
    command_begin(command);
    command_text(command, "FCALL");
    command_text(command, store->functions.names[verb]);
    command_format(command, "%u", shards_count);
    for (unsigned i = 0; i < shards_count; i++)
        command_format(command, "{%u}:ck", shards[i]);
}

/* ---- messages ----------------------------------------------------------------------- */

static redisReply *next_message(struct store *store)
{
    void *reply = NULL;

    if (redisGetReply(store->messages, &reply) != REDIS_OK) {
        (void)fprintf(stderr, "redis: %s\n", store->messages->errstr);
        abort();
    }
    return reply;
}

/* A ping comes back behind all that was sent before it. */
redisReply *store_message(struct store *store)
{
    redisReply *reply;

    if (!store->is_pinged)
        CHECK(redisAppendCommand(store->messages, "PING") == REDIS_OK);
    store->is_pinged = true;
    reply = next_message(store);
    CHECK(reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2);
    if (reply->elements == 3)
        return reply;
    freeReplyObject(reply);
    store->is_pinged = false;
    return NULL;
}

static void listen_for_children(struct store *store)
{
    store->messages = redisConnectUnix(store->socket);
    CHECK(store->messages && store->messages->err == 0);
    for (int i = 0; i < MODEL_CHILDREN; i++) {
        char child[9] = "";

        memset(child, 'a' + i, sizeof(child) - 1);
        CHECK(redisAppendCommand(store->messages, "SUBSCRIBE pk:c:%s", child) == REDIS_OK);
        expect_no_error(next_message(store));
    }
}

/* ---- snapshots ---------------------------------------------------------------------- */

static redisReply *call_text(struct store *store, const char *const *words)
{
    struct command *command = malloc(sizeof(*command));

    CHECK(command != NULL);
    command_begin(command);
    for (int i = 0; words[i]; i++)
        command_text(command, words[i]);
    store_append(store, command);
    free(command);
    return store_reply(store);
}

redisReply *store_snapshot(struct store *store)
{
    return call_text(store, (const char *const[]){"FCALL", "model_snapshot", "0", NULL});
}

void store_restore(struct store *store, const redisReply *snapshot)
{
    expect_no_error(call_text(store, (const char *const[]){"FLUSHDB", NULL}));
    for (size_t i = 0; snapshot && i < snapshot->elements; i++) {
        const redisReply *row = snapshot->element[i];

        CHECK(redisAppendCommand(store->context, "RESTORE %b %lld %b", row->element[0]->str,
                                 row->element[0]->len, row->element[1]->integer,
                                 row->element[2]->str, row->element[2]->len) == REDIS_OK);
    }
    for (size_t i = 0; snapshot && i < snapshot->elements; i++)
        expect_no_error(store_reply(store));
}

/* ---- start and stop ----------------------------------------------------------------- */

static void launch(struct store *store)
{
    const char *const argv[] = {
        "redis-server", "--port", "0", "--unixsocket", store->socket, "--dir",
        store->dir,     "--save", "",  "--loglevel",   "warning",     "--logfile",
        "redis.log",    "--hz",   "1", "--appendonly", "no",          NULL};

    store->pid = fork();
    CHECK(store->pid >= 0);
    if (store->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a run that is killed leaves nothing behind */
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    for (int64_t until = clock_mono_ms() + START_MS; clock_mono_ms() < until;) {
        store->context = redisConnectUnix(store->socket);
        if (store->context && store->context->err == 0)
            return;
        redisFree(store->context);
        poll(NULL, 0, 5);
    }
    (void)fprintf(stderr, "redis-server does not start\n");
    abort();
}

/* The functions' text with another source of time. */
static void load_functions(struct store *store)
{
    static const char asks[] = "call('TIME')", instead[] = "call('HMGET', 'model', 's', 'u')";
    struct buf text = {.size_max = 1 << 20};
    const char *library, *at;

    CHECK(queue_functions_init(&store->functions) == 0);
    library = store->functions.library.data;
    at = strstr(library, asks);
    CHECK(at && !strstr(at + 1, asks));
    CHECK(buf_append(&text, library, (size_t)(at - library)) == 0);
    CHECK(buf_append_text(&text, instead) == 0);
    CHECK(buf_append_text(&text, at + sizeof(asks) - 1) == 0);
    expect_no_error(call_text(store, (const char *const[]){"FUNCTION", "LOAD", text.data, NULL}));
    expect_no_error(
        call_text(store, (const char *const[]){"FUNCTION", "LOAD", model_library, NULL}));
    buf_deinit(&text);
}

void store_start(struct store *store)
{
    const char *temp = getenv("TMPDIR");
    struct timeval patience = {.tv_sec = 20};

    memset(store, 0, sizeof(*store));
    snprintf(store->dir, sizeof(store->dir), "%s/penstock-model.XXXXXX", temp ? temp : "/tmp");
    CHECK(mkdtemp(store->dir) != NULL);
    snprintf(store->socket, sizeof(store->socket), "%s/s", store->dir);
    launch(store);
    CHECK(redisSetTimeout(store->context, patience) == REDIS_OK);
    listen_for_children(store);
    CHECK(redisSetTimeout(store->messages, patience) == REDIS_OK);
    load_functions(store);
}

void store_stop(struct store *store)
{
    char path[192];

    redisFree(store->messages);
    redisFree(store->context);
    kill(store->pid, SIGKILL);
    CHECK(waitpid(store->pid, NULL, 0) == store->pid);
    unlink(store->socket);
    snprintf(path, sizeof(path), "%s/redis.log", store->dir);
    unlink(path);
    rmdir(store->dir);
    queue_functions_deinit(&store->functions);
}
