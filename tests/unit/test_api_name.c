/* SPDX-License-Identifier: MIT */
/* Paths, and everything that is done to names: as the host has it (P7), and on more than one way in (P3). */
#include "api_twin.h"

/* ---- against the host ------------------------------------------------------------------------------ */

static const struct thing plain[] = {
    { "/f", S_IFREG | 0644, 0, 0, NULL },
    { "/hard", S_IFREG | 0644, 0, 0, "/f" },
    { "/g", S_IFREG | 0600, 5, 6, NULL },
    { "/d", S_IFDIR | 0755, 0, 0, NULL },
    { "/d/in", S_IFREG | 0644, 0, 0, NULL },
    { "/d/sub", S_IFDIR | 0700, 0, 0, NULL },
    { "/d/up", S_IFLNK, 0, 0, "../f" },
    { "/e", S_IFDIR | 0755, 0, 0, NULL },
    { "/lf", S_IFLNK, 0, 0, "f" },
    { "/la", S_IFLNK, 0, 0, "/d/in" },
    { "/ld", S_IFLNK, 0, 0, "d" },
    { "/lslash", S_IFLNK, 0, 0, "d/" },
    { "/ldd", S_IFLNK, 0, 0, "/ld/sub/../.." },
    { "/out", S_IFLNK, 0, 0, "../../../../d/in" },
    { "/none", S_IFLNK, 0, 0, "nothing" },
    { "/none2", S_IFLNK, 0, 0, "/e/new" },
    { "/loop", S_IFLNK, 0, 0, "loop2" },
    { "/loop2", S_IFLNK, 0, 0, "/loop" },
    { "/fifo", S_IFIFO | 0644, 0, 0, NULL },
    { "/null", S_IFCHR | 0666, 0, 0, NULL },
    { "/sock", S_IFSOCK | 0666, 0, 0, NULL },
};

static const char *const paths[] = {
    "/",          "",
    ".",          "..",
    "//",         "/./d/../f",
    "///d///in",  "/../../f",
    "/f",         "f",
    "/f/",        "/f/.",
    "/f/..",      "/f/x",
    "/hard",      "/d",
    "/d/",        "/d/.",
    "/d/..",      "/d/../e",
    "/d/in",      "/d/sub",
    "/d/sub/",    "/e",
    "/e/",        "/e/.",
    "/e/new",     "/new",
    "/new/",      "/new/.",
    "/new/..",    "/new/x",
    "/lf",        "/lf/",
    "/la",        "/ld",
    "/ld/",       "/ld/in",
    "/ld/.",      "/ld/..",
    "/ld/sub",    "/ldd",
    "/ldd/f",     "/d/up",
    "/out",       "/none",
    "/none/",     "/none/x",
    "/none2",     "/loop",
    "/loop/",     "/loop/x",
    "/fifo",      "/fifo/",
    "/null",      "/sock",
    "/d/sub/..",  "/d/sub/../in",
    "/lslash",    "/lslash/",
    "/lslash/in", "/g",
};

/* Each operation on each path. */
static void one_path(void)
{
    static const struct {
        enum op op;
        unsigned arg;
    } kinds[] = {
        { OP_STAT, 0 },
        { OP_LSTAT, 0 },
        { OP_ACCESS, F_OK },
        { OP_ACCESS, R_OK | W_OK },
        { OP_ACCESS, X_OK },
        { OP_ACCESS, 8 },
        { OP_TRUNCATE, 0 },
        { OP_MKDIR, 0 },
        { OP_RMDIR, 0 },
        { OP_UNLINK, 0 },
        { OP_SYMLINK, 0 },
        { OP_READLINK, 0 },
        { OP_MKNOD, S_IFREG | 0640 },
        { OP_MKNOD, 0600 },
        { OP_MKNOD, S_IFIFO | 0777 },
        { OP_MKNOD, S_IFSOCK | 0700 },
        { OP_MKNOD, S_IFCHR | 0600 },
        { OP_MKNOD, S_IFBLK | 0600 },
        { OP_MKNOD, S_IFDIR | 0700 },
        { OP_MKNOD, 0170000 | 0700 },
        { OP_CHMOD, 01351 },
        { OP_CHOWN, 3u << 16 | 4 },
        { OP_LCHOWN, 3u << 16 | 65535 },
        { OP_UTIMENS, 1 },
        { OP_UTIMENS, 16 + 1 },
        { OP_OPENDIR, 0 },
        { OP_SETXATTR, 0 },
        { OP_GETXATTR, 0 },
    };

    twin_begin(plain, ARRAY_SIZE(plain));
    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
            twin_do(&(struct job){ .op = kinds[k].op, .arg = kinds[k].arg, .a = paths[i] }, 0);
    twin_end();
}

static void test_api_operations_on_one_path_end_as_on_the_host(void **state)
{
    twin_run(one_path);
}

static void two_paths(enum op op, unsigned arg)
{
    twin_begin(plain, ARRAY_SIZE(plain));
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        for (size_t j = 0; j < ARRAY_SIZE(paths); j++)
            twin_do(&(struct job){ .op = op, .arg = arg, .a = paths[i], .b = paths[j] }, 0);
    twin_end();
}

static void renames(void)
{
    two_paths(OP_RENAME, 0);
}

static void test_api_rename_ends_as_on_the_host(void **state)
{
    twin_run(renames);
}

static void renames_noreplace(void)
{
    two_paths(OP_RENAME, RENAME_NOREPLACE);
}

static void test_api_rename_noreplace_ends_as_on_the_host(void **state)
{
    twin_run(renames_noreplace);
}

static void renames_exchange(void)
{
    two_paths(OP_RENAME, RENAME_EXCHANGE);
}

static void test_api_rename_exchange_ends_as_on_the_host(void **state)
{
    twin_run(renames_exchange);
}

static void links(void)
{
    two_paths(OP_LINK, 0);
}

static void test_api_link_ends_as_on_the_host(void **state)
{
    twin_run(links);
}

/* ---- what the host cannot say ------------------------------------------------------------------------ */

static void test_api_rename_whiteout_leaves_one(void **state)
{
    put_text("/f", "text");
    assert_int_equal(shmfs_rename(fs, "f", "g", RENAME_WHITEOUT), 0);
    assert_text("g", "text");
    struct stat st = stat_of("f");
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(st.st_rdev, 0);
}

static void test_api_rename_refuses_flags_that_contradict(void **state)
{
    put_text("/f", "f");
    put_text("/g", "g");
    assert_int_equal(shmfs_rename(fs, "f", "g", RENAME_NOREPLACE | RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(shmfs_rename(fs, "f", "g", RENAME_WHITEOUT | RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(shmfs_rename(fs, "f", "g", 8), -EINVAL);
    assert_text("f", "f");
    assert_text("g", "g");
}

/* The components of one path: as many as fit below the limit. */
static const char *dots_to_f(char *path, size_t length)
{
    memset(path, '/', length);
    for (size_t i = 1; i + 2 < length; i += 2)
        path[i] = '.';
    path[length - 2] = '/';
    path[length - 1] = 'f';
    path[length] = 0;
    return path;
}

static void test_api_path_of_4096_bytes_is_too_long(void **state)
{
    char path[5000];

    put_text("/f", "text");
    assert_text(dots_to_f(path, 4095), "text");
    assert_int_equal(lstat_result(dots_to_f(path, 4096)), -ENAMETOOLONG);
    assert_int_equal(lstat_result(dots_to_f(path, 4990)), -ENAMETOOLONG);
    assert_int_equal(open_result(path, O_RDONLY, 0), -ENAMETOOLONG);
    assert_int_equal(shmfs_rename(fs, "f", path, 0), -ENAMETOOLONG);
    assert_int_equal(shmfs_link(fs, path, "g"), -ENAMETOOLONG);
    assert_int_equal(shmfs_symlink(fs, path, "g"), -ENAMETOOLONG);
    assert_int_equal(shmfs_symlink(fs, "", "g"), -ENOENT);
    assert_int_equal(lstat_result("g"), -ENOENT);
}

static void test_api_name_of_256_bytes_is_too_long(void **state)
{
    char name[300];

    memset(name, 'n', sizeof(name));
    name[255] = 0;
    put_text(name, "text");
    assert_text(name, "text");
    assert_int_equal(shmfs_unlink(fs, name), 0);
    name[255] = 'n';
    name[256] = 0;
    assert_int_equal(open_result(name, O_RDWR | O_CREAT, 0600), -ENAMETOOLONG);
    assert_int_equal(shmfs_mkdir(fs, name, 0700), -ENAMETOOLONG);
    assert_int_equal(shmfs_symlink(fs, "x", name), -ENAMETOOLONG);
    assert_int_equal(lstat_result(name), -ENAMETOOLONG);
    put_text("f", "");
    assert_int_equal(shmfs_rename(fs, "f", name, 0), -ENAMETOOLONG);
    assert_int_equal(shmfs_link(fs, "f", name), -ENAMETOOLONG);
}

/* l0 -> l1 -> ... -> f */
static void chain_of_links(unsigned n)
{
    char name[16], target[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "l%u", i);
        snprintf(target, sizeof(target), "%sl%u", i % 2 ? "/" : "", i + 1);
        assert_int_equal(shmfs_symlink(fs, i + 1 < n ? target : "f", name), 0);
    }
}

static void test_api_path_follows_40_links_and_no_more(void **state)
{
    put_text("f", "text");
    chain_of_links(41);
    assert_text("l1", "text");
    struct stat st;
    assert_int_equal(shmfs_stat(fs, "l0", &st), -ELOOP);
    assert_int_equal(open_result("l0", O_RDONLY, 0), -ELOOP);
    assert_int_equal(shmfs_truncate(fs, "l0", 0), -ELOOP);
    assert_int_equal(lstat_result("l0"), 0);
}

/* Each path is short enough; only what a link stands for and what comes after it would be too long as one. */
static void test_api_path_is_measured_before_links_are_followed(void **state)
{
    char target[3001], path[3001];

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    put_text("d/f", "text");
    for (size_t i = 0; i < 2998; i += 2)
        memcpy(target + i, "./", 2);
    memcpy(target + 2998, "d", 2);
    assert_int_equal(shmfs_symlink(fs, target, "l"), 0);
    memcpy(path, "l/", 2);
    for (size_t i = 2; i < 2998; i += 2)
        memcpy(path + i, "./", 2);
    memcpy(path + 2998, "f", 2);
    assert_text(path, "text");
}

static void test_api_readlink_gives_at_most_n_bytes_and_no_nul(void **state)
{
    char buf[8] = "#######", target[4096];

    assert_int_equal(shmfs_symlink(fs, "abcdef", "l"), 0);
    assert_int_equal(shmfs_readlink(fs, "l", buf, 3), 3);
    assert_memory_equal(buf, "abc####", 7);
    assert_int_equal(shmfs_readlink(fs, "l", buf, 7), 6);
    assert_memory_equal(buf, "abcdef#", 7);
    assert_int_equal(shmfs_readlink(fs, "l", buf, 0), -EINVAL);
    assert_int_equal(stat_of("l").st_size, 6);

    memset(target, 't', sizeof(target));
    target[4095] = 0;
    char back[4096];
    assert_int_equal(shmfs_symlink(fs, target, "long"), 0);
    assert_int_equal(shmfs_readlink(fs, "long", back, sizeof(back)), 4095);
    assert_memory_equal(back, target, 4095);
}

static void test_api_inode_numbers_tell_files_apart(void **state)
{
    put_text("f", "");
    put_text("g", "");
    assert_int_equal(shmfs_link(fs, "f", "h"), 0);
    assert_int_equal(stat_of("f").st_ino, stat_of("h").st_ino);
    assert_int_equal(stat_of("f").st_nlink, 2);
    assert_int_not_equal(stat_of("f").st_ino, stat_of("g").st_ino);
    assert_int_equal(stat_of("f").st_dev, stat_of("g").st_dev);
    assert_int_equal(stat_of("/").st_nlink, 2);
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    assert_int_equal(stat_of("/").st_nlink, 3);
}

static void test_api_umask_masks_and_is_told(void **state)
{
    struct shmfs *other = api_attach(0);

    umask(077);
    assert_int_equal(shmfs_umask(fs, 027), 022);
    assert_int_equal(shmfs_mkdir(fs, "d", 0777), 0);
    assert_int_equal(stat_of("d").st_mode, S_IFDIR | 0750);
    assert_int_equal(shmfs_umask(other, 0), 022);
    assert_int_equal(shmfs_mkdir(other, "e", 0777), 0);
    assert_int_equal(stat_of("e").st_mode, S_IFDIR | 0777);
    assert_int_equal(shmfs_umask(fs, 0), 027);
    assert_int_equal(shmfs_setcreds(fs), 0);
    assert_int_equal(shmfs_umask(fs, 0), 077);
    umask(022);
    shmfs_detach(other);
}

/* ---- space ------------------------------------------------------------------------------------------- */

static void test_api_statfs_counts_what_is_taken_and_given_back(void **state)
{
    struct statvfs before = space_now();

    assert_int_equal(before.f_bsize, PAGE);
    assert_int_equal(before.f_frsize, PAGE);
    assert_int_equal(before.f_namemax, 255);
    assert_true(before.f_blocks > 0 && before.f_blocks * PAGE <= REGION_SIZE);
    assert_true(before.f_bfree <= before.f_blocks && before.f_bavail <= before.f_bfree);
    assert_true(before.f_ffree < before.f_files);
    put_bytes("f", 'x', 100 * PAGE);
    assert_int_equal(stat_of("f").st_blocks, 800);
    assert_true(space_now().f_bfree <= before.f_bfree - 100);
    assert_int_equal(space_now().f_ffree, before.f_ffree - 1);
    assert_int_equal(shmfs_unlink(fs, "f"), 0);
    assert_space(&before);
}

static void test_api_full_of_names_is_enospc(void **state)
{
    char name[16];
    unsigned n = 0;
    int r;

    api_renew(REGION_SIZE, 1024);
    do {
        snprintf(name, sizeof(name), "f%u", n++);
        r = shmfs_mknod(fs, name, S_IFREG | 0600, 0);
    } while (r == 0);
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(space_now().f_ffree, 0);
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), -ENOSPC);
    assert_int_equal(shmfs_symlink(fs, "x", "l"), -ENOSPC);
    assert_int_equal(open_result("new", O_RDWR | O_CREAT, 0600), -ENOSPC);
    assert_int_equal(open_result("/", O_RDWR | O_TMPFILE, 0600), -ENOSPC);
    assert_int_equal(shmfs_unlink(fs, "f0"), 0);
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
}

/* ---- more than one way in (P3) ------------------------------------------------------------------------ */

static void change_names(int fd, void *arg)
{
    struct shmfs *mine = api_attach(0);

    CHECK_EQ(shmfs_mkdir(mine, "/d", 0755), 0);
    CHECK_EQ(shmfs_symlink(mine, "d", "/l"), 0);
    pass(fd);
    await(fd);
    CHECK_EQ(shmfs_rename(mine, "/d/f", "/g", 0), 0);
    CHECK_EQ(shmfs_rmdir(mine, "/d"), 0);
    pass(fd);
    await(fd);
    shmfs_detach(mine);
}

static void test_api_names_made_by_one_process_are_seen_by_all(void **state)
{
    struct child child = spawn(change_names, NULL);

    await(child.fd);
    put_text("/l/f", "text");
    pass(child.fd);
    await(child.fd);
    assert_text("/g", "text");
    assert_int_equal(lstat_result("/d"), -ENOENT);
    struct stat st;
    assert_int_equal(shmfs_stat(fs, "/l", &st), -ENOENT);
    pass(child.fd);
    assert_ends_well(&child);
}

/* What the thread remembers of a path must not change what a slash behind it means. */
static void test_api_directory_that_was_used_is_moved_and_removed_with_a_slash(void **state)
{
    assert_int_equal(shmfs_mkdir(fs, "a", 0755), 0);
    assert_int_equal(shmfs_mkdir(fs, "a/b", 0755), 0);
    put_text("a/b/c", "x");
    assert_int_equal(shmfs_unlink(fs, "a/b/c"), 0);
    assert_int_equal(shmfs_rename(fs, "a/b/", "a/z", 0), 0);
    put_text("a/z/c", "x");
    assert_int_equal(shmfs_unlink(fs, "a/z/c"), 0);
    assert_int_equal(shmfs_rmdir(fs, "a/z/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_operations_on_one_path_end_as_on_the_host),
        api_unit(test_api_rename_ends_as_on_the_host),
        api_unit(test_api_rename_noreplace_ends_as_on_the_host),
        api_unit(test_api_rename_exchange_ends_as_on_the_host),
        api_unit(test_api_link_ends_as_on_the_host),
        api_unit(test_api_rename_whiteout_leaves_one),
        api_unit(test_api_rename_refuses_flags_that_contradict),
        api_unit(test_api_path_of_4096_bytes_is_too_long),
        api_unit(test_api_name_of_256_bytes_is_too_long),
        api_unit(test_api_path_follows_40_links_and_no_more),
        api_unit(test_api_path_is_measured_before_links_are_followed),
        api_unit(test_api_readlink_gives_at_most_n_bytes_and_no_nul),
        api_unit(test_api_inode_numbers_tell_files_apart),
        api_unit(test_api_umask_masks_and_is_told),
        api_unit(test_api_statfs_counts_what_is_taken_and_given_back),
        api_unit(test_api_full_of_names_is_enospc),
        api_unit(test_api_names_made_by_one_process_are_seen_by_all),
        api_unit(test_api_directory_that_was_used_is_moved_and_removed_with_a_slash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
