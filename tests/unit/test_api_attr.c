/* SPDX-License-Identifier: MIT */
/* Times, owners and extended attributes. */
#include "api.h"

#include <sys/xattr.h>

/* ---- times ------------------------------------------------------------------------------------------------------ */

static const struct timespec old[2] = { { .tv_sec = 100, .tv_nsec = 1 },
                                        { .tv_sec = 200, .tv_nsec = 999999999 } };

static bool is_at(struct timespec is, struct timespec at)
{
    return is.tv_sec == at.tv_sec && is.tv_nsec == at.tv_nsec;
}

static bool is_recent(struct timespec time)
{
    return time.tv_sec > 1000000;
}

static bool is_later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void test_api_utimens_sets_now_and_omits(void **state)
{
    static const struct timespec only_mtime[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 300 } };
    static const struct timespec only_atime_now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
    static const struct timespec bad[2] = { { .tv_nsec = 1000000000 }, { .tv_nsec = 0 } };

    put_text("f", "");
    assert_int_equal(shmfs_utimens(fs, "f", old, 0), 0);
    assert_true(is_at(stat_of("f").st_atim, old[0]) && is_at(stat_of("f").st_mtim, old[1]));
    assert_true(is_recent(stat_of("f").st_ctim));
    assert_int_equal(shmfs_utimens(fs, "f", only_mtime, 0), 0);
    assert_true(is_at(stat_of("f").st_atim, old[0]) && is_at(stat_of("f").st_mtim, only_mtime[1]));
    assert_int_equal(shmfs_utimens(fs, "f", only_atime_now, 0), 0);
    assert_true(is_recent(stat_of("f").st_atim) && is_at(stat_of("f").st_mtim, only_mtime[1]));
    assert_int_equal(shmfs_utimens(fs, "f", NULL, 0), 0);
    assert_true(is_recent(stat_of("f").st_mtim));
    assert_int_equal(shmfs_utimens(fs, "f", bad, 0), -EINVAL);
    assert_int_equal(shmfs_utimens(fs, "f", old, 77), -EINVAL);
    struct shmfs_file *file = open_file("f", O_RDONLY);
    assert_int_equal(shmfs_futimens(file, old), 0);
    assert_true(is_at(stat_of("f").st_atim, old[0]));
    assert_int_equal(shmfs_futimens(file, NULL), 0);
    assert_true(is_recent(stat_of("f").st_atim));
    close_file(file);
}

static void test_api_utimens_of_a_link_itself(void **state)
{
    put_text("f", "");
    assert_int_equal(shmfs_symlink(fs, "f", "l"), 0);
    assert_int_equal(shmfs_utimens(fs, "l", old, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(is_at(stat_of("l").st_mtim, old[1]) && is_recent(stat_of("f").st_mtim));
    assert_int_equal(shmfs_utimens(fs, "l", old, 0), 0);
    assert_true(is_at(stat_of("f").st_mtim, old[1]));
}

/* Whether each of the operations moves mtime and ctime: by what was there before. */
static void test_api_changes_set_the_times_that_posix_says(void **state)
{
    char c;

    put_text("f", "text");
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    struct shmfs_file *file = open_file("f", O_RDWR);

    struct stat was = stat_of("f");
    assert_int_equal(shmfs_pwrite(file, "x", 1, 0), 1);
    assert_true(is_later(stat_of("f").st_mtim, was.st_mtim) && is_later(stat_of("f").st_ctim, was.st_ctim));
    was = stat_of("f");
    assert_int_equal(shmfs_fchmod(file, 0600), 0);
    assert_true(is_at(stat_of("f").st_mtim, was.st_mtim) && is_later(stat_of("f").st_ctim, was.st_ctim));
    was = stat_of("f");
    struct stat dir = stat_of("d");
    assert_int_equal(shmfs_link(fs, "f", "d/f"), 0);
    assert_true(is_later(stat_of("f").st_ctim, was.st_ctim) && is_at(stat_of("f").st_mtim, was.st_mtim));
    assert_true(is_later(stat_of("d").st_mtim, dir.st_mtim) && is_later(stat_of("d").st_ctim, dir.st_ctim));
    dir = stat_of("d");
    assert_int_equal(shmfs_rename(fs, "d/f", "d/g", 0), 0);
    assert_true(is_later(stat_of("d").st_mtim, dir.st_mtim));
    dir = stat_of("d");
    assert_int_equal(shmfs_unlink(fs, "d/g"), 0);
    assert_true(is_later(stat_of("d").st_mtim, dir.st_mtim));
    was = stat_of("f");
    assert_int_equal(shmfs_ftruncate(file, 1), 0);
    assert_true(is_later(stat_of("f").st_mtim, was.st_mtim));
    was = stat_of("f");
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "v", 1, 0), 0);
    assert_true(is_later(stat_of("f").st_ctim, was.st_ctim) && is_at(stat_of("f").st_mtim, was.st_mtim));
    was = stat_of("f");
    assert_int_equal(shmfs_pread(file, &c, 1, 0), 1);
    assert_true(is_at(stat_of("f").st_mtim, was.st_mtim) && is_at(stat_of("f").st_ctim, was.st_ctim));
    close_file(file);
}

static bool read_moves_atime(struct shmfs *by, int oflags)
{
    struct shmfs_file *file = open_in(by, "f", oflags);
    struct timespec was = stat_of("f").st_atim;
    char c;

    CHECK_EQ(shmfs_pread(file, &c, 1, 0), 1);
    CHECK_EQ(shmfs_close(file), 0);
    return !is_at(stat_of("f").st_atim, was);
}

static void test_api_reading_moves_atime_as_relatime_does(void **state)
{
    struct shmfs *quiet = api_attach(SHMFS_NOATIME);

    put_text("f", "text");
    assert_int_equal(shmfs_utimens(fs, "f", old, 0), 0); /* atime is before mtime */
    assert_false(read_moves_atime(fs, O_RDONLY | O_NOATIME));
    assert_false(read_moves_atime(quiet, O_RDONLY));
    assert_true(read_moves_atime(fs, O_RDONLY));
    assert_false(read_moves_atime(fs, O_RDONLY)); /* it is after mtime and ctime, and not a day old */
    shmfs_detach(quiet);
}

/* ---- owners --------------------------------------------------------------------------------------------------------- */

static void test_api_chown_follows_links_and_lchown_does_not(void **state)
{
    if (geteuid() != 0)
        skip();
    put_text("f", "");
    assert_int_equal(shmfs_symlink(fs, "f", "l"), 0);
    assert_int_equal(shmfs_chown(fs, "l", 11, 12), 0);
    assert_int_equal(shmfs_lchown(fs, "l", 21, 22), 0);
    assert_int_equal(stat_of("f").st_uid, 11);
    assert_int_equal(stat_of("f").st_gid, 12);
    assert_int_equal(stat_of("l").st_uid, 21);
    assert_int_equal(stat_of("l").st_gid, 22);
    struct shmfs_file *file = open_file("f", O_RDONLY);
    assert_int_equal(shmfs_fchown(file, (uid_t)-1, 32), 0);
    assert_int_equal(stat_of("f").st_uid, 11);
    assert_int_equal(stat_of("f").st_gid, 32);
    assert_int_equal(shmfs_fchmod(file, 0123), 0);
    assert_int_equal(stat_of("f").st_mode, S_IFREG | 0123);
    close_file(file);
}

/* ---- extended attributes ---------------------------------------------------------------------------------------- */

static void test_api_xattr_is_read_back(void **state)
{
    static const char *const names[] = { "user.x", "trusted.x", "security.x" };
    char value[64];

    if (geteuid() != 0)
        skip();
    put_text("f", "");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_int_equal(shmfs_getxattr(fs, "f", names[i], value, sizeof(value)), -ENODATA);
        assert_int_equal(shmfs_setxattr(fs, "f", names[i], "value", 5, 0), 0);
        memset(value, '#', sizeof(value));
        assert_int_equal(shmfs_getxattr(fs, "f", names[i], value, sizeof(value)), 5);
        assert_memory_equal(value, "value#", 6);
        assert_int_equal(shmfs_setxattr(fs, "f", names[i], "", 0, 0), 0);
        assert_int_equal(shmfs_getxattr(fs, "f", names[i], value, sizeof(value)), 0);
    }
    assert_int_equal(shmfs_listxattr(fs, "f", value, sizeof(value)), 7 + 10 + 11);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_int_equal(shmfs_removexattr(fs, "f", names[i]), 0);
        assert_int_equal(shmfs_removexattr(fs, "f", names[i]), -ENODATA);
    }
    assert_int_equal(shmfs_listxattr(fs, "f", value, sizeof(value)), 0);
}

static void test_api_xattr_asks_for_sizes(void **state)
{
    char small[4] = "####";

    put_text("f", "");
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "value", 5, 0), 0);
    assert_int_equal(shmfs_getxattr(fs, "f", "user.x", NULL, 0), 5);
    assert_int_equal(shmfs_getxattr(fs, "f", "user.x", small, 4), -ERANGE);
    assert_int_equal(shmfs_listxattr(fs, "f", NULL, 0), 7);
    assert_int_equal(shmfs_listxattr(fs, "f", small, 4), -ERANGE);
    assert_memory_equal(small, "####", 4);
}

static void test_api_xattr_create_and_replace(void **state)
{
    char value[8];

    put_text("f", "");
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "1", 1, XATTR_REPLACE), -ENODATA);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "2", 1, XATTR_CREATE), 0);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "3", 1, XATTR_CREATE), -EEXIST);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "4", 1, XATTR_REPLACE), 0);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.x", "5", 1, 64), -EINVAL);
    assert_int_equal(shmfs_getxattr(fs, "f", "user.x", value, sizeof(value)), 1);
    assert_int_equal(value[0], '4');
}

static void test_api_xattr_limits(void **state)
{
    static char value[65537], back[65536];
    char name[300] = "user.";

    put_text("f", "");
    memset(value, 'v', sizeof(value));
    assert_int_equal(shmfs_setxattr(fs, "f", "user.big", value, 65536, 0), 0);
    assert_int_equal(shmfs_getxattr(fs, "f", "user.big", back, sizeof(back)), 65536);
    assert_memory_equal(value, back, 65536);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.big", value, 65537, 0), -E2BIG);
    memset(name + 5, 'n', 250);
    assert_int_equal(shmfs_setxattr(fs, "f", name, "v", 1, 0), 0);
    name[255] = 'n';
    assert_int_equal(shmfs_setxattr(fs, "f", name, "v", 1, 0), -ERANGE);
    assert_int_equal(shmfs_setxattr(fs, "f", "", "v", 1, 0), -ERANGE);
    assert_int_equal(shmfs_setxattr(fs, "f", "user.", "v", 1, 0), -EINVAL);
    assert_int_equal(shmfs_setxattr(fs, "f", "unknown.x", "v", 1, 0), -EOPNOTSUPP);
    assert_int_equal(shmfs_getxattr(fs, "f", "unknown.x", back, 1), -EOPNOTSUPP);
    assert_int_equal(shmfs_removexattr(fs, "f", "unknown.x"), -EOPNOTSUPP);
    for (int i = 0, r = 0; r == 0; i++) { /* there is an end to what one file takes */
        snprintf(name, sizeof(name), "user.%d", i);
        r = shmfs_setxattr(fs, "f", name, value, 60000, 0);
        assert_true(r == 0 || (r == -ENOSPC && i > 1));
    }
}

static void test_api_xattr_follows_links_and_the_l_forms_do_not(void **state)
{
    char value[8];

    if (geteuid() != 0)
        skip();
    put_text("f", "");
    assert_int_equal(shmfs_symlink(fs, "f", "l"), 0);
    assert_int_equal(shmfs_setxattr(fs, "l", "user.x", "v", 1, 0), 0);
    assert_int_equal(shmfs_getxattr(fs, "f", "user.x", value, sizeof(value)), 1);
    assert_int_equal(shmfs_lsetxattr(fs, "l", "user.x", "v", 1, 0), -EPERM);
    assert_int_equal(shmfs_lsetxattr(fs, "l", "trusted.x", "link", 4, 0), 0);
    assert_int_equal(shmfs_lgetxattr(fs, "l", "trusted.x", value, sizeof(value)), 4);
    assert_int_equal(shmfs_getxattr(fs, "l", "trusted.x", value, sizeof(value)), -ENODATA);
    assert_int_equal(shmfs_llistxattr(fs, "l", NULL, 0), 10);
    assert_int_equal(shmfs_listxattr(fs, "l", NULL, 0), 7);
    assert_int_equal(shmfs_lremovexattr(fs, "l", "trusted.x"), 0);
    assert_int_equal(shmfs_lremovexattr(fs, "l", "trusted.x"), -ENODATA);
    assert_int_equal(shmfs_removexattr(fs, "l", "user.x"), 0);
    assert_int_equal(shmfs_getxattr(fs, "none", "user.x", value, sizeof(value)), -ENOENT);
    assert_int_equal(shmfs_mknod(fs, "fifo", S_IFIFO | 0666, 0), 0);
    assert_int_equal(shmfs_setxattr(fs, "fifo", "user.x", "v", 1, 0), -EPERM);
}

static void as_a_user(void)
{
    char value[64];

    become(NOBODY, NOBODY, 0);
    CHECK_EQ(shmfs_setxattr(fs, "f", "user.x", "v", 1, 0), 0);
    CHECK_EQ(shmfs_setxattr(fs, "f", "trusted.x", "v", 1, 0), -EPERM);
    CHECK_EQ(shmfs_getxattr(fs, "f", "trusted.x", value, sizeof(value)), -ENODATA);
    CHECK_EQ(shmfs_listxattr(fs, "f", value, sizeof(value)), 7);
    CHECK_EQ(shmfs_setxattr(fs, "sticky", "user.x", "v", 1, 0), -EPERM);
    CHECK_EQ(shmfs_setxattr(fs, "readable", "user.x", "v", 1, 0), -EACCES);
    CHECK_EQ(shmfs_setxattr(fs, "f", "security.x", "v", 1, 0), -EPERM);
    CHECK_EQ(shmfs_setxattr(fs, "sticky", "unknown.x", "v", 1, 0), -EOPNOTSUPP);
}

static void test_api_xattr_namespaces_have_their_own_rules(void **state)
{
    if (geteuid() != 0)
        skip();
    put_text("f", "");
    put_text("readable", "");
    assert_int_equal(shmfs_chmod(fs, "f", 0666), 0);
    assert_int_equal(shmfs_setxattr(fs, "f", "trusted.x", "v", 1, 0), 0);
    assert_int_equal(shmfs_mkdir(fs, "sticky", 0755), 0);
    assert_int_equal(shmfs_chmod(fs, "sticky", 01777), 0);
    in_child(as_a_user);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_utimens_sets_now_and_omits),
        api_unit(test_api_utimens_of_a_link_itself),
        api_unit(test_api_changes_set_the_times_that_posix_says),
        api_unit(test_api_reading_moves_atime_as_relatime_does),
        api_unit(test_api_chown_follows_links_and_lchown_does_not),
        api_unit(test_api_xattr_is_read_back),
        api_unit(test_api_xattr_asks_for_sizes),
        api_unit(test_api_xattr_create_and_replace),
        api_unit(test_api_xattr_limits),
        api_unit(test_api_xattr_follows_links_and_the_l_forms_do_not),
        api_unit(test_api_xattr_namespaces_have_their_own_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
