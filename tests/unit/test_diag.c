/* SPDX-License-Identifier: MIT */
/* shmfs_diag_text(): one clear line for each way in which a region can be refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base.h"
#include "node.h"

#define PATH "/dev/shm/some-region"

/* Begins with the path, is one line, and says after the reason what to do. */
static void assert_well_formed(const char *text)
{
    assert_memory_equal(text, PATH ": ", strlen(PATH ": "));
    assert_null(strchr(text, '\n'));
    if (!strstr(text, "; "))
        fail_msg("no way out is named: %s", text);
}

static void test_diag_names_path_and_way_out_for_every_reason(void **state)
{
    char seen[SHMFS_REASON_NOT_FILE + 1][512];

    for (int reason = SHMFS_REASON_NONE + 1; reason <= SHMFS_REASON_NOT_FILE; reason++) {
        struct shmfs_diag diag = { .reason = (enum shmfs_reason)reason, .a = 4711, .b = 4096 };
        char *text = seen[reason];

        assert_ptr_equal(shmfs_diag_text(&diag, -EUCLEAN, PATH, text, sizeof(seen[reason])), text);
        assert_well_formed(text);
        assert_null(strstr(text, "reason")); /* the fallback for reasons unknown */
        for (int other = 1; other < reason; other++)
            assert_string_not_equal(text, seen[other]);
    }
}

static void expect_text(enum shmfs_reason reason, uint64_t a, uint64_t b, const char *part)
{
    struct shmfs_diag diag = { .reason = reason, .a = a, .b = b };
    char text[512];

    shmfs_diag_text(&diag, -EBUSY, PATH, text, sizeof(text));
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
    assert_well_formed(text);
}

static void test_diag_names_the_numbers(void **state)
{
    expect_text(SHMFS_REASON_VERSION, 7, 1, "format version 7, but this shmfs knows version 1");
    expect_text(SHMFS_REASON_FEATURE, 0x10, 0, "does not know (0x10)");
    expect_text(SHMFS_REASON_FEATURE, 0, 0x20, "may only read (0x20)");
    expect_text(SHMFS_REASON_TRUNCATED, 1000, 2000, "1000 bytes of 2000");
    expect_text(SHMFS_REASON_IN_USE, 4711, 0, "in use by process 4711");
    expect_text(SHMFS_REASON_IN_USE, 0, 0, "in use by another process");
    expect_text(SHMFS_REASON_MOUNTED, 4711, 0, "mounted by process 4711");
    expect_text(SHMFS_REASON_FULL, 256, 0, "all of its 256 places");
}

static void test_diag_names_bounds_exactly_and_in_a_form_that_can_be_given_back(void **state)
{
    expect_text(SHMFS_REASON_TOO_SMALL, 4096, 1 << 20,
                "size of 4K is too small; the smallest that works is 1M");
    expect_text(SHMFS_REASON_TOO_SMALL, 1, 1052672,
                "size of 1 is too small; the smallest that works is 1028K");
    expect_text(SHMFS_REASON_TOO_LARGE, UINT64_MAX, UINT64_C(1) << 44,
                "size of 18446744073709551615 is too large; the largest that works is 16777216M");
}

static void test_diag_names_errno_where_there_is_no_reason(void **state)
{
    static const int errors[] = { ENOENT, EACCES, EPERM,   EEXIST, EBUSY,   ENOSPC,       EDQUOT, ENOMEM,
                                  EAGAIN, EROFS,  ELOOP,   EISDIR, ENOTDIR, ENAMETOOLONG, EMFILE, ENFILE,
                                  EFBIG,  EIO,    EUCLEAN, EINVAL, ENODEV,  EOPNOTSUPP };
    struct shmfs_diag none = { .reason = SHMFS_REASON_NONE };
    char text[512];

    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        shmfs_diag_text(&none, -errors[i], PATH, text, sizeof(text));
        assert_well_formed(text);
        assert_non_null(strstr(text, strerror(errors[i])));
    }
    shmfs_diag_text(NULL, -EACCES, PATH, text, sizeof(text));
    assert_non_null(strstr(text, "Permission denied"));
    shmfs_diag_text(&none, -ENOTTY, PATH, text, sizeof(text));
    assert_string_equal(text, PATH ": Inappropriate ioctl for device");
}

static void test_diag_tells_a_missing_file_from_a_missing_directory(void **state)
{
    char text[512];

    shmfs_diag_text(NULL, -ENOENT, "/dev/null.not-there", text, sizeof(text));
    assert_non_null(strstr(text, "mkfs.shmfs"));
    shmfs_diag_text(NULL, -ENOENT, "/no-such-directory/region", text, sizeof(text));
    assert_non_null(strstr(text, "make its directory first"));
    shmfs_diag_text(NULL, -ENOENT, "region", text, sizeof(text));
    assert_non_null(strstr(text, "mkfs.shmfs"));
}

static void test_diag_stays_one_line_and_in_its_buffer(void **state)
{
    struct shmfs_diag diag = { .reason = SHMFS_REASON_NOT_REGION };
    char text[64], small[8];

    shmfs_diag_text(&diag, -EUCLEAN, "/a\nb\033[31m", text, sizeof(text));
    assert_memory_equal(text, "/a?b?[31m: is not", 17);
    assert_int_equal(strlen(text), sizeof(text) - 1);

    memset(small, 'x', sizeof(small));
    shmfs_diag_text(&diag, -EUCLEAN, PATH, small, 5);
    assert_memory_equal(small, "/dev\0xxx", 8);
    shmfs_diag_text(&diag, -EUCLEAN, PATH, small, 0);
    assert_memory_equal(small, "/dev\0xxx", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diag_names_path_and_way_out_for_every_reason),
        cmocka_unit_test(test_diag_names_the_numbers),
        cmocka_unit_test(test_diag_names_bounds_exactly_and_in_a_form_that_can_be_given_back),
        cmocka_unit_test(test_diag_names_errno_where_there_is_no_reason),
        cmocka_unit_test(test_diag_tells_a_missing_file_from_a_missing_directory),
        cmocka_unit_test(test_diag_stays_one_line_and_in_its_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
