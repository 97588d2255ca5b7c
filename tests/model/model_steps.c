/* Everything that happens in a history besides submits, claims and commits: leases, sweeps, verbs
 * on single jobs, pauses, time, and a store that loses its last writes. */
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/job/limits.h"

enum {
    DEADLINE_AGAIN_MS = 10000, /* as in lease.lua */
    SWEEPS_MAX = 100,          /* calls until nothing is left: 100 minutes of deadlines each */
};

void history_fault(struct history *history, const char *format, ...)
{
    va_list args;

    if (history->fault[0] != '\0')
        return;
    va_start(args, format);
    (void)vsnprintf(history->fault, sizeof(history->fault), format, args);
    va_end(args);
}

void history_say(const struct history *history, const char *format, ...)
{
    va_list args;

    if (!history->is_verbose)
        return;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
}

int history_find(const struct history *history, const char *core)
{
    for (unsigned i = 0; i < history->jobs_count; i++)
        if (memcmp(history->ids[i].core, core, JOB_ID_CORE_SIZE) == 0)
            return (int)i;
    return -1;
}

static void append_dump(struct history *history)
{
    struct command *command = &history->command;

    command_begin(command);
    command_text(command, "FCALL");
    command_text(command, "model_dump");
    command_text(command, "1");
    command_format(command, "%d", MODEL_SHARDS);
    for (unsigned i = 0; i < history->jobs_count; i++) {
        command_format(command, "{%u}:", job_id_shard(&history->ids[i]));
        command_add(command, history->ids[i].core, JOB_ID_CORE_SIZE);
    }
    command_text(command, "-");
    for (unsigned i = 0; i < MODEL_ROUTES; i++)
        command_text(command, model_routes[i]);
    store_append(history->store, command);
}

redisReply *history_ask(struct history *history)
{
    redisReply *reply, *clock;

    CHECK(redisAppendCommand(history->store->context, "HSET model s %lld u %lld",
                             (long long)(history->now_ms / 1000),
                             (long long)(history->now_ms % 1000 * 1000)) == REDIS_OK);
    store_append(history->store, &history->command);
    append_dump(history);
    clock = store_reply(history->store);
    CHECK(clock->type == REDIS_REPLY_INTEGER);
    freeReplyObject(clock);
    reply = store_reply(history->store);
    freeReplyObject(history->dump);
    history->dump = store_reply(history->store);
    if (history->dump->type != REDIS_REPLY_ARRAY) {
        (void)fprintf(stderr, "dump: %s\n", history->dump->str);
        abort();
    }
    return reply;
}

/* Any job of the history, also those that were refused or undone; -1: there is none. */
static int draw_job(const struct history *history, struct random *random)
{
    return history->jobs_count > 0 ? (int)random_below(random, history->jobs_count) : -1;
}

/* ---- leases ------------------------------------------------------------------------- */

static bool holds(const struct history *history, int which)
{
    const struct model_job *job = &history->model.jobs[history->claims[which].job];

    return job->exists && job->state == JOB_RUNNING && job->owner == which;
}

/* Up to 4 different claims, those of shard 0 first; the count of each shard. */
static unsigned draw_claims(const struct history *history, struct random *random, int out[4],
                            unsigned counts[MODEL_SHARDS])
{
    unsigned wanted = 1 + random_below(random, 4), count = 0;
    int drawn[4];

    for (unsigned i = 0; i < wanted; i++) {
        bool is_new = true;

        drawn[i] = (int)random_below(random, history->claims_count);
        if (!holds(history, drawn[i])) /* rather one that still runs */
            drawn[i] = (int)random_below(random, history->claims_count);
        for (unsigned n = 0; n < i; n++)
            is_new = is_new && drawn[n] != drawn[i];
        if (!is_new)
            drawn[i] = -1;
    }
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
        counts[shard] = 0;
        for (unsigned i = 0; i < wanted; i++) {
            if (drawn[i] < 0 || history->model.jobs[history->claims[drawn[i]].job].shard != shard)
                continue;
            out[count++] = drawn[i];
            counts[shard]++;
        }
    }
    return count;
}

static void put_members(struct history *history, const int *claims,
                        const unsigned counts[MODEL_SHARDS])
{
    char members[4 * JOB_MEMBER_SIZE];

    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
        for (unsigned i = 0; i < counts[shard]; i++)
            memcpy(members + (size_t)i * JOB_MEMBER_SIZE, history->claims[*claims++].member,
                   JOB_MEMBER_SIZE);
        command_add(&history->command, members, (size_t)counts[shard] * JOB_MEMBER_SIZE);
    }
}

static const unsigned all_shards[MODEL_SHARDS] = {0, 1};

static void step_renew(struct history *history, struct random *random)
{
    int claims[4];
    unsigned counts[MODEL_SHARDS], at = 0;
    int64_t lease_ms = 1000 + random_below(random, 9000);
    redisReply *reply;

    if (history->claims_count == 0)
        return;
    (void)draw_claims(history, random, claims, counts);
    store_verb(history->store, &history->command, VERB_RENEW, all_shards, MODEL_SHARDS);
    command_format(&history->command, "%lld", (long long)lease_ms);
    put_members(history, claims, counts);
    reply = history_ask(history);
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
        int64_t score = model_tick(&history->model, shard, history->now_ms) + lease_ms;
        char lost[4 * JOB_MEMBER_SIZE];
        size_t size = 0;

        for (unsigned i = 0; i < counts[shard]; i++, at++) {
            const struct model_claim *claim = &history->claims[claims[at]];

            if (holds(history, claims[at])) {
                history->model.jobs[claim->job].lease_score = score;
                history->met[MET_RENEWED]++;
                continue;
            }
            memcpy(lost + size, claim->member, JOB_MEMBER_SIZE);
            size += JOB_MEMBER_SIZE;
            history->met[MET_LOST]++;
        }
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != MODEL_SHARDS ||
            reply->element[shard]->len != size ||
            memcmp(reply->element[shard]->str, lost, size) != 0)
            history_fault(history, "renew: other leases are lost than told in shard %u", shard);
    }
    freeReplyObject(reply);
}

static void recover(struct history *history, unsigned index, char blame)
{
    struct model_job *job = &history->model.jobs[index];

    model_recover(&history->model, job, history->now_ms, blame);
    history->met[MET_BLAMED] += blame == 'c';
    history->met[MET_SPARED] += blame == 'i';
    history->met[MET_RECOVERED]++;
    history->met[MET_POISON] += job->verdict == JOB_VERDICT_POISON;
    history_say(history, "  job %u is recovered: %s\n", index, job_state_word(job->state));
}

static void step_recover(struct history *history, struct random *random)
{
    static const char *const blames[] = {"", "", "c", "i"};
    int claims[4];
    unsigned counts[MODEL_SHARDS], count;
    long long recovered = 0;
    const char *blame = blames[random_below(random, 4)];
    redisReply *reply;

    if (history->claims_count == 0)
        return;
    count = draw_claims(history, random, claims, counts);
    store_verb(history->store, &history->command, VERB_RECOVER, all_shards, MODEL_SHARDS);
    put_members(history, claims, counts);
    if (*blame)
        command_text(&history->command, blame);
    reply = history_ask(history);
    for (unsigned i = 0; i < count; i++) {
        if (!holds(history, claims[i]))
            continue;
        recover(history, (unsigned)history->claims[claims[i]].job, *blame);
        recovered++;
    }
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer != recovered)
        history_fault(history, "recover: answered %lld, expected %lld", reply->integer, recovered);
    freeReplyObject(reply);
}

/* ---- sweeps ------------------------------------------------------------------------- */

/* The next running job whose lease is over, in the order of the lease set; -1: none. */
static int next_lapsed(const struct history *history, unsigned shard, int64_t logical)
{
    int best = -1;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];
        const struct model_job *other = best >= 0 ? &history->model.jobs[best] : NULL;

        if (!job->exists || job->state != JOB_RUNNING || job->shard != shard ||
            job->lease_score > logical)
            continue;
        if (!other || job->lease_score < other->lease_score ||
            (job->lease_score == other->lease_score &&
             memcmp(history->claims[job->owner].member, history->claims[other->owner].member,
                    JOB_MEMBER_SIZE) < 0))
            best = (int)i;
    }
    return best;
}

static int next_due(const struct history *history, unsigned shard)
{
    int best = -1;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];
        const struct model_job *other = best >= 0 ? &history->model.jobs[best] : NULL;

        if (!job->exists || job->state != JOB_SCHEDULED || job->shard != shard ||
            job->due_ms > history->now_ms)
            continue;
        if (!other || job->due_ms < other->due_ms ||
            (job->due_ms == other->due_ms &&
             memcmp(history->ids[i].core, history->ids[best].core, JOB_ID_CORE_SIZE) < 0))
            best = (int)i;
    }
    return best;
}

static unsigned promote(struct history *history, unsigned shard)
{
    unsigned count = 0;

    for (int i = next_due(history, shard); i >= 0; i = next_due(history, shard)) {
        struct model_job *job = &history->model.jobs[i];

        if (model_is_overdue(job, history->now_ms))
            model_end(&history->model, job, JOB_EXPIRED, JOB_VERDICT_EXPIRED);
        else
            model_requeue(&history->model, job, job->attempt > 0);
        history->met[MET_PROMOTED]++;
        history_say(history, "  job %d is promoted: %s\n", i, job_state_word(job->state));
        count++;
    }
    return count;
}

/* Overdue jobs that wait: all of them are gone when the sweep says that nothing is left to do. */
static unsigned expire(struct history *history, bool has_more)
{
    unsigned count = 0;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        struct model_job *job = &history->model.jobs[i];

        if (!job->exists || !model_is_overdue(job, history->now_ms))
            continue;
        if (job->state == JOB_RUNNING && job->deadline_seen_ms <= history->now_ms)
            job->deadline_seen_ms = history->now_ms + DEADLINE_AGAIN_MS;
        if (job->state != JOB_QUEUED && job->state != JOB_SCHEDULED)
            continue;
        if (check_letter(history, i) != 'E') {
            if (!has_more && job->deadline_seen_ms <= history->now_ms)
                history_fault(history, "job %u waits past its deadline, and the sweep is done", i);
            continue;
        }
        model_end(&history->model, job, JOB_EXPIRED, JOB_VERDICT_EXPIRED);
        history->met[MET_EXPIRED]++;
        history->met[MET_USUAL] += model_has_usual_deadline(job);
        history_say(history, "  job %u expires\n", i);
        count++;
    }
    return count;
}

/* One call; returns whether it left something to do. */
static bool sweep(struct history *history, int64_t gap)
{
    struct model *model = &history->model;
    int64_t since = history->now_ms - model->last_sweep_ms;
    bool is_full = since >= gap || since < 0, is_right, has_more;
    unsigned recovered = 0, promoted = 0, expired = 0;
    redisReply *reply;

    store_verb(history->store, &history->command, VERB_SWEEP, all_shards, MODEL_SHARDS);
    command_format(&history->command, "%lld", (long long)gap);
    reply = history_ask(history);
    is_right = reply->type == REDIS_REPLY_ARRAY && reply->elements == 6;
    for (unsigned shard = 0; is_right && shard < MODEL_SHARDS; shard++) {
        int64_t logical = model_tick(model, shard, history->now_ms);

        if (!is_full)
            continue;
        model->last_sweep_ms = history->now_ms;
        for (int i = next_lapsed(history, shard, logical); i >= 0;
             i = next_lapsed(history, shard, logical)) {
            recover(history, (unsigned)i, 0);
            recovered++;
        }
        promoted += promote(history, shard);
    }
    has_more = is_right && reply->element[5]->integer != 0;
    if (is_right && is_full)
        expired = expire(history, has_more);
    if (!is_right || reply->element[0]->integer != history->now_ms ||
        reply->element[1]->integer != recovered || reply->element[2]->integer != promoted ||
        reply->element[3]->integer != expired)
        history_fault(history, "sweep: expected %u recovered, %u promoted, %u expired: %s",
                      recovered, promoted, expired, is_right ? "" : reply->str);
    history->met[MET_LAPSED] += recovered;
    freeReplyObject(reply);
    return has_more;
}

static void step_sweep(struct history *history, struct random *random)
{
    bool has_more = sweep(history, random_chance(random, 70) ? 0 : 300);

    for (unsigned i = 0; has_more && i < SWEEPS_MAX && !history->fault[0]; i++)
        has_more = sweep(history, 0);
    if (has_more && !history->fault[0])
        history_fault(history, "a sweep has more to do after %d calls", SWEEPS_MAX);
}

/* ---- verbs on single jobs ----------------------------------------------------------- */

static void check_letter_of(struct history *history, const char *verb, int index,
                            const redisReply *reply, char expected)
{
    bool is_right =
        reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->len == 1;

    history_say(history, "  %s of job %d: %c\n", verb, index, expected);
    if (!is_right || reply->element[0]->str[0] != expected)
        history_fault(history, "%s of job %d: answered %s, expected %c", verb, index,
                      is_right ? reply->element[0]->str : reply->str, expected);
    else if (expected != 'n' && job_head_size(reply->element[1]->str, reply->element[1]->len) == 0)
        history_fault(history, "%s of job %d: no head", verb, index);
}

static redisReply *ask_one(struct history *history, enum queue_verb verb, int index)
{
    unsigned shard = job_id_shard(&history->ids[index]);

    store_verb(history->store, &history->command, verb, &shard, 1);
    command_add(&history->command, history->ids[index].core, JOB_ID_CORE_SIZE);
    return history_ask(history);
}

static void step_cancel(struct history *history, struct random *random)
{
    int index = draw_job(history, random);
    struct model_job *job = &history->model.jobs[index < 0 ? 0 : index];
    redisReply *reply;

    if (index < 0)
        return;
    reply = ask_one(history, VERB_CANCEL, index);
    if (!job->exists || job->is_gone) {
        check_letter_of(history, "cancel", index, reply, 'n');
    } else if (job_state_is_final(job->state)) {
        check_letter_of(history, "cancel", index, reply, 'e');
    } else {
        check_letter_of(history, "cancel", index, reply, 'k');
        model_end(&history->model, job, JOB_CANCELLED, JOB_VERDICT_CANCELLED);
        history->met[MET_CANCELLED]++;
    }
    freeReplyObject(reply);
}

static void step_forget(struct history *history, struct random *random)
{
    int index = draw_job(history, random);
    struct model_job *job = &history->model.jobs[index < 0 ? 0 : index];
    redisReply *reply;

    if (index < 0)
        return;
    reply = ask_one(history, VERB_FORGET, index);
    if (!job->exists || job->is_gone) {
        check_letter_of(history, "forget", index, reply, 'n');
    } else if (!job_state_is_final(job->state)) {
        check_letter_of(history, "forget", index, reply, 'l');
    } else {
        check_letter_of(history, "forget", index, reply, 'k');
        if (!job->is_forgotten)
            job->sequence++;
        job->is_forgotten = job->is_request_gone = true;
        history->met[MET_FORGOTTEN]++;
    }
    freeReplyObject(reply);
}

static void step_follow(struct history *history, struct random *random)
{
    int index = draw_job(history, random);
    struct model_job *job = &history->model.jobs[index < 0 ? 0 : index];
    unsigned shard, seen;
    char text[6 + JOB_ID_CORE_SIZE];
    redisReply *reply;

    if (index < 0)
        return;
    shard = job_id_shard(&history->ids[index]);
    seen = random_chance(random, 50) ? job->sequence : 0;
    text[0] = 1;
    text[1] = random_chance(random, 70) ? 'f' : 'h';
    for (unsigned i = 0; i < 4; i++)
        text[2 + i] = (char)(seen >> (8 * i) & 0xff);
    memcpy(text + 6, history->ids[index].core, JOB_ID_CORE_SIZE);
    store_verb(history->store, &history->command, VERB_FOLLOW, &shard, 1);
    command_text(&history->command, random_chance(random, 50) ? "broker_a" : "broker_b");
    command_add(&history->command, text, sizeof(text));
    reply = history_ask(history);
    history_say(history, "  follow of job %d\n", index);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1 ||
        reply->element[0]->len != (!job->exists || job->is_gone ? 1U
                                   : seen == job->sequence      ? 0U
                                                                : reply->element[0]->len))
        history_fault(history, "follow of job %d: not what changed since %u", index, seen);
    if (model_is_live(job) && text[1] == 'f') {
        job->is_followed = true;
        history->met[MET_FOLLOWED]++;
    }
    freeReplyObject(reply);
}

/* The changes that were recorded, each later than the one before and none later than now. */
static void step_history(struct history *history, struct random *random)
{
    int index = draw_job(history, random);
    const struct model_job *job = &history->model.jobs[index < 0 ? 0 : index];
    uint32_t last = 0;
    redisReply *reply;

    if (index < 0)
        return;
    unsigned shard = job_id_shard(&history->ids[index]);
    store_verb(history->store, &history->command, VERB_HISTORY, &shard, 1);
    command_add(&history->command, history->ids[index].core, JOB_ID_CORE_SIZE);
    command_text(&history->command, "0");
    reply = history_ask(history);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 ||
        reply->element[0]->integer != (job->exists && !job->is_gone ? (int64_t)job->sequence : -1))
        history_fault(history, "history of job %d: not of now", index);
    for (size_t i = 1; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        struct error_text why = {""};
        struct job one;

        if (job_decode(&history->ids[index], reply->element[i]->str, reply->element[i]->len, &one,
                       &why) < 0)
            history_fault(history, "history of job %d: %s", index, why.text);
        else if (one.sequence <= last || one.sequence > job->sequence)
            history_fault(history, "history of job %d: %u after %u", index, one.sequence, last);
        else
            last = one.sequence;
    }
    freeReplyObject(reply);
}

/* ---- the rest ----------------------------------------------------------------------- */

static void step_pause(struct history *history, struct random *random)
{
    unsigned route = random_below(random, MODEL_ROUTES);
    bool pauses = random_chance(random, 40);

    store_verb(history->store, &history->command, VERB_PAUSE, all_shards, MODEL_SHARDS);
    command_text(&history->command, model_routes[route]);
    command_text(&history->command, pauses ? "1" : "0");
    freeReplyObject(history_ask(history));
    history->model.is_paused[route] = pauses;
    history->met[MET_PAUSED] += pauses;
    history_say(history, "  route %u %s\n", route, pauses ? "paused" : "goes on");
}

static void step_time(struct history *history, struct random *random)
{
    int64_t by_ms;

    switch (random_below(random, 9)) {
    case 0:
        by_ms = -(int64_t)random_below(random, 10000);
        break;
    case 1:
        by_ms = random_below(random, 600000);
        break;
    case 2:
        by_ms = random_below(random, 4) * 3600000;
        break;
    case 3: /* around the usual deadline */
        by_ms = LIMIT_EXPIRES_DEFAULT_MS - 600000 + random_below(random, 1200000);
        break;
    default:
        by_ms = random_below(random, 6000);
        break;
    }
    history->now_ms += by_ms;
    history_say(history, "  time %+lld ms\n", (long long)by_ms);
}

static void touch(struct history *history)
{
    command_begin(&history->command);
    command_text(&history->command, "PING");
    freeReplyObject(history_ask(history));
}

/* Redis dies and comes back with what it had a while ago. */
static void step_snapshot(struct history *history, struct random *random)
{
    if (!history->snapshot || random_chance(random, 40)) {
        freeReplyObject(history->snapshot);
        history->snapshot = store_snapshot(history->store);
        history->saved = history->model;
        history_say(history, "  snapshot\n");
        return;
    }
    store_restore(history->store, history->snapshot);
    history->model = history->saved;
    history->met[MET_ROLLBACK]++;
    history_say(history, "  rollback\n");
    touch(history);
}

static void delete_keys(struct history *history, unsigned index, const char *letters)
{
    unsigned shard = job_id_shard(&history->ids[index]);
    const char *core = history->ids[index].core;
    redisReply *reply;

    command_begin(&history->command);
    command_text(&history->command, "DEL");
    for (const char *at = letters; *at; at++)
        command_format(&history->command, "{%u}:%c:%s", shard, *at, core);
    for (unsigned n = 0; n < 2; n++) {
        command_format(&history->command, "{%u}:b:%s:%u", shard, core, n);
        if (letters[0] == 'j')
            command_format(&history->command, "{%u}:r:%s:%u:%u", shard, core,
                           history->model.jobs[index].claim, n);
    }
    reply = history_ask(history);
    freeReplyObject(reply);
}

/* The time of an ended job's record is over, or that of its request, which comes before. */
static void step_outlive(struct history *history, struct random *random)
{
    int index = draw_job(history, random);
    struct model_job *job = &history->model.jobs[index < 0 ? 0 : index];

    if (index < 0 || !job->exists || !job_state_is_final(job->state) || job->is_gone)
        return;
    if (random_chance(random, 50)) {
        job->is_gone = true;
        delete_keys(history, (unsigned)index, "jptfo");
    } else {
        delete_keys(history, (unsigned)index, "p");
    }
    job->is_request_gone = true;
    history_say(history, "  job %d: %s gone\n", index, job->is_gone ? "record" : "request");
}

struct kind {
    const char *name;
    void (*run)(struct history *history, struct random *random);
    unsigned weights[3]; /* of each profile */
};

static const struct kind kinds[] = {
    {"submit", history_submit, {18, 10, 14}}, {"claim", history_claim, {20, 26, 22}},
    {"commit", history_commit, {22, 10, 22}}, {"renew", step_renew, {5, 3, 4}},
    {"recover", step_recover, {4, 20, 4}},    {"sweep", step_sweep, {10, 10, 12}},
    {"cancel", step_cancel, {4, 2, 4}},       {"forget", step_forget, {3, 1, 3}},
    {"follow", step_follow, {4, 2, 4}},       {"history", step_history, {2, 1, 2}},
    {"pause", step_pause, {4, 4, 4}},         {"time", step_time, {10, 10, 12}},
    {"snapshot", step_snapshot, {2, 2, 14}},  {"outlive", step_outlive, {3, 1, 3}},
    {"list", history_list, {1, 1, 2}},        {"census", history_census, {1, 1, 1}},
    {"inspect", history_inspect, {2, 2, 2}},
};

void history_step(struct history *history, uint64_t seed)
{
    struct random random = {seed};
    unsigned total = 0, at;
    const struct kind *kind = kinds;

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        total += kinds[i].weights[history->profile];
    at = random_below(&random, total);
    while (at >= kind->weights[history->profile])
        at -= kind++->weights[history->profile];
    history->now_ms += random_below(&random, 40);
    history_say(history, "%s\n", kind->name);
    kind->run(history, &random);
}
