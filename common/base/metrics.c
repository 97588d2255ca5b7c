/* The table of metrics: counted in place, encoded for the fleet, added up, rendered. */
#include "common/base/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/text.h"

enum { BOUND_COUNT = 19, BUCKET_COUNT = BOUND_COUNT + 1, ENCODED_SIZE_MAX = 16 * 1024 };

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const struct {
    enum kind kind;
    const char *name;
    const char *help;
} rows[METRIC_COUNT] = {
#define METRIC_ROW(name, kind, text, help) [name] = {kind, text, help},
    METRIC_LIST(METRIC_ROW)
#undef METRIC_ROW
};

/* Upper bounds in microseconds, with how Prometheus reads them. */
static const struct {
    uint64_t us;
    const char *seconds;
} bounds[BOUND_COUNT] = {
    {500, "0.0005"},  {1000, "0.001"},    {2500, "0.0025"},   {5000, "0.005"},    {10000, "0.01"},
    {25000, "0.025"}, {50000, "0.05"},    {100000, "0.1"},    {250000, "0.25"},   {500000, "0.5"},
    {1000000, "1"},   {2500000, "2.5"},   {5000000, "5"},     {10000000, "10"},   {30000000, "30"},
    {60000000, "60"}, {120000000, "120"}, {300000000, "300"}, {600000000, "600"},
};

struct cell {
    uint64_t total;                 /* of a counter; microseconds of a histogram */
    int64_t level;                  /* of a gauge */
    uint64_t buckets[BUCKET_COUNT]; /* each alone, not added up; the last is everything above */
};

struct metrics_table {
    struct cell cells[METRIC_COUNT];
};

static struct metrics_table table; /* this process' own */

static struct cell *cell_of(enum metric metric, enum kind kind)
{
    CHECK((unsigned)metric < METRIC_COUNT);
    CHECK(rows[metric].kind == kind);
    return &table.cells[metric];
}

void metrics_add(enum metric metric, uint64_t amount)
{
    cell_of(metric, COUNTER)->total += amount;
}

void metrics_gauge_set(enum metric metric, int64_t value)
{
    cell_of(metric, GAUGE)->level = value;
}

void metrics_gauge_add(enum metric metric, int64_t amount)
{
    cell_of(metric, GAUGE)->level += amount;
}

void metrics_observe_ms(enum metric metric, double ms)
{
    const double us_max = 1e15; /* thirty years; also what a broken clock may claim */
    struct cell *cell = cell_of(metric, HISTOGRAM);
    double us = ms * 1000;
    size_t bucket = 0;

    if (!(us > 0)) /* NaN too */
        us = 0;
    uint64_t rounded = (uint64_t)llround(us < us_max ? us : us_max);
    while (bucket < BOUND_COUNT && rounded > bounds[bucket].us)
        bucket++;
    cell->buckets[bucket]++;
    cell->total += rounded;
}

static uint64_t count_of(const struct cell *cell)
{
    uint64_t count = 0;
    for (size_t i = 0; i < BUCKET_COUNT; i++)
        count += cell->buckets[i];
    return count;
}

/* What the log knows better. */
static void refresh(void)
{
    table.cells[METRIC_LOG_DROPPED].total = log_dropped_count();
}

uint64_t metrics_value(enum metric metric)
{
    CHECK((unsigned)metric < METRIC_COUNT);
    const struct cell *cell = &table.cells[metric];

    refresh();
    switch (rows[metric].kind) {
    case COUNTER:
        return cell->total;
    case GAUGE:
        return cell->level > 0 ? (uint64_t)cell->level : 0;
    case HISTOGRAM:
        return count_of(cell);
    }
    return 0;
}

struct metrics_table *metrics_table_create(void)
{
    return calloc(1, sizeof(struct metrics_table));
}

void metrics_table_destroy(struct metrics_table *sum)
{
    free(sum);
}

/* --- encoding: "1;name=5;name=-2;name=12000:0,3,1,…" ------------------------------------------ */

static int encode_cell(struct buf *out, size_t metric, const struct cell *cell)
{
    int status;

    switch (rows[metric].kind) {
    case COUNTER:
        return buf_printf(out, ";%s=%" PRIu64, rows[metric].name, cell->total);
    case GAUGE:
        return buf_printf(out, ";%s=%" PRId64, rows[metric].name, cell->level);
    case HISTOGRAM:
        break;
    }
    status = buf_printf(out, ";%s=%" PRIu64 ":", rows[metric].name, cell->total);
    for (size_t i = 0; status == 0 && i < BUCKET_COUNT; i++)
        status = buf_printf(out, "%s%" PRIu64, i > 0 ? "," : "", cell->buckets[i]);
    return status;
}

int metrics_encode(struct buf *out)
{
    int status = buf_append_char(out, '1');

    refresh();
    for (size_t i = 0; status == 0 && i < METRIC_COUNT; i++)
        status = encode_cell(out, i, &table.cells[i]);
    return status;
}

static bool parse_u64(const char *text, size_t size, uint64_t *out)
{
    int64_t value;

    if (text_parse_i64(text, size, 0, INT64_MAX, &value) < 0)
        return false;
    *out = (uint64_t)value;
    return true;
}

static bool decode_histogram(const char *text, size_t size, struct cell *cell)
{
    const char *end = text + size;
    const char *colon = memchr(text, ':', size);

    if (!colon || !parse_u64(text, (size_t)(colon - text), &cell->total))
        return false;
    text = colon + 1;
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma ? comma : end;
        bool is_last = i + 1 == BUCKET_COUNT;
        if (is_last == (comma != NULL) ||
            !parse_u64(text, (size_t)(stop - text), &cell->buckets[i]))
            return false;
        text = is_last ? stop : stop + 1;
    }
    return true;
}

static bool decode_cell(const char *text, size_t size, struct metrics_table *out, bool seen[])
{
    const char *equals = memchr(text, '=', size);
    if (!equals)
        return false;
    const char *value = equals + 1;
    size_t value_size = size - (size_t)(value - text);

    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (!text_equal(text, (size_t)(equals - text), rows[i].name))
            continue;
        if (seen[i])
            return false;
        seen[i] = true;
        if (rows[i].kind == COUNTER)
            return parse_u64(value, value_size, &out->cells[i].total);
        if (rows[i].kind == HISTOGRAM)
            return decode_histogram(value, value_size, &out->cells[i]);
        return text_parse_i64(value, value_size, INT64_MIN, INT64_MAX, &out->cells[i].level) == 0;
    }
    return true; /* a process with more metrics than we know */
}

static uint64_t add_capped(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void add_table(struct metrics_table *sum, const struct metrics_table *more)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        struct cell *cell = &sum->cells[i];
        const struct cell *from = &more->cells[i];
        cell->total = add_capped(cell->total, from->total);
        if (__builtin_add_overflow(cell->level, from->level, &cell->level))
            cell->level = from->level > 0 ? INT64_MAX : INT64_MIN;
        for (size_t j = 0; j < BUCKET_COUNT; j++)
            cell->buckets[j] = add_capped(cell->buckets[j], from->buckets[j]);
    }
}

int metrics_merge(struct metrics_table *sum, const char *text, size_t size)
{
    struct metrics_table decoded = {0};
    bool seen[METRIC_COUNT] = {false};
    const char *end = text + size;
    const char *semicolon = memchr(text, ';', size);
    const char *stop = semicolon ? semicolon : end;
    int64_t version;

    if (size > ENCODED_SIZE_MAX ||
        text_parse_i64(text, (size_t)(stop - text), 1, INT64_MAX, &version) < 0)
        return ERR_INVALID;
    if (version > 1)
        return ERR_NEWER;
    while (stop < end) {
        const char *start = stop + 1;
        semicolon = memchr(start, ';', (size_t)(end - start));
        stop = semicolon ? semicolon : end;
        if (!decode_cell(start, (size_t)(stop - start), &decoded, seen))
            return ERR_INVALID;
    }
    add_table(sum, &decoded);
    return 0;
}

/* --- Prometheus text format 0.0.4 ---------------------------------------------------------------
 */

static int render_histogram(const struct cell *cell, const char *name, struct buf *out)
{
    uint64_t count = 0;
    int status = 0;

    for (size_t i = 0; status == 0 && i < BUCKET_COUNT; i++) {
        count = add_capped(count, cell->buckets[i]);
        status = buf_printf(out, "%s_bucket{le=\"%s\"} %" PRIu64 "\n", name,
                            i < BOUND_COUNT ? bounds[i].seconds : "+Inf", count);
    }
    if (status < 0)
        return status;
    return buf_printf(out, "%s_sum %" PRIu64 ".%06" PRIu64 "\n%s_count %" PRIu64 "\n", name,
                      cell->total / 1000000, cell->total % 1000000, name, count);
}

int metrics_render(const struct metrics_table *sum, struct buf *out)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    int status = 0;

    for (size_t i = 0; status == 0 && i < METRIC_COUNT; i++) {
        const struct cell *cell = &sum->cells[i];
        const char *name = rows[i].name;
        status = buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, rows[i].help, name,
                            kinds[rows[i].kind]);
        if (status < 0)
            return status;
        switch (rows[i].kind) {
        case COUNTER:
            status = buf_printf(out, "%s %" PRIu64 "\n", name, cell->total);
            break;
        case GAUGE:
            status = buf_printf(out, "%s %" PRId64 "\n", name, cell->level);
            break;
        case HISTOGRAM:
            status = render_histogram(cell, name, out);
            break;
        }
    }
    return status;
}
