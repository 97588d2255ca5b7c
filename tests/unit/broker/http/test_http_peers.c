/* Counts per address against a plain list, through thousands of comings and goings. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/http/http_peers.h"

enum { ADDRESSES = 40, LIMIT = 5 };

static struct sockaddr_storage address_of(unsigned number)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = (in_port_t)(number * 7)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    if (number % 2 == 0) {
        in.sin_addr.s_addr = htonl(0x0a000000 + number);
        memcpy(&storage, &in, sizeof in);
    } else {
        in6.sin6_addr.s6_addr[0] = 0xfd;
        in6.sin6_addr.s6_addr[15] = (uint8_t)number;
        memcpy(&storage, &in6, sizeof in6);
    }
    return storage;
}

static void test_against_a_list(void **state)
{
    struct http_peers *peers = http_peers_create(ADDRESSES * LIMIT);
    unsigned counts[ADDRESSES] = {0};
    uint32_t random = 12345;
    (void)state;

    assert_non_null(peers);
    for (int i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        unsigned number = (random >> 8) % ADDRESSES;
        struct sockaddr_storage address = address_of(number);
        if ((random >> 24) % 2 == 0) {
            bool is_in = http_peers_enter(peers, &address, LIMIT);
            assert_int_equal(is_in, counts[number] < LIMIT);
            counts[number] += is_in;
        } else if (counts[number] > 0) {
            http_peers_leave(peers, &address);
            counts[number]--;
        }
    }
    for (unsigned number = 0; number < ADDRESSES; number++) {
        struct sockaddr_storage address = address_of(number);
        for (; counts[number] < LIMIT; counts[number]++)
            assert_true(http_peers_enter(peers, &address, LIMIT));
        assert_false(http_peers_enter(peers, &address, LIMIT));
    }
    http_peers_destroy(peers);
    http_peers_destroy(NULL);
}

/* IPv4 through an IPv6 socket is the same peer; the port does not matter; unix sockets are not
 * counted. */
static void test_who_is_who(void **state)
{
    struct http_peers *peers = http_peers_create(10);
    struct sockaddr_storage mapped = {0};
    struct sockaddr_storage local = {.ss_family = AF_UNIX};
    struct sockaddr_storage plain = address_of(2);
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    (void)state;

    assert_int_equal(inet_pton(AF_INET6, "::ffff:10.0.0.2", &in6.sin6_addr), 1);
    memcpy(&mapped, &in6, sizeof in6);
    assert_true(http_peers_enter(peers, &mapped, 1));
    assert_false(http_peers_enter(peers, &plain, 1));
    http_peers_leave(peers, &plain);
    assert_true(http_peers_enter(peers, &plain, 1));
    for (int i = 0; i < 100; i++)
        assert_true(http_peers_enter(peers, &local, 1));
    http_peers_leave(peers, &local);
    http_peers_destroy(peers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_list),
        cmocka_unit_test(test_who_is_who),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
