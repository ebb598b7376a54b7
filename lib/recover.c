/* SPDX-License-Identifier: MIT */
#include "recover.h"

/* Adds an intent to our own slot by hand: we are waiting for a lock, so no transaction code runs in it. */
static bool intent_push(struct shmfs *fs, uint32_t me, const void *word)
{
    struct slot *s = &fs->slots[me];
    uint32_t n = LOAD_RELAXED(&s->nlocks);

    if (n >= SLOT_LOCKS)
        return false;
    s->locks[n] = region_offset(fs, word);
    ORDER();
    STORE(&s->nlocks, n + 1);
    ORDER();
    return true;
}

static void intent_pop(struct shmfs *fs, uint32_t me)
{
    struct slot *s = &fs->slots[me];

    ORDER();
    STORE(&s->nlocks, s->nlocks - 1);
}

void recover_slot(struct shmfs *fs, uint32_t index)
{
    struct slot *s = &fs->slots[index];
    struct txn t;

    /* Either undone or done: each is idempotent, so that dying here only means that another begins anew. */
    txn_rollback(fs, s);
    txn_redo_all(fs, s);
    txn_redo_end(s);
    txn_adopt(fs, index, &t);
    /* Its group locks go first: nobody may wait for them while we wait for others (LOCKING, "Burial"). */
    txn_checkpoint(&t);
    inode_settle(&t);
    txn_commit(&t); /* sequences even, locks released */
    txn_slot_free(fs, index);
}

static bool slot_is_dead(struct shmfs *fs, uint32_t index)
{
    struct procref owner = { LOAD(&fs->slots[index].owner.v) };

    return owner.v != 0 && !proc_alive(fs, owner);
}

int recover_bury(struct shmfs *fs, uint32_t me, uint32_t index)
{
    struct slot *s = &fs->slots[index];
    uint64_t stamp = lock_stamp(me, LOAD_RELAXED(&fs->slots[me].inc));
    int r = 0;

    if (me == index || !slot_is_dead(fs, index))
        return 0;
    if (!intent_push(fs, me, &s->recovery))
        return -EBUSY;
    if (lock_try(&s->recovery, stamp)) {
        if (slot_is_dead(fs, index)) /* look again under the lock (A8) */
            recover_slot(fs, index);
        lock_release(&s->recovery);
    } else {
        r = -EBUSY;
    }
    intent_pop(fs, me);
    if (r == 0)
        return 0;
    /* Another undertaker: it may be dead too. Its burial frees the recovery lock. */
    uint32_t other = lock_slot(LOAD(&s->recovery.v));
    if (other < fs->l.nslots && other != index && other != me && slot_is_dead(fs, other))
        recover_bury(fs, me, other);
    return -EBUSY;
}

static void bury_process(struct shmfs *fs, uint32_t me, uint32_t index, struct procref ref)
{
    uint64_t inc = proc_inc(ref);

    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        if (LOAD_RELAXED(&fs->slots[i].owner.v) == ref.v && recover_bury(fs, me, i) < 0)
            return; /* another undertaker is at it: the entry is for the next round */
    }
    CAS(&fs->procs[index].inc, &inc, UINT64_C(0));
}

int recover_dead(struct shmfs *fs)
{
    struct proc_entry e;
    struct procref ref;
    struct txn t;
    int r = txn_begin(fs, &t);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < fs->l.nprocs; i++) {
        if (proc_get(fs, i, &e, &ref) && !proc_alive(fs, ref))
            bury_process(fs, t.index, i, ref);
    }
    txn_commit(&t);
    return 0;
}

static int reap_orphan(struct shmfs *fs, uint32_t ino)
{
    struct inode *in;
    struct txn t;
    int r = txn_begin(fs, &t);

    if (r < 0)
        return r;
    if (inode_lock(&t, ino, &in) == 0) {
        inode_reap_if_unused(&t, ino);
        inode_settle(&t);
    }
    txn_commit(&t);
    return 0;
}

int recover_orphans(struct shmfs *fs)
{
    uint32_t n = fs->l.group_inodes;

    for (uint32_t g = 0; g < fs->l.ngroups; g++) {
        const uint64_t *map = region_inode_map(fs, g);

        for (uint32_t i = 0; (i = alloc_bit_find(map, i, n, true)) < n; i++) {
            const struct inode *in = inode_at(fs, g * n + i);

            if (LOAD_RELAXED(&in->mode) == 0 || LOAD_RELAXED(&in->nlink) != 0)
                continue;
            int r = reap_orphan(fs, g * n + i);
            if (r < 0)
                return r;
        }
    }
    return 0;
}
