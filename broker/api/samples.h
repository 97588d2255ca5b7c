/* What queue and fleet looked like a moment ago: one census and one reading of the fleet's
 * documents, shared by everybody who asks why a job waits, where it stands, which models there are.
 * Taken only while somebody asks. */
#ifndef PENSTOCK_API_SAMPLES_H
#define PENSTOCK_API_SAMPLES_H

#include <stdint.h>

#include "broker/api/fleet_view.h"
#include "broker/api/render.h"
#include "common/base/settings.h"
#include "common/queue/queue_fleet.h"

struct samples;

MUST_CHECK int samples_create(const struct settings *settings, struct queue *queue,
                              struct samples **out);
/* After the queue closed. */
void samples_destroy(struct samples *samples);
void samples_tick(struct samples *samples, int64_t now_mono_ms);

/* Fills why and position of a job as far as they are known now, and asks for newer samples in the
 * background. */
void samples_view(struct samples *samples, const struct job *job, struct job_view *out);

/* Whether why and position of a queued job can be told now. */
bool samples_are_recent(const struct samples *samples);

/* NULL before the first one. Valid until the next turn of the loop. */
const struct queue_census *samples_census(const struct samples *samples);
/* The one before, for rates; out_ms: time between them. NULL: there is none. */
const struct queue_census *samples_census_before(const struct samples *samples, int64_t *out_ms);
const struct fleet *samples_fleet(const struct samples *samples);
/* Live brokers, at least 1. */
unsigned samples_brokers(const struct samples *samples);

enum sample { SAMPLE_CENSUS, SAMPLE_FLEET, SAMPLE_COUNT };
typedef void (*sampled_fn)(int status, void *arg);
/* Runs on_sampled once with the next sample (or why there is none): never before this returns.
 * Askers share one. */
void samples_await(struct samples *samples, enum sample sample, sampled_fn on_sampled, void *arg);

#endif
