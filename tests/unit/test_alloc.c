/* SPDX-License-Identifier: MIT */
/* Blocks and inode numbers, and the memory of the host behind them (P5, I8, I9). */
#include "fixture.h"

static struct txn txn;

static void begin(void)
{
    MUST(txn_begin(fs, &txn));
}

static bool block_used(uint32_t blk)
{
    return (region_block_map(fs, 0)[blk / 64] >> blk % 64 & 1) != 0;
}

/* One run, in a transaction of its own. Returns its length; -errno. */
static int take(struct alloc_want want, uint32_t *ret_blk)
{
    struct blkref blk = { 0 };
    uint32_t len = 0;
    int r;

    begin();
    r = alloc_blocks(&txn, &want, &blk, &len);
    txn_commit(&txn);
    *ret_blk = blk.n;
    return r < 0 ? r : (int)len;
}

static int give(uint32_t blk, uint32_t len)
{
    int r;

    begin();
    r = alloc_free(&txn, (struct blkref){ blk }, len);
    txn_commit(&txn);
    return r;
}

/* The maps and counts of all groups, for "nothing has changed". */
struct space_state {
    uint8_t maps[4 * GROUP_BLOCKS_MIN / 8];
    struct group_desc groups[4];
};

static struct space_state space_now(void)
{
    struct space_state now = { 0 };

    CHECK_EQ(fs->l.ngroups, 4);
    memcpy(now.maps, fs->block_maps, sizeof(now.maps));
    memcpy(now.groups, fs->groups, sizeof(now.groups));
    return now;
}

static void assert_space(const struct space_state *then)
{
    struct space_state now = space_now();

    assert_memory_equal(&now, then, sizeof(now));
}

/* ---- bits ---------------------------------------------------------------------------------------------- */

static void test_alloc_bit_find_agrees_with_a_simple_loop(void **state)
{
    uint64_t map[5];

    random_start(1);
    for (int round = 0; round < 3000; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
            map[i] = random_next();
            for (uint64_t n = random_below(6); n > 0; n--) /* often sparse */
                map[i] &= random_next();
            if (random_below(2) != 0)
                map[i] = ~map[i];
        }
        uint32_t from = (uint32_t)random_below(321), to = (uint32_t)random_below(321), want = from;
        bool set = random_below(2) != 0;

        while (want < to && ((map[want / 64] >> want % 64 & 1) != 0) != set)
            want++;
        assert_int_equal(alloc_bit_find(map, from, to, set), from < to ? want : to);
    }
}

/* ---- where blocks come from -------------------------------------------------------------------------------- */

static void test_alloc_blocks_gives_one_run(void **state)
{
    uint32_t blk, n = 100;

    assert_int_equal(take((struct alloc_want){ .len = n }, &blk), n);
    for (uint32_t i = 0; i < n; i++)
        assert_true(block_used(blk + i));
    assert_int_equal(give(blk, n), 0);
}

/* A file's next block is the one behind its last, if it is free (FORMAT, "Groups"). */
static void test_alloc_blocks_begins_at_the_goal(void **state)
{
    struct alloc_want want = { .len = 7 };
    uint32_t blk;

    for (uint32_t goal = 1; goal < 4 * GROUP_BLOCKS_MIN; goal += 333) {
        want.goal = goal;
        assert_int_equal(take(want, &blk), 7);
        assert_int_equal(blk, goal);
    }
    want.goal = 334 + 5; /* taken: not there */
    assert_int_equal(take(want, &blk), 7);
    assert_true(blk >= 334 + 7 || blk + 7 <= 334);
    assert_int_equal(give(blk, 7), 0);
    want.goal = 667 - 3; /* as much as is free there */
    assert_int_equal(take(want, &blk), 3);
    assert_int_equal(blk, 667 - 3);
    assert_int_equal(give(blk, 3), 0);
    want.goal = 1024 - 2; /* a run does not cross the end of its group */
    assert_int_equal(take(want, &blk), 2);
    assert_int_equal(give(blk, 2), 0);
    for (uint32_t goal = 1; goal < 4 * GROUP_BLOCKS_MIN; goal += 333)
        assert_int_equal(give(goal, 7), 0);
}

/* Several files that grow at once do not interleave: a new run gets a window to itself. */
static void test_alloc_blocks_begins_in_a_window_of_its_own(void **state)
{
    struct alloc_want want = { .len = 1, .window = 64 };
    uint32_t blks[GROUP_BLOCKS_MIN / 64 - 1], blk;

    for (size_t i = 0; i < ARRAY_SIZE(blks); i++) { /* as many as there are in a group: block 0 is taken */
        assert_int_equal(take(want, &blks[i]), 1);
        assert_int_equal(blks[i] % 64, 0);
        for (uint32_t k = 1; k < 64; k++)
            assert_false(block_used(blks[i] + k));
    }
    for (size_t i = 0; i < ARRAY_SIZE(blks); i++)
        assert_int_equal(give(blks[i], 1), 0);
    want.window = 512; /* 2 MiB */
    assert_int_equal(take(want, &blk), 1);
    assert_int_equal(blk % 512, 0);
    assert_int_equal(give(blk, 1), 0);
}

static void test_alloc_blocks_goes_without_a_window_where_there_is_none(void **state)
{
    struct alloc_want want = { .len = 5, .window = 64 };
    uint32_t blk, n = 0;

    for (uint32_t at = 32; at < 4 * GROUP_BLOCKS_MIN; at += 64) /* one in the middle of each window */
        n += take((struct alloc_want){ .goal = at, .len = 1 }, &blk) == 1 && blk == at;
    assert_int_equal(n, 64);
    assert_int_equal(take(want, &blk), 5);
    assert_int_equal(give(blk, 5), 0);
    for (uint32_t at = 32; at < 4 * GROUP_BLOCKS_MIN; at += 64)
        assert_int_equal(give(at, 1), 0);
}

/* ---- all of them ---------------------------------------------------------------------------------------------- */

struct run {
    uint32_t blk, len;
};
static struct run runs[4 * GROUP_BLOCKS_MIN];

static uint32_t take_everything(void)
{
    uint64_t free_blocks = space_of(fs).free_blocks, taken = 0;
    uint32_t n = 0;
    int len;

    for (;; n++) {
        struct alloc_want want = { .len = 1 + (uint32_t)random_below(200), .window = 1u << random_below(10) };

        if (random_below(3) == 0)
            want.goal = (uint32_t)random_below(region_nblocks(fs));
        len = take(want, &runs[n].blk);
        if (len < 0)
            break;
        CHECK(len > 0 && (uint32_t)len <= want.len);
        runs[n].len = (uint32_t)len;
        taken += (uint32_t)len;
    }
    CHECK_EQ(len, -ENOSPC);
    CHECK_EQ(taken, free_blocks); /* to the last one */
    CHECK_EQ(space_of(fs).free_blocks, 0);
    return n;
}

static void test_alloc_blocks_gives_each_block_once_and_takes_all_back(void **state)
{
    static bool given[4 * GROUP_BLOCKS_MIN];
    struct space_state before;
    uint32_t n;

    random_start(2);
    before = space_now();
    for (int round = 0; round < 3; round++) {
        memset(given, 0, sizeof(given));
        n = take_everything();
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t k = 0; k < runs[i].len; k++) {
                uint32_t blk = runs[i].blk + k;
                assert_true(blk > 0 && blk < region_nblocks(fs));
                assert_false(given[blk]);
                given[blk] = true;
            }
        }
        while (n > 0) { /* in any order, in one piece or in two */
            uint32_t i = (uint32_t)random_below(n);
            uint32_t first = (uint32_t)random_below(runs[i].len + 1);

            if (first > 0)
                assert_int_equal(give(runs[i].blk, first), 0);
            if (first < runs[i].len)
                assert_int_equal(give(runs[i].blk + first, runs[i].len - first), 0);
            runs[i] = runs[--n];
        }
        assert_space(&before);
    }
}

/* A search that finds nothing in a group lets it go again, lest it collect every lock there is. */
static void test_alloc_blocks_keeps_the_lock_of_the_group_it_took_from_only(void **state)
{
    struct alloc_want want = { .len = 1 };
    struct blkref blk;
    uint32_t n, len;

    random_start(3);
    n = take_everything();
    for (uint32_t group = 0; group < 4; group++) {
        uint32_t last = (group + 1) * GROUP_BLOCKS_MIN - 1;

        assert_int_equal(give(last, 1), 0);
        for (uint32_t from = 0; from < 4; from++) {
            want.goal = from * GROUP_BLOCKS_MIN + 5;       /* where there is nothing */
            fs->groups[from].free_blocks += from != group; /* and yet it must be looked at */
            begin();
            assert_int_equal(alloc_blocks(&txn, &want, &blk, &len), 0);
            assert_int_equal(blk.n, last);
            assert_int_equal(txn.nheld, 1);
            assert_true(txn_holds(&txn, HELD_GROUP, group));
            txn_abort(&txn);
            fs->groups[from].free_blocks -= from != group;
        }
        begin();
        assert_int_equal(alloc_blocks(&txn, &want, &blk, &len), 0);
        txn_commit(&txn);
    }
    while (n-- > 0)
        assert_int_equal(give(runs[n].blk, runs[n].len), 0);
}

static void hold_group_0(int fd, void *arg)
{
    struct txn t;

    fs = attach(0);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_group(&t, 0));
    pass(fd);
    await(fd);
    txn_commit(&t);
    detach();
}

/* I3: what is busy, not the first group and the last hope is -EAGAIN, and not -ENOSPC; nothing is changed. */
static void test_alloc_blocks_of_a_busy_group_is_eagain(void **state)
{
    struct alloc_want want = { .len = 1, .goal = 5 };
    struct space_state before;
    struct child child;
    struct blkref blk;
    uint32_t n, len;

    random_start(4);
    n = take_everything();
    assert_int_equal(give(5, 1), 0);
    before = space_now();
    child = spawn(hold_group_0, NULL);
    await(child.fd);
    begin();
    MUST(txn_lock_group(&txn, 1));
    assert_int_equal(alloc_blocks(&txn, &want, &blk, &len), -EAGAIN);
    assert_int_equal(txn.nheld, 1);
    assert_int_equal(txn.busy_group, 0);
    txn.busy_group = NO_GROUP; /* else the abort would wait for the child */
    txn_abort(&txn);
    assert_space(&before);
    pass(child.fd);
    assert_ends_well(&child);
    assert_int_equal(take(want, &runs[n].blk), 1);
    while (n-- > 0)
        assert_int_equal(give(runs[n].blk, runs[n].len), 0);
}

/* ---- freeing ------------------------------------------------------------------------------------------------- */

/* I8: freeing what is free is an error that changes nothing. */
static void test_alloc_free_twice_is_an_error_and_changes_nothing(void **state)
{
    struct space_state before;
    uint32_t blk;

    assert_int_equal(take((struct alloc_want){ .len = 200 }, &blk), 200);
    assert_int_equal(give(blk + 100, 1), 0);
    before = space_now();
    assert_int_equal(give(blk + 100, 1), -EUCLEAN);
    assert_int_equal(give(blk, 200), -EUCLEAN); /* one in the middle is free: all or nothing */
    assert_int_equal(give(blk + 100, 100), -EUCLEAN);
    assert_int_equal(give(blk, 101), -EUCLEAN);
    assert_space(&before);
    assert_int_equal(give(blk, 100), 0);
    assert_int_equal(give(blk + 101, 99), 0);
}

static void test_alloc_free_of_what_is_no_run_is_an_error(void **state)
{
    uint32_t end = (uint32_t)region_nblocks(fs), blk;
    struct space_state before;

    assert_int_equal(take((struct alloc_want){ .len = 1, .goal = end - 1 }, &blk), 1);
    assert_int_equal(take((struct alloc_want){ .len = 2, .goal = 1023 }, &blk), 1);
    assert_int_equal(take((struct alloc_want){ .len = 1, .goal = 1024 }, &blk), 1);
    before = space_now();
    assert_int_equal(give(0, 1), -EUCLEAN); /* block 0 is nobody's */
    assert_int_equal(give(1023, 0), -EUCLEAN);
    assert_int_equal(give(1023, 2), -EUCLEAN); /* two groups */
    assert_int_equal(give(end - 1, 2), -EUCLEAN);
    assert_int_equal(give(end, 1), -EUCLEAN);
    assert_int_equal(give(UINT32_MAX, 1), -EUCLEAN);
    assert_int_equal(give(1023, UINT32_MAX), -EUCLEAN);
    assert_int_equal(give(UINT32_MAX, UINT32_MAX), -EUCLEAN);
    assert_space(&before);
    assert_int_equal(give(end - 1, 1), 0);
    assert_int_equal(give(1023, 1), 0);
    assert_int_equal(give(1024, 1), 0);
}

static void test_alloc_tail_in_group_is_what_lies_in_the_last_group(void **state)
{
    uint32_t group = fs->l.group_blocks;

    for (uint32_t blk = 1; blk < 3 * group; blk += 97) {
        for (uint32_t len = 1; len < group + 300; len += 101) {
            uint32_t n = alloc_tail_in_group(fs, (struct blkref){ blk }, len), last = blk + len - 1;

            assert_true(n >= 1 && n <= len);
            assert_int_equal((last - n + 1) / group, last / group);
            if (n < len)
                assert_int_equal((last - n) / group + 1, last / group);
        }
    }
}

/* What was taken and what was freed: an abort undoes both. */
static void test_alloc_abort_undoes_taking_and_freeing(void **state)
{
    struct alloc_want want = { .len = 300 };
    struct space_state before;
    struct blkref blk;
    uint32_t len, mine, ino;

    assert_int_equal(take((struct alloc_want){ .len = 70 }, &mine), 70);
    before = space_now();
    begin();
    MUST(alloc_blocks(&txn, &want, &blk, &len));
    MUST(alloc_inode(&txn, 0, &ino));
    MUST(alloc_free(&txn, (struct blkref){ mine }, 30));
    MUST(alloc_free(&txn, (struct blkref){ mine + 30 }, 40));
    MUST(alloc_inode_free(&txn, ino));
    txn_abort(&txn);
    assert_space(&before);
    assert_int_equal(give(mine, 70), 0);
}

/* ---- I9 -------------------------------------------------------------------------------------------------------- */

static void allocate_after_freeing(void)
{
    struct alloc_want want = { .len = 1 };
    struct blkref blk;
    uint32_t len;

    fs = attach(0);
    begin();
    MUST(alloc_blocks(&txn, &want, &blk, &len));
    MUST(alloc_free(&txn, blk, 1));
    (void)!alloc_blocks(&txn, &want, &blk, &len);
}

static void allocate_inode_after_freeing(void)
{
    struct alloc_want want = { .len = 1 };
    struct blkref blk;
    uint32_t len, ino;

    fs = attach(0);
    begin();
    MUST(alloc_blocks(&txn, &want, &blk, &len));
    MUST(alloc_free(&txn, blk, 1));
    (void)!alloc_inode(&txn, 0, &ino);
}

/* I9: a new block's bytes are not in the undo log, so they must be nobody's. */
static void test_alloc_after_a_free_is_an_assertion(void **state)
{
    assert_aborts(allocate_after_freeing);
    assert_aborts(allocate_inode_after_freeing);
}

static void test_alloc_after_a_free_and_a_checkpoint_is_fine(void **state)
{
    struct alloc_want want = { .len = 1 };
    struct blkref blk;
    uint32_t len;

    begin();
    for (int i = 0; i < 10; i++) {
        MUST(alloc_blocks(&txn, &want, &blk, &len));
        MUST(alloc_free(&txn, blk, 1));
        if (i % 2 == 0)
            txn_checkpoint(&txn);
        else
            txn_retreat(&txn); /* back to where the block was not taken */
    }
    txn_commit(&txn);
}

/* ---- inode numbers ------------------------------------------------------------------------------------------------ */

static void test_alloc_inode_gives_each_number_once_and_takes_all_back(void **state)
{
    static bool given[4096];
    struct shmfs_space before;
    struct shmfs_attr attr;
    char name[32];
    uint32_t n;
    int r;

    renew(REGION_SIZE, 2048);
    before = space_of(fs);
    assert_int_equal(before.free_inodes, fs->l.ninodes - 2);
    memset(given, 0, sizeof(given));
    for (n = 0;; n++) {
        snprintf(name, sizeof(name), "%u", n);
        r = shmfs_node_mknod(fs, SHMFS_ROOT, name, S_IFREG, 0, &maker, false, &attr);
        if (r < 0)
            break;
        assert_true(attr.ino > 1 && attr.ino < fs->l.ninodes);
        assert_false(given[attr.ino]);
        given[attr.ino] = true;
    }
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(n, before.free_inodes);
    assert_int_equal(space_of(fs).free_inodes, 0);
    assert_int_equal(shmfs_node_mkdir(fs, SHMFS_ROOT, "d", 0755, &maker, false, &attr), -ENOSPC);
    assert_int_equal(shmfs_node_symlink(fs, "t", SHMFS_ROOT, "s", &maker, false, &attr), -ENOSPC);
    assert_int_equal(shmfs_node_tmpfile(fs, SHMFS_ROOT, 0600, &maker, &attr), -ENOSPC);
    assert_int_equal(lookup_error(SHMFS_ROOT, "d"), -ENOENT);
    while (n-- > 0) {
        snprintf(name, sizeof(name), "%u", n);
        assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, name), 0);
    }
    assert_int_equal(space_of(fs).free_inodes, before.free_inodes);
    make_file(SHMFS_ROOT, "again");
}

static void test_alloc_inode_goes_near(void **state)
{
    uint32_t ino;

    for (uint32_t group = 0; group < fs->l.ngroups; group++) {
        begin();
        assert_int_equal(alloc_inode(&txn, group * fs->l.group_inodes + 1, &ino), 0);
        assert_int_equal(ino / fs->l.group_inodes, group);
        assert_true(alloc_inode_used(fs, ino));
        assert_true(txn_holds(&txn, HELD_INODE, ino));
        txn_abort(&txn);
        assert_false(alloc_inode_used(fs, ino));
    }
    assert_false(alloc_inode_used(fs, fs->l.ninodes));
    assert_false(alloc_inode_used(fs, 0));
}

/* Somebody with a stale number looks at it just now: another is taken, and nobody waits. */
static void test_alloc_inode_passes_over_a_number_that_is_locked(void **state)
{
    struct txn stale;
    uint32_t ino, next;

    begin();
    MUST(alloc_inode(&txn, 1, &ino));
    txn_abort(&txn);
    MUST(txn_begin(fs, &stale));
    MUST(txn_lock_inode(&stale, ino));
    fs->group_rts[0].inode_hint = 0;
    begin();
    MUST(alloc_inode(&txn, 1, &next));
    assert_int_not_equal(next, ino);
    assert_int_equal(next / fs->l.group_inodes, ino / fs->l.group_inodes);
    txn_abort(&txn);
    txn_commit(&stale);
}

static void test_alloc_inode_free_twice_is_an_error(void **state)
{
    struct space_state before;
    uint32_t ino;

    begin();
    MUST(alloc_inode(&txn, 0, &ino));
    txn_checkpoint(&txn);
    assert_int_equal(alloc_inode_free(&txn, ino), 0);
    txn_checkpoint(&txn);
    before = space_now();
    assert_int_equal(alloc_inode_free(&txn, ino), -EUCLEAN);
    txn_commit(&txn);
    assert_space(&before);
}

/* ---- memory of the host (P5) ------------------------------------------------------------------------------------- */

static const char piece[65536] = { 'p' };

/* Appends until there is no room; returns bytes. */
static uint64_t write_until_full(uint32_t ino)
{
    uint64_t n = 0;
    ssize_t r;

    while ((r = shmfs_node_write(fs, ino, piece, sizeof(piece), 0, SHMFS_WRITE_APPEND, NULL)) > 0)
        n += (uint64_t)r;
    CHECK_EQ(r, -ENOSPC);
    while ((r = shmfs_node_write(fs, ino, piece, BLOCK_SIZE, 0, SHMFS_WRITE_APPEND, NULL)) > 0)
        n += (uint64_t)r;
    CHECK_EQ(r, -ENOSPC);
    return n;
}

static void assert_all_reserved_is_used(void)
{
    for (uint32_t g = 0; g < region_ngroups(fs); g++) {
        for (uint32_t c = 0; c < fs->l.group_blocks / CHUNK_BLOCKS; c++) {
            uint32_t lo = c * CHUNK_BLOCKS;

            if ((fs->group_rts[g].reserved[c / 64] >> c % 64 & 1) == 0)
                continue;
            assert_int_equal(alloc_bit_find(region_block_map(fs, g), lo, lo + CHUNK_BLOCKS, false),
                             lo + CHUNK_BLOCKS);
        }
    }
}

static void test_alloc_a_full_host_is_enospc_and_no_fault(void **state)
{
    uint64_t first, second;
    uint32_t ino;
    char back[1];

    small_host(8 * MIB, 32 * MIB);
    bus_restore();
    ino = make_file(SHMFS_ROOT, "file");
    first = write_until_full(ino);
    assert_true(first > 4 * MIB && first < 8 * MIB);
    assert_true(space_of(fs).free_blocks > 5000); /* it is the host that is full, not the region */
    assert_int_equal(fs->broken, 0);
    assert_all_reserved_is_used(); /* what it gave is used up before it is called full */
    assert_int_equal(attr_of(ino).size, first);
    for (uint64_t at = 0; at < first; at += sizeof(piece)) {
        assert_int_equal(shmfs_node_read(fs, ino, back, 1, (off_t)at), 1);
        assert_int_equal(back[0], 'p');
    }
    /* To make room one needs none. */
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "file"), 0);
    ino = make_file(SHMFS_ROOT, "second");
    second = write_until_full(ino);
    assert_true(second >= first - BLOCK_SIZE && second <= first + BLOCK_SIZE);
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "second"), 0);
}

static void test_alloc_inodes_on_a_full_host_are_enospc_and_no_fault(void **state)
{
    struct shmfs_attr attr;
    char name[32];
    uint32_t n;
    int r;

    small_host(8 * MIB, 256 * MIB);
    bus_restore();
    make_file(SHMFS_ROOT, "first");
    fill_host();
    for (n = 0;; n++) {
        snprintf(name, sizeof(name), "%u", n);
        r = shmfs_node_mkdir(fs, SHMFS_ROOT, name, 0755, &maker, false, &attr);
        if (r < 0)
            break;
    }
    assert_int_equal(r, -ENOSPC);
    assert_true(n > 100); /* those of the chunk that was given before */
    assert_true(space_of(fs).free_inodes > 1000);
    assert_int_equal(fs->broken, 0);
    while (n-- > 0) {
        snprintf(name, sizeof(name), "%u", n);
        assert_int_equal(shmfs_node_rmdir(fs, SHMFS_ROOT, name), 0);
    }
}

/* Gives the memory of wholly free chunks back, but for 64 of them; what is in use is left alone. */
static void test_alloc_trim_gives_memory_back(void **state)
{
    static char data[CHUNK_SIZE];
    uint64_t full, trimmed, given_back = 0;
    uint32_t big, small;
    char *back = malloc(sizeof(data));

    renew(128 * MIB, 0);
    small = make_file(SHMFS_ROOT, "small");
    big = make_file(SHMFS_ROOT, "big");
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 13);
    /* They take turns, so that some chunks belong to both. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(shmfs_node_write(fs, big, data, sizeof(data), 0, SHMFS_WRITE_APPEND, NULL),
                         sizeof(data));
        if (i % 10 == 0)
            assert_int_equal(shmfs_node_write(fs, small, data, BLOCK_SIZE, 0, SHMFS_WRITE_APPEND, NULL),
                             BLOCK_SIZE);
    }
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "big"), 0);
    full = memory_used();
    assert_int_equal(shmfs_region_tend(fs), 0);
    trimmed = memory_used();
    assert_true(full > 100 * MIB);
    assert_true(trimmed <= full - 25 * MIB);
    assert_true(trimmed > 64 * MIB);
    for (uint32_t g = 0; g < fs->l.ngroups; g++) {
        for (uint32_t c = 0; c < fs->l.group_blocks / CHUNK_BLOCKS; c++)
            given_back += (fs->group_rts[g].reserved[c / 64] >> c % 64 & 1) == 0;
    }
    assert_true(given_back >= 25 + 28); /* its mark is gone too (A15) */
    assert_int_equal(shmfs_region_tend(fs), 0);
    assert_int_equal(memory_used(), trimmed); /* there is nothing more to give */
    for (int i = 0; i < 10; i++) {
        assert_int_equal(shmfs_node_read(fs, small, back, BLOCK_SIZE, (off_t)i * BLOCK_SIZE), BLOCK_SIZE);
        assert_memory_equal(back, data, BLOCK_SIZE);
    }
    /* And it can be taken again. */
    big = make_file(SHMFS_ROOT, "again");
    for (int i = 0; i < 100; i++)
        assert_int_equal(shmfs_node_write(fs, big, data, sizeof(data), 0, SHMFS_WRITE_APPEND, NULL),
                         sizeof(data));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(shmfs_node_read(fs, big, back, sizeof(data), (off_t)i * CHUNK_SIZE), sizeof(data));
        assert_memory_equal(back, data, sizeof(data));
    }
    free(back);
}

/* A15: what was given back is asked for again before it is used. */
static void test_alloc_of_memory_given_back_on_a_full_host_is_enospc(void **state)
{
    uint32_t ino;

    small_host(100 * MIB, 256 * MIB);
    bus_restore();
    ino = make_file(SHMFS_ROOT, "file");
    assert_int_equal(shmfs_node_fallocate(fs, ino, 0, 0, (off_t)(90 * MIB)), 0);
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "file"), 0);
    assert_int_equal(shmfs_region_tend(fs), 0);
    fill_host();
    ino = make_file(SHMFS_ROOT, "second");
    uint64_t n = write_until_full(ino);
    assert_true(n >= 63 * MIB && n < 67 * MIB);
    assert_int_equal(fs->broken, 0);
    assert_all_reserved_is_used();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_alloc_bit_find_agrees_with_a_simple_loop),
        unit(test_alloc_blocks_gives_one_run),
        unit(test_alloc_blocks_begins_at_the_goal),
        unit(test_alloc_blocks_begins_in_a_window_of_its_own),
        unit(test_alloc_blocks_goes_without_a_window_where_there_is_none),
        unit(test_alloc_blocks_gives_each_block_once_and_takes_all_back),
        unit(test_alloc_blocks_keeps_the_lock_of_the_group_it_took_from_only),
        unit(test_alloc_blocks_of_a_busy_group_is_eagain),
        unit(test_alloc_free_twice_is_an_error_and_changes_nothing),
        unit(test_alloc_free_of_what_is_no_run_is_an_error),
        unit(test_alloc_tail_in_group_is_what_lies_in_the_last_group),
        unit(test_alloc_abort_undoes_taking_and_freeing),
        unit(test_alloc_after_a_free_is_an_assertion),
        unit(test_alloc_after_a_free_and_a_checkpoint_is_fine),
        unit(test_alloc_inode_gives_each_number_once_and_takes_all_back),
        unit(test_alloc_inode_goes_near),
        unit(test_alloc_inode_passes_over_a_number_that_is_locked),
        unit(test_alloc_inode_free_twice_is_an_error),
        host_unit(test_alloc_a_full_host_is_enospc_and_no_fault),
        host_unit(test_alloc_inodes_on_a_full_host_are_enospc_and_no_fault),
        unit(test_alloc_trim_gives_memory_back),
        host_unit(test_alloc_of_memory_given_back_on_a_full_host_is_enospc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
