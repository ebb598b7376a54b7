/* SPDX-License-Identifier: MIT */
#include "layout.h"

#include <xxhash.h>

#include "base.h"
#include "error.h"

enum { SLOTS = 256, PROCS = 256, GROUPS_WANTED = 64, USES_MAX = 32768 };

int layout_compute(struct layout *l)
{
    uint64_t at = BLOCK_SIZE;

    if (l->max_blocks < LAYOUT_SIZE_MIN / BLOCK_SIZE || l->max_blocks > LAYOUT_SIZE_MAX / BLOCK_SIZE)
        return -EINVAL;
    if (l->group_blocks < GROUP_BLOCKS_MIN || l->group_blocks > GROUP_BLOCKS_MAX ||
        (l->group_blocks & (l->group_blocks - 1)) != 0)
        return -EINVAL;
    if (l->group_inodes < GROUP_INODES_MIN || l->group_inodes > GROUP_INODES_MAX || l->group_inodes % 64 != 0)
        return -EINVAL;
    if (l->ngroups != div_up(l->max_blocks, l->group_blocks) ||
        l->ninodes != (uint64_t)l->ngroups * l->group_inodes)
        return -EINVAL;
    if (l->nslots == 0 || l->nslots > 32767 - 1 || l->nprocs == 0 || l->nprocs > 65535 - 1)
        return -EINVAL;

    for (l->nuses = 128; l->nuses < USES_MAX && l->nuses < l->ninodes / 8;)
        l->nuses *= 2;
    l->nranges = MIN(MAX(l->ninodes / 8, 256u), 16384u);

    /* The blocks begin at a round place, which depends on what lies before: some bits too many. */
    uint64_t fixed = (uint64_t)l->ngroups * (sizeof(struct group_desc) + l->group_blocks / 8) +
                     (uint64_t)l->ninodes * sizeof(struct inode) + l->ninodes / 8;
    uint64_t bits = round_up(div_up(fixed, BLOCK_SIZE) + 4 + 2 * CHUNK_BLOCKS + l->max_blocks, DIRTY_SUM);

    struct {
        uint64_t *at, bytes;
    } areas[] = {
        { &l->runtime, BLOCK_SIZE },
        { &l->procs, (uint64_t)l->nprocs * sizeof(struct proc_entry) },
        { &l->slots, (uint64_t)l->nslots * sizeof(struct slot) },
        { &l->uses, (uint64_t)l->nuses * sizeof(struct use_bucket) },
        { &l->ranges, (uint64_t)l->nranges * sizeof(struct range) },
        { &l->absent, ABSENT_BYTES },
        { &l->inode_rt, (uint64_t)l->ninodes * sizeof(struct inode_rt) },
        { &l->group_rt, (uint64_t)l->ngroups * sizeof(struct group_rt) },
        { &l->dirty_sums, round_up(bits / DIRTY_SUM, 64) / 8 },
        { &l->dirty, bits / 8 },
        { &l->group_desc, (uint64_t)l->ngroups * sizeof(struct group_desc) },
        { &l->block_maps, (uint64_t)l->ngroups * (l->group_blocks / 8) },
        { &l->inode_maps, (uint64_t)l->ninodes / 8 },
        { &l->inodes, (uint64_t)l->ninodes * sizeof(struct inode) },
    };
    for (size_t i = 0; i < ARRAY_SIZE(areas); i++) {
        *areas[i].at = at;
        at += round_up(areas[i].bytes, BLOCK_SIZE);
    }
    /* Blocks begin at 2 MiB, so that an aligned run of blocks is an aligned run of bytes. */
    l->blocks = round_up(at, 2 * CHUNK_SIZE);
    l->end = l->blocks + l->max_blocks * BLOCK_SIZE;
    l->npages = (l->end - l->group_desc) / BLOCK_SIZE;
    assert(l->npages <= bits);
    return 0;
}

int layout_plan(uint64_t max_size, uint64_t inodes, struct layout *ret)
{
    struct layout l = { .max_blocks = max_size / BLOCK_SIZE, .nslots = SLOTS, .nprocs = PROCS };
    int r;

    if (max_size < LAYOUT_SIZE_MIN || max_size > LAYOUT_SIZE_MAX)
        return -EINVAL;
    l.group_blocks = GROUP_BLOCKS_MAX;
    while (l.group_blocks > GROUP_BLOCKS_MIN && l.max_blocks / l.group_blocks < GROUPS_WANTED)
        l.group_blocks /= 2;
    l.ngroups = (uint32_t)div_up(l.max_blocks, l.group_blocks);

    uint64_t per_group = round_up(div_up(inodes, l.ngroups), GROUP_INODES_MIN);
    if (per_group > GROUP_INODES_MAX || per_group * l.ngroups > UINT32_MAX)
        return -EINVAL;
    l.group_inodes = (uint32_t)MAX(per_group, (uint64_t)GROUP_INODES_MIN);
    l.ninodes = l.ngroups * l.group_inodes;
    r = layout_compute(&l);
    if (r < 0)
        return r;
    *ret = l;
    return 0;
}

uint64_t layout_hash(void)
{
    static const uint32_t facts[] = {
        FORMAT_VERSION,
        BLOCK_SIZE,
        CHUNK_BLOCKS,
        INODE_CHUNK,
        KEY_HASH_BITS,
        KEY_TIE_BITS,
        sizeof(struct superblock),
        offsetof(struct superblock, max_blocks),
        offsetof(struct superblock, nblocks),
        sizeof(struct runtime),
        offsetof(struct runtime, driver),
        offsetof(struct runtime, recall_bell),
        offsetof(struct runtime, rename_lock),
        offsetof(struct runtime, gate),
        offsetof(struct runtime, sync_wanted),
        sizeof(struct proc_entry),
        offsetof(struct proc_entry, attached),
        sizeof(struct slot),
        offsetof(struct slot, todo),
        offsetof(struct slot, closing),
        offsetof(struct slot, outside),
        offsetof(struct slot, locks),
        offsetof(struct slot, redo),
        offsetof(struct slot, recall),
        sizeof(struct recall),
        offsetof(struct slot, log),
        offsetof(struct slot, stage),
        sizeof(struct undo),
        sizeof(struct use_bucket),
        sizeof(struct range),
        offsetof(struct range, ino),
        sizeof(struct inode_rt),
        offsetof(struct inode_rt, nlookup),
        offsetof(struct inode_rt, leases),
        offsetof(struct inode_rt, waiting),
        sizeof(struct group_rt),
        offsetof(struct group_rt, reserved),
        sizeof(struct group_desc),
        sizeof(struct extent),
        sizeof(struct inode),
        offsetof(struct inode, rdev),
        offsetof(struct inode, root),
        sizeof(struct node),
        offsetof(struct node, entries),
        sizeof(struct dslot),
        sizeof(struct bucket),
        offsetof(struct bucket, slots),
        sizeof(struct xattr_block),
        sizeof(struct xattr_entry),
    };
    return XXH3_64bits(facts, sizeof(facts));
}

uint64_t layout_checksum(const struct superblock *sb)
{
    return XXH3_64bits(sb, offsetof(struct superblock, checksum));
}
