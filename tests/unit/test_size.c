/* SPDX-License-Identifier: MIT */
/* shmfs_size_parse() and shmfs_size_text(): sizes as truncate and df have them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base.h"
#include "node.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)
#define TIB (GIB * KIB)

struct good {
    const char *text;
    uint64_t bytes;
};

static void expect_good(const struct good *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = 1;
        int r = shmfs_size_parse(cases[i].text, &bytes);

        if (r != 0 || bytes != cases[i].bytes)
            fail_msg("'%s': returned %d and %ju, not %ju", cases[i].text, r, (uintmax_t)bytes,
                     (uintmax_t)cases[i].bytes);
    }
}

static void expect_bad(const char *const *texts, size_t n, int err)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = 4711;
        int r = shmfs_size_parse(texts[i], &bytes);

        if (r != err || bytes != 4711)
            fail_msg("'%s': returned %d and %ju, not %d with the result untouched", texts[i], r,
                     (uintmax_t)bytes, err);
    }
}

static void test_size_parse_takes_units_as_truncate_does(void **state)
{
    static const struct good cases[] = {
        { "0", 0 },
        { "1", 1 },
        { "4096", 4096 },
        { "0004096", 4096 },
        { "64K", 64 * KIB },
        { "64k", 64 * KIB },
        { "64KiB", 64 * KIB },
        { "64KB", 64000 },
        { "64kB", 64000 },
        { "3M", 3 * MIB },
        { "3m", 3 * MIB },
        { "3MiB", 3 * MIB },
        { "3MB", 3000000 },
        { "2G", 2 * GIB },
        { "2g", 2 * GIB },
        { "2GB", 2000000000 },
        { "7T", 7 * TIB },
        { "1P", 1024 * TIB },
        { "1E", 1024 * 1024 * TIB },
        { "15E", 15 * 1024 * 1024 * TIB },
        { "18446744073709551615", UINT64_MAX },
    };
    expect_good(cases, ARRAY_SIZE(cases));
}

static void test_size_parse_takes_fractions_and_cuts_them_to_whole_bytes(void **state)
{
    static const struct good cases[] = {
        { "1.5K", 1536 },
        { "1.5G", GIB + GIB / 2 },
        { "0.25M", MIB / 4 },
        { "1.0K", 1024 },
        { "0.0009K", 0 },
        { "0.001K", 1 },
        { "1.9999999999999999999999999999K", 2047 },
        { "11.8G", 12670153523 }, /* 11.8 * 2^30 is 12670153523.2 */
        { "0.1E", 115292150460684697 },
        { "15.9999999999999999999999999E", UINT64_MAX },
    };
    expect_good(cases, ARRAY_SIZE(cases));
}

static void test_size_parse_takes_percent_of_memory(void **state)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    const struct good cases[] = {
        { "0%", 0 },
        { "50%", memory / 2 },
        { "100%", memory },
        { "200%", 2 * memory },
        { "12.5%", memory / 8 },
    };
    expect_good(cases, ARRAY_SIZE(cases));
}

static void test_size_parse_refuses_what_is_no_size(void **state)
{
    static const char *const texts[] = {
        "",    " ",    "K",    "%",   "-1",  "+1",  " 1",  "1 ",    "1 K",    "1KK",
        "1Ki", "1KIB", "1Kib", "1X",  "1.K", ".5K", "1.5", "1..5K", "1,5G",   "0x10",
        "1e9", "1%%",  "1%K",  "1K%", "1B",  "1iB", "nan", "12G34", "1.5.5G",
    };
    expect_bad(texts, ARRAY_SIZE(texts), -EINVAL);
}

static void test_size_parse_refuses_what_cannot_be_counted(void **state)
{
    static const char *const texts[] = {
        "18446744073709551616", /* 2^64 */
        "99999999999999999999", "16E",          "18014398509481984K",
        "18014398509481984.0K", "17179869184G", "1000000000000000000%",
    };
    expect_bad(texts, ARRAY_SIZE(texts), -ERANGE);
}

static void test_size_text_is_as_df_shows_it(void **state)
{
    static const struct good cases[] = {
        { "0", 0 },
        { "1", 1 },
        { "1023", 1023 },
        { "1K", 1024 },
        { "1K", 1075 },
        { "1.1K", 1076 },
        { "1.5K", 1536 },
        { "64K", 64 * KIB },
        { "1023.9K", MIB - 100 },
        { "1M", MIB - 1 }, /* and not 1024K */
        { "11.8G", 12670153523 },
        { "1T", TIB },
        { "1T", TIB - 1 },
        { "16E", UINT64_MAX },
        { "1E", (UINT64_C(1) << 60) - 1 },
    };
    char buf[16];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_ptr_equal(shmfs_size_text(cases[i].bytes, buf, sizeof(buf)), buf);
        assert_string_equal(buf, cases[i].text);
    }
}

static void test_size_text_is_read_back(void **state)
{
    char buf[16];
    uint64_t back;

    /* Whole numbers of a unit exactly, all others within a twentieth of it. */
    for (unsigned shift = 0; shift < 64; shift++) {
        uint64_t bytes = UINT64_C(1) << shift;
        assert_int_equal(shmfs_size_parse(shmfs_size_text(bytes, buf, sizeof(buf)), &back), 0);
        assert_int_equal(back, bytes);

        bytes += bytes / 3;
        assert_int_equal(shmfs_size_parse(shmfs_size_text(bytes, buf, sizeof(buf)), &back), 0);
        assert_true((back > bytes ? back - bytes : bytes - back) <= bytes / 20);
    }
}

static void test_size_text_is_cut_to_the_buffer(void **state)
{
    char buf[4] = { 'x', 'x', 'x', 'x' };

    shmfs_size_text(12670153523, buf, 3);
    assert_string_equal(buf, "11");
    assert_int_equal(buf[3], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_parse_takes_units_as_truncate_does),
        cmocka_unit_test(test_size_parse_takes_fractions_and_cuts_them_to_whole_bytes),
        cmocka_unit_test(test_size_parse_takes_percent_of_memory),
        cmocka_unit_test(test_size_parse_refuses_what_is_no_size),
        cmocka_unit_test(test_size_parse_refuses_what_cannot_be_counted),
        cmocka_unit_test(test_size_text_is_as_df_shows_it),
        cmocka_unit_test(test_size_text_is_read_back),
        cmocka_unit_test(test_size_text_is_cut_to_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
