/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_LAYOUT_H
#define SHMFS_LAYOUT_H

/* Where everything lies: a pure function of the geometry, the same in every process. */
#include "format.h"

struct layout {
    /* the geometry, as the superblock has it */
    uint64_t max_blocks;
    uint32_t ninodes;
    uint32_t group_blocks;
    uint32_t group_inodes;
    uint32_t ngroups;
    uint32_t nslots;
    uint32_t nprocs;
    /* byte offsets that follow from it */
    uint64_t runtime, procs, slots, uses, ranges, absent, inode_rt, group_rt; /* runtime area */
    uint64_t dirty_sums, dirty; /* and of it, bits for pages of the persistent area */
    uint64_t group_desc, block_maps, inode_maps, inodes;
    uint64_t blocks;  /* block 0; everything before it is metadata of fixed place */
    uint64_t end;     /* for max_blocks */
    uint32_t nuses;   /* buckets of use records: a power of two */
    uint32_t nranges; /* byte-range locks */
    uint64_t npages;  /* of the persistent area, and of that for which dirty pages are noted */
};

/* Computes the offsets from the geometry. -EINVAL: the geometry is not one that we make. */
int layout_compute(struct layout *layout);

/* Chooses a geometry. Sizes in bytes; -EINVAL: out of bounds (LAYOUT_SIZE_MIN, LAYOUT_SIZE_MAX). */
int layout_plan(uint64_t max_size, uint64_t inodes, struct layout *ret_layout);

/* Of the sizes and offsets of the whole format; differs between builds that must not share a region. */
uint64_t layout_hash(void);

/* Checksum of the part of the superblock that never changes. */
uint64_t layout_checksum(const struct superblock *sb);

#define LAYOUT_SIZE_MIN (UINT64_C(1) << 20)
#define LAYOUT_SIZE_MAX (UINT64_C(1) << 44)

#endif
