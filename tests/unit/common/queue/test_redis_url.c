#include "common/queue/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/queue/queue_map.h"

static void good_urls(void **state)
{
    static const struct {
        const char *text, *host, *path, *user, *password;
        int port, database;
    } cases[] = {
        {"redis://127.0.0.1", "127.0.0.1", "", "", "", 6379, 0},
        {"redis://127.0.0.1:6380/3", "127.0.0.1", "", "", "", 6380, 3},
        {"redis://h/", "h", "", "", "", 6379, 0},
        {"redis://[::1]:7000/2", "::1", "", "", "", 7000, 2},
        {"redis://[fe80::1]", "fe80::1", "", "", "", 6379, 0},
        {"redis://:secret@h:1", "h", "", "", "secret", 1, 0},
        {"redis://secret@h", "h", "", "", "secret", 6379, 0},
        {"redis://me:a%40b%2Fc@h", "h", "", "me", "a@b/c", 6379, 0},
        {"unix:///run/redis.sock", "", "/run/redis.sock", "", "", 6379, 0},
        {"unix:///run/redis.sock?db=4", "", "/run/redis.sock", "", "", 6379, 4},
        {"unix://:pw@/run/redis.sock", "", "/run/redis.sock", "", "pw", 6379, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct redis_url url;
        struct error_text why = {""};

        if (redis_url_parse(cases[i].text, &url, &why) != 0)
            fail_msg("%s: %s", cases[i].text, why.text);
        assert_string_equal(url.host, cases[i].host);
        assert_string_equal(url.path, cases[i].path);
        assert_string_equal(url.user, cases[i].user);
        assert_string_equal(url.password, cases[i].password);
        assert_int_equal(url.port, cases[i].port);
        assert_int_equal(url.database, cases[i].database);
        assert_false(url.has_tls);
    }
}

static void bad_urls_say_why_and_never_the_password(void **state)
{
    static const char *const cases[] = {
        "",
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "redis://",
        "redis://:6379",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:6379x",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/99999",
        "redis://[::1",
        "redis://[::1]x",
        "redis://a,b",
        "redis://hidden%zz@h",
        "redis://:hidden%@h",
        "unix://",
        "unix://relative",
        "unix:///s?database=1",
        "redis+sentinel://h1,h2/name",
        "redis+cluster://h1",
    };
    char long_path[300] = "unix:///";

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct redis_url url = {.port = 77};
        struct error_text why = {""};

        if (redis_url_parse(cases[i], &url, &why) != ERR_INVALID)
            fail_msg("%s was taken", cases[i]);
        assert_true(why.text[0]);
        assert_null(strstr(why.text, "hidden"));
        assert_int_equal(url.port, 77); /* untouched */
    }
    memset(long_path + 8, 'x', sizeof(long_path) - 9);
    struct redis_url url;
    assert_int_equal(redis_url_parse(long_path, &url, NULL), ERR_INVALID);
}

static void tls_only_where_it_was_built(void **state)
{
    struct redis_url url;
    struct error_text why = {""};
    int status = redis_url_parse("rediss://h", &url, &why);

    (void)state;
#ifdef HAVE_HIREDIS_SSL
    assert_int_equal(status, 0);
    assert_true(url.has_tls);
#else
    assert_int_equal(status, ERR_INVALID);
    assert_non_null(strstr(why.text, "TLS"));
#endif
}

/* ---- the map beside it -------------------------------------------------------------- */

struct entry {
    struct queue_map_entry entry;
    unsigned number;
};

static struct job_id id_of(unsigned number)
{
    uint8_t random[15] = {(uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16)};

    return job_id_make(number % 16, 1790000000000 + number, random);
}

static void entries_are_found_by_id(void **state)
{
    enum { COUNT = 5000 };
    struct queue_map map;
    struct job_id id;

    (void)state;
    queue_map_init(&map, COUNT);
    id = id_of(1);
    assert_null(queue_map_find(&map, &id));
    queue_map_remove(&map, &id);
    for (unsigned i = 0; i < COUNT; i++) {
        id = id_of(i);
        struct entry *entry = (struct entry *)queue_map_add(&map, &id, sizeof(*entry));
        assert_non_null(entry);
        entry->number = i;
    }
    id = id_of(COUNT);
    assert_null(queue_map_add(&map, &id, sizeof(struct entry))); /* full */
    for (unsigned i = 0; i < COUNT; i += 2) {
        id = id_of(i);
        queue_map_remove(&map, &id);
    }
    assert_int_equal(map.count, COUNT / 2);
    for (unsigned i = 0; i < COUNT; i++) {
        id = id_of(i);
        const struct entry *entry = (const struct entry *)queue_map_find(&map, &id);
        if (i % 2 == 0)
            assert_null(entry);
        else
            assert_int_equal(entry->number, i);
    }
    queue_map_deinit(&map);
    assert_int_equal(map.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls),
        cmocka_unit_test(bad_urls_say_why_and_never_the_password),
        cmocka_unit_test(tls_only_where_it_was_built),
        cmocka_unit_test(entries_are_found_by_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
