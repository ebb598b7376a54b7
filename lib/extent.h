/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_EXTENT_H
#define SHMFS_EXTENT_H

/*
 * The map of an inode: a B+tree from positions to runs of blocks, with its root in the inode. Files
 * map block numbers; directories map the lowest key of each bucket, with runs of length 1.
 *
 * Separators are exact: an inner entry's pos is the pos of the first entry below it. So the floor of
 * a key is always in the subtree that the key leads to.
 */
#include "alloc.h"

struct map_at {
    struct extent ext; /* the entry with the greatest pos not above the key, if `found` */
    bool found;
    uint64_t next; /* pos of the entry after that; UINT64_MAX: none */
};

/*
 * May run without the lock: every step is bounds-checked. -EUCLEAN means nothing before the sequence
 * was checked.
 */
int map_find(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t key, struct map_at *ret);

/* The block that position `pos` of a file maps to, and how many follow on; false: a hole of that length. */
static inline bool map_at_block(const struct map_at *at, uint64_t pos, struct blkref *ret_blk,
                                uint64_t *ret_len)
{
    if (at->found && pos - at->ext.pos < at->ext.len) {
        ret_blk->n = at->ext.blk.n + (uint32_t)(pos - at->ext.pos);
        *ret_len = at->ext.len - (pos - at->ext.pos);
        return true;
    }
    *ret_len = at->next - pos;
    return false;
}

/* 1: some position at or behind `pos` is mapped. */
int map_reaches(const struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t pos);

/*
 * Marks the blocks of positions [from, to) as dirty, for who may have stored to them without being seen. With the inode locked, or
 * the gate shut. -EUCLEAN: as far as the map made sense.
 */
int map_mark(struct shmfs *fs, uint32_t ino, const struct inode *in, uint64_t from, uint64_t to);

/* The rest: within a transaction, with the inode locked and its fields saved (inode_edit()). */

/* Adds an entry where there is none; joins it to the one before where `merge` and the blocks allow. */
int map_insert(struct txn *t, uint32_t ino, struct inode *in, struct extent ext, bool merge);
/* Makes sure that no entry reaches across `pos`. */
int map_split(struct txn *t, uint32_t ino, struct inode *in, uint64_t pos);
/*
 * Frees a last piece of [from, to), no more than lies in one group. 1: there was one; 0: nothing is
 * left. No entry may reach across `to`. Needs no memory. -EAGAIN: retreat and try again.
 */
int map_cut(struct txn *t, uint32_t ino, struct inode *in, uint64_t from, uint64_t to);
/* Frees the entry at exactly `pos`, one block long. -ENOENT. */
int map_remove(struct txn *t, uint32_t ino, struct inode *in, uint64_t pos);

/* For the check and for all who read a node: NULL where it is not one of that inode and level. */
const struct node *map_node(const struct shmfs *fs, uint32_t ino, struct blkref blk, uint32_t level);

#endif
