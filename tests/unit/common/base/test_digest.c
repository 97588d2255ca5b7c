/* Published vectors, and random bytes that do not repeat after fork. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/digest.h"

static void test_sha256(void **state)
{
    uint8_t hash[DIGEST_SHA256_SIZE];
    char hex[2 * DIGEST_SHA256_SIZE + 1];
    (void)state;

    digest_sha256("abc", 3, hash); /* FIPS 180-2 */
    digest_hex(hash, sizeof hash, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_sha256(NULL, 0, hash);
    digest_hex(hash, sizeof hash, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void test_hmac_sha256(void **state)
{
    uint8_t hash[DIGEST_SHA256_SIZE];
    char hex[2 * DIGEST_SHA256_SIZE + 1];
    uint8_t key[131];
    (void)state;

    digest_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, hash); /* RFC 4231, case 2 */
    digest_hex(hash, sizeof hash, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key); /* case 6 */
    digest_hmac_sha256(key, sizeof key, "Test Using Larger Than Block-Size Key - Hash Key First",
                       54, hash);
    digest_hex(hash, sizeof hash, hex);
    assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_crc32c(void **state)
{
    uint8_t bytes[32];
    (void)state;

    memset(bytes, 0, sizeof bytes); /* RFC 3720, B.4 */
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    assert_int_equal(digest_crc32c_portable(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x46dd794e);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(digest_crc32c(0, bytes, sizeof bytes), 0x113fdb5c);
    assert_int_equal(digest_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(digest_crc32c(0, "", 0), 0);
}

static void test_crc32c_in_pieces(void **state)
{
    uint8_t bytes[101];
    (void)state;

    digest_random(bytes, sizeof bytes);
    uint32_t whole = digest_crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        uint32_t first = digest_crc32c(0, bytes, cut);
        assert_int_equal(digest_crc32c(first, bytes + cut, sizeof bytes - cut), whole);
        assert_int_equal(digest_crc32c_portable(first, bytes + cut, sizeof bytes - cut), whole);
    }
}

static void test_siphash(void **state)
{
    const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    const uint64_t other[2] = {1, 2};
    uint8_t bytes[15];
    (void)state;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_true(digest_siphash(key, bytes, 15) == UINT64_C(0xa129ca6149be45e5)); /* the paper's */
    assert_true(digest_siphash(key, bytes, 0) == UINT64_C(0x726fdb47dd0e0e31));
    assert_true(digest_siphash(key, bytes, 8) == UINT64_C(0x93f5f5799a932462));
    assert_true(digest_siphash(other, bytes, 8) != UINT64_C(0x93f5f5799a932462));
}

static void test_random_differs(void **state)
{
    enum { DRAWS = 2000 };
    static uint64_t drawn[DRAWS];
    uint8_t large[5000] = {0};
    size_t zeros = 0;
    (void)state;

    for (size_t i = 0; i < DRAWS; i++) {
        drawn[i] = digest_random_u64();
        for (size_t j = 0; j < i; j++)
            assert_true(drawn[i] != drawn[j]);
    }
    digest_random(large, sizeof large);
    for (size_t i = 0; i < sizeof large; i++)
        zeros += large[i] == 0;
    assert_true(zeros < 200); /* 20 are to be expected */
}

static void test_random_differs_after_fork(void **state)
{
    uint8_t mine[32];
    uint8_t theirs[32] = {0};
    int ends[2];
    int status = 0;
    (void)state;

    (void)digest_random_u64(); /* the pool is filled before the fork */
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        digest_random(theirs, sizeof theirs);
        _exit(write(ends[1], theirs, sizeof theirs) == (ssize_t)sizeof theirs ? 0 : 1);
    }
    assert_true(pid > 0);
    digest_random(mine, sizeof mine);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], theirs, sizeof theirs), (int)sizeof theirs);
    assert_memory_not_equal(mine, theirs, sizeof mine);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void test_equal_and_wipe(void **state)
{
    char bytes[] = "secret";
    (void)state;
    assert_true(digest_equal("abc", "abc", 3));
    assert_false(digest_equal("abc", "abd", 3));
    assert_true(digest_equal("abc", "xyz", 0));
    digest_wipe(bytes, sizeof bytes);
    assert_memory_equal(bytes, "\0\0\0\0\0\0", sizeof bytes);
}

static void test_base32(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x44, 0x32, 0x14, 0xc7};
    char out[9] = "";
    (void)state;

    digest_base32(bytes, 40, out);
    assert_string_equal(out, "01234567");
    memset(out, 0, sizeof out);
    digest_base32((const uint8_t *)"\xff\xff", 16, out); /* 11111 11111 11111 1(0000) */
    assert_string_equal(out, "zzzg");
    for (int i = 0; i < 256; i++) {
        int value = digest_base32_value((char)i);
        bool is_letter = i != 0 && strchr("0123456789abcdefghjkmnpqrstvwxyz", i) != NULL;
        assert_int_equal(value >= 0, is_letter);
    }
    assert_int_equal(digest_base32_value('z'), 31);
    assert_int_equal(digest_base32_value('A'), -1);
    assert_int_equal(digest_base32_value('\0'), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_hmac_sha256),
        cmocka_unit_test(test_crc32c),
        cmocka_unit_test(test_crc32c_in_pieces),
        cmocka_unit_test(test_siphash),
        cmocka_unit_test(test_random_differs),
        cmocka_unit_test(test_random_differs_after_fork),
        cmocka_unit_test(test_equal_and_wipe),
        cmocka_unit_test(test_base32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
