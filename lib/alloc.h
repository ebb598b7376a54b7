/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_ALLOC_H
#define SHMFS_ALLOC_H

/*
 * Blocks and inode numbers. Everything here changes group descriptors and maps under the group's
 * lock, which the transaction keeps: what it freed is nobody's before it commits (I8).
 *
 * I9: within one transaction (between checkpoints) nothing is allocated after something was freed:
 * a new block's bytes are not in the undo log, so it must not be one whose bytes a rollback needs.
 */
#include "lease.h"

/* Hints for alloc_blocks(). */
struct alloc_want {
    uint32_t goal;   /* block to start at, if it is free; 0: none */
    uint32_t len;    /* blocks wanted, at least 1 */
    uint32_t window; /* power of two: a new run starts on such a boundary, with as much room behind it */
};

/*
 * Takes one run of 1 … want->len blocks, whose bytes are undefined, and for which the host has given
 * memory. -ENOSPC; -EAGAIN: a group was busy, undo and try again.
 */
int alloc_blocks(struct txn *t, const struct alloc_want *want, struct blkref *ret_blk, uint32_t *ret_len);
/* One block, for metadata, near `near`. */
int alloc_block(struct txn *t, struct blkref near, struct blkref *ret_blk);

/* Frees a run that lies within one group. -EUCLEAN: it was not all in use; nothing is freed then. */
int alloc_free(struct txn *t, struct blkref blk, uint32_t len);
/* The part of [blk, blk + len) that lies in the group of its last block; at most `len`. */
uint32_t alloc_tail_in_group(const struct shmfs *fs, struct blkref blk, uint32_t len);

/*
 * Takes a free inode number and its lock, near `near` (an inode number or 0). The caller sets `mode`
 * under the undo log; the other bytes of a free inode need none. -ENOSPC, -EAGAIN.
 */
int alloc_inode(struct txn *t, uint32_t near, uint32_t *ret_ino);
int alloc_inode_free(struct txn *t, uint32_t ino);
bool alloc_inode_used(const struct shmfs *fs, uint32_t ino);

/* Has memory set aside for everything in use (after the runtime area was made afresh). -ENOSPC. */
int alloc_reserve_used(struct shmfs *fs);
/* Gives the memory of wholly free chunks, but for a reserve of some, back to the host. */
int alloc_trim(struct shmfs *fs);

/* Next set or clear bit in [from, to), or `to`. */
uint32_t alloc_bit_find(const uint64_t *map, uint32_t from, uint32_t to, bool set);

#endif
