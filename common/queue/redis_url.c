#include "common/queue/redis_url.h"

#include <string.h>

#include "common/base/text.h"

enum { REDIS_PORT = 6379, REDIS_DATABASE_MAX = 1023 };

static int parse_login(const char *text, size_t size, struct redis_url *url, struct error_text *why)
{
    const char *colon = memchr(text, ':', size);
    size_t user_size = colon ? (size_t)(colon - text) : size;
    const char *password = colon ? colon + 1 : text;
    size_t password_size = colon ? size - user_size - 1 : size;

    /* Without a colon it is a password alone, as redis-cli takes it. */
    if (colon && text_percent_decode(text, user_size, url->user, sizeof(url->user)) < 0)
        return error_set(why, ERR_INVALID, "redis.url: the user name is malformed or too long");
    if (text_percent_decode(password, password_size, url->password, sizeof(url->password)) < 0)
        return error_set(why, ERR_INVALID, "redis.url: the password is malformed or too long");
    return 0;
}

static int parse_database(const char *text, size_t size, struct redis_url *url,
                          struct error_text *why)
{
    int64_t database = 0;

    if (size > 0 && text_parse_i64(text, size, 0, REDIS_DATABASE_MAX, &database) < 0)
        return error_set(why, ERR_INVALID, "redis.url: the database must be a number 0 to %d",
                         REDIS_DATABASE_MAX);
    url->database = (int)database;
    return 0;
}

static int parse_unix(const char *text, struct redis_url *url, struct error_text *why)
{
    const char *query = strchr(text, '?');
    size_t size = query ? (size_t)(query - text) : strlen(text);

    if (size == 0 || text[0] != '/' || size >= sizeof(url->path))
        return error_set(why, ERR_INVALID,
                         "redis.url: unix:// needs an absolute path of at most %zu bytes",
                         sizeof(url->path) - 1);
    memcpy(url->path, text, size);
    url->path[size] = '\0';
    if (!query)
        return 0;
    if (!text_starts_with(query, "?db="))
        return error_set(why, ERR_INVALID, "redis.url: only ?db=N may follow the path");
    return parse_database(query + 4, strlen(query + 4), url, why);
}

static int parse_host(const char *text, struct redis_url *url, struct error_text *why)
{
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    const char *host = text;
    size_t host_size = size;
    const char *port = NULL;
    int64_t number = REDIS_PORT;

    if (size > 0 && text[0] == '[') {
        const char *end = memchr(text, ']', size);
        if (!end)
            return error_set(why, ERR_INVALID, "redis.url: '[' without ']'");
        host = text + 1;
        host_size = (size_t)(end - host);
        if (end + 1 < text + size) {
            if (end[1] != ':')
                return error_set(why, ERR_INVALID, "redis.url: expected ':' after ']'");
            port = end + 2;
        }
    } else {
        const char *colon = memchr(text, ':', size);
        if (colon) {
            host_size = (size_t)(colon - text);
            port = colon + 1;
        }
    }
    if (host_size == 0 || host_size >= sizeof(url->host) || memchr(host, ',', host_size))
        return error_set(why, ERR_INVALID, "redis.url: expected one host name or address");
    if (port && text_parse_i64(port, (size_t)(text + size - port), 1, 65535, &number) < 0)
        return error_set(why, ERR_INVALID, "redis.url: the port must be a number 1 to 65535");
    memcpy(url->host, host, host_size);
    url->host[host_size] = '\0';
    url->port = (int)number;
    return slash ? parse_database(slash + 1, strlen(slash + 1), url, why) : 0;
}

int redis_url_parse(const char *text, struct redis_url *out, struct error_text *why)
{
    static const char *const schemes[] = {"redis://", "rediss://", "unix://"};
    struct redis_url url = {.port = REDIS_PORT};
    size_t which = 0;
    int status;

    while (which < 3 && !text_starts_with(text, schemes[which]))
        which++;
    if (which == 3)
        return error_set(why, ERR_INVALID,
                         "redis.url: expected redis://, rediss:// or unix:// (sentinel and cluster "
                         "addresses are not supported yet)");
#ifndef HAVE_HIREDIS_SSL
    if (which == 1)
        return error_set(why, ERR_INVALID,
                         "redis.url: this build has no TLS for Redis (hiredis_ssl was not there)");
#endif
    url.has_tls = which == 1;
    text += strlen(schemes[which]);

    /* The last '@' before the path: a password may hold one only percent-encoded. */
    const char *slash = strchr(text, '/');
    size_t authority = slash ? (size_t)(slash - text) : strlen(text);
    const char *at = memrchr(text, '@', authority);
    if (at) {
        status = parse_login(text, (size_t)(at - text), &url, why);
        if (status < 0)
            return status;
        text = at + 1;
    }
    status = which == 2 ? parse_unix(text, &url, why) : parse_host(text, &url, why);
    if (status < 0)
        return status;
    *out = url;
    return 0;
}
