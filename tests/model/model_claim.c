/* claim: hands out what it may, in order, and leaves nothing that it had room for. */
#include "model.h"

#include <string.h>

#include "common/job/limits.h"

enum { LOW_SHARE = 19 };

/* Jobs of all children that stand may be handed out between two claims. */
enum { CLAIMED_MAX = 5, HANDED_MAX = CLAIMED_MAX * MODEL_CHILDREN };

static redisReply *send(struct history *history, struct random *random,
                        struct model_request *request)
{
    struct command *command = &history->command;
    unsigned shards[MODEL_SHARDS];
    redisReply *reply;

    *request = (struct model_request){.count = 1 + random_below(random, 5),
                                      .first_shard = random_below(random, MODEL_SHARDS),
                                      .takes_suspect = random_chance(random, 80),
                                      .suspect_first = random_chance(random, 40),
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
    request->suspect_first = request->suspect_first && request->takes_suspect;
    command_text(command, request->suspect_first ? "2" : request->takes_suspect ? "1" : "0");
    request->hand_max = random_below(random, 4);
    request->is_standing = request->hand_max > 0 && random_chance(random, 80);
    command_text(command, request->is_standing || random_chance(random, 50) ? "1" : "0");
    command_format(command, "%u", request->is_standing ? request->hand_max : 0);
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

/* What is handed passes over better bands that came after it, in the same call. */
static void check_order(struct history *history, const struct model_job *job, unsigned index,
                        const bool *is_taken, bool is_handed)
{
    const struct model *model = &history->model;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *other = &model->jobs[i];

        if (is_taken[i] || other->is_suspect || !model_is_claimable(model, other, history->now_ms))
            continue;
        if (model_is_same_lane(job, other) && other->position < job->position)
            history_fault(history, "job %u was claimed before job %u of its lane", index, i);
        if (other->shard == job->shard && other->route == job->route &&
            other->priority < job->priority && (!is_handed || other->position < job->position) &&
            (job->priority != JOB_LOW || history->claims_count < LOW_SHARE))
            history_fault(history, "job %u was claimed before job %u of a better band", index, i);
    }
}

static void check_taken(struct history *history, const struct model_request *request,
                        const bool *is_taken, bool is_handed)
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
            check_order(history, job, i, is_taken, is_handed);
    }
    for (unsigned i = 0; i < MODEL_ROUTES; i++)
        if (taken[i] > request->room[i])
            history_fault(history, "%u jobs of route %u for a room of %u", taken[i], i,
                          request->room[i]);
    if (count > request->count || suspects > (request->takes_suspect ? 1U : 0U))
        history_fault(history, "claim of %u jobs, %u suspects", count, suspects);
    history->met[MET_CLAIM] += count;
    history->met[MET_SUSPECT_CLAIM] += suspects;
}

/* How many of a route were taken; of all, when it is MODEL_ROUTES. */
static unsigned count_taken(const struct history *history, const bool *is_taken, unsigned route)
{
    unsigned count = 0;

    for (unsigned i = 0; i < history->jobs_count; i++)
        count +=
            is_taken[i] && (route == MODEL_ROUTES || history->model.jobs[i].route == route) ? 1 : 0;
    return count;
}

static bool had_room(const struct history *history, const struct model_request *request,
                     const bool *is_taken, unsigned route)
{
    return count_taken(history, is_taken, MODEL_ROUTES) < request->count &&
           count_taken(history, is_taken, route) < request->room[route];
}

/* A suspect of a route that was not asked for; one that has ended may lie about as a ticket. */
static bool has_unnamed_suspect(const struct history *history, const struct model_request *request,
                                bool is_certain)
{
    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];

        if (job->exists && job->is_suspect && request->room[job->route] == 0 &&
            (!is_certain || model_is_claimable(&history->model, job, history->now_ms)))
            return true;
    }
    return false;
}

static void check_left(struct history *history, const struct model_request *request,
                       const bool *is_taken, bool waits)
{
    const struct model *model = &history->model;
    bool has_suspect = false;

    for (unsigned i = 0; i < history->jobs_count; i++)
        has_suspect = has_suspect || (is_taken[i] && model->jobs[i].is_suspect);
    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &model->jobs[i];

        if (is_taken[i] || !model_is_claimable(model, job, history->now_ms) ||
            request->room[job->route] == 0)
            continue;
        if (job->is_suspect ? request->takes_suspect && !has_suspect
                            : !waits && had_room(history, request, is_taken, job->route))
            history_fault(history, "job %u was left though there was room", i);
    }
    if (request->suspect_first && !has_suspect && !waits &&
        has_unnamed_suspect(history, request, true))
        history_fault(history, "a suspect did not come first");
}

/* Hints and "has more" say of all that waits. */
static void check_rest(struct history *history, const struct model_request *request,
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

static void start(struct history *history, unsigned index, const struct model_request *request,
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

static void start_all(struct history *history, const struct model_request *request,
                      const bool *is_taken)
{
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
        int64_t score = -1;

        for (unsigned i = 0; i < history->jobs_count; i++) {
            if (!is_taken[i] || history->model.jobs[i].shard != shard)
                continue;
            if (score < 0)
                score = model_tick(&history->model, shard, history->now_ms) + request->lease_ms;
            start(history, i, request, score);
        }
    }
}

static void expire_met(struct history *history, const struct model_request *request)
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
    struct model_request request;
    redisReply *reply;
    unsigned count;

    if (history->claims_count + CLAIMED_MAX + HANDED_MAX > MODEL_CLAIMS_MAX)
        return;
    reply = send(history, random, &request);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3) {
        history_fault(history, "claim: %s", reply->str ? reply->str : "no list");
        freeReplyObject(reply);
        return;
    }
    count = read_ids(history, reply->element[0], is_taken);
    check_taken(history, &request, is_taken, false);
    /* Nothing came, for a suspect whose route its child is told. */
    bool waits = request.suspect_first && count == 0 && reply->element[1]->integer == 1 &&
                 has_unnamed_suspect(history, &request, false);
    check_left(history, &request, is_taken, waits);
    start_all(history, &request, is_taken);
    expire_met(history, &request);
    check_rest(history, &request, reply, count == request.count);
    if (count > 0 || waits)
        request.is_standing = false;
    history->model.standing[request.token[0] - 'a'] = request;
    freeReplyObject(reply);
}

/* ---- what is handed ----------------------------------------------------------------- */

enum { HANDED_HEAD = 1 + JOB_TOKEN_SIZE + 6 + 1 };

/* Says which jobs; checks that each record came along, as it was before. */
static unsigned read_handed(struct history *history, const char *bytes, size_t size, bool *is_taken)
{
    char ids[MODEL_JOBS_MAX * JOB_ID_CORE_SIZE];
    redisReply all = {.str = ids};

    for (size_t at = HANDED_HEAD; at < size;) {
        CHECK(size - at >= JOB_ID_CORE_SIZE + 2 && all.len + JOB_ID_CORE_SIZE <= sizeof(ids));
        const unsigned char *length = (const unsigned char *)bytes + at + JOB_ID_CORE_SIZE;
        size_t record = length[0] | (size_t)length[1] << 8;

        memcpy(ids + all.len, bytes + at, JOB_ID_CORE_SIZE);
        all.len += JOB_ID_CORE_SIZE;
        at += JOB_ID_CORE_SIZE + 2;
        if (record < 3 || record > size - at || bytes[at] != 'P' || bytes[at + 2] != 'q')
            history_fault(history, "a job was handed without its record as it was");
        at += record;
    }
    return read_ids(history, &all, is_taken);
}

/* Tickets of jobs that have ended lie about until a claim meets them. */
static bool may_have_ticket(const struct model_job *job, const struct model_job *beside)
{
    return job->exists && job->shard == beside->shard && job->route == beside->route &&
           (job->state == JOB_QUEUED || job_state_is_final(job->state));
}

/* Only new jobs, from `first` on, are handed; where some of their route wait in the shard, they
 * wait behind those. */
static void check_handed(struct history *history, const struct model_request *request,
                         const bool *is_taken, unsigned first)
{
    const struct model *model = &history->model;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &model->jobs[i];
        bool is_waited_for = false;

        if (is_taken[i] && i < first)
            history_fault(history, "job %u was handed, which is not new", i);
        if (i < first || is_taken[i] || !model_is_claimable(model, job, history->now_ms) ||
            !had_room(history, request, is_taken, job->route))
            continue;
        for (unsigned n = 0; n < first; n++)
            is_waited_for = is_waited_for || may_have_ticket(&model->jobs[n], job);
        if (!is_waited_for)
            history_fault(history, "job %u was not handed though there was room", i);
    }
}

static void take_handed(struct history *history, struct model_request *request, const char *bytes,
                        size_t size, unsigned first)
{
    bool is_taken[MODEL_JOBS_MAX] = {false};

    if (!request->is_standing || size < HANDED_HEAD ||
        memcmp(bytes + 1, request->token, JOB_TOKEN_SIZE) != 0) {
        history_fault(history, "child %c was handed what it did not stand for", request->token[0]);
        return;
    }
    history_say(history, "  child %c is handed\n", request->token[0]);
    request->is_standing = false;
    request->takes_suspect = false;
    request->count = request->hand_max;
    history->met[MET_HANDED] += read_handed(history, bytes, size, is_taken);
    check_taken(history, request, is_taken, true);
    check_handed(history, request, is_taken, first);
    start_all(history, request, is_taken);
    expire_met(history, request);
}

void history_take_handed(struct history *history, unsigned first)
{
    for (redisReply *message = store_message(history->store); message;
         message = store_message(history->store)) {
        const redisReply *channel = message->element[1], *text = message->element[2];
        unsigned child = (unsigned)(channel->str[channel->len - 1] - 'a');

        if (strncmp(message->element[0]->str, "message", 7) == 0 && child < MODEL_CHILDREN &&
            text->len > 0 && text->str[0] == 'j')
            take_handed(history, &history->model.standing[child], text->str, text->len, first);
        freeReplyObject(message);
    }
    for (unsigned child = 0; child < MODEL_CHILDREN; child++)
        if (history->model.standing[child].is_standing)
            expire_met(history, &history->model.standing[child]);
}
