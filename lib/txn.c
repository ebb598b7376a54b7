/* SPDX-License-Identifier: MIT */
#include "txn.h"

#include <limits.h>
#include <time.h>

/* ---- the slot's word (I7) ---------------------------------------------------------------------- */

static uint64_t word_make(uint32_t generation, enum slot_state state, uint32_t tail)
{
    return (uint64_t)generation << 32 | (uint64_t)state << 24 | tail;
}
static uint32_t word_tail(uint64_t word)
{
    return (uint32_t)word & 0xffffff;
}
static enum slot_state word_state(uint64_t word)
{
    return (enum slot_state)(word >> 24 & 0xff);
}
static uint32_t word_generation(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

/* ---- the pool ---------------------------------------------------------------------------------- */

/*
 * Each thread keeps the slot that it used last, so that the common transaction starts without a
 * shared store. `live` tells a thread that comes late whether that slot's region is still attached.
 */
struct thread_slot {
    uint64_t fs_id; /* 0: none */
    struct shmfs *fs;
    uint32_t index;
};
_Thread_local bool txn_left_open __attribute__((tls_model("initial-exec")));
static _Thread_local struct thread_slot mine __attribute__((tls_model("initial-exec")));

static pthread_mutex_t live_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t live[64];
static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void pool_put(struct shmfs *fs, uint32_t index)
{
    pthread_mutex_lock(&fs->lock);
    bool kept = fs->nfree_slots < ARRAY_SIZE(fs->free_slots);
    if (kept)
        fs->free_slots[fs->nfree_slots++] = index;
    pthread_mutex_unlock(&fs->lock);
    if (!kept)
        txn_slot_free(fs, index);
}

/* Returns this thread's cached slot to its region, if that is still attached. */
static void thread_slot_drop(void *arg)
{
    struct thread_slot *ts = arg;

    if (ts->fs_id == 0)
        return;
    pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < ARRAY_SIZE(live); i++) {
        if (live[i] != ts->fs_id)
            continue;
        if (txn_left_open && ts->fs->abandon != NULL)
            ts->fs->abandon(ts->fs, ts->index); /* the thread ended within a transaction (A8) */
        else
            pool_put(ts->fs, ts->index);
    }
    txn_left_open = false;
    pthread_mutex_unlock(&live_mutex);
    ts->fs_id = 0;
}

static void exit_key_make(void)
{
    pthread_key_create(&exit_key, thread_slot_drop);
}

static int live_change(uint64_t from, uint64_t to)
{
    int r = -EMFILE;

    pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < ARRAY_SIZE(live); i++) {
        if (live[i] == from) {
            live[i] = to;
            r = 0;
            break;
        }
    }
    pthread_mutex_unlock(&live_mutex);
    return r;
}

int txn_attach(struct shmfs *fs)
{
    pthread_once(&exit_once, exit_key_make);
    return live_change(0, fs->id);
}

void txn_detach(struct shmfs *fs)
{
    live_change(fs->id, 0);
    txn_give_slots_back(fs);
}

void txn_give_slots_back(struct shmfs *fs)
{
    if (mine.fs_id == fs->id)
        mine.fs_id = 0;
    fs->nfree_slots = 0;
    for (uint32_t i = 0; fs->self.v != 0 && i < fs->l.nslots; i++) {
        const struct slot *s = &fs->slots[i];

        if (LOAD(&s->owner.v) != fs->self.v)
            continue;
        /* A thread may have left a call by a jump, and not come back: then there is something to undo. */
        if ((s->nlocks != 0 || word_tail(s->word) != 0 || s->todo.op != TODO_NONE || s->closing.n != 0) &&
            fs->abandon != NULL)
            fs->abandon(fs, i);
        else
            txn_slot_free(fs, i);
    }
}

void txn_leave_behind(void)
{
    struct thread_slot left = mine;

    mine.fs_id = 0; /* what buries the transaction takes a slot of its own, or none */
    txn_left_open = false;
    region_reading = 0;
    pthread_mutex_lock(&live_mutex);
    for (size_t i = 0; i < ARRAY_SIZE(live); i++) {
        if (live[i] == left.fs_id && left.fs_id != 0 && left.fs->abandon != NULL)
            left.fs->abandon(left.fs, left.index);
    }
    pthread_mutex_unlock(&live_mutex);
}

void txn_fork_before(void)
{
    pthread_mutex_lock(&live_mutex);
}

void txn_fork_after(bool child)
{
    if (child)
        mine = (struct thread_slot){ 0 };
    if (child)
        txn_left_open = false;
    pthread_mutex_unlock(&live_mutex);
}

void txn_slot_free(struct shmfs *fs, uint32_t index)
{
    struct slot *s = &fs->slots[index];

    gate_forget(fs, index);
    STORE(&s->inc, s->inc + 1); /* stamps of the old owner are void from here on */
    STORE(&s->owner.v, 0);
}

enum { CLAIM_PATIENCE = 20 }; /* ms to wait for who has the undertakers' slot */

/* 0; -EBUSY: somebody else has it; -ENOSPC: there is no memory for it. */
static int slot_take(struct shmfs *fs, uint32_t index)
{
    struct slot *s = &fs->slots[index];
    uint64_t none = 0;

    if (LOAD_RELAXED(&s->owner.v) != 0)
        return -EBUSY;
    int r = region_reserve(fs, fs->l.slots + (uint64_t)index * SLOT_SIZE, SLOT_SIZE);
    if (r < 0)
        return r;
    if (!CAS(&s->owner.v, &none, fs->self.v))
        return -EBUSY;
    STORE(&s->inc, (s->inc + 1) & ((UINT64_C(1) << 48) - 1));
    s->recall.state &= ~UINT32_C(3); /* what its last owner had recalled */
    s->recalled_for = 0;
    STORE(&s->outside, 0u);
    return 0;
}

static int slot_search(struct shmfs *fs, uint32_t *ret_index)
{
    uint32_t start = proc_index(fs->self), n = fs->l.nslots - 1; /* spread: neighbours share no lines */
    int ret = -EUSERS;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = 1 + (start + i) % n;
        int r = slot_take(fs, index);

        if (r == 0) {
            *ret_index = index;
            return 0;
        }
        if (r != -EBUSY)
            ret = r; /* no memory for this one; another has had some before */
    }
    return ret;
}

static int slot_claim(struct shmfs *fs, uint32_t *ret_index)
{
    int r = slot_search(fs, ret_index);

    for (int tries = 0; r == -EUSERS && fs->bury != NULL && tries < CLAIM_PATIENCE; tries++) {
        gate_await(fs);
        if (slot_take(fs, TXN_UNDERTAKERS_SLOT) == 0) {
            for (uint32_t i = 1; i < fs->l.nslots; i++)
                fs->bury(fs, TXN_UNDERTAKERS_SLOT, i);
            txn_slot_free(fs, TXN_UNDERTAKERS_SLOT);
            return slot_search(fs, ret_index);
        }
        nap_us(1000); /* somebody else is at it: soon there will be some */
        r = slot_search(fs, ret_index);
    }
    return r;
}

static int slot_get(struct shmfs *fs, uint32_t *ret_index)
{
    bool got = false;

    pthread_mutex_lock(&fs->lock);
    if (fs->nfree_slots > 0) {
        *ret_index = fs->free_slots[--fs->nfree_slots];
        got = true;
    }
    pthread_mutex_unlock(&fs->lock);
    return got ? 0 : slot_claim(fs, ret_index);
}

static int slot_get_slowly(struct shmfs *fs, uint32_t *ret_index)
{
    int r = slot_get(fs, ret_index);

    if (r < 0 || txn_left_open) /* a transaction within another's call: its slot goes back to the pool */
        return r;
    thread_slot_drop(&mine);
    mine = (struct thread_slot){ .fs_id = fs->id, .fs = fs, .index = *ret_index };
    pthread_setspecific(exit_key, &mine);
    return 0;
}

/* ---- begin and end ----------------------------------------------------------------------------- */

static void txn_init(struct txn *t, struct shmfs *fs, uint32_t index)
{
    t->fs = fs;
    t->slot = &fs->slots[index];
    t->stamp = lock_stamp(index, LOAD_RELAXED(&t->slot->inc));
    t->index = index;
    t->generation = word_generation(LOAD_RELAXED(&t->slot->word));
    t->tail = 0;
    t->nheld = 0;
    t->nredo = 0;
    t->busy_group = NO_GROUP;
    t->busy_inode = 0;
    t->now.sec = 0;
    t->freed = false;
    t->adopted = t->covered = false;
    t->recalling = false;
    t->unrecalled = false;
    t->leases = 0;
    t->nconfirms = 0;
}

int txn_begin(struct shmfs *fs, struct txn *t)
{
    uint32_t index = mine.index;

    if (unlikely(fs->readonly))
        return -EROFS;
    if (unlikely(mine.fs_id != fs->id || txn_left_open)) {
        int r = slot_get_slowly(fs, &index);
        if (r < 0)
            return r;
    }
    if (mine.fs_id == fs->id && mine.index == index)
        txn_left_open = true;
    txn_init(t, fs, index);
    return 0;
}

static void txn_end(struct txn *t)
{
    if (t->adopted)
        return;
    if (likely(mine.fs_id == t->fs->id && mine.index == t->index))
        txn_left_open = false;
    else
        pool_put(t->fs, t->index);
}

static void sequence_even(uint64_t *seq)
{
    uint64_t v = LOAD_RELAXED(seq);

    if ((v & 1) != 0)
        STORE(seq, v + 1);
}

static void sequences_even(struct txn *t)
{
    for (uint32_t i = 0; i < t->nheld; i++) {
        if (t->held[i].kind == HELD_INODE)
            sequence_even(&t->fs->inode_rts[t->held[i].id].seq);
        t->held[i].touched = false;
    }
}

static void saved_forget(struct txn *t)
{
    for (uint32_t i = 0; i < t->nheld; i++)
        t->held[i].saved = false;
    t->tail = 0;
    t->freed = false;
}

/* Somebody sleeps until the inode changes: shmfs_wait(). Called after its lock was let go (a full fence). */
static void wake_watchers(struct shmfs *fs, uint32_t ino)
{
    struct inode_rt *rt = &fs->inode_rts[ino];

    if (__atomic_exchange_n(&rt->waiting, 0, __ATOMIC_SEQ_CST) != 0)
        lock_futex_wake(&rt->seq, INT_MAX);
}

static void held_release(struct txn *t, const struct held *h)
{
    lock_release(h->word);
    if (h->kind == HELD_INODE) {
        fence_after_rmw();
        if (unlikely(LOAD_RELAXED(&t->fs->inode_rts[h->id].waiting) != 0))
            wake_watchers(t->fs, h->id);
    }
}

/*
 * Releases the held locks; with `chain` only those that a chain of transactions does not keep: groups,
 * and recovery locks that an undertaker finds in the slot of another. The intents of the rest move up.
 */
static void release(struct txn *t, bool chain)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < t->nheld; i++) {
        if (chain && (t->held[i].kind == HELD_INODE || t->held[i].kind == HELD_RENAME)) {
            if (kept != i) {
                t->held[kept] = t->held[i];
                t->slot->locks[kept] = t->slot->locks[i]; /* for a moment twice in the list: harmless */
            }
            kept++;
            continue;
        }
        held_release(t, &t->held[i]);
    }
    ORDER();
    STORE(&t->slot->nlocks, kept);
    if (unlikely(LOAD_RELAXED(&t->slot->waited_since) != 0))
        STORE_RELAXED(&t->slot->waited_since, UINT64_C(0));
    t->nheld = kept;
}

static void log_clear(struct txn *t, enum slot_state state)
{
    ORDER();
    t->generation++;
    STORE(&t->slot->word, word_make(t->generation, state, 0));
    ORDER();
    saved_forget(t);
}

/* One store makes all that was done permanent; staged data follows it. */
static void commit_point(struct txn *t)
{
    if (t->nredo > 0) {
        log_clear(t, SLOT_REDO_ON);
        txn_redo_all(t->fs, t->slot);
        txn_redo_end(t->slot);
        t->nredo = 0;
    } else if (t->tail > 0) {
        log_clear(t, SLOT_IDLE);
    }
}

void txn_ring(struct shmfs *fs)
{
    __atomic_add_fetch(&fs->rt->recall_bell, 1, __ATOMIC_SEQ_CST);
    lock_futex_wake32(&fs->rt->recall_bell, 1);
}

void txn_resync(struct shmfs *fs, struct slot *slot)
{
    STORE(&fs->rt->resync, 1u);
    txn_ring(fs);
    ORDER(); /* killed before, the undertaker says it again */
    STORE(&slot->recall.unrecalled, 0u);
    STORE(&slot->recall.state,
          slot->recall.state & ~UINT32_C(3)); /* the next time the driver is asked again */
}

/* The operation is over: the next may wait for the driver as long as this one. */
static void recalls_forget(struct txn *t)
{
    if (unlikely(t->slot->recalled_for != 0))
        t->slot->recalled_for = 0;
}

void txn_commit(struct txn *t)
{
    commit_point(t);
    if (unlikely(t->unrecalled))
        txn_resync(t->fs, t->slot);
    recalls_forget(t);
    bool confirm = unlikely(t->nconfirms > 0) && t->fs->confirm_list(t);
    sequences_even(t);
    release(t, false);
    if (unlikely(confirm))
        t->fs->confirm(t->fs, t->slot);
    txn_end(t);
}

/* What was to be copied home if the transaction had committed. */
static void redo_forget(struct txn *t)
{
    if (t->nredo > 0)
        STORE_RELAXED(&t->slot->nredo, 0u);
    t->nredo = 0;
}

/* Called while no group is held. */
static int await_busy_group(struct txn *t)
{
    uint32_t group = t->busy_group;
    int r;

    t->busy_group = NO_GROUP;
    if (group == NO_GROUP)
        return 0;
    r = txn_lock_group(t, group);
    if (r == 0)
        txn_drop_last(t);
    return r;
}

/* Called while nothing is held. */
static int await_busy_inode(struct txn *t)
{
    int r = t->busy_inode != 0 ? txn_lock_inode(t, t->busy_inode) : 0;

    if (t->nheld > 0)
        txn_drop_last(t);
    t->busy_inode = 0;
    return r;
}

/* Full, but somebody may have died before what was removed was freed. True: there is more room now. */
static bool bury_who_was_freeing(struct txn *t)
{
    struct shmfs *fs = t->fs;
    bool buried = false;

    gate_await(fs); /* nobody is buried while it is shut */
    for (uint32_t i = 0; fs->bury != NULL && i < fs->l.nslots; i++) {
        struct procref owner = { LOAD(&fs->slots[i].owner.v) };

        if (i == t->index || owner.v == 0 || LOAD_RELAXED(&fs->slots[i].todo.op) == TODO_NONE ||
            proc_alive(fs, owner))
            continue;
        buried |= fs->bury(fs, t->index, i) == 0;
    }
    return buried || (fs->bury_all != NULL && fs->bury_all(fs) > 0); /* opens and pins keep space too */
}

int txn_abort_for(struct txn *t, int r)
{
    int waited;

    txn_rollback(t->fs, t->slot);
    saved_forget(t);
    redo_forget(t);
    sequences_even(t);
    release(t, false);
    if (r == -EAGAIN) {
        waited = await_busy_group(t);
        if (waited == 0)
            waited = await_busy_inode(t);
        r = waited < 0 ? waited : r;
        if (unlikely(t->recalling))
            t->fs->recall(t->fs, t->slot);
    } else if ((r == -ENOSPC || r == -ENFILE || r == -ENOLCK) && bury_who_was_freeing(t)) {
        r = -EAGAIN;
    }
    if (r != -EAGAIN)
        recalls_forget(t);
    txn_end(t);
    return r;
}

void txn_abort(struct txn *t)
{
    txn_abort_for(t, 0);
}

void txn_checkpoint(struct txn *t)
{
    t->now.sec = 0;
    commit_point(t);
    release(t, true);
    if (gate_is_shut(t->fs) && t->nheld > 0 && !t->covered) {
        gate_step_out(t->slot);
        gate_pass(t->fs, t->slot);
    }
}

int txn_retreat(struct txn *t)
{
    txn_rollback(t->fs, t->slot);
    saved_forget(t);
    redo_forget(t);
    release(t, true);
    return await_busy_group(t);
}

void txn_release_others(struct txn *t, uint32_t ino)
{
    uint32_t kept = 0;

    if (unlikely(t->unrecalled))
        txn_resync(t->fs, t->slot); /* before anybody sees the others */

    for (uint32_t i = 0; i < t->nheld; i++) {
        struct held h = t->held[i];

        if (h.kind == HELD_INODE && h.id == ino) {
            t->held[kept] = h;
            t->slot->locks[kept++] = region_offset(t->fs, h.word);
            continue;
        }
        if (h.kind == HELD_INODE)
            sequence_even(&t->fs->inode_rts[h.id].seq);
        held_release(t, &h);
    }
    ORDER();
    STORE(&t->slot->nlocks, kept);
    t->nheld = kept;
}

/* ---- locks ------------------------------------------------------------------------------------- */

/*
 * Waits for a lock: outside of the gate meanwhile, where nothing is changed. (Where something is, it is for the lock of a
 * group, whose owner never stops at the gate with it.) Nor does it stop there with this lock.
 */
static int take_slowly(struct txn *t, struct lockword *w)
{
    int r;

    if (t->tail > 0 || t->nredo > 0 || t->covered)
        return lock_take(t->fs, w, t->stamp);
    gate_step_out(t->slot);
    for (;;) {
        r = lock_take(t->fs, w, t->stamp);
        if (gate_step_in(t->fs, t->slot))
            return r;
        if (r == 0)
            lock_release(w);
        gate_await(t->fs);
    }
}

static int take(struct txn *t, enum held_kind kind, uint32_t id, struct lockword *w, bool wait)
{
    uint32_t n = t->nheld;
    int r;

    if (unlikely(n >= SLOT_LOCKS - 1)) /* one is left for a burial */
        return -ENOLCK;
    t->slot->locks[n] = region_offset(t->fs, w); /* the intent comes before the lock (I7) */
    ORDER();
    STORE_RELAXED(&t->slot->nlocks, n + 1);
    ORDER();
    r = lock_try(w, t->stamp) ? 0 : -EAGAIN;
    fence_after_rmw();
    if (unlikely(r == 0 && n == 0 && gate_is_shut(t->fs)) && !t->covered) {
        assert(t->tail == 0 && t->nredo == 0);
        gate_step_out(t->slot); /* the first one: it goes back, and is waited for */
        lock_release(w);
        gate_await(t->fs);
        r = take_slowly(t, w);
    } else if (r < 0 && wait) {
        r = take_slowly(t, w);
    }
    if (unlikely(r < 0)) {
        STORE(&t->slot->nlocks, n);
        return r;
    }
    assert(t->slot->outside == 0 || t->covered);
    t->held[n] = (struct held){ .word = w, .id = id, .kind = kind };
    t->nheld = n + 1;
    return 0;
}

bool txn_holds(const struct txn *t, enum held_kind kind, uint32_t id)
{
    for (uint32_t i = 0; i < t->nheld; i++) {
        if (t->held[i].kind == kind && t->held[i].id == id)
            return true;
    }
    return false;
}

int txn_lock_rename(struct txn *t)
{
    assert(t->nheld == 0);
    return take(t, HELD_RENAME, 0, &t->fs->rt->rename_lock, true);
}

int txn_lock_inode(struct txn *t, uint32_t ino)
{
    if (!region_inode_ok(t->fs, ino))
        return -ESTALE;
    assert(t->nheld == 0 || t->held[t->nheld - 1].kind == HELD_RENAME ||
           (t->held[t->nheld - 1].kind == HELD_INODE && t->held[t->nheld - 1].id < ino));
    return take(t, HELD_INODE, ino, &t->fs->inode_rts[ino].lock, true);
}

int txn_lock_inodes(struct txn *t, uint32_t a, uint32_t b)
{
    int r = txn_lock_inode(t, MIN(a, b));

    return r < 0 || a == b ? r : txn_lock_inode(t, MAX(a, b));
}

int txn_try_inode(struct txn *t, uint32_t ino)
{
    int r;

    if (!region_inode_ok(t->fs, ino))
        return -ESTALE;
    r = take(t, HELD_INODE, ino, &t->fs->inode_rts[ino].lock, false);
    if (r == -EAGAIN)
        t->busy_inode = ino;
    return r;
}

uint32_t txn_groups_held(const struct txn *t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->nheld; i++)
        n += t->held[i].kind == HELD_GROUP;
    return n;
}

int txn_lock_group(struct txn *t, uint32_t group)
{
    int r;

    if (txn_holds(t, HELD_GROUP, group))
        return 0;
    r = take(t, HELD_GROUP, group, &t->fs->group_rts[group].lock, txn_groups_held(t) == 0);
    if (r == -EAGAIN)
        t->busy_group = group;
    return r;
}

void txn_drop_last(struct txn *t)
{
    lock_release(t->held[--t->nheld].word);
    ORDER();
    STORE(&t->slot->nlocks, t->nheld);
}

/* ---- changes ----------------------------------------------------------------------------------- */

struct held *txn_touch(struct txn *t, uint32_t ino)
{
    for (uint32_t i = 0; i < t->nheld; i++) {
        struct held *h = &t->held[i];

        if (h->kind != HELD_INODE || h->id != ino)
            continue;
        if (!h->touched) {
            uint64_t *seq = &t->fs->inode_rts[ino].seq;
            uint64_t v = LOAD_RELAXED(seq);
            if ((v & 1) == 0) /* odd already only after a scribble: it stays odd */
                STORE_RELAXED(seq, v + 1);
            __atomic_thread_fence(__ATOMIC_RELEASE); /* readers see it odd before any store below */
            ORDER();
            h->touched = true;
        }
        return h;
    }
    assert(!"an inode is touched only under its lock (I1)");
    abort();
}

void txn_save(struct txn *t, const void *p, size_t n)
{
    uint32_t padded = (uint32_t)round_up(n, 8);
    uint32_t size = padded + (uint32_t)sizeof(struct undo);

    assert(size <= txn_room(t)); /* I5: every step's log fits; the callers bound their steps */
    dirty_mark(t->fs, p, n);     /* S8 */
    uint8_t *at = t->slot->log + t->tail;
    struct undo rec = { .off = region_offset(t->fs, p), .len = (uint32_t)n, .size = size };
    memcpy(at, p, n);
    memcpy(at + padded, &rec, sizeof(rec));
    ORDER(); /* the record is complete … */
    t->tail += size;
    STORE(&t->slot->word, word_make(t->generation, SLOT_IDLE, t->tail));
    ORDER(); /* … before the store that it undoes (I2) */
}

void txn_redo(struct txn *t, void *p, uint32_t n, uint32_t from)
{
    assert(t->nredo < SLOT_REDO && from <= SLOT_STAGE && n <= SLOT_STAGE - from);
    t->slot->redo[t->nredo] = (struct redo){ .to = region_offset(t->fs, p), .len = n, .from = from };
    t->nredo++;
    STORE_RELAXED(&t->slot->nredo, t->nredo);
}

void txn_todo(struct txn *t, enum todo_op op, uint32_t ino, uint64_t from, uint64_t to)
{
    struct todo todo = { .op = op, .ino = { ino }, .from = from, .to = to };

    TXN_SET(t, &t->slot->todo, todo);
}

/* ---- recovery ---------------------------------------------------------------------------------- */

int txn_rollback(struct shmfs *fs, struct slot *slot)
{
    uint64_t word = LOAD(&slot->word);
    uint32_t tail = word_tail(word);
    int ret = 0;

    if (word_state(word) != SLOT_IDLE)
        return 0; /* committed: to be redone, not undone */
    while (tail > 0) {
        struct undo rec;

        if (tail > SLOT_LOG || tail < sizeof(rec)) {
            ret = -EUCLEAN;
            break;
        }
        memcpy(&rec, slot->log + tail - sizeof(rec), sizeof(rec));
        if (rec.size < sizeof(rec) || rec.size > tail || rec.len > rec.size - sizeof(rec) ||
            !region_contains(fs, rec.off.n, rec.len)) {
            ret = -EUCLEAN;
            break;
        }
        dirty_mark_at(fs, rec.off.n, MAX(rec.len, 1u)); /* as it is already, unless the log is scribbled on */
        memcpy(fs->base + rec.off.n, slot->log + tail - rec.size, rec.len);
        tail -= rec.size;
    }
    ORDER(); /* all is back before the log is gone: an undertaker who dies here is followed by another */
    STORE(&slot->word, word_make(word_generation(word) + 1, SLOT_IDLE, 0));
    ORDER();
    return ret;
}

int txn_redo_all(struct shmfs *fs, struct slot *slot)
{
    uint64_t word = LOAD(&slot->word);
    uint32_t n = LOAD_RELAXED(&slot->nredo);

    if (word_state(word) != SLOT_REDO_ON)
        return 0;
    for (uint32_t i = 0; i < MIN(n, (uint32_t)SLOT_REDO); i++) {
        struct redo r = slot->redo[i];

        if (r.from > SLOT_STAGE || r.len > SLOT_STAGE - r.from || r.to.n < fs->l.blocks ||
            !region_contains(fs, r.to.n, r.len))
            return -EUCLEAN;
        dirty_mark_at(fs, r.to.n, MAX(r.len, 1u));
        memcpy(fs->base + r.to.n, slot->stage + r.from, r.len);
    }
    return 0;
}

void txn_redo_end(struct slot *slot)
{
    uint64_t word = LOAD_RELAXED(&slot->word);

    ORDER(); /* all is home before the stage is forgotten */
    STORE(&slot->word,
          word_make(word_generation(word), SLOT_IDLE, word_state(word) == SLOT_IDLE ? word_tail(word) : 0));
    ORDER();
    slot->nredo = 0;
}

struct lockword *txn_lock_at(struct shmfs *fs, struct offref off, enum held_kind *ret_kind, uint32_t *ret_id)
{
    const struct layout *l = &fs->l;
    uint64_t n;

    if (off.n == l->runtime + offsetof(struct runtime, rename_lock)) {
        *ret_kind = HELD_RENAME;
        *ret_id = 0;
        return &fs->rt->rename_lock;
    }
    if (off.n >= l->inode_rt && (n = (off.n - l->inode_rt) / sizeof(struct inode_rt)) < l->ninodes &&
        off.n == l->inode_rt + n * sizeof(struct inode_rt)) {
        *ret_kind = HELD_INODE;
        *ret_id = (uint32_t)n;
        return &fs->inode_rts[n].lock;
    }
    if (off.n >= l->group_rt && (n = (off.n - l->group_rt) / sizeof(struct group_rt)) < l->ngroups &&
        off.n == l->group_rt + n * sizeof(struct group_rt)) {
        *ret_kind = HELD_GROUP;
        *ret_id = (uint32_t)n;
        return &fs->group_rts[n].lock;
    }
    if (off.n >= l->slots && (n = (off.n - l->slots) / sizeof(struct slot)) < l->nslots &&
        off.n == l->slots + n * sizeof(struct slot) + offsetof(struct slot, recovery)) {
        *ret_kind = HELD_RECOVERY;
        *ret_id = (uint32_t)n;
        return &fs->slots[n].recovery;
    }
    return NULL;
}

void txn_adopt(struct shmfs *fs, uint32_t index, bool covered, struct txn *t)
{
    txn_init(t, fs, index);
    t->adopted = true;
    t->covered = covered;
    t->tail = word_tail(LOAD(&t->slot->word));

    uint32_t n = MIN(LOAD(&t->slot->nlocks), (uint32_t)SLOT_LOCKS);
    for (uint32_t i = 0; i < n; i++) {
        struct held h = { 0 };
        struct offref off = t->slot->locks[i];

        h.word = txn_lock_at(fs, off, &h.kind, &h.id);
        if (h.word == NULL || !lock_is_held_by(LOAD(&h.word->v), t->stamp) || txn_holds(t, h.kind, h.id))
            continue;
        t->slot->locks[t->nheld] = off; /* moves up: what it overwrites is not held */
        t->held[t->nheld++] = h;
    }
    ORDER();
    STORE(&t->slot->nlocks, t->nheld);
}
