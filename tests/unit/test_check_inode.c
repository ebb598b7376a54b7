/* SPDX-License-Identifier: MIT */
/* The check: what an inode says of itself, link counts, attributes, symlinks. */
#include "test_check_expect.h"

/* ---- fields ---------------------------------------------------------------------------------- */

static void test_check_inode_mode(void **state)
{
    struct inode *fifo = inode_of("/fifo");

    fifo->mode = 0030644;
    expect("inode %u (/fifo): mode 030644 is of no known type", number_of(fifo));
    verify_among_others();
}

static void test_check_inode_mode_with_unknown_bits(void **state)
{
    struct inode *fifo = inode_of("/fifo");

    fifo->mode |= 0x10000;
    expect("inode %u (/fifo): mode 0210644 is of no known type", number_of(fifo));
    verify();
}

static void test_check_inode_flags(void **state)
{
    struct inode *file = inode_of("/file"), *link = inode_of("/long");

    file->flags = INODE_LINK_INLINE;
    expect("inode %u (/file): flags 0x1 make no sense", number_of(file));
    inode_of("/fifo")->flags = 8;
    expect("inode %u (/fifo): flags 0x8 make no sense", number_of(inode_of("/fifo")));
    link->flags = INODE_LOOSE;
    expect("inode %u (/long): flags 0x4 make no sense", number_of(link));
    expect("inode %u (/long): says that it is mapped by pointer, but nobody has it mapped", number_of(link));
    verify();
}

static void test_check_inode_nanoseconds(void **state)
{
    struct inode *file = inode_of("/file");

    file->atime.nsec = 1000000000;
    expect("inode %u (/file): atime has 1000000000 nanoseconds", number_of(file));
    file->mtime.nsec = 1000000001;
    expect("inode %u (/file): mtime has 1000000001 nanoseconds", number_of(file));
    file->ctime.nsec = 1000000002;
    expect("inode %u (/file): ctime has 1000000002 nanoseconds", number_of(file));
    file->btime.nsec = UINT32_MAX;
    expect("inode %u (/file): btime has 4294967295 nanoseconds", number_of(file));
    verify();
}

static void test_check_inode_blocks(void **state)
{
    static const char *const paths[] = { "/file", "/sparse", "/many", "/attrs", "/long", "/short", "/fifo" };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct inode *inode = inode_of(paths[i]);
        uint64_t blocks = inode->blocks++;
        expect("inode %u (%s): says %ju blocks, has %ju", number_of(inode), paths[i], (uintmax_t)blocks + 1,
               (uintmax_t)blocks);
    }
    verify();
}

static void test_check_inode_size(void **state)
{
    struct inode *file = inode_of("/file");

    file->size = UINT64_C(1) << 63;
    expect("inode %u (/file): size is 9223372036854775808, which is more than a file can have",
           number_of(file));
    verify();
}

static void test_check_inode_bytes_past_the_end(void **state)
{
    struct inode *file = inode_of("/file"), *sparse = inode_of("/sparse");

    file->size = 9000;
    expect("inode %u (/file): bytes past the end are not zero (byte 9000, size 9000)", number_of(file));
    uint64_t last = (sparse->size - 1) / BLOCK_SIZE;
    sparse->size = last * BLOCK_SIZE; /* a whole block past the end is for fallocate to have */
    verify();
}

static void test_check_inode_bytes_past_the_end_in_a_hole(void **state)
{
    struct inode *sparse = inode_of("/sparse");

    sparse->size = BLOCK_SIZE + 7;
    verify();
    /* In the middle of a tree of extents. */
    sparse->size = 2 * 700 * BLOCK_SIZE + 7;
    verify();
    struct extent *e = &world_node(fs, number_of(sparse), 0, 700 / NODE_ENTRIES)->entries[700 % NODE_ENTRIES];
    for (unsigned i = 0; e->pos != 2 * 700; i++)
        e = &world_node(fs, number_of(sparse), 0, i / NODE_ENTRIES)->entries[i % NODE_ENTRIES];
    ((uint8_t *)world_block(fs, e->blk.n))[4095] = 1;
    expect("inode %u (/sparse): bytes past the end are not zero (byte %d, size %d)", number_of(sparse),
           2 * 700 * BLOCK_SIZE + 4095, 2 * 700 * BLOCK_SIZE + 7);
    verify();
}

/* ---- links ----------------------------------------------------------------------------------- */

static void test_check_link_count(void **state)
{
    struct inode *many = inode_of("/many/first"), *file = inode_of("/file"), *root = inode_of("/"),
                 *sub = inode_of("/sub");

    many->nlink--;
    file->nlink = 0;
    expect("inode %u (/file): link count is 0, should be 1", number_of(file));
    root->nlink++;
    expect("inode 1 (/): link count is 5, should be 4");
    sub->nlink = 2;
    expect("inode %u (/sub): link count is 2, should be 4", number_of(sub));
    run_check();
    assert_int_equal(got.n, 4);
    assert_true(lines_within(&wanted, &got, "missing"));
    /* Any of the names will do. */
    char start[64], end[64];
    snprintf(start, sizeof(start), "inode %u (/many/", number_of(many));
    snprintf(end, sizeof(end), "): link count is 999, should be 1000");
    bool found = false;
    for (unsigned i = 0; i < got.n; i++)
        found =
            found || (strncmp(got.text[i], start, strlen(start)) == 0 && strstr(got.text[i], end) != NULL);
    assert_true(found);
}

static void test_check_no_name(void **state)
{
    struct inode *fifo = inode_of("/fifo"), *empty = inode_of("/sub/empty");

    drop_slot("/", "fifo");
    expect("inode %u: no name refers to it, its link count is 1", number_of(fifo));
    drop_slot("/sub", "empty");
    expect("inode %u: no name refers to it, its link count is 2", number_of(empty));
    inode_of("/sub")->nlink--;
    verify();
}

static void test_check_orphan(void **state)
{
    struct inode *file = inode_of("/file"), *empty = inode_of("/sub/empty");

    drop_slot("/", "file");
    drop_slot("/sub", "empty");
    inode_of("/sub")->nlink--;
    file->nlink = 0;
    empty->nlink = 0;
    expect("inode %u: orphan (no name, held by nobody) not yet freed", number_of(file));
    expect("inode %u: orphan (no name, held by nobody) not yet freed", number_of(empty));
    fs->inode_rts[number_of(file)].nlookup = 1; /* of another mount: void */
    fs->inode_rts[number_of(file)].epoch = (uint32_t)fs->rt->mount_epoch + 1;
    verify();
}

static void test_check_orphan_that_was_held_is_no_problem(void **state)
{
    struct inode *file = inode_of("/file");
    struct inode_rt *rt = &fs->inode_rts[number_of(file)];

    drop_slot("/", "file");
    file->nlink = 0;
    rt->nlookup = 1;
    rt->epoch = (uint32_t)fs->rt->mount_epoch;
    verify();
    rt->nlookup = 0;
    fs->uses[0].records[0] = (uint64_t)USE_OPEN << 48 | (fs->self.v & 0xffff) << 32 | number_of(file);
    verify();
    fs->uses[0].records[0] = (uint64_t)USE_PIN << 48 | (fs->self.v & 0xffff) << 32 | number_of(file);
    verify();
    fs->uses[0].records[0] = 0;
}

/* ---- devices and the like --------------------------------------------------------------------- */

static void test_check_device_with_a_map(void **state)
{
    struct inode *fifo = inode_of("/fifo"), *chr = inode_of("/chr"), *sock = inode_of("/sock");

    fifo->map_count = 1;
    chr->map_level = 1;
    sock->map_count = 7;
    expect("inode %u (/fifo): has a map, but is a device, FIFO or socket", number_of(fifo));
    expect("inode %u (/chr): has a map, but is a device, FIFO or socket", number_of(chr));
    expect("inode %u (/sock): has a map, but is a device, FIFO or socket", number_of(sock));
    verify();
}

/* ---- symlinks -------------------------------------------------------------------------------- */

static void test_check_symlink_inline(void **state)
{
    struct inode *link = inode_of("/short");

    link->size = INODE_INLINE + 1;
    expect("inode %u (/short): symlink: size is 113, an inline one has 1 to 112", number_of(link));
    link->map_count = 1;
    expect("inode %u (/short): symlink: is inline but has a map", number_of(link));
    verify();
}

static void test_check_symlink_inline_target(void **state)
{
    struct inode *link = inode_of("/short");

    link->inline_target[2] = '\0';
    expect("inode %u (/short): symlink: there is a NUL in its target", number_of(link));
    verify();
    link->inline_target[2] = 'l';
    link->size = 0;
    wanted.n = got.n = 0;
    expect("inode %u (/short): symlink: size is 0, an inline one has 1 to 112", number_of(link));
    verify();
}

static void test_check_symlink_long(void **state)
{
    struct inode *link = inode_of("/long");

    link->size = BLOCK_SIZE;
    expect("inode %u (/long): symlink: size is 4096, should be 1 to 4095", number_of(link));
    verify();
    wanted.n = got.n = 0;
    link->size = 301;
    expect("inode %u (/long): symlink: there is a NUL in its target", number_of(link));
    ((uint8_t *)world_block(fs, link->root[0].blk.n))[300] = '\0';
    verify();
}

static void test_check_symlink_map(void **state)
{
    struct inode *link = inode_of("/long");

    link->root[0].pos = 1;
    expect("inode %u (/long): symlink: its block is at 1, length 1; should be at 0, length 1",
           number_of(link));
    verify();
    wanted.n = got.n = 0;
    mark_block(link->root[0].blk.n, false);
    link->map_count = 0;
    link->blocks = 0;
    expect("inode %u (/long): symlink: has 0 extents, should have 1", number_of(link));
    verify();
}

/* ---- attributes ------------------------------------------------------------------------------ */

static struct xattr_block *attr_block(unsigned n)
{
    struct blkref at = inode_of("/attrs")->xattr;

    while (n-- > 0)
        at = ((struct xattr_block *)world_block(fs, at.n))->next;
    return world_block(fs, at.n);
}

static void test_check_attr_block_head(void **state)
{
    struct inode *attrs = inode_of("/attrs");
    uint32_t lost = attr_block(0)->next.n;
    struct xattr_block *b = attr_block(1);

    assert_int_equal(attrs->xattr_blocks, 3);
    (void)lost;
    b->magic = 0x12345678;
    expect("inode %u (/attrs): attribute block 1: bad magic 12345678", number_of(attrs));
    expect("1 blocks marked used but nothing refers to them; they may belong to the damaged objects above");
    verify();
    wanted.n = got.n = 0;
    b->magic = XATTR_MAGIC;
    b->owner.n = 2;
    expect("inode %u (/attrs): attribute block 1: says that it belongs to inode 2", number_of(attrs));
    expect("1 blocks marked used but nothing refers to them; they may belong to the damaged objects above");
    verify();
    wanted.n = got.n = 0;
    b->owner.n = number_of(attrs);
    b->len = sizeof(b->data) + 1;
    expect("inode %u (/attrs): attribute block 1: says that it holds 4081 bytes, should be 1 to 4080",
           number_of(attrs));
    expect("1 blocks marked used but nothing refers to them; they may belong to the damaged objects above");
    verify();
}

static void test_check_attr_block_not_full(void **state)
{
    struct inode *attrs = inode_of("/attrs");

    attr_block(1)->len--;
    expect("inode %u (/attrs): attribute block 1: holds 4079 bytes, all but the last should be full",
           number_of(attrs));
    verify_among_others();
}

static void test_check_attr_chain_out_of_bounds(void **state)
{
    struct inode *attrs = inode_of("/attrs");

    attr_block(1)->next.n = 0xfffffff0;
    expect("inode %u (/attrs): attribute block 2: points past the region (block 4294967280 of %ju)",
           number_of(attrs), (uintmax_t)fs->sb->nblocks);
    expect("1 blocks marked used but nothing refers to them; they may belong to the damaged objects above");
    verify();
}

static void test_check_attr_chain_in_a_circle(void **state)
{
    struct inode *attrs = inode_of("/attrs");

    uint32_t last = attr_block(1)->next.n;
    attr_block(1)->next = attrs->xattr;
    mark_block(last, false);
    expect("inode %u (/attrs): block %u used twice by it", number_of(attrs), attrs->xattr.n);
    verify();
}

static void test_check_attr_chain_of_another_length(void **state)
{
    struct inode *attrs = inode_of("/attrs");

    attrs->xattr_blocks = 4;
    expect("inode %u (/attrs): says 4 attribute blocks, has 3", number_of(attrs));
    verify();
}

/* The bytes of all attributes, which the test may change and put back. */
static uint8_t attr_bytes[3 * sizeof(((struct xattr_block *)0)->data)];

static uint32_t find_attr(const char *name)
{
    uint8_t *at;
    size_t n = 0;

    for (unsigned i = 0; i < 3; i++) {
        memcpy(attr_bytes + n, attr_block(i)->data, attr_block(i)->len);
        n += attr_block(i)->len;
    }
    at = memmem(attr_bytes, n, name, strlen(name));
    assert_non_null(at);
    return (uint32_t)(at - attr_bytes) - 8;
}

static void store_attrs(void)
{
    size_t n = 0;

    for (unsigned i = 0; i < 3; i++) {
        memcpy(attr_block(i)->data, attr_bytes + n, attr_block(i)->len);
        n += attr_block(i)->len;
    }
}

static void test_check_attr_twice(void **state)
{
    uint32_t at = find_attr("user.bb");

    attr_bytes[at + 8 + 5] = 'a';
    attr_bytes[at + 8 + 6] = 'a';
    store_attrs();
    expect("inode %u (/attrs): attribute 'user.aa' is there twice", world_ino(fs, "/attrs"));
    verify();
}

static void test_check_attr_name_with_nul(void **state)
{
    uint32_t at = find_attr("user.bb");

    attr_bytes[at + 8 + 5] = '\0';
    store_attrs();
    expect("inode %u (/attrs): attributes: a name at byte %u has a NUL in it", world_ino(fs, "/attrs"), at);
    verify();
}

static void test_check_attr_entry(void **state)
{
    uint32_t at = find_attr("user.bb"), len = 0;
    static const struct {
        uint32_t value_len;
        uint8_t name_len;
    } cases[] = { { 3, 0 }, { XATTR_VALUE_MAX + 1, 7 }, { XATTR_VALUE_MAX, 7 }, { UINT32_MAX, 255 } };

    for (unsigned i = 0; i < 3; i++)
        len += attr_block(i)->len;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        wanted.n = got.n = 0;
        memcpy(attr_bytes + at, &cases[i].value_len, 4);
        attr_bytes[at + 4] = cases[i].name_len;
        store_attrs();
        expect("inode %u (/attrs): attributes: the entry at byte %u of %u makes no sense",
               world_ino(fs, "/attrs"), at, len);
        verify();
    }
}

#define CHECK_TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECK_TEST(test_check_inode_mode),
        CHECK_TEST(test_check_inode_mode_with_unknown_bits),
        CHECK_TEST(test_check_inode_flags),
        CHECK_TEST(test_check_inode_nanoseconds),
        CHECK_TEST(test_check_inode_blocks),
        CHECK_TEST(test_check_inode_size),
        CHECK_TEST(test_check_inode_bytes_past_the_end),
        CHECK_TEST(test_check_inode_bytes_past_the_end_in_a_hole),
        CHECK_TEST(test_check_link_count),
        CHECK_TEST(test_check_no_name),
        CHECK_TEST(test_check_orphan),
        CHECK_TEST(test_check_orphan_that_was_held_is_no_problem),
        CHECK_TEST(test_check_device_with_a_map),
        CHECK_TEST(test_check_symlink_inline),
        CHECK_TEST(test_check_symlink_inline_target),
        CHECK_TEST(test_check_symlink_long),
        CHECK_TEST(test_check_symlink_map),
        CHECK_TEST(test_check_attr_block_head),
        CHECK_TEST(test_check_attr_block_not_full),
        CHECK_TEST(test_check_attr_chain_out_of_bounds),
        CHECK_TEST(test_check_attr_chain_in_a_circle),
        CHECK_TEST(test_check_attr_chain_of_another_length),
        CHECK_TEST(test_check_attr_twice),
        CHECK_TEST(test_check_attr_name_with_nul),
        CHECK_TEST(test_check_attr_entry),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
