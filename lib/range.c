/* SPDX-License-Identifier: MIT */
#include "range.h"

#include <fcntl.h>
#include <limits.h>
#include <time.h>

enum {
    NAP_US = 50000,           /* a waiter looks again at least so often */
    CIRCLE_NS = 2 * 50000000, /* a circle of waiters that stands for so long is one */
    CIRCLE_HOPS = 64,
    SPARE = 2, /* records that a change may need: a lock in the middle of another splits it */
};

/* ---- records ----------------------------------------------------------------------------------- */

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void record_free(struct range *r)
{
    r->ino.n = 0;
    r->kind = 0; /* nor does it say any more that somebody waits */
    ORDER();
    STORE(&r->owner.v, UINT64_C(0));
}

/* A record of ours that hangs nowhere: should we die now, whoever buries us frees it. */
static struct range *record_take(struct shmfs *fs)
{
    uint32_t start = proc_index(fs->self) * 61;

    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        struct range *r = &fs->ranges[(start + i) % fs->l.nranges];
        uint64_t none = 0;

        if (LOAD_RELAXED(&r->owner.v) == 0 && CAS(&r->owner.v, &none, fs->self.v)) {
            r->kind = 0; /* what it was before says nothing any more */
            r->ino.n = 0;
            return r;
        }
    }
    return NULL;
}

static uint32_t record_index(const struct shmfs *fs, const struct range *r)
{
    return (uint32_t)(r - fs->ranges) + 1;
}

/* The record that a link names; NULL at the end, and where it cannot be one of this inode. */
static struct range *record_at(const struct shmfs *fs, uint32_t link, uint32_t ino)
{
    if (link == 0 || link > fs->l.nranges || fs->ranges[link - 1].ino.n != ino)
        return NULL;
    return &fs->ranges[link - 1];
}

static bool same_class(uint32_t a, uint32_t b)
{
    return (a == SHMFS_LOCK_FLOCK) == (b == SHMFS_LOCK_FLOCK);
}

static bool ours(const struct shmfs *fs, const struct range *r, const struct shmfs_range *want)
{
    return r->owner.v == fs->self.v && r->key == want->key && r->kind == want->kind;
}

static bool overlaps(const struct range *r, const struct shmfs_range *want)
{
    return r->start <= want->end && want->start <= r->end;
}

/* Under the inode's lock: of the locks of others that are in the way, the one that begins first. */
static struct range *in_the_way(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want)
{
    struct range *r = record_at(fs, fs->inode_rts[ino].ranges, ino), *first = NULL;

    for (uint32_t n = 0; r != NULL && n < fs->l.nranges; n++, r = record_at(fs, r->next, ino)) {
        if (overlaps(r, want) && same_class(r->kind, want->kind) && !ours(fs, r, want) &&
            (r->type == F_WRLCK || want->type == F_WRLCK) && (first == NULL || r->start < first->start))
            first = r;
    }
    return first;
}

/* ---- changing ---------------------------------------------------------------------------------- */

/* What one change takes out of the chain, to be freed once that is committed, and what it may put in. */
struct change {
    struct txn *t;
    uint32_t ino;
    struct range *spare[SPARE];
    uint32_t nspare;
    uint32_t dropped; /* chain of records taken out, through a list of their own */
    bool freed_some;  /* others may get through now */
};

static void link_record(struct change *c, struct range *r, uint64_t start, uint64_t end,
                        const struct range *like)
{
    struct inode_rt *rt = &c->t->fs->inode_rts[c->ino];

    r->key = like->key;
    r->start = start;
    r->end = end;
    r->pid = like->pid;
    r->type = like->type;
    r->kind = like->kind;
    r->since = like->since;
    r->next = rt->ranges;
    ORDER();
    r->ino.n = c->ino;
    TXN_SET(c->t, &rt->ranges, record_index(c->t->fs, r));
}

static void unlink_record(struct change *c, struct range *prev, struct range *r)
{
    struct shmfs *fs = c->t->fs;

    if (prev != NULL)
        TXN_SET(c->t, &prev->next, r->next);
    else
        TXN_SET(c->t, &fs->inode_rts[c->ino].ranges, r->next);
    TXN_SET(c->t, &r->next, c->dropped); /* the undo log has the way it was */
    c->dropped = record_index(fs, r);
    c->freed_some = true;
}

/* Takes [start, end] out of one record of ours. 1: the record is out of the chain altogether. */
static int cut(struct change *c, struct range *prev, struct range *r, uint64_t start, uint64_t end)
{
    if (r->start < start && r->end > end) {
        if (c->nspare == 0)
            return -ENOLCK;
        link_record(c, c->spare[--c->nspare], end + 1, r->end, r);
        TXN_SET(c->t, &r->end, start - 1);
    } else if (r->start < start) {
        TXN_SET(c->t, &r->end, start - 1);
    } else if (r->end > end) {
        TXN_SET(c->t, &r->start, end + 1);
    } else {
        unlink_record(c, prev, r);
        return 1;
    }
    c->freed_some = true;
    return 0;
}

/* Neighbours of the same kind become one: takes them out, and widens the range by them. */
static bool joins(const struct range *r, uint16_t type, uint64_t start, uint64_t end)
{
    return r->type == type && (end == UINT64_MAX || r->start <= end + 1) &&
           (r->end == UINT64_MAX || r->end + 1 >= start);
}

/* 1: the undo log is full, and what is done so far is to be committed; for giving up only. */
static int apply(struct change *c, const struct shmfs_range *want)
{
    struct shmfs *fs = c->t->fs;
    uint64_t start = want->start, end = want->end;
    struct range *prev = NULL, *r = record_at(fs, fs->inode_rts[c->ino].ranges, c->ino);

    for (uint32_t n = 0; r != NULL && n < fs->l.nranges; n++) {
        struct range *next = record_at(fs, r->next, c->ino);
        int gone = 0;

        if (txn_room(c->t) < 512)
            return want->type == F_UNLCK ? 1 : -ENOLCK;
        if (ours(fs, r, want) && want->type != F_UNLCK && joins(r, (uint16_t)want->type, start, end)) {
            start = MIN(start, r->start);
            end = MAX(end, r->end);
            unlink_record(c, prev, r);
            gone = 1;
        } else if (ours(fs, r, want) && overlaps(r, want)) {
            gone = cut(c, prev, r, want->start, want->end);
        }
        if (gone < 0)
            return gone;
        if (gone == 0)
            prev = r;
        r = next;
    }
    if (want->type == F_UNLCK)
        return 0;
    if (c->nspare == 0)
        return -ENOLCK;
    struct range like = { .key = want->key,
                          .pid = want->pid,
                          .type = (uint16_t)want->type,
                          .kind = (uint16_t)want->kind,
                          .since = now_ns() };
    link_record(c, c->spare[--c->nspare], start, end, &like);
    return 0;
}

static void wake(struct shmfs *fs, uint32_t ino)
{
    struct inode_rt *rt = &fs->inode_rts[ino];

    if (__atomic_exchange_n(&rt->range_waiting, 0, __ATOMIC_SEQ_CST) != 0)
        lock_futex_wake32(&rt->range_seq, INT_MAX);
}

/* Ends the change: what is left over, and what was taken out, is free again. */
static int change_end(struct change *c, int r)
{
    struct shmfs *fs = c->t->fs;

    if (r >= 0 && c->freed_some)
        __atomic_add_fetch(&fs->inode_rts[c->ino].range_seq, 1, __ATOMIC_SEQ_CST);
    if (r >= 0)
        txn_commit(c->t);
    else
        r = txn_abort_for(c->t, r);
    for (uint32_t n = 0; r >= 0 && n < fs->l.nranges && c->dropped != 0 && c->dropped <= fs->l.nranges; n++) {
        struct range *out = &fs->ranges[c->dropped - 1];
        c->dropped = LOAD_RELAXED(&out->next);
        if (LOAD(&out->owner.v) == fs->self.v)
            record_free(out);
    }
    while (c->nspare > 0)
        record_free(c->spare[--c->nspare]);
    if (r >= 0 && c->freed_some)
        wake(fs, c->ino);
    return r;
}

/*
 * One try. -EBUSY: somebody is in the way; *ret_blocker says who, *ret_seen what range_seq was then.
 */
static int try_set(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want, struct range *ret_blocker,
                   uint32_t *ret_seen)
{
    struct txn t;
    struct change c = { .t = &t, .ino = ino };
    struct inode *in;
    struct range *other;
    int r;

    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    for (; c.nspare < SPARE; c.nspare++) {
        c.spare[c.nspare] = record_take(fs);
        if (c.spare[c.nspare] == NULL)
            break; /* to give a lock up may need none */
    }
    uint32_t spares = c.nspare;
    struct range *all[SPARE] = { c.spare[0], c.spare[1] };
    r = inode_lock(&t, ino, &in);
    if (r == 0 && want->type != F_UNLCK && (other = in_the_way(fs, ino, want)) != NULL) {
        *ret_blocker = *other;
        *ret_seen = LOAD_RELAXED(&fs->inode_rts[ino].range_seq);
        STORE(&fs->inode_rts[ino].range_waiting, 1u);
        r = -EBUSY;
    } else if (r == 0) {
        r = apply(&c, want);
    }
    if (r < 0) { /* the undo log takes those that were linked out again */
        c.nspare = spares;
        memcpy(c.spare, all, sizeof(all));
    }
    return change_end(&c, r);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

/* Says in a record of its own whom we wait for, so that circles are found. */
static void say_waiting(struct range *me, const struct shmfs_range *want, const struct range *blocker)
{
    me->key = want->key;
    me->pid = want->pid;
    me->kind = (uint16_t)want->kind | RANGE_WAITS;
    me->start = blocker->owner.v;
    STORE(&me->end, blocker->key);
}

/* Whom does this owner wait for? */
static bool waits_for(const struct shmfs *fs, uint64_t *owner, uint64_t *key)
{
    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        const struct range *r = &fs->ranges[i];

        if (LOAD(&r->owner.v) == *owner && r->key == *key && r->kind == (SHMFS_LOCK_POSIX | RANGE_WAITS)) {
            *owner = r->start;
            *key = r->end;
            return true;
        }
    }
    return false;
}

static bool in_a_circle(const struct shmfs *fs, const struct shmfs_range *want, const struct range *blocker)
{
    uint64_t owner = blocker->owner.v, key = blocker->key;

    for (int hops = 0; hops < CIRCLE_HOPS; hops++) {
        if (owner == fs->self.v && key == want->key)
            return true;
        if (!waits_for(fs, &owner, &key))
            return false;
    }
    return false;
}

int range_set(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want, int timeout_ms)
{
    uint64_t start = lock_now_ns(), circle = 0, now;
    struct range *me = NULL, blocker;
    bool gave_up = false;
    uint32_t seen = 0;
    int r;

    for (;;) {
        do
            r = try_set(fs, ino, want, &blocker, &seen);
        while (r == -EAGAIN || r == 1);
        now = lock_now_ns();
        if (r != -EBUSY)
            break;
        if (!proc_alive(fs, blocker.owner)) {
            r = range_drop_all(fs, blocker.owner);
            if (r < 0)
                break;
            continue;
        }
        if (want->kind == SHMFS_LOCK_FLOCK && !gave_up) {
            /* flock(2): what one had is given up before one waits for the other kind, or fails */
            struct shmfs_range all = *want;
            all.type = F_UNLCK;
            gave_up = true;
            r = range_set(fs, ino, &all, 0);
            if (r < 0)
                break;
            continue;
        }
        if (timeout_ms == 0)
            break;
        uint64_t left_us = timeout_ms < 0 ? NAP_US : 0, end = start + (uint64_t)MAX(timeout_ms, 0) * 1000000;
        if (timeout_ms > 0 && now < end)
            left_us = MIN((end - now) / 1000 + 1, (uint64_t)NAP_US);
        if (left_us == 0)
            break;
        if (want->kind == SHMFS_LOCK_POSIX && (me != NULL || (me = record_take(fs)) != NULL)) {
            say_waiting(me, want, &blocker);
            if (!in_a_circle(fs, want, &blocker))
                circle = 0;
            else if (circle == 0)
                circle = now; /* perhaps one of them has got through and not said so yet */
            else if (now - circle > CIRCLE_NS) {
                r = -EDEADLK;
                break;
            }
        }
        if (lock_futex_wait32(&fs->inode_rts[ino].range_seq, seen, (long)left_us) == -EINTR) {
            r = -EINTR;
            break;
        }
        if (unlikely(LOAD_RELAXED(&fs->broken)) || !region_fd_ok(fs)) {
            r = -EIO;
            break;
        }
    }
    if (me != NULL)
        record_free(me);
    return r == -EBUSY ? -EAGAIN : r;
}

/* Copies the lock that is in the way; 0: none. */
static int look(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want, struct range *ret)
{
    struct inode *in;
    struct range *other;
    struct txn t;
    int r = txn_begin(fs, &t);

    if (r < 0)
        return r;
    r = inode_lock(&t, ino, &in);
    if (r == 0 && (other = in_the_way(fs, ino, want)) != NULL) {
        *ret = *other;
        r = 1;
    }
    txn_abort(&t);
    return r;
}

int range_get(struct shmfs *fs, uint32_t ino, const struct shmfs_range *want, struct shmfs_range *ret)
{
    struct range other;
    int r;

    while ((r = look(fs, ino, want, &other)) == 1 && !proc_alive(fs, other.owner)) {
        r = range_drop_all(fs, other.owner);
        if (r < 0)
            return r;
    }
    if (r < 0)
        return r;
    if (r == 0)
        *ret = (struct shmfs_range){ .kind = want->kind, .type = F_UNLCK };
    else
        *ret = (struct shmfs_range){ .kind = (enum shmfs_lock_kind)other.kind,
                                     .key = other.key,
                                     .pid = other.pid,
                                     .type = other.type,
                                     .start = other.start,
                                     .end = other.end };
    return 0;
}

/* ---- the dead ---------------------------------------------------------------------------------- */

/* Takes one record of a process out of the chain it is in, if it is in one, and frees it. */
static int drop(struct shmfs *fs, struct range *r, struct procref owner)
{
    uint32_t ino = r->ino.n;
    uint64_t expected = owner.v;
    struct txn t;
    struct change c = { .t = &t, .ino = ino };
    int ret;

    if (region_inode_ok(fs, ino)) {
        ret = txn_begin(fs, &t);
        if (ret < 0)
            return ret;
        ret = txn_lock_inode(&t, ino);
        if (ret < 0 && ret != -EUCLEAN)
            return txn_abort_for(&t, ret);
        if (ret == -EUCLEAN) { /* the inode's lock is damaged: its chain is lost, the record is not */
            txn_abort(&t);
            CAS(&r->owner.v, &expected, UINT64_C(0));
            return 0;
        }
        struct range *prev = NULL, *at = record_at(fs, fs->inode_rts[ino].ranges, ino);
        for (uint32_t n = 0; at != NULL && at != r && n < fs->l.nranges; n++) {
            prev = at;
            at = record_at(fs, at->next, ino);
        }
        if (at == r && LOAD(&r->owner.v) == owner.v)
            unlink_record(&c, prev, r);
        c.dropped = 0; /* freed below, by whoever is first */
        change_end(&c, 0);
    }
    CAS(&r->owner.v, &expected, UINT64_C(0));
    return 0;
}

int range_drop_all(struct shmfs *fs, struct procref owner)
{
    int ret = 0;

    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        int r = LOAD(&fs->ranges[i].owner.v) == owner.v ? drop(fs, &fs->ranges[i], owner) : 0;

        ret = r < 0 ? r : ret;
    }
    return ret;
}
