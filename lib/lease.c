/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "lease.h"

/* The writers' side, and the grants. */

enum {
    WANTED_MS = 3,      /* for which reads hold back, if the writer never comes */
    WANTED_DIR_MS = 50, /* for which listings are not leased, which costs nobody a wait */
    PATIENCE_MS = 5000, /* with the driver */
    ALIVE_MS = 20,      /* between looks whether the driver is */
    TURN_MS =
        100, /* for the rest of an append to come: it does in microseconds, but the machine may be busy */
    TOLD_MS = 20, /* for the kernel to learn of a new end, which takes microseconds */
    NAP_US = 50,
    HOLD_US = 1000, /* for which a read holds back at most */
};

static _Thread_local bool for_kernel __attribute__((tls_model("initial-exec")));

void shmfs_lease_serve_kernel(void)
{
    for_kernel = true;
}

/* Milliseconds that wrap, never 0. */
static uint32_t now_ms(void)
{
    return (uint32_t)(lock_now_ns() / 1000000) | 1;
}

static bool is_dir(const struct shmfs *fs, uint32_t ino)
{
    return S_ISDIR(LOAD_RELAXED(&fs->inodes[ino].mode));
}

static bool of_this_mount(const struct shmfs *fs, const struct inode_rt *rt)
{
    return rt->epoch == (uint32_t)LOAD_RELAXED(&fs->rt->mount_epoch);
}

/* ---- what is in the way -------------------------------------------------------------------------- */

/* Is there somebody who has given leases? Without a driver nobody waits. */
static bool driver_lives(struct shmfs *fs)
{
    struct procref driver = { LOAD(&fs->rt->driver.v) };

    return (LOAD(&fs->rt->driver_mode) & DRIVER_LEASES) != 0 && driver.v != 0 && proc_alive(fs, driver);
}

static enum recall_state recall_state(const struct slot *slot)
{
    return (enum recall_state)(LOAD(&slot->recall.state) & 3);
}

/*
 * The driver did not drop it in time: the change is made all the same, and everything dropped later. What the slot
 * says may be of an operation before, which failed after all: it counts while the driver is late.
 */
static bool goes_on_without(struct txn *t)
{
    if (likely(recall_state(t->slot) != RECALL_LATE) || LOAD(&t->fs->rt->driver_late) == 0)
        return false;
    STORE(&t->slot->recall.unrecalled, 1u);
    ORDER(); /* before the change, for who would have to bury it */
    t->unrecalled = true;
    return true;
}

/* The list begins anew with the first entry of a transaction. */
static struct recall *recall_list(struct txn *t)
{
    struct recall *rc = &t->slot->recall;

    if (!t->recalling) {
        STORE(&rc->state, rc->state & ~UINT32_C(3));
        t->nrecalls = t->nrecall_names = rc->ninodes = rc->nnames = 0;
        t->recalling = true;
    }
    return rc;
}

static bool inode_recalled(const struct txn *t, uint32_t ino, uint32_t kinds, uint64_t from, uint64_t to)
{
    const struct recall *rc = &t->slot->recall;

    if (t->recalling || recall_state(t->slot) != RECALL_DONE)
        return false;
    for (uint32_t i = 0; i < MIN(rc->ninodes, (uint32_t)RECALL_INODES); i++) {
        const struct recall_inode *ri = &rc->inodes[i];

        if (ri->ino.n == ino && (kinds & ~ri->kinds) == 0 && ri->from <= from && ri->to >= to &&
            ri->grants == t->fs->inode_rts[ino].grants)
            return true;
    }
    return false;
}

static void recall_inode(struct txn *t, uint32_t ino, uint32_t kinds, uint64_t from, uint64_t to)
{
    struct recall *rc = &t->slot->recall;
    uint32_t grants = t->fs->inode_rts[ino].grants;

    if (t->nrecalls < RECALL_INODES)
        rc->inodes[t->nrecalls++] = (struct recall_inode){ { ino }, kinds, grants, 0, from, to };
    STORE_RELAXED(&rc->ninodes, t->nrecalls);
}

/* When the change is made, the kernel is to hear of it once more. */
static void confirm_later(struct txn *t, uint32_t ino)
{
    if ((LOAD(&t->fs->inode_rts[ino].leases) & LEASE_CONFIRM) == 0 || t->nconfirms == TXN_CONFIRMS)
        return;
    for (uint32_t i = 0; i < t->nconfirms; i++) {
        if (t->confirms[i].ino == ino)
            return;
    }
    t->confirms[t->nconfirms++] = (struct confirm){ ino, LOAD_RELAXED(&t->fs->inodes[ino].size) };
}

bool lease_break_slowly(struct txn *t, uint32_t ino, uint32_t kinds, uint64_t from, uint64_t to)
{
    struct inode_rt *rt = &t->fs->inode_rts[ino];

    if (for_kernel || t->adopted)
        return false;
    kinds &= ~LEASE_CONFIRM;
    kinds &= LOAD(&rt->leases);
    if (LOAD(&rt->leases) != 0 && (!of_this_mount(t->fs, rt) || !driver_lives(t->fs)))
        STORE_RELAXED(&rt->leases, kinds = 0);
    if (kinds == 0 || inode_recalled(t, ino, kinds, from, to) || goes_on_without(t)) {
        STORE(&rt->wanted, 0u); /* our turn has come: who held back waits for the lock now */
        confirm_later(t, ino);
        return false;
    }
    if ((kinds & LEASE_PAGES) != 0)
        kinds |= LEASE_PAGES; /* of what is dropped, nothing is left under either */
    recall_list(t);
    recall_inode(t, ino, kinds, from, to);
    if ((kinds & (LEASE_PAGES | LEASE_ACL)) != 0)
        STORE(&rt->wanted, (now_ms() + (is_dir(t->fs, ino) ? WANTED_DIR_MS : WANTED_MS)) | 1);
    return true;
}

/* ---- names --------------------------------------------------------------------------------------- */

static uint64_t *absent_word(const struct shmfs *fs, uint32_t dir, uint64_t key, uint64_t *ret_bit)
{
    uint64_t h = (key ^ (uint64_t)dir * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd) >> 40;

    *ret_bit = UINT64_C(1) << (h & 63);
    return &fs->absent[(h >> 6) % (ABSENT_BYTES / sizeof(uint64_t))];
}

static bool is_absent(const struct shmfs *fs, uint32_t dir, uint64_t key)
{
    uint64_t bit, *word = absent_word(fs, dir, key, &bit);

    return (LOAD_RELAXED(word) & bit) != 0;
}

static bool name_recalled(const struct txn *t, uint32_t dir, uint32_t ino, const char *s, uint32_t len)
{
    const struct recall *rc = &t->slot->recall;

    if (t->recalling || recall_state(t->slot) != RECALL_DONE)
        return false;
    for (uint32_t i = 0; i < MIN(rc->nnames, (uint32_t)RECALL_NAMES); i++) {
        const struct recall_name *rn = &rc->names[i];

        if (rn->dir.n == dir && rn->ino.n == ino && rn->len == len && memcmp(rn->name, s, len) == 0 &&
            rn->dir_grants == t->fs->inode_rts[dir].grants && rn->ino_grants == t->fs->inode_rts[ino].grants)
            return true;
    }
    return false;
}

bool lease_break_name_slowly(struct txn *t, uint32_t dir, uint32_t ino, const char *s, uint32_t len,
                             uint64_t key)
{
    struct shmfs *fs = t->fs;

    if (for_kernel || t->adopted || !driver_lives(fs))
        return false;
    if (ino != 0 ? lease_lookups(fs, ino) == 0
                 : !of_this_mount(fs, &fs->inode_rts[dir]) || !is_absent(fs, dir, key))
        return false;
    if (name_recalled(t, dir, ino, s, len) || goes_on_without(t))
        return false;
    struct recall *rc = recall_list(t);
    if (t->nrecall_names == RECALL_NAMES)
        return true;
    struct recall_name *rn = &rc->names[t->nrecall_names++];
    STORE_RELAXED(&rc->nnames, t->nrecall_names);
    rn->dir.n = dir;
    rn->ino.n = ino;
    rn->dir_grants = fs->inode_rts[dir].grants;
    rn->ino_grants = fs->inode_rts[ino].grants; /* inode 0 is never granted anything */
    rn->len = (uint8_t)len;
    memcpy(rn->name, s, len);
    return true;
}

/* ---- waiting for the driver ---------------------------------------------------------------------- */

/* The answer to a post; RECALL_LATE: there is none, and there was time enough. */
static enum recall_state answer(struct shmfs *fs, struct recall *rc, uint32_t posted, uint32_t waited)
{
    uint32_t start = now_ms(), looked = start, now = start, word;

    while ((word = LOAD(&rc->state)) == posted) {
        if (LOAD_RELAXED(&fs->rt->driver_late) != 0 || now - start + waited >= PATIENCE_MS)
            return RECALL_LATE;
        if (now - looked >= ALIVE_MS) {
            looked = now;
            if (!driver_lives(fs) || LOAD_RELAXED(&fs->broken))
                return RECALL_DONE; /* what its kernel had is gone */
        }
        lock_futex_wait32(&rc->state, posted, ALIVE_MS * 1000L);
        now = now_ms();
    }
    return (enum recall_state)(word & 3);
}

void lease_recall(struct shmfs *fs, struct slot *slot)
{
    struct recall *rc = &slot->recall;
    uint32_t index = (uint32_t)(slot - fs->slots), start = now_ms();
    uint32_t posted = ((rc->state >> 2) + 1) << 2 | RECALL_POSTED;
    uint64_t bit = UINT64_C(1) << index % 64;

    STORE(&rc->state, posted);
    __atomic_fetch_or(&fs->rt->recall_map[index / 64 % RECALL_WORDS], bit, __ATOMIC_SEQ_CST);
    txn_ring(fs);
    enum recall_state got = answer(fs, rc, posted, slot->recalled_for);
    if (got == RECALL_LATE)
        STORE(&fs->rt->driver_late, 1u);
    CAS(&rc->state, &posted, (posted & ~UINT32_C(3)) | got);
    slot->recalled_for += now_ms() - start + 1;
}

/* ---- after the change ---------------------------------------------------------------------------- */

bool lease_confirm_list(struct txn *t)
{
    struct recall *rc = &t->slot->recall;

    if (t->unrecalled || t->adopted)
        return false;
    STORE(&rc->state, rc->state & ~UINT32_C(3));
    t->nrecalls = rc->nnames = 0;
    for (uint32_t i = 0; i < t->nconfirms; i++) {
        uint32_t ino = t->confirms[i].ino, kinds = LOAD(&t->fs->inode_rts[ino].leases) & LEASE_CONFIRM;
        uint64_t from = t->confirms[i].size, to = LOAD_RELAXED(&t->fs->inodes[ino].size);

        if (to <= from)
            kinds &= ~(uint32_t)LEASE_WRITTEN;
        if ((kinds & LEASE_WRITTEN) != 0)
            __atomic_fetch_or(&t->fs->inode_rts[ino].leases, LEASE_GROWN, __ATOMIC_SEQ_CST);
        if (kinds != 0)
            recall_inode(t, ino, kinds, from, to);
    }
    return t->nrecalls > 0;
}

void lease_confirm(struct shmfs *fs, struct slot *slot)
{
    lease_recall(fs, slot);
    if (recall_state(slot) == RECALL_LATE)
        txn_resync(fs, slot);
    else
        STORE(&slot->recall.state, slot->recall.state & ~UINT32_C(3)); /* it is no leave to change anything */
    slot->recalled_for = 0;
}

bool shmfs_lease_is_settled(struct shmfs *fs, uint32_t ino)
{
    return likely((LOAD(&fs->inode_rts[ino].leases) & LEASE_GROWN) == 0);
}

void shmfs_lease_settle(struct shmfs *fs, uint32_t ino)
{
    struct inode_rt *rt = &fs->inode_rts[ino];

    for (int naps = 0; naps < TOLD_MS * 1000 / NAP_US && (LOAD(&rt->leases) & LEASE_GROWN) != 0; naps++)
        nap_us(NAP_US);
    if ((LOAD(&rt->leases) & LEASE_GROWN) != 0) /* whoever was to tell it is dead */
        __atomic_fetch_and(&rt->leases, ~(uint32_t)LEASE_GROWN, __ATOMIC_SEQ_CST);
}

/* ---- grants -------------------------------------------------------------------------------------- */

static bool leases_given(const struct shmfs *fs)
{
    return (LOAD_RELAXED(&fs->rt->driver_mode) & DRIVER_LEASES) != 0;
}

/* What it had of mounts that are gone, is nothing now. */
static void renew(const struct shmfs *fs, struct inode_rt *rt)
{
    if (likely(of_this_mount(fs, rt)))
        return;
    rt->nlookup = 0;
    STORE_RELAXED(&rt->leases, 0u);
    rt->epoch = (uint32_t)LOAD_RELAXED(&fs->rt->mount_epoch);
}

static bool is_cooling(const struct inode_rt *rt)
{
    uint32_t until = LOAD_RELAXED(&rt->cool);

    return unlikely(until != 0) && lease_is_before(now_ms(), until);
}

uint32_t lease_give(struct txn *t, uint32_t ino, uint32_t kinds)
{
    struct inode_rt *rt = &t->fs->inode_rts[ino];

    if (!leases_given(t->fs))
        return 0;
    renew(t->fs, rt);
    if (unlikely(LOAD_RELAXED(&rt->wanted) != 0) && !lease_is_before(now_ms(), LOAD(&rt->wanted)))
        STORE(&rt->wanted, 0u); /* who wanted it is dead: the number would come round again */
    if ((kinds & LEASE_ATTR) != 0 && is_cooling(rt))
        kinds ^= LEASE_ATTR | LEASE_ASKED;
    if (kinds == 0)
        return 0;
    if ((kinds & ~LEASE_CONFIRM) != 0)
        rt->grants++;
    if ((kinds & LEASE_WRITTEN) != 0 && unlikely((LOAD_RELAXED(&rt->leases) & LEASE_AGE) != 0))
        __atomic_fetch_and(&rt->leases, ~(uint32_t)LEASE_AGE, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&rt->leases, kinds, __ATOMIC_SEQ_CST);
    return kinds & ~LEASE_CONFIRM;
}

bool lease_give_name(struct txn *t, uint32_t dir, uint32_t ino)
{
    if (!leases_given(t->fs) || is_cooling(&t->fs->inode_rts[dir]))
        return false;
    t->fs->inode_rts[ino].grants++;
    return true;
}

bool lease_give_absent(struct txn *t, uint32_t dir, uint64_t key)
{
    struct inode_rt *rt = &t->fs->inode_rts[dir];
    uint64_t bit, *word = absent_word(t->fs, dir, key, &bit);

    if (!leases_given(t->fs) || is_cooling(rt))
        return false;
    renew(t->fs, rt);
    rt->grants++;
    __atomic_fetch_or(&rt->leases, LEASE_ABSENT, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST);
    return true;
}

/*
 * A read of the mount holds back while a writer waits for its turn. True: the kernel is being told to drop the
 * pages of this inode, and began with it after this read had come: it will drop what this one brings, too, and
 * LEASE_GOING stands for it until then.
 */
static bool hold_back(const struct inode_rt *rt, uint16_t before, bool pages)
{
    for (int naps = 0; naps < HOLD_US / NAP_US && lease_is_before(now_ms(), LOAD(&rt->wanted)); naps++) {
        uint16_t now = LOAD(&rt->dropping);

        if (pages && (now & 1) != 0 && (before & 1) == 0 && now == (uint16_t)(before + 1))
            return true;
        nap_us(NAP_US);
    }
    return false;
}

/*
 * Who lists a directory has the kernel's lock of it, for which the drop waits, and so cannot hold back. While a writer
 * waits for its turn he gets no lease: instead the kernel is not to keep what it has of that listing, at its end.
 */
static int grant_listing(struct txn *t, uint32_t ino)
{
    struct inode_rt *rt = &t->fs->inode_rts[ino];

    if (!lease_is_before(now_ms(), LOAD(&rt->wanted)))
        return (int)lease_give(t, ino, LEASE_DATA);
    renew(t->fs, rt);
    __atomic_fetch_or(&rt->leases, LEASE_OLD, __ATOMIC_SEQ_CST);
    return 0;
}

bool shmfs_lease_listing_is_old(struct shmfs *fs, uint32_t ino)
{
    return (LOAD(&fs->inode_rts[ino].leases) & (LEASE_OLD | LEASE_GOING)) != 0;
}

int shmfs_lease_grant(struct shmfs *fs, uint32_t ino, unsigned kinds)
{
    struct inode_rt *rt = &fs->inode_rts[ino];
    bool goes_along = false, listing;
    uint16_t before;
    struct txn t;
    int r;

    if (!leases_given(fs) || !region_inode_ok(fs, ino))
        return 0;
    before = LOAD(&rt->dropping);
    if (likely(LOAD(&rt->wanted) == 0) && (LOAD(&rt->leases) & kinds) == kinds && of_this_mount(fs, rt))
        return (int)kinds;
    listing = kinds == LEASE_DATA && is_dir(fs, ino);
    if ((kinds & (LEASE_DATA | LEASE_ACL)) != 0 && !is_dir(fs, ino))
        goes_along = hold_back(rt, before, kinds == LEASE_DATA);
    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    r = txn_lock_inode(&t, ino);
    if (r == 0 && goes_along) {
        /*
         * No flag: the page is dropped, or LEASE_REST stands for it. But a writer that looked before the drop began may
         * be at its change still, hence the lock; and one to whom this page was dropped before must recall it again.
         */
        rt->grants++;
        r = (int)kinds;
    } else if (r == 0) {
        r = listing ? grant_listing(&t, ino) : (int)lease_give(&t, ino, kinds);
    }
    txn_commit(&t);
    return r;
}

/* ---- appends ------------------------------------------------------------------------------------- */

void lease_turn(struct txn *t, uint32_t ino, bool half_way)
{
    struct inode_rt *rt = &t->fs->inode_rts[ino];

    if (unlikely(half_way) || unlikely(rt->turn != 0))
        STORE(&rt->turn, half_way ? (uint16_t)now_ms() : 0);
}

static bool turn_goes_on(const struct inode_rt *rt)
{
    uint16_t since = LOAD(&rt->turn);

    return since != 0 && (uint16_t)((uint16_t)now_ms() - since) < TURN_MS;
}

void shmfs_lease_half_done(struct shmfs *fs, uint32_t ino)
{
    struct inode_rt *rt = &fs->inode_rts[ino];

    if (unlikely(LOAD(&rt->turn) != 0))
        STORE(&rt->turn, (uint16_t)now_ms());
}

bool lease_turn_taken(struct txn *t, uint32_t ino)
{
    const struct inode_rt *rt = &t->fs->inode_rts[ino];

    return unlikely(LOAD_RELAXED(&rt->turn) != 0) && !for_kernel && of_this_mount(t->fs, rt) &&
           turn_goes_on(rt);
}

void lease_turn_wait(struct shmfs *fs, uint32_t ino)
{
    const struct inode_rt *rt = &fs->inode_rts[ino];

    for (int naps = 0; naps < TURN_MS * 1000 / NAP_US && turn_goes_on(rt); naps++)
        nap_us(NAP_US);
}

void lease_reset(struct shmfs *fs, uint32_t mode)
{
    memset(fs->absent, 0, ABSENT_BYTES);
    STORE(&fs->rt->resync, 0u);
    STORE(&fs->rt->driver_late, 0u);
    STORE(&fs->rt->driver_mode, mode);
}
