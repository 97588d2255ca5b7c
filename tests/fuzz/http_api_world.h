/* A broker inside a fuzz target: the real server, API and queue on one loop, a redis-server of its
 * own behind them, and a worker that ends jobs as it is told. */
#ifndef PENSTOCK_FUZZ_HTTP_API_WORLD_H
#define PENSTOCK_FUZZ_HTTP_API_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "broker/http/http_internal.h"
#include "common/base/slice.h"

/* What the worker does with the jobs it finds. */
enum world_deed { DEED_FINISH, DEED_FAIL, DEED_REJECT, DEED_RETRY, DEED_RELEASE, DEED_COUNT };

enum { WORLD_IDS_MAX = 8, WORLD_ID_SIZE = 48 };

struct world {
    uv_loop_t loop;
    uv_timer_t timer; /* wakes the loop */
    struct queue *queue;
    struct api *api;
    struct http_server *server;
    struct settings *settings;
    char dir[128];
    char socket[160];
    pid_t redis;
    int64_t jump_ms; /* how far the API's clock is ahead */
    bool is_claiming;
    unsigned commits; /* not answered yet */
    enum world_deed deed;
    struct slice result;                    /* what the next jobs are ended with; borrowed */
    char ids[WORLD_IDS_MAX][WORLD_ID_SIZE]; /* of the jobs that answers named last */
    unsigned ids_count;
    unsigned inputs; /* since it was made */
};

/* Makes it, or makes it anew after many inputs: jobs are not to pile up. Returns when the queue is
 * ready. */
void world_begin(struct world *world);
/* One turn of the loop, 5 ms at most, and the API's clock with it. */
void world_turn(struct world *world);
/* Claims what waits and ends it; nothing while an earlier claim is not answered. */
void world_work(struct world *world);
void world_note_id(struct world *world, const char *id, size_t size);

#endif
