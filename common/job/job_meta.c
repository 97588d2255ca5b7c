/* A msgpack map with small integer keys, each only when it has a value. Rows are only ever
 * appended. */
#include "common/job/job_meta.h"

#include <msgpack.h>
#include <string.h>

#include "common/job/job_codec.h"

enum meta_key {
    META_ENDPOINT = 1,
    META_TENANT = 2,
    META_METADATA = 3,
    META_WEBHOOK = 4,
    META_REQUEST_ID = 5,
    META_RETRY_OF = 6,
    META_HTTP_STATUS = 10,
    META_CONTENT_TYPE = 11,
    META_UPSTREAM = 12,
    META_WORKER = 13,
    META_ERROR_CODE = 14,
    META_ERROR_MESSAGE = 15,
    META_USAGE = 16,
    META_ATTEMPTS = 17,
};
enum { META_KEYS_MAX = 64, META_DEPTH_MAX = 4, ATTEMPT_FIELDS = 6 };

static int on_write(void *data, const char *bytes, size_t size)
{
    return buf_append(data, bytes, size) < 0 ? -1 : 0;
}

static int pack_slice(msgpack_packer *packer, struct slice slice)
{
    if (msgpack_pack_bin(packer, slice.size) < 0)
        return -1;
    return slice.size > 0 ? msgpack_pack_bin_body(packer, slice.bytes, slice.size) : 0;
}

static int pack_attempt(msgpack_packer *packer, const struct job_attempt *attempt)
{
    int bad = msgpack_pack_array(packer, ATTEMPT_FIELDS);

    bad |= msgpack_pack_int64(packer, attempt->started_at_ms);
    bad |= msgpack_pack_int64(packer, attempt->finished_at_ms);
    bad |= msgpack_pack_int(packer, attempt->http_status);
    bad |= pack_slice(packer, attempt->upstream);
    bad |= pack_slice(packer, attempt->error_code);
    bad |= pack_slice(packer, attempt->error_message);
    return bad;
}

/* The text fields, in one table for both directions. */
static const struct {
    enum meta_key key;
    size_t offset;
} text_fields[] = {
    {META_TENANT, offsetof(struct job, tenant_name)},
    {META_METADATA, offsetof(struct job, metadata)},
    {META_WEBHOOK, offsetof(struct job, webhook_url)},
    {META_REQUEST_ID, offsetof(struct job, request_id)},
    {META_RETRY_OF, offsetof(struct job, retry_of)},
    {META_CONTENT_TYPE, offsetof(struct job, content_type)},
    {META_UPSTREAM, offsetof(struct job, upstream)},
    {META_WORKER, offsetof(struct job, worker)},
    {META_ERROR_CODE, offsetof(struct job, error_code)},
    {META_ERROR_MESSAGE, offsetof(struct job, error_message)},
};
enum { TEXT_FIELDS = sizeof(text_fields) / sizeof(text_fields[0]) };

/* The tenant of those who use no keys, told by its hash in the header: its name is not written. */
static bool is_default_tenant(const struct job *job)
{
    return memcmp(job->tenant, JOB_DEFAULT_TENANT_HASH, JOB_TENANT_SIZE) == 0;
}

static struct slice text_field(const struct job *job, unsigned index)
{
    struct slice value;

    memcpy(&value, (const char *)job + text_fields[index].offset, sizeof(value));
    if (text_fields[index].key == META_TENANT && is_default_tenant(job) &&
        slice_is(value, JOB_DEFAULT_TENANT))
        value.size = 0;
    return value;
}

static size_t count_keys(const struct job *job)
{
    size_t count = 1;

    if (job->http_status != 0)
        count++;
    if (job->usage.is_known)
        count++;
    if (job->attempts_count > 0)
        count++;
    for (unsigned i = 0; i < TEXT_FIELDS; i++) {
        if (text_field(job, i).size > 0)
            count++;
    }
    return count;
}

int job_meta_encode(const struct job *job, struct buf *out)
{
    msgpack_packer packer;
    int bad = 0;

    CHECK(job->attempts_count <= LIMIT_ATTEMPTS);
    msgpack_packer_init(&packer, out, on_write);
    bad |= msgpack_pack_map(&packer, count_keys(job));
    bad |= msgpack_pack_int(&packer, META_ENDPOINT);
    bad |= msgpack_pack_int(&packer, (int)job->endpoint);
    for (unsigned i = 0; i < TEXT_FIELDS; i++) {
        struct slice value = text_field(job, i);
        if (value.size == 0)
            continue;
        bad |= msgpack_pack_int(&packer, (int)text_fields[i].key);
        bad |= pack_slice(&packer, value);
    }
    if (job->http_status != 0) {
        bad |= msgpack_pack_int(&packer, META_HTTP_STATUS);
        bad |= msgpack_pack_int(&packer, job->http_status);
    }
    if (job->usage.is_known) {
        bad |= msgpack_pack_int(&packer, META_USAGE);
        bad |= msgpack_pack_array(&packer, 3);
        bad |= msgpack_pack_int64(&packer, job->usage.input_tokens);
        bad |= msgpack_pack_int64(&packer, job->usage.output_tokens);
        bad |= msgpack_pack_int64(&packer, job->usage.total_tokens);
    }
    if (job->attempts_count > 0) {
        bad |= msgpack_pack_int(&packer, META_ATTEMPTS);
        bad |= msgpack_pack_array(&packer, job->attempts_count);
        for (unsigned i = 0; i < job->attempts_count; i++)
            bad |= pack_attempt(&packer, &job->attempts[i]);
    }
    return bad ? ERR_TOO_BIG : 0;
}

static uint64_t big_endian(const unsigned char *at, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

/* Size of the item at `at` without its children, and how many children follow. 0 when it does not
 * fit or is of a kind that meta never holds. */
static size_t item_size(const unsigned char *at, size_t left, uint64_t *out_children)
{
    static const unsigned char int_sizes[8] = {1, 2, 4, 8, 1, 2, 4, 8};
    unsigned char kind = at[0];
    unsigned length_size = 0;
    uint64_t body = 0;

    *out_children = 0;
    if (kind <= 0x7f || kind >= 0xe0 || kind == 0xc0 || kind == 0xc2 || kind == 0xc3)
        return 1;
    if (kind >= 0xcc && kind <= 0xd3)
        return left > int_sizes[kind - 0xcc] ? 1u + int_sizes[kind - 0xcc] : 0;
    if (kind >= 0x80 && kind <= 0x9f) {
        *out_children = (uint64_t)(kind & 0x0f) * (kind < 0x90 ? 2 : 1);
        return 1;
    }
    if (kind >= 0xa0 && kind <= 0xbf)
        return left > (kind & 0x1fu) ? 1u + (kind & 0x1fu) : 0;
    if (kind >= 0xc4 && kind <= 0xc6)
        length_size = 1u << (kind - 0xc4);
    else if (kind >= 0xd9 && kind <= 0xdb)
        length_size = 1u << (kind - 0xd9);
    else if (kind == 0xdc || kind == 0xde)
        length_size = 2;
    else
        return 0;
    if (left < 1u + length_size)
        return 0;
    body = big_endian(at + 1, length_size);
    if (kind == 0xdc || kind == 0xde) {
        *out_children = body * (kind == 0xde ? 2 : 1);
        return 1u + length_size;
    }
    return left - 1 - length_size >= body ? 1 + length_size + (size_t)body : 0;
}

/* Every claimed count must be backed by bytes, and nesting be shallow, before msgpack-c allocates
 * for it. */
static bool is_bounded(const char *bytes, size_t size)
{
    uint64_t open[META_DEPTH_MAX + 1] = {1};
    unsigned depth = 0;
    size_t at = 0;

    for (;;) {
        while (open[depth] == 0) {
            if (depth == 0)
                return at == size;
            depth--;
        }
        open[depth]--;
        uint64_t children;
        size_t used =
            at < size ? item_size((const unsigned char *)bytes + at, size - at, &children) : 0;
        if (used == 0 || children > size - at - used)
            return false;
        at += used;
        if (children > 0) {
            if (depth == META_DEPTH_MAX)
                return false;
            open[++depth] = children;
        }
    }
}

static struct slice as_slice(const msgpack_object *object)
{
    if (object->type == MSGPACK_OBJECT_BIN)
        return (struct slice){object->via.bin.ptr, object->via.bin.size};
    return (struct slice){0};
}

static int64_t as_integer(const msgpack_object *object)
{
    if (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        return object->via.u64 > INT64_MAX ? INT64_MAX : (int64_t)object->via.u64;
    return object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER ? object->via.i64 : 0;
}

static int read_attempt(const msgpack_object *object, struct job_attempt *out)
{
    const msgpack_object *field = object->via.array.ptr;

    if (object->type != MSGPACK_OBJECT_ARRAY || object->via.array.size < ATTEMPT_FIELDS)
        return ERR_CORRUPT;
    out->started_at_ms = as_integer(&field[0]);
    out->finished_at_ms = as_integer(&field[1]);
    out->http_status = (int)as_integer(&field[2]);
    out->upstream = as_slice(&field[3]);
    out->error_code = as_slice(&field[4]);
    out->error_message = as_slice(&field[5]);
    return 0;
}

static int read_attempts(const msgpack_object *list, struct job *job)
{
    if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > LIMIT_ATTEMPTS)
        return ERR_CORRUPT;
    for (uint32_t i = 0; i < list->via.array.size; i++) {
        if (read_attempt(&list->via.array.ptr[i], &job->attempts[i]) < 0)
            return ERR_CORRUPT;
    }
    job->attempts_count = list->via.array.size;
    return 0;
}

static int read_usage(const msgpack_object *list, struct job *job)
{
    if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size < 3)
        return ERR_CORRUPT;
    job->usage = (struct job_usage){.is_known = true,
                                    .input_tokens = as_integer(&list->via.array.ptr[0]),
                                    .output_tokens = as_integer(&list->via.array.ptr[1]),
                                    .total_tokens = as_integer(&list->via.array.ptr[2])};
    return 0;
}

static int read_pair(const msgpack_object_kv *pair, struct job *job)
{
    int64_t key = as_integer(&pair->key);

    if (key == META_ENDPOINT) {
        int64_t endpoint = as_integer(&pair->val);
        if (endpoint < 0 || endpoint >= ENDPOINT_COUNT)
            return ERR_CORRUPT;
        job->endpoint = (enum job_endpoint)endpoint;
    } else if (key == META_HTTP_STATUS) {
        job->http_status = (int)as_integer(&pair->val);
    } else if (key == META_USAGE) {
        return read_usage(&pair->val, job);
    } else if (key == META_ATTEMPTS) {
        return read_attempts(&pair->val, job);
    }
    for (unsigned i = 0; i < TEXT_FIELDS; i++) {
        if ((int64_t)text_fields[i].key == key) {
            struct slice value = as_slice(&pair->val);
            memcpy((char *)job + text_fields[i].offset, &value, sizeof(value));
        }
    }
    return 0;
}

static int unpack(const char *bytes, size_t size, msgpack_zone *zone, msgpack_object *out)
{
    size_t offset = 0;

    if (!is_bounded(bytes, size) || !msgpack_zone_init(zone, 1024))
        return ERR_CORRUPT;
    if (msgpack_unpack(bytes, size, &offset, zone, out) == MSGPACK_UNPACK_SUCCESS)
        return 0;
    msgpack_zone_destroy(zone);
    return ERR_CORRUPT;
}

int job_meta_decode(const char *bytes, size_t size, struct job *job, struct error_text *why)
{
    msgpack_zone zone;
    msgpack_object root;
    int status = unpack(bytes, size, &zone, &root);

    if (status < 0)
        return error_set(why, status, "meta is not msgpack of ours");
    if (root.type != MSGPACK_OBJECT_MAP || root.via.map.size > META_KEYS_MAX)
        status = ERR_CORRUPT;
    for (uint32_t i = 0; status == 0 && i < root.via.map.size; i++)
        status = read_pair(&root.via.map.ptr[i], job);
    if (is_default_tenant(job) && job->tenant_name.size == 0)
        job->tenant_name = slice_of(JOB_DEFAULT_TENANT);
    msgpack_zone_destroy(&zone);
    return status < 0 ? error_set(why, status, "meta has a field of the wrong form") : 0;
}

int job_attempt_encode(const struct job_attempt *attempt, struct buf *out)
{
    msgpack_packer packer;

    msgpack_packer_init(&packer, out, on_write);
    return pack_attempt(&packer, attempt) ? ERR_TOO_BIG : 0;
}

int job_attempt_decode(const char *bytes, size_t size, struct job_attempt *out)
{
    struct job_attempt attempt = {0};
    msgpack_zone zone;
    msgpack_object root;
    int status = unpack(bytes, size, &zone, &root);

    if (status < 0)
        return status;
    status = read_attempt(&root, &attempt);
    msgpack_zone_destroy(&zone);
    if (status == 0)
        *out = attempt;
    return status;
}
