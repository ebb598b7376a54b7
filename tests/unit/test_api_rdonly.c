/* SPDX-License-Identifier: MIT */
/* Attached for reading only: leaves no trace, sees whole states, and waits for nobody for ever (A14). */
#include "api.h"

#include <sys/mman.h>

static struct shmfs *reader;

static int rdonly_setup(void **state)
{
    api_setup(state);
    put_text("f", "text");
    MUST(shmfs_mkdir(fs, "d", 0755));
    put_text("d/in", "within");
    MUST(shmfs_symlink(fs, "d/in", "l"));
    MUST(shmfs_setxattr(fs, "f", "user.x", "value", 5, 0));
    reader = api_attach(SHMFS_RDONLY);
    return 0;
}

static int rdonly_teardown(void **state)
{
    shmfs_detach(reader);
    reader = NULL;
    return api_teardown(state);
}

#define rdonly_unit(f) cmocka_unit_test_setup_teardown(f, rdonly_setup, rdonly_teardown)

/* ---- what it can do ------------------------------------------------------------------------------------------- */

static void read_all_there_is(struct shmfs *by)
{
    const struct dirent *entry;
    struct shmfs_dir *dir;
    struct statvfs space;
    struct stat st;
    char buf[64] = "";
    int names = 0;

    CHECK_EQ(shmfs_stat(by, "l", &st), 0);
    CHECK_EQ(st.st_size, 6);
    CHECK_EQ(shmfs_readlink(by, "l", buf, sizeof(buf)), 4);
    CHECK_EQ(shmfs_access(by, "f", R_OK), 0);
    CHECK_EQ(shmfs_getxattr(by, "f", "user.x", buf, sizeof(buf)), 5);
    CHECK_EQ(shmfs_listxattr(by, "f", buf, sizeof(buf)), 7);
    CHECK_EQ(shmfs_statfs(by, &space), 0);
    CHECK_EQ((space.f_flag & ST_RDONLY) != 0, by == reader);
    CHECK_EQ(shmfs_opendir(by, "/", &dir), 0);
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        names++;
    CHECK_EQ(names, 5);
    CHECK_EQ(shmfs_closedir(dir), 0);
    struct shmfs_file *file = open_in(by, "l", O_RDONLY);
    CHECK_EQ(shmfs_pread(file, buf, sizeof(buf), 0), 6);
    CHECK(memcmp(buf, "within", 6) == 0);
    CHECK_EQ(shmfs_lseek_hole(file, 0), 6);
    CHECK_EQ(shmfs_close(file), 0);
}

static void test_api_rdonly_reads_all_there_is(void **state)
{
    read_all_there_is(reader);
}

static void test_api_rdonly_changes_nothing(void **state)
{
    static const struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
    struct shmfs_file *file;

    if (geteuid() != 0)
        skip();
    assert_int_equal(shmfs_open(reader, "f", O_RDWR, 0, &file), -EROFS);
    assert_int_equal(shmfs_open(reader, "f", O_WRONLY, 0, &file), -EROFS);
    assert_int_equal(shmfs_open(reader, "new", O_RDONLY | O_CREAT, 0600, &file), -EROFS);
    assert_int_equal(shmfs_open(reader, "/", O_TMPFILE | O_RDWR, 0600, &file), -EROFS);
    assert_int_equal(shmfs_open(reader, "f", O_RDONLY | O_TRUNC, 0600, &file), -EROFS);
    assert_int_equal(shmfs_truncate(reader, "f", 0), -EROFS);
    assert_int_equal(shmfs_mkdir(reader, "new", 0755), -EROFS);
    assert_int_equal(shmfs_rmdir(reader, "d"), -EROFS);
    assert_int_equal(shmfs_unlink(reader, "f"), -EROFS);
    assert_int_equal(shmfs_rename(reader, "f", "g", 0), -EROFS);
    assert_int_equal(shmfs_link(reader, "f", "g"), -EROFS);
    assert_int_equal(shmfs_symlink(reader, "f", "g"), -EROFS);
    assert_int_equal(shmfs_mknod(reader, "g", S_IFREG | 0600, 0), -EROFS);
    assert_int_equal(shmfs_chmod(reader, "f", 0600), -EROFS);
    assert_int_equal(shmfs_chown(reader, "f", 1, 1), -EROFS);
    assert_int_equal(shmfs_lchown(reader, "l", 1, 1), -EROFS);
    assert_int_equal(shmfs_utimens(reader, "f", old, 0), -EROFS);
    assert_int_equal(shmfs_setxattr(reader, "f", "user.y", "v", 1, 0), -EROFS);
    assert_int_equal(shmfs_removexattr(reader, "f", "user.x"), -EROFS);
    assert_int_equal(shmfs_access(reader, "f", W_OK), -EROFS);
    file = open_in(reader, "f", O_RDONLY);
    assert_int_equal(shmfs_fchmod(file, 0600), -EROFS);
    assert_int_equal(shmfs_fchown(file, 1, 1), -EROFS);
    assert_int_equal(shmfs_futimens(file, old), -EROFS);
    assert_int_equal(shmfs_close(file), 0);
    read_all_there_is(fs);
}

static void test_api_rdonly_sees_what_others_change_at_once(void **state)
{
    struct shmfs_file *file = open_in(reader, "f", O_RDONLY);
    char buf[16];

    for (int i = 0; i < 50; i++) {
        char c = (char)('a' + i % 26);
        put_bytes("f", c, 4);
        assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 0), 4);
        assert_true(all_are(buf, c, 4));
    }
    assert_int_equal(shmfs_close(file), 0);
}

static void test_api_rdonly_mapping_shows_the_file(void **state)
{
    struct shmfs_file *file = open_in(reader, "f", O_RDONLY);
    void *addr;

    assert_int_equal(shmfs_map(file, 0, PAGE, PROT_READ | PROT_WRITE, &addr), -EACCES);
    assert_int_equal(shmfs_map(file, 0, PAGE, PROT_READ, &addr), 0);
    assert_memory_equal(addr, "text", 5);
    struct shmfs_file *mine = open_file("f", O_WRONLY);
    assert_int_equal(shmfs_pwrite(mine, "T", 1, 0), 1);
    assert_memory_equal(addr, "Text", 5);
    close_file(mine);
    assert_int_equal(shmfs_unmap(reader, addr, PAGE), 0);
    assert_int_equal(shmfs_close(file), 0);
}

/* ---- no trace ------------------------------------------------------------------------------------------------------ */

static void test_api_rdonly_file_that_is_removed_is_estale(void **state)
{
    struct shmfs_file *file = open_in(reader, "f", O_RDONLY), *d = open_in(reader, "d", O_RDONLY);
    struct statvfs before = space_now();
    struct stat st;
    uint64_t version = 0;
    char buf[16];

    assert_int_equal(shmfs_wait(file, &version, 0), 0);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    assert_int_equal(space_now().f_ffree, before.f_ffree + 1);
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 0), -ESTALE);
    assert_int_equal(shmfs_fstat(file, &st), -ESTALE);
    assert_int_equal(shmfs_wait(file, &version, 1000), -ESTALE);
    put_text("another", "in its place"); /* may have got its number */
    assert_int_equal(shmfs_pread(file, buf, sizeof(buf), 0), -ESTALE);
    assert_int_equal(shmfs_fstat(file, &st), -ESTALE);
    assert_int_equal(shmfs_wait(file, &version, 1000), -ESTALE);
    assert_int_equal(shmfs_unlink(fs, "d/in"), 0);
    assert_int_equal(shmfs_rmdir(fs, "d"), 0);
    assert_int_equal(shmfs_fstat(d, &st), -ESTALE);
    assert_int_equal(shmfs_close(file), 0);
    assert_int_equal(shmfs_close(d), 0);
}

static void keep_reading(int fd, void *arg)
{
    struct shmfs *mine = api_attach(SHMFS_RDONLY);
    struct shmfs_file *file = open_in(mine, "f", O_RDONLY);
    char c;

    api_detach();
    CHECK_EQ(shmfs_pread(file, &c, 1, 0), 1);
    pass(fd);
    await(fd);
    CHECK_EQ(shmfs_pread(file, &c, 1, 0), 1);
    shmfs_detach(mine);
}

/* Its presence keeps the region from nothing: the last other process to detach leaves it clean. */
static void test_api_rdonly_is_noticed_by_nobody(void **state)
{
    struct superblock sb;
    struct child child = spawn(keep_reading, NULL);

    await(child.fd);
    api_detach();
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));
    CHECK_EQ(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
    assert_int_equal(sb.clean, 1);
    assert_int_equal(problems_of(region_path), 0);
    pass(child.fd);
    assert_ends_well(&child);
    fs = api_attach(0);
}

/* Reads by another user who may not write a single byte of the region. */
static void read_as_nobody(void)
{
    MUST(setgroups(0, NULL));
    MUST(setresgid(NOBODY, NOBODY, NOBODY));
    MUST(setresuid(NOBODY, NOBODY, NOBODY));
    struct shmfs *mine = NULL;
    CHECK_EQ(shmfs_attach(region_path, 0, &mine), -EACCES);
    mine = api_attach(SHMFS_RDONLY);
    reader = mine;
    read_all_there_is(mine);
    struct shmfs_file *file;
    CHECK_EQ(shmfs_open(mine, "d/secret", O_RDONLY, 0, &file), -EACCES);
    shmfs_detach(mine);
}

static void test_api_rdonly_needs_no_more_than_permission_to_read(void **state)
{
    if (geteuid() != 0)
        skip();
    put_text("d/secret", "");
    MUST(shmfs_chmod(fs, "d/secret", 0600));
    MUST(chown(region_path, 0, NOBODY));
    MUST(chmod(region_path, 0440));
    in_child(read_as_nobody);
}

/* ---- against writers --------------------------------------------------------------------------------------------- */

enum { WHOLE = 64 * 1024 };

static void write_for_ever(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_WRONLY);
    static char buf[WHOLE];

    for (unsigned n = 0;; n++) {
        memset(buf, 'a' + (int)(n % 26), sizeof(buf));
        CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), 0), sizeof(buf));
        CHECK_EQ(shmfs_rename(mine, n % 2 ? "d/moved" : "d/in", n % 2 ? "d/in" : "d/moved", 0), 0);
        if (n == 10)
            pass(fd);
    }
}

/* A whole state, or EAGAIN; returns whether it was a state. */
static bool look(struct shmfs_file *file)
{
    static char buf[WHOLE];
    ssize_t n = shmfs_pread(file, buf, sizeof(buf), 0);

    if (n != -EAGAIN) {
        assert_int_equal(n, sizeof(buf));
        assert_true(all_are(buf, buf[0], sizeof(buf)));
    }
    struct stat st;
    int r = shmfs_stat(reader, "d/in", &st);
    assert_true(r == 0 || r == -ENOENT || r == -EAGAIN);
    r = shmfs_stat(reader, "d/none", &st);
    assert_true(r == -ENOENT || r == -EAGAIN);
    return n >= 0;
}

static void test_api_rdonly_sees_whole_states_under_a_flat_out_writer(void **state)
{
    put_bytes("f", 'a', WHOLE);
    struct shmfs_file *file = open_in(reader, "f", O_RDONLY);
    struct child child = spawn(write_for_ever, NULL);
    unsigned states = 0;

    await(child.fd);
    for (int i = 0; i < 300 || states == 0; i++)
        states += look(file);
    murder(&child);
    assert_int_equal(shmfs_close(file), 0);
    print_message("             %u of 300 looks\n", states);
}

/* Stopped wherever it happens to be, and killed there: a look ends, and never shows half a change. */
static void test_api_rdonly_never_waits_for_ever_for_the_stopped_and_the_killed(void **state)
{
    unsigned states = 0, looks = 0;

    put_bytes("f", 'a', WHOLE);
    struct shmfs_file *file = open_in(reader, "f", O_RDONLY);
    for (int i = 0; i < 15; i++) {
        struct child child = spawn(write_for_ever, NULL);
        await(child.fd);
        for (int j = 0; j < 5; j++, looks++) {
            stop_child(&child);
            states += look(file);
            MUST(kill(child.pid, SIGCONT));
        }
        murder(&child);
        look(file);
        bury();
        assert_true(look(file));
        if (lstat_result("d/moved") == 0)
            assert_int_equal(shmfs_rename(fs, "d/moved", "d/in", 0), 0);
    }
    assert_int_equal(shmfs_close(file), 0);
    print_message("             %u of %u looks\n", states, looks);
}

static void test_api_rdonly_takes_no_locks_of_others(void **state)
{
    struct shmfs_file *file = open_in(reader, "f", O_RDONLY);
    struct flock all = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

    assert_int_equal(shmfs_flock(file, LOCK_SH | LOCK_NB), -EROFS);
    assert_int_equal(shmfs_fcntl(file, F_SETLK, &all), -EROFS);
    assert_int_equal(shmfs_close(file), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rdonly_unit(test_api_rdonly_reads_all_there_is),
        rdonly_unit(test_api_rdonly_changes_nothing),
        rdonly_unit(test_api_rdonly_sees_what_others_change_at_once),
        rdonly_unit(test_api_rdonly_mapping_shows_the_file),
        rdonly_unit(test_api_rdonly_file_that_is_removed_is_estale),
        rdonly_unit(test_api_rdonly_is_noticed_by_nobody),
        rdonly_unit(test_api_rdonly_needs_no_more_than_permission_to_read),
        rdonly_unit(test_api_rdonly_sees_whole_states_under_a_flat_out_writer),
        rdonly_unit(test_api_rdonly_never_waits_for_ever_for_the_stopped_and_the_killed),
        rdonly_unit(test_api_rdonly_takes_no_locks_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
