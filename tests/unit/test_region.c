/* SPDX-License-Identifier: MIT */
/* Regions: what is taken for one and what is refused (P6), mapping anywhere (P1), a file cut short. */
#include "fixture.h"

#include <sys/mman.h>
#include <sys/un.h>
#include <sys/xattr.h>

/* ---- validation ---------------------------------------------------------------------------------- */

static struct superblock superblock_read(void)
{
    struct superblock sb;
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));

    CHECK_EQ(pread(fd, &sb, sizeof(sb), 0), sizeof(sb));
    return sb;
}

static uint64_t file_size(void)
{
    struct stat st;

    MUST(stat(region_path, &st));
    return (uint64_t)st.st_size;
}

/* Is the superblock, with its checksum made right, refused for this reason? */
static void expect_reason(struct superblock sb, enum shmfs_reason reason, uint64_t a, uint64_t b)
{
    struct layout untouched, l;
    struct shmfs_diag diag = { 0 };

    sb.checksum = layout_checksum(&sb);
    memset(&untouched, 0x5a, sizeof(untouched));
    l = untouched;
    assert_int_equal(region_check(&sb, file_size(), &l, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, reason);
    assert_int_equal(diag.a, a);
    assert_int_equal(diag.b, b);
    assert_memory_equal(&l, &untouched, sizeof(l));
}

static void test_region_check_takes_a_good_superblock(void **state)
{
    struct superblock sb = superblock_read();
    struct shmfs_diag diag = { 0 };
    struct layout l;

    assert_int_equal(region_check(&sb, file_size(), &l, &diag), 0);
    assert_memory_equal(&l, &fs->l, sizeof(l));
    assert_int_equal(diag.reason, SHMFS_REASON_NONE);
}

static void test_region_check_says_what_is_wrong(void **state)
{
    struct superblock good = superblock_read(), sb;

    sb = good;
    sb.magic[7] ^= 1;
    expect_reason(sb, SHMFS_REASON_NOT_REGION, 0, 0);
    sb = good;
    sb.byte_order = __builtin_bswap64(sb.byte_order);
    expect_reason(sb, SHMFS_REASON_BYTE_ORDER, 0, 0);
    sb = good;
    sb.version = FORMAT_VERSION + 7;
    expect_reason(sb, SHMFS_REASON_VERSION, FORMAT_VERSION + 7, FORMAT_VERSION);
    sb = good;
    sb.incompat = 0x80000001;
    expect_reason(sb, SHMFS_REASON_FEATURE, 0x80000001, 0);
    sb = good;
    sb.layout_hash ^= 1;
    expect_reason(sb, SHMFS_REASON_LAYOUT, 0, 0);
}

static void test_region_check_refuses_impossible_geometry(void **state)
{
    struct superblock good = superblock_read(), sb;

#define REFUSES(field, value) \
    do { \
        sb = good; \
        sb.field = (value); \
        expect_reason(sb, SHMFS_REASON_GEOMETRY, 0, 0); \
    } while (0)

    REFUSES(block_size, 0);
    REFUSES(block_size, 8192);
    REFUSES(max_blocks, 0);
    REFUSES(max_blocks, UINT64_MAX);
    REFUSES(max_blocks, good.max_blocks * 64);
    REFUSES(ninodes, good.ninodes + 1);
    REFUSES(group_blocks, 0);
    REFUSES(group_inodes, 3);
    REFUSES(ngroups, 0);
    REFUSES(nslots, 0);
    REFUSES(nprocs, UINT32_MAX);
    REFUSES(nblocks, 0);
    REFUSES(nblocks, 1);
    REFUSES(nblocks, good.max_blocks + 1);
    REFUSES(nblocks, UINT64_MAX);
#undef REFUSES
}

static void test_region_check_refuses_a_file_that_is_too_short(void **state)
{
    struct superblock sb = superblock_read();
    struct shmfs_diag diag = { 0 };
    uint64_t want = fs->l.blocks + sb.nblocks * BLOCK_SIZE;
    struct layout l;

    assert_int_equal(file_size(), want);
    assert_int_equal(region_check(&sb, want - 1, &l, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, SHMFS_REASON_TRUNCATED);
    assert_int_equal(diag.a, want - 1);
    assert_int_equal(diag.b, want);
    assert_int_equal(region_check(&sb, want + 1, &l, &diag), 0);
}

/* P6, exhaustively: no single bit of what mkfs wrote can turn round unseen. */
static void test_region_check_refuses_every_flipped_bit(void **state)
{
    struct superblock sb = superblock_read();
    struct shmfs_diag diag;
    struct layout l;

    for (size_t bit = 0; bit < offsetof(struct superblock, pad1) * 8; bit++) {
        ((uint8_t *)&sb)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (region_check(&sb, file_size(), &l, &diag) != -EUCLEAN)
            fail_msg("bit %zu of the superblock may be wrong", bit);
        ((uint8_t *)&sb)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void expect_refusal(const char *path, unsigned flags, int err, enum shmfs_reason reason)
{
    struct shmfs_diag diag = { .reason = SHMFS_REASON_FULL };
    struct shmfs *untouched = (struct shmfs *)(uintptr_t)0x5a5a, *got = untouched;
    int r = region_open(path, flags, &got, &diag);

    if (r != err || diag.reason != reason)
        fail_msg("%s: %d (reason %d), not %d (reason %d)", path, r, (int)diag.reason, err, (int)reason);
    assert_ptr_equal(got, untouched);
}

static void write_superblock(const struct superblock *sb)
{
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDWR | O_CLOEXEC));

    CHECK_EQ(pwrite(fd, sb, sizeof(*sb), 0), sizeof(*sb));
}

static void test_region_open_refuses_what_is_damaged(void **state)
{
    struct superblock good, sb;

    detach();
    good = sb = superblock_read();
    sb.made ^= 1;
    write_superblock(&sb);
    expect_refusal(region_path, 0, -EUCLEAN, SHMFS_REASON_CHECKSUM);
    write_superblock(&good);
    MUST(truncate(region_path, (off_t)file_size() - BLOCK_SIZE));
    expect_refusal(region_path, 0, -EUCLEAN, SHMFS_REASON_TRUNCATED);
    MUST(truncate(region_path, sizeof(struct superblock) - 1));
    expect_refusal(region_path, 0, -EUCLEAN, SHMFS_REASON_NOT_REGION);
    MUST(truncate(region_path, 0));
    expect_refusal(region_path, 0, -EUCLEAN, SHMFS_REASON_NOT_REGION);
    unlink(region_path);
    expect_refusal(region_path, 0, -ENOENT, SHMFS_REASON_NONE);
}

/* A feature that only writers must know does not keep readers out. */
static void test_region_open_reads_what_it_may_not_write(void **state)
{
    struct superblock good, sb;
    struct shmfs_diag diag;
    struct shmfs *ro;

    detach();
    good = sb = superblock_read();
    sb.ro_compat = 4;
    sb.compat = 0xffffffff; /* whatever these are, they hurt nobody */
    sb.checksum = layout_checksum(&sb);
    write_superblock(&sb);
    expect_refusal(region_path, 0, -EUCLEAN, SHMFS_REASON_FEATURE);
    expect_refusal(region_path, SHMFS_ATTACH_PRIVATE, -EUCLEAN, SHMFS_REASON_FEATURE);
    assert_int_equal(region_open(region_path, 0, &ro, &diag), -EUCLEAN);
    assert_int_equal(diag.a, 0);
    assert_int_equal(diag.b, 4);
    assert_int_equal(region_open(region_path, SHMFS_ATTACH_RDONLY, &ro, &diag), 0);
    region_close(ro);
    write_superblock(&good);
}

static void test_region_open_takes_regular_files_only(void **state)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    char other[96];
    AUTO_CLOSE int fd = -1;

    snprintf(other, sizeof(other), "%s-other", region_path);
    unlink(other);
    expect_refusal(test_directory(), 0, -EISDIR, SHMFS_REASON_NOT_FILE);
    expect_refusal(test_directory(), SHMFS_ATTACH_RDONLY, -EINVAL, SHMFS_REASON_NOT_FILE);
    expect_refusal("/dev/null", 0, -EINVAL, SHMFS_REASON_NOT_FILE);

    MUST(mkfifo(other, 0600)); /* and does not wait for a writer */
    expect_refusal(other, 0, -EINVAL, SHMFS_REASON_NOT_FILE);
    expect_refusal(other, SHMFS_ATTACH_RDONLY, -EINVAL, SHMFS_REASON_NOT_FILE);
    unlink(other);

    MUST(symlink(region_path, other)); /* who can make a link could choose the file */
    expect_refusal(other, 0, -ELOOP, SHMFS_REASON_NOT_FILE);
    unlink(other);

    fd = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", other);
    MUST(bind(fd, (struct sockaddr *)&name, sizeof(name)));
    expect_refusal(other, 0, -ENXIO, SHMFS_REASON_NOT_FILE);
    unlink(other);
}

/* ---- making ---------------------------------------------------------------------------------------- */

static int make_error(const struct shmfs_make *make, enum shmfs_reason reason)
{
    struct shmfs_geometry untouched, geometry;
    struct shmfs_diag diag = { .reason = SHMFS_REASON_FULL };
    int r;

    memset(&untouched, 0x5a, sizeof(untouched));
    geometry = untouched;
    r = shmfs_region_make(region_path, make, &geometry, &diag);
    assert_int_equal(diag.reason, reason);
    assert_memory_equal(&geometry, &untouched, sizeof(geometry));
    return r;
}

static void test_region_make_refuses_sizes_out_of_bounds(void **state)
{
    struct shmfs_make make = { .size = LAYOUT_SIZE_MIN - 1, .mode = 0600 };

    detach();
    unlink(region_path);
    assert_int_equal(make_error(&make, SHMFS_REASON_TOO_SMALL), -EINVAL);
    make.size = LAYOUT_SIZE_MAX + 1;
    assert_int_equal(make_error(&make, SHMFS_REASON_TOO_LARGE), -EINVAL);
    make.size = UINT64_MAX;
    assert_int_equal(make_error(&make, SHMFS_REASON_TOO_LARGE), -EINVAL);
    make.size = 16 * MIB;
    make.max_size = LAYOUT_SIZE_MAX + 1;
    assert_int_equal(make_error(&make, SHMFS_REASON_TOO_LARGE), -EINVAL);
    make.max_size = 16 * MIB - 1;
    assert_int_equal(make_error(&make, SHMFS_REASON_TOO_SMALL), -EINVAL);
    assert_int_equal(access(region_path, F_OK), -1);
}

static void test_region_make_replaces_nothing_unless_told(void **state)
{
    struct shmfs_make make = { .size = REGION_SIZE, .mode = 0640, .root_mode = 0700 };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag;
    struct stat st;
    mode_t old = umask(077);

    assert_int_equal(make_error(&make, SHMFS_REASON_EXISTS), -EEXIST);
    make.force = true;
    assert_int_equal(make_error(&make, SHMFS_REASON_IN_USE), -EBUSY); /* by this very process */
    make_file(SHMFS_ROOT, "precious");
    detach();
    make.force = false;
    assert_int_equal(make_error(&make, SHMFS_REASON_EXISTS), -EEXIST);
    fs = attach(0);
    assert_int_equal(lookup_error(SHMFS_ROOT, "precious"), 0);
    detach();

    make.force = true;
    assert_int_equal(shmfs_region_make(region_path, &make, &geometry, &diag), 0);
    umask(old);
    MUST(stat(region_path, &st));
    assert_int_equal(st.st_mode & 07777, 0640); /* the umask does not count */
    assert_int_equal(st.st_size, geometry.file_size);
    fs = attach(0);
    assert_int_equal(lookup_error(SHMFS_ROOT, "precious"), -ENOENT);
    assert_int_equal(attr_of(SHMFS_ROOT).mode, S_IFDIR | 0700);
    shmfs_region_geometry(fs, &geometry);
    assert_int_equal(geometry.size, REGION_SIZE);
    assert_int_equal(geometry.max_size, 4 * (uint64_t)REGION_SIZE);
}

/* A region is a hole for the most part: it costs what is in it (FORMAT, "Geometry"). */
static void test_region_make_costs_what_is_used(void **state)
{
    struct stat st;

    detach();
    unlink(region_path);
    make_path(region_path, GIB, GIB, 0);
    MUST(stat(region_path, &st));
    assert_true((uint64_t)st.st_size > GIB);
    assert_true((uint64_t)st.st_blocks * 512 < 2 * MIB);
}

/* ---- access by reference ---------------------------------------------------------------------------- */

static void test_region_references_are_checked_when_used(void **state)
{
    uint32_t n = (uint32_t)region_nblocks(fs);

    assert_null(region_block(fs, (struct blkref){ 0 }));
    assert_ptr_equal(region_block(fs, (struct blkref){ 1 }), fs->blocks + BLOCK_SIZE);
    assert_non_null(region_block(fs, (struct blkref){ n - 1 }));
    assert_null(region_block(fs, (struct blkref){ n }));
    assert_null(region_block(fs, (struct blkref){ UINT32_MAX }));
    assert_false(region_inode_ok(fs, 0));
    assert_true(region_inode_ok(fs, fs->l.ninodes - 1));
    assert_false(region_inode_ok(fs, fs->l.ninodes));
    assert_true(region_contains(fs, 0, fs->map_len));
    assert_false(region_contains(fs, 1, fs->map_len));
    assert_false(region_contains(fs, fs->map_len, 0));
    assert_false(region_contains(fs, 8, UINT64_MAX - 4));
    assert_false(region_contains(fs, UINT64_MAX, 1));
}

/* P6: the number of blocks is read anew each time, and anybody may have written there. */
static void test_region_more_blocks_than_can_be_are_not_believed(void **state)
{
    uint64_t n = fs->sb->nblocks;

    fs->sb->nblocks = UINT64_MAX;
    assert_int_equal(region_nblocks(fs), fs->l.max_blocks);
    fs->sb->nblocks = n;
}

static int every_call_that_allocates(uint32_t file, uint32_t dir)
{
    struct shmfs_attr attr;
    char data[3 * BLOCK_SIZE] = { 1 };
    int r = 0;

    r |= shmfs_node_mknod(fs, dir, "new", S_IFREG, 0, &maker, false, &attr);
    r |= shmfs_node_mkdir(fs, dir, "newdir", 0755, &maker, false, &attr);
    r |= shmfs_node_write(fs, file, data, sizeof(data), (off_t)MIB, 0, NULL) < 0;
    r |= shmfs_node_fallocate(fs, file, 0, (off_t)(2 * MIB), MIB);
    r |= shmfs_node_setxattr(fs, file, "user.a", "b", 1, 0);
    return r;
}

static void scribble_on_nblocks(int fd, void *arg)
{
    fs = attach(0);
    uint32_t file = make_file(SHMFS_ROOT, "file"), dir = make_dir(SHMFS_ROOT, "dir");
    uint64_t n = fs->sb->nblocks;

    fs->sb->nblocks = *(uint64_t *)arg;
    CHECK(every_call_that_allocates(file, dir) != 0);
    fs->sb->nblocks = n;
    CHECK_EQ(shmfs_node_unlink(fs, SHMFS_ROOT, "file"), 0);
    detach();
}

/* P6: and so are fewer: an error, and no division by zero. */
static void test_region_no_blocks_at_all_is_an_error_and_no_crash(void **state)
{
    static uint64_t values[] = { 0, 1 };

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        setup(state);
        detach();
        struct child child = spawn(scribble_on_nblocks, &values[i]);
        assert_ends_well(&child);
    }
}

/* ---- P1: at any address ------------------------------------------------------------------------------ */

static void test_region_may_be_mapped_twice_at_different_addresses(void **state)
{
    struct shmfs *other = attach(0), *one = fs;
    struct shmfs_attr attr;
    char data[20000], back[20000];
    uint32_t dir, ino;

    assert_ptr_not_equal(one->base, other->base);
    assert_int_not_equal(one->self.v, other->self.v); /* two processes, as far as the region goes */
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7);

    dir = make_dir(SHMFS_ROOT, "dir");
    assert_int_equal(shmfs_node_mknod(other, dir, "file", S_IFREG | 0600, 0, &maker, false, &attr), 0);
    ino = ino_of(dir, "file");
    assert_int_equal(ino, attr.ino);
    assert_int_equal(shmfs_node_write(one, ino, data, sizeof(data), 3, 0, NULL), sizeof(data));
    assert_int_equal(shmfs_node_read(other, ino, back, sizeof(back), 3), sizeof(back));
    assert_memory_equal(back, data, sizeof(data));
    assert_int_equal(shmfs_node_setxattr(other, ino, "user.who", "other", 5, 0), 0);
    assert_int_equal(shmfs_node_getxattr(one, ino, "user.who", back, sizeof(back)), 5);
    assert_int_equal(shmfs_node_rename(other, dir, "file", SHMFS_ROOT, "moved", 0, &maker), 0);
    assert_int_equal(ino_of(SHMFS_ROOT, "moved"), ino);
    shmfs_region_detach(one);
    fs = other;
    assert_int_equal(ino_of(SHMFS_ROOT, "moved"), ino);
}

/* No address is stored anywhere: the bytes of both mappings are those of the file. */
static void test_region_holds_no_addresses(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    uint64_t base = (uint64_t)(uintptr_t)fs->base, end = base + fs->map_len;
    AUTO_CLOSE int fd = (int)MUST(open(region_path, O_RDONLY | O_CLOEXEC));
    uint64_t words[BLOCK_SIZE / 8];

    MUST(shmfs_node_write(fs, ino, "data", 4, 0, 0, NULL));
    MUST(shmfs_node_setxattr(fs, ino, "user.a", "b", 1, 0));
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += BLOCK_SIZE) {
        assert_int_equal(pread(fd, words, sizeof(words), at), sizeof(words));
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
            if (words[i] >= base && words[i] < end)
                fail_msg("the word at %#jx is an address", (uintmax_t)at + i * 8);
    }
}

/* ---- P6: cut short while it is mapped ------------------------------------------------------------- */

static struct {
    uint32_t file, sparse, dir, link, tagged;
} world;

static void world_make(void)
{
    char big[100000], target[301];
    struct shmfs_attr attr;

    memset(big, 'b', sizeof(big));
    memset(target, 't', sizeof(target) - 1);
    target[sizeof(target) - 1] = 0;
    world.file = make_file(SHMFS_ROOT, "file");
    MUST(shmfs_node_write(fs, world.file, big, sizeof(big), 0, 0, NULL));
    world.sparse = make_file(SHMFS_ROOT, "sparse");
    for (int i = 0; i < 20; i++)
        MUST(shmfs_node_write(fs, world.sparse, "y", 1, (off_t)i * 2 * BLOCK_SIZE, 0, NULL));
    world.dir = make_dir(SHMFS_ROOT, "dir");
    make_dir(world.dir, "sub");
    make_file(world.dir, "inner");
    MUST(shmfs_node_symlink(fs, target, SHMFS_ROOT, "link", &maker, false, &attr));
    world.link = attr.ino;
    world.tagged = make_file(SHMFS_ROOT, "tagged");
    MUST(shmfs_node_setxattr(fs, world.tagged, "user.big", big, 10000, 0));
}

static char buffer[70000];
static struct shmfs_attr attr_out;

static long op_lookup(void)
{
    return shmfs_node_lookup(fs, SHMFS_ROOT, "file", false, &attr_out);
}
static long op_lookup_ref(void)
{
    return shmfs_node_lookup(fs, SHMFS_ROOT, "file", true, &attr_out);
}
static long op_getattr(void)
{
    return shmfs_node_getattr(fs, world.file, &attr_out);
}
static long op_forget(void)
{
    return shmfs_node_forget(fs, world.file, 1);
}
static long op_chmod(void)
{
    struct shmfs_attr attr = { .mode = 0600 };

    return shmfs_node_setattr(fs, world.file, &attr, SHMFS_SET_MODE, &attr_out);
}
static long op_truncate(void)
{
    struct shmfs_attr attr = { .size = 50001 };

    return shmfs_node_setattr(fs, world.file, &attr, SHMFS_SET_SIZE, &attr_out);
}
static long op_readlink(void)
{
    return shmfs_node_readlink(fs, world.link, buffer, sizeof(buffer));
}
static long op_mknod(void)
{
    return shmfs_node_mknod(fs, world.dir, "new", S_IFREG, 0, &maker, false, &attr_out);
}
static long op_mkdir(void)
{
    return shmfs_node_mkdir(fs, world.dir, "newdir", 0755, &maker, true, &attr_out);
}
static long op_symlink(void)
{
    return shmfs_node_symlink(fs, "target", world.dir, "newlink", &maker, false, &attr_out);
}
static long op_tmpfile(void)
{
    return shmfs_node_tmpfile(fs, world.dir, 0600, &maker, &attr_out);
}
static long op_link(void)
{
    return shmfs_node_link(fs, world.file, world.dir, "second", false, &attr_out);
}
static long op_unlink(void)
{
    return shmfs_node_unlink(fs, SHMFS_ROOT, "file");
}
static long op_rmdir(void)
{
    return shmfs_node_rmdir(fs, world.dir, "sub");
}
static long op_rename(void)
{
    return shmfs_node_rename(fs, world.dir, "sub", SHMFS_ROOT, "moved", 0, &maker);
}
static long op_readdir(void)
{
    struct shmfs_dirent entries[16];

    return shmfs_node_readdir(fs, SHMFS_ROOT, 0, entries, 16);
}
static long op_read(void)
{
    return shmfs_node_read(fs, world.file, buffer, sizeof(buffer), 100);
}
static long op_overwrite(void)
{
    return shmfs_node_write(fs, world.file, buffer, 9000, 100, 0, NULL);
}
static long op_write_much(void)
{
    return shmfs_node_write(fs, world.file, buffer, sizeof(buffer), 50000, 0, NULL);
}
static long op_fill_hole(void)
{
    return shmfs_node_write(fs, world.sparse, buffer, 9000, BLOCK_SIZE + 100, 0, NULL);
}
static long op_fallocate(void)
{
    return shmfs_node_fallocate(fs, world.sparse, 0, 0, 300000);
}
static long op_punch(void)
{
    return shmfs_node_fallocate(fs, world.file, 3 /* PUNCH_HOLE | KEEP_SIZE */, 5000, 50000);
}
static long op_lseek(void)
{
    return shmfs_node_lseek(fs, world.sparse, 1, SEEK_HOLE);
}
static long op_copy(void)
{
    return shmfs_node_copy(fs, world.file, 0, world.sparse, 1000000, 50000);
}
static long op_setxattr(void)
{
    return shmfs_node_setxattr(fs, world.tagged, "user.small", "s", 1, 0);
}
static long op_getxattr(void)
{
    return shmfs_node_getxattr(fs, world.tagged, "user.big", buffer, sizeof(buffer));
}
static long op_listxattr(void)
{
    return shmfs_node_listxattr(fs, world.tagged, buffer, sizeof(buffer));
}
static long op_removexattr(void)
{
    return shmfs_node_removexattr(fs, world.tagged, "user.big");
}
static long op_tend(void)
{
    return shmfs_region_tend(fs);
}

static const struct {
    const char *name;
    long (*call)(void);
} ops[] = {
#define OP(name) \
    { \
#name, op_##name \
    }
    OP(lookup),     OP(lookup_ref), OP(getattr),   OP(forget),      OP(chmod),   OP(truncate),
    OP(readlink),   OP(mknod),      OP(mkdir),     OP(symlink),     OP(tmpfile), OP(link),
    OP(unlink),     OP(rmdir),      OP(rename),    OP(readdir),     OP(read),    OP(overwrite),
    OP(write_much), OP(fill_hole),  OP(fallocate), OP(punch),       OP(lseek),   OP(copy),
    OP(setxattr),   OP(getxattr),   OP(listxattr), OP(removexattr), OP(tend),
#undef OP
};

enum { CUTS = 13 };

static uint64_t cut_at(unsigned i)
{
    const struct layout *l = &fs->l;
    const uint64_t cuts[CUTS] = {
        0,
        BLOCK_SIZE,
        l->procs,
        l->slots,
        l->uses,
        l->ranges,
        l->inode_rt,
        l->group_rt,
        l->group_desc,
        l->inode_maps,
        l->inodes,
        l->blocks,
        l->blocks + 12 * (uint64_t)BLOCK_SIZE,
    };

    return cuts[i];
}

struct cut {
    unsigned cut, op;
};

static void cut_short(int unused, void *arg)
{
    const struct cut *cut = arg;

    alarm(20);
    unlink(region_path);
    make_path(region_path, REGION_SIZE, REGION_SIZE, 0);
    fs = attach(0);
    world_make();
    MUST(truncate(region_path, (off_t)cut_at(cut->cut)));
    long r = ops[cut->op].call();
    if (fs->broken)
        CHECK_EQ(r, -EIO);
    CHECK(fs->broken || r >= 0);
    CHECK(cut->cut > 0 || fs->broken);
    for (size_t i = 0; fs->broken && i < ARRAY_SIZE(ops); i++)
        if (ops[i].call != op_tend)
            CHECK_EQ(ops[i].call(), -EIO);
    detach();
}

/* P6: no crash, whatever is called and whatever is gone; and -EIO from the call that finds out. */
static void test_region_cut_short_is_an_error_and_no_crash(void **state)
{
    unsigned bad = 0;

    detach();
    for (unsigned cut = 0; cut < CUTS; cut++) {
        for (unsigned op = 0; op < ARRAY_SIZE(ops); op++) {
            struct cut what = { cut, op };
            struct child child = spawn(cut_short, &what);
            int status = reap(&child);

            if (status != 0)
                print_error("cut %u, %s: status %#x\n", cut, ops[op].name, (unsigned)status);
            bad += status != 0;
        }
    }
    unlink(region_path);
    assert_int_equal(bad, 0);
}

/* Within an operation: locks are held, the inode has been looked at, and then all is gone. */
static void cut_within(int unused, void *arg)
{
    struct alloc_want want = { .len = 1 };
    struct blkref blk;
    struct inode *in;
    struct txn t;
    uint32_t len;

    alarm(20);
    fs = attach(0);
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    MUST(txn_begin(fs, &t));
    MUST(inode_lock(&t, ino, &in));
    inode_edit(&t, ino);
    MUST(truncate(region_path, 0));
    (void)!alloc_blocks(&t, &want, &blk, &len);
    txn_abort(&t);
    CHECK(fs->broken);
    detach();
}

static void test_region_cut_short_within_a_transaction_is_no_crash(void **state)
{
    detach();
    struct child child = spawn(cut_within, NULL);
    int status = reap(&child);
    unlink(region_path);
    assert_int_equal(status, 0);
}

/* What is cut off cannot be attached, before or after. */
static void test_region_cut_short_is_refused_at_the_next_attach(void **state)
{
    struct shmfs_diag diag;
    struct shmfs *other;

    bus_restore();
    MUST(truncate(region_path, (off_t)fs->l.blocks));
    assert_int_equal(shmfs_region_attach(region_path, 0, &other, &diag), -EUCLEAN);
    assert_int_equal(diag.reason, SHMFS_REASON_TRUNCATED);
    detach();
    unlink(region_path);
}

/* One region's misfortune is not another's. */
static void test_region_cut_short_leaves_others_alone(void **state)
{
    char path[96];
    struct shmfs *good = fs;

    bus_restore();
    snprintf(path, sizeof(path), "%s-cut", region_path);
    unlink(path);
    make_path(path, MIB, MIB, 0);
    fs = attach_path(path, 0);
    MUST(truncate(path, 0));
    attr_out.ino = 0;
    assert_true(op_lookup() < 0);
    assert_int_equal(fs->broken, 1);
    shmfs_region_detach(fs);
    unlink(path);
    fs = good;
    assert_int_equal(fs->broken, 0);
    make_file(SHMFS_ROOT, "fine");
}

/* ---- faults that are not ours ------------------------------------------------------------------------ */

static sigjmp_buf not_ours;

static void jump_out(int sig)
{
    siglongjmp(not_ours, 1);
}

/* A page of another file, which is not there. */
static volatile char *missing_page(void)
{
    int fd = (int)MUST(open(test_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));

    return mmap(NULL, BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void fault_with_handler(void)
{
    struct sigaction sa = { .sa_handler = jump_out };

    MUST(sigaction(SIGBUS, &sa, NULL));
    fs = attach(0);
    if (sigsetjmp(not_ours, 1) == 0) {
        *missing_page() = 1;
        CHECK(!"the fault was swallowed");
    }
    CHECK_EQ(fs->broken, 0);
    detach();
}

static void fault_without_handler(void)
{
    struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
    signal(SIGBUS, SIG_DFL);
    fs = attach(0);
    *missing_page() = 1;
}

/* This program anew, so that the library has not yet put its handler in place. */
static int run_anew(const char *what)
{
    away = true;
    alarm(20);
    hash_mask = UINT64_MAX;
    if (strcmp(what, "fault_with_handler") == 0)
        fault_with_handler();
    else
        fault_without_handler();
    return 0;
}

static void exec_anew(int fd, void *arg)
{
    MUST(execl("/proc/self/exe", "test_region", (const char *)arg, region_path, (char *)NULL));
}

static void test_region_passes_on_faults_that_are_not_its_own(void **state)
{
    struct child child;
    int status;

    detach();
    child = spawn(exec_anew, (char *)(uintptr_t) "fault_with_handler");
    assert_ends_well(&child);
    child = spawn(exec_anew, (char *)(uintptr_t) "fault_without_handler");
    status = reap(&child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

/* ---- the host ------------------------------------------------------------------------------------------ */

/* P5, A15: what is reserved is there; what is given back is not, and reads as zeros. */
static void test_region_reserve_and_punch_take_and_give_back_memory(void **state)
{
    uint64_t at = fs->l.blocks + 8 * MIB, before = memory_used();
    uint8_t *p = fs->base + at;

    assert_int_equal(region_reserve(fs, at, MIB), 0);
    assert_int_equal(memory_used(), before + MIB);
    p[0] = p[MIB - 1] = 1;
    region_punch(fs, at, MIB);
    assert_int_equal(memory_used(), before);
    assert_int_equal(p[0], 0);
    region_punch(fs, at, MIB); /* the look took a page */
    assert_int_equal(memory_used(), before);
}

static void hold_attach_lock(int fd, void *arg)
{
    struct shmfs_diag diag;

    MUST(region_open(region_path, 0, &fs, &diag));
    MUST(region_lock(fs));
    pass(fd);
    await(fd);
}

/* Killed with the attach lock held, the kernel lets go of it (LOCKING, "Attach"). */
static void test_region_lock_is_let_go_by_death(void **state)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
    struct child child = spawn(hold_attach_lock, NULL);

    await(child.fd);
    assert_int_equal(fcntl(fs->fd, F_OFD_GETLK, &fl), 0);
    assert_int_equal(fl.l_type, F_WRLCK); /* somebody has it */
    murder(&child);
    assert_int_equal(region_lock(fs), 0);
    region_unlock(fs);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        snprintf(region_path, sizeof(region_path), "%s", argv[2]);
        return run_anew(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        unit(test_region_check_takes_a_good_superblock),
        unit(test_region_check_says_what_is_wrong),
        unit(test_region_check_refuses_impossible_geometry),
        unit(test_region_check_refuses_a_file_that_is_too_short),
        unit(test_region_check_refuses_every_flipped_bit),
        unit(test_region_open_refuses_what_is_damaged),
        unit(test_region_open_reads_what_it_may_not_write),
        unit(test_region_open_takes_regular_files_only),
        unit(test_region_make_refuses_sizes_out_of_bounds),
        unit(test_region_make_replaces_nothing_unless_told),
        unit(test_region_make_costs_what_is_used),
        unit(test_region_references_are_checked_when_used),
        unit(test_region_more_blocks_than_can_be_are_not_believed),
        unit(test_region_no_blocks_at_all_is_an_error_and_no_crash),
        unit(test_region_may_be_mapped_twice_at_different_addresses),
        unit(test_region_holds_no_addresses),
        unit(test_region_cut_short_is_an_error_and_no_crash),
        unit(test_region_cut_short_within_a_transaction_is_no_crash),
        unit(test_region_cut_short_is_refused_at_the_next_attach),
        unit(test_region_cut_short_leaves_others_alone),
        unit(test_region_passes_on_faults_that_are_not_its_own),
        unit(test_region_reserve_and_punch_take_and_give_back_memory),
        unit(test_region_lock_is_let_go_by_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
