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

static void slot_recover(struct shmfs *fs, uint32_t index, bool covered)
{
    struct slot *s = &fs->slots[index];
    struct txn t;

    /* What is half-done in it from here on must be seen there, if we die (S8). */
    STORE(&s->outside, 0u);
    /* Either undone or done: each is idempotent, so that dying here only means that another begins anew. */
    txn_rollback(fs, s);
    txn_redo_all(fs, s);
    txn_redo_end(s);
    txn_adopt(fs, index, covered, &t);
    /* Its group locks go first: nobody may wait for them while we wait for others (LOCKING, "Burial"). */
    txn_checkpoint(&t);
    inode_settle(&t);
    if (s->recall.unrecalled != 0)
        txn_resync(fs, s);
    txn_commit(&t); /* sequences even, locks released */
}

/* For who holds nothing that others may wait for: the last of it needs a lock of its own. */
static void slot_end(struct shmfs *fs, uint32_t index, bool covered)
{
    struct txn t;

    if (fs->slots[index].closing.n != 0) {
        txn_adopt(fs, index, covered, &t);
        inode_close_end(&t);
        txn_commit(&t);
    }
    txn_slot_free(fs, index);
}

void recover_slot(struct shmfs *fs, uint32_t index)
{
    if (LOAD_RELAXED(&fs->slots[index].outside) != 0) /* it was left at the gate */
        gate_pass(fs, &fs->slots[index]);
    slot_recover(fs, index, false);
    slot_end(fs, index, false);
}

static int bury(struct shmfs *fs, uint32_t me, uint32_t index, bool free_hands, uint32_t depth);

static bool slot_is_dead(struct shmfs *fs, uint32_t index)
{
    struct procref owner = { LOAD(&fs->slots[index].owner.v) };

    /* Read again: it may have given the slot up while it lived, and the slot be another's by now. */
    return owner.v != 0 && !proc_alive(fs, owner) && LOAD(&fs->slots[index].owner.v) == owner.v;
}

/* Does the word name an owner that could be? A slot is given up only after its locks are. */
static bool stamp_is_valid(struct shmfs *fs, uint64_t word)
{
    uint32_t index = lock_slot(word);

    return index < fs->l.nslots && LOAD(&fs->slots[index].owner.v) != 0 &&
           lock_is_held_by(word, lock_stamp(index, LOAD(&fs->slots[index].inc)));
}

/* Somebody holds the recovery lock. 0: it was dead, or nobody, and is out of the way; -EBUSY: it lives. */
static int remove_undertaker(struct shmfs *fs, uint32_t me, uint32_t index, bool free_hands, uint32_t depth)
{
    struct slot *s = &fs->slots[index];
    uint64_t word = LOAD(&s->recovery.v);
    uint32_t other = lock_slot(word);

    if (word == 0)
        return 0;
    if (!stamp_is_valid(fs, word)) {
        CAS(&s->recovery.v, &word, UINT64_C(0)); /* scribbled on; moved on meanwhile, this does nothing */
        return 0;
    }
    if (depth == 0 || other == me || other == index || !slot_is_dead(fs, other))
        return -EBUSY;
    return bury(fs, me, other, free_hands, depth - 1);
}

/* An undertaker may die too, and so may its undertaker: `depth` bounds that. */
static int bury(struct shmfs *fs, uint32_t me, uint32_t index, bool free_hands, uint32_t depth)
{
    struct slot *s = &fs->slots[index];
    uint64_t stamp = lock_stamp(me, LOAD_RELAXED(&fs->slots[me].inc));

    for (int tries = 0; tries < 3; tries++) {
        if (me == index || !slot_is_dead(fs, index))
            return 0;
        if (!intent_push(fs, me, &s->recovery))
            return -EBUSY;
        bool got = lock_try(&s->recovery, stamp);
        if (got && slot_is_dead(fs, index)) { /* look again under the lock (A8) */
            slot_recover(fs, index, true);
            /* Somebody in the middle of a transaction may not wait for an inode: the locks are free, that is enough. */
            if (fs->slots[index].closing.n == 0 || (free_hands && me != TXN_UNDERTAKERS_SLOT))
                slot_end(fs, index, true);
        }
        if (got)
            lock_release(&s->recovery);
        intent_pop(fs, me);
        if (got)
            return 0;
        if (remove_undertaker(fs, me, index, free_hands, depth) < 0)
            return -EBUSY;
    }
    return -EBUSY;
}

/*
 * An undertaker is inside the gate: he undoes what the dead one did there. Who buries while he waits for a lock steps in for
 * that, and who has nothing yet has an intent to show for it. -EBUSY: it is shut; the dead can wait.
 */
int recover_bury(struct shmfs *fs, uint32_t me, uint32_t index)
{
    struct slot *own = &fs->slots[me];
    bool out = LOAD_RELAXED(&own->outside) != 0, free_hands = LOAD_RELAXED(&own->nlocks) == 0;
    int r = -EBUSY;

    if (free_hands && !intent_push(fs, me, &fs->slots[index].recovery))
        return -EBUSY;
    if ((!out && !free_hands) || gate_step_in(fs, own))
        r = bury(fs, me, index, free_hands, fs->l.nslots);
    if (out)
        gate_step_out(own);
    if (free_hands)
        intent_pop(fs, me);
    if (!out)
        STORE(&own->outside, 0u);
    return r;
}

void recover_alone(struct shmfs *fs)
{
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        if (LOAD(&fs->slots[i].owner.v) != 0)
            slot_recover(fs, i, false);
    }
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        fs->slots[i].recovery.v = 0;
        if (LOAD(&fs->slots[i].owner.v) != 0)
            slot_end(fs, i, false);
    }
    for (uint32_t i = 0; i < fs->l.nprocs; i++)
        fs->procs[i].inc = 0;
}

/*
 * Drops a record of one who is dead. Where the inode is damaged, the record goes alone: what it kept stays
 * allocated, and nobody is kept out for it.
 */
static int bury_use(struct shmfs *fs, uint32_t index, uint64_t word, uint64_t inc)
{
    uint32_t proc = use_proc(word);
    int r = -EUCLEAN;

    if (proc < fs->l.nprocs && region_inode_ok(fs, use_ino(word)))
        r = inode_drop_use(fs, index, word, inc);
    if (r == -EUCLEAN) {
        if (proc >= fs->l.nprocs || LOAD(&fs->procs[proc].inc) == inc)
            CAS(use_at(fs, index), &word, UINT64_C(0));
        r = 0;
    }
    return r;
}

/* Those of one process; of all, whoever they are, if it is 0. */
static int bury_uses(struct shmfs *fs, struct procref ref)
{
    int ret = 0;

    for (uint32_t i = 0; i < use_count(fs); i++) {
        uint64_t word = LOAD(use_at(fs, i));

        if (word == 0 || (ref.v != 0 && use_proc(word) != proc_index(ref)))
            continue;
        uint64_t inc = ref.v != 0                      ? proc_inc(ref)
                       : use_proc(word) < fs->l.nprocs ? LOAD(&fs->procs[use_proc(word)].inc)
                                                       : 0;
        int r = bury_use(fs, i, word, inc);
        ret = r < 0 ? r : ret;
    }
    return ret;
}

int recover_process(struct shmfs *fs, struct procref ref)
{
    int r = bury_uses(fs, ref);

    return r == 0 ? range_drop_all(fs, ref) : r;
}

int recover_uses(struct shmfs *fs)
{
    int ret = bury_uses(fs, (struct procref){ 0 });

    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        struct procref owner = { LOAD(&fs->ranges[i].owner.v) };

        if (owner.v != 0)
            range_drop_all(fs, owner);
    }
    return ret;
}

/* Slots that the process left. 0; -EBUSY: another undertaker is at it, and the rest is for the next round. */
static int bury_slots(struct shmfs *fs, struct procref ref)
{
    struct txn t;
    int r = txn_begin(fs, &t);

    if (r < 0)
        return r;
    for (uint32_t i = 0; r == 0 && i < fs->l.nslots; i++) {
        while (LOAD_RELAXED(&fs->slots[i].owner.v) == ref.v && (r = recover_bury(fs, t.index, i)) == -EBUSY &&
               gate_is_shut(fs))
            gate_await(fs);
    }
    txn_commit(&t);
    return r;
}

static int bury_process(struct shmfs *fs, uint32_t index, struct procref ref)
{
    uint64_t inc = proc_inc(ref);
    int r = bury_slots(fs, ref);

    if (r == 0)
        r = recover_process(fs, ref);
    if (r == 0)
        CAS(&fs->procs[index].inc, &inc, UINT64_C(0));
    return r;
}

int recover_dead(struct shmfs *fs)
{
    struct proc_entry e;
    struct procref ref;
    int ret = 0, buried = 0;

    if (fs->readonly)
        return -EROFS;
    for (uint32_t i = 0; i < fs->l.nprocs; i++) {
        if (proc_get(fs, i, &e, &ref) && !proc_alive(fs, ref)) {
            int r = bury_process(fs, i, ref);
            ret = r < 0 ? r : ret;
            buried += r == 0;
        }
    }
    return buried > 0 ? buried : ret;
}

static bool owns_something(const struct shmfs *fs, struct procref ref)
{
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        if (LOAD(&fs->slots[i].owner.v) == ref.v)
            return true;
    }
    for (uint32_t i = 0; i < use_count(fs); i++) {
        uint64_t word = LOAD(use_at(fs, i));
        if (word != 0 && use_proc(word) == proc_index(ref))
            return true;
    }
    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        if (LOAD(&fs->ranges[i].owner.v) == ref.v)
            return true;
    }
    return false;
}

void recover_entries(struct shmfs *fs)
{
    struct proc_entry e;
    struct procref ref;

    for (uint32_t i = 0; i < fs->l.nprocs; i++) {
        if (proc_get(fs, i, &e, &ref) && !proc_alive(fs, ref) && !owns_something(fs, ref)) {
            uint64_t inc = proc_inc(ref);
            CAS(&fs->procs[i].inc, &inc, UINT64_C(0));
        }
    }
}

bool recover_nobody_left(const struct shmfs *fs)
{
    for (uint32_t i = 0; i < fs->l.nslots; i++) {
        if (LOAD(&fs->slots[i].owner.v) != 0)
            return false;
    }
    for (uint32_t i = 0; i < fs->l.nprocs; i++) {
        if (LOAD(&fs->procs[i].inc) != 0)
            return false;
    }
    for (uint32_t i = 0; i < use_count(fs); i++) {
        if (LOAD(use_at(fs, i)) != 0)
            return false;
    }
    return true;
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
