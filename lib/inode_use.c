/* SPDX-License-Identifier: MIT */
#include "inode.h"

/* Opens and closes: docs/LOCKING.md, "Uses". */

int inode_use(struct shmfs *fs, uint32_t ino, uint32_t generation, uint32_t *ret_use, struct inode *ret_head)
{
    uint32_t use = NO_USE;
    int r;

    if (!region_inode_ok(fs, ino))
        return -EUCLEAN;
    if (!fs->readonly) {
        do
            r = use_add(fs, ino, proc_index(fs->self), USE_OPEN, &use);
        while (r == -ENFILE && fs->bury_all != NULL && fs->bury_all(fs) > 0);
        if (r < 0)
            return r;
    }
    r = inode_head(fs, ino, generation, ret_head); /* after the record can be seen (A13) */
    if (r == 0 && ret_head->nlink == 0)
        r = -ESTALE;
    if (r < 0) {
        inode_unuse(fs, use);
        return r;
    }
    *ret_use = use;
    return 0;
}

/* Zeroes what a last block has behind the end. No undo: who mapped it may have stored anything there. */
static int tail_zero(struct txn *t, uint32_t ino, const struct inode *in)
{
    uint64_t pos = in->size >> BLOCK_SHIFT, len;
    size_t within = in->size & (BLOCK_SIZE - 1);
    struct map_at at;
    struct blkref blk;
    int r = within != 0 ? map_find(t->fs, ino, in, pos, &at) : 0;

    if (r == 0 && within != 0 && map_at_block(&at, pos, &blk, &len)) {
        uint8_t *p = (uint8_t *)region_known_block(t->fs, blk) + within;

        dirty_mark(t->fs, p, BLOCK_SIZE - within);
        memset(p, 0, BLOCK_SIZE - within);
    }
    return r;
}

int inode_tighten(struct txn *t, uint32_t ino, struct inode *in)
{
    uint64_t keep = div_up(in->size, BLOCK_SIZE);
    int r;

    if (!S_ISREG(in->mode) || (in->flags & INODE_LOOSE) == 0)
        return 0;
    r = tail_zero(t, ino, in);
    if (r == 0)
        r = map_reaches(t->fs, ino, in, keep);
    if (r < 0)
        return r;
    inode_edit(t, ino)->flags &= ~(uint32_t)INODE_LOOSE;
    if (r > 0)
        txn_todo(t, TODO_TRIM, ino, keep, UINT64_MAX);
    return 0;
}

/*
 * Under the inode's lock: has a record count no more, and does what follows. The record is not cleared yet:
 * if this is rolled back, its place must not be somebody else's by then.
 */
static int end_locked(struct txn *t, uint64_t *record, uint64_t word)
{
    uint32_t ino = use_ino(word);
    struct inode *in = inode_at(t->fs, ino);

    TXN_SET(t, record, word | USE_ENDING);
    if (inode_is_valid(in) < 0)
        return 0;
    inode_reap_if_unused(t, ino);
    if (in->mode != 0 && t->slot->todo.op == TODO_NONE && use_kind(word) == USE_PIN &&
        !use_any(t->fs, ino, USE_PIN, NO_USE)) {
        map_mark(t->fs, ino, in, 0, UINT64_MAX); /* whatever was stored to it by pointer */
        return inode_tighten(t, ino, in);
    }
    return 0;
}

int inode_drop_use(struct shmfs *fs, uint32_t use, uint64_t word, uint64_t inc)
{
    uint64_t *record = use_at(fs, use);

    word &= ~USE_ENDING;
    for (;;) {
        struct txn t;
        int r = txn_begin(fs, &t);

        if (r < 0)
            return r;
        r = txn_lock_inode(&t, use_ino(word));
        /* Another undertaker may have been faster, and the entry be somebody else's by now. */
        bool ours =
            r == 0 && (LOAD(record) & ~USE_ENDING) == word && LOAD(&fs->procs[use_proc(word)].inc) == inc;
        if (ours && use_kind(word) == USE_PIN && lease_break_attr(&t, use_ino(word)))
            r = -EAGAIN; /* blocks behind the end may go */
        if (ours && r == 0)
            r = end_locked(&t, record, word);
        if (r == 0) {
            inode_settle(&t);
            txn_checkpoint(&t);
            if (ours)
                STORE(record, UINT64_C(0));
            txn_commit(&t);
            return 0;
        }
        r = txn_abort_for(&t, r);
        if (r != -EAGAIN)
            return r;
    }
}

/* The inode that the slot was closing: nobody may have looked at it since its record went. */
void inode_close_end(struct txn *t)
{
    uint32_t ino = t->slot->closing.n;

    if (ino != 0 && txn_lock_inode(t, ino) == 0) {
        if (inode_is_valid(inode_at(t->fs, ino)) == 0)
            inode_reap_if_unused(t, ino);
        inode_settle(t);
        txn_checkpoint(t); /* until the freeing is committed, whoever buries us must ask again */
    }
    ORDER();
    STORE(&t->slot->closing.n, 0u);
}

void inode_unuse(struct shmfs *fs, uint32_t use)
{
    struct txn t;

    if (use == NO_USE)
        return;
    uint64_t *record = use_at(fs, use);
    uint32_t ino = use_ino(LOAD_RELAXED(record));
    if (!region_inode_ok(fs, ino) || txn_begin(fs, &t) < 0)
        return; /* without a slot the record stays until we detach or die: better than a file that nobody frees */
    STORE_RELAXED(&t.slot->closing.n, ino);
    ORDER();
    __atomic_exchange_n(record, UINT64_C(0), __ATOMIC_SEQ_CST);
    fence_after_rmw();
    if (likely(LOAD_RELAXED(&inode_at(fs, ino)->nlink) != 0))
        STORE(&t.slot->closing.n, 0u);
    else
        inode_close_end(&t);
    txn_commit(&t);
}
