/* SPDX-License-Identifier: MIT */
#include "inode.h"

#include <time.h>

/* ---- reading ----------------------------------------------------------------------------------- */

enum {
    READING_TRIES = 8,     /* without the lock */
    READING_SPINS = 500,   /* for the sequence to become even, in each of them */
    READING_PATIENCE = 20, /* of a read-only attach, in naps of READING_NAP_US */
    READING_NAP_US = 1000,
};

static int reading_lock(struct reading *rd)
{
    int r;

    if (rd->fs->readonly) {
        if (rd->tries > READING_TRIES + READING_PATIENCE)
            return -EAGAIN;
        nap_us(READING_NAP_US);
        rd->seq = LOAD(&rd->fs->inode_rts[rd->ino].seq);
        region_reading++;
        rd->guarded = true;
        return 0;
    }
    r = txn_begin(rd->fs, &rd->txn);
    if (r < 0)
        return r;
    r = txn_lock_inode(&rd->txn, rd->ino);
    if (r < 0) {
        txn_abort(&rd->txn);
        return r;
    }
    rd->locked = true;
    return 0;
}

int reading_begin_slowly(struct reading *rd)
{
    if (!region_inode_ok(rd->fs, rd->ino))
        return -ESTALE;
    if (likely(rd->tries < READING_TRIES)) {
        for (int i = 0; i < READING_SPINS; i++) {
            rd->seq = LOAD(&rd->fs->inode_rts[rd->ino].seq);
            if (likely((rd->seq & 1) == 0)) {
                region_reading++;
                rd->guarded = true;
                return 0;
            }
            cpu_pause();
        }
        rd->tries = READING_TRIES;
    }
    return reading_lock(rd);
}

/* What was read under the lock. */
bool reading_again_slowly(struct reading *rd)
{
    assert(rd->locked);
    txn_abort(&rd->txn);
    rd->locked = false;
    return false;
}

int inode_is_valid(const struct inode *in)
{
    uint32_t mode = LOAD_RELAXED(&in->mode);

    if (mode == 0)
        return -ESTALE;
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        break;
    default:
        return -EUCLEAN;
    }
    return (int64_t)in->size < 0 || in->map_level > MAP_LEVELS_MAX || in->map_count > INODE_EXTENTS ? -EUCLEAN
                                                                                                    : 0;
}

int inode_head(struct shmfs *fs, uint32_t ino, uint32_t generation, struct inode *ret)
{
    const struct inode *in;
    struct reading rd;
    int r;

    if (!region_inode_ok(fs, ino))
        return -EUCLEAN;
    in = inode_at(fs, ino);
    reading_init(&rd, fs, ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(in);
        if (r == 0 && in->generation != generation)
            r = -ESTALE;
        memcpy(ret, in, offsetof(struct inode, root));
    } while (reading_again(&rd));
    return r;
}

static struct timespec to_timespec(struct stamp s)
{
    return (struct timespec){ .tv_sec = s.sec, .tv_nsec = s.nsec };
}

void inode_attr(const struct shmfs *fs, uint32_t ino, struct shmfs_attr *ret)
{
    const struct inode *in = inode_at(fs, ino);
    bool dir = S_ISDIR(in->mode);

    *ret = (struct shmfs_attr){
        .ino = ino,
        .generation = in->generation,
        .mode = in->mode,
        .nlink = in->nlink,
        .uid = in->uid,
        .gid = in->gid,
        .rdev = in->rdev,
        .size = dir ? in->blocks * BLOCK_SIZE : in->size,
        .blocks = in->blocks * (BLOCK_SIZE / 512),
        .version = in->version,
        .atime = to_timespec(in->atime),
        .mtime = to_timespec(in->mtime),
        .ctime = to_timespec(in->ctime),
        .btime = to_timespec(in->btime),
    };
}

/* ---- changing ---------------------------------------------------------------------------------- */

int inode_lock(struct txn *t, uint32_t ino, struct inode **ret_in)
{
    int r = txn_lock_inode(t, ino);

    if (r < 0)
        return r;
    r = inode_is_valid(inode_at(t->fs, ino));
    if (r < 0)
        return r;
    *ret_in = inode_at(t->fs, ino);
    return 0;
}

struct inode *inode_edit(struct txn *t, uint32_t ino)
{
    struct inode *in = inode_at(t->fs, ino);
    struct held *h = txn_touch(t, ino);

    if (!h->saved) {
        txn_save(t, in, offsetof(struct inode, root));
        h->saved = true;
    }
    return in;
}

struct stamp inode_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (struct stamp){ .sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec };
}

struct stamp inode_now(struct txn *t)
{
    if (t->now.sec == 0)
        t->now = inode_clock();
    return t->now;
}

void inode_changed(struct txn *t, struct inode *in, enum inode_change what)
{
    in->ctime = inode_now(t);
    if (what == CHANGE_DATA)
        in->mtime = in->ctime;
    in->version++;
}

int inode_make(struct txn *t, uint32_t near, mode_t mode, uid_t uid, gid_t gid, uint32_t *ret_ino)
{
    uint32_t ino;
    int r = alloc_inode(t, near, &ino);

    if (r < 0)
        return r;
    struct inode *in = inode_at(t->fs, ino);
    struct stamp now = inode_now(t);
    struct held *h = txn_touch(t, ino);

    txn_save(t, &in->mode,
             sizeof(in->mode) + sizeof(in->generation)); /* all else of a free inode is nothing */
    h->saved = true;
    if (unlikely(t->fs->inode_rts[ino].ranges != 0)) /* of the file before */
        TXN_SET(t, &t->fs->inode_rts[ino].ranges, 0);
    *in = (struct inode){
        .mode = mode,
        .generation = in->generation,
        .nlink = S_ISDIR(mode) ? 2 : 1,
        .uid = uid,
        .gid = gid,
        .version = in->version + 1,
        .atime = now,
        .mtime = now,
        .ctime = now,
        .btime = now,
    };
    *ret_ino = ino;
    return 0;
}

/* ---- use and the end of it --------------------------------------------------------------------- */

bool inode_used(const struct shmfs *fs, uint32_t ino, uint32_t except)
{
    return lease_lookups(fs, ino) > 0 || use_any(fs, ino, 0, except);
}

void inode_count_lookups(struct txn *t, uint32_t ino, int64_t n)
{
    struct inode_rt *rt = &t->fs->inode_rts[ino];
    uint64_t now = lease_lookups(t->fs, ino);

    txn_save(t, &rt->nlookup, sizeof(rt->nlookup) + sizeof(rt->epoch));
    if (rt->epoch != (uint32_t)LOAD_RELAXED(&t->fs->rt->mount_epoch))
        lease_forget(t, ino); /* what an older mount had of it */
    rt->nlookup = n < 0 ? now - MIN(now, (uint64_t)-n) : now + (uint64_t)n;
    rt->epoch = (uint32_t)LOAD_RELAXED(&t->fs->rt->mount_epoch);
}

static int chain_step(struct txn *t, uint32_t ino, struct blkref *head, uint32_t *count)
{
    const struct xattr_block *xb = region_block(t->fs, *head);

    if (xb == NULL || xb->magic != XATTR_MAGIC || xb->owner.n != ino)
        return -EUCLEAN;
    struct blkref next = xb->next;
    int r = alloc_free(t, *head, 1);
    if (r < 0)
        return r;
    *head = next;
    *count -= *count > 0;
    return 1;
}

/* Frees an inode's blocks, then its attributes, then its number. */
static int reap_step(struct txn *t, uint32_t ino)
{
    struct inode *in = inode_edit(t, ino);
    int r;

    r = map_cut(t, ino, in, 0, UINT64_MAX);
    if (r != 0)
        return r;
    if (in->xattr.n != 0) {
        in->blocks--;
        return chain_step(t, ino, &in->xattr, &in->xattr_blocks);
    }
    r = alloc_inode_free(t, ino);
    if (r < 0)
        return r;
    in->mode = 0;
    in->generation++;
    return 0;
}

/* A replaced chain hangs on nothing but the todo record, which therefore moves with each step. */
static int free_chain_step(struct txn *t, uint32_t ino)
{
    struct blkref head = { (uint32_t)t->slot->todo.from };
    uint32_t unused = 0;
    int r;

    if (head.n == 0)
        return 0;
    r = chain_step(t, ino, &head, &unused);
    if (r > 0)
        txn_todo(t, TODO_CHAIN, ino, head.n, 0);
    return r;
}

/* 1: there is more to do. */
static int todo_step(struct txn *t, const struct todo *todo)
{
    uint32_t ino = todo->ino.n;

    if (!txn_holds(t, HELD_INODE, ino))
        return -EUCLEAN;
    switch (todo->op) {
    case TODO_REAP:
        return reap_step(t, ino);
    case TODO_TRIM:
        return map_cut(t, ino, inode_edit(t, ino), todo->from, todo->to);
    case TODO_CHAIN:
        return free_chain_step(t, ino);
    default:
        return -EUCLEAN;
    }
}

void inode_settle(struct txn *t)
{
    if (t->slot->todo.op == TODO_NONE)
        return;
    txn_checkpoint(t);
    txn_release_others(t, t->slot->todo.ino.n); /* the name is gone; nobody need wait for the rest */
    for (;;) {
        struct todo todo = t->slot->todo;
        int r = todo_step(t, &todo);

        if (r < 0) {
            int waited = txn_retreat(t);

            if (r == -EAGAIN && waited == 0)
                continue;
            r = -EUCLEAN;
        }
        if (r <= 0) {
            txn_todo(t, TODO_NONE, 0, 0, 0);
            txn_checkpoint(t);
            return;
        }
        /* Groups are not collected: with one held, the next could only be tried. */
        if (txn_room(t) < SLOT_LOG / 2 || txn_groups_held(t) > 1)
            txn_checkpoint(t);
    }
}

/*
 * Frees a small inode in the transaction that took its last name: a few runs of blocks, no nodes and no
 * attributes, so that each step fails before it has changed anything, or not at all. False: some is left.
 */
static bool reap_at_once(struct txn *t, uint32_t ino)
{
    const struct inode *in = inode_at(t->fs, ino);
    int r = 1;

    if (in->map_level != 0 || in->xattr.n != 0)
        return false;
    for (int steps = 0; r == 1 && steps <= INODE_EXTENTS; steps++)
        r = reap_step(t, ino);
    t->busy_group = r < 0 ? NO_GROUP : t->busy_group; /* nobody need wait for it: a chain goes on */
    return r == 0;
}

void inode_reap_if_unused(struct txn *t, uint32_t ino)
{
    const struct inode *in = inode_at(t->fs, ino);

    if (in->mode == 0 || in->nlink != 0)
        return;
    /* Who comes to open it from here on sees an odd sequence and steps back (LOCKING, "Uses"). */
    txn_touch(t, ino);
    if (!inode_used(t->fs, ino, NO_USE) && !reap_at_once(t, ino))
        txn_todo(t, TODO_REAP, ino, 0, 0);
}
