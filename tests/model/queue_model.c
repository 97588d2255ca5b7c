/* Random histories of the queue's Lua functions against a reference model.
 *
 *   queue_model [HISTORIES [SEED]]
 *
 * SEED 0 (default) draws one. History n has the seed SEED + n, so a failing one is run again with
 * HISTORIES=1 and the seed that is printed. A failing history is cut down to the steps it needs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/text.h"
#include "model.h"

enum {
    STEPS_MIN = 12,
    NAMES_PERCENT = 4,          /* of the steps are followed by a look at every key */
    MUST_MEET_HISTORIES = 2000, /* so many histories meet everything there is to meet */
    SHRINK_ROUNDS = 20,
};

#define START_MS 2000000000000LL /* far from real time: nothing here depends on that */

static const char *const met_words[MET_COUNT] = {"submitted",
                                                 "replayed",
                                                 "conflict",
                                                 "too many models",
                                                 "full",
                                                 "claimed",
                                                 "suspect claimed",
                                                 "handed",
                                                 "finished",
                                                 "failed",
                                                 "retried",
                                                 "released",
                                                 "repeated",
                                                 "fenced",
                                                 "renewed",
                                                 "lost",
                                                 "recovered",
                                                 "lapsed",
                                                 "poison",
                                                 "promoted",
                                                 "expired",
                                                 "expired after a day",
                                                 "cancelled",
                                                 "forgotten",
                                                 "followed",
                                                 "paused",
                                                 "rollback",
                                                 "wrapped",
                                                 "in pieces",
                                                 "blamed",
                                                 "spared",
                                                 "listed",
                                                 "counted",
                                                 "inspected"};

struct plan {
    uint64_t seed;
    unsigned steps;
    bool is_left_out[MODEL_STEPS_MAX];
};

static void prepare(struct history *history, uint64_t seed)
{
    static const int64_t limits[][2] = {{0, 0}, {1024, 0}, {2, 0}, {0, 6}};
    struct random random = {seed};
    unsigned which = random_below(&random, 4);

    history->now_ms = START_MS + random_below(&random, 3600000);
    history->routes_max = limits[which][0];
    history->jobs_max = limits[which][1];
    history->profile = random_below(&random, 3);
    for (unsigned i = 0; i < MODEL_KEYS; i++)
        history->model.keys[i].job = -1;
}

/* Steps until the first fault; returns its number, or plan->steps. */
static unsigned run(struct store *store, const struct plan *plan, struct history *history,
                    bool is_verbose)
{
    unsigned step = 0;

    memset(history, 0, offsetof(struct history, command));
    memset(history->met, 0, sizeof(history->met));
    history->fault[0] = '\0';
    history->store = store;
    history->is_verbose = is_verbose;
    prepare(history, plan->seed);
    store_restore(store, NULL);
    for (; step < plan->steps; step++) {
        struct random random = {plan->seed * 0x2545f4914f6cdd1dU + step};

        if (plan->is_left_out[step])
            continue;
        history_say(history, "%2u ", step);
        history_step(history, random_next(&random));
        check_dump(history);
        if (random_chance(&random, NAMES_PERCENT) || step + 1 == plan->steps)
            check_names(history);
        if (history->fault[0] != '\0')
            break;
    }
    freeReplyObject(history->dump);
    freeReplyObject(history->snapshot);
    return step;
}

static bool fails(struct store *store, struct plan *plan, struct history *history)
{
    unsigned step = run(store, plan, history, false);

    if (step == plan->steps)
        return false;
    plan->steps = step + 1; /* what came after does not matter */
    return true;
}

/* The shortest prefix, and of that only the steps without which it does not fail. */
static void shrink(struct store *store, struct plan *plan, struct history *history)
{
    bool has_shrunk = fails(store, plan, history);

    for (int round = 0; has_shrunk && round < SHRINK_ROUNDS; round++) {
        has_shrunk = false;
        for (unsigned i = 0; i + 1 < plan->steps; i++) {
            struct plan shorter = *plan;

            if (plan->is_left_out[i])
                continue;
            shorter.is_left_out[i] = true;
            if (!fails(store, &shorter, history))
                continue;
            *plan = shorter;
            has_shrunk = true;
        }
    }
}

static void report(struct store *store, struct plan *plan, struct history *history)
{
    printf("model: seed %llu fails at step %u: %s\n", (unsigned long long)plan->seed,
           plan->steps - 1, history->fault);
    shrink(store, plan, history);
    printf("the steps it takes:\n");
    (void)run(store, plan, history, true);
    printf("%s\nagain with: make model HISTORIES=1 SEED=%llu\n", history->fault,
           (unsigned long long)plan->seed);
}

/* Returns whether everything was met that a run of this length meets. */
static bool print_met(const uint64_t *met, int64_t histories)
{
    bool has_all = true;

    for (int i = 0; i < MET_COUNT; i++) {
        printf("%s%s %llu", i ? ", " : "model: ", met_words[i], (unsigned long long)met[i]);
        if (met[i] == 0)
            has_all = false;
    }
    printf("\n");
    if (has_all || histories < MUST_MEET_HISTORIES)
        return true;
    printf("model: something never happened, so this run does not count\n");
    return false;
}

static int64_t number(int argc, char **argv, int which, int64_t otherwise)
{
    int64_t out = otherwise;

    if (argc > which && text_parse_i64(argv[which], strlen(argv[which]), 0, INT64_MAX, &out) < 0) {
        (void)fprintf(stderr, "not a number: %s\n", argv[which]);
        exit(2);
    }
    return out;
}

int main(int argc, char **argv)
{
    int64_t histories = number(argc, argv, 1, 10000), seed = number(argc, argv, 2, 0);
    struct history *history = calloc(1, sizeof(*history));
    uint64_t met[MET_COUNT] = {0}, steps = 0;
    int64_t started = clock_mono_ms(), done = 0;
    struct store store;
    bool is_fine = true;

    CHECK(history != NULL);
    if (seed == 0)
        seed = (int64_t)(digest_random_u64() % 1000000000000U) + 1;
    printf("model: %lld histories from seed %lld\n", (long long)histories, (long long)seed);
    store_start(&store);
    for (; done < histories && is_fine; done++) {
        struct plan plan = {.seed = (uint64_t)(seed + done)};
        struct random random = {plan.seed};

        plan.steps = STEPS_MIN + random_below(&random, MODEL_STEPS_MAX - STEPS_MIN);
        steps += plan.steps;
        is_fine = !fails(&store, &plan, history);
        if (!is_fine)
            report(&store, &plan, history);
        for (int i = 0; i < MET_COUNT; i++)
            met[i] += history->met[i];
        if ((done + 1) % 100000 == 0) {
            printf("model: %lld histories\n", (long long)done + 1);
            (void)fflush(stdout);
        }
    }
    store_stop(&store);
    free(history);
    is_fine = print_met(met, done) && is_fine;
    printf("model: %lld histories, %llu steps, %lld ms: %s\n", (long long)done,
           (unsigned long long)steps, (long long)(clock_mono_ms() - started),
           is_fine ? "no difference" : "FAILED");
    return is_fine ? 0 : 1;
}
