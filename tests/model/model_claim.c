/* claim: hands out what it may, in order, and leaves nothing that it had room for. */
#include "model.h"

#include <string.h>

#include "common/job/limits.h"

enum { LOW_SHARE = 19 };

struct request {
    unsigned room[MODEL_ROUTES]; /* 0: not asked for */
    unsigned count, first_shard;
    bool takes_suspect;
    int64_t lease_ms;
    uint8_t token[JOB_TOKEN_SIZE];
};

static redisReply *send(struct history *history, struct random *random, struct request *request)
{
    struct command *command = &history->command;
    unsigned shards[MODEL_SHARDS];
    redisReply *reply;

    *request = (struct request){.count = 1 + random_below(random, 5),
                                .first_shard = random_below(random, MODEL_SHARDS),
                                .takes_suspect = random_chance(random, 80),
                                .lease_ms = 1000 + random_below(random, 9000)};
    for (unsigned i = 0; i < MODEL_ROUTES; i++)
        if (random_chance(random, 80))
            request->room[i] = 1 + random_below(random, 3);
    for (unsigned i = 0; i < MODEL_SHARDS; i++)
        shards[i] = (request->first_shard + i) % MODEL_SHARDS;
    memset(request->token, 'a' + (int)random_below(random, MODEL_CHILDREN), 8);
    for (unsigned i = 8; i < JOB_TOKEN_SIZE; i++)
        request->token[i] = (uint8_t)random_next(random);

    store_verb(history->store, command, VERB_CLAIM, shards, MODEL_SHARDS);
    command_add(command, request->token, 8);
    command_add(command, request->token, JOB_TOKEN_SIZE);
    command_format(command, "%lld", (long long)request->lease_ms);
    command_format(command, "%u", request->count);
    command_text(command, request->takes_suspect ? "1" : "0");
    command_text(command, random_chance(random, 50) ? "1" : "0");
    for (unsigned i = 0; i < MODEL_ROUTES; i++) {
        if (request->room[i] == 0)
            continue;
        command_text(command, model_routes[i]);
        command_format(command, "%u", request->room[i]);
    }
    reply = history_ask(history);
    return reply;
}

/* ---- was it allowed, and was it all? ------------------------------------------------ */

static void check_order(struct history *history, const struct model_job *job, unsigned index,
                        const bool *is_taken)
{
    const struct model *model = &history->model;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *other = &model->jobs[i];

        if (is_taken[i] || other->is_suspect || !model_is_claimable(model, other, history->now_ms))
            continue;
        if (model_is_same_lane(job, other) && other->position < job->position)
            history_fault(history, "job %u was claimed before job %u of its lane", index, i);
        if (other->shard == job->shard && other->route == job->route &&
            other->priority < job->priority &&
            (job->priority != JOB_LOW || history->claims_count < LOW_SHARE))
            history_fault(history, "job %u was claimed before job %u of a better band", index, i);
    }
}

static void check_taken(struct history *history, const struct request *request,
                        const bool *is_taken)
{
    const struct model *model = &history->model;
    unsigned suspects = 0, count = 0, taken[MODEL_ROUTES] = {0};

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &model->jobs[i];

        if (!is_taken[i])
            continue;
        count++;
        taken[job->route]++;
        if (!model_is_claimable(model, job, history->now_ms))
            history_fault(history, "claim of job %u, which cannot be claimed", i);
        if (job->is_suspect)
            suspects++;
        else
            check_order(history, job, i, is_taken);
    }
    for (unsigned i = 0; i < MODEL_ROUTES; i++)
        if (taken[i] > request->room[i])
            history_fault(history, "%u jobs of route %u for a room of %u", taken[i], i,
                          request->room[i]);
    if (count > request->count || suspects > (request->takes_suspect ? 1U : 0U))
        history_fault(history, "claim of %u jobs, %u suspects", count, suspects);
    history->met[MET_CLAIM] += count;
    history->met[MET_SUSPECT_CLAIM] += suspects;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &model->jobs[i];

        if (is_taken[i] || !model_is_claimable(model, job, history->now_ms) ||
            request->room[job->route] == 0)
            continue;
        if (job->is_suspect
                ? request->takes_suspect && suspects == 0
                : count < request->count && taken[job->route] < request->room[job->route])
            history_fault(history, "job %u was left though there was room", i);
    }
}

/* Hints and "has more" say of all that waits. */
static void check_rest(struct history *history, const struct request *request,
                       const redisReply *reply, bool was_full)
{
    const struct redisReply *hints = reply->element[2];

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];
        bool is_named = false;

        if (job->is_suspect || !model_is_claimable(&history->model, job, history->now_ms))
            continue;
        if (request->room[job->route] > 0) {
            if (reply->element[1]->integer != 1)
                history_fault(history, "claim says nothing more waits, job %u does", i);
            continue;
        }
        for (size_t n = 0; n + 1 < hints->elements; n += 2)
            is_named = is_named || strcmp(hints->element[n]->str, model_routes[job->route]) == 0;
        if (!is_named && !was_full)
            history_fault(history, "no hint of route %u, where job %u waits", job->route, i);
    }
}

/* ---- doing it ----------------------------------------------------------------------- */

static void start(struct history *history, unsigned index, const struct request *request,
                  int64_t score)
{
    struct model_job *job = &history->model.jobs[index];
    struct model_claim *claim = &history->claims[history->claims_count];
    char text[MODEL_TEXT_SIZE];

    history->met[MET_WRAPPED] += job->claim == UINT16_MAX;
    job->claim = (job->claim + 1) & UINT16_MAX;
    job->state = JOB_RUNNING;
    job->sequence++;
    job->has_started = true;
    job->owner = (int)history->claims_count++;
    job->commit_claim = -1;
    job->lease_score = score;
    *claim = (struct model_claim){.job = (int)index,
                                  .claim = job->claim,
                                  .attempt = job->attempt,
                                  .crashes = job->crashes,
                                  .sequence = job->sequence,
                                  .started_ms = history->now_ms};
    memcpy(claim->token, request->token, JOB_TOKEN_SIZE);
    struct job ticket = history_job(history, index, text);
    job_ticket_make(&ticket, claim->member);
    memcpy(claim->member + JOB_TICKET_SIZE, claim->token, JOB_TOKEN_SIZE);
    history_say(history, "  job %u runs: claim %d, number %u\n", index, job->owner, job->claim);
}

static void expire_met(struct history *history, const struct request *request)
{
    for (unsigned i = 0; i < history->jobs_count; i++) {
        struct model_job *job = &history->model.jobs[i];

        /* Which of the overdue ones a claim comes across is its own affair. */
        if (job->exists && job->state == JOB_QUEUED && request->room[job->route] > 0 &&
            model_is_overdue(job, history->now_ms) && check_letter(history, i) == 'E') {
            model_end(&history->model, job, JOB_EXPIRED, JOB_VERDICT_EXPIRED);
            history->met[MET_EXPIRED]++;
            history_say(history, "  job %u expires\n", i);
        }
    }
}

static unsigned read_ids(struct history *history, const redisReply *ids, bool *is_taken)
{
    for (size_t at = 0; at + JOB_ID_CORE_SIZE <= ids->len; at += JOB_ID_CORE_SIZE) {
        int index = history_find(history, ids->str + at);

        if (index < 0 || is_taken[index]) {
            history_fault(history, "claim of a job twice, or of none: %.34s", ids->str + at);
            return 0;
        }
        is_taken[index] = true;
    }
    return (unsigned)(ids->len / JOB_ID_CORE_SIZE);
}

void history_claim(struct history *history, struct random *random)
{
    bool is_taken[MODEL_JOBS_MAX] = {false};
    struct request request;
    redisReply *reply;
    unsigned count;

    if (history->claims_count + 5 > MODEL_CLAIMS_MAX)
        return;
    reply = send(history, random, &request);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3) {
        history_fault(history, "claim: %s", reply->str ? reply->str : "no list");
        freeReplyObject(reply);
        return;
    }
    count = read_ids(history, reply->element[0], is_taken);
    check_taken(history, &request, is_taken);
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
        int64_t score = -1;

        for (unsigned i = 0; i < history->jobs_count; i++) {
            if (!is_taken[i] || history->model.jobs[i].shard != shard)
                continue;
            if (score < 0)
                score = model_tick(&history->model, shard, history->now_ms) + request.lease_ms;
            start(history, i, &request, score);
        }
    }
    expire_met(history, &request);
    check_rest(history, &request, reply, count == request.count);
    freeReplyObject(reply);
}
