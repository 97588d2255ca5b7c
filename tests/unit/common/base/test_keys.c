/* API keys: their form, the file, looking them up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/keys.h"

struct folder {
    char path[64];
    char file[96];
};

static int set_up(void **state)
{
    struct folder *folder = calloc(1, sizeof(*folder));

    assert_non_null(folder);
    snprintf(folder->path, sizeof(folder->path), "/tmp/penstock-keys-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    snprintf(folder->file, sizeof(folder->file), "%s/keys.yaml", folder->path);
    *state = folder;
    return 0;
}

static int tear_down(void **state)
{
    struct folder *folder = *state;

    unlink(folder->file);
    assert_int_equal(rmdir(folder->path), 0); /* nothing else was left there */
    free(folder);
    return 0;
}

static void write_file(const struct folder *folder, const char *text)
{
    FILE *file = fopen(folder->file, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void generate(struct keys *keys, const char *tenant, enum key_role role, char *out)
{
    const struct key_wish wish = {.tenant = tenant,
                                  .role = role,
                                  .weight = 3,
                                  .limits = {.jobs_max = 10, .bytes_max = 20},
                                  .created_at_ms = 1790000000000};
    struct error_text why;

    assert_int_equal(keys_generate(keys, &wish, out, &why), 0);
}

static void test_generate_and_find(void **state)
{
    struct keys *keys = keys_create();
    char first[KEYS_TEXT_SIZE + 1], second[KEYS_TEXT_SIZE + 1];

    (void)state;
    generate(keys, "acme", KEY_TENANT, first);
    generate(keys, "ops", KEY_ADMIN, second);
    assert_int_equal(strlen(first), KEYS_TEXT_SIZE);
    assert_memory_equal(first, "pk_", 3);
    assert_string_not_equal(first, second);
    assert_true(keys_is_well_formed(slice_of(first)));

    const struct key *key = keys_find(keys, slice_of(first));
    assert_non_null(key);
    assert_string_equal(key->tenant, "acme");
    assert_int_equal(key->role, KEY_TENANT);
    assert_int_equal(key->weight, 3);
    assert_int_equal(key->limits.jobs_max, 10);
    key = keys_find(keys, slice_of(second));
    assert_non_null(key);
    assert_int_equal(key->role, KEY_ADMIN);
    keys_destroy(keys);
}

/* One wrong character anywhere: not found, and except for the secret's own value not even well
 * formed. */
static void test_every_character_counts(void **state)
{
    struct keys *keys = keys_create();
    char text[KEYS_TEXT_SIZE + 1];

    (void)state;
    generate(keys, "acme", KEY_TENANT, text);
    for (size_t i = 0; i < KEYS_TEXT_SIZE; i++) {
        char changed[KEYS_TEXT_SIZE + 1];
        memcpy(changed, text, sizeof(changed));
        changed[i] = text[i] == 'a' ? 'b' : 'a';
        assert_false(keys_is_well_formed(slice_of(changed)));
        assert_null(keys_find(keys, slice_of(changed)));
    }
    assert_null(keys_find(keys, (struct slice){.bytes = text, .size = KEYS_TEXT_SIZE - 1}));
    assert_null(keys_find(keys, slice_of("")));
    assert_null(keys_find(keys, slice_of("pk_")));
    keys_destroy(keys);
}

static void test_unknown_key_of_right_form(void **state)
{
    struct keys *keys = keys_create();
    struct keys *others = keys_create();
    char text[KEYS_TEXT_SIZE + 1];

    (void)state;
    generate(others, "acme", KEY_TENANT, text);
    assert_true(keys_is_well_formed(slice_of(text)));
    assert_null(keys_find(keys, slice_of(text)));
    generate(keys, "acme", KEY_TENANT, text);
    assert_null(keys_find(others, slice_of(text)));
    keys_destroy(keys);
    keys_destroy(others);
}

static void test_validity(void **state)
{
    struct key key = {.expires_at_ms = 1000};

    (void)state;
    assert_true(key_is_valid(&key, 999));
    assert_false(key_is_valid(&key, 1000));
    key.expires_at_ms = 0;
    assert_true(key_is_valid(&key, INT64_MAX));
    key.is_disabled = true;
    assert_false(key_is_valid(&key, 0));
}

static void test_save_and_load(void **state)
{
    const struct folder *folder = *state;
    struct keys *keys = keys_create();
    struct keys *loaded = NULL;
    char text[40][KEYS_TEXT_SIZE + 1];
    struct error_text why;
    struct stat info;

    for (unsigned i = 0; i < 40; i++)
        generate(keys, i % 2 ? "acme" : "b.c-d_e", i % 3 ? KEY_TENANT : KEY_ADMIN, text[i]);
    const struct key *key = keys_find(keys, slice_of(text[7]));
    assert_non_null(key);
    assert_int_equal(keys_set_disabled(keys, slice_of(key->id), true), 0);
    assert_int_equal(keys_save(keys, folder->file, &why), 0);
    assert_int_equal(stat(folder->file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);

    assert_int_equal(keys_load(folder->file, &loaded, &why), 0);
    assert_int_equal(keys_count(loaded), 40);
    for (unsigned i = 0; i < 40; i++) {
        const struct key *was = keys_find(keys, slice_of(text[i]));
        const struct key *is = keys_find(loaded, slice_of(text[i]));
        assert_non_null(is);
        assert_memory_equal(was, is, sizeof(*was));
    }
    assert_int_equal(keys_remove(loaded, slice_of(key->id)), 0);
    assert_int_equal(keys_remove(loaded, slice_of(key->id)), ERR_NOT_FOUND);
    assert_null(keys_find(loaded, slice_of(text[7])));
    assert_non_null(keys_find(loaded, slice_of(text[8])));
    keys_destroy(loaded);
    keys_destroy(keys);
}

/* Only hashes are written: no key can be read out of the file. */
static void test_file_has_no_secret(void **state)
{
    const struct folder *folder = *state;
    struct keys *keys = keys_create();
    char text[KEYS_TEXT_SIZE + 1], content[4096];
    struct error_text why;

    generate(keys, "acme", KEY_TENANT, text);
    assert_int_equal(keys_save(keys, folder->file, &why), 0);
    FILE *file = fopen(folder->file, "r");
    assert_non_null(file);
    size_t size = fread(content, 1, sizeof(content) - 1, file);
    content[size] = '\0';
    fclose(file);
    text[14 + 20] = '\0'; /* a part of the secret is enough to be sure */
    assert_null(strstr(content, text + 14));
    keys_destroy(keys);
}

static void test_empty_files(void **state)
{
    static const char *const texts[] = {"", "\n", "keys: []\n", "keys:\n", "# nothing\nkeys: []\n"};
    const struct folder *folder = *state;
    struct error_text why;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct keys *keys = NULL;
        write_file(folder, texts[i]);
        assert_int_equal(keys_load(folder->file, &keys, &why), 0);
        assert_int_equal(keys_count(keys), 0);
        keys_destroy(keys);
    }
}

#define ROW(id, rest) "keys:\n  - id: \"" id "\"\n    tenant: acme\n" rest
#define HASH "    hash: \"00000000000000000000000000000000000000000000000000000000000000ff\"\n"

static void test_wrong_files(void **state)
{
    static const struct {
        const char *text;
        const char *said;
    } cases[] = {
        {"keys: 5\n", ""},
        {"kees: []\n", "kees"},
        {ROW("0123456789", ""), "hash"},
        {ROW("0123456789", "    hash: \"zz\"\n"), "hash must be"},
        {ROW("012345678", HASH), "id must be"},
        {ROW("012345678u", HASH), "id must be"},
        {ROW("0123456789", HASH "    colour: red\n"), "colour"},
        {ROW("0123456789", HASH "    role: king\n"), ""},
        {ROW("0123456789", HASH "    weight: 1001\n"), "weight must be"},
        {ROW("0123456789", HASH "    weight: many\n"), ""},
        {ROW("0123456789", HASH "    limits: {jobs_max: -1}\n"), "must not be negative"},
        {"keys:\n  - id: \"0123456789\"\n    tenant: \"a b\"\n" HASH, "tenant must be"},
        {"keys:\n  - id: \"0123456789\"\n    tenant: _x\n" HASH, "tenant must be"},
        {ROW("0123456789", HASH "  - id: \"0123456789\"\n    tenant: acme\n" HASH), "twice"},
        {ROW("0123456789", HASH "    created_at: 170000001700000000\n"), "times are"},
        {ROW("0123456789", HASH "    expires_at: -9223372036854775807\n"), "times are"},
        {"keys: [", ""},
    };
    const struct folder *folder = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct keys *keys = NULL;
        struct error_text why = {.text = ""};
        write_file(folder, cases[i].text);
        assert_int_equal(keys_load(folder->file, &keys, &why), ERR_INVALID);
        assert_null(keys);
        assert_non_null(strstr(why.text, folder->file));
        if (!strstr(why.text, cases[i].said))
            fail_msg("\"%s\" is not in \"%s\"", cases[i].said, why.text);
    }
}

static void test_missing_file(void **state)
{
    const struct folder *folder = *state;
    struct keys *keys = NULL;
    struct error_text why;

    assert_int_equal(keys_load(folder->file, &keys, &why), ERR_NOT_FOUND);
    assert_int_equal(keys_load("/nowhere/at/all.yaml", &keys, &why), ERR_NOT_FOUND);
    keys = keys_create();
    assert_int_equal(keys_save(keys, "/nowhere/at/all.yaml", &why), ERR_IO);
    keys_destroy(keys);
}

static void test_defaults(void **state)
{
    const struct folder *folder = *state;
    struct keys *keys = NULL;
    struct error_text why;

    write_file(folder, ROW("0123456789", HASH));
    assert_int_equal(keys_load(folder->file, &keys, &why), 0);
    const struct key *key = keys_at(keys, 0);
    assert_int_equal(key->role, KEY_TENANT);
    assert_int_equal(key->weight, 1);
    assert_int_equal(key->hash[31], 0xff);
    assert_int_equal(key->limits.requests_per_second, 0);
    assert_true(key_is_valid(key, 0));
    keys_destroy(keys);
}

static void test_wrong_wishes(void **state)
{
    static const struct key_wish wishes[] = {
        {.tenant = ""},
        {.tenant = NULL},
        {.tenant = "a/b"},
        {.tenant = "_a"},
        {.tenant = "a", .weight = 1001},
        {.tenant = "a", .limits = {.bytes_max = -1}},
    };
    struct keys *keys = keys_create();

    (void)state;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        char text[KEYS_TEXT_SIZE + 1] = "untouched";
        struct error_text why = {.text = ""};
        assert_int_equal(keys_generate(keys, &wishes[i], text, &why), ERR_INVALID);
        assert_string_equal(text, "untouched");
        assert_true(why.text[0] != '\0');
    }
    assert_int_equal(keys_count(keys), 0);
    keys_destroy(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate_and_find),
        cmocka_unit_test(test_every_character_counts),
        cmocka_unit_test(test_unknown_key_of_right_form),
        cmocka_unit_test(test_validity),
        cmocka_unit_test_setup_teardown(test_save_and_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_has_no_secret, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test(test_wrong_wishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
