/* SPDX-License-Identifier: MIT */
/* Who may do what: as the kernel decides for root and for an ordinary user (P7), by the credentials of the attach. */
#include "api_twin.h"

/* ---- against the host ---------------------------------------------------------------------------------------- */

#define N NOBODY
#define G FRIENDS /* the one supplementary group of who tries */

static const struct thing things[] = {
    { "/r", S_IFREG | 0644, 0, 0, NULL },
    { "/own", S_IFREG | 0640, N, N, NULL },
    { "/own0", S_IFREG | 0000, N, N, NULL },
    { "/grp", S_IFREG | 0664, 0, G, NULL },
    { "/grp0", S_IFREG | 0606, 0, G, NULL },
    { "/oth", S_IFREG | 0606, 1, 1, NULL },
    { "/wr", S_IFREG | 0602, 1, 1, NULL },
    { "/x", S_IFREG | 0755, 0, 0, NULL },
    { "/suid", S_IFREG | 06755, N, N, NULL },
    { "/sgid", S_IFREG | 02775, N, G, NULL },
    { "/sgidother", S_IFREG | 02775, N, 7, NULL },
    { "/all", S_IFDIR | 0777, 0, 0, NULL },
    { "/all/r", S_IFREG | 0600, 0, 0, NULL },
    { "/all/d", S_IFDIR | 0755, 0, 0, NULL },
    { "/all/full", S_IFDIR | 0755, 0, 0, NULL },
    { "/all/full/f", S_IFREG | 0644, N, N, NULL },
    { "/tmp", S_IFDIR | 01777, 0, 0, NULL },
    { "/tmp/mine", S_IFREG | 0600, N, N, NULL },
    { "/tmp/theirs", S_IFREG | 0666, 1, 1, NULL },
    { "/tmp/dir", S_IFDIR | 0777, 1, 1, NULL },
    { "/tmp/mydir", S_IFDIR | 0755, N, N, NULL },
    { "/mytmp", S_IFDIR | 01777, N, N, NULL },
    { "/mytmp/theirs", S_IFREG | 0666, 1, 1, NULL },
    { "/nox", S_IFDIR | 0666, 0, 0, NULL },
    { "/nox/f", S_IFREG | 0666, 0, 0, NULL },
    { "/onlyx", S_IFDIR | 0711, 0, 0, NULL },
    { "/onlyx/f", S_IFREG | 0644, 0, 0, NULL },
    { "/onlyx/d", S_IFDIR | 0777, 0, 0, NULL },
    { "/wx", S_IFDIR | 0733, 0, 0, NULL },
    { "/wx/f", S_IFREG | 0644, 0, 0, NULL },
    { "/sg", S_IFDIR | 02777, 0, 7, NULL },
    { "/mine", S_IFDIR | 0755, N, N, NULL },
    { "/mine/f", S_IFREG | 0600, 0, 0, NULL },
    { "/mine/d", S_IFDIR | 0700, 0, 0, NULL },
    { "/gdir", S_IFDIR | 0070, 0, G, NULL },
    { "/gdir/f", S_IFREG | 0666, 0, 0, NULL },
    { "/lnox", S_IFLNK, 0, 0, "nox/f" },
    { "/lown", S_IFLNK, 0, 0, "own" },
};

/* Everything that is there, and a new name in each directory. */
static const char *const new_names[] = {
    "/new",        "/all/new",   "/all/d/new",   "/tmp/new", "/tmp/mydir/new", "/mytmp/new",
    "/nox/new",    "/onlyx/new", "/onlyx/d/new", "/wx/new",  "/sg/new",        "/mine/new",
    "/mine/d/new", "/gdir/new",  "/r/new",       "/",
};

static const char *path_of(size_t i)
{
    return i < ARRAY_SIZE(things) ? things[i].path : new_names[i - ARRAY_SIZE(things)];
}

enum { PATHS = ARRAY_SIZE(things) + ARRAY_SIZE(new_names) };

struct kind {
    enum op op;
    unsigned arg;
};

static void on_each_path(const struct kind *kinds, size_t n, uid_t uid)
{
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < PATHS; i++)
            twin_do(&(struct job){ .op = kinds[k].op, .arg = kinds[k].arg, .a = path_of(i) }, uid);
}

static const struct kind using_[] = {
    { OP_STAT, 0 },
    { OP_LSTAT, 0 },
    { OP_ACCESS, F_OK },
    { OP_ACCESS, R_OK },
    { OP_ACCESS, W_OK },
    { OP_ACCESS, X_OK },
    { OP_ACCESS, R_OK | W_OK | X_OK },
    { OP_READLINK, 0 },
    { OP_OPENDIR, 0 },
    { OP_TRUNCATE, 0 },
    { OP_OPEN, O_RDONLY },
    { OP_OPEN, O_WRONLY },
    { OP_OPEN, O_RDWR },
    { OP_OPEN, O_RDONLY | O_TRUNC },
    { OP_OPEN, O_WRONLY | O_TRUNC },
    { OP_OPEN, O_RDONLY | O_NOATIME },
    { OP_OPEN, O_RDWR | O_CREAT },
    { OP_OPEN, O_RDWR | O_CREAT | O_EXCL },
    { OP_OPEN, O_RDWR | O_TMPFILE },
    { OP_OPEN, O_PATH },
    { OP_SETXATTR, 0 },
    { OP_SETXATTR, 1 },
    { OP_SETXATTR, 2 },
    { OP_SETXATTR, 3 },
    { OP_GETXATTR, 0 },
    { OP_GETXATTR, 1 },
};

static const struct kind naming[] = {
    { OP_MKDIR, 0 },
    { OP_RMDIR, 0 },
    { OP_UNLINK, 0 },
    { OP_SYMLINK, 0 },
    { OP_MKNOD, S_IFREG | 0666 },
    { OP_MKNOD, S_IFIFO | 0666 },
    { OP_MKNOD, S_IFSOCK | 0666 },
    { OP_MKNOD, S_IFCHR | 0666 },
    { OP_MKNOD, S_IFBLK | 0666 },
    { OP_MKNOD, S_IFREG | 06777 },
};

static const struct kind changing[] = {
    { OP_CHMOD, 0600 },
    { OP_CHMOD, 06777 },
    { OP_CHMOD, 02755 },
    { OP_CHMOD, 01777 },
    { OP_CHOWN, 65535u << 16 | 65535 },
    { OP_CHOWN, 65534u << 16 | 65535 },
    { OP_CHOWN, 65534u << 16 | 65534 },
    { OP_CHOWN, 65535u << 16 | G },
    { OP_CHOWN, 65534u << 16 | G },
    { OP_CHOWN, 65535u << 16 | 7 },
    { OP_CHOWN, 0u << 16 | 65535 },
    { OP_CHOWN, 3u << 16 | 4 },
    { OP_LCHOWN, 65535u << 16 | G },
    { OP_LCHOWN, 3u << 16 | 4 },
    { OP_UTIMENS, 0 },
    { OP_UTIMENS, 1 },
    { OP_UTIMENS, 2 },
    { OP_UTIMENS, 16 + 1 },
};

static void use_as_user(void)
{
    twin_begin(things, ARRAY_SIZE(things));
    on_each_path(using_, ARRAY_SIZE(using_), NOBODY);
    twin_end();
}

static void test_api_user_may_use_what_the_kernel_allows(void **state)
{
    twin_run(use_as_user);
}

static void name_as_user(void)
{
    twin_begin(things, ARRAY_SIZE(things));
    on_each_path(naming, ARRAY_SIZE(naming), NOBODY);
    twin_end();
}

static void test_api_user_may_name_what_the_kernel_allows(void **state)
{
    twin_run(name_as_user);
}

static void change_as_user(void)
{
    twin_begin(things, ARRAY_SIZE(things));
    on_each_path(changing, ARRAY_SIZE(changing), NOBODY);
    twin_end();
}

static void test_api_user_may_change_what_the_kernel_allows(void **state)
{
    twin_run(change_as_user);
}

static void all_as_root(void)
{
    twin_begin(things, ARRAY_SIZE(things));
    on_each_path(using_, ARRAY_SIZE(using_), 0);
    on_each_path(naming, ARRAY_SIZE(naming), 0);
    on_each_path(changing, ARRAY_SIZE(changing), 0);
    twin_end();
}

static void test_api_root_may_do_what_the_kernel_allows(void **state)
{
    twin_run(all_as_root);
}

static void rename_as_user(void)
{
    static const unsigned flags[] = { 0, RENAME_EXCHANGE };

    twin_begin(things, ARRAY_SIZE(things));
    for (size_t f = 0; f < ARRAY_SIZE(flags); f++)
        for (size_t i = 0; i < PATHS; i += 1 + f)
            for (size_t j = 0; j < PATHS; j++)
                twin_do(&(struct job){ .op = OP_RENAME, .arg = flags[f], .a = path_of(i), .b = path_of(j) },
                        NOBODY);
    twin_end();
}

static void test_api_user_may_rename_what_the_kernel_allows(void **state)
{
    twin_run(rename_as_user);
}

/* What is one's own: the kernel's hard-link rules (fs.protected_hardlinks) do not come in. */
static void link_as_user(void)
{
    twin_begin(things, ARRAY_SIZE(things));
    for (size_t i = 0; i < PATHS; i++) {
        twin_do(&(struct job){ .op = OP_LINK, .a = "/own", .b = path_of(i) }, NOBODY);
        twin_do(&(struct job){ .op = OP_LINK, .a = "/tmp/mine", .b = path_of(i) }, NOBODY);
        twin_do(&(struct job){ .op = OP_LINK, .a = "/all/full/f", .b = path_of(i) }, NOBODY);
    }
    twin_end();
}

static void test_api_user_may_link_what_the_kernel_allows(void **state)
{
    twin_run(link_as_user);
}

/* ---- credentials ---------------------------------------------------------------------------------------------- */

static void change_without_telling(void)
{
    MUST(setgroups(0, NULL));
    MUST(setresgid(NOBODY, NOBODY, NOBODY));
    MUST(setresuid(NOBODY, NOBODY, NOBODY));
    CHECK_EQ(shmfs_mkdir(fs, "as-root", 0755), 0);
    CHECK_EQ(shmfs_setcreds(fs), 0);
    CHECK_EQ(shmfs_mkdir(fs, "as-user", 0755), -EACCES);
    CHECK_EQ(shmfs_chmod(fs, "/", 0777), -EPERM);
}

static void test_api_setcreds_takes_credentials_anew(void **state)
{
    if (geteuid() != 0)
        skip();
    in_child(change_without_telling);
    assert_int_equal(stat_of("as-root").st_uid, 0);
}

static void open_and_use(void)
{
    struct shmfs_file *file = open_file("f", O_RDWR);

    become(NOBODY, NOBODY, 0);
    CHECK_EQ(open_result("f", O_RDONLY, 0), -EACCES);
    CHECK_EQ(shmfs_pwrite(file, "T", 1, 0), 1); /* who has it open goes on */
    CHECK_EQ(shmfs_ftruncate(file, 2), 0);
    CHECK_EQ(shmfs_fchmod(file, 0666), -EPERM);
    CHECK_EQ(shmfs_fchown(file, NOBODY, NOBODY), -EPERM);
    CHECK_EQ(shmfs_futimens(file, NULL), -EACCES);
    close_file(file);
}

static void test_api_permission_is_asked_at_open(void **state)
{
    if (geteuid() != 0)
        skip();
    put_text("f", "text");
    assert_int_equal(shmfs_chmod(fs, "f", 0600), 0);
    in_child(open_and_use);
    assert_text("f", "Te");
}

static void make_things(void)
{
    become(NOBODY, NOBODY, FRIENDS);
    CHECK_EQ(shmfs_mkdir(fs, "open/d", 0755), 0);
    put_text("open/f", "");
    CHECK_EQ(shmfs_symlink(fs, "x", "open/l"), 0);
    put_text("sgid/f", "");
    CHECK_EQ(shmfs_mkdir(fs, "sgid/d", 0755), 0);
    CHECK_EQ(shmfs_mknod(fs, "sgid/s", S_IFREG | 02775, 0), 0);
}

static void test_api_new_files_belong_to_their_maker_and_the_group_of_a_set_group_id_directory(void **state)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(shmfs_mkdir(fs, "open", 0755), 0);
    assert_int_equal(shmfs_chmod(fs, "open", 0777), 0);
    assert_int_equal(shmfs_mkdir(fs, "sgid", 0755), 0);
    assert_int_equal(shmfs_chown(fs, "sgid", 0, 77), 0);
    assert_int_equal(shmfs_chmod(fs, "sgid", 02777), 0);
    in_child(make_things);
    assert_int_equal(stat_of("open/f").st_uid, NOBODY);
    assert_int_equal(stat_of("open/f").st_gid, NOBODY);
    assert_int_equal(stat_of("open/d").st_gid, NOBODY);
    assert_int_equal(stat_of("open/l").st_uid, NOBODY);
    assert_int_equal(stat_of("sgid/f").st_gid, 77);
    assert_int_equal(stat_of("sgid/d").st_gid, 77);
    assert_int_equal(stat_of("sgid/d").st_mode, S_IFDIR | 02755);
    assert_int_equal(stat_of("sgid/s").st_mode & 02000, 0);
}

/* ---- set-id bits ------------------------------------------------------------------------------------------------- */

static void (*touching)(void);

static void write_once(void)
{
    struct shmfs_file *file = open_file("s", O_WRONLY);

    CHECK_EQ(shmfs_pwrite(file, "x", 1, 0), 1);
    close_file(file);
}

static void append_once(void)
{
    struct shmfs_file *file = open_file("s", O_WRONLY);

    CHECK_EQ(shmfs_append(file, "x", 1, NULL), 1);
    close_file(file);
}

static void cut_once(void)
{
    CHECK_EQ(shmfs_truncate(fs, "s", 1), 0);
}

static void open_trunc(void)
{
    close_file(open_file("s", O_WRONLY | O_TRUNC));
}

static void allocate(void)
{
    struct shmfs_file *file = open_file("s", O_WRONLY);

    CHECK_EQ(shmfs_fallocate(file, 0, 0, PAGE), 0);
    close_file(file);
}

static void touch_as_user(void)
{
    become(NOBODY, NOBODY, 0);
    touching();
}

static void test_api_writing_by_a_user_clears_set_id_bits(void **state)
{
    static void (*const ways[])(void) = { write_once, append_once, cut_once, open_trunc, allocate };

    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        put_text("s", "some text");
        assert_int_equal(shmfs_chmod(fs, "s", 06777), 0);
        touching = ways[i];
        touching();
        assert_int_equal(stat_of("s").st_mode, S_IFREG | 06777); /* not by root */
        in_child(touch_as_user);
        if (stat_of("s").st_mode != (S_IFREG | 0777))
            fail_msg("way %zu left mode %o", i, stat_of("s").st_mode);
    }
}

/* ---- ACLs ------------------------------------------------------------------------------------------------------------ */

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct acl_entry {
    uint16_t tag, perm;
    uint32_t id;
};

static int set_acl(const char *path, const char *name, const struct acl_entry *entries, size_t n)
{
    struct {
        uint32_t version;
        struct acl_entry entries[8];
    } acl = { .version = 2 };

    CHECK(n <= ARRAY_SIZE(acl.entries));
    memcpy(acl.entries, entries, n * sizeof(entries[0]));
    return shmfs_setxattr(fs, path, name, &acl, sizeof(uint32_t) + n * sizeof(entries[0]), 0);
}

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define NO_ID UINT32_MAX

static void one_is_let_in(void)
{
    become(NOBODY, NOBODY, 0);
    CHECK_EQ(open_result("f", O_RDONLY, 0), 0);
    CHECK_EQ(open_result("f", O_WRONLY, 0), -EACCES);
    CHECK_EQ(open_result("g", O_RDWR, 0), -EACCES);
    CHECK_EQ(shmfs_setxattr(fs, "f", ACCESS, "", 0, 0), -EPERM);
}

static void the_group_is_let_in(void)
{
    become(NOBODY, NOBODY, FRIENDS);
    CHECK_EQ(open_result("g", O_RDWR, 0), 0);
}

static void test_api_acl_entries_decide(void **state)
{
    static const struct acl_entry user[] = { { USER_OBJ, 6, NO_ID },
                                             { USER, 6, NOBODY },
                                             { GROUP_OBJ, 0, NO_ID },
                                             { MASK, 4, NO_ID },
                                             { OTHER, 7, NO_ID } };
    static const struct acl_entry group[] = { { USER_OBJ, 6, NO_ID },
                                              { GROUP_OBJ, 0, NO_ID },
                                              { GROUP, 6, FRIENDS },
                                              { MASK, 6, NO_ID },
                                              { OTHER, 0, NO_ID } };

    if (geteuid() != 0)
        skip();
    put_text("f", "text");
    put_text("g", "text");
    assert_int_equal(set_acl("f", ACCESS, user, ARRAY_SIZE(user)), 0);
    assert_int_equal(set_acl("g", ACCESS, group, ARRAY_SIZE(group)), 0);
    assert_int_equal(stat_of("f").st_mode, S_IFREG | 0647);
    in_child(one_is_let_in);
    in_child(the_group_is_let_in);
    assert_int_equal(shmfs_chmod(fs, "g", 0600), 0); /* takes the mask away, and with it the group's right */
    assert_int_equal(shmfs_chmod(fs, "f", 0600), 0);
    struct stat st = stat_of("g");
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void masked_out(void)
{
    become(NOBODY, NOBODY, FRIENDS);
    CHECK_EQ(open_result("g", O_RDONLY, 0), -EACCES);
}

static void test_api_acl_mask_is_the_group_bits_of_chmod(void **state)
{
    static const struct acl_entry group[] = { { USER_OBJ, 6, NO_ID },
                                              { GROUP_OBJ, 0, NO_ID },
                                              { GROUP, 6, FRIENDS },
                                              { MASK, 6, NO_ID },
                                              { OTHER, 0, NO_ID } };

    if (geteuid() != 0)
        skip();
    put_text("g", "text");
    assert_int_equal(set_acl("g", ACCESS, group, ARRAY_SIZE(group)), 0);
    in_child(the_group_is_let_in);
    assert_int_equal(shmfs_chmod(fs, "g", 0600), 0);
    in_child(masked_out);
}

static void test_api_acl_of_a_directory_is_inherited_in_place_of_the_umask(void **state)
{
    static const struct acl_entry inherit[] = { { USER_OBJ, 7, NO_ID },
                                                { GROUP_OBJ, 7, NO_ID },
                                                { OTHER, 5, NO_ID } };

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    assert_int_equal(set_acl("d", DEFAULT, inherit, ARRAY_SIZE(inherit)), 0);
    shmfs_umask(fs, 077);
    struct shmfs_file *file;
    assert_int_equal(shmfs_open(fs, "d/f", O_RDWR | O_CREAT, 0666, &file), 0);
    close_file(file);
    assert_int_equal(shmfs_mkdir(fs, "d/sub", 0777), 0);
    assert_int_equal(stat_of("d/f").st_mode, S_IFREG | 0664);
    assert_int_equal(stat_of("d/sub").st_mode, S_IFDIR | 0775);
    assert_true(shmfs_getxattr(fs, "d/sub", DEFAULT, NULL, 0) > 0);
}

static void test_api_acl_that_makes_no_sense_is_einval(void **state)
{
    static const struct acl_entry no_owner[] = { { GROUP_OBJ, 0, NO_ID }, { OTHER, 0, NO_ID } };

    put_text("f", "");
    assert_int_equal(set_acl("f", ACCESS, no_owner, ARRAY_SIZE(no_owner)), -EINVAL);
    assert_int_equal(shmfs_setxattr(fs, "f", ACCESS, "x", 1, 0), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_user_may_use_what_the_kernel_allows),
        api_unit(test_api_user_may_name_what_the_kernel_allows),
        api_unit(test_api_user_may_change_what_the_kernel_allows),
        api_unit(test_api_root_may_do_what_the_kernel_allows),
        api_unit(test_api_user_may_rename_what_the_kernel_allows),
        api_unit(test_api_user_may_link_what_the_kernel_allows),
        api_unit(test_api_setcreds_takes_credentials_anew),
        api_unit(test_api_permission_is_asked_at_open),
        api_unit(test_api_new_files_belong_to_their_maker_and_the_group_of_a_set_group_id_directory),
        api_unit(test_api_writing_by_a_user_clears_set_id_bits),
        api_unit(test_api_acl_entries_decide),
        api_unit(test_api_acl_mask_is_the_group_bits_of_chmod),
        api_unit(test_api_acl_of_a_directory_is_inherited_in_place_of_the_umask),
        api_unit(test_api_acl_that_makes_no_sense_is_einval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
