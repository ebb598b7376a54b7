/* SPDX-License-Identifier: MIT */
/* The check: the B+tree from positions to blocks. */
#include "test_check_expect.h"

static uint32_t sparse_ino;
static struct inode *sparse;
static struct node *leaf; /* a leaf that is neither first nor last */

static void find_sparse(void)
{
    sparse = inode_of("/sparse");
    sparse_ino = number_of(sparse);
    struct node *top = world_block(fs, sparse->root[0].blk.n);
    assert_int_equal(top->level, 1);
    leaf = world_block(fs, top->entries[2].blk.n);
    assert_int_equal(leaf->level, 0);
}

static int open_sparse(void **state)
{
    open_world(state);
    find_sparse();
    return 0;
}

/* For damage below which everything is lost to the check. */
static void expect_lost(uint64_t n)
{
    expect("%ju blocks marked used but nothing refers to them; they may belong to the damaged objects above",
           (uintmax_t)n);
}

/* ---- the root -------------------------------------------------------------------------------- */

static void test_check_map_root(void **state)
{
    struct inode *file = inode_of("/file");

    file->map_level = MAP_LEVELS_MAX + 1;
    expect("inode %u (/file): map has 9 levels, at most 8 are possible", number_of(file));
    expect_lost(3);
    verify();
    wanted.n = got.n = 0;
    file->map_level = 0;
    file->map_count = INODE_EXTENTS + 1;
    expect("inode %u (/file): map has 8 entries in the inode, which has room for 7", number_of(file));
    expect_lost(3);
    verify();
    wanted.n = got.n = 0;
    file->map_level = 1;
    file->map_count = 0;
    expect("inode %u (/file): map has 1 levels but no entry", number_of(file));
    expect_lost(3);
    verify();
}

/* ---- extents --------------------------------------------------------------------------------- */

static void test_check_extent_empty(void **state)
{
    struct inode *file = inode_of("/file");

    file->root[0].len = 0;
    expect("inode %u (/file): extent at 0: its length is 0, should be at least 1", number_of(file));
    expect_lost(3);
    verify();
}

static void test_check_extent_out_of_bounds(void **state)
{
    struct inode *file = inode_of("/file");
    uintmax_t nblocks = fs->sb->nblocks;

    file->root[0].blk.n = (uint32_t)nblocks - 1;
    expect("inode %u (/file): extent at 0: points past the region (blocks %ju to %ju of %ju)",
           number_of(file), nblocks - 1, nblocks + 1, nblocks);
    expect_lost(3);
    verify();
    wanted.n = got.n = 0;
    file->root[0].blk.n = 0;
    expect("inode %u (/file): extent at 0: refers to block 0, which is nobody's", number_of(file));
    expect_lost(3);
    verify();
    wanted.n = got.n = 0;
    file->root[0].blk.n = UINT32_MAX;
    file->root[0].len = UINT32_MAX;
    expect("inode %u (/file): extent at 0: points past the region (blocks 4294967295 to 8589934589 of %ju)",
           number_of(file), nblocks);
    expect_lost(3);
    verify();
}

static void test_check_extent_past_the_largest_position(void **state)
{
    struct inode *file = inode_of("/file");

    file->root[0].pos = (UINT64_C(1) << 51) - 2;
    expect("inode %u (/file): extent at 2251799813685246: ends past the largest position", number_of(file));
    verify();
    wanted.n = got.n = 0;
    file->root[0].pos = UINT64_MAX - 1;
    expect("inode %u (/file): extent at 18446744073709551614: ends past the largest position",
           number_of(file));
    verify();
}

static void test_check_extent_order(void **state)
{
    uint64_t pos = leaf->entries[5].pos;

    leaf->entries[5].pos = leaf->entries[4].pos;
    expect("inode %u (/sparse): extent at %ju: out of order, or overlaps the one before", sparse_ino,
           (uintmax_t)leaf->entries[4].pos);
    verify();
    wanted.n = got.n = 0;
    leaf->entries[5].pos = leaf->entries[9].pos;
    expect("inode %u (/sparse): extent at %ju: out of order, or overlaps the one before", sparse_ino,
           (uintmax_t)leaf->entries[6].pos);
    verify();
    leaf->entries[5].pos = pos;
}

static void test_check_extent_overlap(void **state)
{
    /* Of positions only: the blocks behind are free and are marked used. */
    uint32_t blk = free_block();

    mark_block(leaf->entries[5].blk.n, false);
    leaf->entries[5].blk.n = blk;
    leaf->entries[5].len = 3;
    for (uint32_t i = 0; i < 3; i++)
        mark_block(blk + i, true);
    sparse->blocks += 2;
    expect("inode %u (/sparse): extent at %ju: out of order, or overlaps the one before", sparse_ino,
           (uintmax_t)leaf->entries[6].pos);
    verify();
}

static void test_check_extent_outside_of_its_node(void **state)
{
    struct node *top = world_block(fs, sparse->root[0].blk.n);
    uint64_t next = top->entries[3].pos;

    leaf->entries[leaf->count - 1].pos = next + 1;
    expect("inode %u (/sparse): extent at %ju: outside of what its node covers", sparse_ino,
           (uintmax_t)next + 1);
    expect("inode %u (/sparse): extent at %ju: out of order, or overlaps the one before", sparse_ino,
           (uintmax_t)next);
    verify();
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void test_check_node_head(void **state)
{
    struct node was = *leaf;
    uintmax_t pos = leaf->entries[0].pos;

    leaf->magic = 0xabcdef;
    expect("inode %u (/sparse): node at %ju: bad magic 00abcdef", sparse_ino, pos);
    expect_lost(was.count);
    verify();
    wanted.n = got.n = 0;
    leaf->magic = was.magic;
    leaf->owner.n = 3;
    expect("inode %u (/sparse): node at %ju: says that it belongs to inode 3", sparse_ino, pos);
    expect_lost(was.count);
    verify();
    wanted.n = got.n = 0;
    leaf->owner = was.owner;
    leaf->level = 1;
    expect("inode %u (/sparse): node at %ju: level is 1, should be 0", sparse_ino, pos);
    expect_lost(was.count);
    verify();
    wanted.n = got.n = 0;
    leaf->level = 0;
    leaf->count = 0;
    expect("inode %u (/sparse): node at %ju: has 0 entries, should be 1 to 254", sparse_ino, pos);
    expect_lost(was.count);
    verify();
    wanted.n = got.n = 0;
    leaf->count = NODE_ENTRIES + 1;
    expect("inode %u (/sparse): node at %ju: has 255 entries, should be 1 to 254", sparse_ino, pos);
    expect_lost(was.count);
    verify();
}

static void test_check_node_entry(void **state)
{
    struct node *top = world_block(fs, sparse->root[0].blk.n);
    uintmax_t pos = top->entries[2].pos;

    top->entries[2].len = 1;
    expect("inode %u (/sparse): node at %ju: its length is 1, should be 0", sparse_ino, pos);
    verify();
    wanted.n = got.n = 0;
    top->entries[2].len = 0;
    top->entries[2].pos++;
    expect("inode %u (/sparse): node at %ju: its first entry is at %ju", sparse_ino, pos + 1, pos);
    verify();
    wanted.n = got.n = 0;
    top->entries[2] = (struct extent){ .pos = pos, .blk = { UINT32_MAX } };
    expect("inode %u (/sparse): node at %ju: points past the region (block 4294967295 of %ju)", sparse_ino,
           pos, (uintmax_t)fs->sb->nblocks);
    expect_lost(leaf->count + 1u);
    verify();
}

static void test_check_node_order(void **state)
{
    struct node *top = world_block(fs, sparse->root[0].blk.n);
    struct extent e = top->entries[2];

    top->entries[2] = top->entries[3];
    top->entries[3] = e;
    expect("inode %u (/sparse): node at %ju: out of order", sparse_ino, (uintmax_t)e.pos);
    verify_among_others();
}

static void test_check_node_outside_of_its_parent(void **state)
{
    struct node *top = world_block(fs, sparse->root[0].blk.n);
    uint32_t blk = free_block();
    struct node *next = world_block(fs, blk);

    /* The last two leaves come under a node of their own. */
    memcpy(next, top, 32);
    next->count = 2;
    top->count -= 2;
    memcpy(next->entries, &top->entries[top->count], 2 * sizeof(struct extent));
    sparse->root[1] = (struct extent){ .pos = next->entries[0].pos, .blk = { blk } };
    sparse->map_count = 2;
    sparse->blocks++;
    mark_block(blk, true);
    verify();

    struct extent *last = &top->entries[top->count - 1];
    uintmax_t was = last->pos;
    last->pos = sparse->root[1].pos;
    expect("inode %u (/sparse): node at %ju: outside of what its node covers", sparse_ino,
           (uintmax_t)last->pos);
    expect("inode %u (/sparse): node at %ju: its first entry is at %ju", sparse_ino, (uintmax_t)last->pos,
           was);
    verify();
}

static void test_check_node_reached_twice(void **state)
{
    struct node *top = world_block(fs, sparse->root[0].blk.n);
    uint32_t lost = top->entries[2].blk.n;

    top->entries[2].blk = top->entries[1].blk;
    (void)lost;
    expect("inode %u (/sparse): block %u used twice by it", sparse_ino, top->entries[1].blk.n);
    expect_lost(leaf->count + 1u);
    verify();
}

/* A node below itself. */
static void test_check_node_in_a_circle(void **state)
{
    struct node *top = world_block(fs, sparse->root[0].blk.n);

    top->entries[2].blk = sparse->root[0].blk;
    expect("inode %u (/sparse): block %u used twice by it", sparse_ino, sparse->root[0].blk.n);
    expect_lost(leaf->count + 1u);
    verify();
}

/* Every entry of every node refers to the same blocks: the check still ends soon. */
static void test_check_ends_soon_on_many_overlaps(void **state)
{
    for (unsigned i = 0;; i++) {
        uint32_t blk = world_find(fs, NODE_MAGIC, sparse_ino, i);
        struct node *node = world_block(fs, blk);
        if (blk == 0)
            break;
        for (unsigned k = 0; node->level == 0 && k < NODE_ENTRIES; k++)
            node->entries[k] =
                (struct extent){ .pos = k, .blk = { 1 }, .len = (uint32_t)fs->sb->nblocks - 1 };
    }
    run_check();
    assert_true(got.n > 0);
}

#define CHECK_TEST(f) cmocka_unit_test_setup_teardown(f, open_sparse, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECK_TEST(test_check_map_root),
        CHECK_TEST(test_check_extent_empty),
        CHECK_TEST(test_check_extent_out_of_bounds),
        CHECK_TEST(test_check_extent_past_the_largest_position),
        CHECK_TEST(test_check_extent_order),
        CHECK_TEST(test_check_extent_overlap),
        CHECK_TEST(test_check_extent_outside_of_its_node),
        CHECK_TEST(test_check_node_head),
        CHECK_TEST(test_check_node_entry),
        CHECK_TEST(test_check_node_order),
        CHECK_TEST(test_check_node_outside_of_its_parent),
        CHECK_TEST(test_check_node_reached_twice),
        CHECK_TEST(test_check_node_in_a_circle),
        CHECK_TEST(test_check_ends_soon_on_many_overlaps),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
