/* A reference model of the queue, and random histories that the Lua functions and the model live
 * through side by side.
 *
 * One history is a list of steps; each has a seed of its own, so a step does the same whichever
 * others are left out, as far as what it finds allows. Redis' clock is taken from a key: time is a
 * step like any other, and a seed tells the whole story. */
#ifndef PENSTOCK_TEST_MODEL_H
#define PENSTOCK_TEST_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <hiredis/hiredis.h>

#include "common/job/job_codec.h"
#include "common/queue/queue_functions.h"

enum {
    MODEL_SHARDS = 2,
    MODEL_ROUTES = 3,
    MODEL_TENANTS = 2,
    MODEL_KEYS = 3,
    MODEL_CHILDREN = 3,
    MODEL_JOBS_MAX = 32,
    MODEL_CLAIMS_MAX = 128,
    MODEL_STEPS_MAX = 48,
    MODEL_BATCH = 3,
    MODEL_RESULT_TTL_S = 3600,
};

/* ---- random numbers ----------------------------------------------------------------- */

struct random {
    uint64_t state;
};

uint64_t random_next(struct random *random);
unsigned random_below(struct random *random, unsigned count);
bool random_chance(struct random *random, unsigned percent);

/* ---- what ought to be --------------------------------------------------------------- */

enum model_total {
    TOTAL_SUBMITTED,
    TOTAL_SUCCEEDED,
    TOTAL_FAILED,
    TOTAL_CANCELLED,
    TOTAL_EXPIRED,
    TOTAL_RETRIED,
    TOTAL_COUNT
};

struct model_job {
    bool exists;                   /* accepted, and not undone by a rollback */
    bool is_gone, is_request_gone; /* their time is over */
    enum job_state state;
    enum job_verdict verdict;
    unsigned shard, route, tenant;
    enum job_priority priority;
    unsigned claim, attempt, crashes;
    uint32_t sequence;
    bool has_started, is_suspect, is_followed, is_forgotten, is_by_worker;
    bool has_home;
    int owner;        /* claim whose token the job carries, -1: none */
    int commit_claim; /* last commit that was recorded: its claim and what it said */
    int commit_verb;
    enum job_state commit_state;
    int64_t due_ms, expires_ms, lease_score, created_ms;
    int64_t deadline_seen_ms; /* ran at its deadline: looked at again by then, not before */
    int64_t position;         /* in its lane */
    size_t live_bytes;
    unsigned body_pieces, result_pieces;
};

/* What a claim asked for: of a child that found nothing, it may be answered later. */
struct model_request {
    bool is_standing;
    unsigned room[MODEL_ROUTES]; /* 0: not asked for */
    unsigned count, hand_max, first_shard;
    bool takes_suspect, suspect_first;
    int64_t lease_ms;
    uint8_t token[JOB_TOKEN_SIZE];
};

struct model_key {
    int job; /* -1: not used yet */
    unsigned body;
};

/* Copied as a whole: that is a snapshot. */
struct model {
    struct model_job jobs[MODEL_JOBS_MAX];
    struct model_key keys[MODEL_KEYS];
    int64_t totals[MODEL_SHARDS][MODEL_ROUTES][TOTAL_COUNT];
    bool is_paused[MODEL_ROUTES];
    struct {
        bool is_set;
        int64_t raw, logical;
    } clocks[MODEL_SHARDS];
    int64_t last_sweep_ms;
    int64_t positions;
    struct model_request standing[MODEL_CHILDREN];
};

bool model_is_live(const struct model_job *job);
bool model_has_usual_deadline(const struct model_job *job);
bool model_is_overdue(const struct model_job *job, int64_t now_ms);
/* May be handed out by a claim at this time. */
bool model_is_claimable(const struct model *model, const struct model_job *job, int64_t now_ms);
bool model_is_same_lane(const struct model_job *a, const struct model_job *b);
int64_t model_tick(struct model *model, unsigned shard, int64_t now_ms);
void model_requeue(struct model *model, struct model_job *job, bool to_front);
void model_end(struct model *model, struct model_job *job, enum job_state state,
               enum job_verdict verdict);
/* blame: 'c' its process died of this very job, 'i' of another one, 0: nobody knows. */
void model_recover(struct model *model, struct model_job *job, int64_t now_ms, char blame);

/* ---- the store ---------------------------------------------------------------------- */

struct command {
    const char *argv[512];
    size_t sizes[512];
    int argc;
    char bytes[1 << 18];
    size_t used;
};

void command_begin(struct command *command);
void command_add(struct command *command, const void *bytes, size_t size);
void command_text(struct command *command, const char *text);
PRINTF_LIKE(2, 3) void command_format(struct command *command, const char *format, ...);

struct store {
    char dir[128];
    char socket[160];
    pid_t pid;
    redisContext *context;
    redisContext *messages; /* listens for all children */
    bool is_pinged;
    struct queue_functions functions;
};

/* A private redis-server, its functions changed in one place only: where they ask for the time. */
void store_start(struct store *store);
void store_stop(struct store *store);
void store_append(struct store *store, const struct command *command);
redisReply *store_reply(struct store *store); /* the caller frees it */
/* FCALL with the clocks of the shards. */
void store_verb(const struct store *store, struct command *command, enum queue_verb verb,
                const unsigned *shards, unsigned shards_count);
/* The next message to a child, of those that have been sent; NULL: there is none. */
redisReply *store_message(struct store *store);
redisReply *store_snapshot(struct store *store);
void store_restore(struct store *store, const redisReply *snapshot);

/* ---- a history ---------------------------------------------------------------------- */

struct model_claim {
    int job;
    unsigned claim, attempt, crashes;
    uint32_t sequence;
    int64_t started_ms;
    uint8_t token[JOB_TOKEN_SIZE];
    char member[JOB_MEMBER_SIZE];
};

/* What all histories together have met: a run that never met one of these proves nothing of it. */
enum met {
    MET_SUBMIT,
    MET_REPLAY,
    MET_CONFLICT,
    MET_TOO_MANY,
    MET_FULL,
    MET_CLAIM,
    MET_SUSPECT_CLAIM,
    MET_HANDED,
    MET_FINISH,
    MET_FAIL,
    MET_RETRY,
    MET_RELEASE,
    MET_REPEATED,
    MET_FENCED,
    MET_RENEWED,
    MET_LOST,
    MET_RECOVERED,
    MET_LAPSED,
    MET_POISON,
    MET_PROMOTED,
    MET_EXPIRED,
    MET_USUAL,
    MET_CANCELLED,
    MET_FORGOTTEN,
    MET_FOLLOWED,
    MET_PAUSED,
    MET_ROLLBACK,
    MET_WRAPPED,
    MET_PIECES,
    MET_BLAMED,
    MET_SPARED,
    MET_LISTED,
    MET_COUNTED,
    MET_INSPECTED,
    MET_COUNT
};

struct history {
    struct store *store;
    struct model model, saved;
    redisReply *snapshot; /* of `saved`; NULL: none yet */
    struct job_id ids[MODEL_JOBS_MAX];
    unsigned jobs_count; /* ids drawn, accepted or not */
    struct model_claim claims[MODEL_CLAIMS_MAX];
    unsigned claims_count;
    int64_t now_ms;
    int64_t routes_max, jobs_max;
    unsigned live_routes; /* bit a route, from the last dump */
    unsigned profile;
    redisReply *dump; /* of the store after the last call */
    struct command command;
    uint64_t met[MET_COUNT];
    bool is_verbose;
    char fault[512];
};

extern const char *const model_routes[MODEL_ROUTES];
extern const char *const model_tenants[MODEL_TENANTS];

/* Notes the first fault. */
PRINTF_LIKE(2, 3) void history_fault(struct history *history, const char *format, ...);
PRINTF_LIKE(2, 3) void history_say(const struct history *history, const char *format, ...);
/* Sends history->command and asks for a dump; history->dump is new afterwards. Free the reply. */
redisReply *history_ask(struct history *history);
int history_find(const struct history *history, const char *core);
/* The job as its submitter made it; slices point to constants and into text. */
enum { MODEL_TEXT_SIZE = 64 };
struct job history_job(const struct history *history, unsigned index, char text[MODEL_TEXT_SIZE]);
void history_result(int claim, int verb, char text[MODEL_TEXT_SIZE]);
/* One random step: does it to both, and compares the answers. */
void history_step(struct history *history, uint64_t seed);
void history_commit(struct history *history,
                    struct random *random); /* finish, fail, retry, release */
void history_claim(struct history *history, struct random *random);
/* What the last submit handed to a child that stood for it, of the jobs from `first` on. */
void history_take_handed(struct history *history, unsigned first);
void history_submit(struct history *history, struct random *random);
void history_list(struct history *history, struct random *random);
void history_census(struct history *history, struct random *random);
void history_inspect(struct history *history, struct random *random);

/* ---- comparing ---------------------------------------------------------------------- */

void check_dump(struct history *history);  /* the last dump with the model */
void check_names(struct history *history); /* every key there is has a reason */
/* State letter of a job in the last dump, '\0' when there is no record. */
char check_letter(const struct history *history, unsigned index);

#endif
