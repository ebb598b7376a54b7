/* SPDX-License-Identifier: MIT */
/* Opening: what the flags do, and how long an open file lives (A13, P2). */
#include "api_twin.h"

#include <sys/mman.h>

/* ---- flags, against the host (P7) ------------------------------------------------------------------ */

static const struct thing things[] = {
    { "/f", S_IFREG | 0644, 0, 0, NULL },
    { "/d", S_IFDIR | 0755, 0, 0, NULL },
    { "/lf", S_IFLNK, 0, 0, "f" },
    { "/ld", S_IFLNK, 0, 0, "d" },
    { "/none", S_IFLNK, 0, 0, "nothing" },
    { "/loop", S_IFLNK, 0, 0, "loop" },
    { "/far", S_IFLNK, 0, 0, "/d/not/there" },
};

static const char *const targets[] = {
    "/f",    "/f/", "/f/x", "/d",      "/d/",   "/d/new", "/new",
    "/new/", "/lf", "/ld",  "/ld/new", "/none", "/loop",  "/far",
};

/* The kernel's own versions disagree about these two at once. */
static bool is_moot(int oflags)
{
    return (oflags & O_CREAT) != 0 && (oflags & O_DIRECTORY) != 0;
}

static void every_combination(void)
{
    static const int flags[] = { O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_DIRECTORY, O_NOATIME };
    static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
    unsigned all = 1u << ARRAY_SIZE(flags);

    twin_begin(things, ARRAY_SIZE(things));
    for (unsigned n = 0; n < all * ARRAY_SIZE(modes); n++) {
        int oflags = modes[n / all] | O_CLOEXEC;
        for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
            oflags |= (n >> i & 1) != 0 ? flags[i] : 0;
        for (size_t i = 0; !is_moot(oflags) && i < ARRAY_SIZE(targets); i++)
            twin_do(&(struct job){ .op = OP_OPEN, .arg = (unsigned)oflags, .a = targets[i] }, 0);
    }
    twin_end();
}

static void test_api_open_takes_flags_as_the_host_does(void **state)
{
    twin_run(every_combination);
}

static void path_and_tmpfile(void)
{
    static const int oflags[] = {
        O_PATH,
        O_PATH | O_DIRECTORY,
        O_PATH | O_CLOEXEC,
        O_TMPFILE | O_RDWR,
        O_TMPFILE | O_WRONLY,
        O_TMPFILE | O_RDWR | O_EXCL,
        O_TMPFILE | O_RDONLY,
        O_TMPFILE | O_RDWR | O_APPEND,
    };

    twin_begin(things, ARRAY_SIZE(things));
    for (size_t k = 0; k < ARRAY_SIZE(oflags); k++)
        for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
            twin_do(&(struct job){ .op = OP_OPEN, .arg = (unsigned)oflags[k], .a = targets[i] }, 0);
    twin_end();
}

static void test_api_open_takes_path_and_tmpfile_as_the_host_does(void **state)
{
    twin_run(path_and_tmpfile);
}

static void test_api_open_refuses_what_is_no_file(void **state)
{
    static const mode_t types[] = { S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };

    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        assert_int_equal(shmfs_mknod(fs, "special", types[i] | 0666, 0x105), 0);
        assert_int_equal(open_result("special", O_RDONLY | O_NONBLOCK, 0), -ENXIO);
        assert_int_equal(open_result("special", O_RDWR, 0), -ENXIO);
        assert_int_equal(shmfs_unlink(fs, "special"), 0);
    }
}

static void test_api_open_flags_without_meaning_change_nothing(void **state)
{
    put_text("f", "text");
    assert_int_equal(open_result("f", O_RDWR | O_CLOEXEC | O_NONBLOCK | O_SYNC | O_DSYNC, 0), 0);
    assert_text("f", "text");
}

static void test_api_open_trunc_empties_and_raises_no_mode(void **state)
{
    put_text("f", "text");
    assert_int_equal(shmfs_chmod(fs, "f", 0604), 0);
    assert_int_equal(open_result("f", O_WRONLY | O_CREAT | O_TRUNC, 0777), 0);
    assert_int_equal(stat_of("f").st_size, 0);
    assert_int_equal(stat_of("f").st_mode, S_IFREG | 0604);
}

/* ---- what a handle allows ------------------------------------------------------------------------------ */

static void test_api_open_mode_is_enforced(void **state)
{
    struct flock all = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    char c;

    put_text("f", "text");
    struct shmfs_file *r = open_file("f", O_RDONLY), *w = open_file("f", O_WRONLY);
    assert_int_equal(shmfs_pwrite(r, "x", 1, 0), -EBADF);
    assert_int_equal(shmfs_append(r, "x", 1, NULL), -EBADF);
    assert_int_equal(shmfs_fallocate(r, 0, 0, 10), -EBADF);
    assert_int_equal(shmfs_ftruncate(r, 0), -EINVAL);
    assert_int_equal(shmfs_pread(w, &c, 1, 0), -EBADF);
    assert_int_equal(shmfs_fcntl(w, F_SETLK, &all), -EBADF);
    all.l_type = F_WRLCK;
    assert_int_equal(shmfs_fcntl(r, F_SETLK, &all), -EBADF);
    assert_int_equal(shmfs_fcntl(r, F_OFD_SETLK, &all), -EBADF);
    assert_int_equal(shmfs_fsync(r), 0);
    assert_int_equal(shmfs_fchmod(r, 0600), 0);
    close_file(r);
    close_file(w);
    assert_text("f", "text");
}

static void test_api_open_path_gives_a_handle_for_attributes_only(void **state)
{
    struct flock all = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    char c;

    put_text("f", "text");
    struct shmfs_file *p = open_file("f", O_PATH);
    assert_int_equal(fstat_of(p).st_size, 4);
    assert_int_equal(shmfs_pread(p, &c, 1, 0), -EBADF);
    assert_int_equal(shmfs_pwrite(p, "x", 1, 0), -EBADF);
    assert_int_equal(shmfs_append(p, "x", 1, NULL), -EBADF);
    assert_int_equal(shmfs_fcntl(p, F_SETLK, &all), -EBADF);
    assert_int_equal(shmfs_flock(p, LOCK_SH), -EBADF);
    assert_int_equal(shmfs_fallocate(p, 0, 0, 10), -EBADF);
    assert_int_equal(shmfs_lseek_data(p, 0), -EBADF);
    close_file(p);
}

static void test_api_open_directory_is_for_waiting_and_attributes(void **state)
{
    if (geteuid() != 0)
        skip();
    void *addr;
    char c;

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    struct shmfs_file *d = open_file("d", O_RDONLY);
    assert_true(S_ISDIR(fstat_of(d).st_mode));
    assert_int_equal(shmfs_fchmod(d, 0700), 0);
    assert_int_equal(shmfs_fchown(d, 1, 2), 0);
    assert_int_equal(shmfs_fsync(d), 0);
    assert_int_equal(shmfs_pread(d, &c, 1, 0), -EISDIR);
    assert_int_equal(shmfs_pwrite(d, "x", 1, 0), -EBADF);
    assert_true(shmfs_map(d, 0, PAGE, PROT_READ, &addr) < 0);
    close_file(d);
    assert_int_equal(stat_of("d").st_uid, 1);
    assert_int_equal(open_result("d", O_WRONLY, 0), -EISDIR);
    assert_int_equal(open_result("d", O_RDONLY | O_TRUNC, 0), -EISDIR);
}

/* ---- without a name ------------------------------------------------------------------------------------- */

static void test_api_open_file_lives_until_its_close(void **state)
{
    struct statvfs before = space_now();
    struct shmfs_file *file = open_file("f", O_RDWR | O_CREAT), *again = open_file("f", O_RDWR);

    put_bytes("f", 'a', 40 * PAGE);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    assert_int_equal(fstat_of(file).st_nlink, 0);
    assert_bytes(file, 'a', 40 * PAGE, 0);
    assert_int_equal(shmfs_pwrite(again, "b", 1, 40 * PAGE), 1);
    assert_bytes(file, 'b', 1, 40 * PAGE);
    assert_int_equal(shmfs_flink(file, "g"), -ENOENT);
    close_file(file);
    assert_int_equal(space_now().f_ffree, before.f_ffree - 1);
    assert_bytes(again, 'a', 40 * PAGE, 0);
    close_file(again);
    assert_space(&before);
}

static void test_api_open_file_replaced_by_rename_lives_on(void **state)
{
    put_text("f", "old");
    put_text("g", "new");
    struct statvfs before = space_now();
    struct shmfs_file *file = open_file("f", O_RDONLY);
    char buf[4] = "";

    assert_int_equal(shmfs_rename(fs, "g", "f", 0), 0);
    assert_int_equal(shmfs_pread(file, buf, 3, 0), 3);
    assert_string_equal(buf, "old");
    close_file(file);
    assert_text("f", "new");
    assert_int_equal(space_now().f_ffree, before.f_ffree + 1);
    assert_int_equal(space_now().f_bfree, before.f_bfree + 1);
}

static void test_api_open_directory_that_is_removed_lives_on(void **state)
{
    struct statvfs before = space_now();

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    struct shmfs_file *d = open_file("d", O_RDONLY);
    assert_int_equal(shmfs_rmdir(fs, "d"), 0);
    assert_int_equal(fstat_of(d).st_nlink, 0);
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    assert_int_not_equal(fstat_of(d).st_ino, stat_of("d").st_ino);
    assert_int_equal(shmfs_rmdir(fs, "d"), 0);
    close_file(d);
    assert_space(&before);
}

static void test_api_tmpfile_has_no_name_until_it_is_given_one(void **state)
{
    struct statvfs before = space_now();
    struct shmfs_file *file;

    assert_int_equal(shmfs_open(fs, "/", O_TMPFILE | O_RDWR, 0640, &file), 0);
    assert_int_equal(fstat_of(file).st_nlink, 0);
    assert_int_equal(fstat_of(file).st_mode, S_IFREG | 0640);
    assert_int_equal(shmfs_pwrite(file, "text", 4, 0), 4);
    put_text("taken", "");
    assert_int_equal(shmfs_flink(file, "taken"), -EEXIST);
    assert_int_equal(shmfs_flink(file, "no/such"), -ENOENT);
    assert_int_equal(shmfs_flink(file, "named"), 0);
    assert_text("named", "text");
    assert_int_equal(shmfs_flink(file, "again"), 0);
    assert_int_equal(fstat_of(file).st_nlink, 2);
    close_file(file);
    assert_text("again", "text");
    assert_int_equal(shmfs_unlink(fs, "again"), 0);
    assert_int_equal(shmfs_unlink(fs, "named"), 0);
    assert_int_equal(shmfs_unlink(fs, "taken"), 0);
    assert_space(&before);
}

static void test_api_tmpfile_that_is_closed_is_gone(void **state)
{
    struct statvfs before = space_now();
    struct shmfs_file *file;

    assert_int_equal(shmfs_open(fs, "/", O_TMPFILE | O_WRONLY, 0600, &file), 0);
    assert_int_equal(shmfs_append(file, "text", 4, NULL), 4);
    close_file(file);
    assert_space(&before);
}

static void test_api_tmpfile_with_excl_gets_no_name(void **state)
{
    struct shmfs_file *file;

    assert_int_equal(shmfs_open(fs, "/", O_TMPFILE | O_RDWR | O_EXCL, 0600, &file), 0);
    assert_int_equal(shmfs_flink(file, "named"), -ENOENT);
    close_file(file);
}

/* ---- opens of the dead (P2) -------------------------------------------------------------------------------- */

static void open_unlink_and_stay(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);
    struct shmfs_file *file = open_in(mine, "f", O_RDWR | O_CREAT), *tmp;
    char buf[3 * PAGE] = "";

    CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), 0), sizeof(buf));
    CHECK_EQ(shmfs_open(mine, "/", O_TMPFILE | O_RDWR, 0600, &tmp), 0);
    CHECK_EQ(shmfs_pwrite(tmp, buf, sizeof(buf), 0), sizeof(buf));
    CHECK_EQ(shmfs_unlink(mine, "f"), 0);
    pass(fd);
    await(fd);
    CHECK(false);
}

static void test_api_open_files_of_the_killed_are_given_back(void **state)
{
    struct statvfs before = space_now();
    struct child child = spawn(open_unlink_and_stay, NULL);

    await(child.fd);
    assert_int_equal(space_now().f_ffree, before.f_ffree - 2);
    bury();
    assert_int_equal(space_now().f_ffree, before.f_ffree - 2);
    murder(&child);
    bury();
    assert_space(&before);
}

static void open_and_stay(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);

    open_in(mine, "f", O_RDONLY);
    pass(fd);
    await(fd);
    CHECK(false);
}

/* The name is gone before the last holder dies: then nobody but who buries it can free the file. */
static void test_api_open_file_of_two_lives_until_the_second_is_killed(void **state)
{
    struct statvfs before = space_now();

    put_bytes("f", 'f', 5 * PAGE);
    struct child child = spawn(open_and_stay, NULL);
    await(child.fd);
    struct shmfs_file *mine = open_file("f", O_RDONLY);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    murder(&child);
    bury();
    assert_bytes(mine, 'f', 5 * PAGE, 0);
    close_file(mine);
    assert_space(&before);
}

/* Nobody may get another file than the one whose name was looked up (A13). */
static void replace_for_ever(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);

    pass(fd);
    for (unsigned n = 0; n < 20000; n++) {
        struct shmfs_file *file = open_in(mine, "tmp", O_WRONLY | O_CREAT | O_EXCL);
        CHECK_EQ(shmfs_pwrite(file, "right", 5, 0), 5);
        CHECK_EQ(shmfs_close(file), 0);
        CHECK_EQ(shmfs_rename(mine, "tmp", "f", 0), 0);
        file = open_in(mine, "wrong", O_WRONLY | O_CREAT | O_TRUNC);
        CHECK_EQ(shmfs_pwrite(file, "wrong", 5, 0), 5);
        CHECK_EQ(shmfs_close(file), 0);
        CHECK_EQ(shmfs_unlink(mine, "wrong"), 0);
        char c;
        if (recv(fd, &c, 1, MSG_DONTWAIT) >= 0)
            break;
    }
    shmfs_detach(mine);
}

static void test_api_open_gets_what_its_name_says(void **state)
{
    put_text("f", "right");
    struct child child = spawn(replace_for_ever, NULL);
    await(child.fd);
    for (unsigned n = 0; n < 20000; n++)
        assert_text("f", "right");
    pass(child.fd);
    assert_ends_well(&child);
}

static void test_api_open_table_full_is_enfile(void **state)
{
    struct statvfs before = space_now();
    enum { MANY = 1 << 20 };
    struct shmfs_file **files = calloc(MANY, sizeof(files[0]));
    unsigned n = 0;
    int r = 0;

    assert_non_null(files);
    put_text("f", "");
    while (n < MANY && (r = shmfs_open(fs, "f", O_RDONLY, 0, &files[n])) == 0)
        n++;
    print_message("             %u opens\n", n);
    assert_int_equal(r, -ENFILE);
    close_file(files[--n]);
    assert_int_equal(shmfs_open(fs, "f", O_RDONLY, 0, &files[n]), 0);
    for (unsigned i = 0; i <= n; i++)
        close_file(files[i]);
    free(files);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    assert_space(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_open_takes_flags_as_the_host_does),
        api_unit(test_api_open_takes_path_and_tmpfile_as_the_host_does),
        api_unit(test_api_open_refuses_what_is_no_file),
        api_unit(test_api_open_flags_without_meaning_change_nothing),
        api_unit(test_api_open_trunc_empties_and_raises_no_mode),
        api_unit(test_api_open_mode_is_enforced),
        api_unit(test_api_open_path_gives_a_handle_for_attributes_only),
        api_unit(test_api_open_directory_is_for_waiting_and_attributes),
        api_unit(test_api_open_file_lives_until_its_close),
        api_unit(test_api_open_file_replaced_by_rename_lives_on),
        api_unit(test_api_open_directory_that_is_removed_lives_on),
        api_unit(test_api_tmpfile_has_no_name_until_it_is_given_one),
        api_unit(test_api_tmpfile_that_is_closed_is_gone),
        api_unit(test_api_tmpfile_with_excl_gets_no_name),
        api_unit(test_api_open_files_of_the_killed_are_given_back),
        api_unit(test_api_open_file_of_two_lives_until_the_second_is_killed),
        api_unit(test_api_open_gets_what_its_name_says),
        api_unit(test_api_open_table_full_is_enfile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
