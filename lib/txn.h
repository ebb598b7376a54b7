/* SPDX-License-Identifier: MIT */
#ifndef SHMFS_TXN_H
#define SHMFS_TXN_H

/*
 * Transactions (docs/LOCKING.md). The life of one:
 *
 *   txn_begin → txn_lock… → [txn_touch, txn_save, store]… → txn_commit | txn_abort
 *
 * Locks are kept to the end (two-phase); the only exception is txn_checkpoint(), which commits what
 * was done so far, lets go of the group locks and keeps the rest: it makes long work a chain of
 * short transactions (I5) that nobody else can see half-done.
 */
#include "dirty.h"
#include "gate.h"
#include "use.h"

enum held_kind {
    HELD_RENAME,   /* rank 1 */
    HELD_INODE,    /* rank 2, ascending by number */
    HELD_GROUP,    /* rank 3: the first is waited for, further ones are tried */
    HELD_RECOVERY, /* rank 4, only by trying */
};

struct held {
    struct lockword *word;
    uint32_t id;
    enum held_kind kind;
    bool touched; /* an inode whose sequence is odd */
    bool saved;   /* an inode whose scalar fields are in the undo log (inode_edit) */
};

#define NO_GROUP UINT32_MAX

/* An inode that the kernel is told of after the commit (lease.h), and its size before. */
struct confirm {
    uint32_t ino;
    uint64_t size;
};
enum { TXN_CONFIRMS = 4 };

struct txn {
    struct shmfs *fs;
    struct slot *slot;
    uint64_t stamp;
    uint32_t index; /* of the slot */
    uint32_t generation;
    uint32_t tail;
    uint32_t nheld;
    uint32_t nredo;
    uint32_t busy_group; /* one that could not be had by trying, or NO_GROUP */
    uint32_t busy_inode; /* likewise, or 0 */
    struct stamp now;    /* inode_now(); sec 0: not asked yet */
    bool freed;          /* I9: a transaction frees only after its last allocation */
    bool adopted;        /* an undertaker at work in a dead process's slot, */
    bool covered;        /* who is inside the gate by his own */
    bool recalling;      /* found what must be recalled first: it is listed in the slot (lease.h) */
    bool unrecalled;     /* changes what the driver did not drop in time */
    unsigned leases;     /* given to the kernel together with the operation: enum shmfs_lease */
    uint32_t nrecalls, nrecall_names; /* of what is listed in the slot, whose bytes are not trusted */
    uint32_t nconfirms;
    struct confirm confirms[TXN_CONFIRMS];
    struct held held[SLOT_LOCKS];
};

enum { TXN_UNDERTAKERS_SLOT = 0 }; /* never anybody's for long, so that the dead can always be buried */

int txn_attach(struct shmfs *fs);  /* makes the slot pool usable */
void txn_detach(struct shmfs *fs); /* gives all of our slots back; no transaction may be running */

/* Gives all of our slots back, while no transaction of ours runs; the next one takes others. */
void txn_give_slots_back(struct shmfs *fs);

/*
 * This thread is in a transaction. Where a call of a program begins, it is not, unless it left another call by a
 * jump: then txn_leave_behind() rolls back what it left.
 */
extern _Thread_local bool txn_left_open __attribute__((tls_model("initial-exec")));
void txn_leave_behind(void);

/* Around fork(); the child's thread has no slot. */
void txn_fork_before(void);
void txn_fork_after(bool child);

/* -EUSERS: all slots are taken by the living; -ENOSPC: no memory for one. */
int txn_begin(struct shmfs *fs, struct txn *ret_t);

/*
 * Makes everything since txn_begin() or the last checkpoint permanent, then copies staged data home
 * and lets go of all locks. Cannot fail: the commit point is one store.
 */
void txn_commit(struct txn *t);
/*
 * Undoes everything since txn_begin() or the last checkpoint and lets go of all locks. If a busy group
 * was the reason, waits until that one was free for a moment: who tries again finds another state, and
 * the dead are buried.
 */
void txn_abort(struct txn *t);
/*
 * The same after an error R, and what was to be recalled from the kernel is, before this returns. Returns R; but where that is -EAGAIN and the busy group's lock cannot be had
 * at all (-EUCLEAN: scribbled on), says so instead, for else the caller would try for ever.
 */
int txn_abort_for(struct txn *t, int r);
void txn_checkpoint(struct txn *t);
/*
 * Undoes everything since the last checkpoint, lets go of the group locks only; waits as txn_abort(). 0,
 * or what kept it from getting the busy group.
 */
int txn_retreat(struct txn *t);
/* After a checkpoint: lets go of all inodes but this one. */
void txn_release_others(struct txn *t, uint32_t ino);

int txn_lock_rename(struct txn *t);
/* Inodes must be locked in ascending order of number (I3): sort first. -ESTALE: no such number. */
int txn_lock_inode(struct txn *t, uint32_t ino);
/* Both, in the right order; equal numbers are locked once. */
int txn_lock_inodes(struct txn *t, uint32_t a, uint32_t b);
/* For an inode that is unreachable: never waits, -EAGAIN. */
int txn_try_inode(struct txn *t, uint32_t ino);
/* Waits for the first group of a transaction, tries the further ones: -EAGAIN. -ENOLCK: too many. */
int txn_lock_group(struct txn *t, uint32_t group);
uint32_t txn_groups_held(const struct txn *t);
/* Lets go of the lock taken last, under which nothing was changed: the one early release there is. */
void txn_drop_last(struct txn *t);
bool txn_holds(const struct txn *t, enum held_kind kind, uint32_t id);

/* Makes the inode's sequence odd (I6). Call before the first store to anything its lock guards. */
struct held *txn_touch(struct txn *t, uint32_t ino);

/* Records the n bytes at p, before they are stored to (I2). p lies in the region. */
void txn_save(struct txn *t, const void *p, size_t n);
/* Room left in the log, in bytes; each record costs its bytes and up to 23 more. */
static inline uint32_t txn_room(const struct txn *t)
{
    return SLOT_LOG - t->tail;
}

#define TXN_SET(t, p, v) \
    do { \
        txn_save((t), (p), sizeof(*(p))); \
        *(p) = (v); \
    } while (0)

/*
 * All-or-nothing overwriting of live data: at commit, n bytes from offset `from` of the slot's stage
 * are copied to p. At most SLOT_REDO pieces.
 */
void txn_redo(struct txn *t, void *p, uint32_t n, uint32_t from);

/* Sets or clears the work that an undertaker would have to finish; under the undo log. */
void txn_todo(struct txn *t, enum todo_op op, uint32_t ino, uint64_t from, uint64_t to);

/* The driver is to look at recall_map and resync. */
void txn_ring(struct shmfs *fs);
/* The slot's owner changed what the driver had not dropped: now it must drop everything. */
void txn_resync(struct shmfs *fs, struct slot *slot);

/* ---- for recover.c ---------------------------------------------------------------------------- */

/* Rolls the slot's log back. Idempotent (I4). -EUCLEAN: the log makes no sense; as far as it did. */
int txn_rollback(struct shmfs *fs, struct slot *slot);
/* Does the copying of a transaction that committed with staged data. Idempotent; -EUCLEAN. */
int txn_redo_all(struct shmfs *fs, struct slot *slot);
/* The copying is done: the slot is idle. */
void txn_redo_end(struct slot *slot);
/*
 * Slips into a dead owner's slot: the locks that its intents name and its stamp holds become held. COVERED: by who is inside the
 * gate with a slot of his own; else it passes the gate itself.
 */
void txn_adopt(struct shmfs *fs, uint32_t index, bool covered, struct txn *ret_t);
/* Gives a slot that is idle and holds nothing back to the pool. */
void txn_slot_free(struct shmfs *fs, uint32_t index);
/* The lock word at OFF, if a lock word may be there; *ret_kind and *ret_id say which. */
struct lockword *txn_lock_at(struct shmfs *fs, struct offref off, enum held_kind *ret_kind, uint32_t *ret_id);

#endif
