/* What of a request is worked out only when somebody asks: query parameters and the peer's address.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/http_internal.h"
#include "common/base/text.h"

/* Decodes one name or value into the request's memory, which is large enough: decoding never grows.
 * '+' is a space, as forms have it. What is not valid percent-encoding stays as it came. */
static struct slice decode(struct http_request *request, const char *text, size_t size)
{
    char *out = request->query.data + request->query.size;
    size_t room = request->query.capacity - request->query.size;
    int length = text_percent_decode(text, size, out, room);

    if (length < 0) {
        CHECK(size < room);
        memcpy(out, text, size);
        length = (int)size;
    }
    request->query.size += (size_t)length + 1;
    return (struct slice){out, (size_t)length};
}

static void add_param(struct http_request *request, const char *text, size_t size)
{
    const char *equals = memchr(text, '=', size);
    size_t name_size = equals ? (size_t)(equals - text) : size;
    struct http_param *param = &request->params[request->params_count];

    param->name = decode(request, text, name_size);
    if (equals)
        param->value = decode(request, equals + 1, size - name_size - 1);
    else
        param->value = (struct slice){"", 0};
    request->params_count++;
}

/* All parameters at the first question; those beyond HTTP_PARAMS_MAX do not count. */
static void parse_query(struct http_request *request)
{
    size_t path_end = request->path_at + request->path_size;
    const char *query = request->target + path_end;
    size_t left = request->target_size - path_end;

    request->params_count = 0;
    if (left < 2)
        return;
    query++; /* the '?' */
    left--;
    request->query.size_max = 2 * left + 2 * HTTP_PARAMS_MAX + 1;
    request->params = calloc(HTTP_PARAMS_MAX, sizeof *request->params);
    if (!request->params || buf_reserve(&request->query, request->query.size_max - 1) != 0)
        return;
    for (size_t i = 0; i < left;
         i++) { /* it is our copy; '+' stands for nothing but a space here */
        if (request->target[path_end + 1 + i] == '+')
            request->target[path_end + 1 + i] = ' ';
    }
    while (left > 0 && request->params_count < HTTP_PARAMS_MAX) {
        const char *end = memchr(query, '&', left);
        size_t size = end ? (size_t)(end - query) : left;
        if (size > 0)
            add_param(request, query, size);
        left -= end ? size + 1 : size;
        query += end ? size + 1 : size;
    }
}

struct slice http_request_query(struct http_request *request, const char *name)
{
    if (request->params_count < 0)
        parse_query(request);
    for (int i = 0; i < request->params_count; i++) {
        if (slice_is(request->params[i].name, name))
            return request->params[i].value;
    }
    return (struct slice){0};
}

struct slice http_request_peer(const struct http_request *request)
{
    struct http_connection *connection = request->connection;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (connection->peer[0] == '\0') {
        (void)snprintf(connection->peer, sizeof connection->peer, "unix");
        if (connection->address.ss_family == AF_INET) {
            memcpy(&in, &connection->address, sizeof in);
            (void)inet_ntop(AF_INET, &in.sin_addr, connection->peer, sizeof connection->peer);
        } else if (connection->address.ss_family == AF_INET6) {
            memcpy(&in6, &connection->address, sizeof in6);
            if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
                (void)inet_ntop(AF_INET, &in6.sin6_addr.s6_addr[12], connection->peer,
                                sizeof connection->peer);
            else
                (void)inet_ntop(AF_INET6, &in6.sin6_addr, connection->peer,
                                sizeof connection->peer);
        }
    }
    return slice_of(connection->peer);
}
