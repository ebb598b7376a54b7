/* SPDX-License-Identifier: MIT */
#ifndef TEST_SALVAGE_WORLD_H
#define TEST_SALVAGE_WORLD_H

/*
 * A filesystem with some of everything, an image of it, ways to damage that page by page, and a comparison of what was restored with
 * what there was. `fs` is the filesystem itself, from when the image was made; it is not changed any more.
 */
#include "api.h"

#include "dir.h"
#include "image.h"
#include "snapshot.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

enum { MANY = 200, LINKS = 20, PLAIN_SIZE = 10 * PAGE + 123, EXTENTS = 600, LINES_MAX = 1024 };

static char image_path[96], restored_path[96];
static struct shmfs *restored;

/* ---- damage that was told of -------------------------------------------------------------------- */

static char *lines[LINES_MAX]; /* "path|text" */
static unsigned nlines;

static inline void lines_forget(void)
{
    while (nlines > 0)
        free(lines[--nlines]);
}

static inline void line_add(void *arg, const char *path, const char *text)
{
    CHECK(nlines < LINES_MAX && arg == &nlines);
    MUST(asprintf(&lines[nlines++], "%s|%s", path ? path : "", text));
}

static inline bool line_is(const char *line)
{
    for (unsigned i = 0; i < nlines; i++) {
        if (strcmp(lines[i], line) == 0)
            return true;
    }
    return false;
}

static inline void assert_line(const char *format, ...)
{
    char line[PATH_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (line_is(line))
        return;
    for (unsigned i = 0; i < nlines; i++)
        print_error("told: %s\n", lines[i]);
    fail_msg("not told: %s", line);
}

/* ---- making it ---------------------------------------------------------------------------------- */

static inline void put_pattern(const char *path, size_t n)
{
    struct shmfs_file *file = open_file(path, O_WRONLY | O_CREAT);
    AUTO_FREE uint32_t *buf = malloc(round_up(n, 4));

    CHECK(buf != NULL);
    for (size_t i = 0; i < round_up(n, 4) / 4; i++)
        buf[i] = (uint32_t)(i * 2654435761u + n + 1);
    CHECK_EQ(shmfs_pwrite(file, buf, n, 0), n);
    close_file(file);
}

static inline void put_scattered(const char *path, unsigned n, off_t step, off_t size)
{
    struct shmfs_file *file = open_file(path, O_WRONLY | O_CREAT);
    char buf[PAGE];

    for (unsigned i = 0; i < n; i++) {
        memset(buf, (int)(i % 255) + 1, sizeof(buf));
        CHECK_EQ(shmfs_pwrite(file, buf, sizeof(buf), (off_t)i * step), sizeof(buf));
    }
    MUST(shmfs_ftruncate(file, size));
    close_file(file);
}

static inline void put_acl(const char *path, const char *name)
{
    struct {
        struct posix_acl_xattr_header head;
        struct posix_acl_xattr_entry e[5];
    } acl = { { POSIX_ACL_XATTR_VERSION },
              { { ACL_USER_OBJ, 7, ACL_UNDEFINED_ID },
                { ACL_USER, 5, 4711 },
                { ACL_GROUP_OBJ, 1, ACL_UNDEFINED_ID },
                { ACL_MASK, 5, ACL_UNDEFINED_ID },
                { ACL_OTHER, 0, ACL_UNDEFINED_ID } } };

    MUST(shmfs_setxattr(fs, path, name, &acl, sizeof(acl), 0));
}

/* The nth name of /many; the first LINKS of them are of one file. */
static inline const char *many_name(unsigned i)
{
    static char name[PATH_MAX];

    snprintf(name, sizeof(name), "/many/%0200u", i);
    return name;
}

static inline void make_many(void)
{
    char text[32];

    MUST(shmfs_mkdir(fs, "/many", 0755));
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof(text), "text %u", i);
        if (i == 0 || i >= LINKS)
            put_text(many_name(i), text);
        else
            MUST(shmfs_link(fs, "/first", many_name(i)));
        if (i == 0)
            MUST(shmfs_link(fs, many_name(0), "/first"));
    }
}

static inline void make_world(void)
{
    struct timespec times[2] = { { 1000000001, 999999999 }, { -77, 1 } };
    char target[301], value[10000];

    put_pattern("/plain", PLAIN_SIZE);
    put_pattern("/other", 3 * PAGE);
    MUST(shmfs_chmod(fs, "/plain", 06755));
    MUST(shmfs_utimens(fs, "/plain", times, 0));
    put_scattered("/holes", 3, 3 * PAGE, 20 * PAGE + 7);
    put_scattered("/mapped", EXTENTS, 2 * PAGE, 2 * EXTENTS * PAGE);
    MUST(shmfs_mkdir(fs, "/deep", 0755));
    MUST(shmfs_mkdir(fs, "/deep/sub", 03711));
    put_pattern("/deep/sub/leaf", 5000);
    put_acl("/deep", "system.posix_acl_default");
    put_pattern("/deep/linked", 5 * PAGE);
    MUST(shmfs_link(fs, "/deep/linked", "/deep/sub/link"));
    memset(target, 't', sizeof(target) - 1);
    target[sizeof(target) - 1] = 0;
    MUST(shmfs_symlink(fs, "plain", "/short"));
    MUST(shmfs_symlink(fs, target, "/long"));
    MUST(shmfs_mknod(fs, "/fifo", S_IFIFO | 0640, 0));
    put_pattern("/attrs", 100);
    memset(value, 'v', sizeof(value));
    MUST(shmfs_setxattr(fs, "/attrs", "user.small", "one", 3, 0));
    MUST(shmfs_setxattr(fs, "/attrs", "user.empty", "", 0, 0));
    MUST(shmfs_setxattr(fs, "/attrs", "user.big", value, sizeof(value), 0));
    put_acl("/attrs", "system.posix_acl_access");
    if (geteuid() == 0)
        MUST(shmfs_chown(fs, "/other", 123, 456));
    make_many();
    MUST(shmfs_link(fs, many_name(100), "/deep/hundred"));
    MUST(shmfs_utimens(fs, "/deep", times, 0));
}

static inline void make_image(void)
{
    struct shmfs_snapshot_result result;
    struct shmfs_snapshot *snapshot;
    struct shmfs_diag diag;

    MUST(shmfs_snapshot_open(fs, image_path, 0, &snapshot, &diag));
    MUST(shmfs_snapshot_take(snapshot, false, NULL, &result, &diag));
    shmfs_snapshot_close(snapshot);
    api_detach();
    fs = api_attach(SHMFS_NOATIME);
}

static inline int begin_empty(void **state)
{
    api_setup(state);
    snprintf(image_path, sizeof(image_path), "%s.image", region_path);
    snprintf(restored_path, sizeof(restored_path), "%s.restored", region_path);
    restored = NULL;
    return 0;
}

static inline int begin(void **state)
{
    begin_empty(state);
    make_world();
    make_image();
    return 0;
}

static inline int end(void **state)
{
    int left;

    if (restored)
        shmfs_detach(restored);
    lines_forget();
    left = unlink(restored_path) < 0 && errno != ENOENT;
    unlink(image_path);
    return left | api_teardown(state);
}

#define salvage_unit(f) cmocka_unit_test_setup_teardown(f, begin, end)

/* ---- damaging it -------------------------------------------------------------------------------- */

static inline uint64_t image_pages(void)
{
    return snapshot_page(fs->l.npages);
}

static inline off_t home_of(uint64_t page)
{
    return (off_t)((IMAGE_HEADERS + 1 + div_up(image_pages(), IMAGE_HASHES) + page) * IMAGE_BLOCK);
}

/* A page of the image, which must not be a hole. */
static inline void damage_page(uint64_t page)
{
    AUTO_CLOSE int fd = (int)MUST(open(image_path, O_RDWR | O_CLOEXEC));
    uint8_t was[IMAGE_PAGE];

    CHECK_EQ(pread(fd, was, sizeof(was), home_of(page)), sizeof(was));
    CHECK(!all_are(was, 0, sizeof(was)));
    was[1234] ^= 0x10;
    CHECK_EQ(pwrite(fd, was, sizeof(was), home_of(page)), sizeof(was));
}

static inline void damage_at(uint64_t region_offset)
{
    damage_page(snapshot_page((region_offset - fs->l.group_desc) / BLOCK_SIZE));
}

static inline void damage_block(uint32_t blk)
{
    CHECK(blk != 0);
    damage_at(fs->l.blocks + (uint64_t)blk * BLOCK_SIZE);
}

static inline struct inode *inode_of(const char *path)
{
    return inode_at(fs, (uint32_t)stat_of(path).st_ino);
}

static inline uint32_t block_of(const char *path, uint64_t pos)
{
    struct map_at at;
    struct blkref blk = { 0 };
    uint64_t len;

    MUST(map_find(fs, (uint32_t)stat_of(path).st_ino, inode_of(path), pos, &at));
    CHECK(map_at_block(&at, pos, &blk, &len));
    return blk.n;
}

static inline void damage_inode(const char *path)
{
    damage_at(fs->l.inodes + stat_of(path).st_ino * INODE_SIZE);
}

/* ---- restoring ---------------------------------------------------------------------------------- */

static inline struct shmfs_restore how_to(bool salvage)
{
    return (struct shmfs_restore){ .salvage = salvage, .mode = 0600, .damage = line_add, .arg = &nlines };
}

static inline struct shmfs_restore_result verify(void)
{
    struct shmfs_restore how = how_to(false);
    struct shmfs_restore_result result = { 0 };
    struct shmfs_diag diag = { 0 };

    lines_forget();
    CHECK_EQ(shmfs_image_verify(image_path, &how, &result, &diag), -EUCLEAN);
    CHECK_EQ(diag.reason, SHMFS_REASON_IMAGE_PAGES);
    CHECK_EQ(diag.a, result.damaged);
    return result;
}

/* What is restored is sound, and attached as `restored`. */
static inline struct shmfs_restore_result salvage(void)
{
    struct shmfs_restore how = how_to(true);
    struct shmfs_restore_result result = { 0 };
    struct shmfs_diag diag = { 0 };

    lines_forget();
    CHECK_EQ(shmfs_image_restore(image_path, restored_path, &how, &result, &diag), 0);
    CHECK_EQ(problems_of(restored_path), 0);
    restored = api_attach_at(restored_path, SHMFS_NOATIME);
    return result;
}

/* ---- comparing ---------------------------------------------------------------------------------- */

static inline void assert_same_times(const char *path, const struct stat *a, const struct stat *b)
{
    struct shmfs_attr x, y;

    MUST(shmfs_node_getattr(fs, (uint32_t)a->st_ino, &x));
    MUST(shmfs_node_getattr(restored, (uint32_t)b->st_ino, &y));
    if (memcmp(&x.atime, &y.atime, sizeof(x.atime)) != 0 ||
        memcmp(&x.mtime, &y.mtime, sizeof(x.mtime)) != 0 ||
        memcmp(&x.ctime, &y.ctime, sizeof(x.ctime)) != 0 || memcmp(&x.btime, &y.btime, sizeof(x.btime)) != 0)
        fail_msg("%s: its times differ", path);
}

static inline void assert_same_attrs(const char *path, const char *to)
{
    char names[1024] = { 0 }, others[1024] = { 0 };
    ssize_t n = MUST(shmfs_llistxattr(fs, path, names, sizeof(names)));

    CHECK_EQ(MUST(shmfs_llistxattr(restored, to, others, sizeof(others))), n);
    for (char *name = names; name < names + n; name += strlen(name) + 1) {
        char value[16384], other[16384];
        ssize_t len = MUST(shmfs_lgetxattr(fs, path, name, value, sizeof(value)));

        CHECK_EQ(MUST(shmfs_lgetxattr(restored, to, name, other, sizeof(other))), len);
        CHECK(memcmp(value, other, (size_t)len) == 0);
    }
}

/* Bytes [from, to) are the same, or all zeros; and so are the holes. */
static inline void assert_same_bytes(const char *path, const char *copy, off_t from, off_t to, bool missing)
{
    struct shmfs_file *a = open_file(path, O_RDONLY), *b = open_in(restored, copy, O_RDONLY);
    uint8_t x[PAGE], y[PAGE];
    off_t data;

    for (off_t at = from; at < to; at += PAGE) {
        ssize_t n = MUST(shmfs_pread(a, x, (size_t)MIN(to - at, (off_t)PAGE), at));

        CHECK_EQ(shmfs_pread(b, y, (size_t)n, at), n);
        if (missing ? !all_are(y, 0, (size_t)n) : memcmp(x, y, (size_t)n) != 0)
            fail_msg("%s: byte %jd and on differ", copy, (intmax_t)at);
        data = shmfs_lseek_data(b, at);
        if (missing)
            CHECK(data == -ENXIO || data >= MIN(at + PAGE, to));
        else
            CHECK_EQ(data == at, shmfs_lseek_data(a, at) == at);
    }
    close_file(a);
    close_file(b);
}

static inline void assert_same_link(const char *path, const char *copy)
{
    char x[PATH_MAX] = { 0 }, y[PATH_MAX] = { 0 };

    MUST(shmfs_readlink(fs, path, x, sizeof(x)));
    MUST(shmfs_readlink(restored, copy, y, sizeof(y)));
    assert_string_equal(x, y);
}

/* All that can be said of one name. */
static inline void assert_same_but_data(const char *path, const char *copy)
{
    struct stat a = stat_of(path), b;
    int r = shmfs_lstat(restored, copy, &b);

    if (r < 0)
        fail_msg("%s: %d", copy, r);
    if (a.st_mode != b.st_mode || a.st_uid != b.st_uid || a.st_gid != b.st_gid || a.st_rdev != b.st_rdev ||
        (!S_ISDIR(a.st_mode) && a.st_size != b.st_size))
        fail_msg("%s: mode %#o, %#o; size %jd, %jd", path, a.st_mode, b.st_mode, (intmax_t)a.st_size,
                 (intmax_t)b.st_size);
    assert_same_times(path, &a, &b);
}

static inline void assert_same(const char *path, const char *copy)
{
    struct stat a = stat_of(path);

    assert_same_but_data(path, copy);
    assert_same_attrs(path, copy);
    if (S_ISREG(a.st_mode))
        assert_same_bytes(path, copy, 0, a.st_size, false);
    if (S_ISLNK(a.st_mode))
        assert_same_link(path, copy);
}

/* Calls f for each name but "." and "..": path by path, from the root on. Returns how many. */
static inline unsigned each_name(struct shmfs *in, const char *dir, void (*f)(const char *path, void *arg),
                                 void *arg)
{
    const struct dirent *e;
    struct shmfs_dir *d;
    unsigned n = 0;

    MUST(shmfs_opendir(in, dir, &d));
    while (MUST(shmfs_readdir(d, &e)) == 1) {
        char path[PATH_MAX];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir[1] == 0 ? "" : dir, e->d_name);
        if (f)
            f(path, arg);
        n++;
        if (e->d_type == DT_DIR)
            n += each_name(in, path, f, arg);
    }
    MUST(shmfs_closedir(d));
    return n;
}

static inline void same_unless_left_out(const char *path, void *arg)
{
    struct stat st;

    for (const char *const *left_out = arg; *left_out; left_out++) {
        if (strcmp(path, *left_out) == 0)
            return;
    }
    assert_same(path, path);
    MUST(shmfs_lstat(restored, path, &st));
    assert_int_equal(stat_of(path).st_nlink, st.st_nlink);
}

/* Nothing else is there, and all is as it was, but for these paths. */
#define assert_all_same_but(...) \
    do { \
        const char *left_out_[] = { __VA_ARGS__, NULL }; \
        CHECK_EQ(each_name(fs, "/", same_unless_left_out, left_out_), each_name(restored, "/", NULL, NULL)); \
        assert_same("/", "/"); \
    } while (0)

/* Inodes that names lead to, the root among them. */
static inline uint64_t inodes_in_use(void)
{
    struct statvfs st = space_now();

    return st.f_files - st.f_ffree;
}

#endif
