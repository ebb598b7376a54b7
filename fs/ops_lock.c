/* SPDX-License-Identifier: MIT */
/*
 * Locks of programs, and with them opening and closing. With local_lock=all (the default) locks are the
 * kernel's own, and none of this is asked for, or asked for once. With local_lock=none they are in the
 * region, and the kernel must say who closes what.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "locks.h"
#include "ops.h"
#include "raw.h"

/* ---- locks -------------------------------------------------------------------------------------- */

/* OFD locks come as POSIX ones, with the open file as their owner: the two are of one class anyway. */
static struct shmfs_range range_of(const struct fuse_file_info *fi, const struct flock *fl)
{
    return (struct shmfs_range){
        .kind = SHMFS_LOCK_POSIX,
        .key = fi->lock_owner,
        .pid = (uint32_t)fl->l_pid,
        .type = fl->l_type,
        .start = (uint64_t)fl->l_start,
        .end = fl->l_len == 0 ? UINT64_MAX : (uint64_t)fl->l_start + (uint64_t)fl->l_len - 1,
    };
}

void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *fl)
{
    struct shmfs_range range = range_of(fi, fl), other;
    int r = shmfs_node_getlk(op_driver(req)->fs, (uint32_t)ino, &range, &other);

    if (r < 0) {
        op_error(req, r);
        return;
    }
    *fl = (struct flock){ .l_type = (short)other.type, .l_whence = SEEK_SET };
    if (other.type != F_UNLCK) {
        fl->l_start = (off_t)other.start;
        fl->l_len = other.end >= INT64_MAX ? 0 : (off_t)(other.end - other.start + 1);
        fl->l_pid = (pid_t)other.pid;
    }
    fuse_reply_lock(req, fl);
}

void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *fl, int sleep)
{
    struct shmfs_range range = range_of(fi, fl);

    locks_set(op_driver(req)->locks, req, (uint32_t)ino, &range, fi->fh, sleep);
}

static struct shmfs_range flock_range(const struct fuse_file_info *fi, int type)
{
    return (struct shmfs_range){
        .kind = SHMFS_LOCK_FLOCK,
        .key = fi->lock_owner,
        .pid = (uint32_t)raw_lock_pid(),
        .type = type,
        .start = 0,
        .end = UINT64_MAX,
    };
}

void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
    int what = op & ~LOCK_NB;
    struct shmfs_range range = flock_range(fi, what == LOCK_SH   ? F_RDLCK
                                               : what == LOCK_EX ? F_WRLCK
                                                                 : F_UNLCK);

    locks_set(op_driver(req)->locks, req, (uint32_t)ino, &range, fi->fh, !(op & LOCK_NB));
}

/* ---- opening and closing ------------------------------------------------------------------------ */

void op_opened(const struct driver *d, struct fuse_file_info *fi)
{
    fi->direct_io = d->cache == CACHE_NONE;
    fi->keep_cache = d->cache != CACHE_NONE;
    fi->fh = op_handle(d);
}

uint64_t op_handle(const struct driver *d)
{
    return d->locks ? locks_handle(d->locks) : 0;
}

/* ENOSYS: never ask again; opening succeeds without a message, and what is cached is kept. */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct driver *d = op_driver(req);

    (void)ino;
    if (d->no_open) {
        fuse_reply_err(req, ENOSYS);
        return;
    }
    op_opened(d, fi);
    fuse_reply_open(req, fi);
}

/* Whoever closes any descriptor of a file gives up the fcntl() locks that it has there. */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct driver *d = op_driver(req);
    int r;

    if (!d->locks) {
        fuse_reply_err(req, ENOSYS); /* once, then closing is free */
        return;
    }
    r = locks_close(d->locks, (uint32_t)ino, fi->lock_owner);
    op_error(req, r == -ESTALE ? 0 : r);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct driver *d = op_driver(req);

    if (d->locks) {
        if (fi->flock_release) {
            struct shmfs_range range = flock_range(fi, F_UNLCK);

            shmfs_node_setlk(d->fs, (uint32_t)ino, &range, 0);
        }
        locks_release(d->locks, (uint32_t)ino, fi->fh);
    }
    fuse_reply_err(req, 0);
}
