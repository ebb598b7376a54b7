/* SPDX-License-Identifier: MIT */
/* What is there goes to a sound region, by the functions that make everything. */
#include <sys/stat.h>

#include "snapshot_salvage.h"

/* ---- times -------------------------------------------------------------------------------------- */

static struct timespec time_of(struct stamp stamp)
{
    return (struct timespec){ .tv_sec = stamp.sec, .tv_nsec = stamp.nsec < 1000000000 ? stamp.nsec : 0 };
}

/* After all else that changes them. */
static int copy_times(struct salvage *s, uint32_t ino)
{
    const struct inode *in = inode_at(s->old, ino);
    struct shmfs_attr attr = { .atime = time_of(in->atime),
                               .mtime = time_of(in->mtime),
                               .ctime = time_of(in->ctime) };
    struct shmfs_attr unused;

    return shmfs_node_setattr(s->sound, s->copies[ino], &attr,
                              SHMFS_SET_ATIME | SHMFS_SET_MTIME | SHMFS_SET_CTIME, &unused);
}

/* ---- making ------------------------------------------------------------------------------------- */

/* Private until it is whole. */
static const struct shmfs_maker nobody_yet = { .uid = 0, .gid = 0, .umask = 0 };

static int make_new(struct salvage *s, uint32_t parent, const char *name, const struct inode *in,
                    const char *target, struct shmfs_attr *ret)
{
    if (S_ISDIR(in->mode))
        return shmfs_node_mkdir(s->sound, parent, name, 0700, &nobody_yet, false, ret);
    if (S_ISLNK(in->mode))
        return shmfs_node_symlink(s->sound, target, parent, name, &nobody_yet, false, ret);
    return shmfs_node_mknod(s->sound, parent, name, (in->mode & S_IFMT) | 0600, in->rdev, &nobody_yet, false,
                            ret);
}

int salvage_make(struct salvage *s, const struct salvage_name *name, uint32_t ino, const char *target)
{
    uint32_t parent = s->dirs[name->dir].copy;
    struct shmfs_attr attr;
    int r;

    if (s->copies[ino] != 0) {
        r = shmfs_node_link(s->sound, s->copies[ino], parent, name->name, false, &attr);
        if (r == 0)
            r = copy_times(s, ino);
    } else {
        r = make_new(s, parent, name->name, inode_at(s->old, ino), target, &attr);
        if (r == 0)
            s->copies[ino] = attr.ino;
    }
    return r == -EEXIST ? 1 : r;
}

int salvage_make_dir(struct salvage *s, uint32_t parent, const char *name, uint32_t *ret_copy)
{
    struct shmfs_attr attr;
    int r = shmfs_node_mkdir(s->sound, parent, name, 0700, &nobody_yet, false, &attr);

    if (r == 0)
        *ret_copy = attr.ino;
    return r == -EEXIST ? 1 : r;
}

/* ---- data --------------------------------------------------------------------------------------- */

/* Read, and not by the mapping: a hole that is mapped takes memory of the host, which may have none (A15). */
static int read_old(const struct salvage *s, uint64_t off, uint8_t *buf, size_t n)
{
    while (n > 0) {
        ssize_t got = pread(s->old->fd, buf, n, (off_t)off);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        buf += got;
        off += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

int salvage_copy_data(struct salvage *s, uint32_t copy, uint32_t blk, uint64_t off, uint64_t len)
{
    uint64_t from = s->old->l.blocks + (uint64_t)blk * BLOCK_SIZE;

    while (len > 0) {
        size_t n = (size_t)MIN(len, (uint64_t)SALVAGE_BUFFER);
        ssize_t done = read_old(s, from, s->buffer, n);

        if (done == 0)
            done = shmfs_node_write(s->sound, copy, s->buffer, n, (off_t)off, 0, NULL);
        if (done <= 0)
            return done < 0 ? (int)done : -EIO;
        from += (uint64_t)done;
        off += (uint64_t)done;
        len -= (uint64_t)done;
    }
    return 0;
}

/* ---- attributes --------------------------------------------------------------------------------- */

static int copy_value(struct salvage *s, uint32_t ino, uint32_t copy, const char *name)
{
    ssize_t n = shmfs_node_getxattr(s->old, ino, name, s->buffer, SALVAGE_BUFFER);

    return n < 0 ? (int)n : shmfs_node_setxattr(s->sound, copy, name, s->buffer, (size_t)n, 0);
}

/* What the list says and nobody could have set is left out. */
static bool is_nothing(int r)
{
    return r == -EUCLEAN || r == -EINVAL || r == -EOPNOTSUPP || r == -EACCES || r == -ENODATA || r == -ERANGE;
}

static int copy_attributes(struct salvage *s, uint32_t ino, uint32_t copy)
{
    AUTO_FREE char *names = malloc(SALVAGE_BUFFER);
    ssize_t n = names ? shmfs_node_listxattr(s->old, ino, names, SALVAGE_BUFFER) : -ENOMEM;

    if (n < 0)
        return n == -EUCLEAN ? 0 : (int)n;
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1) {
        int r = copy_value(s, ino, copy, names + at);

        if (r < 0 && !is_nothing(r))
            return r;
    }
    return 0;
}

/* When it was made: no function sets that. */
static int copy_birth(struct salvage *s, uint32_t copy, struct stamp birth)
{
    struct timespec time = time_of(birth);
    struct inode *in;
    struct txn t;
    int r = txn_begin(s->sound, &t);

    if (r < 0)
        return r;
    r = inode_lock(&t, copy, &in);
    if (r < 0) {
        txn_abort(&t);
        return r;
    }
    inode_edit(&t, copy)->btime = (struct stamp){ .sec = time.tv_sec, .nsec = (uint32_t)time.tv_nsec };
    txn_commit(&t);
    return 0;
}

/* The mode before the ACL, which limits it. */
int salvage_finish_copy(struct salvage *s, uint32_t ino)
{
    const struct inode *in = inode_at(s->old, ino);
    uint32_t copy = s->copies[ino];
    struct shmfs_attr attr = {
        .mode = in->mode,
        .uid = in->uid,
        .gid = in->gid,
        .size = in->size,
    };
    unsigned set = SHMFS_SET_MODE | SHMFS_SET_UID | SHMFS_SET_GID | (S_ISREG(in->mode) ? SHMFS_SET_SIZE : 0u);
    struct shmfs_attr unused;
    int r = shmfs_node_setattr(s->sound, copy, &attr, set, &unused);

    if (r == 0)
        r = copy_attributes(s, ino, copy);
    if (r == 0)
        r = copy_birth(s, copy, in->btime);
    return r == 0 ? copy_times(s, ino) : r;
}
