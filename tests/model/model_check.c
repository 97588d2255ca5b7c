/* The store as it is, next to the model: records, leases, tickets, sums, and no key without a
 * reason. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"

enum { RECORD, TTL, REQUEST, ATTEMPTS, ROW_SIZE };         /* of a job in the dump */
enum { LEASES, DELAYED, SUSPECTS, PAUSED, OFFERED, LIVE }; /* of a shard */
enum { TOTALS, LANES, FIRST_LANE };                        /* of a route of a shard */

static const char *const total_words[TOTAL_COUNT] = {"submitted", "succeeded", "failed",
                                                     "cancelled", "expired",   "retried"};
static const char *const verdict_words[] = {"", "poison", "cancelled", "expired"};

static int64_t number_of(const redisReply *reply)
{
    int64_t number = 0;

    if (reply->type == REDIS_REPLY_INTEGER)
        return reply->integer;
    CHECK(text_parse_i64(reply->str, reply->len, INT64_MIN, INT64_MAX, &number) == 0);
    return number;
}

/* Value of a field in a flat list of pairs, 0 when it is not there. */
static int64_t value_of(const redisReply *pairs, const char *field)
{
    for (size_t i = 0; i + 1 < pairs->elements; i += 2)
        if (strcmp(pairs->element[i]->str, field) == 0)
            return number_of(pairs->element[i + 1]);
    return 0;
}

static bool contains(const redisReply *list, size_t stride, const char *word)
{
    for (size_t i = 0; i < list->elements; i += stride)
        if (strcmp(list->element[i]->str, word) == 0)
            return true;
    return false;
}

char check_letter(const struct history *history, unsigned index)
{
    const redisReply *record = history->dump->element[index]->element[RECORD];

    return record->type == REDIS_REPLY_STRING && record->len >= JOB_HEADER_SIZE ? record->str[2]
                                                                                : '\0';
}

/* ---- records ------------------------------------------------------------------------ */

static void check_fields(struct history *history, unsigned index, const struct job *is)
{
    const struct model_job *job = &history->model.jobs[index];
    unsigned flags = (job->is_followed ? (unsigned)JOB_FLAG_FOLLOWED : 0) |
                     (job->is_suspect ? (unsigned)JOB_FLAG_SUSPECT : 0) |
                     (job->is_forgotten ? (unsigned)JOB_FLAG_FORGOTTEN : 0);

    if (is->state != job->state)
        history_fault(history, "job %u is %s, not %s", index, job_state_word(is->state),
                      job_state_word(job->state));
    if (is->claim != job->claim || is->attempt != job->attempt || is->crashes != job->crashes)
        history_fault(history, "job %u: claim %u/%u, attempt %u/%u, crashes %u/%u", index,
                      is->claim, job->claim, is->attempt, job->attempt, is->crashes, job->crashes);
    if (is->sequence != job->sequence)
        history_fault(history, "job %u: sequence %u, not %u", index, is->sequence, job->sequence);
    if ((is->flags & ~(unsigned)JOB_FLAG_PIECES) != flags)
        history_fault(history, "job %u: flags %u, not %u", index, is->flags, flags);
    if (job->state == JOB_SCHEDULED && is->due_at_ms != job->due_ms)
        history_fault(history, "job %u: due time", index);
    if (is->expires_at_ms != job->expires_ms || (is->started_at_ms > 0) != job->has_started)
        history_fault(history, "job %u: times", index);
    if (job->state == JOB_RUNNING &&
        memcmp(is->token, history->claims[job->owner].token, JOB_TOKEN_SIZE) != 0)
        history_fault(history, "job %u: token of another claim", index);
    if (job->verdict != JOB_VERDICT_NONE && !slice_is(is->error_code, verdict_words[job->verdict]))
        history_fault(history, "job %u: error code %.*s", index, (int)is->error_code.size,
                      is->error_code.bytes);
}

static void check_payload(struct history *history, unsigned index, const struct job *is)
{
    const struct model_job *job = &history->model.jobs[index];
    char text[MODEL_TEXT_SIZE] = "";
    unsigned pieces = job->body_pieces;

    if (job_state_is_final(job->state)) {
        pieces = job->result_pieces;
        if (job->is_by_worker)
            history_result(job->commit_claim, job->commit_verb, text);
    } else {
        (void)history_job(history, index, text);
    }
    if (job->is_forgotten)
        text[0] = '\0';
    if (pieces > 0 && text[0] != '\0') {
        if (!(is->flags & JOB_FLAG_PIECES) || is->pieces != pieces)
            history_fault(history, "job %u: pieces", index);
    } else if ((is->flags & JOB_FLAG_PIECES) || !is->payload.bytes ||
               !slice_is(is->payload, text)) {
        history_fault(history, "job %u: payload is not \"%s\"", index, text);
    }
}

static void check_request(struct history *history, unsigned index, const redisReply *request)
{
    const struct model_job *job = &history->model.jobs[index];
    bool is_kept = job->exists && !job->is_request_gone && job_state_is_final(job->state) &&
                   job->state != JOB_SUCCEEDED;
    struct error_text why = {""};
    char text[MODEL_TEXT_SIZE];
    struct job is;

    if ((request->type == REDIS_REPLY_STRING) != is_kept) {
        history_fault(history, "job %u: its request is %skept", index, is_kept ? "not " : "");
        return;
    }
    if (!is_kept)
        return;
    (void)history_job(history, index, text);
    if (job_decode(&history->ids[index], request->str, request->len, &is, &why) < 0)
        history_fault(history, "job %u: its request: %s", index, why.text);
    else if (job->body_pieces == 0 && !slice_is(is.payload, text))
        history_fault(history, "job %u: its request has another body", index);
}

static void check_job(struct history *history, unsigned index)
{
    const struct model_job *job = &history->model.jobs[index];
    const redisReply *row = history->dump->element[index], *record = row->element[RECORD];
    struct error_text why = {""};
    struct job is;

    check_request(history, index, row->element[REQUEST]);
    if ((record->type == REDIS_REPLY_STRING) != (job->exists && !job->is_gone)) {
        history_fault(history, "job %u is %sthere", index,
                      record->type == REDIS_REPLY_STRING ? "" : "not ");
        return;
    }
    if (record->type != REDIS_REPLY_STRING)
        return;
    if (job_decode(&history->ids[index], record->str, record->len, &is, &why) < 0) {
        history_fault(history, "job %u: %s", index, why.text);
        return;
    }
    check_fields(history, index, &is);
    check_payload(history, index, &is);
    if ((row->element[TTL]->integer >= 0) != job_state_is_final(job->state))
        history_fault(history, "job %u: time to live %lld", index, row->element[TTL]->integer);
    if (row->element[ATTEMPTS]->integer != (job->is_by_worker ? 0 : (int64_t)job->attempt))
        history_fault(history, "job %u: %lld attempts are kept, %u were made", index,
                      row->element[ATTEMPTS]->integer, job->attempt);
}

/* ---- tickets ------------------------------------------------------------------------ */

/* Counts a ticket that names a queued job by its claim; others are left over and dropped later. */
static int valid_ticket(struct history *history, const redisReply *ticket)
{
    struct job named;
    int index;

    if (job_ticket_parse(ticket->str, ticket->len, &named) < 0) {
        history_fault(history, "a ticket that is none");
        return -1;
    }
    index = history_find(history, named.id.core);
    if (index < 0 || !history->model.jobs[index].exists) {
        history_fault(history, "a ticket of a job that never was");
        return -1;
    }
    return history->model.jobs[index].state == JOB_QUEUED &&
                   history->model.jobs[index].claim == named.claim
               ? index
               : -1;
}

static void check_line(struct history *history, const redisReply *line, unsigned *seen,
                       const char *lane, unsigned shard, unsigned route)
{
    const struct model *model = &history->model;
    int64_t last = INT64_MIN;

    for (size_t i = 0; i < line->elements; i++) {
        int index = valid_ticket(history, line->element[i]);
        const struct model_job *job = &model->jobs[index < 0 ? 0 : index];
        char tenant[JOB_TENANT_SIZE];

        if (index < 0)
            continue;
        seen[index]++;
        job_tenant_hash(slice_of(model_tenants[job->tenant]), tenant);
        if (job->is_suspect != !lane || job->shard != shard)
            history_fault(history, "job %d waits in the wrong line", index);
        else if (lane && (job->route != route || lane[0] != (char)('0' + (int)job->priority) ||
                          memcmp(lane + 1, tenant, JOB_TENANT_SIZE) != 0))
            history_fault(history, "job %d waits in the wrong lane", index);
        if (job->position < last)
            history_fault(history, "job %d waits behind one that came later", index);
        last = job->position;
    }
}

static const redisReply *shard_row(const struct history *history, unsigned shard)
{
    return history->dump->element[history->jobs_count + shard * (1 + MODEL_ROUTES)];
}

static const redisReply *route_row(const struct history *history, unsigned shard, unsigned route)
{
    return history->dump->element[history->jobs_count + shard * (1 + MODEL_ROUTES) + 1 + route];
}

static void check_route(struct history *history, unsigned shard, unsigned route, unsigned *seen)
{
    const redisReply *row = route_row(history, shard, route), *lanes = row->element[LANES];
    const redisReply *offered = shard_row(history, shard)->element[OFFERED];
    bool is_paused = history->model.is_paused[route];
    bool is_offered = contains(offered, 2, model_routes[route]);

    for (size_t i = 0; i < lanes->elements; i++) {
        const redisReply *line = row->element[FIRST_LANE + i];

        if (line->elements == 0)
            history_fault(history, "shard %u route %u: an empty lane", shard, route);
        check_line(history, line, seen, lanes->element[i]->str, shard, route);
    }
    if (is_offered != (lanes->elements > 0 && !is_paused))
        history_fault(history, "shard %u route %u is %soffered", shard, route,
                      is_offered ? "" : "not ");
    else if (is_offered &&
             value_of(offered, model_routes[route]) != lanes->element[0]->str[0] - '0')
        history_fault(history, "shard %u route %u is offered with another band", shard, route);
    if (contains(shard_row(history, shard)->element[PAUSED], 1, model_routes[route]) != is_paused)
        history_fault(history, "shard %u route %u: pause", shard, route);
    for (unsigned i = 0; i < TOTAL_COUNT; i++)
        if (value_of(row->element[TOTALS], total_words[i]) !=
            history->model.totals[shard][route][i])
            history_fault(history, "shard %u route %u: total of %s", shard, route, total_words[i]);
}

static void check_tickets(struct history *history)
{
    const redisReply *last = history->dump->element[history->dump->elements - 1];
    unsigned seen[MODEL_JOBS_MAX] = {0};

    history->live_routes = 0;
    for (unsigned route = 0; route < MODEL_ROUTES; route++) {
        unsigned shards = 0;

        for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
            check_route(history, shard, route, seen);
            shards += route_row(history, shard, route)->element[LANES]->elements > 0;
        }
        if (value_of(last->element[0], model_routes[route]) != (int64_t)shards)
            history_fault(history, "route %u lives in %u shards", route, shards);
        history->live_routes |= shards > 0 ? 1U << route : 0;
    }
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++) {
        const redisReply *line = shard_row(history, shard)->element[SUSPECTS];
        char name[16];

        check_line(history, line, seen, NULL, shard, 0);
        (void)snprintf(name, sizeof(name), "{%u}:", shard);
        if (line->elements > 0 && !contains(last->element[1], 1, name))
            history_fault(history, "suspects of shard %u are not offered", shard);
    }
    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];
        unsigned wanted = job->exists && job->state == JOB_QUEUED;

        if (seen[i] != wanted)
            history_fault(history, "job %u has %u tickets, not %u", i, seen[i], wanted);
    }
}

/* ---- leases, delayed jobs, sums ----------------------------------------------------- */

static bool has_scored(const redisReply *set, const char *member, size_t size, int64_t score)
{
    for (size_t i = 0; i + 1 < set->elements; i += 2)
        if (set->element[i]->len == size && memcmp(set->element[i]->str, member, size) == 0)
            return number_of(set->element[i + 1]) == score;
    return false;
}

static void check_shard(struct history *history, unsigned shard)
{
    const redisReply *row = shard_row(history, shard), *live = row->element[LIVE];
    int64_t jobs = 0, bytes = 0, tenant_jobs[MODEL_TENANTS] = {0},
            tenant_bytes[MODEL_TENANTS] = {0};
    size_t running = 0, scheduled = 0;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];
        char text[MODEL_TEXT_SIZE], ticket[JOB_TICKET_SIZE];

        if (job->shard != shard || !model_is_live(job))
            continue;
        jobs++;
        bytes += (int64_t)job->live_bytes;
        tenant_jobs[job->tenant]++;
        tenant_bytes[job->tenant] += (int64_t)job->live_bytes;
        running += job->state == JOB_RUNNING;
        scheduled += job->state == JOB_SCHEDULED;
        if (job->state == JOB_RUNNING &&
            !has_scored(row->element[LEASES], history->claims[job->owner].member, JOB_MEMBER_SIZE,
                        job->lease_score))
            history_fault(history, "job %u runs without its lease", i);
        struct job named = history_job(history, i, text);
        job_ticket_make(&named, ticket);
        if (job->state == JOB_SCHEDULED &&
            !has_scored(row->element[DELAYED], ticket, JOB_TICKET_SIZE, job->due_ms))
            history_fault(history, "job %u is scheduled and not among the delayed", i);
    }
    if (row->element[LEASES]->elements != 2 * running)
        history_fault(history, "shard %u: %zu jobs run, %zu leases", shard, running,
                      row->element[LEASES]->elements / 2);
    if (row->element[DELAYED]->elements != 2 * scheduled)
        history_fault(history, "shard %u: %zu jobs are scheduled, %zu are delayed", shard,
                      scheduled, row->element[DELAYED]->elements / 2);
    if (value_of(live, "j") != jobs || value_of(live, "b") != bytes)
        history_fault(history, "shard %u: %lld jobs and %lld bytes are live", shard,
                      (long long)jobs, (long long)bytes);
    for (unsigned i = 0; i < MODEL_TENANTS; i++) {
        char name[2 + JOB_TENANT_SIZE] = {'j'};

        job_tenant_hash(slice_of(model_tenants[i]), name + 1);
        if (value_of(live, name) != tenant_jobs[i])
            history_fault(history, "shard %u tenant %u: live jobs", shard, i);
        name[0] = 'b';
        if (value_of(live, name) != tenant_bytes[i])
            history_fault(history, "shard %u tenant %u: live bytes", shard, i);
    }
}

void check_dump(struct history *history)
{
    if (!history->dump ||
        history->dump->elements != history->jobs_count + MODEL_SHARDS * (1 + MODEL_ROUTES) + 1)
        return; /* nothing was asked since there is one more job */
    for (unsigned i = 0; i < history->jobs_count; i++)
        check_job(history, i);
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++)
        check_shard(history, shard);
    check_tickets(history);
}

/* ---- names -------------------------------------------------------------------------- */

/* Keys that belong to one job: may they be there? */
static bool is_expected(const struct history *history, char letter, const char *rest)
{
    int index = strlen(rest) >= JOB_ID_CORE_SIZE ? history_find(history, rest) : -1;
    const struct model_job *job = &history->model.jobs[index < 0 ? 0 : index];
    bool is_final = job_state_is_final(job->state);
    char claim[16];

    if (index < 0 || !job->exists || job->is_gone)
        return false;
    switch (letter) {
    case 'b':
        return job->body_pieces > 0 &&
               (!is_final || (job->state != JOB_SUCCEEDED && !job->is_request_gone));
    case 'r':
        (void)snprintf(claim, sizeof(claim), ":%u:", job->claim);
        return job->result_pieces > 0 && !job->is_forgotten &&
               strncmp(rest + JOB_ID_CORE_SIZE, claim, strlen(claim)) == 0;
    case 'f':
    case 'o':
        return job->is_followed;
    default:
        return true; /* j, p, t: compared with every dump */
    }
}

static unsigned wanted_pieces(const struct history *history)
{
    unsigned count = 0;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];

        if (!job->exists || job->is_gone)
            continue;
        if (is_expected(history, 'b', history->ids[i].core))
            count += job->body_pieces;
        if (job_state_is_final(job->state) && !job->is_forgotten)
            count += job->result_pieces;
    }
    return count;
}

void check_names(struct history *history)
{
    redisReply *names;
    unsigned pieces = 0;

    CHECK(redisAppendCommand(history->store->context, "KEYS *") == REDIS_OK);
    names = store_reply(history->store);
    for (size_t i = 0; i < names->elements; i++) {
        const char *name = names->element[i]->str, *tail = strchr(name, '}');

        if (!tail || tail[1] != ':' || tail[2] == '\0' || tail[3] != ':' ||
            !strchr("jbprtfo", tail[2]))
            continue;
        pieces += tail[2] == 'b' || tail[2] == 'r';
        if (!is_expected(history, tail[2], tail + 4))
            history_fault(history, "key %s has no reason", name);
    }
    if (pieces != wanted_pieces(history))
        history_fault(history, "%u pieces are kept, not %u", pieces, wanted_pieces(history));
    freeReplyObject(names);
}
