/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_INODE_H
#define SHMFS_INODE_H

/* Inodes: reading without a lock, changing under one, and what happens when the last use is gone. */
#include <sys/stat.h>

#include "extent.h"

static inline struct inode *inode_at(const struct shmfs *fs, uint32_t ino)
{
    return &fs->inodes[ino];
}

/* ---- reading without a lock -------------------------------------------------------------------- */

/*
 * struct reading rd = reading_of(fs, ino);
 * do {
 *     r = reading_begin(&rd);
 *     if (r < 0)
 *         return r;
 *     … look at what the inode's lock guards; any value may be half-changed …
 * } while (reading_again(&rd));
 * … what was seen was one whole state …
 *
 * Tries without the lock a few times, then with it (a read-only attach: waits, at most for
 * READING_PATIENCE, and then gives -EAGAIN; A14).
 */
struct reading {
    struct shmfs *fs;
    uint32_t ino;
    uint32_t tries;
    uint64_t seq;
    bool locked;
    bool guarded; /* counted in region_reading */
    struct txn txn;
};

static inline void reading_init(struct reading *rd, struct shmfs *fs, uint32_t ino)
{
    rd->fs = fs;
    rd->ino = ino;
    rd->tries = 0;
    rd->locked = false;
    rd->guarded = false;
}

int reading_begin_slowly(struct reading *rd);
bool reading_again_slowly(struct reading *rd);

static inline int reading_begin(struct reading *rd)
{
    if (likely(rd->tries == 0 && region_inode_ok(rd->fs, rd->ino))) {
        rd->seq = LOAD(&rd->fs->inode_rts[rd->ino].seq);
        if (likely((rd->seq & 1) == 0)) {
            region_reading++;
            rd->guarded = true;
            return 0;
        }
    }
    return reading_begin_slowly(rd);
}

static inline bool reading_again(struct reading *rd)
{
    if (unlikely(!rd->guarded))
        return reading_again_slowly(rd);
    region_reading--;
    rd->guarded = false;
    if (unlikely(LOAD_RELAXED(&rd->fs->any_hole)))
        region_mend(rd->fs);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (likely(LOAD_RELAXED(&rd->fs->inode_rts[rd->ino].seq) == rd->seq && (rd->seq & 1) == 0))
        return false;
    rd->tries++;
    return true;
}

/* 0; -ESTALE: the inode is free; -EUCLEAN: its scalar fields are not what they can be. */
int inode_is_valid(const struct inode *in);

/*
 * The scalar fields of an inode that an entry named, as one whole state. -ESTALE: it is another one by now, and
 * *ret_head means nothing. It is copied straight there, being on the way of every lookup.
 */
int inode_head(struct shmfs *fs, uint32_t ino, uint32_t generation, struct inode *ret_head);

void inode_attr(const struct shmfs *fs, uint32_t ino, struct shmfs_attr *ret);

/* ---- changing ---------------------------------------------------------------------------------- */

/* Locks the inode and checks that it is in use. -ESTALE, -EUCLEAN. */
int inode_lock(struct txn *t, uint32_t ino, struct inode **ret_in);

/*
 * Makes the sequence odd and records all scalar fields: after it they may simply be stored to, until
 * the next checkpoint. Entries of `root` are not included.
 */
struct inode *inode_edit(struct txn *t, uint32_t ino);

struct stamp inode_clock(void);
/* One moment for all that a transaction changes; a chain's steps have one each. */
struct stamp inode_now(struct txn *t);
enum inode_change { CHANGE_META = 1, CHANGE_DATA = 2 };
/* Raises version and sets ctime, and for CHANGE_DATA also mtime. After inode_edit(). */
void inode_changed(struct txn *t, struct inode *in, enum inode_change what);

/* A new inode, locked: all fields but those of its type's own. nlink is 1, or 2 for a directory. */
int inode_make(struct txn *t, uint32_t near, mode_t mode, uid_t uid, gid_t gid, uint32_t *ret_ino);

/* ---- use and the end of it --------------------------------------------------------------------- */

/* Is it held by lookups, opens or pins that are still valid, besides use record EXCEPT? */
bool inode_used(const struct shmfs *fs, uint32_t ino, uint32_t except);
/* Counts n lookups by the kernel, or gives n back (negative); under the undo log. */
void inode_count_lookups(struct txn *t, uint32_t ino, int64_t n);

/*
 * Opens an inode that an entry named: adds a use record, then copies its scalar fields, all as they were
 * at one moment with the record there. -ESTALE: it is removed, or another one by now. Attached read-only
 * there is no record (NO_USE).
 */
int inode_use(struct shmfs *fs, uint32_t ino, uint32_t generation, uint32_t *ret_use, struct inode *ret_head);
/* Closes it, and frees the inode if that was its last use. Nothing for NO_USE. */
void inode_unuse(struct shmfs *fs, uint32_t use);
/*
 * In a transaction of its own, all or nothing: takes record USE away, if it still is WORD and of the
 * process of that incarnation, with what follows. For pins, and for the undertakers of processes.
 */
int inode_drop_use(struct shmfs *fs, uint32_t use, uint64_t word, uint64_t inc);
/* Finishes what slot.closing says, in a transaction that holds nothing. */
void inode_close_end(struct txn *t);
/*
 * No pins are left: what lies behind the end goes. In a transaction, with the inode locked; leaves a todo
 * record.
 */
int inode_tighten(struct txn *t, uint32_t ino, struct inode *in);

/* Sets a todo record if the inode, which is locked, has no names and no uses any more. */
void inode_reap_if_unused(struct txn *t, uint32_t ino);
/*
 * Does the work that the transaction's todo record asks for, if there is one: commits what was done so
 * far, then frees in a chain of short transactions, with the inodes kept locked. What is damaged stays
 * allocated. The record is cleared when it returns. For operations, before txn_commit(), and for the
 * undertaker of one who died in it.
 */
void inode_settle(struct txn *t);

#endif
