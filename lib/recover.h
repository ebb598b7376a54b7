/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_RECOVER_H
#define SHMFS_RECOVER_H

/* What the living do for the dead (docs/LOCKING.md, "Burial"). */
#include "range.h"

/*
 * Buries the owner of slot INDEX, if it is dead, on behalf of our own slot ME: rolls back or redoes,
 * finishes its todo, releases its locks, frees the slot. Idempotent, and may itself be interrupted by
 * death anywhere (I4). -EBUSY: another undertaker is at it.
 */
int recover_bury(struct shmfs *fs, uint32_t me, uint32_t index);

/* The same for a slot whose owner is known to be dead while nobody else can be at it. */
void recover_slot(struct shmfs *fs, uint32_t index);

/*
 * Buries everybody, without asking or locking: for who holds the attach lock and knows that no process
 * that is attached lives. Needs no slot of its own.
 */
void recover_alone(struct shmfs *fs);

/*
 * Buries all dead processes and frees their entries: returns how many. -EBUSY: another undertaker was at one
 * of them. For who holds nothing.
 */
int recover_dead(struct shmfs *fs);
/* Drops all uses and byte-range locks of a process: one that is dead, or this one, which is leaving. */
int recover_process(struct shmfs *fs, struct procref ref);
/* After recover_alone(), for who has none of its own yet: drops all there are, and frees what only they kept. */
int recover_uses(struct shmfs *fs);
/* Frees the entries of the dead who left nothing; needs neither a slot nor an entry of one's own. */
void recover_entries(struct shmfs *fs);
/* No slot and no entry is taken. */
bool recover_nobody_left(const struct shmfs *fs);

/* Frees inodes that have neither names nor uses: those that lookups of a dead mount kept alive. */
int recover_orphans(struct shmfs *fs);

#endif
