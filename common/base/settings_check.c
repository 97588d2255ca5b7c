/* What the table of keys cannot say: addresses, URLs, names, and which values go together. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/settings_rows.h"
#include "common/base/text.h"

enum { HOST_SIZE = 256, PATH_SIZE = 96 };

/* --- addresses ------------------------------------------------------------------------------ */

static bool is_host_name(const char *host)
{
    size_t size = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
    return size > 0 && host[size] == '\0';
}

/* "127.0.0.1:7368", "[::1]:7368", "localhost:7368" */
static bool split_address(const char *text, char host[HOST_SIZE])
{
    const char *colon = strrchr(text, ':');
    struct in6_addr address;
    int64_t port;

    if (!colon || text_parse_i64(colon + 1, strlen(colon + 1), 0, 65535, &port) < 0)
        return false;
    size_t size = (size_t)(colon - text);
    if (size == 0 || size >= HOST_SIZE)
        return false;
    if (text[0] == '[') {
        if (size < 3 || text[size - 1] != ']')
            return false;
        memcpy(host, text + 1, size - 2);
        host[size - 2] = '\0';
        return inet_pton(AF_INET6, host, &address) == 1;
    }
    memcpy(host, text, size);
    host[size] = '\0';
    return is_host_name(host);
}

static bool is_loopback(const char *host)
{
    struct in_addr address;
    struct in6_addr address6;

    if (inet_pton(AF_INET, host, &address) == 1)
        return (ntohl(address.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, host, &address6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&address6);
    return strcmp(host, "localhost") == 0;
}

static int check_addresses(const struct settings_source *source, const struct settings *settings)
{
    static const char form[] =
        "must be an address and a port, such as 127.0.0.1:7368 or [::1]:7368";
    char host[HOST_SIZE];

    if (*settings->listen_metrics != '\0' && !split_address(settings->listen_metrics, host))
        return settings_refuse(source, "listen_metrics", "%s", form);
    if (!split_address(settings->listen, host))
        return settings_refuse(source, "listen", "%s", form);
    if (settings->auth.mode == AUTH_NONE && !is_loopback(host))
        return settings_refuse(source, "auth.mode",
                               "none is allowed only when listening on loopback, not on %s",
                               settings->listen);
    return 0;
}

/* An address, or a network such as 10.0.0.0/8. */
static bool is_network(const char *text)
{
    struct in6_addr address;
    char host[HOST_SIZE];
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    int64_t bits;

    if (size >= sizeof host)
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    bool is_v4 = inet_pton(AF_INET, host, &address) == 1;
    if (!is_v4 && inet_pton(AF_INET6, host, &address) != 1)
        return false;
    return !slash || text_parse_i64(slash + 1, strlen(slash + 1), 0, is_v4 ? 32 : 128, &bits) == 0;
}

static int check_proxies(const struct settings_source *source, const struct settings *settings)
{
    for (unsigned i = 0; i < settings->trusted_proxies_count; i++) {
        if (!is_network(settings->trusted_proxies[i]))
            return settings_refuse(source, "trusted_proxies",
                                   "\"%s\" is neither an address nor a network such as 10.0.0.0/8",
                                   settings->trusted_proxies[i]);
    }
    return 0;
}

/* --- URLs ----------------------------------------------------------------------------------- */

/* Takes the slashes off the end. NULL when fine, else what is wrong; a text with a login is never
 * shown. */
static const char *check_http_url(char *url)
{
    size_t size = strlen(url);
    const char *rest = strstr(url, "://");

    if (!rest || !(text_starts_with(url, "http://") || text_starts_with(url, "https://")))
        return "must start with http:// or https://";
    rest += 3;
    if (memchr(rest, '@', strcspn(rest, "/?#")))
        return "may not hold a user name or password; keys come from the variable api_key_env "
               "names";
    if (strpbrk(rest, "?#"))
        return "may not have a query or fragment";
    for (const char *at = rest; *at; at++) {
        if (*at <= ' ' || *at == 0x7f || *at == '\\')
            return "holds a character that URLs do not have";
    }
    if (*rest == '\0' || *rest == '/' || *rest == ':')
        return "names no host";
    while (size > 0 && url[size - 1] == '/')
        url[--size] = '\0';
    return NULL;
}

static int check_redis(const struct settings_source *source, const char *url)
{
    static const char *const ready[] = {"redis://", "rediss://", "unix://"};
    static const char *const later[] = {"redis+sentinel://", "redis+cluster://"};

    for (size_t i = 0; i < sizeof ready / sizeof ready[0]; i++) {
        if (!text_starts_with(url, ready[i]))
            continue;
        if (url[strlen(ready[i])] == '\0')
            return settings_refuse(source, "redis.url", "names no host or socket");
        return 0;
    }
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (text_starts_with(url, later[i]))
            return settings_refuse(source, "redis.url", "%s is not supported yet", later[i]);
    }
    return settings_refuse(source, "redis.url",
                           "must start with redis://, rediss://, unix://, redis+sentinel:// or "
                           "redis+cluster://");
}

static int check_urls(const struct settings_source *source, struct settings *settings)
{
    const char *blob = settings->blob.url;

    if (*settings->public_url != '\0') {
        const char *wrong = check_http_url(settings->public_url);
        if (wrong)
            return settings_refuse(source, "public_url", "%s", wrong);
    }
    if (*blob != '\0' && !(text_starts_with(blob, "file:///") && blob[8] != '\0') &&
        !(text_starts_with(blob, "s3://") && blob[5] != '\0' && blob[5] != '/'))
        return settings_refuse(source, "blob.url",
                               "must be empty, file:///directory or s3://bucket/prefix");
    return check_redis(source, settings->redis.url);
}

/* --- upstreams ------------------------------------------------------------------------------ */

static bool has_only(const char *text, const char *letters)
{
    return text[strspn(text, letters)] == '\0';
}

#define SMALL "abcdefghijklmnopqrstuvwxyz"
#define LARGE "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static int refuse_upstream(const struct settings_source *source, unsigned index, const char *key,
                           const char *reason)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "upstreams[%u].%s", index, key);
    return settings_refuse(source, path, "%s", reason);
}

static int check_upstream(const struct settings_source *source, const struct settings *settings,
                          unsigned index)
{
    struct settings_upstream *upstream = &settings->upstreams[index];
    const char *variable = upstream->api_key_env;

    if (!has_only(upstream->name, SMALL DIGITS "_-"))
        return refuse_upstream(source, index, "name", "may hold only a-z, 0-9, '_' and '-'");
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(settings->upstreams[i].name, upstream->name) == 0)
            return refuse_upstream(source, index, "name", "is the name of two upstreams");
    }
    const char *wrong = check_http_url(upstream->base_url);
    if (wrong)
        return refuse_upstream(source, index, "base_url", wrong);
    /* The value is not shown: somebody may have put the key itself here. */
    if (!has_only(variable, SMALL LARGE DIGITS "_") || (*variable >= '0' && *variable <= '9'))
        return refuse_upstream(source, index, "api_key_env",
                               "must be the name of an environment variable, not the key itself");
    if (*upstream->health != '\0' && *upstream->health != '/')
        return refuse_upstream(source, index, "health", "must start with '/'");
    for (const char *at = upstream->health; *at; at++) {
        if (*at <= ' ' || *at == 0x7f)
            return refuse_upstream(source, index, "health", "may not hold spaces");
    }
    if (!has_only(upstream->price.currency, LARGE))
        return refuse_upstream(source, index, "price.currency",
                               "must be three letters such as USD");
    return 0;
}

/* Keys whose feature does not exist yet: better refused than believed to work. */
static int check_unbuilt(const struct settings_source *source, const struct settings *settings)
{
    static const char text[] = "is not supported yet";
    char path[PATH_SIZE];

    if (settings->trusted_proxies_count > 0)
        return settings_refuse(source, "trusted_proxies", text);
    if (*settings->blob.url != '\0')
        return settings_refuse(source, "blob.url", text);
    if (settings->blob.bytes_max > 0)
        return settings_refuse(source, "blob.bytes_max", text);
    for (unsigned i = 0; i < settings->upstreams_count; i++) {
        (void)snprintf(path, sizeof path, "upstreams[%u].tokens_per_minute", i);
        if (settings->upstreams[i].tokens_per_minute > 0)
            return settings_refuse(source, path, text);
    }
    return 0;
}

int settings_check(const struct settings_source *source, struct settings *settings)
{
    int status = check_addresses(source, settings);

    if (status == 0)
        status = check_proxies(source, settings);
    if (status == 0)
        status = check_urls(source, settings);
    for (unsigned i = 0; status == 0 && i < settings->upstreams_count; i++)
        status = check_upstream(source, settings, i);
    return status < 0 ? status : check_unbuilt(source, settings);
}

/* --- environment ---------------------------------------------------------------------------- */

/* Kubernetes gives every container variables for each service: one named "penstock" or
 * "penstock-broker" would otherwise stop us from starting. */
static bool is_service_link(const char *name, size_t size, const char *value)
{
    return text_glob_match("*_SERVICE_HOST", name, size) ||
           text_glob_match("*_SERVICE_PORT*", name, size) ||
           text_glob_match("*_PORT_*_TCP*", name, size) ||
           text_glob_match("*_PORT_*_UDP*", name, size) ||
           (text_glob_match("*_PORT", name, size) && strstr(value, "://") != NULL);
}

static bool is_known(const char *name, size_t size)
{
    static const char *const others[] = {"PENSTOCK_CONFIG", "PENSTOCK_URL", "PENSTOCK_API_KEY",
                                         "PENSTOCK_TEST_*", "PENSTOCK_CHILD_*"};
    char known[SETTINGS_NAME_SIZE];

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (text_glob_match(others[i], name, size))
            return true;
    }
    for (size_t i = 0; i < settings_rows_count; i++) {
        enum settings_kind kind = settings_rows[i].kind;
        if (kind == SETTINGS_LIST || kind == SETTINGS_ALIASES || kind == SETTINGS_UPSTREAMS)
            continue;
        settings_environment_name(settings_rows[i].path, known);
        if (text_equal(name, size, known))
            return true;
    }
    return false;
}

static bool is_list(const char *name, size_t size)
{
    return text_glob_match("PENSTOCK_UPSTREAMS*", name, size) ||
           text_glob_match("PENSTOCK_ALIASES*", name, size) ||
           text_glob_match("PENSTOCK_TRUSTED_PROXIES", name, size);
}

int settings_check_environment(struct error_text *why)
{
    for (char **at = environ; at && *at; at++) {
        const char *equals = strchr(*at, '=');
        size_t size = equals ? (size_t)(equals - *at) : 0;

        if (!equals || !text_starts_with(*at, "PENSTOCK_") || is_known(*at, size) ||
            is_service_link(*at, size, equals + 1))
            continue;
        int shown = size < SETTINGS_NAME_SIZE ? (int)size : SETTINGS_NAME_SIZE;
        if (is_list(*at, size))
            return error_set(why, ERR_INVALID,
                             "%.*s: lists and mappings can be given in the configuration file only",
                             shown, *at);
        return error_set(why, ERR_INVALID,
                         "%.*s: no such setting; a variable is named after its key, such as "
                         "PENSTOCK_REDIS_URL",
                         shown, *at);
    }
    return 0;
}
