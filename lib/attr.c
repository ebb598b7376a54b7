/* SPDX-License-Identifier: MIT */
#include "attr.h"

#include "acl.h"
#include "file.h"

static struct stamp to_stamp(struct timespec ts)
{
    return (struct stamp){ .sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec };
}

static int check(const struct inode *in, const struct shmfs_attr *attr, unsigned set)
{
    if (((set & SHMFS_SET_ATIME) != 0 && (uint64_t)attr->atime.tv_nsec >= 1000000000) ||
        ((set & SHMFS_SET_MTIME) != 0 && (uint64_t)attr->mtime.tv_nsec >= 1000000000))
        return -EINVAL;
    if ((set & SHMFS_SET_SIZE) != 0 && !S_ISREG(in->mode))
        return S_ISDIR(in->mode) ? -EISDIR : -EINVAL;
    return 0;
}

static void set_times(struct txn *t, struct inode *in, const struct shmfs_attr *attr, unsigned set)
{
    struct stamp now = inode_now(t);

    if ((set & (SHMFS_SET_ATIME | SHMFS_SET_ATIME_NOW)) != 0)
        in->atime = (set & SHMFS_SET_ATIME_NOW) != 0 ? now : to_stamp(attr->atime);
    if ((set & (SHMFS_SET_MTIME | SHMFS_SET_MTIME_NOW)) != 0)
        in->mtime = (set & SHMFS_SET_MTIME_NOW) != 0 ? now : to_stamp(attr->mtime);
    in->ctime = (set & SHMFS_SET_CTIME) != 0 ? to_stamp(attr->ctime) : now;
}

static int apply(struct txn *t, uint32_t ino, struct inode *in, const struct shmfs_attr *attr, unsigned set)
{
    int r = check(in, attr, set);

    if (r < 0)
        return r;
    if (lease_break(t, ino,
                    LEASE_ATTR | ((set & SHMFS_SET_SIZE) != 0 ? LEASE_PAGES : 0) |
                        ((set & SHMFS_SET_MODE) != 0 ? LEASE_ACL : 0),
                    MIN(attr->size, in->size), LEASE_ALL))
        return -EAGAIN;
    inode_edit(t, ino);
    if ((set & SHMFS_SET_SIZE) != 0) {
        r = file_resize(t, ino, in, attr->size);
        if (r < 0)
            return r;
        in->mtime = inode_now(t);
    }
    if ((set & SHMFS_SET_UID) != 0)
        in->uid = attr->uid;
    if ((set & SHMFS_SET_GID) != 0)
        in->gid = attr->gid;
    if ((set & SHMFS_SET_KILL_PRIV) != 0 && !S_ISDIR(in->mode))
        file_kill_priv(in, (set & SHMFS_SET_KILL_SGID) != 0);
    if ((set & SHMFS_SET_MODE) != 0) {
        in->mode = (in->mode & S_IFMT) | (attr->mode & 07777);
        if (in->xattr.n != 0)
            r = acl_chmod(t, ino, in);
    }
    set_times(t, in, attr, set);
    in->version++;
    return r;
}

int attr_set(struct shmfs *fs, uint32_t ino, const struct shmfs_attr *attr, unsigned set,
             struct shmfs_attr *ret)
{
    /*
     * One todo record a transaction: a new size may leave one, and so may a new mode, but only with an ACL
     * in so long a list of attributes that it cannot be changed in place.
     */
    if ((set & SHMFS_SET_SIZE) != 0 && (set & SHMFS_SET_MODE) != 0 && region_inode_ok(fs, ino) &&
        LOAD_RELAXED(&inode_at(fs, ino)->xattr_blocks) > XATTR_REWRITE_MAX) {
        int r = attr_set(fs, ino, attr, SHMFS_SET_SIZE, ret);
        return r < 0 ? r : attr_set(fs, ino, attr, set & ~(unsigned)SHMFS_SET_SIZE, ret);
    }
    for (;;) {
        struct shmfs_attr a;
        struct inode *in;
        struct txn t;
        int r = txn_begin(fs, &t);

        if (r < 0)
            return r;
        r = inode_lock(&t, ino, &in);
        if (r == 0)
            r = apply(&t, ino, in, attr, set);
        if (r == 0) {
            inode_settle(&t);
            inode_attr(fs, ino, &a);
            txn_commit(&t);
            *ret = a;
            return 0;
        }
        r = txn_abort_for(&t, r);
        if (r != -EAGAIN)
            return r;
    }
}
