/* What the simulator is asked to do: per request (struct behaviour) and per run (struct settings).
 *
 * One table of names serves the command line, the Sim-* headers, the "sim" object in a body, the
 * "sim:k=v,k=v" text in user or metadata, and POST /control. Knows no sockets.
 */
#ifndef SIM_SETTINGS_H
#define SIM_SETTINGS_H

#include "sim_base.h"
#include "sim_scan.h"
#include "sim_text.h"

enum {
    SETTING_SHORT_BYTES_MAX = 128,
    SETTING_KEY_BYTES_MAX = 256,
    SETTING_MODELS_BYTES_MAX = 4096,
    SETTING_TOKENS_MAX = 100000
};

enum drop {
    DROP_NONE,
    DROP_BEFORE_HEADERS,
    DROP_AFTER_HEADERS,
    DROP_MID_BODY,
    DROP_RESET /* like before_headers, with a TCP reset */
};

/* Zero is "behave". Flags are 0 or 1. */
struct behaviour {
    int64_t delay_ms;
    int64_t jitter_ms; /* uniform, on top of the delay */
    int64_t status;    /* 0: what the request deserves */
    int64_t fail_times;
    int64_t retry_after_ms; /* 0: no such header */
    int64_t drop;           /* enum drop */
    int64_t drip_bytes;     /* per 100 ms; 0: all at once */
    int64_t garbage;
    int64_t never;
    int64_t body_bytes; /* size the answer's body is padded to */
    int64_t chunked;
    int64_t bad_json;
    int64_t bad_utf8;
    int64_t short_length;
    int64_t close_idle;
    int64_t tokens;           /* of the completion; 0: as many as its sentence has */
    int64_t token_ms;         /* between the events of a stream */
    int64_t stream_error;     /* a stream ends with an error event */
    struct slice retry_after; /* header value, verbatim */
    struct slice fail_key;
    struct slice nonce;
};

struct settings {
    struct behaviour behaviour; /* what a request starts from */
    int64_t max_concurrency;    /* 0: no limit */
    int64_t queue;              /* wait for a place instead of 429 */
    int64_t health_status;      /* of /health and /v1/models; 0: 200 */
    double rate_limit;          /* requests per second; 0: no limit */
    double rate_burst;          /* 0: one second's worth, at least 1 */
    double fail_rate;
    double drop_rate;
    struct slice api_key; /* empty: any */
    struct slice models;  /* comma list; empty: any */
    char retry_after_text[SETTING_SHORT_BYTES_MAX];
    char fail_key_text[SETTING_SHORT_BYTES_MAX];
    char nonce_text[SETTING_SHORT_BYTES_MAX];
    char api_key_text[SETTING_KEY_BYTES_MAX];
    char models_text[SETTING_MODELS_BYTES_MAX];
};

/* Why a setting was refused, for a person. */
struct setting_error {
    char text[160];
};

/* Set one key of a request. Text values are borrowed. `key` may be written with '-' or '_', in any
 * case. false and out_why when the key is unknown or the value does not fit it. */
MUST_CHECK bool behaviour_set(struct behaviour *behaviour, struct slice key, struct slice value,
                              struct setting_error *out_why);

/* The same for the run; knows all keys of a request too. Text values are copied. */
MUST_CHECK bool settings_set(struct settings *settings, struct slice key, struct slice value,
                             struct setting_error *out_why);

/* A name the run knows, and whether it is a flag (its value may be left out on the command line).
 */
bool settings_is_flag(struct slice key);

/* Room for texts that had to be unescaped; lives as long as the request is handled. */
struct setting_room {
    char data[8192];
    size_t used;
};

/* Apply every member of a JSON object: to a request, or to the run. */
MUST_CHECK bool behaviour_set_object(struct behaviour *behaviour, struct slice object,
                                     struct setting_room *room, struct setting_error *out_why);
MUST_CHECK bool settings_set_object(struct settings *settings, struct slice object,
                                    struct setting_room *room, struct setting_error *out_why);

/* Apply "k=v,k=v". A comma ends a value only where "name=" follows, so that dates may hold one. */
MUST_CHECK bool behaviour_set_pairs(struct behaviour *behaviour, struct slice pairs,
                                    struct setting_error *out_why);

/* Copying by assignment would leave the texts pointing into the source. */
void settings_copy(struct settings *to, const struct settings *from);

void put_settings(struct text_buf *buf, const struct settings *settings);

/* Whether a model is in the comma list, or the list is empty. */
bool settings_has_model(const struct settings *settings, struct slice model);

#endif
