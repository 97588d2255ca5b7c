/* What the files of this folder share: one server, its connections, their requests. Nobody else
 * includes it.
 *
 * A connection is ours from accept to libmicrohttpd's "closed" notice; a request from the moment
 * its request line is read to the "completed" notice. Both come from free lists. Between turns of
 * libmicrohttpd (server_run) only suspended connections may be answered; everything else waits for
 * the next call of the access handler. */
#ifndef PENSTOCK_HTTP_HTTP_INTERNAL_H
#define PENSTOCK_HTTP_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

#include "broker/http/http_check.h"
#include "broker/http/http_limits.h"
#include "broker/http/http_peers.h"
#include "broker/http/http_server.h"
#include "common/base/buf.h"

/* What the request is doing. Order matters: from HTTP_COMPLETE on the body is behind us. */
enum http_phase {
    HTTP_LINE,     /* request line read, headers coming */
    HTTP_HEADERS,  /* handler has the headers */
    HTTP_DISCARD,  /* swallowing a short body nobody wants */
    HTTP_COLLECT,  /* body into memory */
    HTTP_STREAM,   /* body to on_body */
    HTTP_LINGER,   /* answered past libmicrohttpd, waiting for the client to close */
    HTTP_COMPLETE, /* handler has everything */
    HTTP_QUEUED,   /* answer given to libmicrohttpd */
};

struct http_link {
    struct http_link *next;
    struct http_link *previous;
};

struct http_connection {
    struct http_link link; /* in server->connections[bucket], or next on the free list */
    struct http_server *server;
    struct MHD_Connection *mhd; /* NULL until adopted */
    struct http_request *request;
    int fd;
    unsigned held_at; /* place in server->held, while is_suspended */
    unsigned requests_count;
    bool is_suspended;
    bool is_cut;            /* shut down by us; nothing more is sent */
    int64_t since_mono_ms;  /* accepted, or last request completed */
    int64_t header_mono_ms; /* bytes of a header seen since; 0: none */
    int64_t bytes_seen;     /* received when last looked at; -1: not looked yet */
    struct sockaddr_storage address;
    char peer[INET6_ADDRSTRLEN + 1]; /* made when first asked for */
};

struct http_param {
    struct slice name;
    struct slice value;
};
enum { HTTP_PARAMS_MAX = 32, HTTP_TARGET_INLINE = 512 };

struct http_request {
    struct http_request *next_free;
    struct http_server *server;
    struct http_connection *connection;
    void *data; /* the handler's */
    enum http_phase phase;
    bool in_handler; /* inside one of the handler's callbacks, called from the access handler */
    bool in_headers; /* in the first call of the access handler: nothing of the body was read */
    bool is_known;   /* on_headers was called, so on_gone is due */
    bool is_refused;
    bool is_paused;
    bool is_dead; /* the client is gone, or we cut it; waits for the completed notice */
    bool is_answered;
    bool is_sent_raw; /* the whole answer went past libmicrohttpd */
    bool is_stream;
    bool is_held; /* as marked by the handler */
    bool stream_ended;
    bool must_close;
    struct http_framing framing;
    size_t body_max;
    int64_t body_left;    /* bytes of body to come; -1: chunked, nobody knows */
    int64_t body_taken;   /* bytes received since body_mono_ms */
    int64_t body_mono_ms; /* the client has been sending since: pauses of ours do not count */
    int64_t budget;       /* of server->body_bytes taken by us */
    int64_t reply_budget; /* of server->reply_bytes */
    int64_t started_mono_ms;
    int64_t started_mono_ns;
    int64_t deadline_mono_ms; /* of body, linger or sending */
    int64_t sent_seen;        /* acknowledged bytes when last looked at */
    const char *line_target;  /* where the target stands in the request line, see http_request.c */
    const char *method;       /* libmicrohttpd's, lives as long as the request */
    char *target;             /* target_inline or malloc'ed; terminated, '?' is not replaced */
    size_t target_size;
    size_t path_at; /* past scheme and authority of an absolute target */
    size_t path_size;
    struct buf body;
    struct buf reply;    /* copied body of the answer, or what a stream's reader has not taken */
    size_t stream_taken; /* of reply */
    struct buf query;    /* decoded */
    struct http_param *params;
    int params_count;              /* -1: not parsed */
    struct MHD_Response *response; /* waits until it may be queued */
    unsigned status;
    char target_inline[HTTP_TARGET_INLINE];
};

struct http_server {
    struct http_server_options options;
    struct MHD_Daemon *daemon;
    uv_poll_t mhd_poll;
    uv_poll_t listen_poll;
    uv_check_t check;
    uv_idle_t spin;
    uv_timer_t tick;
    unsigned open_handles;
    bool is_due; /* libmicrohttpd has something to do in this turn */
    bool is_accepting;
    bool is_stopping;
    bool is_stopped;
    unsigned bucket; /* next to look at */
    unsigned connections_count;
    struct http_link connections[HTTP_BUCKETS];
    struct http_connection *adopting; /* during MHD_add_connection */
    struct http_connection *free_connections;
    struct http_request *free_requests;
    unsigned free_connections_count;
    unsigned free_requests_count;
    struct http_connection **held; /* suspended connections, held_count of connections_max */
    struct pollfd *held_polls;
    unsigned held_count;
    struct http_peers *peers; /* NULL: no limit per address */
    int64_t body_bytes;       /* of options.body_bytes_budget */
    int64_t reply_bytes;      /* of large answers on their way, likewise */
    int64_t stop_idle_mono_ms;
    int64_t stop_cut_mono_ms;
    void (*on_stopped)(void *arg);
    void *on_stopped_arg;
};

int64_t http_now_ms(const struct http_server *server);
/* libmicrohttpd shall run before the loop sleeps. */
void http_server_make_due(struct http_server *server);
/* Closed or finished: counts down, and accepts again when there is room. */
void http_server_forget(struct http_server *server, struct http_connection *connection);

/* http_connection.c */
void http_connection_adopt(struct http_server *server, int fd,
                           const struct sockaddr_storage *address, socklen_t address_size);
void http_connection_notify(void *arg, struct MHD_Connection *mhd, void **context,
                            enum MHD_ConnectionNotificationCode code);
void http_connection_suspend(struct http_connection *connection);
void http_connection_resume(struct http_connection *connection);
/* Ends it now; the notices follow in the next run. Harmless when repeated. */
void http_connection_cut(struct http_connection *connection);
/* Deadlines and hang-ups; once a tick. */
void http_connections_tick(struct http_server *server, int64_t now_ms);
void http_connections_cut_all(struct http_server *server, bool only_idle);
void http_connections_free(struct http_server *server);

/* http_request.c */
void *http_request_open(void *arg, const char *target, struct MHD_Connection *mhd);
enum MHD_Result http_request_access(void *arg, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *bytes,
                                    size_t *size, void **context);
void http_request_completed(void *arg, struct MHD_Connection *mhd, void **context,
                            enum MHD_RequestTerminationCode why);
void http_request_refuse(struct http_request *request, enum http_refusal why);
void http_requests_free(struct http_server *server);

/* http_response.c */
/* Hands the waiting answer to libmicrohttpd. MHD_NO: the connection has to be closed. */
enum MHD_Result http_response_queue(struct http_request *request);
/* A short problem document from this module itself, closing the connection. */
void http_response_problem(struct http_request *request, int status, const char *detail);
/* The head of a stream; response may be NULL (out of memory). */
void http_stream_offer(struct http_request *request, struct MHD_Response *response,
                       const struct http_reply *head);

#endif
