/* finish, fail, retry, release: with tokens that are good, late, repeated or long dead. */
#include "model.h"

#include <stdio.h>
#include <string.h>

#include "common/job/limits.h"

enum { FINISH, FAIL, RETRY, RELEASE, VERBS };

static const enum queue_verb verbs[VERBS] = {VERB_FINISH, VERB_FAIL, VERB_RETRY, VERB_RELEASE};
static const char *const words[VERBS] = {"finish", "fail", "retry", "release"};

struct commit {
    int verb;
    enum job_state state; /* of finish and fail */
    int claims[MODEL_BATCH];
    unsigned count;
    unsigned pieces;
    int64_t due_ms;
};

void history_result(int claim, int verb, char text[MODEL_TEXT_SIZE])
{
    (void)snprintf(text, MODEL_TEXT_SIZE, "result of claim %d, verb %d", claim, verb);
}

static void put_record(struct history *history, const struct commit *commit, int which)
{
    const struct model_claim *claim = &history->claims[which];
    struct buf record = {.size_max = 1 << 16};
    char body[MODEL_TEXT_SIZE], result[MODEL_TEXT_SIZE];
    struct job job = history_job(history, (unsigned)claim->job, body);

    job.state = commit->state;
    job.claim = claim->claim;
    job.attempt = claim->attempt;
    job.crashes = claim->crashes;
    job.sequence = claim->sequence + 1;
    job.started_at_ms = claim->started_ms;
    job.finished_at_ms = history->now_ms;
    memcpy(job.token, claim->token, JOB_TOKEN_SIZE);
    history_result(which, commit->verb, result);
    job.payload = slice_of(result);
    job.flags = commit->pieces > 0 ? JOB_FLAG_PIECES : 0;
    job.pieces = commit->pieces;
    job.payload_size = (uint32_t)job.payload.size;
    if (commit->state != JOB_SUCCEEDED)
        job.error_code = slice_of("upstream_rejected");
    CHECK(job_encode(&job, &record) == 0);
    command_add(&history->command, record.data, record.size);
    command_format(&history->command, "%lld",
                   (MODEL_RESULT_TTL_S + (long long)LIMIT_RECORD_AFTER_RESULT_S) * 1000);
    buf_deinit(&record);
}

static void put_attempt(struct history *history, const struct commit *commit)
{
    struct job_attempt attempt = {.started_at_ms = history->now_ms,
                                  .finished_at_ms = history->now_ms,
                                  .http_status = 503,
                                  .upstream = slice_of("gpu0"),
                                  .error_code = slice_of("upstream_overloaded")};
    struct buf bytes = {.size_max = 4096};

    CHECK(job_attempt_encode(&attempt, &bytes) == 0);
    command_format(&history->command, "%lld", (long long)commit->due_ms);
    command_add(&history->command, bytes.data, bytes.size);
    buf_deinit(&bytes);
}

static redisReply *send(struct history *history, const struct commit *commit)
{
    struct command *command = &history->command;
    redisReply *reply;

    /* The function finds the shards by the ids; KEYS name one of them. */
    store_verb(history->store, command, verbs[commit->verb], &(unsigned){0}, 1);
    if (commit->verb == FINISH || commit->verb == FAIL) {
        command_format(command, "%u", commit->pieces);
        command_text(command, "3660000");
    }
    for (unsigned i = 0; i < commit->count; i++) {
        int which = commit->claims[i];

        command_add(command, history->claims[which].member, JOB_MEMBER_SIZE);
        if (commit->verb == RETRY)
            put_attempt(history, commit);
        else if (commit->verb != RELEASE)
            put_record(history, commit, which);
    }
    for (unsigned i = 0; i < commit->pieces; i++)
        command_text(command, "piece of a result");
    reply = history_ask(history);
    return reply;
}

/* 'k', 'a' or 'f'; '?': the claim did something else with the job before, so nothing but 'k' will
 * do. */
static char expect(const struct history *history, const struct commit *commit, int which)
{
    const struct model_job *job = &history->model.jobs[history->claims[which].job];
    bool is_waiting = job->state == JOB_QUEUED || job->state == JOB_SCHEDULED;

    if (!job->exists || job->is_gone)
        return 'f';
    if (job->state == JOB_RUNNING)
        return job->owner == which ? 'k' : 'f';
    if (job->commit_claim != which)
        return 'f';
    if (job->commit_verb != commit->verb)
        return '?';
    if (commit->verb == RETRY || commit->verb == RELEASE)
        return is_waiting ? 'a' : 'f';
    return job->state == commit->state && job->is_by_worker ? 'a' : 'f';
}

static void apply(struct history *history, const struct commit *commit, int which)
{
    struct model *model = &history->model;
    struct model_job *job = &model->jobs[history->claims[which].job];
    static const enum met met[VERBS] = {MET_FINISH, MET_FAIL, MET_RETRY, MET_RELEASE};

    job->commit_claim = which;
    job->commit_verb = commit->verb;
    job->commit_state = commit->state;
    history->met[met[commit->verb]]++;
    if (commit->verb == RETRY) {
        job->state = JOB_SCHEDULED;
        job->due_ms = commit->due_ms;
        job->attempt++;
        job->sequence++;
        model->totals[job->shard][job->route][TOTAL_RETRIED]++;
    } else if (commit->verb == RELEASE) {
        model_requeue(model, job, true);
    } else {
        model_end(model, job, commit->state, JOB_VERDICT_NONE);
        job->result_pieces = commit->pieces;
    }
}

/* Rather one of the last few claims than a very old one, and rather one that still runs. */
static int draw_claim(const struct history *history, struct random *random)
{
    int which = 0;

    for (int tries = 0; tries < 3; tries++) {
        const struct model_job *job;

        which = (int)random_below(random, history->claims_count);
        job = &history->model.jobs[history->claims[which].job];
        if (job->exists && job->state == JOB_RUNNING && job->owner == which)
            break;
    }
    return which;
}

static void draw(const struct history *history, struct random *random, struct commit *out)
{
    static const unsigned weights[2][VERBS] = {{50, 65, 85, 100}, {20, 30, 70, 100}};
    unsigned at = random_below(random, 100);

    *out = (struct commit){.count = 1 + random_below(random, MODEL_BATCH)};
    while (at >= weights[history->profile & 1][out->verb])
        out->verb++;
    out->state = out->verb == FINISH         ? JOB_SUCCEEDED
                 : random_chance(random, 30) ? JOB_EXPIRED
                                             : JOB_FAILED;
    out->due_ms = history->now_ms + random_below(random, 20000) - 1000;
    for (unsigned i = 0; i < out->count; i++)
        out->claims[i] = draw_claim(history, random);
    if (out->verb <= FAIL && random_chance(random, 10)) {
        out->pieces = 2;
        out->count = 1;
    }
}

void history_commit(struct history *history, struct random *random)
{
    struct commit commit;
    redisReply *reply;

    if (history->claims_count == 0)
        return;
    draw(history, random, &commit);
    reply = send(history, &commit);
    if (reply->type != REDIS_REPLY_STRING || reply->len != commit.count) {
        history_fault(history, "%s: %s", words[commit.verb], reply->str ? reply->str : "no text");
        commit.count = 0;
    }
    for (unsigned i = 0; i < commit.count; i++) {
        int which = commit.claims[i];
        char letter = expect(history, &commit, which), said = reply->str[i];

        history_say(history, "  %s of claim %d, job %d: %c\n", words[commit.verb], which,
                    history->claims[which].job, said);
        if (letter == '?' ? said != 'a' && said != 'f' : said != letter)
            history_fault(history, "%s of claim %d, job %d: answered %c, expected %c",
                          words[commit.verb], which, history->claims[which].job, said, letter);
        if (letter == 'k')
            apply(history, &commit, which);
        history->met[MET_REPEATED] += letter == 'a';
        history->met[MET_FENCED] += letter == 'f';
    }
    freeReplyObject(reply);
}
