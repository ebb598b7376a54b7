/* SPDX-License-Identifier: MIT */
#include "node.h"

#include <fcntl.h>
#include <sched.h>

#include "acl.h"
#include "attr.h"
#include "file.h"
#include "namei.h"
#include "range.h"
#include "recover.h"

/*
 * The private client interface: arguments are checked here, where they come from outside, and -EIO is
 * said here when the region file was shortened under us.
 */

static ssize_t leave(struct shmfs *fs, ssize_t r)
{
    return unlikely(LOAD_RELAXED(&fs->broken)) ? -EIO : r;
}

static int enter(struct shmfs *fs, uint32_t ino)
{
    uint32_t group = ino / fs->l.group_inodes, bit = ino % fs->l.group_inodes;

    if (unlikely(LOAD_RELAXED(&fs->broken)))
        return -EIO;
    if (!region_inode_ok(fs, ino) || (!fs->readonly && !fs->private_ &&
                                      (fs->group_rts[group].inode_reserved >> (bit / INODE_CHUNK) & 1) == 0))
        return (int)leave(fs, -ESTALE); /* a number that was never given out has no memory behind it */
    return 0;
}

#define ENTER(fs, ino) \
    do { \
        int enter_r = enter((fs), (ino)); \
        if (unlikely(enter_r < 0)) \
            return enter_r; \
    } while (0)
#define LEAVE(fs, r) return (int)leave((fs), (r))

/* ---- names ------------------------------------------------------------------------------------- */

/* The kernel holds the directories that it names: their numbers are not reused. */
static struct namei_dir dir_ref(uint32_t ino)
{
    return (struct namei_dir){ ino, NAMEI_ANY };
}

static int make_at(struct shmfs *fs, uint32_t parent, const char *s, const struct namei_new *new,
                   struct shmfs_attr *ret)
{
    struct dir_name name;
    int r = dir_name_make(fs, s, &name);

    if (r < 0)
        return r == -EINVAL && s[0] == '.' ? -EEXIST : r;
    return namei_make(fs, dir_ref(parent), &name, NULL, new, ret);
}

static int remove_at(struct shmfs *fs, uint32_t parent, const char *s, bool dir)
{
    struct dir_name name;
    int r = dir_name_make(fs, s, &name);

    if (r < 0)
        return r == -EINVAL && strcmp(s, "..") == 0 ? -ENOTEMPTY : r;
    return namei_remove(fs, dir_ref(parent), &name, NULL, dir);
}

static int attr_read(struct shmfs *fs, uint32_t ino, struct shmfs_attr *ret)
{
    struct reading rd;
    int r;

    reading_init(&rd, fs, ino);
    do {
        r = reading_begin(&rd);
        if (r < 0)
            return r;
        r = inode_is_valid(inode_at(fs, ino));
        if (r == 0)
            inode_attr(fs, ino, ret);
    } while (reading_again(&rd));
    return r;
}

/* Where a name was found: a directory, and the sequence that it had; 0: not known. */
struct seen {
    uint32_t dir;
    uint64_t seq;
};

/*
 * Counts a lookup of the inode that an entry named, and leases what it answers. That the entry is still there is
 * looked at under the inode's lock: who takes it away needs that, too. -ESTALE: it is another inode by now.
 */
static int ref_inode(struct shmfs *fs, uint32_t ino, uint32_t generation, struct seen seen,
                     struct shmfs_attr *ret)
{
    struct inode *in;
    struct txn t;
    int r = txn_begin(fs, &t);

    if (r < 0)
        return r;
    r = inode_lock(&t, ino, &in);
    if (r == 0 && in->generation != generation)
        r = -ESTALE;
    if (r == 0) {
        uint32_t leases = lease_give(&t, ino, LEASE_ATTR);

        if (seen.seq != 0 && LOAD(&fs->inode_rts[seen.dir].seq) == seen.seq &&
            lease_give_name(&t, seen.dir, ino))
            leases |= SHMFS_LEASE_NAME;
        inode_count_lookups(&t, ino, 1);
        inode_attr(fs, ino, ret);
        ret->leases = leases;
    }
    txn_commit(&t);
    return r;
}

/* An entry and the inode behind it are two looks: between them it may be replaced, hence the loop. */
static int lookup(struct shmfs *fs, uint32_t parent, const struct dir_name *name, bool ref,
                  struct shmfs_attr *ret)
{
    for (int tries = 0; tries < 1000; tries++) {
        struct shmfs_attr attr;
        struct dir_entry e;
        int r = dir_lookup(fs, parent, name, &e);

        if (r < 0)
            return r;
        r = ref ? ref_inode(fs, e.ino, e.generation, (struct seen){ parent, e.seq }, &attr)
                : attr_read(fs, e.ino, &attr);
        if (r == 0 && attr.generation == e.generation) {
            *ret = attr;
            return 0;
        }
        if (r < 0 && r != -ESTALE)
            return r;
        if (tries > 10)
            sched_yield();
    }
    return -EUCLEAN; /* the entry names what is not there, and stays */
}

/* "." and "..", which the kernel asks for to make something of a file handle: of files, too, the former. */
static int lookup_dots(struct shmfs *fs, uint32_t ino, bool parent, bool ref, struct shmfs_attr *ret)
{
    struct shmfs_attr attr;
    int r = attr_read(fs, ino, &attr);

    if (r == 0 && parent && !S_ISDIR(attr.mode))
        r = -ENOTDIR;
    if (r == 0 &&
        attr.nlink ==
            0) /* the kernel has forgotten it, and its FORGET is on its way; or only others hold it */
        r = -ESTALE;
    if (r == 0 && parent) {
        ino = LOAD_RELAXED(&inode_at(fs, ino)->parent.n);
        r = attr_read(fs, ino, &attr);
    }
    if (r == 0 && ref)
        r = ref_inode(fs, ino, attr.generation, (struct seen){ 0 }, &attr);
    if (r == 0)
        *ret = attr;
    return r;
}

int shmfs_node_lookup(struct shmfs *fs, uint32_t parent, const char *s, bool ref, struct shmfs_attr *ret)
{
    struct dir_name name;
    int r;

    ENTER(fs, parent);
    if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        LEAVE(fs, lookup_dots(fs, parent, s[1] == '.', ref, ret));
    r = dir_name_make(fs, s, &name);
    if (r == 0)
        r = lookup(fs, parent, &name, ref, ret);
    LEAVE(fs, r);
}

int shmfs_node_ref(struct shmfs *fs, uint32_t parent, const struct shmfs_dirent *entry,
                   struct shmfs_attr *ret)
{
    int r;

    ENTER(fs, parent);
    ENTER(fs, entry->ino);
    r = ref_inode(fs, entry->ino, entry->generation, (struct seen){ parent, entry->seen }, ret);
    LEAVE(fs, r == -ESTALE ? -ENOENT : r);
}

int shmfs_lease_absent(struct shmfs *fs, uint32_t parent, const char *s)
{
    struct dir_entry e = { 0 };
    struct dir_name name;
    struct inode *in;
    struct txn t;
    int r;

    ENTER(fs, parent);
    r = dir_name_make(fs, s, &name);
    if (r == 0)
        r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    r = inode_lock(&t, parent, &in);
    if (r == 0)
        r = S_ISDIR(in->mode) ? dir_find(fs, parent, in, &name, &e) : -ENOTDIR;
    if (r == -ENOENT)
        r = lease_give_absent(&t, parent, name.key);
    else if (r == 0)
        r = -EEXIST;
    txn_commit(&t);
    LEAVE(fs, r);
}

int shmfs_node_forget(struct shmfs *fs, uint32_t ino, uint64_t nlookup)
{
    struct txn t;
    int r;

    ENTER(fs, ino);
    r = txn_begin(fs, &t);
    if (r == 0) {
        struct inode *in;

        r = inode_lock(&t, ino, &in);
        if (r == 0) {
            inode_count_lookups(&t, ino, -(int64_t)MIN(nlookup, (uint64_t)INT64_MAX));
            if (lease_lookups(fs, ino) == 0)
                lease_forget(&t, ino);
            inode_reap_if_unused(&t, ino);
            inode_settle(&t);
        }
        txn_commit(&t);
    }
    LEAVE(fs, r);
}

int shmfs_node_getattr(struct shmfs *fs, uint32_t ino, struct shmfs_attr *ret)
{
    struct shmfs_attr attr;
    int r;

    ENTER(fs, ino);
    r = attr_read(fs, ino, &attr);
    if (r == 0)
        *ret = attr;
    LEAVE(fs, r);
}

/* Before the data or the owner changes, whoever changes it: few files have one. */
static int drop_capability(struct shmfs *fs, uint32_t ino)
{
    int r = 0;

    if (unlikely((LOAD_RELAXED(&inode_at(fs, ino)->flags) & INODE_CAPABLE) != 0))
        r = shmfs_node_removexattr(fs, ino, XATTR_CAPABILITY);
    return r == -ENODATA ? 0 : r;
}

int shmfs_node_setattr(struct shmfs *fs, uint32_t ino, const struct shmfs_attr *attr, unsigned set,
                       struct shmfs_attr *ret)
{
    int r = 0;

    ENTER(fs, ino);
    if ((set & (SHMFS_SET_SIZE | SHMFS_SET_UID | SHMFS_SET_GID | SHMFS_SET_KILL_PRIV)) != 0)
        r = drop_capability(fs, ino);
    if (r == 0)
        r = attr_set(fs, ino, attr, set, ret);
    LEAVE(fs, r);
}

ssize_t shmfs_node_readlink(struct shmfs *fs, uint32_t ino, char *ret, size_t n)
{
    ssize_t r;

    ENTER(fs, ino);
    r = namei_readlink(fs, dir_ref(ino), ret, n);
    if (r >= 0)
        file_read_time(fs, ino);
    return leave(fs, r);
}

int shmfs_node_mknod(struct shmfs *fs, uint32_t parent, const char *name, mode_t mode, dev_t rdev,
                     const struct shmfs_maker *maker, bool ref, struct shmfs_attr *ret)
{
    struct namei_new new = { .mode = mode & (S_IFMT | 07777), .rdev = rdev, .maker = maker, .ref = ref };

    ENTER(fs, parent);
    if ((mode & S_IFMT) == 0)
        new.mode |= S_IFREG;
    if (!S_ISREG(new.mode) && !S_ISCHR(new.mode) && !S_ISBLK(new.mode) && !S_ISFIFO(new.mode) &&
        !S_ISSOCK(new.mode))
        return -EINVAL;
    if (!S_ISCHR(new.mode) && !S_ISBLK(new.mode))
        new.rdev = 0;
    LEAVE(fs, make_at(fs, parent, name, &new, ret));
}

int shmfs_node_mkdir(struct shmfs *fs, uint32_t parent, const char *name, mode_t mode,
                     const struct shmfs_maker *maker, bool ref, struct shmfs_attr *ret)
{
    struct namei_new new = { .mode = S_IFDIR | (mode & 07777), .maker = maker, .ref = ref };

    ENTER(fs, parent);
    LEAVE(fs, make_at(fs, parent, name, &new, ret));
}

int shmfs_node_symlink(struct shmfs *fs, const char *target, uint32_t parent, const char *name,
                       const struct shmfs_maker *maker, bool ref, struct shmfs_attr *ret)
{
    struct namei_new new = { .mode = S_IFLNK | 0777, .target = target, .maker = maker, .ref = ref };

    ENTER(fs, parent);
    LEAVE(fs, make_at(fs, parent, name, &new, ret));
}

int shmfs_node_setlk(struct shmfs *fs, uint32_t ino, const struct shmfs_range *range, int timeout_ms)
{
    ENTER(fs, ino);
    if (range->start > range->end ||
        (range->type != F_RDLCK && range->type != F_WRLCK && range->type != F_UNLCK))
        return -EINVAL;
    struct shmfs_range r = *range;
    r.end = r.end >= INT64_MAX ? UINT64_MAX : r.end; /* both mean: to the end */
    LEAVE(fs, range_set(fs, ino, &r, timeout_ms));
}

int shmfs_node_getlk(struct shmfs *fs, uint32_t ino, const struct shmfs_range *range, struct shmfs_range *ret)
{
    ENTER(fs, ino);
    LEAVE(fs, range_get(fs, ino, range, ret));
}

int shmfs_node_tmpfile(struct shmfs *fs, uint32_t parent, mode_t mode, const struct shmfs_maker *maker,
                       struct shmfs_attr *ret)
{
    struct namei_new new = { .mode = S_IFREG | (mode & 07777), .maker = maker, .ref = true };

    ENTER(fs, parent);
    LEAVE(fs, namei_tmpfile(fs, dir_ref(parent), &new, ret));
}

int shmfs_node_link(struct shmfs *fs, uint32_t ino, uint32_t newparent, const char *newname, bool ref,
                    struct shmfs_attr *ret)
{
    struct dir_name name;
    int r;

    ENTER(fs, ino);
    ENTER(fs, newparent);
    r = dir_name_make(fs, newname, &name);
    if (r < 0)
        return r == -EINVAL && newname[0] == '.' ? -EEXIST : r;
    LEAVE(fs, namei_link(fs, ino, dir_ref(newparent), &name, ref, true, ret));
}

int shmfs_node_unlink(struct shmfs *fs, uint32_t parent, const char *name)
{
    ENTER(fs, parent);
    LEAVE(fs, remove_at(fs, parent, name, false));
}

int shmfs_node_rmdir(struct shmfs *fs, uint32_t parent, const char *name)
{
    ENTER(fs, parent);
    LEAVE(fs, remove_at(fs, parent, name, true));
}

int shmfs_node_rename(struct shmfs *fs, uint32_t parent, const char *name, uint32_t newparent,
                      const char *newname, unsigned flags, const struct shmfs_maker *maker)
{
    struct dir_name from, to;
    int r;

    ENTER(fs, parent);
    ENTER(fs, newparent);
    r = dir_name_make(fs, name, &from);
    if (r == 0)
        r = dir_name_make(fs, newname, &to);
    if (r < 0)
        return r == -EINVAL ? -EBUSY : r; /* "." and "..": as rename(2) */
    LEAVE(fs, namei_rename(fs, dir_ref(parent), &from, dir_ref(newparent), &to, NULL, flags, maker));
}

int shmfs_node_readdir(struct shmfs *fs, uint32_t ino, uint64_t cookie, struct shmfs_dirent *ret, int n)
{
    int r;

    ENTER(fs, ino);
    file_read_time(fs, ino); /* before: what is listed should be of the sequence that stays */
    r = dir_list(fs, ino, cookie, ret, n);
    LEAVE(fs, r);
}

int shmfs_lease_names(struct shmfs *fs, uint32_t dir, uint64_t cookie, struct shmfs_dirent *ret, int n)
{
    int r;

    ENTER(fs, dir);
    r = dir_list(fs, dir, cookie, ret, n);
    LEAVE(fs, r);
}

/* ---- data -------------------------------------------------------------------------------------- */

ssize_t shmfs_node_read(struct shmfs *fs, uint32_t ino, void *buf, size_t n, off_t off)
{
    ssize_t r;

    ENTER(fs, ino);
    r = file_read(fs, ino, buf, n, off);
    if (r >= 0)
        file_read_time(fs, ino);
    return leave(fs, r);
}

ssize_t shmfs_node_peek(struct shmfs *fs, uint32_t ino, void *buf, size_t n, off_t off)
{
    ENTER(fs, ino);
    return leave(fs, file_read(fs, ino, buf, n, off));
}

ssize_t shmfs_node_write(struct shmfs *fs, uint32_t ino, const void *buf, size_t n, off_t off, unsigned flags,
                         off_t *ret_off)
{
    ssize_t r;

    ENTER(fs, ino);
    r = drop_capability(fs, ino);
    if (r == 0)
        r = file_write(fs, ino, buf, n, off, flags, ret_off);
    return leave(fs, r);
}

int shmfs_node_fallocate(struct shmfs *fs, uint32_t ino, int mode, off_t off, off_t len)
{
    ENTER(fs, ino);
    LEAVE(fs, file_fallocate(fs, ino, mode, off, len));
}

off_t shmfs_node_lseek(struct shmfs *fs, uint32_t ino, off_t off, int whence)
{
    ENTER(fs, ino);
    return leave(fs, file_lseek(fs, ino, off, whence));
}

ssize_t shmfs_node_copy(struct shmfs *fs, uint32_t from, off_t from_off, uint32_t to, off_t to_off, size_t n)
{
    ENTER(fs, from);
    ENTER(fs, to);
    return leave(fs, file_copy(fs, from, from_off, to, to_off, n));
}

int shmfs_node_fsync(struct shmfs *fs, uint32_t ino)
{
    ENTER(fs, ino);
    return shmfs_sync_wait(fs, shmfs_sync_ticket(fs)); /* memory is as far as it goes without an image */
}

/* ---- extended attributes ----------------------------------------------------------------------- */

static int xattr_apply(struct txn *t, uint32_t ino, const char *name, const void *value, size_t n, int flags)
{
    struct inode *in;
    int r = inode_lock(t, ino, &in);

    if (r == 0 && lease_break(t, ino, LEASE_ATTR | (acl_is_name(name) ? LEASE_ACL : 0), 0, 0))
        r = -EAGAIN;
    if (r < 0)
        return r;
    inode_edit(t, ino);
    if (acl_is_name(name))
        r = acl_change(t, ino, in, name, value, n, flags);
    else
        r = xattr_change(t, ino, in, name, value, n, flags);
    if ((flags & SHMFS_XATTR_KILL_SGID) != 0)
        in->mode &= ~(uint32_t)S_ISGID;
    if (r == 0)
        inode_changed(t, in, CHANGE_META);
    return r;
}

static int xattr_transact(struct shmfs *fs, uint32_t ino, const char *name, const void *value, size_t n,
                          int flags)
{
    for (;;) {
        struct txn t;
        int r = xattr_name_check(name);

        if (r == 0)
            r = txn_begin(fs, &t);
        if (r < 0)
            return r;
        r = xattr_apply(&t, ino, name, value, n, flags);
        if (r == 0) {
            inode_settle(&t);
            txn_commit(&t);
            return 0;
        }
        r = txn_abort_for(&t, r);
        if (r != -EAGAIN)
            return r;
    }
}

int shmfs_node_setxattr(struct shmfs *fs, uint32_t ino, const char *name, const void *value, size_t n,
                        int flags)
{
    ENTER(fs, ino);
    LEAVE(fs, xattr_transact(fs, ino, name, value != NULL ? value : "", n, flags));
}

int shmfs_node_removexattr(struct shmfs *fs, uint32_t ino, const char *name)
{
    ENTER(fs, ino);
    LEAVE(fs, xattr_transact(fs, ino, name, NULL, 0, 0));
}

ssize_t shmfs_node_getxattr(struct shmfs *fs, uint32_t ino, const char *name, void *ret, size_t n)
{
    ssize_t r;

    ENTER(fs, ino);
    r = xattr_name_check(name);
    if (r == 0)
        r = xattr_get(fs, NULL, ino, name, ret, n);
    return leave(fs, r);
}

ssize_t shmfs_node_listxattr(struct shmfs *fs, uint32_t ino, char *ret, size_t n)
{
    ENTER(fs, ino);
    return leave(fs, xattr_list(fs, ino, ret, n));
}

/* ---- the whole --------------------------------------------------------------------------------- */

void shmfs_node_statfs(struct shmfs *fs, struct shmfs_space *ret)
{
    struct shmfs_space space = {
        .block_size = BLOCK_SIZE,
        .blocks = region_nblocks(fs),
        .inodes = fs->l.ninodes - 1,
    };

    for (uint32_t g = 0; g < fs->l.ngroups; g++) {
        space.free_blocks += LOAD_RELAXED(&fs->groups[g].free_blocks);
        space.free_inodes += LOAD_RELAXED(&fs->groups[g].free_inodes);
    }
    *ret = space;
}
