/* SPDX-License-Identifier: MIT */
/* Listing directories: each name once, and positions that stay valid. */
#include "api.h"

static struct shmfs_dir *open_dir(const char *path)
{
    struct shmfs_dir *dir = NULL;

    CHECK_EQ(shmfs_opendir(fs, path, &dir), 0);
    return dir;
}

static void close_dir(struct shmfs_dir *dir)
{
    CHECK_EQ(shmfs_closedir(dir), 0);
}

static void name_of(char *name, unsigned n)
{
    snprintf(name, 16, "d/n%05u", n);
}

static void make_names(unsigned n)
{
    char name[16];

    for (unsigned i = 0; i < n; i++) {
        name_of(name, i);
        MUST(shmfs_mknod(fs, name, S_IFREG | 0644, 0));
    }
}

/* Which of the names n00000 ... it is, or -1. */
static int number_of(const struct dirent *entry)
{
    return entry->d_name[0] == 'n' ? atoi(entry->d_name + 1) : -1;
}

/* ---- entries ---------------------------------------------------------------------------------------------- */

static void test_api_readdir_gives_dots_first_and_the_end_again(void **state)
{
    const struct dirent *entry, *const untouched = (const struct dirent *)(uintptr_t)0x5a5a;

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    struct shmfs_dir *dir = open_dir("d");
    assert_int_equal(shmfs_readdir(dir, &entry), 1);
    assert_string_equal(entry->d_name, ".");
    assert_int_equal(entry->d_ino, stat_of("d").st_ino);
    assert_int_equal(entry->d_type, DT_DIR);
    assert_int_equal(shmfs_readdir(dir, &entry), 1);
    assert_string_equal(entry->d_name, "..");
    assert_int_equal(entry->d_ino, stat_of("/").st_ino);
    entry = untouched;
    for (int i = 0; i < 3; i++)
        assert_int_equal(shmfs_readdir(dir, &entry), 0);
    close_dir(dir);
}

static void test_api_readdir_tells_types_and_inodes(void **state)
{
    static const mode_t types[] = { S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };
    const struct dirent *entry;
    char name[16];
    unsigned n = 0;

    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        snprintf(name, sizeof(name), "t%o", types[i]);
        assert_int_equal(shmfs_mknod(fs, name, types[i] | 0600, 0x105), 0);
    }
    assert_int_equal(shmfs_mkdir(fs, "dir", 0755), 0);
    assert_int_equal(shmfs_symlink(fs, "x", "link"), 0);
    struct shmfs_dir *dir = open_dir("/");
    while (MUST(shmfs_readdir(dir, &entry)) == 1) {
        if (entry->d_name[0] == '.')
            continue;
        struct stat st = stat_of(entry->d_name);
        assert_int_equal(entry->d_type, IFTODT(st.st_mode));
        assert_int_equal(entry->d_ino, st.st_ino);
        n++;
    }
    close_dir(dir);
    assert_int_equal(n, ARRAY_SIZE(types) + 2);
}

static void test_api_readdir_gives_long_names_whole(void **state)
{
    const struct dirent *entry;
    char name[256];
    unsigned found = 0;

    memset(name, 'n', sizeof(name));
    name[255] = 0;
    put_text(name, "");
    struct shmfs_dir *dir = open_dir("/");
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        found += strcmp(entry->d_name, name) == 0;
    assert_int_equal(found, 1);
    close_dir(dir);
}

static void test_api_opendir_refuses_what_is_no_directory(void **state)
{
    struct shmfs_dir *const untouched = (struct shmfs_dir *)(uintptr_t)0x5a5a, *dir = untouched;

    put_text("f", "");
    assert_int_equal(shmfs_symlink(fs, "f", "lf"), 0);
    assert_int_equal(shmfs_symlink(fs, "/", "ld"), 0);
    assert_int_equal(shmfs_opendir(fs, "f", &dir), -ENOTDIR);
    assert_int_equal(shmfs_opendir(fs, "lf", &dir), -ENOTDIR);
    assert_int_equal(shmfs_opendir(fs, "none", &dir), -ENOENT);
    assert_ptr_equal(dir, untouched);
    close_dir(open_dir("ld"));
}

/* ---- many -------------------------------------------------------------------------------------------------- */

static void test_api_readdir_gives_each_of_10000_names_once(void **state)
{
    enum { MANY = 10000 };
    static unsigned char seen[MANY];
    const struct dirent *entry;

    api_renew(64 * MIB, MANY + 1000);
    memset(seen, 0, sizeof(seen));
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    make_names(MANY);
    struct shmfs_dir *dir = open_dir("d");
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        if (number_of(entry) >= 0)
            seen[number_of(entry)]++;
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(seen[i], 1);
    close_dir(dir);
}

enum { SOME = 1000 };

/* Names that come and go while somebody lists: each third goes, and as many new ones come. */
static void shuffle_names(unsigned from, unsigned to)
{
    char name[16];

    for (unsigned i = from; i < to; i++) {
        name_of(name, i);
        if (i % 3 == 0)
            MUST(shmfs_unlink(fs, name));
        snprintf(name, sizeof(name), "d/x%05u", i);
        MUST(shmfs_mknod(fs, name, S_IFREG | 0644, 0));
    }
}

static void test_api_readdir_gives_what_stays_once_while_names_come_and_go(void **state)
{
    unsigned char seen[SOME] = { 0 };
    const struct dirent *entry;
    unsigned at = 0;

    api_renew(32 * MIB, 4000);
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    make_names(SOME);
    struct shmfs_dir *dir = open_dir("d");
    while (MUST(shmfs_readdir(dir, &entry)) == 1) {
        if (number_of(entry) >= 0)
            seen[number_of(entry)]++;
        if (at < SOME)
            shuffle_names(at, at + 1);
        at++;
    }
    close_dir(dir);
    for (unsigned i = 0; i < SOME; i++)
        assert_true(i % 3 == 0 ? seen[i] <= 1 : seen[i] == 1);
}

/* The position behind an entry leads to the same next entry, whatever was added or removed elsewhere. */
static void test_api_seekdir_positions_stay_valid(void **state)
{
    static struct {
        off_t position;
        int next;
    } marks[SOME + 2];
    const struct dirent *entry;
    unsigned n = 0;

    api_renew(32 * MIB, 4000);
    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    make_names(SOME);
    struct shmfs_dir *dir = open_dir("d");
    off_t before = 0;
    while (MUST(shmfs_readdir(dir, &entry)) == 1) {
        marks[n].position = before;
        marks[n++].next = number_of(entry);
        before = entry->d_off;
    }
    assert_int_equal(n, SOME + 2);
    shmfs_seekdir(dir, before);
    assert_int_equal(shmfs_readdir(dir, &entry), 0);
    shuffle_names(0, SOME);
    for (unsigned i = n; i-- > 0;) {
        if (marks[i].next >= 0 && marks[i].next % 3 == 0)
            continue;
        shmfs_seekdir(dir, marks[i].position);
        do { /* new names may lie between */
            assert_int_equal(shmfs_readdir(dir, &entry), 1);
        } while (entry->d_name[0] == 'x');
        assert_int_equal(number_of(entry), marks[i].next);
    }
    close_dir(dir);
}

static void test_api_seekdir_to_0_starts_again(void **state)
{
    const struct dirent *entry;

    put_text("f", "");
    struct shmfs_dir *dir = open_dir("/");
    while (MUST(shmfs_readdir(dir, &entry)) == 1)
        continue;
    shmfs_seekdir(dir, 0);
    assert_int_equal(shmfs_readdir(dir, &entry), 1);
    assert_string_equal(entry->d_name, ".");
    close_dir(dir);
}

/* ---- directories that go ------------------------------------------------------------------------------------ */

static void test_api_readdir_of_a_removed_directory_ends(void **state)
{
    struct statvfs before = space_now();
    const struct dirent *entry;
    unsigned n = 0;

    assert_int_equal(shmfs_mkdir(fs, "d", 0755), 0);
    struct shmfs_dir *dir = open_dir("d");
    assert_int_equal(shmfs_rmdir(fs, "d"), 0);
    while (shmfs_readdir(dir, &entry) == 1)
        n++;
    assert_true(n <= 2);
    close_dir(dir);
    assert_space(&before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        api_unit(test_api_readdir_gives_dots_first_and_the_end_again),
        api_unit(test_api_readdir_tells_types_and_inodes),
        api_unit(test_api_readdir_gives_long_names_whole),
        api_unit(test_api_opendir_refuses_what_is_no_directory),
        api_unit(test_api_readdir_gives_each_of_10000_names_once),
        api_unit(test_api_readdir_gives_what_stays_once_while_names_come_and_go),
        api_unit(test_api_seekdir_positions_stay_valid),
        api_unit(test_api_seekdir_to_0_starts_again),
        api_unit(test_api_readdir_of_a_removed_directory_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
