/* SPDX-License-Identifier: MIT */
#include "namei.h"

#include <dirent.h>
#include <stdio.h> /* RENAME_* */

#include "acl.h"

/* Under its lock: is it the directory that was meant, and may names be added to it? */
static int dir_open_for(const struct inode *dir, struct namei_dir at)
{
    int r = inode_is_valid(dir);

    if (at.generation != NAMEI_ANY && (r == -ESTALE || (r == 0 && dir->generation != at.generation)))
        return -ENOENT; /* removed since, and the number perhaps somebody else's */
    if (r < 0)
        return r;
    if (!S_ISDIR(dir->mode))
        return -ENOTDIR;
    return dir->nlink == 0 ? -ENOENT : 0;
}

/*
 * Under the lock: is the name in the directory? Found: 0, else -ENOENT. `seen` is what was found without the
 * lock, or NULL: as long as the directory has not changed since, that is the answer.
 */
static int find(struct txn *t, uint32_t dino, const struct dir_name *name, const struct dir_entry *seen,
                struct dir_entry *ret)
{
    uint64_t seq = LOAD_RELAXED(&t->fs->inode_rts[dino].seq);
    int r;

    if (likely(seen != NULL && seen->seq == seq && seq != 0)) {
        *ret = *seen;
        return seen->ino != 0 ? 0 : -ENOENT;
    }
    r = dir_find(t->fs, dino, inode_at(t->fs, dino), name, ret);
    ret->seq = (seq & 1) == 0 && (r == 0 || r == -ENOENT) ? seq : 0;
    return r;
}

/* Another inode for an entry whose place is known. */
static void entry_name(struct dir_entry *e, const struct shmfs *fs, uint32_t ino)
{
    const struct inode *in = inode_at(fs, ino);

    e->ino = ino;
    e->generation = in->generation;
    e->type = (uint8_t)IFTODT(in->mode);
}

/* The inode that an entry names, as long as it is the one it was made for. */
static int entry_inode(struct txn *t, const struct dir_entry *e, struct inode **ret)
{
    struct inode *in = inode_at(t->fs, e->ino);

    if (inode_is_valid(in) < 0 || in->generation != e->generation || IFTODT(in->mode) != e->type)
        return -EUCLEAN;
    *ret = in;
    return 0;
}

/* ---- leases ------------------------------------------------------------------------------------ */

/* A name comes or goes in `dir`, which leads to `ino` (0: it is to come): who asks the kernel may still hear of it. */
static bool break_name(struct txn *t, uint32_t dir, const struct dir_name *name, uint32_t ino)
{
    bool wait = lease_break_all(t, dir);

    wait |= lease_break_name(t, dir, ino, name->s, name->len, name->key);
    return wait;
}

/* The same where the link count of `to`, to which the name leads or is to lead, changes with it. */
static bool break_link(struct txn *t, uint32_t dir, const struct dir_name *name, uint32_t ino, uint32_t to)
{
    bool wait = break_name(t, dir, name, ino);

    wait |= lease_break_attr(t, to);
    return wait;
}

/* ---- making ------------------------------------------------------------------------------------ */

static int symlink_set(struct txn *t, uint32_t ino, struct inode *in, const char *target)
{
    size_t len = strnlen(target, BLOCK_SIZE);
    struct blkref blk;
    int r;

    if (len == 0 || len == BLOCK_SIZE)
        return len == 0 ? -ENOENT : -ENAMETOOLONG;
    in->size = len;
    if (len <= INODE_INLINE) {
        in->flags |= INODE_LINK_INLINE;
        memcpy(in->inline_target, target, len); /* the root of a new inode needs no undo */
        return 0;
    }
    r = alloc_block(t, (struct blkref){ 0 }, &blk);
    if (r < 0)
        return r;
    uint8_t *p = region_known_block(t->fs, blk);
    memcpy(p, target, len);
    memset(p + len, 0, BLOCK_SIZE - len);
    in->blocks++;
    return map_insert(t, ino, in, (struct extent){ .pos = 0, .blk = blk, .len = 1 }, false);
}

/* A new inode for directory `dino`, complete but for its name. */
static int make_inode(struct txn *t, uint32_t dino, const struct namei_new *new, uint32_t *ret_ino)
{
    const struct inode *dir = inode_at(t->fs, dino);
    mode_t mode = new->mode;
    gid_t gid = new->maker->gid;
    uint32_t ino;
    int r;

    if ((dir->mode & S_ISGID) != 0) {
        gid = dir->gid;
        if (S_ISDIR(mode))
            mode |= S_ISGID;
    }
    r = inode_make(t, 0, mode, new->maker->uid, gid, &ino);
    if (r < 0)
        return r;
    struct inode *in = inode_at(t->fs, ino);
    in->rdev = new->rdev;
    if (S_ISDIR(mode))
        in->parent.n = dino;
    r = S_ISLNK(mode) ? symlink_set(t, ino, in, new->target)
                      : acl_inherit(t, dino, ino, in, new->maker->umask);
    if (r < 0)
        return r;
    if (new->ref)
        inode_count_lookups(t, ino, 1);
    *ret_ino = ino;
    return 0;
}

static int make(struct txn *t, struct namei_dir at, const struct dir_name *name, const struct dir_entry *seen,
                const struct namei_new *new, uint32_t *ret_ino)
{
    uint32_t parent = at.ino, ino;
    struct inode *dir = inode_at(t->fs, parent);
    struct dir_entry e;
    int r;

    r = txn_lock_inode(t, parent);
    if (r == 0)
        r = dir_open_for(dir, at);
    if (r < 0)
        return r;
    r = find(t, parent, name, seen, &e);
    if (r != -ENOENT)
        return r == 0 ? -EEXIST : r;
    if (S_ISDIR(new->mode) && dir->nlink >= LINK_MAX_COUNT)
        return -EMLINK;
    if (break_name(t, parent, name, 0))
        return -EAGAIN;
    r = make_inode(t, parent, new, &ino);
    if (r < 0)
        return r;
    inode_edit(t, parent);
    entry_name(&e, t->fs, ino);
    r = dir_insert(t, parent, dir, name, &e);
    if (r < 0)
        return r;
    if (S_ISDIR(new->mode))
        dir->nlink++;
    inode_changed(t, dir, CHANGE_DATA);
    *ret_ino = ino;
    if (new->ref && lease_give_name(t, parent, ino))
        t->leases = SHMFS_LEASE_NAME;
    return new->ret_use != NULL ? use_add(t->fs, ino, proc_index(t->fs->self), USE_OPEN, new->ret_use) : 0;
}

/* Ends a transaction that made or linked `ino`. 1: a group was busy, again. */
static int finish(struct txn *t, int r, uint32_t ino, struct shmfs_attr *ret)
{
    if (r < 0) {
        r = txn_abort_for(t, r);
        return r == -EAGAIN ? 1 : r;
    }
    inode_settle(t);
    if (ret != NULL) {
        inode_attr(t->fs, ino, ret);
        ret->leases = t->leases;
    }
    txn_commit(t);
    return 0;
}

/* The transaction that was to make an inode, and to open it, is undone. */
static void unuse_failed(struct shmfs *fs, const struct namei_new *new)
{
    if (new->ret_use != NULL &&*new->ret_use != NO_USE) {
        STORE(use_at(fs, *new->ret_use), UINT64_C(0));
        *new->ret_use = NO_USE;
    }
}

int namei_make(struct shmfs *fs, struct namei_dir parent, const struct dir_name *name,
               const struct dir_entry *seen, const struct namei_new *new, struct shmfs_attr *ret)
{
    int r;

    do {
        uint32_t ino = 0;
        struct txn t;

        r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        r = make(&t, parent, name, seen, new, &ino);
        r = finish(&t, r, ino, ret);
        if (r != 0)
            unuse_failed(fs, new);
    } while (r == 1);
    return r;
}

static int make_nameless(struct txn *t, struct namei_dir parent, const struct namei_new *new,
                         uint32_t *ret_ino)
{
    int r = txn_lock_inode(t, parent.ino);

    if (r == 0)
        r = dir_open_for(inode_at(t->fs, parent.ino), parent);
    if (r == -ENOENT && parent.generation == NAMEI_ANY)
        r = 0; /* it needs no name: as tmpfs, also in a directory that is removed */
    if (r == 0)
        r = make_inode(t, parent.ino, new, ret_ino);
    if (r == 0)
        inode_at(t->fs, *ret_ino)->nlink = 0;
    if (r == 0 && new->ret_use != NULL)
        r = use_add(t->fs, *ret_ino, proc_index(t->fs->self), USE_OPEN, new->ret_use);
    return r;
}

int namei_tmpfile(struct shmfs *fs, struct namei_dir parent, const struct namei_new *new,
                  struct shmfs_attr *ret)
{
    struct shmfs_attr attr;
    int r;

    do {
        uint32_t ino = 0;
        struct txn t;

        r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        r = make_nameless(&t, parent, new, &ino);
        r = finish(&t, r, ino, &attr);
        if (r != 0)
            unuse_failed(fs, new);
    } while (r == 1);
    if (r == 0)
        *ret = attr;
    return r;
}

static int link_inode(struct txn *t, uint32_t ino, struct namei_dir at, const struct dir_name *name, bool ref,
                      bool nameless)
{
    uint32_t parent = at.ino;
    struct inode *in = inode_at(t->fs, ino), *dir = inode_at(t->fs, parent);
    struct dir_entry e;
    int r;

    r = txn_lock_inodes(t, ino, parent);
    if (r == 0)
        r = inode_is_valid(in);
    if (r == 0)
        r = S_ISDIR(in->mode) ? -EPERM : dir_open_for(dir, at);
    if (r < 0)
        return r;
    r = find(t, parent, name, NULL, &e);
    if (r != -ENOENT)
        return r == 0 ? -EEXIST : r;
    if (in->nlink >= LINK_MAX_COUNT)
        return -EMLINK;
    if (in->nlink == 0 && !nameless)
        return -ENOENT;
    if (break_link(t, parent, name, 0, ino))
        return -EAGAIN;
    inode_edit(t, parent);
    inode_edit(t, ino);
    entry_name(&e, t->fs, ino);
    r = dir_insert(t, parent, dir, name, &e);
    if (r < 0)
        return r;
    in->nlink++;
    if (ref) {
        inode_count_lookups(t, ino, 1);
        t->leases = lease_give_name(t, parent, ino) ? SHMFS_LEASE_NAME : 0;
    }
    inode_changed(t, in, CHANGE_META);
    inode_changed(t, dir, CHANGE_DATA);
    return 0;
}

int namei_link(struct shmfs *fs, uint32_t ino, struct namei_dir parent, const struct dir_name *name, bool ref,
               bool nameless, struct shmfs_attr *ret)
{
    struct shmfs_attr attr;
    int r;

    if (!region_inode_ok(fs, ino) || !region_inode_ok(fs, parent.ino))
        return -ESTALE;
    do {
        struct txn t;

        r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        r = finish(&t, link_inode(&t, ino, parent, name, ref, nameless), ino, &attr);
    } while (r == 1);
    if (r == 0)
        *ret = attr;
    return r;
}

/* ---- removing ---------------------------------------------------------------------------------- */

/* A name of the target goes away. The caller has edited both. */
static int drop_link(struct txn *t, struct inode *dir, struct inode *target)
{
    if (target->nlink == 0 || (S_ISDIR(target->mode) && dir->nlink < 2))
        return -EUCLEAN;
    if (S_ISDIR(target->mode)) {
        target->nlink = 0;
        dir->nlink--;
    } else {
        target->nlink--;
    }
    inode_changed(t, target, CHANGE_META);
    return 0;
}

/* May the target be removed by rmdir (dir) or unlink, or be renamed over by something of that kind? */
static int removable(const struct inode *target, bool dir)
{
    if (dir && !S_ISDIR(target->mode))
        return -ENOTDIR;
    if (!dir && S_ISDIR(target->mode))
        return -EISDIR;
    return dir && target->size > 0 ? -ENOTEMPTY : 0;
}

/* -ESTALE: the name is not what it was when it was looked up without a lock. */
static int remove_entry(struct txn *t, struct namei_dir at, const struct dir_name *name,
                        const struct dir_entry *seen, bool isdir)
{
    uint32_t parent = at.ino;
    struct inode *dir = inode_at(t->fs, parent), *target;
    struct dir_entry e;
    int r;

    r = txn_lock_inodes(t, parent, seen->ino);
    if (r == 0)
        r = dir_open_for(dir, at);
    if (r == 0)
        r = find(t, parent, name, seen, &e);
    if (r < 0)
        return r;
    if (e.ino != seen->ino || e.generation != seen->generation)
        return -ESTALE;
    r = entry_inode(t, &e, &target);
    if (r == 0)
        r = removable(target, isdir);
    if (r == 0 && break_link(t, parent, name, e.ino, e.ino))
        r = -EAGAIN;
    if (r < 0)
        return r;
    inode_edit(t, parent);
    inode_edit(t, e.ino);
    r = drop_link(t, dir, target);
    if (r == 0)
        r = dir_remove(t, parent, dir, &e);
    if (r < 0)
        return r;
    inode_changed(t, dir, CHANGE_DATA);
    inode_reap_if_unused(t, e.ino);
    return 0;
}

int namei_remove(struct shmfs *fs, struct namei_dir parent, const struct dir_name *name,
                 const struct dir_entry *seen, bool dir)
{
    struct dir_entry e;
    int r;

    do {
        struct txn t;

        r = seen != NULL ? 0 : dir_lookup(fs, parent.ino, name, &e);
        if (r == 0)
            r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        r = finish(&t, remove_entry(&t, parent, name, seen != NULL ? seen : &e, dir), 0, NULL);
    } while (r == 1 || (r == -ESTALE && seen == NULL && region_inode_ok(fs, parent.ino)));
    return r;
}

/* ---- renaming ---------------------------------------------------------------------------------- */

struct side {
    uint32_t dino;
    uint64_t generation;
    struct dir_name name;
    struct dir_entry e; /* e.ino 0: no such name, and e.key the one it would get */
    struct inode *dir;
    struct inode *in; /* NULL: no such name */
};

struct renaming {
    struct side from, to;
    unsigned flags;
    const struct shmfs_maker *maker;
};

static bool is_dir(const struct side *s)
{
    return s->e.ino != 0 && s->e.type == DT_DIR;
}

/* Ancestry changes only under the rename lock, which is held: is `ino` an ancestor of `of`, or it? */
static int is_ancestor(struct shmfs *fs, uint32_t ino, uint32_t of)
{
    for (uint32_t depth = 0; depth < fs->l.ninodes; depth++) {
        if (of == ino)
            return 1;
        if (of == ROOT_INO)
            return 0;
        of = LOAD_RELAXED(&inode_at(fs, of)->parent.n);
        if (!region_inode_ok(fs, of))
            return -EUCLEAN;
    }
    return -EUCLEAN;
}

static int rename_locks(struct txn *t, struct renaming *rn)
{
    uint32_t inos[4] = { rn->from.dino, rn->to.dino, rn->from.e.ino, rn->to.e.ino };
    uint32_t last = 0;
    int r;

    if (rn->from.dino != rn->to.dino && (is_dir(&rn->from) || is_dir(&rn->to))) {
        r = txn_lock_rename(t);
        if (r < 0)
            return r;
    }
    for (;;) { /* ascending, each once; 0 is none */
        uint32_t next = UINT32_MAX;

        for (size_t i = 0; i < ARRAY_SIZE(inos); i++) {
            if (inos[i] > last && inos[i] < next)
                next = inos[i];
        }
        if (next == UINT32_MAX)
            return 0;
        r = txn_lock_inode(t, next);
        if (r < 0)
            return r;
        last = next;
    }
}

/* Under the locks: is the name still what it was? */
static int side_check(struct txn *t, struct side *s)
{
    struct dir_entry e = { 0 };
    int r;

    s->dir = inode_at(t->fs, s->dino);
    r = dir_open_for(s->dir, (struct namei_dir){ s->dino, s->generation });
    if (r < 0)
        return r;
    r = find(t, s->dino, &s->name, &s->e, &e);
    if (r < 0 && r != -ENOENT)
        return r;
    if (e.ino != s->e.ino || e.generation != s->e.generation)
        return -ESTALE;
    s->e = e;
    s->in = NULL;
    return e.ino != 0 ? entry_inode(t, &e, &s->in) : 0;
}

static int rename_allowed(struct txn *t, const struct renaming *rn)
{
    const struct side *from = &rn->from, *to = &rn->to;
    bool exchange = (rn->flags & RENAME_EXCHANGE) != 0;
    int r = 0;

    if (from->in == NULL)
        return -ENOENT;
    if (to->in != NULL && (rn->flags & RENAME_NOREPLACE) != 0)
        return -EEXIST;
    if (to->in == NULL && exchange)
        return -ENOENT;
    if (from->dino != to->dino && is_dir(from)) {
        r = is_ancestor(t->fs, from->e.ino, to->dino);
        if (r != 0)
            return r < 0 ? r : -EINVAL;
        if (to->dir->nlink >= LINK_MAX_COUNT)
            return -EMLINK;
    }
    if (from->dino != to->dino && is_dir(to)) {
        r = is_ancestor(t->fs, to->e.ino, from->dino);
        if (r != 0)
            return r < 0 ? r : exchange ? -EINVAL : -ENOTEMPTY;
    }
    return to->in != NULL && !exchange && from->in != to->in ? removable(to->in, is_dir(from)) : 0;
}

/* A directory came under another parent. */
static void reparent(struct side *from, struct side *to)
{
    if (from->in == NULL || !S_ISDIR(from->in->mode) || from->dino == to->dino)
        return;
    from->in->parent.n = to->dino;
    from->dir->nlink--;
    to->dir->nlink++;
}

static int exchange(struct txn *t, struct renaming *rn)
{
    struct side *from = &rn->from, *to = &rn->to;
    struct dir_entry a = from->e, b = to->e; /* each place gets the other's inode; none moves */
    int r;

    entry_name(&a, t->fs, to->e.ino);
    entry_name(&b, t->fs, from->e.ino);
    r = dir_replace(t, from->dino, from->dir, &a);
    if (r == 0)
        r = dir_replace(t, to->dino, to->dir, &b);
    if (r < 0)
        return r;
    reparent(from, to);
    reparent(to, from);
    inode_changed(t, to->in, CHANGE_META);
    return 0;
}

/* What takes the old name's place: a whiteout, or nothing. */
static int leave(struct txn *t, struct renaming *rn, uint32_t whiteout)
{
    struct side *from = &rn->from;
    struct dir_entry e = from->e;

    if (whiteout == 0)
        return dir_remove(t, from->dino, from->dir, &e);
    entry_name(&e, t->fs, whiteout);
    return dir_replace(t, from->dino, from->dir, &e);
}

static int move(struct txn *t, struct renaming *rn)
{
    struct side *from = &rn->from, *to = &rn->to;
    struct dir_entry e = to->e;
    uint32_t whiteout = 0;
    int r = 0;

    entry_name(&e, t->fs, from->e.ino);

    if ((rn->flags & RENAME_WHITEOUT) != 0) {
        r = inode_make(t, 0, S_IFCHR, rn->maker->uid, rn->maker->gid, &whiteout);
        if (r < 0)
            return r;
    }
    if (to->in != NULL) {
        r = drop_link(t, to->dir, to->in);
        if (r == 0)
            r = dir_replace(t, to->dino, to->dir, &e);
    } else {
        r = dir_insert(t, to->dino, to->dir, &to->name, &e);
    }
    if (r == 0)
        r = leave(t, rn, whiteout); /* may free a bucket: last (I9) */
    if (r < 0)
        return r;
    reparent(from, to);
    if (to->in != NULL)
        inode_reap_if_unused(t, to->e.ino);
    return 0;
}

/* A directory that comes under another parent has another "..". */
static bool break_moved(struct txn *t, const struct side *s, const struct side *other)
{
    bool parent = is_dir(s) && s->dino != other->dino;

    return s->e.ino != 0 && (parent ? lease_break_all(t, s->e.ino) : lease_break_attr(t, s->e.ino));
}

static bool rename_breaks(struct txn *t, const struct renaming *rn)
{
    const struct side *from = &rn->from, *to = &rn->to;
    bool wait = break_name(t, from->dino, &from->name, from->e.ino);

    wait |= break_name(t, to->dino, &to->name, to->e.ino);
    wait |= break_moved(t, from, to);
    wait |= break_moved(t, to, from);
    return wait;
}

static int rename_locked(struct txn *t, struct renaming *rn)
{
    struct side *from = &rn->from, *to = &rn->to;
    int r;

    r = rename_locks(t, rn);
    if (r == 0)
        r = side_check(t, from);
    if (r == 0)
        r = side_check(t, to);
    if (r == 0)
        r = rename_allowed(t, rn);
    if (r < 0 || from->in == to->in) /* two names of one file: nothing happens */
        return r;
    if (rename_breaks(t, rn))
        return -EAGAIN;
    lease_renamed(t, from->e.ino);
    if (to->in != NULL)
        lease_renamed(t, to->e.ino);
    inode_edit(t, from->dino);
    inode_edit(t, to->dino);
    inode_edit(t, from->e.ino);
    if (to->in != NULL)
        inode_edit(t, to->e.ino);
    r = (rn->flags & RENAME_EXCHANGE) != 0 ? exchange(t, rn) : move(t, rn);
    if (r < 0)
        return r;
    inode_changed(t, from->in, CHANGE_META);
    inode_changed(t, from->dir, CHANGE_DATA);
    if (to->dir != from->dir)
        inode_changed(t, to->dir, CHANGE_DATA);
    return 0;
}

static int side_look(struct shmfs *fs, struct side *s)
{
    int r = dir_lookup(fs, s->dino, &s->name, &s->e);

    if (r == -ENOENT)
        s->e = (struct dir_entry){ 0 };
    return r == -ENOENT ? 0 : r;
}

int namei_rename(struct shmfs *fs, struct namei_dir parent, const struct dir_name *name,
                 struct namei_dir newparent, const struct dir_name *newname, const struct dir_entry *seen,
                 unsigned flags, const struct shmfs_maker *maker)
{
    struct renaming rn = {
        .from = { .dino = parent.ino, .generation = parent.generation, .name = *name },
        .to = { .dino = newparent.ino, .generation = newparent.generation, .name = *newname },
        .flags = flags,
        .maker = maker,
    };
    int r;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0 ||
        ((flags & RENAME_EXCHANGE) != 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) != 0))
        return -EINVAL;
    do {
        struct txn t;

        r = seen != NULL ? 0 : side_look(fs, &rn.from);
        if (r == 0 && seen == NULL)
            r = side_look(fs, &rn.to);
        if (seen != NULL) {
            rn.from.e = seen[0];
            rn.to.e = seen[1];
        }
        if (r == 0 && rn.from.e.ino == 0)
            r = -ENOENT;
        if (r == 0)
            r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        r = finish(&t, rename_locked(&t, &rn), 0, NULL);
    } while (r == 1 || (r == -ESTALE && seen == NULL));
    return r;
}

/* ---- symbolic links ---------------------------------------------------------------------------- */

static ssize_t link_target(const struct shmfs *fs, uint32_t ino, const struct inode *in, char *ret, size_t n)
{
    uint64_t size = LOAD_RELAXED(&in->size);
    struct map_at at;
    struct blkref blk;
    uint64_t len;
    int r;

    if (!S_ISLNK(in->mode))
        return -EINVAL;
    if ((in->flags & INODE_LINK_INLINE) != 0) {
        if (size > INODE_INLINE)
            return -EUCLEAN;
        memcpy(ret, in->inline_target, MIN(n, (size_t)size));
        return (ssize_t)size;
    }
    r = map_find(fs, ino, in, 0, &at);
    if (r < 0)
        return r;
    if (size >= BLOCK_SIZE || !map_at_block(&at, 0, &blk, &len))
        return -EUCLEAN;
    memcpy(ret, region_block(fs, blk), MIN(n, (size_t)size));
    return (ssize_t)size;
}

ssize_t namei_readlink(struct shmfs *fs, struct namei_dir link, char *ret, size_t n)
{
    const struct inode *in = inode_at(fs, link.ino);
    struct reading rd;
    ssize_t r;

    reading_init(&rd, fs, link.ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(in);
        if (r == 0 && link.generation != NAMEI_ANY && in->generation != link.generation)
            r = -ESTALE;
        if (r == 0)
            r = link_target(fs, link.ino, in, ret, n);
    } while (reading_again(&rd));
    return r;
}
