/* SPDX-License-Identifier: MIT */
#include <sys/stat.h>

#include "lease.h"

/* The driver's side of recalls: what there is to drop. Takes no lock of an inode (I13). */

enum {
    COOL_MS = 10,
    DOUBT_MS = 1000, /* for which a write may be on its way to us, at most */
};

static uint32_t now_ms(void)
{
    return (uint32_t)(lock_now_ns() / 1000000);
}

static bool is_dir(const struct shmfs *fs, uint32_t ino)
{
    return S_ISDIR(LOAD_RELAXED(&fs->inodes[ino].mode));
}

/* Names and attributes are not leased for a while. Returns whether that was so already. */
static bool cool_down(struct inode_rt *rt)
{
    uint32_t now = now_ms(), was = LOAD_RELAXED(&rt->cool);

    STORE(&rt->cool, (now + COOL_MS) | 1);
    return lease_is_before(now, was);
}

/* Clears leases; until the kernel has dropped what they stood for, who wants to change it waits for that. */
static void leases_take(struct inode_rt *rt, uint32_t clear)
{
    uint32_t was = LOAD(&rt->leases);

    while (!__atomic_compare_exchange_n(&rt->leases, &was, (was & ~clear) | LEASE_GOING, true,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}

static void leases_taken(struct shmfs *fs, uint32_t ino, uint32_t what)
{
    __atomic_fetch_and(&fs->inode_rts[ino].leases, ~what, __ATOMIC_SEQ_CST);
}

/* Who writes no more through the mount need not be told for ever. */
static void written_grow_old(struct inode_rt *rt)
{
    uint32_t was = LOAD(&rt->leases), is;

    do
        is = (was & LEASE_AGE) == LEASE_AGE ? was & ~(uint32_t)(LEASE_AGE | LEASE_WRITTEN)
                                            : was + (LEASE_AGE & -LEASE_AGE);
    while (!__atomic_compare_exchange_n(&rt->leases, &was, is, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
}

/* It has changed, and who changed it is about to return. */
static void inode_confirm(struct shmfs *fs, const struct recall_inode *ri, struct shmfs_drop_inode *ret)
{
    struct inode_rt *rt = &fs->inode_rts[ri->ino.n];
    uint64_t to = MIN(ri->to, (uint64_t)INT64_MAX);

    cool_down(rt);
    *ret = (struct shmfs_drop_inode){ .ino = ri->ino.n, .dir = is_dir(fs, ri->ino.n), .confirms = true };
    if ((ri->kinds & LEASE_WRITTEN) != 0 && ri->from < to)
        *ret = (struct shmfs_drop_inode){
            .ino = ri->ino.n, .confirms = true, .pages = true, .from = ri->from, .len = to - ri->from
        };
    if (ret->pages)
        written_grow_old(rt);
    leases_take(rt, LEASE_ASKED);
}

/* Before the kernel is told (I14). Of a part of a file, clears only if there was a recall just before. */
static void inode_take(struct shmfs *fs, const struct recall_inode *ri, struct shmfs_drop_inode *ret)
{
    struct inode_rt *rt = &fs->inode_rts[ri->ino.n];
    bool again = cool_down(rt), dir = is_dir(fs, ri->ino.n);
    bool whole = again || dir || (ri->from == 0 && ri->to == LEASE_ALL);
    uint32_t clear = ri->kinds & (LEASE_ATTR | LEASE_ACL);

    *ret = (struct shmfs_drop_inode){ .ino = ri->ino.n, .pages = (ri->kinds & LEASE_PAGES) != 0, .dir = dir };
    if (ret->pages)
        clear |= whole ? LEASE_PAGES | LEASE_OLD : (uint32_t)LEASE_DATA;
    if (ret->pages && !whole) {
        ret->from = MIN(ri->from, (uint64_t)INT64_MAX);
        ret->len = ri->to > INT64_MAX ? 0 : MAX(ri->to, ri->from + 1) - ri->from;
        __atomic_fetch_or(&rt->leases, LEASE_REST, __ATOMIC_SEQ_CST); /* before the other is cleared */
    }
    leases_take(rt, clear | LEASE_ASKED);
    if (ret->pages &&
        (LOAD_RELAXED(&rt->dropping) & 1) == 0) /* last: a read that sees it may count on LEASE_GOING */
        __atomic_fetch_add(&rt->dropping, 1, __ATOMIC_SEQ_CST);
}

static bool name_take(struct shmfs *fs, const struct recall_name *rn, struct shmfs_drop_name *ret)
{
    if (rn->len == 0 || memchr(rn->name, 0, rn->len) != NULL || !region_inode_ok(fs, rn->dir.n))
        return false;
    cool_down(&fs->inode_rts[rn->dir.n]);
    ret->dir = rn->dir.n;
    ret->len = rn->len;
    memcpy(ret->name, rn->name, rn->len);
    ret->name[rn->len] = 0;
    return true;
}

/* Whoever posted may be gone, and the slot be another's: at worst something is dropped for nothing. */
static bool slot_take(struct shmfs *fs, uint32_t index, struct shmfs_drop *ret)
{
    struct recall rc;
    uint32_t word = LOAD(&fs->slots[index].recall.state);

    if ((word & 3) != RECALL_POSTED)
        return false;
    memcpy(&rc, &fs->slots[index].recall, sizeof(rc));
    *ret = (struct shmfs_drop){ .slot = index, .post = word };
    for (uint32_t i = 0; i < MIN(rc.nnames, (uint32_t)RECALL_NAMES); i++)
        ret->nnames += name_take(fs, &rc.names[i], &ret->names[ret->nnames]);
    rc.ninodes = MIN(rc.ninodes, (uint32_t)RECALL_INODES);
    /* First who waited for the drop before this one: an inode may be listed twice, and is taken below. */
    for (uint32_t i = 0; i < rc.ninodes; i++) {
        if (rc.inodes[i].kinds == LEASE_GOING && region_inode_ok(fs, rc.inodes[i].ino.n))
            leases_taken(fs, rc.inodes[i].ino.n, LEASE_GOING);
    }
    for (uint32_t i = 0; i < rc.ninodes; i++) {
        if (rc.inodes[i].kinds == LEASE_GOING || !region_inode_ok(fs, rc.inodes[i].ino.n))
            continue;
        if ((rc.inodes[i].kinds & LEASE_CONFIRM) != 0)
            inode_confirm(fs, &rc.inodes[i], &ret->inodes[ret->ninodes++]);
        else
            inode_take(fs, &rc.inodes[i], &ret->inodes[ret->ninodes++]);
    }
    return true;
}

/* A slot of those that share the bit; if more have posted it is set again. */
static bool bit_take(struct shmfs *fs, uint32_t bit, struct shmfs_drop *ret)
{
    bool got = false;

    __atomic_fetch_and(&fs->rt->recall_map[bit / 64], ~(UINT64_C(1) << bit % 64), __ATOMIC_SEQ_CST);
    for (uint32_t i = bit; i < fs->l.nslots; i += RECALL_WORDS * 64) {
        if (got && (LOAD(&fs->slots[i].recall.state) & 3) == RECALL_POSTED)
            __atomic_fetch_or(&fs->rt->recall_map[bit / 64], UINT64_C(1) << bit % 64, __ATOMIC_SEQ_CST);
        got = got || slot_take(fs, i, ret);
    }
    return got;
}

int shmfs_lease_next(struct shmfs *fs, int timeout_ms, struct shmfs_drop *ret)
{
    for (bool waited = false;; waited = true) {
        uint32_t bell = LOAD(&fs->rt->recall_bell);

        if (LOAD_RELAXED(&fs->rt->driver_late) != 0)
            STORE(&fs->rt->driver_late, 0u); /* here we are */
        if (__atomic_exchange_n(&fs->rt->resync, 0, __ATOMIC_SEQ_CST) != 0) {
            *ret = (struct shmfs_drop){ .everything = true };
            return 1;
        }
        for (uint32_t i = 0; i < RECALL_WORDS * 64; i++) {
            uint32_t bit = (fs->recall_last + 1 + i) % (RECALL_WORDS * 64); /* all have their turn */
            uint64_t word = LOAD_RELAXED(&fs->rt->recall_map[bit / 64]);

            if (word == 0)
                i += 63 - bit % 64; /* nor is there another in it */
            else if ((word >> bit % 64 & 1) != 0 && bit_take(fs, bit, ret)) {
                fs->recall_last = bit;
                return 1;
            }
        }
        if (waited)
            return 0;
        lock_futex_wait32(&fs->rt->recall_bell, bell, timeout_ms * 1000L);
    }
}

bool shmfs_lease_next_listing(struct shmfs *fs, uint32_t ino, struct shmfs_drop *ret)
{
    const struct recall_inode ri = { .ino = { ino }, .kinds = LEASE_PAGES, .to = LEASE_ALL };

    if (!region_inode_ok(fs, ino) || (LOAD(&fs->inode_rts[ino].leases) & LEASE_OLD) == 0)
        return false;
    *ret = (struct shmfs_drop){ .ninodes = 1 };
    inode_take(fs, &ri, &ret->inodes[0]);
    return true;
}

void shmfs_lease_dropped(struct shmfs *fs, const struct shmfs_drop *drop)
{
    uint32_t posted = drop->post;

    for (unsigned i = 0; i < drop->ninodes; i++) {
        uint16_t *dropping = &fs->inode_rts[drop->inodes[i].ino].dropping;

        if ((LOAD_RELAXED(dropping) & 1) != 0) /* by us, and nobody else */
            __atomic_fetch_add(dropping, 1, __ATOMIC_SEQ_CST);
        leases_taken(fs, drop->inodes[i].ino,
                     LEASE_GOING | (drop->inodes[i].confirms ? (uint32_t)LEASE_GROWN : 0));
    }
    STORE(&fs->rt->driver_late, 0u);
    if (drop->everything || drop->post == 0)
        return;
    struct recall *rc = &fs->slots[drop->slot].recall;
    if (CAS(&rc->state, &posted, (posted & ~UINT32_C(3)) | RECALL_DONE))
        lock_futex_wake32(&rc->state, 1);
}

bool shmfs_lease_dropped_lately(struct shmfs *fs, uint32_t ino)
{
    uint32_t cool = LOAD_RELAXED(&fs->inode_rts[ino].cool);

    return unlikely(cool != 0) && lease_is_before(now_ms(), cool + DOUBT_MS);
}

bool shmfs_lease_has_pages(struct shmfs *fs, uint32_t ino)
{
    return (LOAD(&fs->inode_rts[ino].leases) & LEASE_PAGES) != 0;
}

uint64_t shmfs_lease_size(struct shmfs *fs, uint32_t ino)
{
    const struct inode *in = &fs->inodes[ino];

    return S_ISREG(LOAD_RELAXED(&in->mode)) ? LOAD_RELAXED(&in->size) : 0;
}

void shmfs_lease_stop(struct shmfs *fs)
{
    STORE(&fs->rt->driver_mode, LOAD(&fs->rt->driver_mode) & ~(uint32_t)DRIVER_LEASES);
}

bool shmfs_lease_looked_up(struct shmfs *fs, uint32_t ino)
{
    return ino == SHMFS_ROOT || (region_inode_ok(fs, ino) && lease_lookups(fs, ino) > 0);
}

/* Inodes that were never given out have no memory behind them. */
static bool is_reserved(const struct shmfs *fs, uint32_t ino)
{
    uint32_t group = ino / fs->l.group_inodes, bit = ino % fs->l.group_inodes;

    return (fs->group_rts[group].inode_reserved >> (bit / INODE_CHUNK) & 1) != 0;
}

bool shmfs_lease_each(struct shmfs *fs, uint32_t *ino, bool *ret_dir)
{
    if (*ino != 0)
        leases_taken(fs, *ino, LEASE_GOING | LEASE_GROWN); /* the one before is dropped */
    while (++*ino < fs->l.ninodes) {
        if (!is_reserved(fs, *ino)) {
            *ino |= INODE_CHUNK - 1; /* the next may be */
            continue;
        }
        if (!shmfs_lease_looked_up(fs, *ino))
            continue;
        leases_take(&fs->inode_rts[*ino], LEASE_PAGES | LEASE_OLD | LEASE_ATTR | LEASE_ACL | LEASE_ASKED);
        *ret_dir = is_dir(fs, *ino);
        return true;
    }
    return false;
}
