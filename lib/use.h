/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_USE_H
#define SHMFS_USE_H

/*
 * Who uses which inode: opens and pins (docs/LOCKING.md, "Uses"). A record is written before what it
 * stands for is relied on, and outlives it: so a death leaves at worst a record too many, which the
 * undertaker of the process takes away.
 */
#include "lock.h"

#define NO_USE UINT32_MAX

static inline uint64_t use_word(uint32_t ino, uint32_t proc, enum use_kind kind)
{
    return (uint64_t)kind << 48 | (uint64_t)(proc + 1) << 32 | ino;
}
static inline uint32_t use_ino(uint64_t word)
{
    return (uint32_t)word;
}
static inline uint32_t use_proc(uint64_t word)
{
    return (uint32_t)(word >> 32 & 0xffff) - 1;
}
static inline enum use_kind use_kind(uint64_t word)
{
    return (enum use_kind)(word >> 48 & 3);
}

/*
 * Adds a record, for process table entry PROC. It is seen by everybody before this returns: whoever
 * makes the inode's sequence odd and looks for uses from now on finds it. -ENFILE: the table is full.
 */
int use_add(struct shmfs *fs, uint32_t ino, uint32_t proc, enum use_kind kind, uint32_t *ret_index);

/* The word of a record. */
static inline uint64_t *use_at(const struct shmfs *fs, uint32_t index)
{
    return &fs->uses[index / USE_RECORDS].records[index % USE_RECORDS];
}

/* How many records there are, in use or not. */
static inline uint32_t use_count(const struct shmfs *fs)
{
    return fs->l.nuses * USE_RECORDS;
}

/* Has the inode a use of this kind (0: any), besides record EXCEPT? A full fence comes first. */
bool use_any(const struct shmfs *fs, uint32_t ino, enum use_kind kind, uint32_t except);

#endif
