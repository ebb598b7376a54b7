/* SPDX-License-Identifier: MIT */
/* The layout: a pure function of the geometry, the same in every process (P1). */
#include "fixture.h"

#define TIB (GIB * 1024)

struct wish {
    uint64_t size, inodes;
};

/* From the smallest to the largest, and what lies on either side of a power of two. */
static const struct wish wishes[] = {
    { LAYOUT_SIZE_MIN, 1 },
    { LAYOUT_SIZE_MIN, 32768 },
    { LAYOUT_SIZE_MIN + 1, 1024 },
    { 4 * MIB - BLOCK_SIZE, 1024 },
    { 4 * MIB, 1024 },
    { 4 * MIB + BLOCK_SIZE, 1024 },
    { 64 * MIB, 1 },
    { 64 * MIB + 5 * BLOCK_SIZE, 100000 },
    { GIB, GIB / 16384 },
    { 8 * GIB - 1, 8 * GIB / 16384 },
    { 8 * GIB + BLOCK_SIZE, 8 * GIB / 16384 },
    { TIB, 1024 },
    { 3 * TIB + 12345, 3 * TIB / 16384 },
    { LAYOUT_SIZE_MAX, 1 },
    { LAYOUT_SIZE_MAX, LAYOUT_SIZE_MAX / 16384 },
};

static struct layout planned(const struct wish *wish)
{
    struct layout l;
    int r = layout_plan(wish->size, wish->inodes, &l);

    if (r < 0)
        fail_msg("layout_plan(%ju, %ju) gave %d", (uintmax_t)wish->size, (uintmax_t)wish->inodes, r);
    return l;
}

static void test_layout_plan_takes_all_sizes_within_the_bounds(void **state)
{
    struct layout untouched, l;

    memset(&untouched, 0x5a, sizeof(untouched));
    l = untouched;
    assert_int_equal(layout_plan(LAYOUT_SIZE_MIN - 1, 1024, &l), -EINVAL);
    assert_int_equal(layout_plan(LAYOUT_SIZE_MAX + 1, 1024, &l), -EINVAL);
    assert_int_equal(layout_plan(0, 1024, &l), -EINVAL);
    assert_int_equal(layout_plan(UINT64_MAX, 1024, &l), -EINVAL);
    assert_memory_equal(&l, &untouched, sizeof(l));
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        l = planned(&wishes[i]);
        assert_int_equal(l.max_blocks, wishes[i].size / BLOCK_SIZE);
    }
}

static void test_layout_plan_gives_as_many_inodes_as_asked_for(void **state)
{
    struct layout l;

    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        l = planned(&wishes[i]);
        assert_true(l.ninodes >= wishes[i].inodes);
        assert_true(l.group_inodes >= GROUP_INODES_MIN && l.group_inodes <= GROUP_INODES_MAX);
    }
    /* One group has 32,768 at most, and a number has 32 bits. */
    assert_int_equal(layout_plan(LAYOUT_SIZE_MIN, GROUP_INODES_MAX, &l), 0);
    assert_int_equal(layout_plan(LAYOUT_SIZE_MIN, GROUP_INODES_MAX + 1, &l), -EINVAL);
    assert_int_equal(layout_plan(LAYOUT_SIZE_MAX, UINT32_MAX, &l), -EINVAL);
    assert_int_equal(layout_plan(LAYOUT_SIZE_MAX, UINT64_MAX / 2, &l), -EINVAL);
}

/* Even a small region has several groups, each with a lock (FORMAT, "Groups"). */
static void test_layout_plan_makes_groups_of_1024_to_32768_blocks(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        struct layout l = planned(&wishes[i]);

        assert_true(l.group_blocks >= 1024 && l.group_blocks <= 32768);
        assert_int_equal(l.group_blocks & (l.group_blocks - 1), 0);
        assert_int_equal(l.ngroups, div_up(l.max_blocks, l.group_blocks));
        if (wishes[i].size >= 64 * 4 * MIB)
            assert_true(l.ngroups >= 64);
        else
            assert_int_equal(l.group_blocks, 1024);
    }
}

/* What a reference can name has a bit, and what has a bit can be named by a reference. */
static void test_layout_every_block_and_inode_has_a_place_and_a_bit(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        struct layout l = planned(&wishes[i]);

        assert_true((uint64_t)l.ngroups * l.group_blocks >= l.max_blocks);
        assert_true(l.max_blocks - 1 <= UINT32_MAX);
        assert_true(l.inode_maps - l.block_maps >= (uint64_t)l.ngroups * l.group_blocks / 8);
        assert_true(l.inodes - l.inode_maps >= l.ninodes / 8);
        assert_true(l.blocks - l.inodes >= (uint64_t)l.ninodes * sizeof(struct inode));
        assert_int_equal(l.end - l.blocks, l.max_blocks * BLOCK_SIZE);
    }
}

static void test_layout_areas_follow_each_other_on_block_boundaries(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        struct layout l = planned(&wishes[i]);
        struct {
            uint64_t at, bytes;
        } areas[] = {
            { 0, sizeof(struct superblock) },
            { l.runtime, sizeof(struct runtime) },
            { l.procs, (uint64_t)l.nprocs * sizeof(struct proc_entry) },
            { l.slots, (uint64_t)l.nslots * sizeof(struct slot) },
            { l.uses, (uint64_t)l.nuses * sizeof(struct use_bucket) },
            { l.ranges, (uint64_t)l.nranges * sizeof(struct range) },
            { l.absent, ABSENT_BYTES },
            { l.inode_rt, (uint64_t)l.ninodes * sizeof(struct inode_rt) },
            { l.group_rt, (uint64_t)l.ngroups * sizeof(struct group_rt) },
            { l.group_desc, (uint64_t)l.ngroups * sizeof(struct group_desc) },
            { l.block_maps, (uint64_t)l.ngroups * l.group_blocks / 8 },
            { l.inode_maps, (uint64_t)l.ninodes / 8 },
            { l.inodes, (uint64_t)l.ninodes * sizeof(struct inode) },
            { l.blocks, l.max_blocks * BLOCK_SIZE },
            { l.end, 0 },
        };

        for (size_t k = 0; k + 1 < ARRAY_SIZE(areas); k++) {
            assert_int_equal(areas[k].at % BLOCK_SIZE, 0);
            assert_true(areas[k].bytes <= areas[k + 1].at - areas[k].at);
        }
        assert_true(l.end <= INT64_MAX); /* it is a file */
    }
}

/* So that an aligned run of blocks is an aligned run of bytes, for huge pages. */
static void test_layout_blocks_begin_at_two_mebibytes(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++)
        assert_int_equal(planned(&wishes[i]).blocks % (2 * MIB), 0);
}

/* P1: nothing but the geometry is stored; everybody computes the same from it. */
static void test_layout_compute_finds_from_the_geometry_what_was_planned(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(wishes); i++) {
        struct layout l = planned(&wishes[i]), again;

        memset(&again, 0, sizeof(again));
        again.max_blocks = l.max_blocks;
        again.ninodes = l.ninodes;
        again.group_blocks = l.group_blocks;
        again.group_inodes = l.group_inodes;
        again.ngroups = l.ngroups;
        again.nslots = l.nslots;
        again.nprocs = l.nprocs;
        assert_int_equal(layout_compute(&again), 0);
        assert_memory_equal(&again, &l, sizeof(l));
    }
}

/* P6: a superblock says what it likes. */
static void test_layout_compute_refuses_what_nobody_makes(void **state)
{
    struct wish wish = { 64 * MIB, 4096 };
    struct layout good = planned(&wish), l;

#define REFUSES(field, value) \
    do { \
        l = good; \
        l.field = (value); \
        assert_int_equal(layout_compute(&l), -EINVAL); \
    } while (0)

    REFUSES(max_blocks, 0);
    REFUSES(max_blocks, LAYOUT_SIZE_MIN / BLOCK_SIZE - 1);
    REFUSES(max_blocks, LAYOUT_SIZE_MAX / BLOCK_SIZE + 1);
    REFUSES(max_blocks, UINT64_MAX);
    REFUSES(group_blocks, 0);
    REFUSES(group_blocks, GROUP_BLOCKS_MIN / 2);
    REFUSES(group_blocks, GROUP_BLOCKS_MIN + 64);
    REFUSES(group_blocks, GROUP_BLOCKS_MAX * 2);
    REFUSES(group_blocks, good.group_blocks * 2); /* then there are too many groups */
    REFUSES(group_inodes, 0);
    REFUSES(group_inodes, GROUP_INODES_MIN / 2);
    REFUSES(group_inodes, good.group_inodes + 1);
    REFUSES(group_inodes, GROUP_INODES_MAX + 64);
    REFUSES(group_inodes, good.group_inodes + 64); /* then there are too few inodes */
    REFUSES(ngroups, 0);
    REFUSES(ngroups, good.ngroups - 1);
    REFUSES(ngroups, good.ngroups + 1);
    REFUSES(ngroups, UINT32_MAX);
    REFUSES(ninodes, 0);
    REFUSES(ninodes, good.ninodes - 1);
    REFUSES(ninodes, UINT32_MAX);
    REFUSES(nslots, 0);
    REFUSES(nslots, 32767); /* a lock word has 15 bits for a slot, and 0 is nobody */
    REFUSES(nslots, UINT32_MAX);
    REFUSES(nprocs, 0);
    REFUSES(nprocs, 65535); /* a reference has 16 bits for a process, and 0 is nobody */
    REFUSES(nprocs, UINT32_MAX);
#undef REFUSES
    l = good;
    l.nslots = 32766;
    l.nprocs = 65534;
    assert_int_equal(layout_compute(&l), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout_plan_takes_all_sizes_within_the_bounds),
        cmocka_unit_test(test_layout_plan_gives_as_many_inodes_as_asked_for),
        cmocka_unit_test(test_layout_plan_makes_groups_of_1024_to_32768_blocks),
        cmocka_unit_test(test_layout_every_block_and_inode_has_a_place_and_a_bit),
        cmocka_unit_test(test_layout_areas_follow_each_other_on_block_boundaries),
        cmocka_unit_test(test_layout_blocks_begin_at_two_mebibytes),
        cmocka_unit_test(test_layout_compute_finds_from_the_geometry_what_was_planned),
        cmocka_unit_test(test_layout_compute_refuses_what_nobody_makes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
