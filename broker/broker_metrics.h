/* The metrics listener, and what this process says of itself to the fleet. */
#ifndef PENSTOCK_BROKER_BROKER_METRICS_H
#define PENSTOCK_BROKER_BROKER_METRICS_H

#include <stdint.h>

#include "broker/http/http_server.h"
#include "common/queue/queue.h"

struct broker_metrics;

struct broker_metrics_options {
    struct uv_loop_s *loop;
    struct queue *queue;
    const struct http_server *server; /* the public one, for its counts */
    int listen_fd;                    /* -1: no listener, only the fleet document */
    int child;
};

MUST_CHECK int broker_metrics_create(const struct broker_metrics_options *options,
                                     struct broker_metrics **out, struct error_text *why);
/* Every tick: gauges, and how late the loop came to it. */
void broker_metrics_tick(struct broker_metrics *metrics, double late_ms);
/* Once a second: the fleet document. */
void broker_metrics_publish(struct broker_metrics *metrics);
/* Takes the fleet document back and closes the listener. Callbacks of the queue may still come
 * until it is closed; destroy after that. */
void broker_metrics_stop(struct broker_metrics *metrics, void (*on_stopped)(void *arg), void *arg);
/* The public server is gone: no more counts of it. */
void broker_metrics_forget_server(struct broker_metrics *metrics);
void broker_metrics_destroy(struct broker_metrics *metrics);

#endif
