/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_LEASE_H
#define SHMFS_LEASE_H

/*
 * What the kernel behind the mount may have cached, and taking it back before it is changed
 * (docs/COHERENCE.md). The driver's side of it is declared in node.h.
 */
#include "txn.h"

#define LEASE_ALL UINT64_MAX /* as the end of a range: all that follows */
#define LEASE_PAGES ((uint32_t)(LEASE_DATA | LEASE_REST))
#define LEASE_CONFIRM ((uint32_t)(LEASE_ASKED | LEASE_WRITTEN))

/*
 * Is END, of milliseconds that wrap, still to come? 0: no. It is never reset, and would come round: so only of the next
 * hour.
 */
static inline bool lease_is_before(uint32_t now, uint32_t end)
{
    return end != 0 && end - now - 1 < 3600u * 1000;
}

/* The kernel's references to the inode; those of mounts that are gone count no more. */
static inline uint64_t lease_lookups(const struct shmfs *fs, uint32_t ino)
{
    const struct inode_rt *rt = &fs->inode_rts[ino];

    return rt->epoch == (uint32_t)LOAD_RELAXED(&fs->rt->mount_epoch) ? rt->nlookup : 0;
}

/*
 * For an operation, under all of its locks and before its first store (I12): it is going to change what these
 * leases stand for; of LEASE_PAGES bytes [from, to). True: the kernel has it, and the transaction must end with
 * txn_abort_for(-EAGAIN), which has it dropped; then the operation begins anew. Ask for all that it changes
 * before ending, so that it waits once.
 */
bool lease_break_slowly(struct txn *t, uint32_t ino, uint32_t kinds, uint64_t from, uint64_t to);
static inline bool lease_break(struct txn *t, uint32_t ino, uint32_t kinds, uint64_t from, uint64_t to)
{
    const struct inode_rt *rt = &t->fs->inode_rts[ino];

    kinds |= LEASE_GOING | LEASE_CONFIRM;
    return unlikely((LOAD_RELAXED(&rt->leases) & kinds) != 0 || LOAD_RELAXED(&rt->wanted) != 0) &&
           lease_break_slowly(t, ino, kinds, from, to);
}
static inline bool lease_break_attr(struct txn *t, uint32_t ino)
{
    return lease_break(t, ino, LEASE_ATTR, 0, 0);
}
static inline bool lease_break_all(struct txn *t, uint32_t ino)
{
    return lease_break(t, ino, LEASE_ATTR | LEASE_PAGES, 0, LEASE_ALL);
}

/*
 * The same for a name in directory DIR, which leads to INO, or to nothing (0) and is about to exist. KEY is its
 * hash (dir.h). The inode and the directory are locked.
 */
bool lease_break_name_slowly(struct txn *t, uint32_t dir, uint32_t ino, const char *s, uint32_t len,
                             uint64_t key);
static inline bool lease_break_name(struct txn *t, uint32_t dir, uint32_t ino, const char *s, uint32_t len,
                                    uint64_t key)
{
    if (likely(ino != 0 ? t->fs->inode_rts[ino].nlookup == 0
                        : (LOAD_RELAXED(&t->fs->inode_rts[dir].leases) & LEASE_ABSENT) == 0))
        return false;
    return lease_break_name_slowly(t, dir, ino, s, len, key);
}

/*
 * For the driver, with the inode locked: which of these the kernel may keep of what will be read from now on. Without
 * leases in force, none.
 */
uint32_t lease_give(struct txn *t, uint32_t ino, uint32_t kinds);
/* May it keep a name of INO in DIR? With INO locked, while the name is known to be there. */
bool lease_give_name(struct txn *t, uint32_t dir, uint32_t ino);
/* May it keep that a name does not exist? With DIR locked. */
bool lease_give_absent(struct txn *t, uint32_t dir, uint64_t key);
/* The kernel moves a name of INO itself: it has one that it was not given. */
static inline void lease_renamed(struct txn *t, uint32_t ino)
{
    t->fs->inode_rts[ino].grants++;
}
/* The kernel has forgotten the inode, which is locked. */
static inline void lease_forget(struct txn *t, uint32_t ino)
{
    STORE_RELAXED(&t->fs->inode_rts[ino].leases, 0u);
}

/* An append through the mount has begun in a page that the kernel did not have: its rest comes. Locked. */
void lease_turn(struct txn *t, uint32_t ino, bool half_way);
/* Is another's append half-way? Then the caller lets go, waits with lease_turn_wait(), and begins anew. */
bool lease_turn_taken(struct txn *t, uint32_t ino);
void lease_turn_wait(struct shmfs *fs, uint32_t ino);

/*
 * shmfs.confirm_list: of a transaction that is committed, and has its locks still: is the kernel to be told of it before
 * the call returns? Then they are listed in the slot, for lease_confirm(), without a lock.
 */
bool lease_confirm_list(struct txn *t);
void lease_confirm(struct shmfs *fs, struct slot *slot);

/* shmfs.recall: posts what the slot lists, and waits until the kernel has dropped it, or for too long. */
void lease_recall(struct shmfs *fs, struct slot *slot);

/* A driver comes: its kernel has nothing yet. Under the attach lock. */
void lease_reset(struct shmfs *fs, uint32_t mode); /* enum driver_mode */

#endif
