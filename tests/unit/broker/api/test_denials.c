#include "broker/api/denials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_flood_of_one_address(void **state)
{
    struct denials denials = {0};

    (void)state;
    for (int second = 5; second < 8; second++) {
        for (int i = 0; i < DENIALS_PER_SECOND_MAX; i++)
            assert_false(denials_add(&denials, slice_of("192.0.2.1"), second * 1000 + i));
        for (int i = 0; i < 1000; i++)
            assert_true(denials_add(&denials, slice_of("192.0.2.1"), second * 1000 + 999));
        assert_false(denials_add(&denials, slice_of("192.0.2.2"), second * 1000 + 999));
    }
}

static void test_odd_addresses(void **state)
{
    static const char text[300] = "2001:db8::1";
    struct denials denials = {0};

    (void)state;
    for (int i = 0; i < DENIALS_PER_SECOND_MAX; i++)
        assert_false(denials_add(&denials, slice_of(""), 1000));
    assert_true(denials_add(&denials, slice_of(""), 1000));
    assert_false(denials_add(&denials, (struct slice){text, sizeof text}, 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flood_of_one_address),
        cmocka_unit_test(test_odd_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
