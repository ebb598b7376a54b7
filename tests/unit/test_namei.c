/* SPDX-License-Identifier: MIT */
/*
 * Names: every error of making, linking, removing and renaming (P7), link counts, what lives without
 * a name and for how long (A13, FORMAT "Orphans"), and all of it against a real tmpfs.
 */
#include "fixture.h"

#include <dirent.h>

static struct shmfs_attr out;

static int mknod_(uint32_t dir, const char *name)
{
    return shmfs_node_mknod(fs, dir, name, S_IFREG | 0644, 0, &maker, false, &out);
}
static int mkdir_(uint32_t dir, const char *name)
{
    return shmfs_node_mkdir(fs, dir, name, 0755, &maker, false, &out);
}
static int symlink_(uint32_t dir, const char *name, const char *target)
{
    return shmfs_node_symlink(fs, target, dir, name, &maker, false, &out);
}
static int link_(uint32_t ino, uint32_t dir, const char *name)
{
    return shmfs_node_link(fs, ino, dir, name, false, &out);
}
static int unlink_(uint32_t dir, const char *name)
{
    return shmfs_node_unlink(fs, dir, name);
}
static int rmdir_(uint32_t dir, const char *name)
{
    return shmfs_node_rmdir(fs, dir, name);
}
static int rename_(uint32_t dir, const char *name, uint32_t to, const char *newname, unsigned flags)
{
    return shmfs_node_rename(fs, dir, name, to, newname, flags, &maker);
}

static uint32_t nlink_of(uint32_t ino)
{
    return attr_of(ino).nlink;
}

static char *long_name(size_t len)
{
    static char name[5000];

    memset(name, 'n', len);
    name[len] = 0;
    return name;
}

/* A directory that has no name any more, but that somebody has looked up. */
static uint32_t removed_dir(void)
{
    struct shmfs_attr attr;

    MUST(shmfs_node_mkdir(fs, SHMFS_ROOT, "removed", 0755, &maker, true, &attr));
    MUST(rmdir_(SHMFS_ROOT, "removed"));
    return attr.ino;
}

/* ---- making ---------------------------------------------------------------------------------------------- */

static void test_namei_make_refuses_bad_names_and_bad_parents(void **state)
{
    uint32_t file = make_file(SHMFS_ROOT, "file"), gone = removed_dir();
    struct {
        const char *name;
        uint32_t dir;
        int err;
    } cases[] = {
        { "file", SHMFS_ROOT, -EEXIST },
        { ".", SHMFS_ROOT, -EEXIST },
        { "..", SHMFS_ROOT, -EEXIST },
        { "", SHMFS_ROOT, -EINVAL },
        { "a/b", SHMFS_ROOT, -EINVAL },
        { long_name(256), SHMFS_ROOT, -ENAMETOOLONG },
        { "x", file, -ENOTDIR },
        { "x", gone, -ENOENT },
        { "x", 0, -ESTALE },
        { "x", file + 1000, -ESTALE },
        { "x", UINT32_MAX, -ESTALE },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct shmfs_attr untouched;

        memset(&untouched, 0x5a, sizeof(untouched));
        out = untouched;
        assert_int_equal(mknod_(cases[i].dir, cases[i].name), cases[i].err);
        assert_int_equal(mkdir_(cases[i].dir, cases[i].name), cases[i].err);
        assert_int_equal(symlink_(cases[i].dir, cases[i].name, "target"), cases[i].err);
        assert_int_equal(link_(file, cases[i].dir, cases[i].name), cases[i].err);
        assert_memory_equal(&out, &untouched, sizeof(out));
    }
    assert_int_equal(shmfs_node_tmpfile(fs, file, 0600, &maker, &out), -ENOTDIR);
    assert_int_equal(shmfs_node_tmpfile(fs, gone, 0600, &maker, &out), 0); /* needs no name: as tmpfs */
    MUST(shmfs_node_forget(fs, out.ino, 1));
    assert_int_equal(nlink_of(file), 1);
    assert_int_equal(nlink_of(SHMFS_ROOT), 2);
    MUST(shmfs_node_forget(fs, gone, 1));
}

static void test_namei_mknod_makes_all_types_but_two(void **state)
{
    static const mode_t good[] = { S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, 0 };
    static const mode_t bad[] = { S_IFDIR, S_IFLNK, S_IFMT, 0050000 };
    char name[16];

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        sprintf(name, "%zu", i);
        MUST(shmfs_node_mknod(fs, SHMFS_ROOT, name, good[i] | 07640, 0x12345678, &maker, false, &out));
        assert_int_equal(out.mode, (good[i] == 0 ? S_IFREG : good[i]) | 07640);
        assert_int_equal(out.rdev, S_ISCHR(good[i]) || S_ISBLK(good[i]) ? 0x12345678 : 0);
        assert_int_equal(out.nlink, 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(shmfs_node_mknod(fs, SHMFS_ROOT, "bad", bad[i] | 0644, 0, &maker, false, &out),
                         -EINVAL);
    assert_int_equal(lookup_error(SHMFS_ROOT, "bad"), -ENOENT);
}

static void test_namei_a_new_inode_is_its_makers(void **state)
{
    struct shmfs_maker m = { .uid = 1000, .gid = 2000, .umask = 027 };
    struct timespec now;

    MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "file", S_IFREG | 0666, 0, &m, false, &out));
    clock_gettime(CLOCK_REALTIME, &now);
    assert_int_equal(out.uid, 1000);
    assert_int_equal(out.gid, 2000);
    assert_int_equal(out.mode, S_IFREG | 0640);
    assert_int_equal(out.size, 0);
    assert_int_equal(out.blocks, 0);
    assert_true(now.tv_sec - out.btime.tv_sec <= 10);
    assert_int_equal(out.btime.tv_nsec, out.mtime.tv_nsec);
    assert_int_equal(out.btime.tv_nsec, out.atime.tv_nsec);
}

/* The directory's times and version change with each name; its link count with each directory. */
static void test_namei_making_and_removing_is_seen_in_the_directory(void **state)
{
    struct shmfs_attr before = attr_of(SHMFS_ROOT), after;

    for (int step = 0; step < 5; step++) {
        switch (step) {
        case 0:
            MUST(mknod_(SHMFS_ROOT, "file"));
            break;
        case 1:
            MUST(mkdir_(SHMFS_ROOT, "dir"));
            break;
        case 2:
            MUST(rename_(SHMFS_ROOT, "file", SHMFS_ROOT, "other", 0));
            break;
        case 3:
            MUST(unlink_(SHMFS_ROOT, "other"));
            break;
        default:
            MUST(rmdir_(SHMFS_ROOT, "dir"));
        }
        after = attr_of(SHMFS_ROOT);
        assert_true(after.version > before.version);
        assert_true(after.mtime.tv_sec > before.mtime.tv_sec || after.mtime.tv_nsec > before.mtime.tv_nsec);
        assert_int_equal(after.mtime.tv_nsec, after.ctime.tv_nsec);
        assert_int_equal(after.nlink, step >= 1 && step < 4 ? 3 : 2);
        before = after;
    }
}

static void test_namei_symlinks_of_every_length(void **state)
{
    char back[5000];

    for (size_t len = 1; len < 4096; len += len < 130 ? 1 : 331) {
        MUST(symlink_(SHMFS_ROOT, "link", long_name(len)));
        assert_int_equal(out.size, len);
        assert_int_equal(out.mode, S_IFLNK | 0777);
        assert_int_equal(out.blocks, len > INODE_INLINE ? 8 : 0);
        memset(back, 0, sizeof(back));
        assert_int_equal(shmfs_node_readlink(fs, out.ino, back, sizeof(back)), len);
        assert_string_equal(back, long_name(len));
        memset(back, 'z', sizeof(back));
        assert_int_equal(shmfs_node_readlink(fs, out.ino, back, 1), len); /* cut, and no NUL */
        assert_int_equal(back[0], 'n');
        assert_int_equal(back[1], 'z');
        MUST(unlink_(SHMFS_ROOT, "link"));
    }
    MUST(symlink_(SHMFS_ROOT, "longest", long_name(4095)));
    assert_int_equal(symlink_(SHMFS_ROOT, "x", long_name(4096)), -ENAMETOOLONG);
    assert_int_equal(symlink_(SHMFS_ROOT, "x", ""), -ENOENT);
    assert_int_equal(shmfs_node_readlink(fs, SHMFS_ROOT, back, 10), -EINVAL);
    assert_int_equal(shmfs_node_readlink(fs, make_file(SHMFS_ROOT, "f"), back, 10), -EINVAL);
}

static void test_namei_links_are_counted(void **state)
{
    uint32_t file = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir");

    MUST(link_(file, dir, "second"));
    assert_int_equal(out.nlink, 2);
    assert_int_equal(out.ino, file);
    assert_int_equal(ino_of(dir, "second"), file);
    assert_int_equal(link_(dir, SHMFS_ROOT, "x"), -EPERM);
    assert_int_equal(link_(SHMFS_ROOT, SHMFS_ROOT, "x"), -EPERM);
    assert_int_equal(link_(file + 500, dir, "x"), -ESTALE);
    MUST(unlink_(SHMFS_ROOT, "file"));
    assert_int_equal(nlink_of(file), 1);
    MUST(link_(file, SHMFS_ROOT, "file"));
    MUST(unlink_(dir, "second"));
    MUST(unlink_(SHMFS_ROOT, "file"));
    assert_int_equal(shmfs_node_getattr(fs, file, &out), -ESTALE);
}

static void test_namei_there_are_so_many_links_and_no_more(void **state)
{
    uint32_t file = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir");

    inode_at(fs, file)->nlink = LINK_MAX_COUNT;
    assert_int_equal(link_(file, dir, "x"), -EMLINK);
    inode_at(fs, file)->nlink = 1;
    make_dir(SHMFS_ROOT, "other");
    inode_at(fs, dir)->nlink = LINK_MAX_COUNT;
    assert_int_equal(mkdir_(dir, "x"), -EMLINK);
    assert_int_equal(rename_(SHMFS_ROOT, "other", dir, "x", 0), -EMLINK);
    assert_int_equal(mknod_(dir, "x"), 0);
    inode_at(fs, dir)->nlink = 2;
}

/* ---- removing ---------------------------------------------------------------------------------------------- */

static void test_namei_remove_refuses(void **state)
{
    uint32_t file = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir"), gone = removed_dir();

    make_dir(dir, "sub");
    assert_int_equal(unlink_(SHMFS_ROOT, "absent"), -ENOENT);
    assert_int_equal(rmdir_(SHMFS_ROOT, "absent"), -ENOENT);
    assert_int_equal(unlink_(SHMFS_ROOT, "dir"), -EISDIR);
    assert_int_equal(rmdir_(SHMFS_ROOT, "file"), -ENOTDIR);
    assert_int_equal(rmdir_(SHMFS_ROOT, "dir"), -ENOTEMPTY);
    assert_int_equal(rmdir_(dir, "."), -EINVAL);
    assert_int_equal(rmdir_(dir, ".."), -ENOTEMPTY);
    assert_int_equal(unlink_(file, "x"), -ENOTDIR);
    assert_int_equal(rmdir_(file, "x"), -ENOTDIR);
    assert_int_equal(unlink_(gone, "x"), -ENOENT);
    assert_int_equal(unlink_(SHMFS_ROOT, long_name(256)), -ENAMETOOLONG);
    assert_int_equal(rmdir_(SHMFS_ROOT, long_name(256)), -ENAMETOOLONG);
    assert_int_equal(unlink_(UINT32_MAX, "x"), -ESTALE);
    MUST(rmdir_(dir, "sub"));
    MUST(rmdir_(SHMFS_ROOT, "dir"));
    assert_int_equal(rmdir_(SHMFS_ROOT, "dir"), -ENOENT);
    MUST(shmfs_node_forget(fs, gone, 1));
}

/* P2: what a name held is given back with the last one, to the last block. */
static void test_namei_removing_gives_everything_back(void **state)
{
    struct shmfs_space before = space_of(fs), after;
    uint32_t file;
    char data[BLOCK_SIZE] = { 1 };

    assert_int_equal(attr_of(SHMFS_ROOT).blocks, 0);
    file = make_file(SHMFS_ROOT, "file");
    for (int i = 0; i < 1000; i++) /* several levels */
        MUST(shmfs_node_write(fs, file, data, 1, (off_t)i * 2 * BLOCK_SIZE, 0, NULL));
    MUST(shmfs_node_setxattr(fs, file, "user.a", data, sizeof(data), 0));
    MUST(symlink_(SHMFS_ROOT, "link", long_name(500)));
    MUST(mkdir_(SHMFS_ROOT, "dir"));
    MUST(unlink_(SHMFS_ROOT, "file"));
    MUST(unlink_(SHMFS_ROOT, "link"));
    MUST(rmdir_(SHMFS_ROOT, "dir"));
    after = space_of(fs);
    assert_int_equal(after.free_inodes, before.free_inodes);
    assert_int_equal(after.free_blocks, before.free_blocks);
}

/* ---- renaming ------------------------------------------------------------------------------------------------ */

static void test_namei_rename_refuses(void **state)
{
    uint32_t a = make_dir(SHMFS_ROOT, "a"), b = make_dir(a, "b"), c = make_dir(b, "c");
    uint32_t file = make_file(SHMFS_ROOT, "file");

    make_file(SHMFS_ROOT, "file2");
    make_dir(SHMFS_ROOT, "empty");
    struct {
        uint32_t from, to;
        const char *name, *newname;
        unsigned flags;
        int err;
    } cases[] = {
        { SHMFS_ROOT, SHMFS_ROOT, "absent", "x", 0, -ENOENT },
        { SHMFS_ROOT, SHMFS_ROOT, "absent", "file", 0, -ENOENT },
        { SHMFS_ROOT, SHMFS_ROOT, "absent", "file", RENAME_EXCHANGE, -ENOENT },
        { SHMFS_ROOT, SHMFS_ROOT, "file", "absent", RENAME_EXCHANGE, -ENOENT },
        { SHMFS_ROOT, SHMFS_ROOT, "file", "file2", RENAME_NOREPLACE, -EEXIST },
        { SHMFS_ROOT, SHMFS_ROOT, "file", "file", RENAME_NOREPLACE, -EEXIST },
        { SHMFS_ROOT, SHMFS_ROOT, "file", "empty", 0, -EISDIR },
        { SHMFS_ROOT, SHMFS_ROOT, "empty", "file", 0, -ENOTDIR },
        { SHMFS_ROOT, SHMFS_ROOT, "empty", "a", 0, -ENOTEMPTY },
        /* Into itself, directly and far below. */
        { SHMFS_ROOT, a, "a", "x", 0, -EINVAL },
        { SHMFS_ROOT, b, "a", "x", 0, -EINVAL },
        { SHMFS_ROOT, c, "a", "x", 0, -EINVAL },
        { SHMFS_ROOT, b, "a", "c", 0, -EINVAL },
        { SHMFS_ROOT, c, "a", "x", RENAME_NOREPLACE, -EINVAL },
        { SHMFS_ROOT, b, "a", "c", RENAME_EXCHANGE, -EINVAL },
        { b, SHMFS_ROOT, "c", "a", RENAME_EXCHANGE, -EINVAL },
        /* Over one that it lies in. */
        { b, SHMFS_ROOT, "c", "a", 0, -ENOTEMPTY },
        { a, SHMFS_ROOT, "b", "a", 0, -ENOTEMPTY },
        /* Flags. */
        { SHMFS_ROOT, SHMFS_ROOT, "file", "x", 8, -EINVAL },
        { SHMFS_ROOT, SHMFS_ROOT, "file", "file2", RENAME_EXCHANGE | RENAME_NOREPLACE, -EINVAL },
        { SHMFS_ROOT, SHMFS_ROOT, "file", "file2", RENAME_EXCHANGE | RENAME_WHITEOUT, -EINVAL },
        /* Names and parents. */
        { SHMFS_ROOT, SHMFS_ROOT, ".", "x", 0, -EBUSY },
        { a, SHMFS_ROOT, "..", "x", 0, -EBUSY },
        { SHMFS_ROOT, a, "file", ".", 0, -EBUSY },
        { SHMFS_ROOT, a, "file", "..", 0, -EBUSY },
        { SHMFS_ROOT, SHMFS_ROOT, "file", long_name(256), 0, -ENAMETOOLONG },
        { SHMFS_ROOT, SHMFS_ROOT, long_name(256), "x", 0, -ENAMETOOLONG },
        { file, SHMFS_ROOT, "x", "y", 0, -ENOTDIR },
        { SHMFS_ROOT, file, "file", "y", 0, -ENOTDIR },
        { SHMFS_ROOT, UINT32_MAX, "file", "y", 0, -ESTALE },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int r = rename_(cases[i].from, cases[i].name, cases[i].to, cases[i].newname, cases[i].flags);
        if (r != cases[i].err)
            fail_msg("case %zu: %.20s to %.20s gave %d, should be %d", i, cases[i].name, cases[i].newname, r,
                     cases[i].err);
    }
    assert_int_equal(ino_of(SHMFS_ROOT, "file"), file);
    assert_int_equal(ino_of(b, "c"), c);
    assert_int_equal(nlink_of(SHMFS_ROOT), 4);
}

/* P2: what is moved into a directory that has been removed would be lost with it. */
static void test_namei_rename_into_a_removed_directory_is_refused(void **state)
{
    uint32_t gone = removed_dir(), file = make_file(SHMFS_ROOT, "file");

    make_dir(SHMFS_ROOT, "dir");
    assert_int_equal(rename_(SHMFS_ROOT, "file", gone, "y", 0), -ENOENT);
    assert_int_equal(rename_(SHMFS_ROOT, "dir", gone, "y", 0), -ENOENT);
    assert_int_equal(rename_(SHMFS_ROOT, "file", gone, "y", RENAME_WHITEOUT), -ENOENT);
    assert_int_equal(rename_(SHMFS_ROOT, "file", gone, "y", RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(rename_(gone, "y", SHMFS_ROOT, "z", 0), -ENOENT);
    assert_int_equal(ino_of(SHMFS_ROOT, "file"), file);
    MUST(shmfs_node_forget(fs, gone, 1));
}

static void test_namei_rename_moves_and_counts_links(void **state)
{
    uint32_t a = make_dir(SHMFS_ROOT, "a"), b = make_dir(SHMFS_ROOT, "b"), sub = make_dir(a, "sub"), file;

    make_file(sub, "inner");
    MUST(rename_(a, "sub", b, "moved", 0));
    assert_int_equal(lookup_error(a, "sub"), -ENOENT);
    assert_int_equal(ino_of(b, "moved"), sub);
    assert_int_equal(ino_of(sub, ".."), b);
    assert_int_equal(nlink_of(a), 2);
    assert_int_equal(nlink_of(b), 3);
    /* Over an empty directory, which goes. */
    make_dir(a, "victim");
    MUST(rename_(b, "moved", a, "victim", 0));
    assert_int_equal(ino_of(a, "victim"), sub);
    assert_int_equal(nlink_of(a), 3);
    assert_int_equal(nlink_of(b), 2);
    /* In one directory, over another. */
    make_dir(a, "x");
    MUST(rmdir_(a, "x"));
    make_dir(a, "y");
    MUST(rename_(a, "victim", a, "y", 0));
    assert_int_equal(nlink_of(a), 3);
    assert_int_equal(ino_of(a, "y"), sub);
    /* A file over another. */
    file = make_file(a, "f");
    uint32_t other = make_file(b, "g");
    MUST(rename_(a, "f", b, "g", 0));
    assert_int_equal(ino_of(b, "g"), file);
    assert_int_equal(shmfs_node_getattr(fs, other, &out), -ESTALE);
    /* Upwards and down again. */
    MUST(rename_(a, "y", SHMFS_ROOT, "top", 0));
    assert_int_equal(ino_of(sub, ".."), SHMFS_ROOT);
    MUST(rename_(SHMFS_ROOT, "a", sub, "a", 0));
    assert_int_equal(ino_of(a, ".."), sub);
}

static void test_namei_rename_of_two_names_of_one_file_does_nothing(void **state)
{
    uint32_t file = make_file(SHMFS_ROOT, "one"), dir = make_dir(SHMFS_ROOT, "dir");
    uint64_t version;

    MUST(link_(file, dir, "two"));
    version = attr_of(SHMFS_ROOT).version;
    MUST(rename_(SHMFS_ROOT, "one", dir, "two", 0));
    MUST(rename_(SHMFS_ROOT, "one", SHMFS_ROOT, "one", 0));
    MUST(rename_(SHMFS_ROOT, "one", dir, "two", RENAME_EXCHANGE));
    assert_int_equal(ino_of(SHMFS_ROOT, "one"), file);
    assert_int_equal(ino_of(dir, "two"), file);
    assert_int_equal(nlink_of(file), 2);
    assert_int_equal(attr_of(SHMFS_ROOT).version, version);
}

static void test_namei_rename_exchange_swaps_whatever_they_are(void **state)
{
    uint32_t a = make_dir(SHMFS_ROOT, "a"), b = make_dir(SHMFS_ROOT, "b");
    uint32_t dir = make_dir(a, "dir"), file = make_file(b, "file"), other = make_dir(b, "other");

    make_file(dir, "inner");
    MUST(rename_(a, "dir", b, "file", RENAME_EXCHANGE)); /* a full directory and a file */
    assert_int_equal(ino_of(a, "dir"), file);
    assert_int_equal(ino_of(b, "file"), dir);
    assert_int_equal(ino_of(dir, ".."), b);
    assert_int_equal(nlink_of(a), 2);
    assert_int_equal(nlink_of(b), 4);
    MUST(rename_(b, "file", b, "other", RENAME_EXCHANGE)); /* two directories in one */
    assert_int_equal(ino_of(b, "file"), other);
    assert_int_equal(nlink_of(b), 4);
    MUST(rename_(b, "other", SHMFS_ROOT, "a", RENAME_EXCHANGE)); /* two directories in two */
    assert_int_equal(ino_of(SHMFS_ROOT, "a"), dir);
    assert_int_equal(ino_of(b, "other"), a);
    assert_int_equal(ino_of(a, ".."), b);
    assert_int_equal(ino_of(dir, ".."), SHMFS_ROOT);
}

/* Overlay filesystems have it: the old name becomes a device 0/0. */
static void test_namei_rename_whiteout_leaves_a_device(void **state)
{
    uint32_t dir = make_dir(SHMFS_ROOT, "dir"), file = make_file(SHMFS_ROOT, "file");

    MUST(rename_(SHMFS_ROOT, "file", dir, "moved", RENAME_WHITEOUT));
    assert_int_equal(ino_of(dir, "moved"), file);
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", false, &out));
    assert_int_equal(out.mode, S_IFCHR);
    assert_int_equal(out.rdev, 0);
    assert_int_equal(out.nlink, 1);
    make_file(SHMFS_ROOT, "victim");
    MUST(rename_(dir, "moved", SHMFS_ROOT, "victim", RENAME_WHITEOUT));
    assert_int_equal(ino_of(SHMFS_ROOT, "victim"), file);
    MUST(shmfs_node_lookup(fs, dir, "moved", false, &out));
    assert_int_equal(out.mode, S_IFCHR);
    /* A directory leaves one, too. */
    make_dir(dir, "sub");
    MUST(rename_(dir, "sub", SHMFS_ROOT, "sub", RENAME_WHITEOUT | RENAME_NOREPLACE));
    MUST(shmfs_node_lookup(fs, dir, "sub", false, &out));
    assert_int_equal(out.mode, S_IFCHR);
    assert_int_equal(nlink_of(dir), 2);
}

/* ---- without a name ---------------------------------------------------------------------------------------- */

static void test_namei_who_was_looked_up_lives_until_it_is_forgotten(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    uint64_t free_blocks;
    char c = 0;

    make_file(SHMFS_ROOT, "other"); /* so that the directory stays what it is */
    free_blocks = space_of(fs).free_blocks;
    MUST(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL));
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &out));
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &out));
    MUST(unlink_(SHMFS_ROOT, "file"));
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), -ENOENT);
    assert_int_equal(nlink_of(ino), 0);
    MUST(shmfs_node_write(fs, ino, "yz", 2, 0, 0, NULL)); /* an open file works on */
    assert_int_equal(shmfs_node_read(fs, ino, &c, 1, 1), 1);
    assert_int_equal(c, 'z');
    MUST(shmfs_node_forget(fs, ino, 1));
    assert_int_equal(nlink_of(ino), 0); /* one of two */
    MUST(shmfs_node_forget(fs, ino, 1));
    assert_int_equal(shmfs_node_getattr(fs, ino, &out), -ESTALE);
    assert_int_equal(space_of(fs).free_blocks, free_blocks);
    assert_int_equal(shmfs_node_forget(fs, ino, 1), -ESTALE);
}

static void test_namei_forgetting_too_much_is_forgetting_all(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");

    MUST(shmfs_node_forget(fs, ino, 5)); /* was never looked up */
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &out));
    MUST(shmfs_node_forget(fs, ino, UINT64_MAX));
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &out));
    MUST(unlink_(SHMFS_ROOT, "file"));
    assert_int_equal(nlink_of(ino), 0);
    MUST(shmfs_node_forget(fs, ino, UINT64_MAX));
    assert_int_equal(shmfs_node_getattr(fs, ino, &out), -ESTALE);
}

static void test_namei_what_a_rename_replaced_lives_on_too(void **state)
{
    uint32_t file = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir");

    make_file(SHMFS_ROOT, "new");
    make_dir(SHMFS_ROOT, "newdir");
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &out));
    MUST(shmfs_node_lookup(fs, SHMFS_ROOT, "dir", true, &out));
    MUST(rename_(SHMFS_ROOT, "new", SHMFS_ROOT, "file", 0));
    MUST(rename_(SHMFS_ROOT, "newdir", SHMFS_ROOT, "dir", 0));
    assert_int_equal(nlink_of(file), 0);
    assert_int_equal(nlink_of(dir), 0);
    assert_int_equal(mknod_(dir, "x"), -ENOENT);
    MUST(shmfs_node_forget(fs, file, 1));
    MUST(shmfs_node_forget(fs, dir, 1));
    assert_int_equal(shmfs_node_getattr(fs, file, &out), -ESTALE);
    assert_int_equal(shmfs_node_getattr(fs, dir, &out), -ESTALE);
}

/* O_TMPFILE: lives while it is looked up, and for good once it is linked. */
static void test_namei_a_tmpfile_has_no_name_until_it_is_linked(void **state)
{
    struct shmfs_attr one, two;

    MUST(shmfs_node_tmpfile(fs, SHMFS_ROOT, 0640, &maker, &one));
    MUST(shmfs_node_tmpfile(fs, SHMFS_ROOT, 0640, &maker, &two));
    assert_int_equal(one.nlink, 0);
    assert_int_equal(one.mode, S_IFREG | 0640);
    assert_int_equal(attr_of(SHMFS_ROOT).nlink, 2);
    MUST(link_(one.ino, SHMFS_ROOT, "linked"));
    assert_int_equal(out.nlink, 1);
    MUST(shmfs_node_forget(fs, one.ino, 1));
    MUST(shmfs_node_forget(fs, two.ino, 1));
    assert_int_equal(ino_of(SHMFS_ROOT, "linked"), one.ino);
    assert_int_equal(shmfs_node_getattr(fs, two.ino, &out), -ESTALE);
}

/* A13: a number that was freed and used again is not taken for the old one. */
static void test_namei_a_number_used_again_is_another_inode(void **state)
{
    struct shmfs_attr old, now;

    for (int i = 0; i < 5; i++) {
        MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "file", S_IFREG, 0, &maker, false, &old));
        MUST(unlink_(SHMFS_ROOT, "file"));
        MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "file", S_IFREG, 0, &maker, false, &now));
        assert_int_equal(now.ino, old.ino); /* else this shows nothing */
        assert_true(now.generation > old.generation);
        assert_true(now.version > old.version); /* for who compares versions only */
        struct shmfs_dirent e = { .ino = old.ino, .generation = old.generation };
        assert_int_equal(shmfs_node_ref(fs, SHMFS_ROOT, &e, &out), -ENOENT);
        e.generation = now.generation;
        assert_int_equal(shmfs_node_ref(fs, SHMFS_ROOT, &e, &out), 0);
        MUST(shmfs_node_forget(fs, now.ino, 1));
        MUST(unlink_(SHMFS_ROOT, "file"));
    }
}

/* P6, A13: an entry that leads to another generation, or to nothing, is damaged; it is not followed. */
static void test_namei_an_entry_of_another_generation_is_damaged(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir");

    make_file(dir, "good");
    inode_at(fs, ino)->generation += 3;
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), -EUCLEAN);
    assert_int_equal(unlink_(SHMFS_ROOT, "file"), -EUCLEAN);
    assert_int_equal(rename_(SHMFS_ROOT, "file", dir, "x", 0), -EUCLEAN);
    assert_int_equal(rename_(dir, "good", SHMFS_ROOT, "file", 0), -EUCLEAN);
    assert_int_equal(mknod_(SHMFS_ROOT, "file"), -EEXIST);
    assert_int_equal(lookup_error(dir, "good"), 0); /* all else works */
    inode_at(fs, ino)->generation -= 3;
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), 0);

    uint32_t mode = inode_at(fs, ino)->mode;
    inode_at(fs, ino)->mode = 0;
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), -EUCLEAN);
    assert_int_equal(unlink_(SHMFS_ROOT, "file"), -EUCLEAN);
    inode_at(fs, ino)->mode = 0170000;
    assert_int_equal(lookup_error(SHMFS_ROOT, "file"), -EUCLEAN);
    inode_at(fs, ino)->mode = mode;
    assert_int_equal(unlink_(SHMFS_ROOT, "file"), 0);
}

/* P6: parents that go round in a circle are an error of rename, and no endless walk. */
static void test_namei_hostile_parents_are_an_error(void **state)
{
    uint32_t a = make_dir(SHMFS_ROOT, "a"), b = make_dir(a, "b"), c = make_dir(SHMFS_ROOT, "c");

    inode_at(fs, a)->parent.n = b; /* b is in a, which is in b */
    assert_int_equal(rename_(SHMFS_ROOT, "c", b, "x", 0), -EUCLEAN);
    inode_at(fs, a)->parent.n = UINT32_MAX;
    assert_int_equal(rename_(SHMFS_ROOT, "c", b, "x", 0), -EUCLEAN);
    assert_int_equal(ino_of(SHMFS_ROOT, "c"), c);
    assert_true(lookup_error(a, "..") < 0);
    inode_at(fs, a)->parent.n = SHMFS_ROOT;
    assert_int_equal(rename_(SHMFS_ROOT, "c", b, "x", 0), 0);
}

/* ---- whose lookups count ------------------------------------------------------------------------------------- */

/* A driver, with two files open that have no names any more. */
static void drive_and_stay(int fd, void *arg)
{
    uint32_t inos[2];

    fs = attach(SHMFS_ATTACH_DRIVER);
    MUST(shmfs_node_tmpfile(fs, SHMFS_ROOT, 0600, &maker, &out));
    inos[0] = out.ino;
    MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "open", S_IFREG, 0, &maker, true, &out));
    inos[1] = out.ino;
    MUST(shmfs_node_write(fs, inos[1], "data", 4, 0, 0, NULL));
    MUST(unlink_(SHMFS_ROOT, "open"));
    CHECK_EQ(write(fd, inos, sizeof(inos)), sizeof(inos));
    await(fd);
    detach();
}

/* FORMAT, "Orphans": the next driver frees what only the lookups of a dead mount kept. */
static void test_namei_orphans_of_a_dead_driver_are_freed_by_the_next(void **state)
{
    struct shmfs_space before = space_of(fs);
    struct child child;
    uint32_t inos[2];

    detach();
    child = spawn(drive_and_stay, NULL);
    CHECK_EQ(read(child.fd, inos, sizeof(inos)), sizeof(inos));
    murder(&child);
    fs = attach(0); /* no driver: leaves them */
    assert_int_equal(nlink_of(inos[0]), 0);
    assert_int_equal(nlink_of(inos[1]), 0);
    detach();
    fs = attach(SHMFS_ATTACH_DRIVER);
    assert_int_equal(shmfs_node_getattr(fs, inos[0], &out), -ESTALE);
    assert_int_equal(shmfs_node_getattr(fs, inos[1], &out), -ESTALE);
    assert_int_equal(space_of(fs).free_inodes, before.free_inodes);
}

static void test_namei_a_driver_that_leaves_frees_its_orphans(void **state)
{
    struct shmfs_space before = space_of(fs);
    struct child child;
    uint32_t inos[2];

    detach();
    child = spawn(drive_and_stay, NULL);
    CHECK_EQ(read(child.fd, inos, sizeof(inos)), sizeof(inos));
    pass(child.fd);
    assert_ends_well(&child);
    fs = attach(0);
    assert_int_equal(shmfs_node_getattr(fs, inos[0], &out), -ESTALE);
    assert_int_equal(space_of(fs).free_inodes, before.free_inodes);
}

/* Lookups that a dead mount counted do not keep alive what is unlinked now. */
static void test_namei_lookups_of_another_epoch_are_void(void **state)
{
    uint32_t ino;

    detach();
    fs = attach(SHMFS_ATTACH_DRIVER);
    MUST(shmfs_node_mknod(fs, SHMFS_ROOT, "file", S_IFREG, 0, &maker, true, &out));
    ino = out.ino;
    detach();
    fs = attach(SHMFS_ATTACH_DRIVER);
    assert_false(inode_used(fs, ino, NO_USE));
    MUST(unlink_(SHMFS_ROOT, "file"));
    assert_int_equal(shmfs_node_getattr(fs, ino, &out), -ESTALE);
}

/* ---- many at once ---------------------------------------------------------------------------------------------- */

enum { DIRS = 6, RENAMES = 3000 };
static uint32_t dirs[DIRS];

static void *rename_about(void *arg)
{
    uint64_t z = (uint64_t)(uintptr_t)arg * UINT64_C(0x9e3779b97f4a7c15);
    char from[8], to[8];

    away = true;
    for (int i = 0; i < RENAMES; i++) {
        z = z * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        unsigned x = (unsigned)(z >> 33);

        sprintf(from, "%u", x % DIRS);
        sprintf(to, "%u", x / 7 % DIRS);
        int r =
            rename_(dirs[x / 64 % DIRS], from, dirs[x / 1024 % DIRS], to, x % 5 == 0 ? RENAME_EXCHANGE : 0);
        if (r != -ENOENT && r != -EINVAL && r != -ENOTEMPTY)
            CHECK_EQ(r, 0);
    }
    return NULL;
}

/* I3: no deadlock, and no directory comes to lie within itself (the check climbs from each). */
static void test_namei_renames_across_directories_make_no_loops(void **state)
{
    pthread_t threads[4];
    char name[8];

    for (int i = 0; i < DIRS; i++) {
        sprintf(name, "%d", i);
        dirs[i] = make_dir(i == 0 ? SHMFS_ROOT : dirs[0], name);
        make_file(dirs[i], "stays"); /* so that none is replaced */
    }
    for (uintptr_t i = 0; i < ARRAY_SIZE(threads); i++)
        MUST(-pthread_create(&threads[i], NULL, rename_about, (void *)(i + 1)));
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        MUST(-pthread_join(threads[i], NULL));
    assert_clean();
}

static int stop;

static void *look_up_on(void *arg)
{
    struct shmfs_attr attr;

    away = true;
    while (!LOAD(&stop)) {
        int r = shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &attr);

        CHECK(r == 0 || r == -ENOENT);
        if (r == 0)
            MUST(shmfs_node_forget(fs, attr.ino, 1));
    }
    return NULL;
}

/* A13: a lookup finds the file that has the name, or none; never a number that is free or another's. */
static void test_namei_lookups_bear_unlinks_and_numbers_used_again(void **state)
{
    pthread_t threads[2];

    STORE(&stop, 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        MUST(-pthread_create(&threads[i], NULL, look_up_on, NULL));
    for (int i = 0; i < 5000; i++) {
        MUST(mknod_(SHMFS_ROOT, "file"));
        MUST(unlink_(SHMFS_ROOT, "file"));
    }
    STORE(&stop, 1);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        MUST(-pthread_join(threads[i], NULL));
}

static void *make_and_remove(void *arg)
{
    char name[16];

    away = true;
    for (unsigned i = 0; i < 2000; i++) {
        struct shmfs_attr attr;
        int r;

        sprintf(name, "%u", i % 10);
        if (i % 3 == 0)
            r = shmfs_node_mkdir(fs, SHMFS_ROOT, name, 0755, &maker, false, &attr);
        else if (i % 3 == 1)
            r = shmfs_node_mknod(fs, SHMFS_ROOT, name, S_IFREG, 0, &maker, false, &attr);
        else
            r = shmfs_node_unlink(fs, SHMFS_ROOT, name);
        CHECK(r == 0 || r == -EEXIST || r == -ENOENT || r == -EISDIR);
        r = shmfs_node_rmdir(fs, SHMFS_ROOT, name);
        CHECK(r == 0 || r == -ENOENT || r == -ENOTDIR);
    }
    return NULL;
}

static void test_namei_many_may_make_and_remove_the_same_names(void **state)
{
    pthread_t threads[4];

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        MUST(-pthread_create(&threads[i], NULL, make_and_remove, NULL));
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        MUST(-pthread_join(threads[i], NULL));
    assert_clean();
}

/* ---- against a real tmpfs (P7) ----------------------------------------------------------------------------------- */

static char real_dir[64];

/* Names are few, so that they meet: a path has up to three of them. */
static void random_path(char *buf, size_t *ret_parent_len)
{
    size_t n = 0;

    for (uint64_t depth = random_below(3); depth > 0; depth--)
        n += (size_t)sprintf(buf + n, "/%c", 'a' + (int)random_below(3));
    *ret_parent_len = n;
    sprintf(buf + n, "/%c", 'a' + (int)random_below(4));
}

/* The directory that the path but for its last name leads to, or 0. */
static uint32_t parent_of(const char *path, size_t parent_len)
{
    uint32_t ino = SHMFS_ROOT;

    for (size_t i = 0; i < parent_len; i += 2) {
        char name[2] = { path[i + 1], 0 };
        struct shmfs_attr attr;

        if (shmfs_node_lookup(fs, ino, name, false, &attr) < 0 || !S_ISDIR(attr.mode))
            return 0;
        ino = attr.ino;
    }
    return ino;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct shmfs_dirent *)a)->name, ((const struct shmfs_dirent *)b)->name);
}

static unsigned compared;

/* Both trees, from here down: names, types, link counts, targets. */
static void same_tree(uint32_t ino, const char *path)
{
    struct shmfs_dirent ours[16];
    struct shmfs_attr attr = attr_of(ino);
    struct stat st;
    int n;

    MUST(lstat(path, &st));
    if (attr.mode != st.st_mode || attr.nlink != st.st_nlink)
        fail_msg("%s: mode %#o and %u links, should be %#o and %u", path, attr.mode, attr.nlink, st.st_mode,
                 (unsigned)st.st_nlink);
    compared++;
    if (!S_ISDIR(st.st_mode))
        return;
    n = (int)MUST(shmfs_node_readdir(fs, ino, 0, ours, 16));
    qsort(ours, (size_t)n, sizeof(ours[0]), compare_names);

    struct dirent **theirs;
    int want = scandir(path, &theirs, NULL, alphasort);
    if (n != want)
        fail_msg("%s: has %d entries, should have %d", path, n, want);
    for (int i = 0; i < want; i++) {
        char below[600];

        assert_string_equal(ours[i].name, theirs[i]->d_name);
        assert_int_equal(ours[i].type, theirs[i]->d_type);
        snprintf(below, sizeof(below), "%s/%s", path, theirs[i]->d_name);
        if (theirs[i]->d_name[0] != '.')
            same_tree(ours[i].ino, below);
        free(theirs[i]);
    }
    free(theirs);
}

/* One operation on both; the same result? */
static void random_operation(int step)
{
    static const unsigned flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT };
    char one[32], two[32], real_one[128], real_two[128], what[160];
    unsigned flag = flags[random_below(ARRAY_SIZE(flags))];
    size_t n1, n2;
    int ours, theirs;

    random_path(one, &n1);
    random_path(two, &n2);
    uint32_t p1 = parent_of(one, n1), p2 = parent_of(two, n2);
    if (p1 == 0 || p2 == 0)
        return;
    const char *name1 = one + n1 + 1, *name2 = two + n2 + 1;
    snprintf(real_one, sizeof(real_one), "%s%s", real_dir, one);
    snprintf(real_two, sizeof(real_two), "%s%s", real_dir, two);
    uint64_t op = random_below(12);
    switch (op) {
    case 0:
        ours = mknod_(p1, name1);
        theirs = mknod(real_one, S_IFREG | 0644, 0);
        break;
    case 1:
    case 2:
    case 3:
        ours = mkdir_(p1, name1);
        theirs = mkdir(real_one, 0755);
        break;
    case 4:
        ours = symlink_(p1, name1, "target");
        theirs = symlink("target", real_one);
        break;
    case 5:
        if (lookup_error(p1, name1) < 0)
            return;
        ours = link_(ino_of(p1, name1), p2, name2);
        theirs = link(real_one, real_two);
        break;
    case 6:
        ours = unlink_(p1, name1);
        theirs = unlink(real_one);
        break;
    case 7:
        ours = rmdir_(p1, name1);
        theirs = rmdir(real_one);
        break;
    default:
        ours = rename_(p1, name1, p2, name2, flag);
        theirs = renameat2(AT_FDCWD, real_one, AT_FDCWD, real_two, flag);
        break;
    }
    if (theirs < 0)
        theirs = -errno;
    if (op == 5 && ours == -EPERM && theirs == -EEXIST)
        ours = theirs; /* a link to a directory, where there is something: both are so */
    snprintf(what, sizeof(what), "step %d: operation %d, %s, %s, flags %u", step, (int)op, one, two, flag);
    if (ours != theirs)
        fail_msg("%s gave %d, should be %d", what, ours, theirs);
}

static void remove_tree(const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, NULL, NULL);

    for (int i = 0; i < n; i++) {
        char below[600];

        snprintf(below, sizeof(below), "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && remove(below) < 0)
            remove_tree(below);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    rmdir(path);
}

static int teardown_real(void **state)
{
    remove_tree(real_dir);
    return teardown(state);
}

#define real_unit(f) cmocka_unit_test_setup_teardown(f, setup, teardown_real)

static void test_namei_does_what_the_kernel_does(void **state)
{
    char probe[128];

    random_start(16);
    renew(64 * MIB, 16384); /* trees moved into trees grow out of reach */
    snprintf(real_dir, sizeof(real_dir), "%s/shmfs-names-%d", test_directory(), (int)getpid());
    mode_t old = umask(0);
    MUST(mkdir(real_dir, 0755));
    snprintf(probe, sizeof(probe), "%s/probe", real_dir);
    if (mknod(probe, S_IFCHR, 0) < 0) /* needs a privilege, or a newer kernel */
        skip();
    MUST(unlink(probe));
    for (int i = 0; i < 40000; i++) {
        random_operation(i);
        if (i % 100 == 0)
            same_tree(SHMFS_ROOT, real_dir);
    }
    umask(old);
    same_tree(SHMFS_ROOT, real_dir);
    assert_true(compared > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_namei_make_refuses_bad_names_and_bad_parents),
        unit(test_namei_mknod_makes_all_types_but_two),
        unit(test_namei_a_new_inode_is_its_makers),
        unit(test_namei_making_and_removing_is_seen_in_the_directory),
        unit(test_namei_symlinks_of_every_length),
        unit(test_namei_links_are_counted),
        unit(test_namei_there_are_so_many_links_and_no_more),
        unit(test_namei_remove_refuses),
        unit(test_namei_removing_gives_everything_back),
        unit(test_namei_rename_refuses),
        unit(test_namei_rename_into_a_removed_directory_is_refused),
        unit(test_namei_rename_moves_and_counts_links),
        unit(test_namei_rename_of_two_names_of_one_file_does_nothing),
        unit(test_namei_rename_exchange_swaps_whatever_they_are),
        unit(test_namei_rename_whiteout_leaves_a_device),
        unit(test_namei_who_was_looked_up_lives_until_it_is_forgotten),
        unit(test_namei_forgetting_too_much_is_forgetting_all),
        unit(test_namei_what_a_rename_replaced_lives_on_too),
        unit(test_namei_a_tmpfile_has_no_name_until_it_is_linked),
        unit(test_namei_a_number_used_again_is_another_inode),
        unit(test_namei_an_entry_of_another_generation_is_damaged),
        unit(test_namei_hostile_parents_are_an_error),
        unit(test_namei_orphans_of_a_dead_driver_are_freed_by_the_next),
        unit(test_namei_a_driver_that_leaves_frees_its_orphans),
        unit(test_namei_lookups_of_another_epoch_are_void),
        unit(test_namei_renames_across_directories_make_no_loops),
        unit(test_namei_lookups_bear_unlinks_and_numbers_used_again),
        unit(test_namei_many_may_make_and_remove_the_same_names),
        real_unit(test_namei_does_what_the_kernel_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
