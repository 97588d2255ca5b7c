#include "worker/limit/concurrency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/settings.h"

static void test_shares_add_up(void **state)
{
    (void)state;
    for (int concurrency = 1; concurrency <= 100; concurrency++) {
        for (unsigned children = 1; children <= 17; children++) {
            unsigned sum = 0;
            for (unsigned child = 0; child < children; child++) {
                unsigned share = concurrency_share(concurrency, child, children);
                assert_true(share <= concurrency_share(concurrency, 0, children));
                assert_true(share + 1 >= concurrency_share(concurrency, 0, children));
                sum += share;
            }
            assert_int_equal(sum, concurrency);
        }
    }
}

static void test_auto_stands_for_a_number(void **state)
{
    (void)state;
    assert_int_equal(concurrency_share(SETTINGS_AUTO, 0, 1), CONCURRENCY_AUTO);
    assert_int_equal(concurrency_share(SETTINGS_AUTO, 1, 2), CONCURRENCY_AUTO / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_add_up),
        cmocka_unit_test(test_auto_stands_for_a_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
