/* Verbs that only look: the index of jobs, the census, and the inspection that finds nothing wrong.
 */
#include "model.h"

#include <stdio.h>
#include <string.h>

enum { HOUR_MS = 3600 * 1000, HOURS_MAX = 64, PAGES_MAX = 64, CENSUS_BUDGET = 1000 };

/* Later than any hour and any moment of a history. */
#define LATEST_HOUR "1000000"
#define LATEST_MS "4000000000000"

static const unsigned all_shards[MODEL_SHARDS] = {0, 1};

static void note_listed(struct history *history, const redisReply *ids, unsigned tenant, bool *seen)
{
    if (ids->type != REDIS_REPLY_STRING || ids->len % JOB_ID_PACKED_SIZE != 0) {
        history_fault(history, "list: no ids");
        return;
    }
    for (size_t at = 0; at < ids->len; at += JOB_ID_PACKED_SIZE) {
        struct job_id id;
        int index = job_id_unpack(ids->str + at, &id) == 0 ? history_find(history, id.core) : -1;

        if (index < 0 || seen[index])
            history_fault(history, "list names job %d twice, or one that is not there", index);
        else if (history->model.jobs[index].tenant != tenant)
            history_fault(history, "list names job %d of another tenant", index);
        else
            seen[index] = true;
    }
}

/* All jobs of a tenant that were accepted are listed, once, hour by hour, whatever became of them.
 */
void history_list(struct history *history, struct random *random)
{
    unsigned tenant = random_below(random, MODEL_TENANTS);
    bool seen[MODEL_JOBS_MAX] = {false};
    char hash[JOB_TENANT_SIZE], hour[32] = LATEST_HOUR;
    int64_t older = 0;

    job_tenant_hash(slice_of(model_tenants[tenant]), hash);
    for (int i = 0; older >= 0 && history->fault[0] == '\0'; i++) {
        redisReply *reply;

        store_verb(history->store, &history->command, VERB_LIST, all_shards, MODEL_SHARDS);
        command_text(&history->command, hour);
        command_text(&history->command, LATEST_MS);
        command_text(&history->command, "1000");
        command_add(&history->command, hash, sizeof(hash));
        reply = history_ask(history);
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || i >= HOURS_MAX) {
            history_fault(history, "list: %s", reply->str ? reply->str : "no end");
            freeReplyObject(reply);
            return;
        }
        note_listed(history, reply->element[2], tenant, seen);
        older = reply->element[1]->integer;
        (void)snprintf(hour, sizeof(hour), "%lld", (long long)older);
        freeReplyObject(reply);
    }
    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];

        if (seen[i] != (job->exists && job->tenant == tenant))
            history_fault(history, "list: job %u is %slisted", i, seen[i] ? "" : "not ");
    }
    history->met[MET_LISTED]++;
}

/* ---- census -------------------------------------------------------------------------- */

static void check_shard_row(struct history *history, unsigned shard, const redisReply *row)
{
    int64_t running = 0, scheduled = 0, live = 0, bytes = 0;

    for (unsigned i = 0; i < history->jobs_count; i++) {
        const struct model_job *job = &history->model.jobs[i];

        if (job->shard != shard || !model_is_live(job))
            continue;
        running += job->state == JOB_RUNNING;
        scheduled += job->state == JOB_SCHEDULED;
        live++;
        bytes += (int64_t)job->live_bytes;
    }
    if (row->elements != 4 || row->element[0]->integer != running ||
        row->element[1]->integer != scheduled || row->element[2]->integer != live ||
        row->element[3]->integer != bytes)
        history_fault(history, "census of shard %u", shard);
}

static void check_route_row(struct history *history, const redisReply *row, bool *seen)
{
    unsigned shard = (unsigned)row->element[0]->integer - 1, route = 0;

    while (route < MODEL_ROUTES && strcmp(row->element[1]->str, model_routes[route]) != 0)
        route++;
    if (shard >= MODEL_SHARDS || route == MODEL_ROUTES || seen[shard * MODEL_ROUTES + route]) {
        history_fault(history, "census: a route that is not there, or twice");
        return;
    }
    seen[shard * MODEL_ROUTES + route] = true;
    if ((row->element[2]->integer != 0) != history->model.is_paused[route])
        history_fault(history, "census: pause of route %u", route);
    for (unsigned i = 0; i < TOTAL_COUNT; i++)
        if (row->element[3 + i]->integer != history->model.totals[shard][route][i])
            history_fault(history, "census: total %u of shard %u route %u", i, shard, route);
}

void history_census(struct history *history, struct random *random)
{
    bool seen[MODEL_SHARDS * MODEL_ROUTES] = {false};
    redisReply *reply;

    (void)random;
    store_verb(history->store, &history->command, VERB_CENSUS, all_shards, MODEL_SHARDS);
    command_text(&history->command, "1");
    command_text(&history->command, "0");
    command_format(&history->command, "%d", CENSUS_BUDGET);
    reply = history_ask(history);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4 ||
        reply->element[0]->integer != MODEL_SHARDS + 1 ||
        reply->element[2]->elements != MODEL_SHARDS) {
        history_fault(history, "census: %s", reply->str ? reply->str : "not whole");
        freeReplyObject(reply);
        return;
    }
    for (unsigned shard = 0; shard < MODEL_SHARDS; shard++)
        check_shard_row(history, shard, reply->element[2]->element[shard]);
    for (size_t i = 0; i < reply->element[3]->elements; i++)
        check_route_row(history, reply->element[3]->element[i], seen);
    for (unsigned i = 0; i < MODEL_SHARDS * MODEL_ROUTES; i++)
        if (!seen[i] && history->model.totals[i / MODEL_ROUTES][i % MODEL_ROUTES][0] > 0)
            history_fault(history, "census: route %u is left out", i % MODEL_ROUTES);
    freeReplyObject(reply);
    history->met[MET_COUNTED]++;
}

/* ---- inspection ---------------------------------------------------------------------- */

static void inspect(struct history *history, unsigned shard, const char *step)
{
    char cursor[32] = "0";

    for (int i = 0; i < PAGES_MAX; i++) {
        redisReply *reply;

        store_verb(history->store, &history->command, VERB_INSPECT, &shard, 1);
        command_text(&history->command, step);
        command_text(&history->command, cursor);
        reply = history_ask(history);
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
            history_fault(history, "inspect %s: %s", step, reply->str ? reply->str : "no list");
        else if (reply->elements > 2)
            history_fault(history, "inspect %s: %s %s", step, reply->element[2]->str,
                          reply->element[3]->str);
        else
            (void)snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
        freeReplyObject(reply);
        if (strcmp(cursor, "0") == 0 || history->fault[0] != '\0')
            return;
    }
    history_fault(history, "inspect %s: no end", step);
}

void history_inspect(struct history *history, struct random *random)
{
    static const char *const steps[] = {"leases", "delayed", "routes", "records"};

    inspect(history, random_below(random, MODEL_SHARDS), steps[random_below(random, 4)]);
    history->met[MET_INSPECTED]++;
}
