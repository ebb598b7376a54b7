/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_RANGE_H
#define SHMFS_RANGE_H

/*
 * Byte-range locks and flocks of programs: advisory, per inode, in records of the runtime area
 * (docs/LOCKING.md, "Byte-range locks"). Contracts are those of shmfs_node_setlk() and _getlk().
 */
#include "inode.h"

enum { RANGE_WAITS = 0x100 }; /* in range.kind: its owner waits; start and end name who for */

int range_set(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want, int timeout_ms);
int range_get(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want, struct shmfs_range *ret);

/* Gives up all that a process has: one that is dead, or this one at its detach. */
int range_drop_all(struct shmfs *fs, struct procref owner);

#endif
