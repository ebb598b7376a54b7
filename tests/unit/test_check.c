/* SPDX-License-Identifier: MIT */
/* The check: the superblock, the runtime area, groups, and which blocks are whose. */
#include "test_check_expect.h"

static void test_check_good_region_has_no_problems(void **state)
{
    struct shmfs_space space;

    verify();
    shmfs_node_statfs(fs, &space);
    assert_int_equal(result.directories, 5);
    assert_int_equal(result.inodes, space.inodes - space.free_inodes);
    uint64_t used = 0;
    for (uint64_t blk = 1; blk < fs->sb->nblocks; blk++)
        used += world_block_used(fs, blk);
    assert_int_equal(result.blocks, used);
    /* The trees are as deep as the other tests need them. */
    assert_int_equal(inode_of("/sparse")->map_level, 2);
    assert_int_equal(inode_of("/many")->map_level, 1);
}

static void test_check_fresh_region_has_no_problems(void **state)
{
    static const uint64_t sizes[] = { UINT64_C(1) << 20, (UINT64_C(1) << 20) + BLOCK_SIZE,
                                      UINT64_C(300) << 20 };
    char name[128];

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        world_path("test-check-fresh", name, sizeof(name));
        world_make(name, sizes[i]);
        shmfs_region_detach(fs);
        fs = world_attach(name, SHMFS_ATTACH_PRIVATE);
        unlink(name);
        verify();
        assert_int_equal(result.inodes, 1);
        assert_int_equal(result.directories, 1);
    }
}

static uint64_t progress_done, progress_total;

static void note_progress(void *arg, uint64_t done, uint64_t total)
{
    assert_true(done >= progress_done && done <= total);
    progress_done = done;
    progress_total = total;
}

static void test_check_progress_rises_to_the_number_of_inodes(void **state)
{
    struct shmfs_check check = { .progress = note_progress };

    assert_int_equal(shmfs_check_run(fs, &check, &result), 0);
    assert_int_equal(progress_done, fs->l.ninodes);
    assert_int_equal(progress_total, fs->l.ninodes);
}

static void test_check_costs_no_memory_for_holes(void **state)
{
    struct stat before, after;

    assert_int_equal(fstat(fs->fd, &before), 0);
    verify();
    assert_int_equal(fstat(fs->fd, &after), 0);
    assert_true(after.st_blocks - before.st_blocks < 512);
}

/* ---- superblock ------------------------------------------------------------------------------ */

static void test_check_superblock_with_too_many_blocks(void **state)
{
    fs->sb->nblocks = fs->l.max_blocks + 1;
    expect("superblock: says %ju blocks, should be 2 to %ju", (uintmax_t)fs->l.max_blocks + 1,
           (uintmax_t)fs->l.max_blocks);
    verify_among_others();
}

static void test_check_superblock_with_more_blocks_than_the_file(void **state)
{
    uint64_t real = fs->sb->nblocks;

    fs->sb->nblocks = fs->l.max_blocks;
    expect("superblock: says %ju blocks, the file has %ju", (uintmax_t)fs->l.max_blocks, (uintmax_t)real);
    verify_among_others();
}

static void test_check_superblock_changed(void **state)
{
    fs->sb->label[3] ^= 1;
    expect("superblock: its checksum is wrong");
    verify();
}

/* ---- runtime area ---------------------------------------------------------------------------- */

static void test_check_slot_not_idle(void **state)
{
    fs->slots[9].word |= (uint64_t)SLOT_REDO_ON << 24 | 40;
    expect("slot 9: not idle (state 1, 40 bytes to undo)");
    fs->slots[9].nlocks = 2;
    expect("slot 9: still has 2 locks");
    fs->slots[9].nredo = 3;
    expect("slot 9: still has 3 pieces to write");
    fs->slots[9].todo = (struct todo){ .op = TODO_REAP, .ino = { 12 } };
    expect("slot 9: unfinished work 1 on inode 12");
    fs->slots[9].recovery.v = 0x10;
    expect("slot 9: its recovery lock is held (0x10)");
    verify();
}

static void test_check_locks_held(void **state)
{
    uint32_t ino = world_ino(fs, "/file");

    fs->rt->rename_lock.v = 0x20;
    expect("the rename lock is held (0x20)");
    fs->group_rts[1].lock.v = 0x30;
    expect("group 1: its lock is held (0x30)");
    fs->inode_rts[ino].lock.v = 0x40;
    expect("inode %u (/file): its lock is held (0x40)", ino);
    verify();
}

static void test_check_sequence_odd(void **state)
{
    uint32_t ino = world_ino(fs, "/sub");

    fs->inode_rts[ino].seq = 77;
    expect("inode %u (/sub): its sequence counter is odd (77), as if half-changed", ino);
    verify();
}

/* ---- groups ---------------------------------------------------------------------------------- */

static void test_check_group_counts(void **state)
{
    uint32_t blocks = fs->groups[1].free_blocks++;
    uint32_t inodes = fs->groups[2].free_inodes--;

    expect("group 1: says %u free blocks, its map has %u", blocks + 1, blocks);
    expect("group 2: says %u free inodes, its map has %u", inodes - 1, inodes);
    verify();
}

static void test_check_group_past_the_region(void **state)
{
    uint32_t last = fs->l.ngroups - 1;

    assert_true(last > region_ngroups(fs));
    fs->groups[last].free_blocks = 3;
    expect("group %u: says 3 free blocks, its map has 0", last);
    verify();
}

static void test_check_bits_past_the_region(void **state)
{
    uint64_t end = fs->sb->nblocks;
    uint64_t *map = (void *)fs->block_maps;

    assert_true(end % fs->l.group_blocks != 0);
    map[(end + 9) / 64] &= ~(UINT64_C(1) << (end + 9) % 64);
    expect("group %u: block %ju past the region marked free", region_ngroups(fs) - 1, (uintmax_t)end + 9);
    verify();
}

static void test_check_block_0_free(void **state)
{
    mark_block(0, false);
    expect("block 0 marked free; it must never be given away");
    verify();
}

static void test_check_memory_not_reserved(void **state)
{
    struct inode *file = inode_of("/file");
    uint32_t first = file->root[0].blk.n / CHUNK_BLOCKS * CHUNK_BLOCKS;
    uint32_t group = first / fs->l.group_blocks;

    fs->group_rts[group].reserved[0] &= ~(UINT64_C(1) << first % fs->l.group_blocks / CHUNK_BLOCKS);
    expect("group %u: no memory is reserved for blocks %u to %u, and some are in use", group, first,
           first + CHUNK_BLOCKS - 1);
    group = number_of(file) / fs->l.group_inodes;
    fs->group_rts[group].inode_reserved = 0;
    expect("group %u: no memory is reserved for inodes %u to %u, and some are in use", group,
           group * fs->l.group_inodes, (group + 1) * fs->l.group_inodes - 1);
    verify();
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void test_check_blocks_in_use_marked_free(void **state)
{
    struct inode *file = inode_of("/file");

    mark_block(file->root[0].blk.n + 1, false);
    mark_block(file->root[0].blk.n + 2, false);
    expect("inode %u (/file): blocks %u to %u used by it but marked free", number_of(file),
           file->root[0].blk.n + 1, file->root[0].blk.n + 2);
    verify();
}

static void test_check_blocks_of_nobody(void **state)
{
    uint32_t blk = free_block();

    mark_block(blk, true);
    mark_block(blk + 2, true);
    mark_block(blk + 3, true);
    expect("block %u marked used but nothing refers to it", blk);
    expect("blocks %u to %u marked used but nothing refers to them", blk + 2, blk + 3);
    verify();
}

static void test_check_blocks_used_by_two(void **state)
{
    struct inode *file = inode_of("/file"), *other = inode_of("/other");
    struct inode *first = file < other ? file : other, *second = file < other ? other : file;
    uint32_t left = other->root[0].blk.n;

    assert_int_equal(other->root[0].len, 2);
    other->root[0].blk.n = file->root[0].blk.n + 1;
    memset((uint8_t *)world_block(fs, file->root[0].blk.n + 2) + 904, 0, BLOCK_SIZE - 904);
    expect("inode %u (%s): blocks %u to %u used by it and by inode %u (%s)", number_of(first),
           first == file ? "/file" : "/other", file->root[0].blk.n + 1, file->root[0].blk.n + 2,
           number_of(second), second == file ? "/file" : "/other");
    expect("blocks %u to %u marked used but nothing refers to them", left, left + 1);
    verify();
}

static void test_check_block_used_twice_by_one(void **state)
{
    struct inode *file = inode_of("/file");
    uint32_t blk = file->root[0].blk.n;

    file->root[0].len = 2;
    file->root[1] = (struct extent){ .pos = 2, .blk = { blk }, .len = 1 };
    file->map_count = 2;
    file->size = 3 * BLOCK_SIZE; /* or else its end would not be zeros */
    expect("inode %u (/file): block %u used twice by it", number_of(file), blk);
    expect("block %u marked used but nothing refers to it", blk + 2);
    verify();
}

/* Two files of which one lies in the other's tree: nothing is walked into twice. */
static void test_check_block_used_as_node_and_as_data(void **state)
{
    struct inode *file = inode_of("/file"), *sparse = inode_of("/sparse");
    uint32_t node = sparse->root[0].blk.n;

    assert_true(file < sparse);
    mark_block(file->root[0].blk.n, false);
    mark_block(file->root[0].blk.n + 1, false);
    mark_block(file->root[0].blk.n + 2, false);
    file->root[0] = (struct extent){ .pos = 0, .blk = { node }, .len = 1 };
    file->blocks = 1;
    expect("inode %u (/file): block %u used by it and by inode %u (/sparse)", number_of(file), node,
           number_of(sparse));
    verify_among_others();
}

/* ---- inode map ------------------------------------------------------------------------------- */

static void test_check_inode_in_use_marked_free(void **state)
{
    uint32_t ino = world_ino(fs, "/fifo");

    mark_inode(ino, false);
    expect("inode %u (/fifo): is in use but marked free", ino);
    verify();
}

static void test_check_inode_free_marked_used(void **state)
{
    uint32_t ino = free_inode();

    mark_inode(ino, true);
    expect("inode %u: is free but marked used", ino);
    verify();
}

static void test_check_inode_0(void **state)
{
    mark_inode(0, false);
    expect("inode 0 marked free; it must never be given away");
    fs->inodes[0].uid = 1;
    expect("inode 0 is not empty; it must never be used");
    verify();
}

static void test_check_root_is_no_directory(void **state)
{
    fs->inodes[ROOT_INO].mode = S_IFREG | 0755;
    expect("inode 1 (/): is not a directory, but it is the root");
    verify_among_others();
}

/* ---- all bytes -------------------------------------------------------------------------------- */

/* Whatever one word says, the check ends and stays within the region. */
static void scramble(void *at, size_t n)
{
    static const uint32_t values[] = { 0, 1, 0x7fffffff, 0xffffffff, 0x1000 };
    uint32_t *words = at;

    for (size_t i = 0; i < n / 4; i++) {
        uint32_t old = words[i];
        for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
            struct shmfs_check check = { 0 };
            words[i] = values[k];
            assert_int_equal(shmfs_check_run(fs, &check, &result), 0);
        }
        words[i] = old;
    }
}

static void test_check_survives_any_word_of_an_inode(void **state)
{
    static const char *const paths[] = { "/",      "/sub/deep", "/file", "/sparse",
                                         "/attrs", "/short",    "/long", "/fifo" };

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        scramble(inode_of(paths[i]), sizeof(struct inode));
    verify();
}

static void test_check_survives_any_word_of_a_head(void **state)
{
    scramble(world_node(fs, world_ino(fs, "/sparse"), 1, 0), 96);
    scramble(world_node(fs, world_ino(fs, "/sparse"), 0, 1), 96);
    scramble(world_block(fs, world_find(fs, BUCKET_MAGIC, ROOT_INO, 0)), 96);
    scramble(world_block(fs, world_find(fs, XATTR_MAGIC, world_ino(fs, "/attrs"), 0)), 96);
    scramble(&fs->groups[0], sizeof(struct group_desc));
    scramble(&fs->sb->nblocks, 8);
    verify();
}

#define CHECK_TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECK_TEST(test_check_good_region_has_no_problems),
        CHECK_TEST(test_check_fresh_region_has_no_problems),
        CHECK_TEST(test_check_progress_rises_to_the_number_of_inodes),
        CHECK_TEST(test_check_costs_no_memory_for_holes),
        CHECK_TEST(test_check_superblock_with_too_many_blocks),
        CHECK_TEST(test_check_superblock_with_more_blocks_than_the_file),
        CHECK_TEST(test_check_superblock_changed),
        CHECK_TEST(test_check_slot_not_idle),
        CHECK_TEST(test_check_locks_held),
        CHECK_TEST(test_check_sequence_odd),
        CHECK_TEST(test_check_group_counts),
        CHECK_TEST(test_check_group_past_the_region),
        CHECK_TEST(test_check_bits_past_the_region),
        CHECK_TEST(test_check_block_0_free),
        CHECK_TEST(test_check_memory_not_reserved),
        CHECK_TEST(test_check_blocks_in_use_marked_free),
        CHECK_TEST(test_check_blocks_of_nobody),
        CHECK_TEST(test_check_blocks_used_by_two),
        CHECK_TEST(test_check_block_used_twice_by_one),
        CHECK_TEST(test_check_block_used_as_node_and_as_data),
        CHECK_TEST(test_check_inode_in_use_marked_free),
        CHECK_TEST(test_check_inode_free_marked_used),
        CHECK_TEST(test_check_inode_0),
        CHECK_TEST(test_check_root_is_no_directory),
        CHECK_TEST(test_check_survives_any_word_of_an_inode),
        CHECK_TEST(test_check_survives_any_word_of_a_head),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
