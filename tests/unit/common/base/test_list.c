/* Order, removal while walking, and links that are in no list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/list.h"

struct item {
    char name;
    struct list link;
};

static const char *names(const struct list *list, char out[16])
{
    size_t size = 0;
    LIST_EACH(link, list)
    {
        assert_true(size < 15);
        assert_ptr_equal(link->next->previous, link);
        out[size++] = LIST_OWNER(link, struct item, link)->name;
    }
    out[size] = '\0';
    return out;
}

static void test_order(void **state)
{
    struct item items[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}};
    struct list list;
    char out[16];
    (void)state;

    list_init(&list);
    assert_true(list_is_empty(&list));
    assert_null(list_first(&list));
    assert_null(list_pop_front(&list));
    list_push_back(&list, &items[0].link);
    list_push_back(&list, &items[1].link);
    list_push_front(&list, &items[2].link);
    assert_string_equal(names(&list, out), "cab");
    assert_ptr_equal(list_first(&list), &items[2].link);
    assert_ptr_equal(list_pop_front(&list), &items[2].link);
    assert_string_equal(names(&list, out), "ab");
    assert_true(list_is_empty(&items[2].link));
}

static void test_removal(void **state)
{
    struct item items[4] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}, {.name = 'd'}};
    struct item never = {0};
    struct list list;
    char out[16];
    (void)state;

    list_remove(&never.link); /* zeroed: in no list */
    list_init(&list);
    for (size_t i = 0; i < 4; i++)
        list_push_back(&list, &items[i].link);
    list_remove(&items[1].link);
    list_remove(&items[1].link); /* twice is harmless */
    assert_string_equal(names(&list, out), "acd");
    LIST_EACH(link, &list)
    {
        list_remove(link);
    }
    assert_true(list_is_empty(&list));
    assert_true(list_is_empty(&items[3].link));
}

static void test_move_all(void **state)
{
    struct item items[4] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}, {.name = 'd'}};
    struct list from;
    struct list to;
    char out[16];
    (void)state;

    list_init(&from);
    list_init(&to);
    list_move_all(&to, &from);
    assert_true(list_is_empty(&to));
    list_push_back(&to, &items[0].link);
    list_push_back(&from, &items[1].link);
    list_push_back(&from, &items[2].link);
    list_move_all(&to, &from);
    assert_true(list_is_empty(&from));
    assert_string_equal(names(&to, out), "abc");
    list_push_back(&to, &items[3].link);
    list_move_all(&from, &to);
    assert_string_equal(names(&from, out), "abcd");
    assert_true(list_is_empty(&to));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_removal),
        cmocka_unit_test(test_move_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
