#include "worker/run/claim.h"

#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/metrics.h"
#include "worker/run/runner.h"

/* Results that the queue has not stored yet; beyond, what runs is finished before more is claimed.
 */
enum { COMMIT_BYTES_MAX = 64 << 20 };

/* Requests that run here; beyond, some have to end before more are claimed. A claim brings at most
 * 32 MiB and one job. */
enum { BODY_BYTES_MAX = 1 << 30 };

void claim_init(struct runner *runner)
{
    runner->claimer = (struct claimer){.wants_suspect = true};
    claim_leave_suspects(runner);
    claim_learn_routes(runner);
}

void claim_deinit(struct runner *runner)
{
    CHECK(!runner->claimer.is_asking);
    route_list_deinit(&runner->claimer.routes);
}

static void keep_route(struct slice route, void *arg)
{
    route_list_keep(arg, route);
}

void claim_learn_routes(struct runner *runner)
{
    route_list_unkeep_all(&runner->claimer.routes);
    router_each_route(runner->set->router, keep_route, &runner->claimer.routes);
    claim_wake(runner);
}

void claim_wake(struct runner *runner)
{
    runner->claimer.may_wait = true;
    runner->claimer.has_change = true;
    runner->claimer.wants_hints = true;
}

void claim_leave_suspects(struct runner *runner)
{
    runner->claimer.crowded_mono_ms = clock_mono_ms() + CLAIM_CROWDED_MS;
}

void claim_note_suspect_end(struct runner *runner)
{
    runner->claimer.crowded_mono_ms = clock_mono_ms();
}

void claim_note_room(struct runner *runner)
{
    runner->claimer.has_change = true;
}

void claim_pause(struct runner *runner)
{
    runner->claimer.paused_until_mono_ms = clock_mono_ms() + CLAIM_PAUSE_MS;
}

void claim_tick(struct runner *runner)
{
    struct claimer *claimer = &runner->claimer;
    int64_t now_mono_ms = clock_mono_ms();

    claimer->has_change = true; /* holds of upstreams end with time */
    if (now_mono_ms < claimer->sweep_mono_ms)
        return;
    claimer->may_wait = true;
    claimer->wants_hints = true;
    claimer->wants_suspect = true;
    claimer->sweep_mono_ms =
        now_mono_ms + CLAIM_SWEEP_MS / 2 + (int64_t)(digest_random_u64() % (CLAIM_SWEEP_MS / 2));
}

/* ---- asking ---- */

static void on_claim(const struct queue_claim_result *result, void *arg);

static unsigned room_of(struct slice route, void *arg)
{
    struct runner *runner = arg;
    return router_room(runner->set->router, route);
}

/* A suspect runs alone. */
static bool is_isolated(const struct runner *runner, int64_t now_mono_ms)
{
    return runner->suspects_count > 0 && now_mono_ms < runner->claimer.alone_until_mono_ms;
}

static bool may_claim(const struct runner *runner, int64_t now_mono_ms)
{
    const struct claimer *claimer = &runner->claimer;

    return claimer->has_change && (claimer->may_wait || route_list_has_hot(&claimer->routes)) &&
           !claimer->is_asking && !is_isolated(runner, now_mono_ms) && !runner->is_draining &&
           !runner->held_first && runner->table.count < runner->table.count_max &&
           runner->table.body_bytes < BODY_BYTES_MAX &&
           queue_commit_bytes(runner->queue) < COMMIT_BYTES_MAX &&
           now_mono_ms >= claimer->paused_until_mono_ms && !runner_is_fenced(runner);
}

/* Alone, else, when this child always has something to do, in company. */
static bool takes_suspect(const struct runner *runner, int64_t now_mono_ms)
{
    const struct claimer *claimer = &runner->claimer;

    if (runner->suspects_count > 0)
        return false;
    if (runner->table.count == 0)
        return claimer->wants_suspect;
    return now_mono_ms >= claimer->crowded_mono_ms;
}

void claim_turn(struct runner *runner)
{
    struct claimer *claimer = &runner->claimer;
    int64_t now_mono_ms = clock_mono_ms();
    struct route_choice choices[LIMIT_CLAIM_ROUTES];
    struct queue_room rooms[LIMIT_CLAIM_ROUTES];
    unsigned hot_count;

    if (!may_claim(runner, now_mono_ms))
        return;
    claimer->has_change = false;
    unsigned count = route_list_select(&claimer->routes, room_of, runner, choices,
                                       LIMIT_CLAIM_ROUTES, &hot_count);
    /* Known work has to wait for room. To hear of work of routes nobody has named yet, a claim that
     * asks for nothing is worth while once after a wake-up or a sweep. */
    if (hot_count == 0 && !(claimer->may_wait && (count > 0 || claimer->wants_hints)))
        return;
    for (unsigned i = 0; i < count; i++)
        rooms[i] = (struct queue_room){.route = choices[i].name, .room = choices[i].room};

    bool may_be_suspect = takes_suspect(runner, now_mono_ms);
    unsigned free_count = runner->table.count_max - runner->table.count, count_max = free_count;
    claimer->asks_alone = may_be_suspect && runner->table.count == 0;
    if (claimer->asks_alone)
        count_max = 1; /* if it brings one, nothing shall come along */
    struct queue_claim_request request = {
        .rooms = rooms,
        .rooms_count = count,
        .count_max = count_max < LIMIT_CLAIM_COUNT ? count_max : LIMIT_CLAIM_COUNT,
        .takes_suspect = may_be_suspect,
        /* A child that has just come knows few names; twice in a row would hold up others. */
        .suspect_first = claimer->asks_alone && !claimer->has_looked,
        /* Who has no room must not be woken in place of one who has. */
        .wants_wake = upstream_set_has_room(runner->set),
        .hand_max = free_count < LIMIT_CLAIM_COUNT ? free_count : LIMIT_CLAIM_COUNT,
    };
    claimer->is_asking = true;
    claimer->may_wait = false;
    claimer->wants_hints = false;
    if (may_be_suspect) {
        claimer->wants_suspect = false;
        claim_leave_suspects(runner);
    }
    queue_claim(runner->queue, &request, on_claim, runner);
}

/* ---- answers ---- */

/* Jobs wait that we know of. */
static void ask_again(struct claimer *claimer)
{
    claimer->may_wait = true;
    claimer->has_change = true;
}

static void note_routes(struct runner *runner, const struct queue_claim_result *result)
{
    struct route_list *routes = &runner->claimer.routes;

    for (unsigned i = 0; i < result->jobs_count; i++)
        route_list_heat(routes, result->jobs[i].route);
    for (unsigned i = 0; i < result->waiting_count; i++) {
        route_list_heat(routes, result->waiting[i].route);
        if (router_room(runner->set->router, result->waiting[i].route) > 0) {
            ask_again(&runner->claimer);
            runner->claimer.wants_suspect = true; /* it may be what waits there */
        }
    }
    if (!result->has_more)
        route_list_settle(routes);
}

static void take_job(struct runner *runner, const struct job *job)
{
    metrics_add(METRIC_JOBS_CLAIMED, 1);
    runner->counts.claimed++;
    struct attempt *attempt = runner->is_draining ? NULL : attempt_table_add(&runner->table, job);
    if (!attempt) { /* we are leaving, or there is no room or no memory */
        runner_return_job(runner, job);
        claim_pause(runner);
        return;
    }
    attempt->runner = runner;
    if (attempt->is_suspect) {
        runner->suspects_count++;
        runner->claimer.alone_until_mono_ms =
            runner->table.count == 1 ? clock_mono_ms() + CLAIM_ALONE_MS : 0;
    }
    if (job->attempt == 0 && job->claim <= 1)
        metrics_observe_ms(METRIC_PICKUP_SECONDS,
                           (double)(queue_now_ms(runner->queue) - job->created_at_ms));
    attempt_start(attempt);
}

/* Claimed and handed jobs crossed, and these must not meet. */
static void send_back(struct runner *runner, const struct job *job)
{
    metrics_add(METRIC_JOBS_CLAIMED, 1);
    runner->counts.claimed++;
    runner_return_job(runner, job);
}

static void on_claim(const struct queue_claim_result *result, void *arg)
{
    struct runner *runner = arg;
    struct claimer *claimer = &runner->claimer;

    CHECK(claimer->is_asking);
    claimer->is_asking = false;
    if (runner->is_draining)
        claim_withdraw(runner);
    if (result->status < 0) {
        claimer->may_wait = true;
        claimer->wants_suspect |= claimer->asks_alone;
        claim_pause(runner);
        return;
    }
    note_routes(runner, result);
    claimer->has_looked = claimer->asks_alone && result->jobs_count == 0 && result->has_more;
    for (unsigned i = 0; i < result->jobs_count; i++) {
        const struct job *job = &result->jobs[i];

        /* Something has been handed to us since we asked for a suspect alone. */
        if (claimer->asks_alone && (job->flags & JOB_FLAG_SUSPECT) && runner->table.count > 0) {
            send_back(runner, job);
            claimer->wants_suspect = true;
        } else {
            take_job(runner, job);
        }
    }
    /* Only a claim that found nothing registers us for wake-ups: ask until one does. */
    if (result->jobs_count > 0 || result->has_more)
        ask_again(claimer);
    /* What waits may all be for newer workers: that is not asked for without end. */
    if (result->jobs_count == 0 && result->newer_count > 0)
        claim_pause(runner);
}

/* ---- what is handed ---- */

/* The claim that stood for these jobs is gone: the next one stands again, or brings what came with
 * them, if need be of other routes. None of these is hot: what waited for them has been handed, and
 * a claim that asks for hot routes stands for those alone. */
void claim_take_handed(struct runner *runner, const struct queue_claim_result *result)
{
    int64_t now_mono_ms = clock_mono_ms();

    for (unsigned i = 0; i < result->jobs_count; i++) {
        if (is_isolated(runner, now_mono_ms)) /* by the claim that brought a suspect */
            send_back(runner, &result->jobs[i]);
        else
            take_job(runner, &result->jobs[i]);
    }
    ask_again(&runner->claimer);
    if (result->has_more)
        runner->claimer.wants_hints = true;
}

static void on_withdrawn(int status, void *arg)
{
    struct runner *runner = arg;

    (void)status; /* Redis is away: what it handed us before waits for its lease */
    runner->claimer.is_withdrawing = false;
}

void claim_withdraw(struct runner *runner)
{
    struct claimer *claimer = &runner->claimer;

    if (claimer->is_asking || claimer->is_withdrawing)
        return;
    claimer->is_withdrawing = true;
    queue_withdraw(runner->queue, on_withdrawn, runner);
}
