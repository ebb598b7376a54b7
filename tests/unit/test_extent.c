/* SPDX-License-Identifier: MIT */
/* The map of an inode: a B+tree that must do what an array does (FORMAT, "Maps"). */
#include "fixture.h"

enum { POSITIONS = 8192 };

static uint32_t ino;
static struct inode *in;
static uint32_t model[POSITIONS]; /* the block of each position, 0: none */
static struct txn txn;
static uint64_t free_before; /* blocks, while the map was empty */

static int setup_map(void **state)
{
    setup(state);
    renew(64 * MIB, 0);
    ino = make_file(SHMFS_ROOT, "file");
    in = inode_at(fs, ino);
    memset(model, 0, sizeof(model));
    free_before = space_of(fs).free_blocks;
    return 0;
}

#define map_unit(f) cmocka_unit_test_setup_teardown(f, setup_map, teardown)

static void begin(void)
{
    struct inode *unused;

    MUST(txn_begin(fs, &txn));
    MUST(inode_lock(&txn, ino, &unused));
    inode_edit(&txn, ino);
}

static void next_step(void)
{
    txn_checkpoint(&txn);
    inode_edit(&txn, ino);
}

/* ---- the tree, looked at by other means ----------------------------------------------------------------- */

struct shape {
    uint32_t nodes, entries, levels;
    uint64_t last; /* end of the entry before */
};

/* Separators are exact, no node is empty, positions ascend and do not overlap. */
static void walk(const struct extent *e, uint32_t count, uint32_t level, struct shape *shape)
{
    for (uint32_t i = 0; i < count; i++) {
        if (level == 0) {
            CHECK(e[i].len > 0 && e[i].pos >= shape->last);
            shape->last = e[i].pos + e[i].len;
            shape->entries++;
            continue;
        }
        const struct node *node = map_node(fs, ino, e[i].blk, level - 1);
        CHECK(node != NULL && node->count > 0 && node->count <= NODE_ENTRIES);
        CHECK_EQ(node->entries[0].pos, e[i].pos);
        shape->nodes++;
        walk(node->entries, node->count, level - 1, shape);
        CHECK(i + 1 == count || shape->last <= e[i + 1].pos);
    }
}

static struct shape shape_of_map(void)
{
    struct shape shape = { .levels = in->map_level };

    walk(in->root, in->map_count, in->map_level, &shape);
    return shape;
}

/* The map says what the array says, and no block is lost. */
static void verify(void)
{
    struct shape shape = shape_of_map();
    uint64_t mapped = 0;

    for (uint64_t pos = 0; pos < POSITIONS; pos++) {
        struct map_at at;
        struct blkref blk = { 0 };
        uint64_t len;

        MUST(map_find(fs, ino, in, pos, &at));
        if (!map_at_block(&at, pos, &blk, &len))
            blk.n = 0;
        if (blk.n != model[pos])
            fail_msg("position %ju is at block %u, not %u", (uintmax_t)pos, blk.n, model[pos]);
        CHECK(len > 0);
        for (uint64_t i = 1; i < MIN(len, (uint64_t)3) && pos + i < POSITIONS; i++)
            CHECK((model[pos + i] != 0) == (model[pos] != 0)); /* and as far as it says */
        mapped += blk.n != 0;
    }
    assert_int_equal(in->blocks, mapped + shape.nodes);
    assert_int_equal(space_of(fs).free_blocks, free_before - in->blocks);
}

/* ---- changes to both --------------------------------------------------------------------------------------- */

static void model_set(uint64_t pos, uint32_t blk, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        model[pos + i] = blk == 0 ? 0 : blk + i;
}

static int insert(uint64_t pos, uint32_t len, uint32_t goal, bool merge)
{
    struct alloc_want want = { .len = len, .goal = goal };
    struct blkref blk;
    uint32_t got;
    int r;

    MUST(alloc_blocks(&txn, &want, &blk, &got));
    in->blocks += got;
    r = map_insert(&txn, ino, in, (struct extent){ .pos = pos, .blk = blk, .len = got }, merge);
    if (r == 0)
        model_set(pos, blk.n, got);
    return r;
}

static void insert_one(uint64_t pos)
{
    begin();
    MUST(insert(pos, 1, 0, false));
    txn_commit(&txn);
}

/* Empties [from, to), as a punch does. */
static void cut(uint64_t from, uint64_t to)
{
    int r;

    begin();
    MUST(map_split(&txn, ino, in, to));
    next_step();
    while ((r = (int)MUST(map_cut(&txn, ino, in, from, to))) == 1)
        next_step();
    txn_commit(&txn);
    model_set(from, 0, (uint32_t)(to - from));
}

static uint64_t hole_at(uint64_t pos)
{
    uint64_t n = 0;

    while (pos + n < POSITIONS && model[pos + n] == 0)
        n++;
    return n;
}

static void random_change(bool growing)
{
    uint64_t pos = random_below(POSITIONS), hole = hole_at(pos);
    uint32_t len = random_below(4) == 0 ? 1 + (uint32_t)random_below(40) : 1;

    if (hole > 0 && (growing || random_below(3) == 0)) {
        uint32_t goal = pos > 0 && model[pos - 1] != 0 && random_below(2) != 0 ? model[pos - 1] + 1 : 0;

        begin();
        MUST(insert(pos, (uint32_t)MIN(hole, (uint64_t)len), goal, random_below(2) != 0));
        txn_commit(&txn);
    } else if (random_below(3) == 0) {
        begin();
        MUST(map_split(&txn, ino, in, pos)); /* changes nothing that can be seen */
        txn_commit(&txn);
    } else if (!growing) {
        cut(pos, MIN(pos + len, (uint64_t)POSITIONS));
    }
}

static void test_extent_map_does_what_an_array_does(void **state)
{
    uint32_t deepest = 0;

    random_start(5);
    for (int i = 0; i < 9000; i++) {
        random_change(i < 5000);
        deepest = MAX(deepest, in->map_level);
        if (i % 300 == 0)
            verify();
    }
    verify();
    assert_true(deepest >= 2); /* root, nodes, leaves */
    /* Down to nothing: no node is left behind. */
    while (in->map_count > 0) {
        uint64_t pos = random_below(POSITIONS), to = pos + 1 + random_below(400);

        cut(pos, MIN(to, (uint64_t)POSITIONS));
        if (random_below(20) == 0)
            verify();
        if (random_below(60) == 0)
            cut(0, POSITIONS);
    }
    verify();
    assert_int_equal(in->blocks, 0);
    assert_int_equal(in->map_level, 0);
    assert_int_equal(space_of(fs).free_blocks, free_before);
}

/* P2: what an aborted transaction did to the map, whatever it was, is undone. */
static void random_abort(void)
{
    uint64_t before_blocks = in->blocks;
    uint32_t kept[POSITIONS];

    memcpy(kept, model, sizeof(kept));
    begin();
    for (uint64_t n = 1 + random_below(8); n > 0; n--) {
        uint64_t pos = random_below(POSITIONS);

        if (hole_at(pos) > 0)
            MUST(insert(pos, 1, 0, random_below(2) != 0));
        else
            MUST(map_split(&txn, ino, in, pos));
    }
    for (uint64_t n = random_below(3); n > 0; n--) { /* I9: after the last insertion */
        uint64_t to = 1 + random_below(POSITIONS);
        int r = map_cut(&txn, ino, in, to - 1, to);
        CHECK(r >= 0 || r == -EUCLEAN); /* an entry may reach across `to` here */
    }
    txn_abort(&txn);
    memcpy(model, kept, sizeof(kept));
    CHECK_EQ(in->blocks, before_blocks);
}

static void test_extent_abort_undoes_whatever_was_done(void **state)
{
    random_start(6);
    for (int i = 0; i < 6000; i++) {
        random_change(i < 4000);
        random_abort();
        if (i % 100 == 0)
            verify();
    }
    verify();
    assert_true(in->map_level >= 2);
}

/* The smallest case of it: a full leaf is split for an entry in its lower half, and that is undone. */
static void test_extent_abort_undoes_a_split(void **state)
{
    for (uint64_t i = 0; i < NODE_ENTRIES; i++)
        insert_one(i * 4);
    assert_int_equal(in->map_level, 1);
    assert_int_equal(in->map_count, 1); /* one leaf, and it is full */
    for (uint64_t pos = 2; pos < NODE_ENTRIES * 4; pos += 4) {
        begin();
        MUST(insert(pos, 1, 0, false));
        model[pos] = 0;
        txn_abort(&txn);
        verify();
    }
}

/* ---- shapes ---------------------------------------------------------------------------------------------------- */

/* Appending fills: the nodes of a file that was written from its start on are full. */
static void test_extent_appending_fills_the_nodes(void **state)
{
    for (uint64_t i = 0; i < 2000; i++)
        insert_one(i * 2);
    struct shape shape = shape_of_map();
    uint32_t leaves = (uint32_t)div_up(2000, NODE_ENTRIES);
    assert_int_equal(shape.entries, 2000);
    assert_int_equal(shape.nodes, leaves + 1);
    assert_int_equal(shape.levels, 2);
    verify();
}

/* Before the first: the separators above follow (they are exact). */
static void test_extent_inserting_downwards_moves_the_separators(void **state)
{
    for (uint64_t i = 2500; i-- > 0;)
        insert_one(i * 3 + 1);
    struct shape shape = shape_of_map();
    assert_int_equal(shape.entries, 2500);
    assert_int_equal(shape.levels, 2);
    verify();
    /* And when the first entries go. */
    for (uint64_t i = 0; i < 2500; i++) {
        cut(i * 3, i * 3 + 2);
        if (i % 250 == 0)
            verify();
    }
    assert_int_equal(in->blocks, 0);
}

/* Removing never rebalances, and never needs memory: an empty node is freed, and that is all. */
static void test_extent_cutting_works_on_a_full_region(void **state)
{
    static struct blkref taken[64 * MIB / BLOCK_SIZE];
    uint32_t n = 0;

    for (uint64_t i = 0; i < 2000; i++)
        insert_one(i * 4);
    while (txn_begin(fs, &txn) == 0 && alloc_block(&txn, (struct blkref){ 0 }, &taken[n]) == 0) {
        txn_commit(&txn);
        n++;
    }
    txn_abort(&txn);
    assert_int_equal(space_of(fs).free_blocks, 0);
    begin();
    for (uint64_t i = 0; i < 2000; i++) {
        assert_int_equal(map_cut(&txn, ino, in, i * 4, i * 4 + 1), 1);
        next_step();
    }
    assert_int_equal(in->blocks, 0);
    while (n > 0) {
        MUST(alloc_free(&txn, taken[--n], 1));
        next_step();
    }
    txn_commit(&txn);
    memset(model, 0, sizeof(model));
    verify();
}

/* ---- joining and splitting ----------------------------------------------------------------------------------- */

static void test_extent_insert_joins_what_follows_on(void **state)
{
    begin();
    MUST(insert(10, 5, 1000, true));
    MUST(insert(15, 3, 1005, true)); /* position and block follow: one entry */
    assert_int_equal(shape_of_map().entries, 1);
    MUST(insert(18, 1, 1008, false)); /* unless it must not */
    assert_int_equal(shape_of_map().entries, 2);
    MUST(insert(19, 1, 1020, true)); /* another block */
    assert_int_equal(shape_of_map().entries, 3);
    MUST(insert(21, 1, 1021, true)); /* another position */
    assert_int_equal(shape_of_map().entries, 4);
    txn_commit(&txn);
    verify();
}

static void test_extent_insert_over_another_is_an_error(void **state)
{
    struct alloc_want want = { .len = 1 };
    struct blkref blk;
    uint32_t len;

    begin();
    MUST(insert(10, 5, 1000, true));
    txn_commit(&txn);
    for (uint64_t pos = 10; pos < 15; pos++) {
        begin();
        MUST(alloc_blocks(&txn, &want, &blk, &len));
        assert_int_equal(map_insert(&txn, ino, in, (struct extent){ pos, blk, 1 }, true), -EUCLEAN);
        txn_abort(&txn);
    }
    verify();
}

static void test_extent_split_makes_a_border_and_nothing_else(void **state)
{
    begin();
    MUST(insert(10, 20, 1000, true));
    MUST(map_split(&txn, ino, in, 10)); /* there is one already */
    MUST(map_split(&txn, ino, in, 30));
    MUST(map_split(&txn, ino, in, 5)); /* and where there is nothing */
    MUST(map_split(&txn, ino, in, 500));
    assert_int_equal(shape_of_map().entries, 1);
    MUST(map_split(&txn, ino, in, 15));
    assert_int_equal(shape_of_map().entries, 2);
    MUST(map_split(&txn, ino, in, 15));
    assert_int_equal(shape_of_map().entries, 2);
    MUST(map_split(&txn, ino, in, 29));
    assert_int_equal(shape_of_map().entries, 3);
    txn_commit(&txn);
    verify();
}

static void test_extent_cut_takes_the_tail_of_an_entry(void **state)
{
    begin();
    MUST(insert(10, 20, 1000, true));
    next_step();
    assert_int_equal(map_cut(&txn, ino, in, 0, 10), 0);         /* nothing there */
    assert_int_equal(map_cut(&txn, ino, in, 30, 50), 0);        /* nor there */
    assert_int_equal(map_cut(&txn, ino, in, 25, 25), 0);        /* nor is that a range */
    assert_int_equal(map_cut(&txn, ino, in, 15, 25), -EUCLEAN); /* reaches across */
    assert_int_equal(map_cut(&txn, ino, in, 25, UINT64_MAX), 1);
    txn_commit(&txn);
    model_set(25, 0, 5);
    verify();
    assert_int_equal(shape_of_map().entries, 1);
}

/* A run that spans groups is freed a group at a time, from its end: no more locks than that. */
static void test_extent_cut_frees_what_lies_in_one_group(void **state)
{
    uint32_t group = fs->l.group_blocks, steps = 0;

    begin();
    MUST(insert(0, 100, 5 * group - 100, true));
    MUST(insert(100, group, 5 * group, true));
    MUST(insert(100 + group, 50, 6 * group, true));
    assert_int_equal(shape_of_map().entries, 1);
    next_step();
    while (MUST(map_cut(&txn, ino, in, 0, UINT64_MAX)) == 1) {
        steps++;
        assert_int_equal(txn.nheld, 2); /* the inode, one group */
        next_step();
    }
    txn_commit(&txn);
    assert_int_equal(steps, 3);
    assert_int_equal(in->blocks, 0);
    memset(model, 0, sizeof(model));
    verify();
}

/* ---- keys, as directories have them ------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void test_extent_floor_of_any_key_is_found(void **state)
{
    enum { KEYS = 2500 };
    static uint64_t keys[KEYS], sorted[KEYS];
    struct map_at at;
    uint32_t n = KEYS;

    random_start(7);
    for (uint32_t i = 0; i < KEYS; i++) {
        struct blkref blk;

        keys[i] = random_next() >> 2 | 1;
        begin();
        MUST(alloc_block(&txn, (struct blkref){ 0 }, &blk));
        in->blocks++;
        MUST(map_insert(&txn, ino, in, (struct extent){ keys[i], blk, 1 }, false));
        txn_commit(&txn);
    }
    assert_int_equal(in->map_level, 2);
    while (n > 0) {
        if (n % 250 == 0) {
            memcpy(sorted, keys, n * sizeof(keys[0]));
            qsort(sorted, n, sizeof(sorted[0]), compare_keys);
            for (uint32_t i = 0; i < n; i++) {
                MUST(map_find(fs, ino, in, sorted[i], &at));
                assert_true(at.found);
                assert_int_equal(at.ext.pos, sorted[i]);
                assert_int_equal(at.next, i + 1 < n ? sorted[i + 1] : UINT64_MAX);
                MUST(map_find(fs, ino, in, sorted[i] - 1, &at));
                assert_int_equal(at.found, i > 0);
                assert_int_equal(at.next, sorted[i]);
                assert_true(i == 0 || at.ext.pos == sorted[i - 1]);
            }
            MUST(map_find(fs, ino, in, UINT64_MAX, &at));
            assert_int_equal(at.ext.pos, sorted[n - 1]);
        }
        uint32_t i = (uint32_t)random_below(n);
        begin();
        assert_int_equal(map_remove(&txn, ino, in, keys[i] + 1), -ENOENT);
        assert_int_equal(map_remove(&txn, ino, in, keys[i]), 0);
        txn_commit(&txn);
        keys[i] = keys[--n];
    }
    assert_int_equal(in->blocks, 0);
    assert_int_equal(in->map_level, 0);
    MUST(map_find(fs, ino, in, 5, &at));
    assert_false(at.found);
    assert_int_equal(at.next, UINT64_MAX);
}

/* ---- hostile bytes (P6) ------------------------------------------------------------------------------------------ */

static void expect_unclean(const char *what)
{
    for (uint64_t key = 0; key < 4000; key += 500) {
        struct map_at at;
        int r = map_find(fs, ino, in, key, &at);

        if (r != -EUCLEAN)
            fail_msg("%s: key %ju was found (%d)", what, (uintmax_t)key, r);
    }
}

#define WITH(place, value, what) \
    do { \
        __typeof__(place) was = (place); \
        (place) = (__typeof__(place))(value); \
        expect_unclean(what); \
        (place) = was; \
    } while (0)

static void test_extent_find_in_hostile_nodes_is_an_error(void **state)
{
    uint32_t end = (uint32_t)region_nblocks(fs);

    for (uint64_t i = 0; i < 2000; i++)
        insert_one(i * 2);
    assert_int_equal(in->map_level, 2);
    assert_int_equal(in->map_count, 1);
    struct node *top = region_block(fs, in->root[0].blk);

    WITH(in->map_count, INODE_EXTENTS + 1, "too many entries in the inode");
    WITH(in->map_count, UINT32_MAX, "too many entries in the inode");
    WITH(in->map_count, 0, "levels without entries");
    WITH(in->map_level, MAP_LEVELS_MAX + 1, "too many levels");
    WITH(in->map_level, UINT32_MAX, "too many levels");
    WITH(in->map_level, 3, "a level too many");
    WITH(in->map_level, 1, "a level too few");
    WITH(in->root[0].blk.n, 0, "no block");
    WITH(in->root[0].blk.n, end, "a block behind the end");
    WITH(in->root[0].blk.n, UINT32_MAX, "a block behind the end");
    WITH(in->root[0].blk.n, 1, "a block that is no node");
    WITH(top->magic, 0, "bad magic");
    WITH(top->magic, BUCKET_MAGIC, "a bucket");
    WITH(top->owner.n, ino + 1, "somebody else's node");
    WITH(top->level, 0, "a leaf that is none");
    WITH(top->level, 2, "a circle could be");
    WITH(top->count, 0, "an empty node");
    WITH(top->count, NODE_ENTRIES + 1, "too many entries");
    WITH(top->count, UINT32_MAX, "too many entries");
    for (uint32_t i = 0; i < top->count; i++)
        top->entries[i].blk.n ^= UINT32_C(0x40000000);
    expect_unclean("children behind the end");
    for (uint32_t i = 0; i < top->count; i++)
        top->entries[i].blk.n = (top->entries[i].blk.n ^ UINT32_C(0x40000000));
    verify();
}

static void test_extent_find_of_hostile_extents_is_an_error(void **state)
{
    uint32_t end = (uint32_t)region_nblocks(fs);

    begin();
    MUST(insert(0, 4000 / 4, 0, true));
    txn_commit(&txn);
    WITH(in->root[0].len, 0, "no length");
    WITH(in->root[0].blk.n, 0, "block 0");
    WITH(in->root[0].blk.n, end, "behind the end");
    WITH(in->root[0].len, end, "reaches behind the end");
    WITH(in->root[0].len, UINT32_MAX, "reaches behind the end");
    WITH(in->root[0].blk.n, UINT32_MAX, "behind the end");
    verify();
}

/* Whatever the bytes: an error, or a run of blocks that are there; and it comes to an end. */
static void test_extent_find_in_random_bytes_stays_within_bounds(void **state)
{
    random_start(8);
    for (uint64_t i = 0; i < 2000; i++)
        insert_one(i * 2);
    struct inode was = *in;
    for (int round = 0; round < 3000; round++) {
        struct node *node = region_block(fs, (struct blkref){ 1 + (uint32_t)random_below(2100) }),
                    copy = *node;
        struct map_at at;

        for (uint64_t n = 1 + random_below(20); n > 0; n--) {
            uint8_t *victim =
                random_below(4) == 0 ? (uint8_t *)in + offsetof(struct inode, map_level) : (uint8_t *)node;
            size_t size =
                victim == (uint8_t *)node ? sizeof(*node) : sizeof(*in) - offsetof(struct inode, map_level);
            size_t at_byte = random_below(3) == 0 ? random_below(32) : random_below(size);

            victim[at_byte % size] = (uint8_t)random_next();
        }
        for (int i = 0; i < 20; i++) {
            int r = map_find(fs, ino, in, random_below(5000), &at);

            assert_true(r == 0 || r == -EUCLEAN);
            if (r == 0 && at.found)
                assert_true(at.ext.len > 0 && at.ext.blk.n > 0 &&
                            (uint64_t)at.ext.blk.n + at.ext.len <= region_nblocks(fs));
        }
        *node = copy;
        *in = was;
    }
    verify();
}

/* Changing what is hostile is an error too, and an abort puts back what was there. */
static void test_extent_changing_hostile_nodes_is_an_error(void **state)
{
    static const uint32_t counts[] = { 0, NODE_ENTRIES + 1, UINT32_MAX };
    struct blkref blk;

    for (uint64_t i = 0; i < 600; i++)
        insert_one(i * 2);
    struct node *leaf = region_block(fs, in->root[0].blk);
    uint32_t was = leaf->count;

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        leaf->count = counts[i];
        begin();
        MUST(alloc_block(&txn, (struct blkref){ 0 }, &blk));
        assert_int_equal(map_insert(&txn, ino, in, (struct extent){ 3, blk, 1 }, true), -EUCLEAN);
        assert_int_equal(map_split(&txn, ino, in, 3), -EUCLEAN);
        assert_int_equal(map_cut(&txn, ino, in, 3, 5), -EUCLEAN);
        assert_int_equal(map_remove(&txn, ino, in, 4), -EUCLEAN);
        txn_abort(&txn);
        assert_int_equal(leaf->count, counts[i]);
    }
    leaf->count = was;
    /* A block that is mapped but free cannot be freed once more (I8). */
    uint32_t good = leaf->entries[0].blk.n;
    leaf->entries[0].blk.n = (uint32_t)region_nblocks(fs) - 1;
    begin();
    assert_int_equal(map_cut(&txn, ino, in, 0, 1), -EUCLEAN);
    txn_abort(&txn);
    leaf->entries[0].blk.n = good;
    verify();
}

/* Full nodes all the way up, and the root too: a tree grows no higher than MAP_LEVELS_MAX. */
static void test_extent_a_map_has_eight_levels_at_most(void **state)
{
    struct blkref blks[MAP_LEVELS_MAX], spare;

    begin();
    for (uint32_t level = 0; level < MAP_LEVELS_MAX; level++) {
        MUST(alloc_block(&txn, (struct blkref){ 0 }, &blks[level]));
        struct node *node = region_block(fs, blks[level]);
        *node = (struct node){ .magic = NODE_MAGIC, .owner = { ino }, .level = level, .count = NODE_ENTRIES };
        for (uint32_t i = 0; i < NODE_ENTRIES; i++) {
            node->entries[i].pos = (uint64_t)i << (8 + level * 6);
            node->entries[i].blk = level > 0 ? blks[level - 1] : blks[0];
            node->entries[i].len = level == 0;
        }
    }
    in->map_level = MAP_LEVELS_MAX;
    in->map_count = INODE_EXTENTS;
    for (uint32_t i = 0; i < INODE_EXTENTS; i++)
        in->root[i] = (struct extent){ .pos = (uint64_t)i << 60, .blk = blks[MAP_LEVELS_MAX - 1] };
    next_step();
    MUST(alloc_block(&txn, (struct blkref){ 0 }, &spare));
    assert_int_equal(map_insert(&txn, ino, in, (struct extent){ 3, spare, 1 }, false), -EFBIG);
    txn_retreat(&txn);
    inode_edit(&txn, ino);
    in->map_level = in->map_count = 0;
    for (uint32_t level = 0; level < MAP_LEVELS_MAX; level++)
        MUST(alloc_free(&txn, blks[level], 1));
    txn_commit(&txn);
    verify();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        map_unit(test_extent_map_does_what_an_array_does),
        map_unit(test_extent_abort_undoes_whatever_was_done),
        map_unit(test_extent_abort_undoes_a_split),
        map_unit(test_extent_appending_fills_the_nodes),
        map_unit(test_extent_inserting_downwards_moves_the_separators),
        map_unit(test_extent_cutting_works_on_a_full_region),
        map_unit(test_extent_insert_joins_what_follows_on),
        map_unit(test_extent_insert_over_another_is_an_error),
        map_unit(test_extent_split_makes_a_border_and_nothing_else),
        map_unit(test_extent_cut_takes_the_tail_of_an_entry),
        map_unit(test_extent_cut_frees_what_lies_in_one_group),
        map_unit(test_extent_floor_of_any_key_is_found),
        map_unit(test_extent_find_in_hostile_nodes_is_an_error),
        map_unit(test_extent_find_of_hostile_extents_is_an_error),
        map_unit(test_extent_find_in_random_bytes_stays_within_bounds),
        map_unit(test_extent_changing_hostile_nodes_is_an_error),
        map_unit(test_extent_a_map_has_eight_levels_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
